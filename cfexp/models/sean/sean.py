"""SEAN (Zhu et al. 2020, "Image Synthesis with Semantic Region-Adaptive Normalization"): an image
from its label map and one style code a region. STEEX (Jacob et al. 2022) explains a classifier by
moving those codes.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.neighbourhoods import Grid, find_grid
from cfexp.models.sean.layers import RegionNorm, SEANBlock
from cfexp.models.sean.style_encoder import StyleEncoder


class SEAN(nn.Module):
    """Style encoder and generator, trained together: `forward` is the reconstruction.

    The generator starts from the label map at 1 / 2 ** (up_blocks + 1) of the size (W / 32 as
    published): a convolution of its one-hot map, three blocks with one doubling of the size between
    the first two, then `up_blocks` blocks that each double the size and halve the channels, a
    convolution, tanh. It works at any size that this power of two divides.

    num_regions: R. base_channels: C of the last block; the first has C * 2 ** up_blocks. style_dim:
    D. encoder_channels, encoder_downsamplings: see `StyleEncoder`. up_blocks: 4 as published; fewer
    leave a finer start for small images. last_block_styled: whether the codes reach the last block,
    too, at full size; not as published. initial_gain: of the weights' start; published: 0.02. A
    short training does better from 1.

    In training mode noise is drawn afresh in every call, as published. In evaluation mode there is
    none unless seeds are given (published: drawn afresh there, too), so that the same codes give
    the same image.
    """

    # (C,) the region that each code is of; None = code i is of region i
    region_of_code: Tensor | None

    def __init__(
        self,
        num_regions: int,
        base_channels: int = 64,
        style_dim: int = 512,
        encoder_channels: int = 32,
        encoder_downsamplings: int = 2,
        up_blocks: int = 4,
        spade_channels: int = 128,
        last_block_styled: bool = False,
        initial_gain: float = 0.02,
    ) -> None:
        super().__init__()
        self.register_buffer("region_of_code", None, persistent=False)
        self.num_regions, self.style_dim, self.up_blocks = num_regions, style_dim, up_blocks
        self.encoder = StyleEncoder(style_dim, encoder_channels, encoder_downsamplings)
        channels = base_channels * 2**up_blocks
        self.head = nn.Conv2d(num_regions, channels, 3, padding=1)
        blocks = [
            SEANBlock(channels, channels, num_regions, style_dim, spade_channels) for _ in range(3)
        ]
        for number in range(up_blocks):
            styled = last_block_styled or number < up_blocks - 1
            after = channels // 2
            blocks.append(
                SEANBlock(
                    channels,
                    after,
                    num_regions,
                    style_dim if styled else None,
                    spade_channels=spade_channels,
                )
            )
            channels = after
        self.blocks = nn.ModuleList(blocks)
        self.to_rgb = nn.Conv2d(channels, 3, 3, padding=1)
        # How many pixels of the image a pixel of each block's grid stands for, in height and in
        # width.
        first = 2 ** (up_blocks + 1)
        self.strides = [
            first,
            first // 2,
            first // 2,
            *(2**number for number in reversed(range(up_blocks))),
        ]
        self._initialise(initial_gain)

    def _initialise(self, gain: float) -> None:
        """Xavier's with this gain, and biases of 0 everywhere, as published; then spectral norm."""
        for parameter in self.parameters():
            if parameter.is_meta:  # without content: a network of which the shapes alone are wanted
                continue
            if parameter.ndim == 3:  # a linear layer for each region
                for layer in parameter.data:
                    nn.init.xavier_normal_(layer, gain=gain)
            elif parameter.ndim > 1:
                nn.init.xavier_normal_(parameter, gain=gain)
            else:
                nn.init.zeros_(parameter)
        for block in self.residual_blocks():
            block.normalise_spectrum()

    def forward(
        self, images: Tensor, label_maps: Tensor, noise_seeds: Sequence[int] | None = None
    ) -> Tensor:
        """The reconstruction (B, 3, H, W) in [-1, 1]: `decode` of `encode`."""
        return self.decode(self.encode(images, label_maps), label_maps, noise_seeds)

    def encode(self, images: Tensor, label_maps: Tensor) -> Tensor:
        """Style codes (B, R, D) in [-1, 1]; zero for a region that is absent at the encoder's grid.

        images: (B, 3, H, W) in [-1, 1]. label_maps: (B, H, W) int64 in 0..R - 1.

        Raises InputError for label maps that do not fit.
        """
        self.check_label_maps(label_maps)
        if images.shape != (len(label_maps), 3, *label_maps.shape[1:]):
            raise InputError(
                f"images must have shape (B, 3, H, W) of label_maps' {tuple(label_maps.shape)}, "
                f"got {tuple(images.shape)}"
            )
        codes: Tensor = self.encoder(images, label_maps, self.num_regions)
        return codes

    def decode(
        self,
        style_codes: Tensor,
        label_maps: Tensor,
        noise_seeds: Sequence[int] | None = None,
        *,
        dense: bool = False,
    ) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] of style codes (B, R, D) and label maps (B, H, W) int64 in
        0..R - 1.

        noise_seeds: one a query; the same seed draws the same noise, whatever the batch. None: see
            the class.
        dense: run the convolutions of the label map at every pixel, as published; the same numbers,
            several times slower.

        Raises InputError for label maps or codes that do not fit.
        """
        self.check_label_maps(label_maps)
        self.check_codes(style_codes, label_maps)
        label_maps = self.divide(label_maps)
        noise = self.draw_noise(label_maps, noise_seeds, style_codes.dtype)
        grids = dict(zip(self.strides, self.grids(label_maps, dense), strict=True))
        features = self.start(label_maps, style_codes.dtype)
        if not dense:
            features = features.contiguous(memory_format=torch.channels_last)
        stride = self.strides[0]
        for block, next_stride in zip(self.residual_blocks(), self.strides, strict=True):
            if next_stride != stride:
                features = F.interpolate(features, scale_factor=2, mode="nearest")
            stride = next_stride
            of_block = None if noise is None else [noise.pop(0) for _ in block.norms()]
            features = block(features, style_codes, grids[stride], of_block)
        return torch.tanh(self.to_rgb(F.leaky_relu(features, 0.2)))

    def divide(self, label_maps: Tensor) -> Tensor:
        """Label maps (B, H, W) in which each pixel has the number of its code: here its region."""
        return label_maps

    @property
    def regions_of_label_maps(self) -> int:
        """How many regions label maps have; here as many as there are codes."""
        return self.num_regions

    def codes_of(self, region_mask: Tensor) -> Tensor:
        """Which codes (..., C) belong to some regions (..., R), both bool."""
        return region_mask if self.region_of_code is None else region_mask[..., self.region_of_code]

    def by_region(self, change: Tensor) -> Tensor:
        """(B, R), the l2 norm over all codes of a region, of how far each code went, (B, C)."""
        if self.region_of_code is None:
            return change
        squares = change.new_zeros(len(change), self.regions_of_label_maps)
        return squares.index_add(1, self.region_of_code, change.square()).sqrt()

    def start(self, label_maps: Tensor, dtype: torch.dtype) -> Tensor:
        """What the first block is given, (B, C, H / strides[0], W / strides[0])."""
        small = label_maps[:, :: self.strides[0], :: self.strides[0]]
        features: Tensor = self.head(
            F.one_hot(small, self.num_regions).to(dtype).permute(0, 3, 1, 2)
        )
        return features

    def grids(self, label_maps: Tensor, dense: bool = False) -> Iterator[Grid | Tensor]:
        """The label map at the grid of each block: a `Grid`, or, if dense, label maps (B, h, w)."""
        grids: dict[int, Grid | Tensor] = {}
        dense = dense or label_maps.is_meta  # whose neighbourhoods nobody knows
        for stride in self.strides:
            if stride not in grids:
                small = label_maps[:, ::stride, ::stride]
                grids[stride] = small if dense else find_grid(small, self.num_regions)
            yield grids[stride]

    def draw_noise(
        self, label_maps: Tensor, noise_seeds: Sequence[int] | None, dtype: torch.dtype
    ) -> list[Tensor] | None:
        """Standard normal noise (B, 1, h, w) for each normalisation, in the order of the blocks and
        their `norms`.

        Each query's comes from a generator of its own, on the CPU and in float32, so that neither
        the batch nor the device changes it.
        """
        batch, height, width = label_maps.shape
        sizes = [
            (1, height // stride, width // stride)
            for block, stride in zip(self.residual_blocks(), self.strides, strict=True)
            for _ in block.norms()
        ]
        if noise_seeds is None:
            if not self.training:
                return None
            return [
                torch.randn(batch, *size, device=label_maps.device, dtype=dtype) for size in sizes
            ]
        if len(noise_seeds) != batch:
            raise InputError(
                f"noise_seeds must be {batch} numbers, one a query, got {len(noise_seeds)}"
            )
        generators = [torch.Generator().manual_seed(int(seed)) for seed in noise_seeds]
        drawn = [
            torch.stack(
                [torch.randn(size, generator=each, dtype=torch.float32) for each in generators]
            )
            for size in sizes
        ]
        return [noise.to(label_maps.device, dtype) for noise in drawn]

    def norms(self) -> list[RegionNorm]:
        """Every normalisation of the generator, in the order of `draw_noise`."""
        return [norm for block in self.residual_blocks() for norm in block.norms()]

    def check_label_maps(self, label_maps: Tensor) -> None:
        """Raises InputError unless these are (B, H, W) int64 in 0..R - 1, and the start grid's
        cells fill H and W.
        """
        if label_maps.ndim != 3 or label_maps.dtype != torch.int64:
            got = f"{label_maps.dtype} {tuple(label_maps.shape)}"
            raise InputError(f"label_maps must be int64 of shape (B, H, W), got {got}")
        if any(side % self.strides[0] or side == 0 for side in label_maps.shape[1:]):
            unit, sides = self.strides[0], tuple(label_maps.shape[1:])
            raise InputError(f"label_maps must have sides that {unit} divides, got {sides}")
        if label_maps.is_meta:  # which have a size alone
            return
        low, high = label_maps.aminmax()
        if low < 0 or high >= (regions := self.regions_of_label_maps):
            raise InputError(f"label_maps must be in 0..{regions - 1}, got {int(low)}..{int(high)}")

    def check_codes(self, style_codes: Tensor, label_maps: Tensor) -> None:
        """Raises InputError unless the codes are (B, R, D) of these label maps."""
        expected = (len(label_maps), self.num_regions, self.style_dim)
        if style_codes.shape != expected:
            raise InputError(
                f"style_codes must have shape {expected}, got {tuple(style_codes.shape)}"
            )

    def residual_blocks(self) -> list[SEANBlock]:
        """The blocks of the generator, in order."""
        return [block for block in self.blocks if isinstance(block, SEANBlock)]
