import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from cfexp import losses


def test_the_hinge_pushes_only_within_the_margin_and_averages_over_scales() -> None:
    real = [torch.tensor([2.0, 0.5]), torch.tensor([-1.0])]
    fake = [torch.tensor([-3.0, 0.0]), torch.tensor([1.0])]
    # scale 0: mean(0, 0.5) + mean(0, 1); scale 1: 2 + 2
    assert losses.hinge_discriminator(real, fake) == (0.75 + 4) / 2
    assert losses.hinge_generator(fake) == (1.5 - 1.0) / 2


def test_feature_matching_leaves_out_the_score_and_the_real_gradient() -> None:
    real = [
        [torch.zeros(2, 3, requires_grad=True), torch.ones(2), torch.zeros(1)] for _ in range(2)
    ]
    fake = [
        [torch.full((2, 3), 0.5, requires_grad=True), torch.full((2,), 3.0), torch.full((1,), 99.0)]
    ] * 2
    loss = losses.feature_matching(real, fake)
    assert loss == 0.5 + 2
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert real[0][0].grad is None
    assert fake[0][0].grad is not None


def test_the_perceptual_loss_weighs_the_maps_and_has_no_gradient_towards_the_real() -> None:
    def network(images: Tensor) -> list[Tensor]:
        return [images, 2 * images]

    real, generated = (
        torch.zeros(1, 3, 2, 2, requires_grad=True),
        torch.ones(1, 3, 2, 2, requires_grad=True),
    )
    loss = losses.perceptual(network, generated, real, (0.25, 1.0))
    assert loss == 0.25 + 2
    assert losses.perceptual(network, generated, real) == 1 + 2
    with pytest.raises(ValueError, match="weights must be 2, one a feature map, got 4"):
        losses.perceptual(network, generated, real, [1.0] * 4)
    gradients = torch.autograd.grad(loss, [generated, real], allow_unused=True)
    assert gradients[0] is not None
    assert gradients[1] is None


def test_the_decision_loss_is_the_published_one_and_finite_where_that_is_not() -> None:
    logits, counter_class = torch.tensor([[0.3, -1.2], [2.0, 0.7]]), torch.tensor([1, 0])
    probability = logits[:, 1].sigmoid()
    expected = -counter_class * probability.log() - (1 - counter_class) * (1 - probability).log()
    torch.testing.assert_close(losses.decision_loss(logits, counter_class, head=1), expected)
    torch.testing.assert_close(losses.decision_loss(logits[:, 1:], counter_class), expected)
    expected = F.cross_entropy(logits, counter_class, reduction="none")
    torch.testing.assert_close(losses.decision_loss(logits, counter_class), expected)
    certain = torch.tensor([[-120.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(
        losses.decision_loss(certain, torch.tensor([1])).sum(), certain
    )
    assert gradient.item() == -1


def test_the_margin_is_positive_where_the_decision_is_the_counter_class() -> None:
    logits = torch.tensor([[0.3, -1.2, 0.1], [2.0, 0.7, 3.0]])
    torch.testing.assert_close(
        losses.decision_margin(logits, torch.tensor([1, 0]), 0), torch.tensor([0.3, -2.0])
    )
    torch.testing.assert_close(
        losses.decision_margin(logits, torch.tensor([0, 0])), torch.tensor([0.2, -1.0])
    )


def test_the_proximity_sums_over_regions_and_dimensions_of_each_query() -> None:
    codes = torch.zeros(2, 3, 4)
    codes[1, :2] = 0.5
    assert losses.proximity_loss(codes, torch.zeros(2, 3, 4)).tolist() == [0.0, 2.0]


def test_dice_counts_a_small_region_as_a_large_one_and_no_ignored_pixel() -> None:
    label_map = torch.zeros(1, 4, 4, dtype=torch.int64)
    label_map[0, 0, 0] = 1
    sure = 50 * F.one_hot(label_map, 3).permute(0, 3, 1, 2).float()
    assert losses.dice(sure, label_map) < 1e-6
    blind = 50 * F.one_hot(torch.zeros_like(label_map), 3).permute(0, 3, 1, 2).float()
    # Of region 0 nearly all, (2 * 15 + 1) / (16 + 15 + 1); of region 1 nothing, 1 / 2; 2 is absent.
    expected = torch.tensor(((1 - 31 / 32) + (1 - 1 / 2)) / 2)
    torch.testing.assert_close(losses.dice(blind, label_map), expected)
    left_out = label_map.where(label_map == 0, -100)
    assert losses.dice(blind, left_out) < 1e-6
