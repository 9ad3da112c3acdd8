"""SEAN's generator for a search: the same numbers as `SEAN.decode`, at a tenth of the published
form's cost.

Between the steps of a search only the style codes change. What depends on the weights alone is
folded once (batch norm in evaluation mode, spectral norm, blending); what depends on the layout,
once a query: its distinct neighbourhoods, SPADE's scale and shift for each of them, the first
convolution, the noise. A step is left with a matrix product a normalisation, a look-up a pixel, and
the main convolutions, which are the floor.

Nothing of the network takes a gradient. For the backward pass only the input of each normalisation
is kept; scale, shift and activation are looked up and computed again.
"""

import functools
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from typing import Any, Concatenate, NamedTuple, ParamSpec, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfexp.models.layouts import (
    Grid,
    as_image,
    chunks,
    kernel_rows,
    pixel_rows,
    sum_by_neighbourhood,
    sum_rows,
)
from cfexp.models.loading.packed import PackedMatrix
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


class FoldedNorm(NamedTuple):
    """A normalisation, the LeakyReLU behind it (slope 1 = none) and the convolution behind that,
    all of it constant.
    """

    norm: RegionNorm  # for its part that depends on the layout
    scale: Tensor  # (C,): batch norm in evaluation mode is x * scale + shift
    shift: Tensor  # (C,)
    kernel: (
        PackedMatrix | None
    )  # (D, 9 * 2 * C), the style convolution with the blending and batch norm in it
    slope: float
    weight: Tensor  # (out, C, k, k), with the spectral norm in it
    bias: Tensor | None  # (out,)


class PreparedNorm(NamedTuple):
    """What a normalisation is for given label maps."""

    static: Tensor  # (2, Q, C): scale and shift of each distinct neighbourhood as far as the layout decides them
    noise: Tensor | None  # (B * h * w, 1)


class Scratch(NamedTuple):
    """Room that is written over and over: fresh memory costs a CPU more than what is then written
    there.
    """

    rows: Tensor  # for the input of any convolution
    total: Tensor  # for the gradient by the input of any block
    middle: Tensor  # for the gradient by the output of any block's first convolution


class PreparedLayout(NamedTuple):
    """All that a search over B label maps leaves as it is."""

    start: Tensor  # (B, C, h, w), what the first block is given
    grids: tuple[Grid, ...]  # one a block
    sources: tuple[Tensor | None, ...]  # of each block, see `_Block`
    norms: tuple[tuple[PreparedNorm, ...], ...]  # of each block
    scratch: Scratch
    codes_shape: tuple[int, int, int]  # (B, R, D)


class FastSEAN:
    """A trained SEAN's generator, folded; later changes of the network are not seen.

    dtype: of features and main convolutions. torch.bfloat16 is faster and approximate; the codes,
        the tables and the image stay in the network's own dtype, which is the default. Autocast
        changes nothing here.

    A decode and its backward pass must be over before the next decode with the same
    `PreparedLayout`: they share room.
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
            gamma, beta = (
                norm.blend_weights(scale)[:, None, None, None] * norm.style.weight
            ).chunk(2)
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
    ) -> PreparedLayout:
        """What `decode` needs of label maps (B, H, W) int64 in 0..R - 1; noise_seeds as in
        `SEAN.decode`.

        Raises InputError for label maps that do not fit.
        """
        sean = self.sean
        sean.check_label_maps(label_maps)
        noise = self._noise(label_maps, noise_seeds)
        grids = tuple(grid for grid in sean.layouts(label_maps) if isinstance(grid, Grid))
        norms = tuple(
            tuple(_prepare_norm(folded, grid, next(noise)) for folded in block)
            for block, grid in zip(self.blocks, grids, strict=True)
        )
        first, second = (
            max(
                len(grid.pixel) * len(block[part].scale)
                for block, grid in zip(self.blocks, grids, strict=True)
            )
            for part in (0, 1)
        )
        start = sean.start(label_maps, sean.head.weight.dtype).to(
            self.dtype, memory_format=torch.channels_last
        )
        scratch = Scratch(start.new_empty(first), start.new_empty(first), start.new_empty(second))
        codes_shape = (len(label_maps), sean.num_regions, sean.style_dim)
        strides = [sean.strides[0], *sean.strides]
        sources = tuple(
            None if before == after else _copied_pixel(grid)
            for before, after, grid in zip(strides[:-1], strides[1:], grids, strict=True)
        )
        return PreparedLayout(start, grids, sources, norms, scratch, codes_shape)

    @_as_folded
    @torch.no_grad()
    def redraw(self, prepared: PreparedLayout, noise_seeds: Sequence[int] | None) -> PreparedLayout:
        """The same layouts with the noise of other seeds; nothing else is computed again."""
        noise = self._noise(
            prepared.grids[-1].label_map, noise_seeds
        )  # the last block works at full size
        norms = tuple(
            tuple(norm._replace(noise=next(noise)) for norm in block) for block in prepared.norms
        )
        return prepared._replace(norms=norms)

    def _noise(
        self, label_maps: Tensor, noise_seeds: Sequence[int] | None
    ) -> Iterator[Tensor | None]:
        """(B * h * w, 1) for each normalisation in order; None where there is no noise."""
        drawn = self.sean.draw_noise(label_maps, noise_seeds, self.dtype)
        return repeat(None) if drawn is None else map(pixel_rows, drawn)

    @_as_folded
    def decode(self, style_codes: Tensor, prepared: PreparedLayout) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] of style codes (B, R, D): `SEAN.decode`'s; differentiable
        by the codes.

        Raises ValueError for codes of another shape than the layout was prepared for.
        """
        if style_codes.shape != prepared.codes_shape:
            raise ValueError(
                f"style_codes must have shape {prepared.codes_shape}, got {tuple(style_codes.shape)}"
            )
        features = prepared.start
        by_region = style_codes.transpose(0, 1)
        for block, norms, grid, source in zip(
            self.blocks, prepared.norms, prepared.grids, prepared.sources, strict=True
        ):
            styles = [_style_table(folded, by_region, grid) for folded in block]
            features = _Block(block, norms, grid, source, prepared.scratch)(features, styles)
        weight, bias = self.to_rgb
        image = F.conv2d(F.leaky_relu_(features, 0.2), weight, bias, padding=1)
        return torch.tanh(image.to(style_codes.dtype))


def _prepare_norm(folded: FoldedNorm, grid: Grid, noise: Tensor | None) -> PreparedNorm:
    norm = folded.norm
    maps = norm.spade_table(grid)
    maps = norm.blend(maps, bias_of(norm.style)) if norm.styled else maps + norm.one_and_zero(maps)
    gamma, beta = maps.chunk(2, dim=1)
    return PreparedNorm(
        torch.stack(_fold_batch_norm(gamma, beta, folded.scale, folded.shift)), noise
    )


def _copied_pixel(grid: Grid) -> Tensor:
    """(B * h * w,): of each pixel of a grid, the number of the one that it is a copy of at half the
    size.
    """
    batch, height, width = grid.label_map.shape
    pixel = torch.arange(batch * height * width // 4, device=grid.pixel.device).view(
        batch, height // 2, width // 2
    )
    return pixel.repeat_interleave(2, 1).repeat_interleave(2, 2).flatten()


def _fold_batch_norm(
    gamma: Tensor, beta: Tensor, scale: Tensor, shift: Tensor
) -> tuple[Tensor, Tensor]:
    """(x * scale + shift) * gamma + beta as x * first + second."""
    return gamma * scale, beta + gamma * shift.view_as(scale)


def _style_table(folded: FoldedNorm, by_region: Tensor, grid: Grid) -> Tensor | None:
    """What the codes (R, B, D) add to scale and shift of each distinct 3x3 neighbourhood, (P, 2 *
    C).
    """
    if folded.kernel is None:
        return None
    norm = folded.norm
    mapped = torch.baddbmm(
        norm.mapping_bias[:, None], by_region, norm.mapping_weight.transpose(1, 2)
    )
    rows = F.relu(mapped).transpose(0, 1).flatten(0, 1)[grid.present]
    return sum_rows(
        folded.kernel(F.pad(rows, (0, 0, 0, 1))), grid.inner
    )  # outside the image is zero


class _Part(NamedTuple):
    """A normalisation, activation and convolution in the middle of a step."""

    folded: FoldedNorm
    prepared: PreparedNorm
    style: Tensor | None  # (P, 2 * C)

    def tables(self, grid: Grid, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Scale and shift of each distinct neighbourhood, (Q, C) each."""
        scale, shift = self.prepared.static
        if self.style is not None:
            gamma, beta = self.style[grid.inner_of_outer].chunk(2, dim=1)
            scale, shift = scale + gamma, shift + beta
        return scale.to(dtype), shift.to(dtype)


class _Block(NamedTuple):
    """What a residual block is besides its features and style tables."""

    folded: Sequence[FoldedNorm]
    prepared: Sequence[PreparedNorm]
    grid: Grid
    source: (
        Tensor | None
    )  # (B * h * w,) the pixel before the doubling that each pixel is a copy of; None: no doubling
    scratch: Scratch

    def parts(self, styles: Sequence[Tensor | None]) -> list[_Part]:
        return [_Part(*three) for three in zip(self.folded, self.prepared, styles, strict=True)]

    def __call__(self, features: Tensor, styles: Sequence[Tensor | None]) -> Tensor:
        out: Tensor = _BlockFunction.apply(self, features, *styles)  # type: ignore[no-untyped-call]  # torch's own
        return out


class _BlockFunction(torch.autograd.Function):
    """A residual block that keeps its input before the doubling, the output of its first
    convolution, and no more.
    """

    @staticmethod
    def forward(ctx: Any, block: _Block, features: Tensor, *styles: Tensor | None) -> Tensor:
        first, second, *skip = block.parts(styles)
        middle = _convolve(block, first, features, block.source)
        out = _convolve(block, second, middle, None)
        out += (
            _convolve(block, skip[0], features, block.source) if skip else _doubled(block, features)
        )
        ctx.save_for_backward(features, middle, *styles)
        ctx.block = block
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, middle, *styles = ctx.saved_tensors
        block: _Block = ctx.block
        first, second, *skip = block.parts(styles)
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        channels = features.shape[1]
        # Only what is summed over the copies of a pixel, below, leaves the block as another tensor.
        scratch = gradient.new_empty(0) if block.source is None else block.scratch.total
        total = _rows_in(scratch, block.grid, channels)
        of_skip = []
        if skip:
            of_skip = [
                _backpropagate(block, skip[0], features, block.source, gradient, total, add=False)
            ]
        else:
            total.copy_(pixel_rows(gradient))
        between = _rows_in(block.scratch.middle, block.grid, middle.shape[1])
        of_second = _backpropagate(block, second, middle, None, gradient, between, add=False)
        of_first = _backpropagate(
            block,
            first,
            features,
            block.source,
            as_image(between, block.grid.label_map),
            total,
            add=True,
        )
        out = as_image(total, block.grid.label_map)
        if block.source is not None:
            out = F.avg_pool2d(out, 2, divisor_override=1)
        return None, out, of_first, of_second, *of_skip


def _read(part: _Part, rows: Tensor, source: Tensor | None, pixels: slice) -> Tensor:
    """The features at some pixels, doubled and with noise."""
    values = rows[pixels] if source is None else rows.index_select(0, source[pixels])
    if part.prepared.noise is None:
        return values
    return torch.addcmul(
        values, part.prepared.noise[pixels], part.folded.norm.noise_scale.to(values.dtype)
    )


def _convolve(block: _Block, part: _Part, features: Tensor, source: Tensor | None) -> Tensor:
    """The convolution of lrelu(x * scale[pixel] + shift[pixel])."""
    grid, folded, rows = block.grid, part.folded, pixel_rows(features)
    activated = _rows_in(block.scratch.rows, grid, rows.shape[1])
    scale, shift = part.tables(grid, rows.dtype)
    for pixels in chunks(activated):
        of_pixel, target = grid.pixel[pixels], activated[pixels]
        torch.index_select(shift, 0, of_pixel, out=target)
        target.addcmul_(_read(part, rows, source, pixels), scale.index_select(0, of_pixel))
        if folded.slope != 1:
            F.leaky_relu_(target, folded.slope)
    weight = folded.weight
    if weight.shape[2] == 1:  # for one image torch takes longer to convolve than to multiply
        return as_image(F.linear(activated, weight.flatten(1), folded.bias), grid.label_map)
    return F.conv2d(as_image(activated, grid.label_map), weight, folded.bias, padding=1)


def _backpropagate(
    block: _Block,
    part: _Part,
    features: Tensor,
    source: Tensor | None,
    gradient: Tensor,
    total: Tensor,
    add: bool,
) -> Tensor | None:
    """The gradient by the style table; the one by the (doubled) features is written, or added, to
    `total`.

    gradient: by the convolution's output. total: rows (B * h * w, C).
    """
    grid, folded, rows = block.grid, part.folded, pixel_rows(features)
    times_features = _rows_in(block.scratch.rows, grid, rows.shape[1])
    # From here on the gradient by the convolution's input; then, in place, by what the activation
    # is given.
    if folded.weight.shape[2] == 1:
        rows_gradient = pixel_rows(gradient) @ folded.weight.flatten(1)
    else:
        rows_gradient = pixel_rows(
            _input_gradient(gradient, as_image(times_features, grid.label_map), folded.weight)
        )
    scale, shift = part.tables(grid, rows.dtype)
    for pixels in chunks(times_features):
        of_pixel, target = grid.pixel[pixels], rows_gradient[pixels]
        values, scale_here = _read(part, rows, source, pixels), scale.index_select(0, of_pixel)
        if folded.slope != 1:
            given = shift.index_select(0, of_pixel).addcmul_(values, scale_here)
            torch.ops.aten.leaky_relu_backward.grad_input(
                target, given, folded.slope, False, grad_input=target
            )
        if part.style is not None:
            torch.mul(target, values, out=times_features[pixels])
        if add:
            total[pixels].addcmul_(target, scale_here)
        else:
            torch.mul(target, scale_here, out=total[pixels])
    style_gradient = None
    if part.style is not None:
        of_outer = torch.cat(
            [sum_by_neighbourhood(summed, grid) for summed in (times_features, rows_gradient)],
            dim=1,
        )
        style_gradient = torch.zeros_like(part.style)
        style_gradient.index_add_(0, grid.inner_of_outer, of_outer.to(style_gradient.dtype))
    return style_gradient


def _doubled(block: _Block, features: Tensor) -> Tensor:
    return (
        features
        if block.source is None
        else F.interpolate(features, scale_factor=2.0, mode="nearest")
    )


def _input_gradient(gradient: Tensor, like: Tensor, weight: Tensor) -> Tensor:
    """The gradient by its input, of the shape of `like`, of a 3x3 convolution; channels_last."""
    settings = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, False, False])
    of_input: Tensor = torch.ops.aten.convolution_backward(gradient, like, weight, None, *settings)[
        0
    ]
    return of_input.contiguous(memory_format=torch.channels_last)


def _rows_in(room: Tensor, grid: Grid, channels: int) -> Tensor:
    """Room for rows (B * h * w, C); new if that given has no numbers."""
    size = (len(grid.pixel), channels)
    return room[: size[0] * size[1]].view(size) if len(room) else room.new_empty(size)
