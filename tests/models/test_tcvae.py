import pytest
import torch
from torch.nn import Conv2d

from cfexp.errors import InputError
from cfexp.models.tcvae import TCVAE, ConditionalInstanceNorm, halvings_of


def test_the_papers_network_has_the_published_numbers_of_parameters() -> None:
    with torch.device("meta"):
        network = TCVAE(128, 128)
    sizes = {name: each.numel() for name, each in network.named_parameters()}

    def count(prefix: str) -> int:
        return sum(size for name, size in sizes.items() if name.startswith(prefix))

    assert (count(""), count("encoder")) == (67_453_769, 37_803_398)
    assert count("decoder") + count("to_rgb") == 29_650_371
    assert (count("encoder_mlp"), count("decoder_mlp")) == (17_305_856, 21_250_048)


@pytest.mark.parametrize(
    ("size", "halvings"),
    [
        *(((32, 32), 3), ((64, 64), 4), ((64, 128), 5), ((128, 128), 5), ((256, 256), 6)),
        *(((96, 96), 4), ((48, 32), 3), ((512, 512), 6)),
    ],
)
def test_images_are_halved_as_published(size: tuple[int, int], halvings: int) -> None:
    assert halvings_of(*size) == halvings


@pytest.mark.parametrize(
    ("size", "needed"), [((16, 16), 8), ((28, 28), 8), ((64, 40), 16), ((100, 100), 16)]
)
def test_a_size_that_cannot_be_halved_is_refused(size: tuple[int, int], needed: int) -> None:
    with pytest.raises(InputError, match=f"sides must be multiples of {needed}, the longer"):
        TCVAE(*size, channels_width=1, code_dim=2)


def test_half_the_channels_are_a_quarter_of_the_convolutions() -> None:
    whole, half = (
        sum(each.weight.numel() for each in network.encoder.modules() if isinstance(each, Conv2d))
        for network in (TCVAE(32, 32, channels_width=width, code_dim=2) for width in (1, 0.5))
    )
    assert 0.24 < half / whole < 0.27  # the first sees three channels in either


def test_a_folded_network_computes_the_same() -> None:
    torch.manual_seed(0)
    network = TCVAE(32, 32, channels_width=1, code_dim=4, mlp_width=1, initial_std=None)
    network.double().eval()
    codes = torch.randn(2, 4, dtype=torch.float64)
    before = network.decode(codes)
    assert not any("parametrizations" in name for name in network.fold().state_dict())
    torch.testing.assert_close(network.decode(codes), before, atol=1e-12, rtol=0)


def test_only_the_encoder_drops_channels_and_only_in_training() -> None:
    torch.manual_seed(0)
    network = TCVAE(32, 32, channels_width=1, code_dim=4, mlp_width=1, initial_std=None)
    images = torch.rand(2, 3, 32, 32)
    assert not torch.equal(network.encode(images)[0], network.encode(images)[0])
    network.eval()
    assert torch.equal(network.encode(images)[0], network.encode(images)[0])


@pytest.mark.parametrize("unit_gain", [False, True])
def test_the_code_moves_gain_and_shift_of_each_channel(unit_gain: bool) -> None:
    torch.manual_seed(0)
    norm = ConditionalInstanceNorm(3, 2, unit_gain)
    features, codes = 5 + torch.randn(2, 3, 8, 8), torch.randn(2, 2)
    gain, shift = norm.condition(codes).chunk(2, dim=1)
    found = norm(features, codes)
    torch.testing.assert_close(found.mean((2, 3)), shift)
    expected = (gain + unit_gain).abs()
    torch.testing.assert_close(found.std((2, 3), correction=0), expected, atol=1e-4, rtol=1e-3)


def test_convolutions_start_small_as_published() -> None:
    torch.manual_seed(0)
    network = TCVAE(32, 32, channels_width=4, code_dim=4, mlp_width=1)
    kernels = [
        each
        for name, each in network.named_parameters()
        if each.ndim == 4 and each.numel() > 1000 and name.startswith(("encoder.", "decoder."))
    ]
    assert len(kernels) > 20
    assert all(abs(float(each.detach().std()) - 0.02) < 0.003 for each in kernels)
