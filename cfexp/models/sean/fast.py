"""SEAN's generator for a search: the same numbers as `SEAN.decode`, at a tenth of the published
form's cost.

Between the steps of a search only the style codes change. What depends on the weights alone is
folded once (batch norm in evaluation mode, spectral norm, blending); what depends on the label map,
once a query: its distinct neighbourhoods, SPADE's scale and shift for each of them, the first
convolution, the noise. A step is left with a matrix product a normalisation, a look-up a pixel, and
the main convolutions, which are the floor.

Nothing of the network takes a gradient. What a step keeps for its backward pass: see `fast_block`.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Concatenate, NamedTuple, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfexp.models.loading.packed import PackedMatrix
from cfexp.models.neighbourhoods import Grid, grid_of, kernel_rows, pixel_rows
from cfexp.models.sean.fast_block import (
    Block,
    FoldedNorm,
    PreparedNorm,
    Scratch,
    style_table,
)
from cfexp.models.sean.layers import RegionNorm, bias_of
from cfexp.models.sean.sean import SEAN

P = ParamSpec("P")
R = TypeVar("R")


def _as_folded(
    method: "Callable[Concatenate[FastSEAN, P], R]",
) -> "Callable[Concatenate[FastSEAN, P], R]":
    """Switch autocast off within a method: what is folded has a dtype of its own, which autocast
    would mix.
    """

    @functools.wraps(method)
    def wrapped(self: "FastSEAN", /, *args: P.args, **kwargs: P.kwargs) -> R:
        with torch.autocast(self.to_rgb[0].device.type, enabled=False):
            return method(self, *args, **kwargs)

    return wrapped


class PreparedLabelMaps(NamedTuple):
    """All that a search over B label maps leaves as it is."""

    start: Tensor  # (B, C, h, w), what the first block is given
    grids: tuple[Grid, ...]  # one a block
    sources: tuple[Tensor | None, ...]  # of each block, see `Block`
    norms: tuple[tuple[PreparedNorm, ...], ...]  # of each block
    scratch: Scratch
    codes_shape: tuple[int, int, int]  # (B, R, D)


class FastSEAN:
    """A trained SEAN's generator, folded; later changes of the network are not seen.

    dtype: of features and main convolutions. torch.bfloat16 is faster and approximate; the codes,
        the tables and the image stay in the network's own dtype, which is the default. Autocast
        changes nothing here.

    A decode and its backward pass must be over before the next decode with the same
    `PreparedLabelMaps`: they share room.
    """

    @torch.no_grad()
    def __init__(self, sean: SEAN, dtype: torch.dtype | None = None) -> None:
        """Raises RuntimeError for a network in training mode, whose batch norm is no constant."""
        if sean.training:
            raise RuntimeError("FastSEAN needs a network in evaluation mode")
        self.sean = sean
        self.dtype = dtype or sean.head.weight.dtype
        self.blocks = [
            [
                self._fold(norm, convolution, slope)
                for norm, convolution, slope in zip(
                    block.norms(),
                    (block.conv_0, block.conv_1, block.conv_s),
                    (0.2, 0.2, 1.0),
                    strict=False,
                )
                if convolution is not None
            ]
            for block in sean.residual_blocks()
        ]
        self.to_rgb = self._kernel(sean.to_rgb.weight), bias_of(sean.to_rgb).detach().to(self.dtype)

    def _fold(self, norm: RegionNorm, convolution: nn.Conv2d, slope: float) -> FoldedNorm:
        batch_norm = norm.batch_norm
        assert batch_norm.running_mean is not None
        assert batch_norm.running_var is not None
        scale = (batch_norm.running_var + batch_norm.eps).rsqrt()
        shift = -batch_norm.running_mean * scale
        kernel = None
        if norm.styled:
            weights = norm.blend_weights(scale)[:, None, None, None] * norm.style.weight
            gamma, beta = weights.chunk(2)
            folded = torch.cat(_fold_batch_norm(gamma, beta, scale[:, None, None, None], shift))
            kernel = PackedMatrix(kernel_rows(folded))
        bias = None if convolution.bias is None else convolution.bias.detach().to(self.dtype)
        return FoldedNorm(norm, scale, shift, kernel, slope, self._kernel(convolution.weight), bias)

    def _kernel(self, weight: Tensor) -> Tensor:
        return weight.detach().to(self.dtype, memory_format=torch.channels_last)

    @_as_folded
    @torch.no_grad()
    def prepare(
        self, label_maps: Tensor, noise_seeds: Sequence[int] | None = None
    ) -> PreparedLabelMaps:
        """What `decode` needs of label maps (B, H, W) int64 in 0..R - 1; noise_seeds as in
        `SEAN.decode`.

        Raises InputError for label maps that do not fit.
        """
        sean = self.sean
        sean.check_label_maps(label_maps)
        label_maps = sean.divide(label_maps)
        noise = self._noise(label_maps, noise_seeds)
        grids = tuple(grid for grid in sean.grids(label_maps) if isinstance(grid, Grid))
        norms = tuple(
            tuple(_prepare_norm(folded, grid, next(noise)) for folded in block)
            for block, grid in zip(self.blocks, grids, strict=True)
        )
        first, second = (
            max(
                len(grid.pixel.number) * len(block[part].scale)
                for block, grid in zip(self.blocks, grids, strict=True)
            )
            for part in (0, 1)
        )
        start = sean.start(label_maps, sean.head.weight.dtype)
        start = start.to(self.dtype, memory_format=torch.channels_last)
        scratch = Scratch(start.new_empty(first), start.new_empty(first), start.new_empty(second))
        codes_shape = (len(label_maps), sean.num_regions, sean.style_dim)
        strides = [sean.strides[0], *sean.strides]
        sources = tuple(
            None if before == after else _copied_pixel(grid)
            for before, after, grid in zip(strides[:-1], strides[1:], grids, strict=True)
        )
        return PreparedLabelMaps(start, grids, sources, norms, scratch, codes_shape)

    @_as_folded
    @torch.no_grad()
    def redraw(
        self, prepared: PreparedLabelMaps, noise_seeds: Sequence[int] | None
    ) -> PreparedLabelMaps:
        """The same label maps with the noise of other seeds; nothing else is computed again."""
        full_size = prepared.grids[-1].label_map  # the last block's
        noise = self._noise(full_size, noise_seeds)
        norms = tuple(
            tuple(norm._replace(noise=next(noise)) for norm in block) for block in prepared.norms
        )
        return prepared._replace(norms=norms)

    @_as_folded
    @torch.no_grad()
    def of(self, prepared: PreparedLabelMaps, rows: Tensor) -> PreparedLabelMaps:
        """Those of some queries alone, rows (N,) int64; their tables and noise are kept."""
        narrow: dict[int, tuple[Grid, Tensor]] = {}
        for grid in prepared.grids:
            if id(grid) not in narrow:  # blocks of one size share theirs
                narrow[id(grid)] = grid_of(grid, rows, self.sean.num_regions)
        norms = tuple(
            tuple(_norm_of(norm, grid, rows, narrow[id(grid)][1]) for norm in block)
            for block, grid in zip(prepared.norms, prepared.grids, strict=True)
        )
        grids = tuple(narrow[id(grid)][0] for grid in prepared.grids)
        sources = tuple(
            None if source is None else _copied_pixel(grid)
            for source, grid in zip(prepared.sources, grids, strict=True)
        )
        start = prepared.start[rows].contiguous(memory_format=torch.channels_last)
        shape = (len(rows), *prepared.codes_shape[1:])
        return PreparedLabelMaps(start, grids, sources, norms, prepared.scratch, shape)

    def _noise(
        self, label_maps: Tensor, noise_seeds: Sequence[int] | None
    ) -> Iterator[Tensor | None]:
        """(B * h * w, 1) for each normalisation in order; None where there is no noise."""
        drawn = self.sean.draw_noise(label_maps, noise_seeds, self.dtype)
        return repeat(None) if drawn is None else map(pixel_rows, drawn)

    @_as_folded
    def decode(self, style_codes: Tensor, prepared: PreparedLabelMaps) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] of style codes (B, R, D): `SEAN.decode`'s; differentiable
        by the codes.

        Raises ValueError for codes of another shape than the label map was prepared for.
        """
        if style_codes.shape != prepared.codes_shape:
            got = tuple(style_codes.shape)
            raise ValueError(f"style_codes must have shape {prepared.codes_shape}, got {got}")
        features = prepared.start
        by_region = style_codes.transpose(0, 1)
        for block, norms, grid, source in zip(
            self.blocks, prepared.norms, prepared.grids, prepared.sources, strict=True
        ):
            styles = [style_table(folded, by_region, grid) for folded in block]
            features = Block(block, norms, grid, source, prepared.scratch)(features, styles)
        weight, bias = self.to_rgb
        image = F.conv2d(F.leaky_relu_(features, 0.2), weight, bias, padding=1)
        return torch.tanh(image.to(style_codes.dtype))


def _prepare_norm(folded: FoldedNorm, grid: Grid, noise: Tensor | None) -> PreparedNorm:
    gamma, beta = folded.norm.table(grid, None).chunk(2, dim=1)
    static = torch.stack(_fold_batch_norm(gamma, beta, folded.scale, folded.shift))
    return PreparedNorm(static, noise)


def _norm_of(norm: PreparedNorm, grid: Grid, rows: Tensor, kept: Tensor) -> PreparedNorm:
    """Of the label maps `rows`, which have the neighbourhoods `kept` of a grid."""
    noise = norm.noise
    if noise is not None:
        noise = noise.view(len(grid.label_map), -1)[rows].view(-1, 1)
    return PreparedNorm(norm.static[:, kept], noise)


def _copied_pixel(grid: Grid) -> Tensor:
    """(B * h * w,): of each pixel of a grid, the number of the one that it is a copy of at half the
    size.
    """
    batch, height, width = grid.label_map.shape
    pixel = torch.arange(batch * height * width // 4, device=grid.pixel.number.device)
    pixel = pixel.view(batch, height // 2, width // 2)
    return pixel.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten()


def _fold_batch_norm(
    gamma: Tensor, beta: Tensor, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """(x * scale + shift) * gamma + beta as x * first + second."""
    return gamma * scale, beta + gamma * shift.view_as(scale)
