"""DiVE's search (Rodriguez et al. 2021, section 3) as a function of tensors and callables."""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cfexp import losses
from cfexp.errors import InputError
from cfexp.explainers.adam import adam


class LatentSearch(NamedTuple):
    """What a search found for B queries, N explanations each; row t of a curve is before step t.

    Of a query that has stopped a curve stays at its last value.
    """

    edits: Tensor  # (B, N, D), of the query's code, after the last step
    images: Tensor  # (B, N, 3, H, W) in [-1, 1], decoded from the edited codes
    logits: Tensor  # (B, N, K) of the decision model on those images
    decision_curve: Tensor  # (B, T), the mean decision loss of the explanations
    reconstruction_curve: Tensor  # (B, T), their summed distance from the query, without its weight
    diversity_curve: Tensor  # (B, T), likewise
    lasso_curve: Tensor  # (B, T), likewise
    total_curve: Tensor  # (B, T), what is minimised
    share_curve: Tensor  # (B, T), of the explanations, on which the decision is the one asked for
    # (B, N) int64: steps until the decision first was the one asked for; -1 = never
    flip_step: Tensor
    evaluations: Tensor  # (B,) int64: of the objective and its gradient, 0..T


class Objective(NamedTuple):
    """What is minimised over the edits, of each query; the fields are `search_latents`'s."""

    decode: Callable[[Tensor], Tensor]
    decide: Callable[[Tensor], Tensor]
    query_code: Tensor
    query: Tensor
    counter_class: Tensor
    head: int | None
    size: float  # how many numbers of a query may move
    lasso_weight: float
    diversity_weight: float
    reconstruction_weight: float

    def __call__(self, edits: Tensor, rows: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """At edits (b, N, D) of the queries `rows` (b,): the terms (5, b), with what is minimised
        last; the margins (b, N) of the decisions; and the gradient (b, N, D) of the sum.
        """
        with torch.enable_grad():
            edits = edits.detach().requires_grad_()
            images, logits = self.look(edits, rows)
            asked = self.counter_class[rows, None].expand(edits.shape[:2])
            decision = losses.decision_loss(logits.flatten(0, 1), asked.flatten(), self.head)
            decision = decision.view(asked.shape).mean(1)
            apart = (self.query[rows, None] - images).abs().mean((3, 4)).sum((1, 2))
            alike = squared_cosines(edits)
            length = edits.abs().sum((1, 2))
            price = self.lasso_weight * length + self.diversity_weight * alike
            price = price + self.reconstruction_weight * apart
            total = decision + price / self.size
            (gradient,) = torch.autograd.grad(total.sum(), [edits])
        terms = torch.stack([decision, apart, alike, length, total]).detach()
        return terms, self.margin(logits.detach(), rows), gradient

    def look(self, edits: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
        """The images (b, N, 3, H, W) of edits (b, N, D) of some queries, and the logits on them."""
        codes = self.query_code[rows, None] + edits
        images = self.decode(codes.flatten(0, 1))
        logits = self.decide(images).to(codes.dtype)  # which under autocast are not
        b, copies = edits.shape[:2]
        return images.view(b, copies, *images.shape[1:]), logits.view(b, copies, -1)

    def margin(self, logits: Tensor, rows: Tensor) -> Tensor:
        """(b, N), by how much logits (b, N, K) decide as was asked for."""
        asked = self.counter_class[rows, None].expand(logits.shape[:2])
        margin = losses.decision_margin(logits.flatten(0, 1), asked.flatten(), self.head)
        return margin.view(asked.shape)


def search_latents(
    decode: Callable[[Tensor], Tensor],
    decide: Callable[[Tensor], Tensor],
    query_code: Tensor,
    query: Tensor,
    counter_class: Tensor,
    start: Tensor,
    *,
    head: int | None = None,
    mask: Tensor | None = None,
    num_steps: int = 20,
    learning_rate: float = 0.01,
    lasso_weight: float = 1.0,
    diversity_weight: float = 1.0,
    reconstruction_weight: float = 10.0,
    stop_share: float | None = 0.9,
    stop_margin: float = 0.0,
    as_one_batch: bool = False,
) -> LatentSearch:
    """Move N copies of each query's code until the decision is the counter class on each, by few
    latents, and each by others.

    minimises, of each query, by Adam (equations 4 to 7 as the published code has them),

        mean_j decision_loss_j + (lasso_weight * sum_j |e_j|
            + diversity_weight * sum_{j != k} cos(e_j, e_k)^2
            + reconstruction_weight * sum_j sum_c mean_pixels |x - x_j|) / (numbers that may move)

    where e_j is the edit of copy j and x_j the image decoded from it. No query's result depends on
    the batch that it is in.

    decode: codes (B, D) to images (B, 3, H, W); its network must be frozen, as `decide`'s.
    decide: images to logits (B, K).
    query_code: (B, D), of the queries. query: (B, 3, H, W), the images themselves.
    counter_class: (B,) int64. head: see `losses.decision_loss`.
    start: (B, N, D), the edits to start from; published: normal of standard deviation 0.01.
    mask: (N, D) bool, which latents copy j may move; None = all.
    stop_share: a query takes no further step once the decision is the counter class, by more than
        `stop_margin` logits, on so large a share of its copies; None = never.
    as_one_batch: as published, the batch is one problem: every term is divided by its size, which
        Adam takes out again but for its epsilon, and it stops when the share of all copies is
        reached. The images published are of the edits before the last step; here they are of
        those after it.

    Raises InputError for a counter class or a mask of another shape, and a copy that may move
    nothing.
    """
    batch, copies, code_dim = start.shape
    if counter_class.shape != (batch,):
        came = tuple(counter_class.shape)
        raise InputError(f"counter_class must have shape ({batch},), got {came}")
    movable = _movable(mask, copies, code_dim, start.device)
    objective = Objective(
        decode=decode,
        decide=decide,
        query_code=query_code.detach(),
        query=query,
        counter_class=counter_class,
        head=head,
        size=float(movable.sum()),
        lasso_weight=lasso_weight,
        diversity_weight=diversity_weight,
        reconstruction_weight=reconstruction_weight,
    )
    everyone = rows = torch.arange(batch, device=start.device)
    edits = start.detach() * movable
    means, squares = torch.zeros_like(edits), torch.zeros_like(edits)
    curves = edits.new_zeros(6, batch, num_steps)
    flip_step = torch.full((batch, copies), -1, device=start.device)
    evaluations = torch.zeros(batch, dtype=torch.int64, device=start.device)
    for step in range(num_steps):
        terms, margins, gradient = objective(edits[rows], rows)
        share = (margins > stop_margin).to(edits.dtype).mean(1)
        curves[:, rows, step:] = torch.cat([terms, share[None]])[..., None]
        flip_step[rows] = _first(flip_step[rows], margins, step)
        evaluations[rows] += 1
        if stop_share is not None:
            done = (share.mean().expand_as(share) if as_one_batch else share) >= stop_share
            rows, gradient = rows[~done], gradient[~done]
            if len(rows) == 0:
                break
        if as_one_batch:
            gradient = gradient / batch
        moments = means[rows], squares[rows]
        update, (means[rows], squares[rows]) = adam(gradient, moments, step + 1, learning_rate)
        edits[rows] = (edits[rows] - update) * movable
    with torch.no_grad():
        images, logits = objective.look(edits, everyone)
    flip_step = _first(flip_step, objective.margin(logits, everyone), num_steps)
    decision, apart, alike, length, total, share = curves
    found = (decision, apart, alike, length, total, share)
    return LatentSearch(edits, images, logits, *found, flip_step, evaluations)


def squared_cosines(edits: Tensor) -> Tensor:
    """(B,), the sum over all pairs j != k, each twice, of the squared cosine between two of N edits
    (B, N, D).
    """
    direction = F.normalize(edits, dim=2)
    cosines = direction @ direction.mT
    return cosines.square().sum((1, 2)) - cosines.diagonal(dim1=1, dim2=2).square().sum(1)


def _first(flip_step: Tensor, margins: Tensor, step: int) -> Tensor:
    return torch.where((flip_step < 0) & (margins > 0), step, flip_step)


def _movable(mask: Tensor | None, copies: int, code_dim: int, device: torch.device) -> Tensor:
    """(N, D) bool."""
    if mask is None:
        return torch.ones(copies, code_dim, dtype=torch.bool, device=device)
    if mask.dtype != torch.bool or mask.shape != (copies, code_dim):
        came = f"{mask.dtype} {tuple(mask.shape)}"
        raise InputError(f"mask must be bool of shape ({copies}, {code_dim}), got {came}")
    if not mask.any(1).all():
        raise InputError(f"mask must let each of the {copies} explanations move something")
    return mask.to(device)
