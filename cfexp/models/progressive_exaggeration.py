"""The two networks of Progressive Exaggeration (Singla et al., ICLR 2020): an image-to-image
generator and a discriminator, both conditioned on a bin of the explained decision.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.utils.parametrize import register_parametrization

# Of the residual blocks, at 128 pixels: the published sizes.
WIDTHS = (64, 128, 256, 512, 1024, 1024)


class Exaggerated(NamedTuple):
    """What the generator makes of B images."""

    image: Tensor  # (B, 3, H, W) in [-1, 1]
    code: Tensor  # (B, D, h, w), the encoder's output: of the image AND its bin


class Generator(nn.Module):
    """Encoder and decoder of residual blocks, with batch normalisation conditioned on the bin in
    both.

    widths: channels before the first block and after each that halves; the decoder mirrors them.
        Sides of images must be multiples of 2 ** (len(widths) - 1). num_bins: of the decision.
    momentum: of the running averages of the normalisations. Ours: the published network has none,
        so that there an image depends on those beside it.
    """

    def __init__(
        self, widths: Sequence[int] = WIDTHS, num_bins: int = 10, momentum: float = 0.01
    ) -> None:
        super().__init__()
        self.num_bins = num_bins
        self.norm_in = BinNorm(3, 1, momentum)
        self.conv_in = nn.Conv2d(3, widths[0], 3, padding=1)
        self.encoder = nn.ModuleList(
            GeneratorBlock(before, after, num_bins, momentum, up=False)
            for before, after in pairwise(widths)
        )
        self.decoder = nn.ModuleList(
            GeneratorBlock(before, after, num_bins, momentum, up=True)
            for before, after in pairwise(widths[::-1])
        )
        self.norm_out = BinNorm(widths[0], 1, momentum)
        self.conv_out = nn.Conv2d(widths[0], 3, 3, padding=1)
        self.apply(_start)

    def forward(self, images: Tensor, bins: Tensor, batch_statistics: bool = False) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1], decided as bins (B,) int64 say, of images (B, 3, H, W).

        batch_statistics: normalise by this batch, as published, and keep no average of it. By
        default that is as the mode says: in training by the batch, which is kept in the running
        averages, and in evaluation by those.
        """
        return self.exaggerate(images, bins, batch_statistics).image

    def exaggerate(
        self, images: Tensor, bins: Tensor, batch_statistics: bool = False
    ) -> Exaggerated:
        """As `forward`, with the encoder's code."""
        images = images.contiguous(memory_format=torch.channels_last)  # faster on a CPU
        code = self.conv_in(F.relu(self.norm_in(images, bins, batch_statistics)))
        for block in self.encoder:
            code = block(code, bins, batch_statistics)
        features = code
        for block in self.decoder:
            features = block(features, bins, batch_statistics)
        image = self.conv_out(F.relu(self.norm_out(features, bins, batch_statistics)))
        return Exaggerated(image.tanh(), code)


class GeneratorBlock(nn.Module):
    """A residual block, which pools or enlarges in front of its convolutions, on both branches."""

    def __init__(
        self, before: int, after: int, num_bins: int, momentum: float, *, up: bool
    ) -> None:
        super().__init__()
        self.up = up
        self.norm_0 = BinNorm(before, num_bins, momentum)
        self.conv_0 = nn.Conv2d(before, after, 3, padding=1)
        self.norm_1 = BinNorm(after, num_bins, momentum)
        self.conv_1 = nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Conv2d(before, after, 1)

    def forward(self, features: Tensor, bins: Tensor, batch_statistics: bool) -> Tensor:
        """(B, after, h, w), of features (B, before, H, W) and bins (B,)."""
        inner: Tensor = self._resized(F.relu(self.norm_0(features, bins, batch_statistics)))
        inner = self.norm_1(self.conv_0(inner), bins, batch_statistics)
        inner = self.conv_1(F.relu(inner))
        # A convolution of one pixel may come before or after pooling and enlarging: where there
        # are fewer pixels. The published blocks resize first.
        short: Tensor
        if self.up:
            short = self._resized(self.shortcut(features))
        else:
            short = self.shortcut(self._resized(features))
        return short + inner

    def _resized(self, features: Tensor) -> Tensor:
        if self.up:
            return F.interpolate(features, scale_factor=2.0, mode="nearest")
        return F.avg_pool2d(features, 2)


class BinNorm(nn.Module):
    """Batch normalisation with a scale and a shift for each bin; the statistics are of all bins.

    num_bins: 1 = whatever the bin.
    """

    def __init__(self, channels: int, num_bins: int, momentum: float) -> None:
        super().__init__()
        self.statistics = nn.BatchNorm2d(channels, eps=1e-3, momentum=momentum, affine=False)
        self.scale = nn.Parameter(torch.ones(num_bins, channels))
        self.shift = nn.Parameter(torch.zeros(num_bins, channels))

    def forward(self, features: Tensor, bins: Tensor, batch_statistics: bool) -> Tensor:
        """Normalise (B, C, H, W); see `Generator.forward`."""
        # A further batch of a step, such as one of generated images, is normalised by itself, and
        # by that of all processes: as always, but kept nowhere.
        self.statistics.track_running_stats = not batch_statistics
        if batch_statistics and not self.training:
            normed = F.batch_norm(features, None, None, training=True, eps=self.statistics.eps)
        else:
            normed = self.statistics(features)
        rows = bins if len(self.scale) > 1 else torch.zeros_like(bins)
        scale, shift = (table[rows][..., None, None] for table in (self.scale, self.shift))
        return torch.addcmul(shift, normed, scale)


class Discriminator(nn.Module):
    """Real or generated, by residual blocks and a projection of the bin (Miyato, Koyama 2018);
    spectral norm on every layer.

    widths: channels after each block that halves; a last block keeps size and channels.

    The published code has one pair of vectors V for all thresholds of its "ordinal" projection:
    the score is affine in the bin.
    """

    def __init__(self, widths: Sequence[int] = WIDTHS[:-1], num_bins: int = 10) -> None:
        super().__init__()
        self.num_bins = num_bins
        self.first = DiscriminatorBlock(3, widths[0], first=True)
        self.blocks = nn.ModuleList(
            DiscriminatorBlock(before, after) for before, after in pairwise(widths)
        )
        self.last = DiscriminatorBlock(widths[-1], widths[-1], halves=False)
        self.dense = nn.Linear(widths[-1], 1)
        self.projection = nn.Linear(widths[-1], 2, bias=False)
        self.apply(_start)
        for layer in list(self.modules()):
            if isinstance(layer, nn.Conv2d | nn.Linear):
                register_parametrization(layer, "weight", SpectralNorm(layer.weight))

    def forward(self, images: Tensor, bins: Tensor) -> Tensor:
        """Scores (B,), high = real, of images (B, 3, H, W) in [-1, 1] of bins (B,) int64.

        out = dense(phi) + k V_1 . phi + (K - 1 - k) V_0 . phi, phi summed over the last grid.
        """
        features = self.first(images.contiguous(memory_format=torch.channels_last))
        for block in self.blocks:
            features = block(features)
        summed = F.relu(self.last(features)).sum((2, 3))
        below = bins.to(summed.dtype)
        thresholds = torch.stack([self.num_bins - 1 - below, below], dim=1)
        score: Tensor = self.dense(summed)[:, 0] + (thresholds * self.projection(summed)).sum(1)
        return score


class DiscriminatorBlock(nn.Module):
    """A residual block, which pools behind its convolutions.

    first: of images, without an activation in front. halves: False = size and channels stay.
    """

    def __init__(
        self, before: int, after: int, *, first: bool = False, halves: bool = True
    ) -> None:
        super().__init__()
        self.is_first, self.halves = first, halves
        self.conv_0 = nn.Conv2d(before, after, 3, padding=1)
        self.conv_1 = nn.Conv2d(after, after, 3, padding=1)
        self.shortcut = nn.Conv2d(before, after, 1) if halves else None

    def forward(self, features: Tensor) -> Tensor:
        """(B, after, h, w), of features (B, before, H, W)."""
        inner: Tensor = features if self.is_first else F.relu(features)
        inner = self.conv_1(F.relu(self.conv_0(inner)))
        if self.shortcut is None:
            return features + inner
        # Of the published blocks those after the first convolve before they pool: see above.
        short: Tensor = self.shortcut(F.avg_pool2d(features, 2))
        return short + F.avg_pool2d(inner, 2)


class SpectralNorm(nn.Module):
    """A weight over its largest singular value (Miyato et al. 2018), by one power iteration.

    As published, the gradient also flows through the iteration, which torch's own leaves out; where
    that has converged it makes no difference.
    """

    left: Tensor  # (rows,), the singular vector, kept from step to step of the training

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("left", F.normalize(torch.randn(len(weight)), dim=0))

    def forward(self, weight: Tensor) -> Tensor:
        """The weight (rows, ...), normalised."""
        matrix = weight.flatten(1)
        # A copy, as the gradient needs what was here when it is replaced by the next step's.
        right = F.normalize(self.left.clone() @ matrix, dim=0)
        left = F.normalize(matrix @ right, dim=0)
        if self.training:
            with torch.no_grad():
                self.left.copy_(left)
        return weight / (left @ matrix @ right)


def _start(layer: nn.Module) -> None:
    """As published: Glorot's uniform weights, and no bias."""
    if isinstance(layer, nn.Conv2d | nn.Linear):
        nn.init.xavier_uniform_(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
