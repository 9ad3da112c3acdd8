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
    for _ in range(evaluations):
        away = problems.trial - minimum
        gradient = (matrices @ away[:, :, None])[:, :, 0]
        problems = lbfgs.update(problems, (away * gradient).sum(1) / 2 + 1, gradient)
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
    after = lbfgs.update(problems, problems.value - 1, torch.ones(3, SIZE).double())
    assert all(torch.equal(ours, theirs) for ours, theirs in zip(problems, after, strict=True))


def test_a_value_that_is_no_number_is_refused_and_the_step_shortened() -> None:
    problems, _ = solve([1], 3)
    nan = torch.full((1,), torch.nan).double()
    after = lbfgs.update(problems, nan, torch.full((1, SIZE), torch.nan).double())
    assert torch.equal(after.point, problems.point)
    step, shorter = (each.trial - each.point for each in (problems, after))
    torch.testing.assert_close(shorter, lbfgs.SHORTEN * step)
    assert not after.accepted.any()


def test_the_first_move_goes_along_the_signs_and_has_its_length() -> None:
    problems = lbfgs.begin(torch.zeros(2, 4))
    gradient = torch.tensor([[1e-3, -50.0, 0.0, 2.0], [0.0, 0.0, 0.0, -4.0]])
    step = lbfgs.update(problems, torch.ones(2), gradient).trial
    assert torch.equal(step.sign(), -gradient.sign())
    torch.testing.assert_close(step.norm(dim=1), torch.full((2,), lbfgs.FIRST_MOVE))
