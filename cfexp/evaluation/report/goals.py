"""What was measured, held against the goals."""

from collections.abc import Mapping, Sequence
from itertools import chain, pairwise
from statistics import fmean
from typing import Any, NamedTuple

from rich.console import Console

from cfexp.errors import InputError
from cfexp.evaluation.report.table import Absent, Row, Scores, short, table_of

REACHED, MISSED, COMPARISON, NOT_GIVEN = "reached", "missed", "for comparison", "not given"
NO_INTERVAL = "not told apart: no interval"
_KEYS = {"name", "group", "metric"}
_BOUNDS = ({"run", "at_least"}, {"run", "at_most"}, {"run"}, {"runs", "rises"}, {"runs", "falls"})


class Verdict(NamedTuple):
    """A goal, and what became of it."""

    name: str
    bound: str
    rows: tuple[
        tuple[Row, ...], ...
    ]  # of each run that it is about, one for each seed; none where one is missing
    # "reached", "missed", "for comparison", "not given: run", "not computed: why", "n is below
    # ...", or NO_INTERVAL
    verdict: str


def compare(
    scores_by_run: Mapping[str, Sequence[Scores]],
    goals: Sequence[Mapping[str, Any]],
    console: Console | None = None,
) -> list[Verdict]:
    """Print and return how runs compare with the goals.

    scores_by_run: of each run its scores, several where it was repeated with other seeds. A goal is
    reached if every seed reaches it: what is printed of several is their mean and range. goals:
    each a mapping with name, group, metric, and either run (a key of `scores_by_run`) with at_least
    or at_most (with neither it stands there for comparison), or runs with rises: true or falls:
    true: from each run to the next; with clearly: true so far that their 95 % intervals lie apart,
    which nobody can tell of runs without one. min_n: how many queries each must be of. Raises
    InputError for one with other keys, for a group or metric that a run does not know, and for a
    goal of several runs that were not repeated equally often.
    """
    verdicts = [_verdict(scores_by_run, goal) for goal in goals]
    seeds = max((len(scores) for scores in scores_by_run.values()), default=1)
    title = "Goals" if seeds == 1 else f"Goals; mean (range) of {seeds} seeds"
    table = table_of(title, "goal", "bound", "measured", "n", "verdict")
    for name, bound, rows, verdict in verdicts:
        values = [_measured(of_run, alone=len(rows) == 1) for of_run in rows]
        counts = dict.fromkeys(str(row.n) for of_run in rows for row in of_run)
        style = (
            None
            if verdict in (REACHED, COMPARISON)
            else "dim"
            if verdict.startswith(NOT_GIVEN)
            else "bold red"
        )
        table.add_row(
            name, bound, ", ".join(values) or "—", ", ".join(counts) or "—", verdict, style=style
        )
    (console or Console()).print(table)
    return verdicts


def _measured(of_run: Sequence[Row], *, alone: bool) -> str:
    """What is printed of one run: its value, with the interval if it stands alone; of several seeds
    mean and range.
    """
    values = [row.value for row in of_run]
    if len(values) > 1:
        return f"{short(fmean(values))} ({short(min(values))} to {short(max(values))})"
    return " ".join(of_run[0].texts) if alone else short(values[0])


def _verdict(scores_by_run: Mapping[str, Sequence[Scores]], goal: Mapping[str, Any]) -> Verdict:
    _check(goal)
    name, bound = str(goal["name"]), _bound(goal)
    runs = goal.get("runs") or [goal["run"]]
    if missing := [run for run in runs if run not in scores_by_run]:
        return Verdict(name, bound, (), f"{NOT_GIVEN}: {', '.join(missing)}")
    found = [
        [scores.find(goal["group"], goal["metric"]) for scores in scores_by_run[run]]
        for run in runs
    ]
    for entry in chain.from_iterable(found):
        if isinstance(entry, Absent):
            return Verdict(name, bound, (), f"not computed: {entry.reason}")
    rows = tuple(tuple(entry for entry in of_run if isinstance(entry, Row)) for of_run in found)
    if len({len(of_run) for of_run in rows}) > 1:
        counts = ", ".join(f"{run} {len(of_run)}" for run, of_run in zip(runs, rows, strict=True))
        raise InputError(
            f"the goal {name!r} compares runs that have equally many seeds, got {counts}"
        )
    fewest = min(row.n for row in chain.from_iterable(rows))
    if fewest < goal.get("min_n", 0):
        return Verdict(name, bound, rows, f"n is below {goal['min_n']}")
    if not bound:
        return Verdict(name, bound, rows, COMPARISON)
    if "clearly" in goal and not all(row.has_interval for row in chain.from_iterable(rows)):
        return Verdict(name, bound, rows, NO_INTERVAL)
    reached = all(_is_reached(goal, of_seed) for of_seed in zip(*rows, strict=True))
    return Verdict(name, bound, rows, REACHED if reached else MISSED)


def _check(goal: Mapping[str, Any]) -> None:
    bounds = set(goal) - _KEYS - {"min_n"} - ({"clearly"} if "runs" in goal else set())
    switches = [goal[key] for key in ("rises", "falls", "clearly") if key in goal]
    several = "runs" not in goal or len(goal["runs"]) > 1
    if (
        not set(goal) >= _KEYS
        or bounds not in _BOUNDS
        or not several
        or any(value is not True for value in switches)
    ):
        which = "run with at_least or at_most, or runs with rises: true or falls: true"
        expected = f"name, group, metric, and {which}"
        raise InputError(f"a goal has the keys {expected}; got {dict(goal)}")


def _bound(goal: Mapping[str, Any]) -> str:
    if "runs" in goal:
        return ("rises" if "rises" in goal else "falls") + (" clearly" if "clearly" in goal else "")
    signs = {"at_least": ">=", "at_most": "<="}
    return next((f"{sign} {float(goal[key]):g}" for key, sign in signs.items() if key in goal), "")


def _is_reached(goal: Mapping[str, Any], rows: Sequence[Row]) -> bool:
    if "runs" not in goal:
        value = rows[0].value
        return (
            value >= float(goal["at_least"])
            if "at_least" in goal
            else value <= float(goal["at_most"])
        )
    steps = list(pairwise(rows if "rises" in goal else rows[::-1]))
    if "clearly" in goal:
        return all(before.high < after.low for before, after in steps)
    return all(before.value < after.value for before, after in steps)
