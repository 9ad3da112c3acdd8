"""The search by limited-memory BFGS: Adam's minimum or a better one, in a fraction of the
evaluations. Ours; STEEX has Adam.
"""

from dataclasses import replace
from functools import partial
from itertools import count

import torch
from torch import Tensor

from cfexp import losses
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
# is asked for by so many logits more, in turn. Where it did not turn, the query starts again, asked
# for by LOST more; where that, too, does not turn it, with Adam until it turns, for at most this
# share of the evaluations that it may take.
MARGINS, LOST, BY_ADAM = (0.5, 2.0, 8.0), 2.0, 0.5
# Of some queries, what may change (a region alone) has no say in the decision. Adam goes on only
# where it, in its first so many steps, or the search before it brought the decision nearer by this
# share of what was missing.
FIRST_LOOK, NEARER = 8, 0.1


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
    if budget > 0:
        everyone = torch.arange(len(codes), device=codes.device)
        _search(objective, everyone, codes, record, at_once, stop_margin, LOST)
    image, logits = objective.look(record.codes)
    stored = _stored_margin(objective, image)
    for attempt, margin in enumerate(MARGINS):
        turned = objective.margin(logits) > 0
        failed = (stored <= 0) & (record.evaluations < budget)
        lost = failed & ~turned & objective.movable.any(1)[:, 0]
        if attempt > 0:
            lost = torch.zeros_like(lost)
        if not (again := failed & turned | lost).any():
            break
        before = record.codes.clone()
        least = (1 - NEARER) * record.margins()[:, 0].clamp(max=0)
        least = torch.where(objective.margin(logits) >= least, -torch.inf, least)
        for rows in torch.split(lost.nonzero()[:, 0], at_once):
            again[rows] = _by_adam(
                objective, rows, codes, record, least[rows], learning_rate, stop_margin
            )
        if len(rows := again.nonzero()[:, 0]) == 0:
            break
        asked = replace(objective, asked_margin=margin * turned.to(codes.dtype))
        going = rows[record.evaluations[rows] < budget]
        _search(asked, going, record.codes.clone(), record, at_once, stop_margin)
        for part in torch.split(rows, at_once):
            seen = _look(objective, part, record.codes)
            better = seen[2] > stored[part]
            record.codes[part[~better]] = before[part[~better]]
            for kept, new in zip((image, logits, stored), seen, strict=True):
                kept[part[better]] = new[better]
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
    lost_margin: float = 0.0,
) -> None:
    """Search the queries `rows` (N,) int64 of all from start (B, R, D), and write it down.

    lost_margin: see `_SecondStart`; 0 = a query ends where it ends.
    """
    if len(rows) == 0:
        return
    begin = partial(lbfgs.begin, least_curvature=2 * objective.proximity_weight)
    if objective.narrowed is None:  # all are computed to the end, but only those are searched
        working, waiting, some = torch.arange(len(start), device=rows.device), rows[:0], objective
        problems = begin(start.flatten(1))
        problems = problems._replace(settled=~torch.isin(working, rows))
    else:
        working, waiting = rows[:at_once], rows[at_once:]
        some = objective if len(working) == len(start) else objective.of(working)
        problems = begin(start[working].flatten(1))
    second = _SecondStart(objective, start, lost_margin)
    for evaluation in count():
        if evaluation % ASK_EVERY == 0:
            going = (~problems.settled).nonzero()[:, 0]
            if len(going) == len(waiting) == 0:
                break
            free = len(working) - len(going)
            if objective.narrowed is not None and free >= max(1, MAKE_ROOM * len(working)):
                new, waiting = waiting.tensor_split([at_once - len(going)])
                working = torch.cat([working[going], new])
                problems = problems.of(going).beside(begin(start[new].flatten(1)))
                some = objective.of(working)
        asked = replace(some, asked_margin=second.asked[working])
        value = asked(problems.trial.view(-1, *start.shape[1:]))
        loss_slope, rest_slope = (
            torch.where(some.movable, slope, 0).flatten(1)
            for slope in (value.asked_gradient, value.rest_gradient)
        )
        after = lbfgs.update(problems, value.asked, loss_slope, value.rest, rest_slope)
        done = record.write(working, problems.settled, after, value, stop_margin)
        going = ~(problems.settled | done)
        again, here = second.of(working, going, after.settled, record)
        after = after._replace(settled=after.settled | done)
        problems = begin(here.flatten(1)).where(again, after)
    second.undo(record)


class _SecondStart:
    """Of B queries, those that end with the decision not turned start again, once, asked for by a
    margin more. From where that has turned the decision, they go on without it; where nothing turns
    it, they stay where they had ended.
    """

    def __init__(self, objective: Objective, start: Tensor, margin: float) -> None:
        self.start, self.margin = start, margin
        self.asked = start.new_zeros(len(start))  # (B,): by how many logits more than 0
        if objective.asked_margin is not None:
            self.asked = objective.asked_margin.clone()
        self.may = objective.movable.any(1)[:, 0] & (margin > 0)  # (B,) bool
        self.begun = torch.zeros_like(self.may)
        self.ended = start.clone()  # (B, R, D), where those that have begun again had ended

    def of(
        self, rows: Tensor, going: Tensor, settled: Tensor, record: "_Record"
    ) -> tuple[Tensor, Tensor]:
        """(N,) bool, which of the queries `rows` begin a search anew, and where (N, R, D).

        going: (N,) bool, who was searched and may be further. settled: (N,) bool, who arrived.
        """
        codes, turned = record.codes[rows], record.turned()[rows]
        lost = going & settled & ~turned & self.may[rows]
        helped = going & turned & self.begun[rows] & (self.asked[rows] > 0)
        self.ended[rows] = torch.where(lost[:, None, None], codes, self.ended[rows])
        self.begun[rows] |= lost
        self.may[rows] &= ~lost
        without = torch.where(helped, 0, self.asked[rows])
        self.asked[rows] = torch.where(lost, self.margin, without)
        return lost | helped, torch.where(lost[:, None, None], self.start[rows], codes)

    def undo(self, record: "_Record") -> None:
        """Bring those back that began again for nothing."""
        back = self.begun & ~record.turned()
        record.codes = torch.where(back[:, None, None], self.ended, record.codes)


def _by_adam(
    objective: Objective,
    rows: Tensor,
    start: Tensor,
    record: "_Record",
    least: Tensor,
    learning_rate: float,
    stop_margin: float | None,
) -> Tensor:
    """The same by Adam, until the decision has turned; of those that have not turned after its
    first steps, if more are left, those go on whose margin then is at least `least` (N,); returns
    (N,) bool, which did.
    """
    stop = 0.0 if stop_margin is None else stop_margin

    def take(rows: Tensor, codes: Tensor, num_steps: int) -> StyleSearch:
        if objective.narrowed is not None:
            return by_adam(objective.of(rows), codes, num_steps, learning_rate, stop)
        everyone = start.index_copy(0, rows, codes)
        found = by_adam(objective, everyone, num_steps, learning_rate, stop)
        return StyleSearch(*(column[rows] for column in found))

    if len(rows) == 0:
        return torch.zeros_like(rows, dtype=torch.bool)
    steps = int(BY_ADAM * record.budget)
    found = take(rows, start[rows], min(FIRST_LOOK, steps))
    margin = losses.decision_margin(found.logits, objective.counter_class[rows], objective.head)
    going = (margin >= least) | (steps <= FIRST_LOOK)
    record.stay(rows[~going], found.decision_curve.shape[1])
    record.add(rows[going], StyleSearch(*(column[going] for column in found)))
    further = going & (margin < stop)
    if further.any() and steps > FIRST_LOOK:
        more = take(rows[further], found.style_codes[further], steps - FIRST_LOOK)
        record.add(rows[further], more)
    return going


def _look(objective: Objective, rows: Tensor, codes: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Of the queries `rows` (N,) of all, at codes (B, R, D): image, logits, and what
    `_stored_margin` says.
    """
    if objective.narrowed is not None:
        some = objective.of(rows)
        image, logits = some.look(codes[rows])
        return image, logits, _stored_margin(some, image)
    image, logits = objective.look(codes)
    return image[rows], logits[rows], _stored_margin(objective, image)[rows]


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

    def add(self, rows: Tensor, found: StyleSearch) -> None:
        """Write down what another search of the queries `rows` found; of its curves no more than
        the budget has room for.
        """
        times = torch.arange(found.decision_curve.shape[1], device=rows.device)
        turned = (found.flip_step[:, None] >= 0) & (times >= found.flip_step[:, None])
        parts = [found.decision_curve, found.proximity_curve, turned.to(self._parts)]
        self._put(rows, torch.stack(parts), found.evaluations)
        self.codes[rows] = found.style_codes

    def stay(self, rows: Tensor, count: int) -> None:
        """Write down so many evaluations that left the queries `rows` where they stood."""
        last = self._parts[:, rows, self.evaluations[rows] - 1]
        parts = last[..., None].expand(-1, -1, count)
        self._put(rows, parts, torch.full_like(rows, count))

    def _put(self, rows: Tensor, parts: Tensor, counts: Tensor) -> None:
        """Write the first `counts` (N,) of parts (3, N, T) after what the queries `rows` went
        through, within the budget.
        """
        times = torch.arange(parts.shape[2], device=rows.device)
        place = self.evaluations[rows, None] + times
        room = (place < self.budget) & (times < counts[:, None])
        self._parts[:, rows[:, None].expand_as(place)[room], place[room]] = parts[:, room]
        self.evaluations[rows] += room.sum(1)

    def curve(self, part: str) -> Tensor:
        """(B, budget), the decision loss or the proximity; of a query that is done, its last."""
        times = torch.arange(self.budget, device=self.codes.device)
        times = times.minimum(self.evaluations[:, None] - 1).clamp(min=0)
        return self._parts[["decision", "proximity"].index(part)].gather(1, times)

    def turned(self) -> Tensor:
        """(B,) bool: whether the decision is the one asked for where a query, evaluated, stands."""
        last = (self.evaluations - 1).clamp(min=0)
        return self.margins().gather(1, last[:, None])[:, 0] > 0

    def margins(self) -> Tensor:
        """(B, budget), above 0 where the decision was the one asked for; 0 = not evaluated."""
        return self._parts[2]
