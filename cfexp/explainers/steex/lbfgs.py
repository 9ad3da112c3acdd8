"""Limited-memory BFGS (Liu and Nocedal 1989) of many small problems side by side, each a decision
loss and the rest.

Of a decision loss much is known beforehand. Whatever its form, it is softplus(-m) of a margin m:
flat where the decision is lost, flat where it is won, and sharply bent between. A quadratic model
of it holds over short ways only. So the pairs model what is not known, the bend of the margin and
of the rest, by the Lagrangian `rest - pull * margin`; and each step is the minimum of softplus
along the margin's slope, plus the rest, under that model: one equation for the pull, a number
between 0 and 1 (structured quasi-Newton and Gauss-Newton methods do likewise; Nocedal and Wright
2006, chapters 10 and 18).

All problems are evaluated together, but each goes its own way: its pairs, its step and its end
depend on nothing but itself. Nothing here waits for the device: what a problem does next is chosen
by masks, and a step that is refused is shortened at the next evaluation, so that there is no line
search inside.
"""

from typing import NamedTuple

import torch
from torch import Tensor

PAIRS = 5  # of the last moves and turns of the gradient that are kept
# The length of a move at most; the first knows no curvature yet.
FIRST_MOVE, LONGEST_MOVE = 2.0, 2.5
SUFFICIENT = 1e-4  # the share of the descent foretold that a step has to bring (Armijo's condition)
SHORTEN = 0.3  # to this share of itself, where it brings less
# A problem is settled where so many steps in a row each lowered its value by less than this share
# of it, or where the norm of the gradient, or of the next move, is below the last two numbers.
PATIENCE, PROGRESS, SLOPE, SHORTEST = 2, 3e-3, 1e-3, 1e-4
_ROUNDING = 1e-6  # of a value: as much more is no more
_SOFTEST = 100.0  # of the inverse curvature, where nothing else bounds it
_HALVINGS, _POLISHINGS = 12, 2  # of the interval in which a pull lies, and of Newton's steps then


class Problems(NamedTuple):
    """Where B problems of n numbers stand."""

    point: Tensor  # (B, n), the best so far
    value: Tensor  # (B,), there; infinite before the first evaluation
    margin: Tensor  # (B,), there
    margin_slope: Tensor  # (B, n), its gradient there
    rest_slope: Tensor  # (B, n), the gradient of the rest there
    trial: Tensor  # (B, n), to be evaluated next
    accepted: Tensor  # (B,) bool: the last trial became the point
    pull: Tensor  # (B,) in [0, 1], of the margin, by which the trial was chosen
    foretold: Tensor  # (B,), by how much the value changes from point to trial if it were linear
    moves: Tensor  # (B, PAIRS, n), the newest last
    turns: Tensor  # (B, PAIRS, n), of the Lagrangian's gradient by these moves
    weights: Tensor  # (B, PAIRS), one over their products; 0 = no pair yet
    scale: Tensor  # (B,), of the inverse curvature, by the newest pair
    softest: Tensor  # (B,), the largest that the scale may be
    idle: Tensor  # (B,) int64, steps in a row that brought next to nothing
    settled: Tensor  # (B,) bool: at its end; nothing changes any more

    def of(self, rows: Tensor) -> "Problems":
        """Some of them; rows: (N,) int64, or (B,) bool."""
        return Problems(*(column[rows] for column in self))

    def beside(self, others: "Problems") -> "Problems":
        """These and others after them."""
        return Problems(*(torch.cat(pair) for pair in zip(self, others, strict=True)))

    def where(self, condition: Tensor, others: "Problems") -> "Problems":
        """These where the condition (B,) holds, else the others."""
        pairs = zip(self, others, strict=True)
        return Problems(*(_unless(condition, one, other) for one, other in pairs))


def begin(point: Tensor, least_curvature: float = 0.0) -> Problems:
    """Problems that start at points (B, n), which are evaluated first.

    least_curvature: of the value, in the directions that nothing is known of: of a rest that is
    w ||x - x0||^2, 2 w.
    """
    batch, size = point.shape
    zero = point.new_zeros(batch)
    pairs = point.new_zeros(batch, PAIRS, size)
    softest = torch.full_like(zero, 1 / max(least_curvature, 1 / _SOFTEST))
    return Problems(
        point=point,
        value=torch.full_like(zero, torch.inf),
        margin=zero,
        margin_slope=torch.zeros_like(point),
        rest_slope=torch.zeros_like(point),
        trial=point,
        accepted=torch.zeros_like(zero, dtype=torch.bool),
        pull=zero,
        foretold=zero,
        moves=pairs,
        turns=pairs,
        weights=point.new_zeros(batch, PAIRS),
        scale=softest,
        softest=softest,
        idle=torch.zeros_like(zero, dtype=torch.int64),
        settled=torch.zeros_like(zero, dtype=torch.bool),
    )


def update(
    problems: Problems, loss: Tensor, loss_slope: Tensor, rest: Tensor, rest_slope: Tensor
) -> Problems:
    """The problems after their trials were evaluated: loss (B,), at least 0, and its gradient
    (B, n); the rest (B,) and its gradient (B, n). What is minimised is their sum.
    """
    value = loss + rest
    wrong = (-torch.expm1(-loss)).clamp(min=torch.finfo(loss.dtype).eps)  # sigmoid(-margin)
    margin, margin_slope = -(loss + wrong.log()), -loss_slope / wrong[:, None]
    started = problems.value < torch.inf
    bound = problems.value + SUFFICIENT * problems.foretold + _ROUNDING * problems.value.abs()
    accepted = ~started | (value <= bound)
    gained = torch.where(started, problems.value - value, torch.inf)
    after = _with_pair(problems, margin_slope, rest_slope, accepted & started)
    after = after._replace(
        point=_unless(~accepted, problems.point, problems.trial),
        value=_unless(~accepted, problems.value, value),
        margin=_unless(~accepted, problems.margin, margin),
        margin_slope=_unless(~accepted, problems.margin_slope, margin_slope),
        rest_slope=_unless(~accepted, problems.rest_slope, rest_slope),
        accepted=accepted,
    )
    move, pull = _next_move(after)
    step = _unless(~accepted, SHORTEN * (problems.trial - problems.point), move)
    slope = after.rest_slope - torch.sigmoid(-after.margin)[:, None] * after.margin_slope
    idle = torch.where(gained > PROGRESS * after.value.abs(), 0, problems.idle + 1)
    idle = torch.where(accepted, idle, problems.idle)
    still = (slope.norm(dim=1) < SLOPE) | (step.norm(dim=1) < SHORTEST)
    after = after._replace(
        trial=after.point + step,
        pull=torch.where(accepted, pull, problems.pull),
        foretold=(slope * step).sum(1),
        idle=idle,
        settled=(idle >= PATIENCE) | still,
    )
    return Problems(
        *(_unless(problems.settled, *pair) for pair in zip(problems, after, strict=True))
    )


def _with_pair(
    problems: Problems, margin_slope: Tensor, rest_slope: Tensor, moved: Tensor
) -> Problems:
    """With the newest pair, of those that moved along a valley (its product is positive)."""
    move = problems.trial - problems.point
    turn = rest_slope - problems.rest_slope
    turn = turn - problems.pull[:, None] * (margin_slope - problems.margin_slope)
    product = (move * turn).sum(1)
    valley = moved & (product > 1e-10 * move.norm(dim=1) * turn.norm(dim=1))

    def newest(kept: Tensor, new: Tensor) -> Tensor:
        return _unless(~valley, kept, torch.cat([kept[:, 1:], new[:, None]], dim=1))

    scale = (move.norm(dim=1) / turn.norm(dim=1)).minimum(problems.softest)
    return problems._replace(
        moves=newest(problems.moves, move),
        turns=newest(problems.turns, turn),
        weights=newest(problems.weights, 1 / product),
        scale=torch.where(valley, scale, problems.scale),
    )


def _next_move(problems: Problems) -> tuple[Tensor, Tensor]:
    """(B, n), the next move, and the pull (B,) that it is made by."""
    back = _by_curvature(problems, problems.rest_slope)
    along = _by_curvature(problems, problems.margin_slope)
    # The margin after a move that is made by the pull p is `without + p * gain`, if it were linear.
    without = problems.margin - (problems.margin_slope * back).sum(1)
    gain = (problems.margin_slope * along).sum(1)
    pull = _pull(without, gain)
    move = pull[:, None] * along - back
    first = (problems.weights == 0).all(1)
    longest = torch.where(first, FIRST_MOVE, LONGEST_MOVE).to(move)
    share = longest / move.norm(dim=1).maximum(longest)
    return share[:, None] * move, pull


def _pull(without: Tensor, gain: Tensor) -> Tensor:
    """(B,), the one p with p = sigmoid(-(without + p * gain)); gain (B,) of at least 0."""
    low, high = torch.zeros_like(without), torch.ones_like(without)
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        above = torch.sigmoid(-(without + middle * gain)) > middle
        low, high = torch.where(above, middle, low), torch.where(above, high, middle)
    pull = (low + high) / 2
    for _ in range(_POLISHINGS):
        there = torch.sigmoid(-(without + pull * gain))
        newton = pull + (there - pull) / (1 + gain * there * (1 - there))
        pull = newton.maximum(low).minimum(high)
    return pull


def _by_curvature(problems: Problems, slope: Tensor) -> Tensor:
    """(B, n), the inverse curvature times a slope (B, n), by the two loops."""
    shares = []
    move = slope
    for pair in reversed(range(PAIRS)):
        share = problems.weights[:, pair] * (problems.moves[:, pair] * move).sum(1)
        move = move - share[:, None] * problems.turns[:, pair]
        shares.append(share)
    move = problems.scale[:, None] * move
    for pair, share in enumerate(reversed(shares)):
        back = problems.weights[:, pair] * (problems.turns[:, pair] * move).sum(1)
        move = move + (share - back)[:, None] * problems.moves[:, pair]
    return move


def _unless(condition: Tensor, other: Tensor, value: Tensor) -> Tensor:
    """The one where the condition (B,) holds, else the value; of any further dimensions."""
    return torch.where(condition.view(-1, *[1] * (value.ndim - 1)), other, value)
