"""Limited-memory BFGS (Liu and Nocedal 1989) of many small problems side by side.

All problems are evaluated together, but each goes its own way: its pairs, its step and its end
depend on nothing but itself. Nothing here waits for the device: what a problem does next is chosen
by masks, and a step that is refused is shortened at the next evaluation, so that there is no line
search inside.
"""

from typing import NamedTuple

import torch
from torch import Tensor

PAIRS = 10  # of the last moves and turns of the gradient that are kept
FIRST_MOVE = 0.6  # the length of the first move, which knows no curvature yet
LONGEST_MOVE = 2.5
SUFFICIENT = 1e-4  # the share of the descent foretold that a step has to bring (Armijo's condition)
SHORTEN = 0.3  # to this share of itself, where it brings less
# A problem is settled where so many steps in a row each lowered its value by less than this share
# of it, or where the norm of the gradient, or of the next move, is below the last two numbers.
PATIENCE, PROGRESS, SLOPE, SHORTEST = 2, 3e-3, 1e-3, 1e-4
_ROUNDING = 1e-6  # of a value: as much more is no more


class Problems(NamedTuple):
    """Where B problems of n numbers stand."""

    point: Tensor  # (B, n), the best so far
    value: Tensor  # (B,), there; infinite before the first evaluation
    gradient: Tensor  # (B, n), there
    trial: Tensor  # (B, n), to be evaluated next
    accepted: Tensor  # (B,) bool: the last trial became the point
    slope: Tensor  # (B,), by how much the value changes from point to trial if it were linear
    moves: Tensor  # (B, PAIRS, n), the newest last
    turns: Tensor  # (B, PAIRS, n), of the gradient by these moves
    weights: Tensor  # (B, PAIRS), one over their products; 0 = no pair yet
    scale: Tensor  # (B,), of the inverse curvature, by the newest pair
    idle: Tensor  # (B,) int64, steps in a row that brought next to nothing
    settled: Tensor  # (B,) bool: at its end; nothing changes any more

    def of(self, rows: Tensor) -> "Problems":
        """Some of them; rows: (N,) int64, or (B,) bool."""
        return Problems(*(column[rows] for column in self))

    def beside(self, others: "Problems") -> "Problems":
        """These and others after them."""
        return Problems(*(torch.cat(pair) for pair in zip(self, others, strict=True)))


def begin(point: Tensor) -> Problems:
    """Problems that start at points (B, n), which are evaluated first."""
    batch, size = point.shape
    zero = point.new_zeros(batch)
    pairs = point.new_zeros(batch, PAIRS, size)
    return Problems(
        point=point,
        value=torch.full_like(zero, torch.inf),
        gradient=torch.zeros_like(point),
        trial=point,
        accepted=torch.zeros_like(zero, dtype=torch.bool),
        slope=zero,
        moves=pairs,
        turns=pairs,
        weights=point.new_zeros(batch, PAIRS),
        scale=zero,
        idle=torch.zeros_like(zero, dtype=torch.int64),
        settled=torch.zeros_like(zero, dtype=torch.bool),
    )


def update(problems: Problems, value: Tensor, gradient: Tensor) -> Problems:
    """The problems after their trials were evaluated: value (B,), gradient (B, n).

    The first move goes along the gradient's signs, as Adam's first step does: a few numbers that
    matter much would else hide all others.
    """
    started = problems.value < torch.inf
    bound = problems.value + SUFFICIENT * problems.slope + _ROUNDING * problems.value.abs()
    accepted = ~started | (value <= bound)
    gained = torch.where(started, problems.value - value, torch.inf)
    pairs = _with_pair(problems, gradient, accepted & started)
    point = torch.where(accepted[:, None], problems.trial, problems.point)
    here = torch.where(accepted, value, problems.value)
    rise = torch.where(accepted[:, None], gradient, problems.gradient)
    step = torch.where(
        accepted[:, None],
        _direction(pairs, rise),
        SHORTEN * (problems.trial - problems.point),
    )
    idle = torch.where(gained > PROGRESS * here.abs(), 0, problems.idle + 1)
    idle = torch.where(accepted, idle, problems.idle)
    still = (rise.norm(dim=1) < SLOPE) | (step.norm(dim=1) < SHORTEST)
    after = pairs._replace(
        point=point,
        value=here,
        gradient=rise,
        trial=point + step,
        accepted=accepted,
        slope=(rise * step).sum(1),
        idle=idle,
        settled=(idle >= PATIENCE) | still,
    )
    return Problems(
        *(_unless(problems.settled, *pair) for pair in zip(problems, after, strict=True))
    )


def _with_pair(problems: Problems, gradient: Tensor, moved: Tensor) -> Problems:
    """With the newest pair, of those that moved along a valley (its product is positive)."""
    move, turn = problems.trial - problems.point, gradient - problems.gradient
    product = (move * turn).sum(1)
    valley = moved & (product > 1e-10 * move.norm(dim=1) * turn.norm(dim=1))

    def newest(kept: Tensor, new: Tensor) -> Tensor:
        return _unless(~valley, kept, torch.cat([kept[:, 1:], new[:, None]], dim=1))

    return problems._replace(
        moves=newest(problems.moves, move),
        turns=newest(problems.turns, turn),
        weights=newest(problems.weights, 1 / product),
        scale=torch.where(valley, product / turn.square().sum(1), problems.scale),
    )


def _direction(problems: Problems, gradient: Tensor) -> Tensor:
    """(B, n), the next move: the inverse curvature times the gradient, by the two loops."""
    shares = []
    move = gradient
    for pair in reversed(range(PAIRS)):
        share = problems.weights[:, pair] * (problems.moves[:, pair] * move).sum(1)
        move = move - share[:, None] * problems.turns[:, pair]
        shares.append(share)
    move = problems.scale[:, None] * move
    for pair, share in enumerate(reversed(shares)):
        back = problems.weights[:, pair] * (problems.turns[:, pair] * move).sum(1)
        move = move + (share - back)[:, None] * problems.moves[:, pair]
    signs = gradient.sign()
    signs = FIRST_MOVE / signs.norm(dim=1, keepdim=True).clamp(min=1) * signs
    move = torch.where((problems.weights == 0).all(1, keepdim=True), signs, move)
    longer = LONGEST_MOVE / move.norm(dim=1, keepdim=True).clamp(min=LONGEST_MOVE)
    shortened: Tensor = -longer * move
    return shortened


def _unless(condition: Tensor, other: Tensor, value: Tensor) -> Tensor:
    """The one where the condition (B,) holds, else the value; of any further dimensions."""
    return torch.where(condition.view(-1, *[1] * (value.ndim - 1)), other, value)
