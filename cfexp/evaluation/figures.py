"""What was measured, held against the figures to reach."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any, NamedTuple

from rich.console import Console

from cfexp.errors import InputError
from cfexp.evaluation.table import Absent, Row, Scores, short, table_of

REACHED, MISSED, COMPARISON, NOT_GIVEN = "reached", "missed", "for comparison", "not given"
NO_INTERVAL = "not told apart: no interval"
_KEYS = {"name", "group", "metric"}
_BOUNDS = ({"run", "at_least"}, {"run", "at_most"}, {"run"}, {"runs", "rises"}, {"runs", "falls"})


class Verdict(NamedTuple):
    """A figure to reach, and what became of it."""

    name: str
    bound: str
    rows: tuple[Row, ...]  # of each run that it is about; none where one of them has none
    # "reached", "missed", "for comparison", "not given: run", "not computed: why", "n is below ...", or NO_INTERVAL
    verdict: str


def compare(
    scores_by_run: Mapping[str, Scores], figures: Sequence[Mapping[str, Any]], console: Console | None = None
) -> list[Verdict]:
    """Print and return how runs compare with the figures to reach.

    figures: each a mapping with name, group, metric, and either run (a key of `scores_by_run`) with at_least or at_most
    (with neither it stands there for comparison), or runs with rises: true or falls: true: from each run to the next;
    with clearly: true so far that their 95 % intervals lie apart, which nobody can tell of runs without one.
    min_n: how many queries each must be of.
    Raises InputError for one with other keys, and for a group or metric that a run does not know.
    """
    verdicts = [_verdict(scores_by_run, figure) for figure in figures]
    table = table_of("Figures to reach", "figure", "bound", "reached", "n", "verdict")
    for name, bound, rows, verdict in verdicts:
        values = [" ".join(row.texts) for row in rows]
        if len(rows) > 1:
            values = [short(row.value) for row in rows]
        counts = dict.fromkeys(str(row.n) for row in rows)
        style = None if verdict in (REACHED, COMPARISON) else "dim" if verdict.startswith(NOT_GIVEN) else "bold red"
        table.add_row(name, bound, ", ".join(values) or "—", ", ".join(counts) or "—", verdict, style=style)
    (console or Console()).print(table)
    return verdicts


def _verdict(scores_by_run: Mapping[str, Scores], figure: Mapping[str, Any]) -> Verdict:
    _check(figure)
    name, bound = str(figure["name"]), _bound(figure)
    runs = figure.get("runs") or [figure["run"]]
    if missing := [run for run in runs if run not in scores_by_run]:
        return Verdict(name, bound, (), f"{NOT_GIVEN}: {', '.join(missing)}")
    entries = [scores_by_run[run].find(figure["group"], figure["metric"]) for run in runs]
    for entry in entries:
        if isinstance(entry, Absent):
            return Verdict(name, bound, (), f"not computed: {entry.reason}")
    rows = tuple(entry for entry in entries if isinstance(entry, Row))
    fewest = min(row.n for row in rows)
    if fewest < figure.get("min_n", 0):
        return Verdict(name, bound, rows, f"n is below {figure['min_n']}")
    if not bound:
        return Verdict(name, bound, rows, COMPARISON)
    if "clearly" in figure and not all(row.has_interval for row in rows):
        return Verdict(name, bound, rows, NO_INTERVAL)
    return Verdict(name, bound, rows, REACHED if _is_reached(figure, rows) else MISSED)


def _check(figure: Mapping[str, Any]) -> None:
    bounds = set(figure) - _KEYS - {"min_n"} - ({"clearly"} if "runs" in figure else set())
    switches = [figure[key] for key in ("rises", "falls", "clearly") if key in figure]
    several = "runs" not in figure or len(figure["runs"]) > 1
    if not set(figure) >= _KEYS or bounds not in _BOUNDS or not several or any(value is not True for value in switches):
        expected = "name, group, metric, and run with at_least or at_most, or runs with rises: true or falls: true"
        raise InputError(f"a figure has the keys {expected}; got {dict(figure)}")


def _bound(figure: Mapping[str, Any]) -> str:
    if "runs" in figure:
        return ("rises" if "rises" in figure else "falls") + (" clearly" if "clearly" in figure else "")
    signs = {"at_least": ">=", "at_most": "<="}
    return next((f"{sign} {float(figure[key]):g}" for key, sign in signs.items() if key in figure), "")


def _is_reached(figure: Mapping[str, Any], rows: Sequence[Row]) -> bool:
    if "runs" not in figure:
        value = rows[0].value
        return value >= float(figure["at_least"]) if "at_least" in figure else value <= float(figure["at_most"])
    steps = list(pairwise(rows if "rises" in figure else rows[::-1]))
    if "clearly" in figure:
        return all(before.high < after.low for before, after in steps)
    return all(before.value < after.value for before, after in steps)
