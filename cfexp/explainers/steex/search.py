"""STEEX's search (Jacob et al. 2022, Algorithm 1) as a function of tensors and callables."""

from collections.abc import Callable
from itertools import combinations

import torch
import torch.nn.functional as F
from torch import Tensor

from cfexp import losses
from cfexp.errors import InputError
from cfexp.explainers.steex.by_adam import by_adam
from cfexp.explainers.steex.by_lbfgs import by_lbfgs
from cfexp.explainers.steex.objective import Objective, StyleSearch

OPTIMIZERS = "adam", "lbfgs"
AT_ONCE = 16  # queries that are computed at a time, where each is by itself


def search_style_codes(
    decode: Callable[[Tensor], Tensor],
    decide: Callable[[Tensor], Tensor],
    style_codes: Tensor,
    counter_class: Tensor,
    *,
    head: int | None = None,
    region_mask: Tensor | None = None,
    optimizer: str = "adam",
    num_steps: int = 100,
    learning_rate: float = 0.01,
    proximity_weight: float = 0.3,
    decision_loss: Callable[[Tensor, Tensor, int | None], Tensor] = losses.decision_loss,
    early_stop: bool = False,
    stop_margin: float = 1.0,
    start: Tensor | None = None,
    repel: tuple[Tensor, ...] = (),
    repulsion: float = 1.0,
    narrowed: Callable[[Tensor], Callable[[Tensor], Tensor]] | None = None,
    at_once: int = AT_ONCE,
) -> StyleSearch:
    """Move each query's style codes until the decision is the counter class, and no farther than
    that takes.

    minimises decision_loss + proximity_weight * sum_r ||z_r - z_r^0||^2 of each query (equation 3).
    No query's result depends on the batch it is in, but for the rounding of the networks' products,
    which a search may enlarge. No step waits for the device. Under autocast the codes and their
    steps keep their dtype.

    decode: style codes (B, R, D) to images (B, 3, H, W); its networks must be frozen.
    decide: images to logits (B, K).
    style_codes: of the queries, as the style encoder gives them.
    counter_class: (B,) int64, see `classifier.counter_class_of`.
    head: see `losses.decision_loss`.
    region_mask: (R,) bool, or (B, R), the regions whose codes may change; those of the others stay
        as they are, bit for bit. None: all may.
    optimizer: "adam", as published, takes `num_steps` steps of `learning_rate`. "lbfgs", ours,
        evaluates each query up to `num_steps` times, fewer where it has arrived (see
        `lbfgs.PATIENCE`). Where the image that it ends with is not decided as asked once it is
        stored in 8 bits, the query goes on from there with the decision asked for by a margin.
        Where the decision did not turn at all, it starts again: asked for by a margin, then by
        steps of Adam until it turns.
    early_stop: leave a query's codes alone once its decision is the counter class by `stop_margin`
        logits. The paper always takes all the steps.
    start: codes to start from in place of the query's own; `repel`: codes to keep away from in
        direction. Both are for `search_candidates`.
    narrowed: from rows (N,) int64 of the batch to `decode` of those alone, codes (N, R, D). With
        it, queries that are done are no longer computed, and of a larger batch `at_once` are
        searched at a time, each that is done making room for the next (lbfgs). Who is done is
        asked every few steps.

    The published script stores the image from before the last step; the image here is decoded from
    the final codes, as Algorithm 1 has it.

    Raises InputError for a mask or a counter class of another shape, a mask without a region, or an
    unknown optimizer.
    """
    batch, regions, _ = style_codes.shape
    if counter_class.shape != (batch,):
        came = tuple(counter_class.shape)
        raise InputError(f"counter_class must have shape ({batch},), got {came}")
    if optimizer not in OPTIMIZERS:
        raise InputError(f"optimizer must be {' or '.join(OPTIMIZERS)}, got {optimizer!r}")
    movable = _movable(region_mask, batch, regions, style_codes.device)
    query_codes = style_codes.detach()
    codes = query_codes if start is None else torch.where(movable, start.detach(), query_codes)
    objective = Objective(
        decode=decode,
        decide=decide,
        query_codes=query_codes,
        counter_class=counter_class,
        movable=movable.expand(batch, -1, -1),
        head=head,
        proximity_weight=proximity_weight,
        decision_loss=decision_loss,
        repel=repel,
        repulsion=repulsion,
        narrowed=narrowed,
    )
    stop = stop_margin if early_stop else None
    if optimizer == "adam":
        return by_adam(objective, codes, num_steps, learning_rate, stop)
    return by_lbfgs(objective, codes, num_steps, learning_rate, at_once, stop)


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
    none = torch.zeros_like(counter_class)
    curves = decision, torch.zeros_like(decision)
    return StyleSearch(style_codes, image, logits, *curves, decided.long() - 1, none)


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


def candidate_columns(
    first: StyleSearch, further: list[StyleSearch], codes: Tensor
) -> dict[str, Tensor]:
    """What is told of the candidates after the first, (B, N - 1, ...); codes (B, R, D): of the
    queries.
    """
    edits = [(found.style_codes - codes).flatten(1) for found in (first, *further)]
    pairs = [F.cosine_similarity(*pair) for pair in combinations(edits, 2)]
    cosines = [
        torch.stack([F.cosine_similarity(edit, earlier) for earlier in edits[:number]]).amax(0)
        for number, edit in enumerate(edits)
        if number
    ]
    return {
        "candidates": torch.stack([found.image for found in further], dim=1),
        "candidate_code_distance": torch.stack([edit.norm(dim=1) for edit in edits[1:]], dim=1),
        "candidate_flip_step": torch.stack([found.flip_step for found in further], dim=1),
        "candidate_cosine": torch.stack(cosines, dim=1),
        "candidate_pairwise_cosine": torch.stack(pairs).mean(0),
    }


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
