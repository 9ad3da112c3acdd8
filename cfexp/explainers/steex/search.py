"""STEEX's search (Jacob et al. 2022, Algorithm 1) as a function of tensors and callables."""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cfexp import losses
from cfexp.errors import InputError

# Adam's (Kingma and Ba 2015), torch's defaults.
BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8


class StyleSearch(NamedTuple):
    """What a search found for B queries; row t of a curve is before step t."""

    style_codes: Tensor  # (B, R, D), after the last step
    image: Tensor  # (B, 3, H, W) in [-1, 1], decoded from those codes
    logits: Tensor  # (B, K) of the decision model on that image
    decision_curve: Tensor  # (B, num_steps), the decision loss
    proximity_curve: Tensor  # (B, num_steps), the squared distance of the codes, without its weight
    # (B,) int64: steps until the decision first was the counter class, 0..num_steps; -1 = never.
    flip_step: Tensor


def counter_class_of(logits: Tensor, head: int | None = None) -> Tensor:
    """(B,) int64: the class to ask for, from the query's own decision.

    A binary head's other side; of classes that exclude each other the second most probable.
    logits: (B, K). head: as in `losses.decision_loss`.
    """
    if head is None and logits.shape[1] > 1:
        return logits.topk(2, dim=1).indices[:, 1]
    return (logits[:, head or 0] < 0).long()


def search_style_codes(
    decode: Callable[[Tensor], Tensor],
    decide: Callable[[Tensor], Tensor],
    style_codes: Tensor,
    counter_class: Tensor,
    *,
    head: int | None = None,
    region_mask: Tensor | None = None,
    num_steps: int = 100,
    learning_rate: float = 0.01,
    proximity_weight: float = 0.3,
    decision_loss: Callable[[Tensor, Tensor, int | None], Tensor] = losses.decision_loss,
    early_stop: bool = False,
    stop_margin: float = 1.0,
    start: Tensor | None = None,
    repel: tuple[Tensor, ...] = (),
    repulsion: float = 1.0,
) -> StyleSearch:
    """Move each query's style codes by Adam until the decision is the counter class, and no farther
    than that takes.

    minimises decision_loss + proximity_weight * sum_r ||z_r - z_r^0||^2 of each query (equation 3).
    No query's result depends on the batch it is in, as Adam works on each number alone. No step
    waits for the device. Under autocast the codes and their steps keep their dtype.

    decode: style codes (B, R, D) to images (B, 3, H, W); its networks must be frozen. decide:
    images to logits (B, K). style_codes: of the queries, as the style encoder gives them.
    counter_class: (B,) int64, see `counter_class_of`. head: see `losses.decision_loss`.
    region_mask: (R,) bool, or (B, R), the regions whose codes may change; those of the others stay
    as they are, bit for
        bit. None: all may.
    early_stop: leave a query's codes alone once its decision is the counter class by `stop_margin`
        logits. The paper always takes all the steps.
    start: codes to start from in place of the query's own; `repel`: codes to keep away from in
        direction. Both are for `search_candidates`.

    The published script stores the image from before the last step; the image here is decoded from
    the final codes, as Algorithm 1 has it.

    Raises InputError for a mask or a counter class of another shape, or a mask without a region.
    """
    batch, regions, _ = style_codes.shape
    if counter_class.shape != (batch,):
        raise InputError(
            f"counter_class must have shape ({batch},), got {tuple(counter_class.shape)}"
        )
    movable = _movable(region_mask, batch, regions, style_codes.device)
    query_codes = style_codes.detach()
    codes = query_codes if start is None else torch.where(movable, start.detach(), query_codes)
    moments = torch.zeros_like(codes), torch.zeros_like(codes)
    active = torch.ones(batch, 1, 1, dtype=torch.bool, device=codes.device)
    decisions, proximities, margins = [], [], []
    for step in range(num_steps):
        with torch.enable_grad():
            codes.requires_grad_()
            logits = decide(decode(codes)).to(codes.dtype)  # which under autocast they are not
            decision = decision_loss(logits, counter_class, head)
            proximity = losses.proximity_loss(codes, query_codes)
            loss = decision + proximity_weight * proximity
            if repel:
                loss = loss + repulsion * _alignment(codes - query_codes, repel, query_codes)
            # Autocast is for the way there: on the way back it would cast what the generator has
            # kept.
            with torch.autocast(codes.device.type, enabled=False):
                (gradient,) = torch.autograd.grad(loss.sum(), [codes])
        codes = codes.detach()
        decisions.append(decision.detach())
        proximities.append(proximity.detach())
        margins.append(losses.decision_margin(logits.detach(), counter_class, head))
        if early_stop:
            active = active & (margins[-1] < stop_margin)[:, None, None]
        update, moments = _adam(gradient, moments, step + 1, learning_rate)
        codes = torch.where(movable & active, codes - update, codes)
    with torch.no_grad():
        image = decode(codes)
        logits = decide(image).to(codes.dtype)
    margins.append(losses.decision_margin(logits, counter_class, head))
    none = codes.new_zeros(batch, 0)
    curves = [torch.stack(curve, dim=1) if curve else none for curve in (decisions, proximities)]
    return StyleSearch(
        codes, image, logits, curves[0], curves[1], _first(torch.stack(margins, dim=1) > 0)
    )


def nothing_moved(
    style_codes: Tensor,
    image: Tensor,
    logits: Tensor,
    counter_class: Tensor,
    head: int | None,
    num_steps: int,
) -> StyleSearch:
    """What `search_style_codes` finds where no code may move, without a step: the queries'
    reconstruction.

    image: (B, 3, H, W), decoded from the style codes (B, R, D). logits: (B, K) of the decision
    model on it.
    """
    decision = losses.decision_loss(logits, counter_class, head)[:, None].expand(-1, num_steps)
    decided = losses.decision_margin(logits, counter_class, head) > 0
    return StyleSearch(
        style_codes, image, logits, decision, torch.zeros_like(decision), decided.long() - 1
    )


def search_candidates(
    decode: Callable[[Tensor], Tensor],
    decide: Callable[[Tensor], Tensor],
    style_codes: Tensor,
    counter_class: Tensor,
    *,
    num_candidates: int,
    seeds: Tensor,
    spread: float = 0.02,
    region_mask: Tensor | None = None,
    **settings: object,
) -> list[StyleSearch]:
    """Several different answers a query: `search_style_codes` again and again, each kept from the
    edits before it.

    The first candidate is the plain search. Each further one starts from the query's codes with
    noise of standard deviation `spread` from the query's own seed, and its loss grows with the
    squared cosine between its edit and each earlier one.

    seeds: (B,) int64. settings: of `search_style_codes`.
    """
    found: list[StyleSearch] = []
    for candidate in range(num_candidates):
        start = None
        if candidate:
            draws = [torch.Generator().manual_seed(int(seed) * 1009 + candidate) for seed in seeds]
            noise = torch.stack(
                [
                    torch.randn(style_codes.shape[1:], generator=draw, dtype=torch.float32)
                    for draw in draws
                ]
            )
            # An absent region's code is zero and has no influence: it stays.
            present = (style_codes != 0).any(2, keepdim=True)
            start = torch.where(present, style_codes + spread * noise.to(style_codes), style_codes)
        found.append(
            search_style_codes(
                decode,
                decide,
                style_codes,
                counter_class,
                region_mask=region_mask,
                start=start,
                repel=tuple(earlier.style_codes for earlier in found),
                **settings,  # type: ignore[arg-type]  # checked where it goes
            )
        )
    return found


def _adam(
    gradient: Tensor, moments: tuple[Tensor, Tensor], step: int, learning_rate: float
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """What Adam takes off the codes at step 1, 2 ..., and the running means of the gradient and of
    its square.
    """
    mean = torch.lerp(gradient, moments[0], BETA_1)
    variance = torch.lerp(gradient.square(), moments[1], BETA_2)
    size = learning_rate / (1 - BETA_1**step)
    return size * mean / (variance.sqrt() / math.sqrt(1 - BETA_2**step) + EPSILON), (mean, variance)


def _first(flags: Tensor) -> Tensor:
    """(B,) int64: where in its row of flags (B, T) the first true one stands; -1 = nowhere."""
    return torch.where(flags.any(1), flags.int().argmax(1), -1)


def _alignment(edit: Tensor, repel: tuple[Tensor, ...], query_codes: Tensor) -> Tensor:
    """(B,), the sum of the squared cosines between an edit (B, R, D) and the edits to keep away
    from.
    """
    cosines = [
        F.cosine_similarity(edit.flatten(1), (other - query_codes).flatten(1)) for other in repel
    ]
    return torch.stack(cosines).square().sum(0)


def _movable(region_mask: Tensor | None, batch: int, regions: int, device: torch.device) -> Tensor:
    """(B or 1, R, 1) bool."""
    if region_mask is None:
        return torch.ones(1, regions, 1, dtype=torch.bool, device=device)
    if region_mask.dtype != torch.bool or region_mask.shape not in ((regions,), (batch, regions)):
        found = f"{region_mask.dtype} {tuple(region_mask.shape)}"
        raise InputError(f"region_mask must be bool of shape ({regions},), got {found}")
    if not region_mask.any():
        raise InputError("region_mask must allow at least one region to change")
    return region_mask.reshape(-1, regions, 1).to(device)
