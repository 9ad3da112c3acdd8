import math

import torch
import torch.nn.functional as F

from cfexp import losses

LOGITS = torch.tensor([[2.0, -1.0, 0.5], [0.1, 0.2, 0.3]], requires_grad=True)
ANSWER = torch.tensor([0, 2])


def test_negated_cross_entropy_is_minus_cross_entropy() -> None:
    expected = LOGITS.softmax(1).gather(1, ANSWER[:, None]).log().mean()
    assert torch.allclose(losses.negated_cross_entropy(LOGITS, ANSWER), expected)


def test_log_one_minus_probability_is_as_defined_and_keeps_its_gradient_when_saturated() -> None:
    probability = LOGITS.softmax(1).gather(1, ANSWER[:, None])
    assert torch.allclose(
        losses.log_one_minus_probability(LOGITS, ANSWER), -(1 - probability).log().mean()
    )
    certain = torch.tensor([[60.0, 0.0, 0.0]], requires_grad=True)
    (gradient,) = torch.autograd.grad(
        losses.log_one_minus_probability(certain, ANSWER[:1]), certain
    )
    assert math.isclose(gradient[0, 0].item(), 1.0, abs_tol=1e-6)  # written out, 1 - p is 0 here


def test_the_hinge_is_zero_once_another_answer_leads_by_the_margin() -> None:
    leading = torch.tensor([[0.0, 2.0, 1.0]])
    assert losses.flip_hinge(leading, torch.tensor([0]), margin=2.0) == 0
    assert losses.flip_hinge(leading, torch.tensor([0]), margin=2.5) == 0.5
    assert (
        losses.flip_hinge(leading, torch.tensor([1]), margin=0.0) == 1.0
    )  # how far the answer itself leads


def test_answers_are_alike_by_the_entropy_of_their_mean_the_present_ones_left_out() -> None:
    answer = torch.tensor([1, 2, 3, 0])
    varied = 50.0 * torch.eye(4)
    assert losses.answers_alike(varied, answer).abs() < 1e-6
    alike = (50.0 * torch.eye(4)[[0, 0, 0, 0]]).requires_grad_()
    loss = losses.answers_alike(alike, torch.tensor([1, 1, 1, 1]))
    torch.testing.assert_close(loss, torch.tensor(4.0).log())
    assert torch.autograd.grad(loss, alike)[0].isfinite().all()


def test_squared_l2_sums_over_an_image_scaled_to_one_and_averages_over_the_batch() -> None:
    query = torch.zeros(2, 3, 4, 4)
    edited = query.clone()
    edited[0, 0, 0, 0] = 1.0  # half of the range: 0.5 ** 2
    assert losses.squared_l2(query, edited) == 0.125
    assert losses.squared_l2(query, query) == 0


def test_adversarial_losses_equal_binary_cross_entropy_with_soft_real_labels() -> None:
    real, fake = torch.randn(4, 1, 2, 2), torch.randn(4, 1, 2, 2)
    bce = F.binary_cross_entropy
    expected = bce(real.sigmoid(), torch.full_like(real, 0.9)) + bce(
        fake.sigmoid(), torch.zeros_like(fake)
    )
    assert torch.allclose(losses.discriminator_adversarial(real, fake), expected, atol=1e-6)
    assert torch.allclose(
        losses.generator_adversarial(fake), bce(fake.sigmoid(), torch.ones_like(fake)), atol=1e-6
    )


def test_mask_area_is_the_share_of_the_image() -> None:
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :1] = 1
    assert losses.mask_area(mask) == 0.25


def test_a_mask_ends_without_a_price_where_the_object_does() -> None:
    query = torch.full((1, 3, 32, 32), -0.5)
    query[:, :, 8:24, 8:24] = 0.5
    whole = torch.zeros(1, 1, 32, 32)
    whole[..., 8:24, 8:24] = 1
    half, shifted = whole.clone(), torch.zeros_like(whole)
    half[..., 16:] = 0
    shifted[..., 9:25, 8:24] = 1  # beside the edge: the mask is blurred anyway
    free, one_off, inside = (
        losses.outline_variation(mask, query) for mask in (whole, shifted, half)
    )
    # Of its outline the half has one side of 16 pixels inside of the object.
    assert torch.isclose(inside, torch.tensor(16 / 32**2), rtol=0.01)
    assert free < 0.01 * inside
    assert one_off < 0.2 * inside
    assert losses.outline_variation(torch.full_like(whole, 0.7), query) == 0


def test_the_outline_counts_a_step_by_the_largest_edge_around_it() -> None:
    mask, query = torch.rand(2, 1, 7, 8), 2 * torch.rand(2, 3, 7, 8) - 1
    expected = torch.zeros(())
    for dim in (2, 3):
        edge = F.max_pool2d(query.diff(dim=dim).abs().mean(1, keepdim=True), 3, 1, padding=1)
        expected = expected + (mask.diff(dim=dim).abs() * (-10 * edge).exp()).sum()
    found = losses.outline_variation(mask, query)
    torch.testing.assert_close(found, expected / mask.numel())


def test_the_difference_of_maps_is_of_the_same_precision_and_layout_as_they_are() -> None:
    maps, others = (torch.randn(2, 4, 8, 8).to(memory_format=torch.channels_last) for _ in range(2))
    seen: list[torch.Tensor] = []
    inner = maps.requires_grad_() * 1.0
    inner.register_hook(seen.append)  # type: ignore[no-untyped-call]  # torch's own
    found = losses._mean_l1(inner, others)
    torch.testing.assert_close(found, F.l1_loss(maps, others))
    found.backward()  # type: ignore[no-untyped-call]  # torch's own
    assert seen[0].is_contiguous(memory_format=torch.channels_last)
    with torch.autocast("cpu", torch.bfloat16):
        assert losses._mean_l1(maps.bfloat16(), others.bfloat16()).dtype == torch.float32
