"""Convolutions of maps that are constant within a region, done once per distinct neighbourhood
instead of per pixel.

A label map has few distinct 3x3 neighbourhoods (some hundred at 256x256), and what a 3x3
convolution makes of a map that is constant within each region depends on that neighbourhood alone.
So it is computed as a table with a row for each, and pixels look theirs up: the same sums as the
convolution, exactly, at a fraction of the work. Two convolutions in a row need the distinct 5x5
neighbourhoods, and their table is made from the first one's in the same way.

Neighbourhoods count per image, so that a batch is one table and no loop; where labels alone matter,
images share theirs. What lies outside the image is zero, as a convolution's padding is.
"""

from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from cfexp.models.loading.packed import multiply

# How many numbers are modulated at a time on a CPU, so that what is in between stays in a core's
# second-level cache: measured on a Zen 4 with 1 MiB of it, where a pass over all pixels at once
# took four times as long.
CHUNK = 2**17


# Tables of how many rows have one size, so that oneDNN does not compile a product for each batch.
ROOM = 64


class Lookup(NamedTuple):
    """Which of K things each of n is, and the n sorted by that, for sums over each thing."""

    number: Tensor  # (n,) int64 in 0..K - 1
    order: Tensor  # (n,) int64 in 0..n - 1
    start: Tensor  # (K,) int64: where in `order` those of each thing start


class Taps(NamedTuple):
    """Distinct 3x3 neighbourhoods of rows 0..N - 1, and of each row those that have it."""

    rows: Tensor  # (P, 9) int64 in 0..N; N = outside
    # (9 * P,) int64 in 0..P - 1: the neighbourhoods sorted by the row and the tap that they have
    order: Tensor
    # (9 * M,) int64: where in `order` those of each row and tap start; M: N + 1, rounded up to ROOM
    start: Tensor


class Grid(NamedTuple):
    """The distinct neighbourhoods of B label maps of one size. Rows of tables are numbered through
    all B images.
    """

    label_map: Tensor  # (B, h, w) int64 in 0..R - 1
    # (N,) int64: image * R + label of every region that has a pixel, in ascending order
    present: Tensor
    inner: Taps  # the P distinct 3x3 neighbourhoods of rows of `present`
    labels: Taps  # the L distinct 3x3 neighbourhoods of labels, whichever the image
    outer: Taps  # the Q distinct 5x5 neighbourhoods of each image, as 3x3 ones of rows of `labels`
    middle: Lookup  # of each 5x5 neighbourhood the row of `inner` in its middle
    pixel: Lookup  # of each pixel (B * h * w) its 5x5 neighbourhood
    pixel_inner: Lookup  # and its 3x3 one


def find_grid(label_map: Tensor, num_regions: int) -> Grid:
    """The distinct neighbourhoods of label maps (B, h, w) int64 in 0..num_regions - 1."""
    batch = len(label_map)
    image = torch.arange(batch, device=label_map.device)[:, None, None]
    of_image = label_map + num_regions * image
    there = torch.bincount(of_image.flatten(), minlength=batch * num_regions) > 0
    present, row = there.nonzero()[:, 0], (there.cumsum(0) - 1)[of_image]
    inner, inner_of_pixel = _distinct(row, outside=len(present))
    outer, pixel = _distinct(inner_of_pixel.number.view_as(row), outside=len(inner))
    labels, label_of_inner = _distinct_labels(inner, present % num_regions, num_regions)
    return Grid(
        label_map=label_map,
        present=present,
        inner=find_taps(inner, len(present)),
        labels=find_taps(labels, num_regions),
        outer=find_taps(_and(label_of_inner, len(labels))[outer], len(labels)),
        middle=_look_up(outer[:, 4], len(inner)),
        pixel=pixel,
        pixel_inner=inner_of_pixel,
    )


def find_taps(rows: Tensor, count: int) -> Taps:
    """Neighbourhoods (P, 9) int64 in 0..count of so many rows; count = outside."""
    lookup = _look_up(_numbered(rows).flatten(), 9 * ROOM * (count // ROOM + 1))
    return Taps(rows, lookup.order // 9, lookup.start)


def _numbered(rows: Tensor) -> Tensor:
    """Rows (P, 9) each with its tap: 9 * row + tap."""
    return rows * 9 + torch.arange(9, device=rows.device)


def _and(numbers: Tensor, outside: int) -> Tensor:
    """Numbers (N,), and after them that of what lies outside."""
    return F.pad(numbers, (0, 1), value=outside)


def _distinct(ids: Tensor, outside: int) -> tuple[Tensor, Lookup]:
    """The distinct 3x3 neighbourhoods (P, 9) of ids (B, h, w) in 0..outside - 1, and each pixel's.

    First the distinct triples of a row are numbered, then the distinct triples of those: nine ids
    in one number would overflow. They ascend by the id in the middle, so that tables are read in
    their order.
    """
    height, width = ids.shape[1:]
    padded = F.pad(ids, (1, 1, 1, 1), value=outside)
    across = _in_one(padded[..., 1:-1], padded[..., :-2], padded[..., 2:])
    triple = _number(across.flatten()).number.view_as(across)
    lookup = _number(_in_one(triple[:, 1:-1], triple[:, :-2], triple[:, 2:]).flatten())
    pixel = lookup.order[lookup.start]  # one of each neighbourhood
    image, pixel = pixel // (height * width), pixel % (height * width)
    corner = (image * (height + 2) + pixel // width) * (width + 2) + pixel % width
    tap = torch.arange(9, device=ids.device)
    return padded.flatten()[corner[:, None] + tap // 3 * (width + 2) + tap % 3], lookup


def _distinct_labels(inner: Tensor, label: Tensor, outside: int) -> tuple[Tensor, Tensor]:
    """The distinct ones (L, 9) of neighbourhoods (P, 9) of rows, by each row's label (N,), and
    which of them each is, (P,).
    """
    rows = _and(label, outside)[inner]
    triple = _number(_in_one(*rows.view(-1, 3).unbind(1))).number
    lookup = _number(_in_one(*triple.view(-1, 3).unbind(1)))
    return rows[lookup.order[lookup.start]], lookup.number


def _in_one(first: Tensor, second: Tensor, third: Tensor) -> Tensor:
    # Ids are below the number of pixels of a batch plus two, so the third power fits for 2 million
    # of them.
    base = torch.stack([first.amax(), second.amax(), third.amax()]).amax() + 1
    return (first * base + second) * base + third


def _number(keys: Tensor) -> Lookup:
    """Number the distinct ones of keys (n,) from 0 on, in ascending order."""
    ascending, order = _sort(keys)
    first = F.pad(ascending[1:] != ascending[:-1], (1, 0), value=True)
    index = torch.empty_like(order)
    index[order] = first.cumsum(0) - 1
    return Lookup(index, order, first.nonzero()[:, 0])


def _look_up(index: Tensor, count: int) -> Lookup:
    """Of numbers (n,) in 0..count - 1."""
    sizes = torch.bincount(index, minlength=count)
    return Lookup(index, _sort(index)[1], sizes.cumsum(0) - sizes)


def _sort(keys: Tensor) -> tuple[Tensor, Tensor]:
    """Keys (n,) from 0 on in ascending order, equal ones in theirs, and the place of each.

    On a CPU by NumPy, key and place in one number where they fit: three times as fast as torch.
    """
    bits = len(keys).bit_length()
    if keys.is_cpu and int(keys.amax()).bit_length() + bits < 64:
        packed = (keys << bits) | torch.arange(len(keys))
        ascending = torch.from_numpy(np.sort(packed.numpy()))
        return ascending >> bits, ascending & ((1 << bits) - 1)
    return torch.sort(keys, stable=True)


def grid_of(grid: Grid, rows: Tensor, num_regions: int) -> tuple[Grid, Tensor]:
    """The grid of some of its label maps, rows (N,) int64 of which none is twice, and which of its
    5x5 neighbourhoods they have, (Q',) int64: what was computed for each of those holds still.
    """
    per_image = grid.label_map[0].numel()
    pixel = grid.pixel.number.view(-1, per_image)[rows].flatten()
    outer, number = _kept(pixel, len(grid.outer.rows))
    pixel = number[pixel]
    outer_rows, middle = grid.outer.rows[outer], grid.middle.number[outer]
    labels, number = _kept(outer_rows[:, 4], len(grid.labels.rows))
    outer_rows = number[outer_rows]
    inner, number = _kept(middle, len(grid.inner.rows))
    middle = number[middle]
    present, number = _kept(grid.inner.rows[inner, 4], len(grid.present))
    place = torch.full((len(grid.label_map),), -1, device=rows.device)
    place[rows] = torch.arange(len(rows), device=rows.device)
    regions = grid.present[present]
    narrow = Grid(
        label_map=grid.label_map[rows],
        present=place[regions // num_regions] * num_regions + regions % num_regions,
        inner=find_taps(number[grid.inner.rows[inner]], len(present)),
        labels=find_taps(grid.labels.rows[labels], num_regions),
        outer=find_taps(outer_rows, len(labels)),
        middle=_look_up(middle, len(inner)),
        pixel=_look_up(pixel, len(outer)),
        pixel_inner=_look_up(middle[pixel], len(inner)),
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
    """A kernel (out, in, 3, 3) as the matrix (in, 9 * out) by which `convolve_rows` multiplies.

    It transposes a matrix: torch copies one several times faster than any other permutation.
    """
    return weight.flatten(1).T.contiguous().view(weight.shape[1], -1)


def convolve_rows(values: Tensor, kernel: Tensor, taps: Taps) -> Tensor:
    """A 3x3 convolution of a map that takes the value of one row at each pixel: (P, out), without a
    gradient.

    values: (N, in), the rows. kernel: (in, 9 * out), see `kernel_rows`. taps: the rows around each
    pixel that is to be computed; outside is zero.
    """
    return sum_taps(multiply(with_room(values, taps), kernel), taps)


def with_room(values: Tensor, taps: Taps) -> Tensor:
    """Rows (N, in) and zeros after them, (M, in): what is outside, and up to `ROOM`."""
    return F.pad(values, (0, 0, 0, len(taps.start) // 9 - len(values)))


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
        ctx.taps, ctx.count = taps, len(products)
        return sum_taps(products, taps)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return spread_taps(gradient, ctx.taps)[: ctx.count], None


def sum_taps(products: Tensor, taps: Taps) -> Tensor:
    """(P, out), see `sum_rows`."""
    of_tap = products.reshape(9 * len(products), -1)
    return F.embedding_bag(_numbered(taps.rows), of_tap, mode="sum")


def spread_taps(gradient: Tensor, taps: Taps) -> Tensor:
    """(M, 9 * out), the gradient by the products of a gradient (P, out) by their sums."""
    if gradient.is_cuda:  # see `sum_by`
        of_tap = gradient.new_zeros(len(taps.start), gradient.shape[1])
        of_tap.index_add_(0, _numbered(taps.rows).flatten(), gradient.repeat_interleave(9, 0))
    else:
        of_tap = F.embedding_bag(taps.order, gradient.contiguous(), taps.start, mode="sum")
    return of_tap.view(-1, 9 * gradient.shape[1])


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


def sum_by(rows: Tensor, lookup: Lookup) -> Tensor:
    """(K, C): the sum over each thing of rows (n, C)."""
    if rows.is_cuda:  # there a bag is summed by one warp, and a large region's inside is one bag
        return rows.new_zeros(len(lookup.start), rows.shape[1]).index_add_(0, lookup.number, rows)
    return F.embedding_bag(lookup.order, rows.contiguous(), lookup.start, mode="sum")


def modulate(image: Tensor, table: Tensor, grid: Grid, slope: float = 1.0) -> Tensor:
    """LeakyReLU of modulated images: image * scale[pixel] + shift[pixel], of images (B,
    C, h, w) and a table (Q, 2 * C), scale first.

    slope: of the LeakyReLU below zero, above 0; 1 is none.
    """
    modulated: Tensor = _Modulate.apply(image, table, grid, slope)  # type: ignore[no-untyped-call]  # torch's own
    return modulated


class _Modulate(torch.autograd.Function):
    """Looks the table up again in the backward pass rather than keep what it looked up, and reads
    from the sign of what it gave on which side of zero LeakyReLU was.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, table: Tensor, grid: Grid, slope: float) -> Tensor:
        rows = pixel_rows(image)
        modulated = torch.empty_like(rows, dtype=table.dtype)
        for pixels in chunks(rows):
            scale, shift = table.index_select(0, grid.pixel.number[pixels]).chunk(2, dim=1)
            target = torch.addcmul(shift, rows[pixels], scale, out=modulated[pixels])
            if slope != 1:
                F.leaky_relu_(target, slope)
        out = as_image(modulated, grid.label_map)
        ctx.save_for_backward(image, table, *([out] if slope != 1 else []))
        ctx.grid, ctx.slope = grid, slope
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        image, table, *out = ctx.saved_tensors
        grid: Grid = ctx.grid
        rows, of_image = pixel_rows(gradient), pixel_rows(image)
        channels = rows.shape[1]
        by_image = torch.empty_like(of_image) if ctx.needs_input_grad[0] else None
        by_table = rows.new_empty(len(rows), 2 * channels) if ctx.needs_input_grad[1] else None
        for pixels in chunks(rows):
            given = rows[pixels]
            if out:
                given = torch.ops.aten.leaky_relu_backward(
                    given, pixel_rows(out[0])[pixels], ctx.slope, True
                )
            if by_table is not None:
                by_scale, by_shift = by_table[pixels].chunk(2, dim=1)
                torch.mul(given, of_image[pixels], out=by_scale)
                by_shift.copy_(given)
            if by_image is not None:
                scale = table[:, :channels].index_select(0, grid.pixel.number[pixels])
                torch.mul(given, scale, out=by_image[pixels])
        return (
            None if by_image is None else as_image(by_image, grid.label_map),
            None if by_table is None else sum_by(by_table, grid.pixel),
            None,
            None,
        )
