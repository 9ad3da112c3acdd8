"""The autoencoder of DiVE (Rodriguez et al., ICCV 2021): residual encoder and decoder of a
beta-TCVAE, the decoder's normalisation conditioned by the code.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrizations import spectral_norm
from torch.nn.utils.parametrize import is_parametrized, remove_parametrizations

from cfexp.errors import InputError


class Plan(NamedTuple):
    """How many channels, before `channels_width`, and residual blocks the groups have."""

    encoder_channels: tuple[int, ...]
    encoder_blocks: tuple[int, ...]
    decoder_channels: tuple[int, ...]
    decoder_blocks: tuple[int, ...]


# By how often the image is halved, which is once a group. As published.
PLANS = {
    6: Plan(
        *((16, 16, 32, 64, 128, 128), (1, 2, 1, 1, 1, 2)),
        *((128, 128, 64, 32, 16, 16), (1, 1, 1, 2, 1, 1)),
    ),
    5: Plan((16, 32, 64, 128, 128), (1, 2, 2, 2, 2), (128, 64, 32, 16, 16), (1, 1, 2, 2, 1)),
    4: Plan((16, 32, 64, 128), (2, 2, 2, 2), (128, 64, 32, 16), (1, 1, 1, 1)),
    3: Plan((16, 32, 64), (2, 2, 2), (64, 32, 16), (2, 2, 2)),
}


def halvings_of(height: int, width: int) -> int:
    """How often images of a size are halved: until their longer side is 4 pixels, or a little more.

    Published for 32, 64, 128 and 256; what lies between is halved as the smaller.

    Raises InputError for a size that cannot be halved so often.
    """
    halvings = min(max(height, width).bit_length() - 3, max(PLANS))
    if halvings not in PLANS or height % 2**halvings or width % 2**halvings:
        needed = f"multiples of {2 ** max(halvings, min(PLANS))}, the longer one at least 32"
        raise InputError(f"a TCVAE of {height}x{width} pixels: sides must be {needed}")
    return halvings


class TCVAE(nn.Module):
    """Images (B, 3, H, W) in [-1, 1] to codes (B, D) and back; the defaults are the published
    sizes.

    The decoder's last layer is tanh. Its convolutions have spectral norm, the encoder's have not.

    Args:
        height, width: of the images; see `halvings_of`.
        channels_width: times the numbers of `PLANS`; a fraction such as 0.5, too.
        code_dim: D.
        mlp_width: the hidden layers' size, in channels of the bottleneck.
        mlp_depth: hidden layers between the code and the decoder's first grid; the encoder has one.
        dropout: of the encoder's channels, in training.
        unit_gain: the code moves the gain of each channel away from 1, and not from 0 as published,
            where a gain begins as a small number of either sign. Ours: a small network spends long
            on getting away from that.
        initial_std: of the convolutions' weights at the start; None = torch's own start.

    Raises:
        InputError: for a size that cannot be halved as often as it must be.

    """

    def __init__(
        self,
        height: int,
        width: int,
        channels_width: float = 4,
        code_dim: int = 128,
        mlp_width: int = 4,
        mlp_depth: int = 2,
        dropout: float = 0.3,
        unit_gain: bool = False,
        initial_std: float | None = 0.02,
    ) -> None:
        super().__init__()
        halvings = halvings_of(height, width)
        plan = PLANS[halvings]
        self.code_dim = code_dim
        self.grid = (
            round(plan.encoder_channels[-1] * channels_width),
            height >> halvings,
            width >> halvings,
        )
        hidden = mlp_width * self.grid[0]
        size = self.grid[0] * self.grid[1] * self.grid[2]

        channels, encoder = 3, list[nn.Module]()
        for times, blocks in zip(plan.encoder_channels, plan.encoder_blocks, strict=True):
            for number in range(blocks):
                more = round(times * channels_width)
                encoder.append(DownBlock(channels, more, halves=number == 0, dropout=dropout))
                channels = more
        self.encoder = nn.ModuleList(encoder)
        self.encoder_norm = nn.InstanceNorm2d(channels, affine=True)
        self.encoder_mlp = mlp([size, hidden], 2 * code_dim)

        self.decoder_mlp = mlp([code_dim, *[hidden] * mlp_depth], size)
        decoder = list[nn.Module]()
        for times, blocks in zip(plan.decoder_channels, plan.decoder_blocks, strict=True):
            for number in range(blocks):
                fewer = round(times * channels_width)
                decoder.append(
                    UpBlock(channels, fewer, code_dim, doubles=number == 0, unit_gain=unit_gain)
                )
                channels = fewer
        self.decoder = nn.ModuleList(decoder)
        self.decoder_norm = nn.InstanceNorm2d(channels, affine=True)
        self.to_rgb = nn.Conv2d(channels, 3, 3, padding=1)
        if initial_std is not None:
            for weight in self._kernels():
                nn.init.normal_(weight, 0.0, initial_std)

    def encode(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and log variance (B, D), each, of q(z | x) of images (B, 3, H, W) in [-1, 1]."""
        for block in self.encoder:
            images = block(images)
        mean, log_variance = self.encoder_mlp(F.silu(self.encoder_norm(images)).flatten(1)).chunk(
            2, dim=1
        )
        return mean, log_variance

    def decode(self, codes: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] of codes (B, D)."""
        features = self.decoder_mlp(codes).unflatten(1, self.grid)
        for block in self.decoder:
            features = block(features, codes)
        return torch.tanh(self.to_rgb(F.silu(self.decoder_norm(features))))

    def forward(self, images: Tensor) -> Tensor:
        """The images (B, 3, H, W) of the means of images (B, 3, H, W)."""
        return self.decode(self.encode(images)[0])

    def fold(self) -> "TCVAE":
        """Divide the weights by their spectral norms once and for all; returns the network.

        For a network that is not trained any more: it computes the same, and faster.
        """
        for module in self.modules():
            if is_parametrized(module, "weight"):
                remove_parametrizations(module, "weight")
        return self

    def _kernels(self) -> Iterator[Tensor]:
        for module in self.modules():
            if isinstance(module, nn.Conv2d):
                normed = is_parametrized(module, "weight")
                name = "parametrizations.weight.original" if normed else "weight"
                yield module.get_parameter(name)


class DownBlock(nn.Module):
    """Pre-activated residual block of the encoder: norm, swish, convolution, twice; the first of a
    group halves.
    """

    def __init__(self, channels: int, more: int, *, halves: bool, dropout: float) -> None:
        super().__init__()
        self.norm_0 = nn.InstanceNorm2d(channels, affine=True)
        self.conv_0 = nn.Conv2d(channels, more, 3, padding=1, bias=False)
        self.norm_1 = nn.InstanceNorm2d(more, affine=True)
        self.dropout = nn.Dropout2d(dropout)
        self.conv_1 = nn.Conv2d(more, more, 3, padding=1, bias=False)
        same = channels == more
        self.skip = nn.Identity() if same else nn.Conv2d(channels, more, 1, bias=False)
        self.shrink = nn.AvgPool2d(2) if halves else nn.Identity()

    def forward(self, features: Tensor) -> Tensor:
        """Features (B, C, h, w) to (B, C', h, w), or half as high and wide."""
        inner = self.conv_0(F.silu(self.norm_0(features)))
        inner = self.conv_1(self.dropout(F.silu(self.norm_1(inner))))
        # The pool of the sum is the sum of the pools.
        found: Tensor = self.shrink(self.skip(features) + inner)
        return found


class UpBlock(nn.Module):
    """Pre-activated residual block of the decoder, its norms conditioned by the code; the first of
    a group doubles.
    """

    def __init__(
        self, channels: int, fewer: int, code_dim: int, *, doubles: bool, unit_gain: bool
    ) -> None:
        super().__init__()
        self.norm_0 = ConditionalInstanceNorm(channels, code_dim, unit_gain)
        self.conv_0 = spectral_norm(nn.Conv2d(channels, fewer, 3, padding=1, bias=False))
        self.norm_1 = ConditionalInstanceNorm(fewer, code_dim, unit_gain)
        self.conv_1 = spectral_norm(nn.Conv2d(fewer, fewer, 3, padding=1, bias=False))
        self.skip: nn.Module = nn.Identity()
        if channels != fewer:
            self.skip = spectral_norm(nn.Conv2d(channels, fewer, 1, bias=False))
        self.enlarge = nn.Upsample(scale_factor=2) if doubles else nn.Identity()

    def forward(self, features: Tensor, codes: Tensor) -> Tensor:
        """Features (B, C, h, w) to (B, C', h, w), or twice as high and wide, by codes (B, D)."""
        inner = self.conv_0(self.enlarge(F.silu(self.norm_0(features, codes))))
        inner = self.conv_1(F.silu(self.norm_1(inner, codes)))
        # A convolution of single pixels comes to the same before the doubling as after it.
        found: Tensor = self.enlarge(self.skip(features)) + inner
        return found


class ConditionalInstanceNorm(nn.Module):
    """Instance norm whose gain and shift of each channel are affine in the code (Huang and
    Belongie's AdaIN).
    """

    def __init__(self, channels: int, code_dim: int, unit_gain: bool = False) -> None:
        super().__init__()
        self.norm = nn.InstanceNorm2d(channels)
        self.condition = nn.Linear(code_dim, 2 * channels)  # gains, then shifts
        self.unit_gain = unit_gain

    def forward(self, features: Tensor, codes: Tensor) -> Tensor:
        """Features (B, C, h, w), normalised and modulated by codes (B, D)."""
        gain, shift = self.condition(codes)[..., None, None].chunk(2, dim=1)
        return torch.addcmul(shift, self.norm(features), gain + 1 if self.unit_gain else gain)


def mlp(sizes: list[int], outputs: int) -> nn.Sequential:
    """Hidden layers, each linear without bias, layer norm and swish, and a linear layer behind
    them; sizes: the input's and theirs.
    """
    layers: list[nn.Module] = []
    for inputs, hidden in pairwise(sizes):
        layers += [nn.Linear(inputs, hidden, bias=False), nn.LayerNorm(hidden), nn.SiLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], outputs))
