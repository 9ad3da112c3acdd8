"""What SEAN's generator is made of: the region-adaptive normalisation and the residual block around
it.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfexp.models.neighbourhoods import (
    Grid,
    as_image,
    modulate,
    pixel_rows,
)
from cfexp.models.sean.table import scale_and_shift
from cfexp.models.spectral_norm import spectral_norm


class RegionNorm(nn.Module):
    """SEAN's normalisation (Zhu et al. 2020, equation 1): out = norm(x) * scale + shift, both a map
    of the label map.

    scale = 1 + a * gamma_style + (1 - a) * gamma_map, shift = b * beta_style + (1 - b) *
    beta_map. The label map's part is SPADE (Park et al. 2019): two convolutions of the one-hot
    label map. The style's is a convolution of the map that holds in each pixel relu(W_j z_j + v_j),
    its region's code through its region's own layer. a and b are learnt scalars behind a sigmoid.
    Noise, one number a pixel times a learnt factor per channel, precedes the batch norm.

    style_dim: D; None leaves only the label map's part (a = b = 0), as in the published network's
    last block.

    A gamma convolution and its beta convolution are one, gamma first.
    """

    layer_of: Tensor | None  # (R,), see `share_layers`

    def __init__(
        self, channels: int, num_regions: int, style_dim: int | None, spade_channels: int = 128
    ) -> None:
        super().__init__()
        self.num_regions = num_regions
        self.register_buffer("layer_of", None, persistent=False)
        self.noise_scale = nn.Parameter(torch.zeros(channels))
        self.batch_norm = nn.BatchNorm2d(channels, affine=False)
        self.spade_shared = nn.Conv2d(num_regions, spade_channels, 3, padding=1)
        self.spade = nn.Conv2d(spade_channels, 2 * channels, 3, padding=1)
        self.styled = style_dim is not None
        if style_dim is not None:
            self.blending = nn.Parameter(torch.zeros(2))  # of gamma, of beta
            self.mapping_weight = nn.Parameter(torch.empty(num_regions, style_dim, style_dim))
            self.mapping_bias = nn.Parameter(torch.zeros(num_regions, style_dim))
            self.style = nn.Conv2d(style_dim, 2 * channels, 3, padding=1)

    def forward(
        self,
        features: Tensor,
        style_codes: Tensor,
        grid: Grid | Tensor,
        noise: Tensor | None,
        slope: float = 1.0,
    ) -> Tensor:
        """Features (B, C, h, w), normalised and modulated, then LeakyReLU of this slope (1 = none).

        style_codes: (B, R, D). grid: as a `Grid`, which is fast, or label maps (B, h, w) int64
        for the dense convolutions as published; they give the same numbers. noise: (B, 1, h, w), or
        None for none.
        """
        if noise is not None:
            rows = torch.addmm(pixel_rows(features), pixel_rows(noise), self.noise_scale[None])
            features = as_image(rows, noise[:, 0])
        features = self.batch_norm(features)
        if isinstance(grid, Grid):
            return modulate(features, self.table(grid, style_codes), grid, slope)

        one_hot = F.one_hot(grid, self.num_regions).to(features.dtype).permute(0, 3, 1, 2)
        maps = self.spade(F.relu(self.spade_shared(one_hot)))
        if self.styled:
            mapped = self.mapped_codes(style_codes)
            of_pixel = grid.flatten(1)[..., None].expand(-1, -1, mapped.shape[2])
            broadcast = mapped.gather(1, of_pixel).view(*grid.shape, -1).permute(0, 3, 1, 2)
            maps = self.blend(maps, self.style(broadcast))
        scale, shift = maps.chunk(2, dim=1)
        return F.leaky_relu(features * (1 + scale) + shift, slope)

    def table(self, grid: Grid, style_codes: Tensor | None) -> Tensor:
        """Scale and shift, (Q, 2 * C), of each distinct neighbourhood.

        style_codes: (B, R, D); None leaves out all of the style's part but its bias.
        """
        convolutions = self.spade_shared, self.spade
        if not self.styled:
            return scale_and_shift(grid, *convolutions)
        mapped = None if style_codes is None else self.mapped_codes(style_codes)
        return scale_and_shift(grid, *convolutions, self.style, self.blending, mapped)

    def mapped_codes(self, style_codes: Tensor) -> Tensor:
        """relu(W_j z_j + v_j) of codes z (B, R, D)."""
        weight, bias = self.mapping()
        by_region = style_codes.transpose(0, 1)
        mapped = torch.baddbmm(bias[:, None], by_region, weight.transpose(1, 2))
        return F.relu(mapped).transpose(0, 1)

    def mapping(self) -> tuple[Tensor, Tensor]:
        """W (R, D, D) and v (R, D), of each region's own layer."""
        if self.layer_of is None:
            return self.mapping_weight, self.mapping_bias
        return self.mapping_weight[self.layer_of], self.mapping_bias[self.layer_of]

    def share_layers(self, layer_of: Sequence[int]) -> None:
        """Let regions share layers: the number of each one's; those beyond are dropped."""
        if self.styled:
            count = max(layer_of) + 1
            self.mapping_weight = nn.Parameter(self.mapping_weight.data[:count].clone())
            self.mapping_bias = nn.Parameter(self.mapping_bias.data[:count].clone())
            self.layer_of = torch.tensor(layer_of)

    def blend_weights(self, like: Tensor) -> Tensor:
        """How much of the style's gamma and beta enters, (2 * C,): a for each gamma, b for each
        beta.
        """
        return self.blending.sigmoid().to(like.dtype).repeat_interleave(len(self.noise_scale))

    def blend(self, spade: Tensor, style: Tensor) -> Tensor:
        """Gamma and beta, of maps (B, 2 * C, h, w)."""
        return torch.lerp(spade, style, self.blend_weights(spade)[:, None, None])


def bias_of(convolution: nn.Conv2d) -> Tensor:
    """The bias of a convolution that has one."""
    assert convolution.bias is not None
    return convolution.bias


class SEANBlock(nn.Module):
    """A residual block of SEAN's generator (Zhu et al. 2020, figure 4).

    conv_1(lrelu(norm_1(conv_0(lrelu(norm_0(x)))))) + skip(x), where skip is the identity, or
    conv_s(norm_s(x)) without an activation if the number of channels changes. The three
    convolutions have spectral norm.
    """

    def __init__(
        self,
        before: int,
        after: int,
        num_regions: int,
        style_dim: int | None,
        spade_channels: int = 128,
    ) -> None:
        super().__init__()
        middle = min(before, after)
        norm = (num_regions, style_dim, spade_channels)
        self.norm_0 = RegionNorm(before, *norm)
        self.conv_0 = nn.Conv2d(before, middle, 3, padding=1)
        self.norm_1 = RegionNorm(middle, *norm)
        self.conv_1 = nn.Conv2d(middle, after, 3, padding=1)
        self.norm_s = RegionNorm(before, *norm) if before != after else None
        self.conv_s = nn.Conv2d(before, after, 1, bias=False) if before != after else None

    def normalise_spectrum(self) -> None:
        """Put spectral norm on the convolutions: after the weights' own initialisation, on which it
        starts.
        """
        for convolution in (self.conv_0, self.conv_1, self.conv_s):
            if convolution is not None:
                spectral_norm(convolution)

    def norms(self) -> list[RegionNorm]:
        """The normalisations, in the order of the noise that `forward` takes."""
        return [self.norm_0, self.norm_1] + ([] if self.norm_s is None else [self.norm_s])

    def forward(
        self,
        features: Tensor,
        style_codes: Tensor,
        grid: Grid | Tensor,
        noise: list[Tensor] | None,
    ) -> Tensor:
        """Features (B, after, h, w) of features (B, before, h, w); noise: one for each of `norms`,
        or None.
        """
        noises: list[Tensor | None] = [None] * 3 if noise is None else [*noise]
        middle = self.norm_0(features, style_codes, grid, noises[0], slope=0.2)
        middle = self.norm_1(self.conv_0(middle), style_codes, grid, noises[1], slope=0.2)
        if self.norm_s is not None and self.conv_s is not None:
            normed = self.norm_s(features, style_codes, grid, noises[2])
            # torch's own convolution of one pixel is slower, and returns another memory format
            weight = self.conv_s.weight.flatten(1)
            features = as_image(F.linear(pixel_rows(normed), weight), normed[:, 0])
        added: Tensor = features + self.conv_1(middle)
        return added
