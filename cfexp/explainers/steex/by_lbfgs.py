"""The search by limited-memory BFGS: Adam's minimum or a better one, in a fraction of the
evaluations. Ours; STEEX has Adam.
"""

from dataclasses import replace
from itertools import count

import torch
from torch import Tensor

from cfexp.explainers.base import eight_bit
from cfexp.explainers.steex import lbfgs
from cfexp.explainers.steex.by_adam import by_adam
from cfexp.explainers.steex.objective import (
    ASK_EVERY,
    Objective,
    StyleSearch,
    Value,
    first_of,
)

# Of the queries that are computed at once so many have to be done before room is made.
MAKE_ROOM = 0.1
# Where a query ends with a decision that turned, but not of the image as it is stored, the decision
# is asked for by so many logits more, in turn. Where it did not turn, the query starts again with
# Adam, for this share of the evaluations that it may take.
MARGINS, BY_ADAM = (0.5, 2.0), 0.5


def by_lbfgs(
    objective: Objective,
    codes: Tensor,
    budget: int,
    learning_rate: float,
    at_once: int,
    stop_margin: float | None,
) -> StyleSearch:
    """Up to `budget` evaluations of each query, from codes (B, R, D); see `search_style_codes`.

    learning_rate: of Adam, where a query starts again.

    Row t of a curve is of where a query stood after t + 1 evaluations.
    """
    record = _Record(codes, budget)
    everyone = torch.arange(len(codes), device=codes.device)
    if budget > 0:
        _search(objective, everyone, codes, record, at_once, stop_margin)
    image, logits = objective.look(record.codes)
    for attempt, margin in enumerate(MARGINS):
        stored, turned = _stored_margin(objective, image), objective.margin(logits) > 0
        again = (stored <= 0) & (record.evaluations < budget) & (turned | (attempt == 0))
        rows = again.nonzero()[:, 0]
        if len(rows) == 0:
            break
        before, start = record.codes.clone(), record.codes.clone()
        if len(lost := (again & ~turned).nonzero()[:, 0]):
            start[lost] = _by_adam(objective, lost, codes, record, learning_rate, stop_margin)
        asked = replace(objective, asked_margin=margin * turned.to(codes.dtype))
        _search(asked, rows, start, record, at_once, stop_margin)
        better = _stored_margin(objective, objective.look(record.codes)[0]) > stored
        record.codes = torch.where(better[:, None, None], record.codes, before)
        image, logits = objective.look(record.codes)
    margins = torch.cat([record.margins(), objective.margin(logits)[:, None]], dim=1)
    curves = record.curve("decision"), record.curve("proximity")
    flip_step = first_of(margins > 0)
    return StyleSearch(record.codes, image, logits, *curves, flip_step, record.evaluations)


def _search(
    objective: Objective,
    rows: Tensor,
    start: Tensor,
    record: "_Record",
    at_once: int,
    stop_margin: float | None,
) -> None:
    """Search the queries `rows` (N,) int64 of all from start (B, R, D), and write it down."""
    if objective.narrowed is None:  # all are computed to the end, but only those are searched
        working, waiting, some = torch.arange(len(start), device=rows.device), rows[:0], objective
        problems = lbfgs.begin(start.flatten(1))
        problems = problems._replace(settled=~torch.isin(working, rows))
    else:
        working, waiting = rows[:at_once], rows[at_once:]
        some, problems = objective.of(working), lbfgs.begin(start[working].flatten(1))
    for evaluation in count():
        if evaluation % ASK_EVERY == 0:
            going = (~problems.settled).nonzero()[:, 0]
            if len(going) == len(waiting) == 0:
                return
            free = len(working) - len(going)
            if objective.narrowed is not None and free >= max(1, MAKE_ROOM * len(working)):
                new, waiting = waiting.tensor_split([at_once - len(going)])
                working = torch.cat([working[going], new])
                problems = problems.of(going).beside(lbfgs.begin(start[new].flatten(1)))
                some = objective.of(working)
        value = some(problems.trial.view(-1, *start.shape[1:]))
        gradient = torch.where(some.movable, value.gradient, 0).flatten(1)
        after = lbfgs.update(problems, value.total, gradient)
        done = record.write(working, problems.settled, after, value, stop_margin)
        problems = after._replace(settled=after.settled | done)


def _by_adam(
    objective: Objective,
    rows: Tensor,
    start: Tensor,
    record: "_Record",
    learning_rate: float,
    stop_margin: float | None,
) -> Tensor:
    """The codes (N, R, D) to which Adam brings the queries `rows` from start (B, R, D)."""
    alone = objective.narrowed is not None
    some, codes = (objective.of(rows), start[rows]) if alone else (objective, start)
    found = by_adam(some, codes, int(BY_ADAM * record.budget), learning_rate, stop_margin)
    curves = found.decision_curve, found.proximity_curve
    record.add(rows, *(curve if alone else curve[rows] for curve in curves))
    return found.style_codes if alone else found.style_codes[rows]


def _stored_margin(objective: Objective, image: Tensor) -> Tensor:
    """(B,) by how much the decision on images (B, 3, H, W), as they will be stored, is the one
    asked for.
    """
    with torch.no_grad():
        return objective.margin(objective.decide(eight_bit(image)).to(image.dtype))


class _Record:
    """Where B queries stand, and what they went through."""

    def __init__(self, codes: Tensor, budget: int) -> None:
        self.budget = budget
        self.codes = codes.clone()
        self.evaluations = torch.zeros(len(codes), dtype=torch.int64, device=codes.device)
        # decision, proximity, margin: rows of one a query and evaluation
        self._parts = codes.new_zeros(3, len(codes), budget)

    def write(
        self,
        rows: Tensor,
        settled: Tensor,
        problems: lbfgs.Problems,
        value: Value,
        stop_margin: float | None,
    ) -> Tensor:
        """Write down an evaluation of the queries `rows` that were not settled; returns (N,) bool,
        who is done, by the budget or the margin.
        """
        place = self.evaluations[rows].clamp(max=self.budget - 1)
        before = self._parts[:, rows, (place - 1).clamp(min=0)]
        now = torch.where(problems.accepted, torch.stack(value[:3]), before)
        self._parts[:, rows, place] = torch.where(settled, self._parts[:, rows, place], now)
        codes = problems.point.view(-1, *self.codes.shape[1:])
        self.codes[rows] = torch.where(settled[:, None, None], self.codes[rows], codes)
        self.evaluations[rows] += ~settled
        done = self.evaluations[rows] >= self.budget
        return done if stop_margin is None else done | (now[2] >= stop_margin)

    def add(self, rows: Tensor, decision: Tensor, proximity: Tensor) -> None:
        """Write down what the queries `rows` went through elsewhere, (N, T) each, without a flip;
        what is over the budget is left out.
        """
        for step in range(decision.shape[1]):
            place = self.evaluations[rows].clamp(max=self.budget - 1)
            self._parts[0, rows, place], self._parts[1, rows, place] = (
                decision[:, step],
                proximity[:, step],
            )
            self.evaluations[rows] = (self.evaluations[rows] + 1).clamp(max=self.budget)

    def curve(self, part: str) -> Tensor:
        """(B, budget), the decision loss or the proximity; of a query that is done, its last."""
        times = torch.arange(self.budget, device=self.codes.device)
        times = times.minimum(self.evaluations[:, None] - 1).clamp(min=0)
        return self._parts[["decision", "proximity"].index(part)].gather(1, times)

    def margins(self) -> Tensor:
        """(B, budget), by how much the decision was the one asked for; 0 = not evaluated."""
        return self._parts[2]
