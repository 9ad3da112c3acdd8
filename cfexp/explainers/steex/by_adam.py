"""The search by Adam: Algorithm 1 of STEEX (Jacob et al. 2022)."""

import torch
from torch import Tensor

from cfexp.explainers.adam import adam
from cfexp.explainers.steex.objective import ASK_EVERY, Objective, StyleSearch, first_of


def by_adam(
    objective: Objective,
    codes: Tensor,
    num_steps: int,
    learning_rate: float,
    stop_margin: float | None,
) -> StyleSearch:
    """`num_steps` steps from codes (B, R, D); see `search_style_codes`.

    stop_margin: where the decision is the counter class by so many logits, a query stays where it
    is; None: never.
    """
    batch = len(codes)
    rows = torch.arange(batch, device=codes.device)  # of the queries that are still computed
    some = objective
    active = torch.ones(batch, 1, 1, dtype=torch.bool, device=codes.device)
    moments = torch.zeros_like(codes), torch.zeros_like(codes)
    taken = torch.zeros(batch, dtype=torch.int64, device=codes.device)
    seen = [codes.new_zeros(batch)] * 3  # decision, proximity, margin
    curves: list[tuple[Tensor, ...]] = []
    moving = codes
    for step in range(num_steps):
        if stop_margin is not None and objective.narrowed is not None and step % ASK_EVERY == 0:
            going = active[:, 0, 0].nonzero()[:, 0]
            if len(going) < len(rows):
                codes = codes.index_copy(0, rows, moving)
                rows, active = rows[going], active[going]
                moving, moments = moving[going], (moments[0][going], moments[1][going])
                if len(rows) == 0:
                    curves += [tuple(seen)] * (num_steps - step)
                    break
                some = objective.of(rows)
        value = some(moving)
        seen = [
            now if len(rows) == batch else before.index_copy(0, rows, now)
            for before, now in zip(seen, value[:3], strict=True)
        ]
        curves.append(tuple(seen))
        taken[rows] += active[:, 0, 0]
        if stop_margin is not None:
            active = active & (value.margin < stop_margin)[:, None, None]
        update, moments = adam(value.gradient, moments, step + 1, learning_rate)
        moving = torch.where(some.movable & active, moving - update, moving)
    codes = codes.index_copy(0, rows, moving)
    image, logits = objective.look(codes)
    none = codes.new_zeros(batch, 0)
    decisions, proximities, margins = (
        (torch.stack(curve, dim=1) for curve in zip(*curves, strict=True))
        if curves
        else (none, none, none)
    )
    margins = torch.cat([margins, objective.margin(logits)[:, None]], dim=1)
    return StyleSearch(codes, image, logits, decisions, proximities, first_of(margins > 0), taken)
