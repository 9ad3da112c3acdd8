"""Scale and shift of SEAN's normalisation for each distinct neighbourhood, in one step forward and
one backward: of a small network, many small steps cost more than what they compute.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfexp.models.loading.packed import multiply
from cfexp.models.neighbourhoods import (
    Grid,
    Taps,
    chunks,
    convolve_rows,
    kernel_rows,
    spread_taps,
    sum_by,
    sum_taps,
    with_room,
)


def scale_and_shift(
    grid: Grid,
    shared: nn.Conv2d,
    spade: nn.Conv2d,
    style: nn.Conv2d | None = None,
    blending: Tensor | None = None,
    mapped: Tensor | None = None,
) -> Tensor:
    """1 + gamma, then beta, (Q, 2 * C), of each distinct 5x5 neighbourhood; see `RegionNorm`.

    shared, spade: SPADE's convolutions of the one-hot label map. style: that of the mapped codes
    (B, R, D); without codes only its bias counts. blending: (2,), before the sigmoid, how much of
    the style enters gamma and beta. Both None for SPADE alone.
    """
    of_style = (None, None) if style is None else (style.weight, style.bias)
    parameters = (shared.weight, shared.bias, spade.weight, spade.bias, *of_style, blending)
    table: Tensor = _Table.apply(grid, *parameters, mapped)  # type: ignore[no-untyped-call]  # torch's own
    return table


class _Table(torch.autograd.Function):
    """The blending is folded into the kernels, which are smaller than what they give. Of that only
    SPADE's hidden layer is kept.
    """

    @staticmethod
    def forward(
        ctx: Any,
        grid: Grid,
        shared: Tensor,
        shared_bias: Tensor,
        spade: Tensor,
        spade_bias: Tensor,
        style: Tensor | None,
        style_bias: Tensor | None,
        blending: Tensor | None,
        mapped: Tensor | None,
    ) -> Tensor:
        share = rest = rows = style_kernel = None
        added = spade_bias.clone()
        if blending is not None and style_bias is not None:
            share = blending.sigmoid().repeat_interleave(len(spade) // 2)
            added, rest = torch.lerp(spade_bias, style_bias, share), 1 - share
        added[: len(spade) // 2] += 1
        of_label = F.pad(kernel_rows(shared), (0, 0, 0, 1))  # outside is zero
        hidden = F.relu_(sum_taps(of_label, grid.labels).add_(shared_bias))
        kernel = _blended(spade, rest)
        table = convolve_rows(hidden, kernel, grid.outer)
        if mapped is None or style is None:
            table += added
        else:
            rows, style_kernel = mapped.flatten(0, 1)[grid.present], _blended(style, share)
            of_middle = convolve_rows(rows, style_kernel, grid.inner).add_(added)
            for part in chunks(table):
                table[part] += of_middle.index_select(0, grid.middle.number[part])
        ctx.grid, ctx.codes = grid, None if mapped is None else mapped.shape
        ctx.save_for_backward(
            *(shared, hidden, kernel, spade, spade_bias),
            *(rows, style_kernel, style, style_bias, share, rest),
        )
        return table

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        grid: Grid = ctx.grid
        shared, hidden, kernel, spade, spade_bias, *of_style = ctx.saved_tensors
        rows, style_kernel, style, style_bias, share, rest = of_style
        by: dict[str, Tensor | None] = dict.fromkeys(("style", "style_bias", "blending", "mapped"))
        by_added = None
        by_share: Tensor | int = 0
        if rows is not None:
            by_middle = sum_by(gradient, grid.middle)
            by_added = by_middle.sum(0)
            by_rows, by_kernel = _backpropagate(by_middle, rows, style_kernel, grid.inner)
            by_mapped = by_rows.new_zeros(ctx.codes)
            by_mapped.flatten(0, 1)[grid.present] = by_rows
            by["mapped"] = by_mapped
            by["style"], by_share = _unblended(by_kernel, style, share)
        if not any(ctx.needs_input_grad[1:8]):  # a frozen network: by the codes alone
            return (*[None] * 8, by["mapped"])

        by_added = gradient.sum(0) if by_added is None else by_added
        by_hidden, by_kernel = _backpropagate(gradient, hidden, kernel, grid.outer)
        by["spade"], by_rest = _unblended(by_kernel, spade, rest)
        by["spade_bias"] = by_added
        if share is not None:
            by_share = by_share - by_rest + by_added * (style_bias - spade_bias)
            by["blending"] = (by_share * share * rest).view(2, -1).sum(1)
            by["spade_bias"], by["style_bias"] = by_added * rest, by_added * share
        by_hidden = torch.where(hidden > 0, by_hidden, 0)
        by_label = spread_taps(by_hidden, grid.labels)[: shared.shape[1]]
        return (
            None,
            _weight(by_label, shared),
            by_hidden.sum(0),
            *(by[name] for name in ("spade", "spade_bias", "style", "style_bias", "blending")),
            by["mapped"],
        )


def _blended(weight: Tensor, share: Tensor | None) -> Tensor:
    """`kernel_rows` of a weight (out, in, 3, 3) times a share of each output (out,)."""
    return kernel_rows(weight if share is None else weight * share[:, None, None, None])


def _unblended(
    by_kernel: Tensor, weight: Tensor, share: Tensor | None
) -> tuple[Tensor, Tensor | int]:
    """The gradients by the weight and by its share."""
    by_weight = _weight(by_kernel, weight)
    if share is None:
        return by_weight, 0
    by_share = torch.linalg.vecdot(by_weight.flatten(1), weight.flatten(1))
    return by_weight.mul_(share[:, None, None, None]), by_share


def _weight(by_kernel: Tensor, weight: Tensor) -> Tensor:
    """The inverse of `kernel_rows`, of the shape of a weight."""
    return by_kernel.reshape(-1, len(weight)).T.contiguous().view(weight.shape)


def _backpropagate(
    gradient: Tensor, values: Tensor, kernel: Tensor, taps: Taps
) -> tuple[Tensor, Tensor]:
    """The gradients by the values and by the kernel of `convolve_rows`."""
    by_product = spread_taps(gradient, taps).to(kernel.dtype)
    by_values = multiply(by_product, kernel.T)[: len(values)]
    return by_values, multiply(with_room(values, taps).T.to(kernel.dtype), by_product)
