"""What a search in style codes minimises, and what it found."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from cfexp import losses

# Every so many evaluations a search asks which queries are done: on a GPU the question waits.
ASK_EVERY = 2


class StyleSearch(NamedTuple):
    """What a search found for B queries; row t of a curve is before step t."""

    style_codes: Tensor  # (B, R, D), after the last step
    image: Tensor  # (B, 3, H, W) in [-1, 1], decoded from those codes
    logits: Tensor  # (B, K) of the decision model on that image
    decision_curve: Tensor  # (B, num_steps), the decision loss; of a query that is done, its last
    proximity_curve: Tensor  # (B, num_steps), the squared distance of the codes, without its weight
    # (B,) int64: steps until the decision first was the counter class, 0..num_steps; -1 = never
    flip_step: Tensor
    evaluations: Tensor  # (B,) int64: of the objective and its gradient, 0..num_steps

    def where(self, condition: Tensor, other: "StyleSearch") -> "StyleSearch":
        """Of each query this one where the condition (B,) holds, else the other."""
        pairs = zip(self, other, strict=True)
        return StyleSearch(
            *(torch.where(condition.view(-1, *[1] * (a.ndim - 1)), a, b) for a, b in pairs)
        )


class Value(NamedTuple):
    """The objective of N queries at some codes, and its parts; without gradients of their own."""

    decision: Tensor  # (N,) the decision loss
    proximity: Tensor  # (N,) the squared distance of the codes
    margin: Tensor  # (N,) by how much the decision is the counter class
    asked: Tensor  # (N,) the decision loss, of what is asked for: see `asked_margin`
    rest: Tensor  # (N,) the rest of what is minimised
    asked_gradient: Tensor  # (N, R, D), of `asked` by the codes
    rest_gradient: Tensor  # (N, R, D)

    @property
    def gradient(self) -> Tensor:
        """(N, R, D), of what is minimised."""
        return self.asked_gradient + self.rest_gradient


@dataclass(frozen=True)
class Objective:
    """decision_loss + proximity_weight * ||z - z^0||^2 of B queries, each on its own.

    The fields are arguments of `search_style_codes`, but movable (B, R, 1) bool, which codes may
    move; and asked_margin (B,), by how many logits more than 0 the decision is asked to be the
    counter class; None = 0.
    """

    decode: Callable[[Tensor], Tensor]
    decide: Callable[[Tensor], Tensor]
    query_codes: Tensor
    counter_class: Tensor
    movable: Tensor
    head: int | None
    proximity_weight: float
    decision_loss: Callable[[Tensor, Tensor, int | None], Tensor]
    repel: tuple[Tensor, ...]
    repulsion: float
    narrowed: Callable[[Tensor], Callable[[Tensor], Tensor]] | None
    asked_margin: Tensor | None = None

    def of(self, rows: Tensor) -> "Objective":
        """Of some queries alone, rows (N,) int64; where `narrowed` is given."""
        narrowed = self.narrowed
        assert narrowed is not None
        return replace(
            self,
            decode=narrowed(rows),
            query_codes=self.query_codes[rows],
            counter_class=self.counter_class[rows],
            movable=self.movable[rows],
            repel=tuple(other[rows] for other in self.repel),
            asked_margin=None if self.asked_margin is None else self.asked_margin[rows],
            narrowed=lambda some: narrowed(rows[some]),
        )

    def __call__(self, codes: Tensor) -> Value:
        """At codes (N, R, D) of these queries."""
        with torch.enable_grad():
            codes = codes.detach().requires_grad_()
            logits = self.decide(self.decode(codes)).to(codes.dtype)  # which under autocast are not
            decision = asked = self.decision_loss(logits, self.counter_class, self.head)
            if self.asked_margin is not None:
                lowered = self._lowered(logits)
                asked = self.decision_loss(lowered, self.counter_class, self.head)
            proximity = losses.proximity_loss(codes, self.query_codes)
            rest = self.proximity_weight * proximity
            if self.repel:
                edit = codes - self.query_codes
                rest = rest + self.repulsion * _alignment(edit, self.repel, self.query_codes)
            # Autocast is for the way there: on the way back it would cast what the generator has
            # kept.
            with torch.autocast(codes.device.type, enabled=False):
                slopes = [torch.autograd.grad(part.sum(), codes)[0] for part in (asked, rest)]
        margin = self.margin(logits.detach())
        loss, distance, asked, rest = (part.detach() for part in (decision, proximity, asked, rest))
        return Value(loss, distance, margin, asked, rest, *slopes)

    def margin(self, logits: Tensor) -> Tensor:
        """(N,) by how much logits (N, K) decide for the counter class."""
        return losses.decision_margin(logits, self.counter_class, self.head)

    @torch.no_grad()
    def look(self, codes: Tensor) -> tuple[Tensor, Tensor]:
        """The image (N, 3, H, W) of codes (N, R, D), and the logits on it."""
        image = self.decode(codes)
        return image, self.decide(image).to(codes.dtype)

    def _lowered(self, logits: Tensor) -> Tensor:
        """The logits with that of the counter class lowered by the margin that is asked for."""
        assert self.asked_margin is not None
        if self.head is None and logits.shape[1] > 1:
            of_class = F.one_hot(self.counter_class, logits.shape[1])
            return logits - self.asked_margin[:, None] * of_class
        column = F.one_hot(torch.tensor(self.head or 0, device=logits.device), logits.shape[1])
        toward = (2 * self.counter_class - 1) * self.asked_margin
        return logits - toward[:, None] * column


def first_of(flags: Tensor) -> Tensor:
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
