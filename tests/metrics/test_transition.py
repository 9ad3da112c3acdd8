import pytest
import torch
from torch import Tensor

from cfexp.errors import InputError
from cfexp.metrics.transition import counterfactual_transition

QUERY = torch.zeros(1, 3, 4, 5)


def by_first_pixel(images: Tensor) -> Tensor:
    """Decides by one pixel alone."""
    turned = images[:, 0, 0, 0].clamp(0, 1)
    return torch.stack([1 - turned, turned], dim=1)


def test_the_order_is_that_of_the_change() -> None:
    first = QUERY.clone()
    first[..., 0, 0], first[..., 1, 1] = 1, 0.5
    last = QUERY + 0.9
    last[..., 0, 0] = 0.5
    # 20 pixels in 20 steps, by hand: -1 at 0 pixels, and 1 from the first on.
    expected = (0.5 * (-1 + 1) + 19) / 20
    assert counterfactual_transition(
        QUERY, first, by_first_pixel, steps=20
    ).item() == pytest.approx(expected)
    # The one that matters changed least: it is the 20th to be replaced, and only half of it.
    expected = (-19 - 0.5 * (1 - 0)) / 20
    assert counterfactual_transition(QUERY, last, by_first_pixel, steps=20).item() == pytest.approx(
        expected
    )


def test_the_unchanged_image_and_the_bounds() -> None:
    assert counterfactual_transition(QUERY, QUERY, by_first_pixel).item() == pytest.approx(-1)
    turned = counterfactual_transition(
        QUERY, QUERY + 1, lambda images: torch.tensor([[0.0, 1.0]]), steps=7
    )
    assert turned.item() == pytest.approx(1)  # 20 pixels are no multiple of 7


def test_each_image_has_its_own_order() -> None:
    torch.manual_seed(0)
    query, edited = torch.rand(2, 6, 3, 8, 8)

    def mean(images: Tensor) -> Tensor:
        other = images.mean((1, 2, 3))
        return torch.stack([1 - other, other], dim=1)

    together = counterfactual_transition(query, edited, mean, steps=9)
    alone = [
        counterfactual_transition(query[[row]], edited[[row]], mean, steps=9).item()
        for row in range(6)
    ]
    assert together.tolist() == pytest.approx(alone)
    # By a loop over pixels.
    order = (edited[0] - query[0]).abs().sum(0).flatten().argsort(descending=True).tolist()
    mixed, heights, places = query[0].clone(), [], [64 * step // 9 for step in range(10)]
    for count in range(65):
        if count in places:
            heights.append(2 * mixed.mean().item() - 1)
        if count < 64:
            mixed.view(3, -1)[:, order[count]] = edited[0].view(3, -1)[:, order[count]]
    area = (
        sum((places[k + 1] - places[k]) * (heights[k] + heights[k + 1]) / 2 for k in range(9)) / 64
    )
    assert together[0].item() == pytest.approx(area, abs=1e-6)


def test_what_it_refuses() -> None:
    with pytest.raises(InputError, match="steps must be at least 1, got 0"):
        counterfactual_transition(QUERY, QUERY, by_first_pixel, steps=0)
    with pytest.raises(ValueError, match=r"one shape \(B, C, H, W\), got"):
        counterfactual_transition(QUERY, QUERY[:, :1], by_first_pixel)
