from typing import Any, cast

import pytest
import torch
from torch import nn

from cfexp.errors import InputError
from cfexp.models.discriminators import PatchDiscriminator
from cfexp.models.vqa.lingunet import CounterfactualGenerator, LingUNet
from cfexp.models.vqa.perturbation import RandomPerturbation


@pytest.mark.parametrize("upsampling", ["bilinear", "nearest", "transposed"])
@pytest.mark.parametrize("edit_scale", [1, 2])
def test_the_result_has_the_images_size(upsampling: Any, edit_scale: int) -> None:
    network = LingUNet(
        10, 4, depth=3, channels=8, text_channels=4, upsampling=upsampling, edit_scale=edit_scale
    )
    assert network(torch.randn(2, 3, 32, 48), torch.randn(2, 10)).shape == (2, 4, 32, 48)


def test_bad_sizes_and_settings_are_named() -> None:
    with pytest.raises(InputError, match="divisible by 8, got 30x32"):
        LingUNet(10, 4, depth=3)(torch.randn(1, 3, 30, 32), torch.randn(1, 10))
    with pytest.raises(InputError, match="upsampling must be"):
        LingUNet(10, 4, upsampling="cubic")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="edit_scale must be 1 or 2, got 3"):
        LingUNet(10, 4, edit_scale=3)


def test_text_kernels_have_the_norm_that_keeps_the_scale() -> None:
    network = LingUNet(10, 3, depth=1, channels=9, text_channels=4)
    image, condition = torch.randn(2, 3, 8, 8), torch.randn(2, 10)
    features = torch.nn.functional.leaky_relu(network.encoders[0](image), 0.2)
    text = torch.nn.functional.leaky_relu(network.slices(condition), 0.2)
    kernel = network.kernels[0](text).view(2, 4, 9)
    kernel = kernel / kernel.flatten(1).norm(dim=1)[:, None, None] * 3  # sqrt(9 channels)
    filtered = torch.einsum("boi,bihw->bohw", kernel, features)
    seen: list[torch.Tensor] = []
    network.result.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    network(image, condition)
    enlarged = torch.nn.functional.interpolate(filtered, scale_factor=2, mode="bilinear")
    decoded = network.decoders[0](torch.cat([enlarged, image], dim=1))
    assert torch.allclose(seen[0], torch.nn.functional.leaky_relu(decoded, 0.2), atol=1e-5)


def generator(**settings: Any) -> CounterfactualGenerator:
    torch.manual_seed(0)
    return CounterfactualGenerator(6, 5, depth=2, channels=8, text_channels=4, **settings)


@pytest.mark.parametrize("mask", [True, False])
def test_the_edit_depends_on_question_and_answer_unless_they_are_withheld(mask: bool) -> None:
    image = torch.rand(1, 3, 16, 16) * 2 - 1
    questions, answers = torch.randn(2, 1, 6), torch.randn(2, 1, 5)
    seeing, blind = generator(mask=mask), generator(mask=mask, blind=True)
    edited = seeing(image, questions[0], answers[0]).image
    assert not torch.equal(edited, seeing(image, questions[1], answers[0]).image)
    assert not torch.equal(edited, seeing(image, questions[0], answers[1]).image)
    assert torch.equal(
        blind(image, questions[0], answers[0]).image, blind(image, questions[1], answers[1]).image
    )
    withheld = seeing(image, questions[0], answers[0], unconditioned=True).image
    assert torch.equal(withheld, seeing(image, questions[1], answers[1], unconditioned=True).image)


def test_an_edit_without_mask_is_no_edit_where_the_network_says_nothing_and_stays_in_range() -> (
    None
):
    network = generator(mask=False)
    torch.nn.init.zeros_(network.network.result.weight)
    image = torch.rand(2, 3, 16, 16) * 2 - 1
    edited = network(image, torch.randn(2, 6), torch.randn(2, 5))
    assert torch.equal(edited.image, image)
    assert edited.mask is None
    torch.nn.init.constant_(network.network.result.bias, 9.0)  # type: ignore[arg-type]
    assert network(image, torch.randn(2, 6), torch.randn(2, 5)).image.max() == 1


def test_a_mask_of_zero_keeps_the_image() -> None:
    network = generator(mask=True)
    with torch.no_grad():
        network.network.result.bias[3] = -30.0  # type: ignore[index]
    image = torch.rand(2, 3, 16, 16) * 2 - 1
    edited = network(image, torch.randn(2, 6), torch.randn(2, 5))
    assert edited.mask is not None
    assert edited.mask.max() < 1e-6
    assert torch.allclose(edited.image, image, atol=1e-5)


def test_the_discriminators_convolutions_all_have_spectral_norm_one() -> None:
    torch.manual_seed(0)
    network = PatchDiscriminator((8, 8))
    assert network(torch.randn(2, 3, 32, 32)).shape == (2, 1, 8, 8)
    for _ in range(50):  # power iterations, one a training forward
        network(torch.randn(2, 3, 32, 32))
    network.eval()
    for layer in list(network.layers)[::2]:
        norm = torch.linalg.matrix_norm(cast(nn.Conv2d, layer).weight.flatten(1), ord=2)
        assert abs(norm - 1) < 1e-2


def test_perturbation_has_the_stated_strength_and_none_at_zero() -> None:
    torch.manual_seed(0)
    image = torch.rand(64, 3, 16, 16)
    assert torch.equal(RandomPerturbation(noise=0.0, blur=0.0)(image), image)
    spread = (RandomPerturbation(noise=0.2, blur=0.0)(image) - image).std(dim=(1, 2, 3))
    assert spread.max() < 0.22
    assert 0.07 < spread.mean() < 0.13  # uniform below 0.2
    blurred = RandomPerturbation(noise=0.0, blur=1.0)(image)
    assert (blurred.std(dim=(2, 3)) < image.std(dim=(2, 3))).all()
    assert (RandomPerturbation(noise=0.0, blur=0.5)(image) == image).flatten(1).all(
        1
    ).sum() in range(20, 45)
