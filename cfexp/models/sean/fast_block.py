"""A residual block of SEAN in a step of a search: forward and backward with what was folded and
prepared before.

For the backward pass only the block's input and the output of its first convolution are kept;
scale, shift and activation are looked up and computed again.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cfexp.models.loading.packed import PackedMatrix
from cfexp.models.neighbourhoods import (
    Grid,
    as_image,
    chunks,
    pixel_rows,
    sum_by,
    sum_rows,
)
from cfexp.models.sean.layers import RegionNorm


class FoldedNorm(NamedTuple):
    """A normalisation, the LeakyReLU behind it (slope 1 = none) and the convolution behind that,
    all of it constant.
    """

    norm: RegionNorm  # for its part that depends on the label map
    scale: Tensor  # (C,): batch norm in evaluation mode is x * scale + shift
    shift: Tensor  # (C,)
    # (D, 9 * 2 * C), the style convolution with the blending and batch norm in it
    kernel: PackedMatrix | None
    slope: float
    weight: Tensor  # (out, C, k, k), with the spectral norm in it
    bias: Tensor | None  # (out,)


class PreparedNorm(NamedTuple):
    """What a normalisation is for given label maps."""

    # (2, Q, C): scale and shift of each distinct neighbourhood, as far as label maps decide them
    static: Tensor
    noise: Tensor | None  # (B * h * w, 1)


class Scratch(NamedTuple):
    """Room that is written over and over: fresh memory costs a CPU more than what is then written
    there.
    """

    rows: Tensor  # for the input of any convolution
    total: Tensor  # for the gradient by the input of any block
    middle: Tensor  # for the gradient by the output of any block's first convolution


def style_table(folded: FoldedNorm, by_region: Tensor, grid: Grid) -> Tensor | None:
    """(P, 2 * C): what the codes (R, B, D) add to scale and shift of each distinct 3x3
    neighbourhood.
    """
    if folded.kernel is None:
        return None
    norm = folded.norm
    weight, bias = norm.mapping()
    mapped = torch.baddbmm(bias[:, None], by_region, weight.transpose(1, 2))
    rows = F.relu(mapped).transpose(0, 1).flatten(0, 1).index_select(0, grid.present)
    rows = F.pad(rows, (0, 0, 0, 1))  # outside the image is zero
    return sum_rows(folded.kernel(rows), grid.inner)


class _Part(NamedTuple):
    """A normalisation, activation and convolution in the middle of a step."""

    folded: FoldedNorm
    prepared: PreparedNorm
    style: Tensor | None  # (P, 2 * C)

    def tables(self, grid: Grid, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        """Scale and shift of each distinct neighbourhood, (Q, C) each."""
        scale, shift = self.prepared.static
        if self.style is not None:
            gamma, beta = self.style.chunk(2, dim=1)
            scale = gamma.index_select(0, grid.middle.number).add_(scale)
            shift = beta.index_select(0, grid.middle.number).add_(shift)
        return scale.to(dtype), shift.to(dtype)


class Block(NamedTuple):
    """What a residual block is besides its features and style tables."""

    folded: Sequence[FoldedNorm]
    prepared: Sequence[PreparedNorm]
    grid: Grid
    # (B * h * w,) the pixel before the doubling that each pixel is a copy of; None: no doubling
    source: Tensor | None
    scratch: Scratch

    def parts(self, styles: Sequence[Tensor | None]) -> list[_Part]:
        """The first, the second and, where the block has one, the skip, each with its table."""
        return [_Part(*three) for three in zip(self.folded, self.prepared, styles, strict=True)]

    def __call__(self, features: Tensor, styles: Sequence[Tensor | None]) -> Tensor:
        """(B, C, h, w) to (B, out, h, w), or twice that size; differentiable by both arguments."""
        out: Tensor = _Step.apply(self, features, *styles)  # type: ignore[no-untyped-call]  # torch's own
        return out


class _Step(torch.autograd.Function):
    """A residual block that keeps its input before the doubling, the output of its first
    convolution, and no more.
    """

    @staticmethod
    def forward(ctx: Any, block: Block, features: Tensor, *styles: Tensor | None) -> Tensor:
        first, second, *skip = block.parts(styles)
        middle = _convolve(block, first, features, block.source)
        out = _convolve(block, second, middle, None)
        if skip:
            out += _convolve(block, skip[0], features, block.source)
        else:
            out += _doubled(block, features)
        ctx.save_for_backward(features, middle, *styles)
        ctx.block = block
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        features, middle, *styles = ctx.saved_tensors
        block: Block = ctx.block
        first, second, *skip = block.parts(styles)
        gradient = gradient.contiguous(memory_format=torch.channels_last)
        channels = features.shape[1]
        # Only what is summed over the copies of a pixel, below, leaves the block as another tensor.
        scratch = gradient.new_empty(0) if block.source is None else block.scratch.total
        total = _rows_in(scratch, block.grid, channels)
        of_skip = []
        source = block.source
        if skip:
            of_skip += [
                _backpropagate(block, skip[0], features, source, gradient, total, add=False)
            ]
        else:
            total.copy_(pixel_rows(gradient))
        between = _rows_in(block.scratch.middle, block.grid, middle.shape[1])
        of_second = _backpropagate(block, second, middle, None, gradient, between, add=False)
        of_middle = as_image(between, block.grid.label_map)
        of_first = _backpropagate(block, first, features, source, of_middle, total, add=True)
        out = as_image(total, block.grid.label_map)
        if source is not None:
            out = F.avg_pool2d(out, 2, divisor_override=1)
        return None, out, of_first, of_second, *of_skip


def _read(part: _Part, rows: Tensor, source: Tensor | None, pixels: slice) -> Tensor:
    """The features at some pixels, doubled and with noise."""
    values = rows[pixels] if source is None else rows.index_select(0, source[pixels])
    if part.prepared.noise is None:
        return values
    noise, scale = part.prepared.noise[pixels], part.folded.norm.noise_scale.to(values.dtype)
    if source is None:
        return torch.addcmul(values, noise, scale)
    return values.addcmul_(noise, scale)


def _convolve(block: Block, part: _Part, features: Tensor, source: Tensor | None) -> Tensor:
    """The convolution of lrelu(x * scale[pixel] + shift[pixel])."""
    grid, folded, rows = block.grid, part.folded, pixel_rows(features)
    activated = _rows_in(block.scratch.rows, grid, rows.shape[1])
    scale, shift = part.tables(grid, rows.dtype)
    for pixels in chunks(activated):
        of_pixel, target = grid.pixel.number[pixels], activated[pixels]
        torch.index_select(shift, 0, of_pixel, out=target)
        target.addcmul_(_read(part, rows, source, pixels), scale.index_select(0, of_pixel))
        if folded.slope != 1:
            F.leaky_relu_(target, folded.slope)
    weight = folded.weight
    if weight.shape[2] == 1:  # for one image torch takes longer to convolve than to multiply
        return as_image(F.linear(activated, weight.flatten(1), folded.bias), grid.label_map)
    return F.conv2d(as_image(activated, grid.label_map), weight, folded.bias, padding=1)


def _backpropagate(
    block: Block,
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
        of_pixel, target = grid.pixel.number[pixels], rows_gradient[pixels]
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
    if part.style is None:
        return None
    by_style = [sum_by(summed, grid.pixel_inner) for summed in (times_features, rows_gradient)]
    return torch.cat(by_style, dim=1).to(part.style.dtype)


def _doubled(block: Block, features: Tensor) -> Tensor:
    if block.source is None:
        return features
    return F.interpolate(features, scale_factor=2.0, mode="nearest")


def _input_gradient(gradient: Tensor, like: Tensor, weight: Tensor) -> Tensor:
    """The gradient by its input, of the shape of `like`, of a 3x3 convolution; channels_last."""
    settings = ([1, 1], [1, 1], [1, 1], False, [0, 0], 1, [True, False, False])
    of_input: Tensor
    of_input, *_ = torch.ops.aten.convolution_backward(gradient, like, weight, None, *settings)
    return of_input.contiguous(memory_format=torch.channels_last)


def _rows_in(room: Tensor, grid: Grid, channels: int) -> Tensor:
    """Room for rows (B * h * w, C); new if that given has no numbers."""
    size = (len(grid.pixel.number), channels)
    return room[: size[0] * size[1]].view(size) if len(room) else room.new_empty(size)
