"""Convolutions of maps that are constant within a region, done once per distinct neighbourhood
instead of per pixel.

A label map has few distinct 3x3 neighbourhoods (some hundred at 256x256), and what a 3x3
convolution makes of a map that is constant within each region depends on that neighbourhood alone.
So it is computed as a table with a row for each, and pixels look theirs up: the same sums as the
convolution, exactly, at a fraction of the work. Two convolutions in a row need the distinct 5x5
neighbourhoods, and their table is made from the first one's in the same way.

Neighbourhoods count per image, so that a batch is one table and no loop. What lies outside the
image is zero, as a convolution's padding is.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

# How many numbers are modulated at a time on a CPU, so that what is in between stays in a core's
# second-level cache: measured on a Zen 4 with 1 MiB of it, where a pass over all pixels at once
# took four times as long.
CHUNK = 2**17


class Taps(NamedTuple):
    """Distinct 3x3 neighbourhoods of rows 0..N - 1, and of each row those that have it."""

    rows: Tensor  # (P, 9) int64 in 0..N; N = outside
    # (9 * P,) int64 in 0..P - 1: the neighbourhoods sorted by the row and the tap that they have
    order: Tensor
    start: Tensor  # (9 * (N + 1),) int64: where in `order` those of each row and tap start


class Grid(NamedTuple):
    """The distinct neighbourhoods of B label maps of one size. Rows of tables are numbered through
    all B images.
    """

    label_map: Tensor  # (B, h, w) int64 in 0..R - 1
    # (N,) int64: image * R + label of every region that has a pixel, in ascending order
    present: Tensor
    inner: Taps  # the P distinct 3x3 neighbourhoods of rows of `present`
    outer: Taps  # the Q distinct 5x5 neighbourhoods, as 3x3 ones of rows of `inner`
    # (Q,) int64 in 0..P - 1, ascending: the 3x3 neighbourhood in the middle of each 5x5 one
    inner_of_outer: Tensor
    pixel: Tensor  # (B * h * w,) int64 in 0..Q - 1: the 5x5 neighbourhood of each pixel
    order: Tensor  # (B * h * w,) int64: the pixels sorted by `pixel`
    start: Tensor  # (Q,) int64: where in `order` the pixels of each 5x5 neighbourhood start
    inner_start: Tensor  # (P,) int64: where those of each 3x3 one start


def find_grid(label_map: Tensor, num_regions: int) -> Grid:
    """The distinct neighbourhoods of label maps (B, h, w) int64 in 0..num_regions - 1."""
    batch = len(label_map)
    image = torch.arange(batch, device=label_map.device)[:, None, None]
    present, row = torch.unique(label_map + num_regions * image, return_inverse=True)
    inner, inner_id = _distinct(row, outside=len(present))
    outer, outer_id = _distinct(inner_id, outside=len(inner))
    by_inner = outer[:, 4].argsort(stable=True)
    outer, pixel = outer[by_inner], by_inner.argsort()[outer_id.flatten()]
    taps = find_taps(inner, len(present)), find_taps(outer, len(inner))
    starts = _starts(pixel, outer[:, 4], len(inner))
    return Grid(label_map, present, *taps, outer[:, 4], pixel, pixel.argsort(stable=True), *starts)


def _starts(pixel: Tensor, inner_of_outer: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """`start` and `inner_start` of a `Grid` with so many 3x3 neighbourhoods."""
    sizes = torch.bincount(pixel, minlength=len(inner_of_outer))
    ends = sizes.cumsum(0)
    last = torch.bincount(inner_of_outer, minlength=count).cumsum(0) - 1
    inner_ends = ends[last]
    return ends - sizes, F.pad(inner_ends[:-1], (1, 0))


def find_taps(rows: Tensor, count: int) -> Taps:
    """Neighbourhoods (P, 9) int64 in 0..count of so many rows; count = outside."""
    of_tap = _numbered(rows).flatten()
    sizes = torch.bincount(of_tap, minlength=9 * (count + 1))
    return Taps(rows, of_tap.argsort(stable=True) // 9, sizes.cumsum(0) - sizes)


def _numbered(rows: Tensor) -> Tensor:
    """Rows (P, 9) each with its tap: 9 * row + tap."""
    return rows * 9 + torch.arange(9, device=rows.device)


def _distinct(ids: Tensor, outside: int) -> tuple[Tensor, Tensor]:
    """The distinct 3x3 neighbourhoods (P, 9) of ids (B, h, w) in 0..outside - 1, and each pixel's
    row (B, h, w).
    """
    padded = F.pad(ids, (1, 1, 1, 1), value=outside)
    height, width = ids.shape[1:]
    # First the distinct triples of a row, then the distinct triples of those: nine ids in one
    # number would overflow.
    _, triple = torch.unique(
        _in_one(padded[..., :-2], padded[..., 1:-1], padded[..., 2:]), return_inverse=True
    )
    keys = _in_one(triple[:, :-2], triple[:, 1:-1], triple[:, 2:])
    distinct, row = torch.unique(keys, return_inverse=True)
    taps = torch.stack(
        [padded[:, y : y + height, x : x + width].flatten() for y in range(3) for x in range(3)],
        dim=1,
    )
    neighbourhoods = taps.new_empty(len(distinct), 9)
    # whichever pixel comes last, its neighbourhood is the same
    neighbourhoods[row.flatten()] = taps
    return neighbourhoods, row


def _in_one(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    # Ids are below the number of pixels of a batch plus two, so the third power fits for 2 million
    # of them.
    base = torch.stack([first.amax(), second.amax(), third.amax()]).amax() + 1
    return (first * base + second) * base + third


def grid_of(grid: Grid, rows: Tensor, num_regions: int) -> tuple[Grid, Tensor]:
    """The grid of some of its label maps, rows (N,) int64 of which none is twice, and which of its
    5x5 neighbourhoods they have, (Q',) int64: what was computed for each of those holds still.
    """
    per_image = grid.label_map[0].numel()
    pixel = grid.pixel.view(-1, per_image)[rows].flatten()
    outer, number = _kept(pixel, len(grid.outer.rows))
    pixel = number[pixel]
    inner, number = _kept(grid.inner_of_outer[outer], len(grid.inner.rows))
    outer_rows = number[grid.outer.rows[outer]]
    present, number = _kept(grid.inner.rows[inner, 4], len(grid.present))
    place = torch.full((len(grid.label_map),), -1, device=rows.device)
    place[rows] = torch.arange(len(rows), device=rows.device)
    regions = grid.present[present]
    image = place[grid.order // per_image]
    start, inner_start = _starts(pixel, outer_rows[:, 4], len(inner))
    narrow = Grid(
        label_map=grid.label_map[rows],
        present=place[regions // num_regions] * num_regions + regions % num_regions,
        inner=find_taps(number[grid.inner.rows[inner]], len(present)),
        outer=find_taps(outer_rows, len(inner)),
        inner_of_outer=outer_rows[:, 4],
        pixel=pixel,
        order=(image * per_image + grid.order % per_image)[image >= 0],
        start=start,
        inner_start=inner_start,
    )
    return narrow, outer


def _kept(used: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Which of 0..count - 1 are used, in ascending order, and (count + 1,) the number of each among
    these; that of `count`, which stands for outside, comes after all.
    """
    flags = torch.zeros(count, dtype=torch.bool, device=used.device)
    flags[used] = True
    number = flags.cumsum(0) - 1
    return flags.nonzero()[:, 0], torch.cat([number, number[-1:] + 1])


def kernel_rows(weight: Tensor) -> Tensor:
    """A kernel (out, in, 3, 3) as the matrix (in, 9 * out) by which `convolve_rows` multiplies."""
    rows: Tensor = _KernelRows.apply(weight)  # type: ignore[no-untyped-call]  # torch's own
    return rows


class _KernelRows(torch.autograd.Function):
    """Transposes matrices: torch copies one several times faster than any other permutation, there
    and back.
    """

    @staticmethod
    def forward(ctx: Any, weight: Tensor) -> Tensor:
        ctx.shape = weight.shape
        return weight.flatten(1).T.contiguous().view(weight.shape[1], -1)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient.reshape(-1, ctx.shape[0]).T.contiguous().view(ctx.shape)


def convolve_rows(values: Tensor, kernel: Tensor, taps: Taps) -> Tensor:
    """A 3x3 convolution, without bias, of a map that takes the value of one row at each pixel: (P,
    out).

    values: (N, in), the rows. kernel: (in, 9 * out), see `kernel_rows`. taps: the rows around each
    pixel that is to be computed; outside is zero.
    """
    return sum_rows(F.pad(values, (0, 0, 0, 1)) @ kernel, taps)


def sum_rows(products: Tensor, taps: Taps) -> Tensor:
    """(P, out): for each of P neighbourhoods the sum of what its rows contribute, each at its tap.

    products: (N + 1, 9 * out), what each row contributes at each tap; the last one is outside.
    """
    summed: Tensor = _SumRows.apply(products, taps)  # type: ignore[no-untyped-call]  # torch's own
    return summed


class _SumRows(torch.autograd.Function):
    """Sums both ways by the order that was found once: torch sorts anew in every backward pass."""

    @staticmethod
    def forward(ctx: Any, products: Tensor, taps: Taps) -> Tensor:
        ctx.taps, ctx.shape = taps, products.shape
        of_tap = products.reshape(9 * len(products), -1)
        return F.embedding_bag(_numbered(taps.rows), of_tap, mode="sum")

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        taps: Taps = ctx.taps
        if gradient.is_cuda:  # see `sum_by_neighbourhood`
            of_tap = gradient.new_zeros(len(taps.start), gradient.shape[1])
            of_tap.index_add_(0, _numbered(taps.rows).flatten(), gradient.repeat_interleave(9, 0))
        else:
            of_tap = F.embedding_bag(taps.order, gradient.contiguous(), taps.start, mode="sum")
        return of_tap.view(ctx.shape), None


def pixel_rows(image: Tensor) -> Tensor:
    """(B, C, h, w) as (B * h * w, C); no copy where the memory format is channels_last."""
    return image.permute(0, 2, 3, 1).reshape(-1, image.shape[1])


def as_image(rows: Tensor, like: Tensor) -> Tensor:
    """The inverse of `pixel_rows`: (B, any number of channels, h, w), channels_last; like: (B, h,
    w).
    """
    return rows.view(*like.shape, -1).permute(0, 3, 1, 2)


def chunks(rows: Tensor) -> list[slice]:
    """Parts of the pixels, of rows (B * h * w, C), to work on one after another; all at once on a
    GPU.
    """
    size = len(rows) if rows.is_cuda else max(1, CHUNK // rows.shape[1])
    return [slice(first, first + size) for first in range(0, len(rows), size)]


def sum_by_neighbourhood(rows: Tensor, grid: Grid) -> Tensor:
    """(Q, C): the sum of rows (B * h * w, C) over the pixels of each distinct 5x5 neighbourhood."""
    # On a GPU a bag is summed by one warp, and the inside of a large region is one bag.
    if rows.is_cuda:
        return rows.new_zeros(len(grid.start), rows.shape[1]).index_add_(0, grid.pixel, rows)
    return F.embedding_bag(grid.order, rows, grid.start, mode="sum")


def sum_by_inner(rows: Tensor, grid: Grid) -> Tensor:
    """(P, C): the same over the pixels of each distinct 3x3 neighbourhood."""
    if rows.is_cuda:
        pixel = grid.inner_of_outer[grid.pixel]
        return rows.new_zeros(len(grid.inner_start), rows.shape[1]).index_add_(0, pixel, rows)
    return F.embedding_bag(grid.order, rows, grid.inner_start, mode="sum")


def modulate(image: Tensor, scale: Tensor, shift: Tensor, grid: Grid) -> Tensor:
    """Modulated images: image * scale[grid.pixel] + shift[grid.pixel], of images (B, C, h, w) and
    tables (Q, C).
    """
    modulated: Tensor = _Modulate.apply(image, scale, shift, grid)  # type: ignore[no-untyped-call]  # torch's own
    return modulated


class _Modulate(torch.autograd.Function):
    """Looks the tables up again in the backward pass rather than keep what it looked up."""

    @staticmethod
    def forward(ctx: Any, image: Tensor, scale: Tensor, shift: Tensor, grid: Grid) -> Tensor:
        ctx.save_for_backward(image, scale)
        ctx.grid = grid
        rows = pixel_rows(image)
        modulated = torch.empty_like(rows, dtype=shift.dtype)
        for pixels in chunks(rows):
            of_pixel, target = grid.pixel[pixels], modulated[pixels]
            torch.index_select(shift, 0, of_pixel, out=target)
            target.addcmul_(rows[pixels], scale.index_select(0, of_pixel))
        return as_image(modulated, grid.label_map)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        image, scale = ctx.saved_tensors
        grid: Grid = ctx.grid
        rows, of_image = pixel_rows(gradient), pixel_rows(image)
        by_image = torch.empty_like(of_image) if ctx.needs_input_grad[0] else None
        by_scale = torch.empty_like(rows) if ctx.needs_input_grad[1] else None
        for pixels in chunks(rows):
            if by_image is not None:
                torch.mul(
                    rows[pixels], scale.index_select(0, grid.pixel[pixels]), out=by_image[pixels]
                )
            if by_scale is not None:
                torch.mul(rows[pixels], of_image[pixels], out=by_scale[pixels])
        return (
            None if by_image is None else as_image(by_image, grid.label_map),
            None if by_scale is None else sum_by_neighbourhood(by_scale, grid),
            sum_by_neighbourhood(rows, grid) if ctx.needs_input_grad[2] else None,
            None,
        )
