"""The pixel-space attack against its closed form; what pictures go through against what must not
change.
"""

import pytest
import torch
from torch import Tensor

from cfexp.evaluation.disturbances import blur, jpeg
from cfexp.pixel_attack import LEVEL, projected_gradient, success_margin


def test_margin_is_positive_where_the_decision_is_what_was_asked_for() -> None:
    logits = torch.tensor([[2.0, -1.0, 0.5]]).expand(4, 3)
    query_class, counter_class = torch.tensor([0, 0, 1, 1]), torch.tensor([2, -1, 0, -1])
    assert success_margin(logits, query_class, counter_class).tolist() == [-1.5, -1.5, 1.5, 3.0]


@pytest.mark.parametrize("counter_class", [1, -1])
def test_of_a_linear_model_the_attack_is_the_sign_of_its_weight(counter_class: int) -> None:
    torch.manual_seed(0)
    weight, query = torch.randn(3, 8, 8), torch.rand(2, 3, 8, 8) - 0.5

    def decide(images: Tensor) -> Tensor:
        logit = (images * weight).sum((1, 2, 3))
        return torch.stack(
            [torch.zeros_like(logit), 1e4 * logit], dim=1
        )  # so certain that a softmax has no gradient

    classes = torch.zeros(2, dtype=torch.int64), torch.full((2,), counter_class)
    attacked = projected_gradient(decide, query, *classes, epsilon=4, num_steps=10)
    assert torch.allclose(attacked, query + 4 * LEVEL * weight.sign(), atol=1e-6)
    classes = classes[0] + 1, torch.where(classes[1] < 0, -1, 0)
    back = projected_gradient(decide, query, *classes, epsilon=4, num_steps=10)
    assert torch.allclose(back, query - 4 * LEVEL * weight.sign(), atol=1e-6)


def test_the_attack_stays_within_epsilon_and_the_range_of_pictures() -> None:
    torch.manual_seed(1)
    query = torch.rand(2, 3, 6, 6) * 2 - 1
    network = torch.nn.Sequential(
        torch.nn.Conv2d(3, 4, 3), torch.nn.Tanh(), torch.nn.Flatten(), torch.nn.Linear(64, 3)
    )
    network.requires_grad_(False)
    attacked = projected_gradient(
        network, query, torch.tensor([0, 1]), torch.tensor([2, -1]), epsilon=20, num_steps=5
    )
    assert (attacked - query).abs().max() <= 20 * LEVEL + 1e-6
    assert (attacked - query).abs().max() > 10 * LEVEL
    assert attacked.abs().max() <= 1


def test_flat_pictures_survive_everything_and_noise_does_not() -> None:
    flat = torch.tensor([0.2, -0.6, 0.9])[:, None, None].expand(2, 3, 16, 16)
    torch.manual_seed(2)
    noise = torch.rand(2, 3, 16, 16) * 2 - 1
    assert (jpeg(flat, 50) - flat).abs().max() < 6 * LEVEL
    assert torch.allclose(blur(flat, 1.5), flat, atol=1e-6)
    losses = [(jpeg(noise, quality) - noise).square().mean() for quality in (95, 75, 50)]
    assert 0 < losses[0] < losses[1] < losses[2]
    assert blur(noise, 1.0).std() < 0.5 * noise.std()


def test_blur_is_a_gaussian_in_both_directions() -> None:
    dot = torch.zeros(1, 1, 15, 15)
    dot[..., 7, 7] = 1
    seen = blur(dot, 1.0)[0, 0]
    assert seen.sum() == pytest.approx(1, abs=1e-5)
    assert torch.allclose(seen, seen.T, atol=1e-7)
    assert (seen[7, 8] / seen[7, 7]).item() == pytest.approx(
        torch.tensor(-0.5).exp().item(), rel=1e-5
    )
    assert seen[8, 8].item() == pytest.approx(
        (seen[7, 8] * seen[8, 7] / seen[7, 7]).item(), rel=1e-5
    )
