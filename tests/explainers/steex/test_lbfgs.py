import torch
from torch import Tensor

from cfexp.explainers.steex import lbfgs

SIZE = 12


def valleys(count: int = 3) -> tuple[Tensor, Tensor]:
    """Quadratic problems (x - m) A (x - m) / 2 + 1, from round to a long valley."""
    draw = torch.Generator().manual_seed(0)
    turn = torch.linalg.qr(torch.randn(count, SIZE, SIZE, generator=draw).double()).Q
    steep = torch.stack([torch.logspace(0, number, SIZE) for number in range(count)]).double()
    minimum = torch.randn(count, SIZE, generator=draw).double()
    return turn @ (steep[:, :, None] * turn.transpose(1, 2)), minimum


def solve(rows: list[int], evaluations: int) -> tuple[lbfgs.Problems, list[Tensor]]:
    matrices, minimum = (each[rows] for each in valleys())
    problems, values = lbfgs.begin(torch.zeros(len(rows), SIZE).double()), []
    won, flat = torch.zeros(len(rows)).double(), torch.zeros(len(rows), SIZE).double()
    for _ in range(evaluations):
        away = problems.trial - minimum
        gradient = (matrices @ away[:, :, None])[:, :, 0]
        value = (away * gradient).sum(1) / 2 + 1
        problems = lbfgs.update(problems, won, flat, value, gradient)
        values.append(problems.value)
    return problems, values


def test_minima_are_found_in_a_few_evaluations() -> None:
    problems, values = solve([0, 1, 2], 40)
    assert problems.settled.all()
    torch.testing.assert_close(problems.value, torch.ones(3).double(), atol=5e-3, rtol=0)
    assert (torch.stack(values).diff(dim=0) <= 0).all()  # a step that rises is refused


def test_each_problem_goes_its_own_way() -> None:
    together, _ = solve([0, 1, 2], 9)
    for row in range(3):
        alone, _ = solve([row], 9)
        torch.testing.assert_close(alone.point[0], together.point[row], atol=1e-12, rtol=0)
    swapped = together.of(torch.tensor([2])).beside(together.of(torch.tensor([0])))
    assert torch.equal(swapped.point, together.point[[2, 0]])


def test_a_settled_problem_stays_as_it_is() -> None:
    problems, _ = solve([0, 1, 2], 40)
    ones = torch.ones(3, SIZE).double()
    after = lbfgs.update(problems, problems.value - 1, ones, problems.value, ones)
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(problems, after, strict=True))


def test_a_value_that_is_no_number_is_refused_and_the_step_shortened() -> None:
    problems, _ = solve([1], 3)
    nan = torch.full((1,), torch.nan).double()
    slope = torch.full((1, SIZE), torch.nan).double()
    after = lbfgs.update(problems, nan, slope, nan, slope)
    assert torch.equal(after.point, problems.point)
    step, shorter = (each.trial - each.point for each in (problems, after))
    torch.testing.assert_close(shorter, lbfgs.SHORTEN * step)
    assert not after.accepted.any()


def test_the_first_move_has_at_most_its_length() -> None:
    problems = lbfgs.begin(torch.zeros(2, SIZE), least_curvature=0.1)
    gradient = -torch.ones(2, SIZE) * torch.tensor([[1.0], [1e-4]])
    zero = torch.zeros(2), torch.zeros(2, SIZE)
    step = lbfgs.update(problems, torch.full((2,), 5.0), gradient, *zero).trial
    torch.testing.assert_close(step[0].norm(), torch.tensor(lbfgs.FIRST_MOVE))
    assert (step[0] > 0).all()
    torch.testing.assert_close(step[1], -10 * gradient[1], rtol=1e-2, atol=0)  # by the curvature


def test_a_pull_solves_its_equation() -> None:
    without = torch.tensor([-80.0, -5.0, 0.0, 3.0, 90.0]).double()
    for gain in (0.0, 0.1, 20.0, 1e6):
        pull = lbfgs._pull(without, torch.full_like(without, gain))
        below, above = (pull - 3e-4).clamp(min=0), (pull + 3e-4).clamp(max=1)
        assert (torch.sigmoid(-(without + below * gain)) >= below).all()
        assert (torch.sigmoid(-(without + above * gain)) <= above).all()


def test_a_decision_loss_that_is_bent_sharply_takes_few_evaluations() -> None:
    """softplus(-m) + ||x||^2 / 20, of a margin m that is bent a little."""
    slope = torch.logspace(-1, 1, SIZE).double()
    problems = lbfgs.begin(torch.zeros(1, SIZE).double(), least_curvature=0.1)
    for _ in range(8):
        trial = problems.trial
        margin = -8 + trial @ slope + 0.1 * trial.sin().sum(1)
        pull = torch.sigmoid(-margin)[:, None]
        loss = torch.nn.functional.softplus(-margin)
        loss_slope = -pull * (slope + 0.1 * trial.cos())
        rest, rest_slope = trial.square().sum(1) / 20, trial / 10
        problems = lbfgs.update(problems, loss, loss_slope, rest, rest_slope)
    assert problems.settled.all()
    assert (loss_slope + rest_slope).norm() < 0.05
