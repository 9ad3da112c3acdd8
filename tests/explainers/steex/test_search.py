from collections.abc import Callable
from functools import partial

import pytest
import torch
from torch import Tensor

from cfexp.errors import InputError
from cfexp.explainers.classifier import counter_class_of
from cfexp.explainers.steex.objective import StyleSearch
from cfexp.explainers.steex.search import search_candidates, search_style_codes
from cfexp.models.sean.fast import FastSEAN
from tests.golden_steex import WORLDS, golden_steex

REGIONS, DIM = 3, 4


def linear_world(
    dtype: torch.dtype = torch.float64,
) -> tuple[Callable[[Tensor], Tensor], Callable[[Tensor], Tensor]]:
    """A decoder that lays the codes out as an image, and a logistic decision of two heads on its
    pixels.
    """
    generator = torch.Generator().manual_seed(0)
    decoder = torch.randn(REGIONS * DIM, 3 * 2 * 2, generator=generator, dtype=dtype) / 3
    weights = torch.randn(3 * 2 * 2, 2, generator=generator, dtype=dtype)

    def decode(codes: Tensor) -> Tensor:
        return (codes.flatten(1) @ decoder).view(-1, 3, 2, 2)

    return decode, lambda images: images.flatten(1) @ weights


def queries(batch: int = 4, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(batch, REGIONS, DIM, generator=torch.Generator().manual_seed(1), dtype=dtype)


def search(codes: Tensor, **settings: object) -> StyleSearch:
    decode, decide = linear_world(codes.dtype)
    counter_class = counter_class_of(decide(decode(codes)), head=1)
    return search_style_codes(decode, decide, codes, counter_class, head=1, **settings)  # type: ignore[arg-type]


def test_on_a_linear_decoder_and_a_logistic_decision_the_answer_is_the_closed_form() -> None:
    # The minimum of softplus(-s l(z)) + w ||z - z0||^2 with l linear lies where z - z0 = sigmoid(-s
    # l) s g / (2 w), g the gradient of l; the logit there solves s l = s l0 + sigmoid(-s l) ||g||^2
    # / (2 w), by bisection.
    codes, weight = queries(), 0.3
    decode, decide = linear_world()
    found = search(codes, num_steps=4000, proximity_weight=weight)
    point = codes.clone().requires_grad_()
    logit = decide(decode(point))[:, 1]
    (slope,) = torch.autograd.grad(logit.sum(), point)
    sign = torch.where(logit < 0, 1.0, -1.0).detach()
    first, gain = (sign * logit).detach(), slope.square().sum((1, 2)) / (2 * weight)
    low, high = first, first + gain
    for _ in range(100):
        middle = (low + high) / 2
        above = first + gain * (-middle).sigmoid() > middle
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    expected = codes + ((-low).sigmoid() * sign / (2 * weight))[:, None, None] * slope
    torch.testing.assert_close(found.style_codes, expected, atol=1e-4, rtol=0)
    assert torch.equal(found.image, decode(found.style_codes))
    assert torch.equal(found.logits, decide(found.image))


def test_the_steps_are_those_of_torch_adam() -> None:
    codes = queries()
    decode, decide = linear_world()
    counter_class = counter_class_of(decide(decode(codes)), head=1)
    free = codes.clone().requires_grad_()
    optimizer = torch.optim.Adam([free], lr=0.05)
    for _ in range(30):
        logit = decide(decode(free))[:, 1]
        decision = torch.nn.functional.binary_cross_entropy_with_logits(
            logit, counter_class.double(), reduction="sum"
        )
        loss = decision + 0.3 * (free - codes).square().sum()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    found = search(codes, num_steps=30, learning_rate=0.05)
    torch.testing.assert_close(found.style_codes, free.detach(), atol=1e-12, rtol=0)


@pytest.mark.parametrize("early_stop", [False, True])
def test_a_query_is_explained_alike_in_any_batch(early_stop: bool) -> None:
    together = search(queries(), num_steps=50, early_stop=early_stop)
    for row in range(4):
        alone = search(queries()[row : row + 1], num_steps=50, early_stop=early_stop)
        torch.testing.assert_close(
            alone.style_codes, together.style_codes[row : row + 1], atol=1e-12, rtol=0
        )
        assert alone.flip_step == together.flip_step[row]


@pytest.mark.parametrize(
    "mask", [[False, True, False], [[True, False, False]] * 2 + [[False, False, True]] * 2]
)
def test_codes_outside_the_mask_stay_bit_for_bit(mask: list[bool]) -> None:
    codes, region_mask = queries(dtype=torch.float32), torch.tensor(mask)
    found = search(codes, region_mask=region_mask, num_steps=20)
    changed = (found.style_codes != codes).any(2)
    assert torch.equal(changed, region_mask.expand(4, REGIONS))


def test_curves_and_flips_are_recorded() -> None:
    codes = queries()
    found = search(codes, num_steps=60, learning_rate=0.02, proximity_weight=0.1)
    assert found.decision_curve.shape == found.proximity_curve.shape == (4, 60)
    assert (found.proximity_curve[:, 0] == 0).all()
    assert (found.decision_curve[:, -1] < found.decision_curve[:, 0]).all()
    assert (found.flip_step > 0).all()
    for row, step in enumerate(found.flip_step.tolist()):
        shorter = [
            search(codes, num_steps=n, learning_rate=0.02, proximity_weight=0.1)
            for n in (step - 1, step)
        ]
        assert shorter[0].flip_step[row] == -1
        assert shorter[1].flip_step[row] == step


def test_early_stop_leaves_a_query_alone_from_where_its_decision_has_flipped_by_the_margin() -> (
    None
):
    codes = queries()
    settings = {"num_steps": 100, "learning_rate": 0.02, "proximity_weight": 0.01}
    stopped = search(codes, early_stop=True, stop_margin=0.5, **settings)
    through = search(codes, **settings)
    margins = stopped.logits[:, 1].abs()
    assert ((margins >= 0.5) & (margins < 0.8)).all()
    assert (stopped.flip_step == through.flip_step).all()
    distance = [(found.style_codes - codes).square().sum((1, 2)) for found in (stopped, through)]
    assert (distance[0] < distance[1]).all()


def test_candidates_differ_and_flip() -> None:
    codes = queries()
    decode, decide = linear_world()
    counter_class = counter_class_of(decide(decode(codes)), head=1)
    found = search_candidates(
        *(decode, decide, codes, counter_class),
        num_candidates=3,
        seeds=torch.arange(4),
        head=1,
        proximity_weight=0.05,
        repulsion=0.5,
    )
    assert torch.equal(found[0].style_codes, search(codes, proximity_weight=0.05).style_codes)
    edits = torch.stack([one.style_codes - codes for one in found]).flatten(2)
    for one, other in ((0, 1), (0, 2), (1, 2)):
        assert (torch.cosine_similarity(edits[one], edits[other]).abs() < 0.9).all()
    assert all((one.flip_step > 0).all() for one in found)


def test_a_multi_class_decision_is_moved_to_the_counter_class() -> None:
    decode, _ = linear_world()
    weights = torch.randn(12, 5, generator=torch.Generator().manual_seed(2), dtype=torch.float64)
    codes = queries()
    logits = decode(codes).flatten(1) @ weights
    counter_class = counter_class_of(logits)
    found = search_style_codes(
        decode, lambda x: x.flatten(1) @ weights, codes, counter_class, proximity_weight=0.05
    )
    assert torch.equal(found.logits.argmax(1), counter_class)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"region_mask": torch.ones(4, dtype=torch.bool)},
            r"region_mask must be bool of shape \(3,\), got .* \(4,\)",
        ),
        ({"region_mask": torch.ones(3)}, r"got torch.float32"),
        ({"region_mask": torch.zeros(3, dtype=torch.bool)}, "at least one region"),
    ],
)
def test_a_wrong_mask_is_refused(settings: dict[str, Tensor], message: str) -> None:
    with pytest.raises(InputError, match=message):
        search(queries(1), **settings)


@pytest.mark.parametrize("world", WORLDS)
def test_published_searches_are_repeated(world: str) -> None:
    golden = golden_steex(world, torch.float64)
    fast = FastSEAN(golden.sean)
    decode = partial(fast.decode, prepared=fast.prepare(golden.label_map))
    image, numbers = golden.numbers["image"].double(), golden.numbers
    codes = golden.sean.encode(image, golden.label_map)
    counter_class = counter_class_of(golden.decision_model(image), head=1)
    assert torch.equal(counter_class, numbers["counter_class"].long())

    found = search_style_codes(
        decode, golden.decision_model, codes, counter_class, head=1, num_steps=10
    )
    torch.testing.assert_close(
        found.decision_curve.T, numbers["search_decision_loss"], atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        0.3 * found.proximity_curve.T, numbers["search_proximity_loss"], atol=1e-6, rtol=0
    )
    torch.testing.assert_close(
        found.style_codes, numbers["search_final_codes"].double(), atol=1e-4, rtol=0
    )
    torch.testing.assert_close(
        found.image, numbers["search_final_image"].double(), atol=1e-4, rtol=0
    )

    mask = torch.zeros(codes.shape[1], dtype=torch.bool)
    mask[numbers["targeted_rows"]] = True
    found = search_style_codes(
        *(decode, golden.decision_model, codes, counter_class),
        head=1,
        num_steps=5,
        region_mask=mask,
    )
    torch.testing.assert_close(
        found.style_codes, numbers["targeted_final_codes"].double(), atol=1e-4, rtol=0
    )
    assert torch.equal(found.style_codes[:, ~mask], codes[:, ~mask])
