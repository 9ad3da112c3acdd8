"""The table of a run folder: every metric of every group of queries, with its n and its 95 %
interval.
"""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from rich import box
from rich.console import Console
from rich.table import Table

from cfexp.declaration import Shown
from cfexp.errors import InputError
from cfexp.evaluation.measure.base import Measure, Measures
from cfexp.evaluation.measure.region_sweep import ALONE, DISTANCE, FLIP, SETS, STEP
from cfexp.evaluation.measurements import Measurements, measure
from cfexp.evaluation.run_folder import RunFolder
from cfexp.metrics.vqa_text import Era


class Row(NamedTuple):
    """One number of the table."""

    group: str
    metric: str
    value: float
    n: int  # what it is of: see `counted` of the metric
    # 95 % interval: Wilson's for rates, the bootstrap's over images for means; NaN = there is none.
    low: float
    high: float
    unit: str

    @property
    def has_interval(self) -> bool:
        """Whether anything is known of what other queries would have given."""
        return not math.isnan(self.low)

    @property
    def texts(self) -> tuple[str, str]:
        """The value and its interval for the terminal."""
        return shown(self.value, self.low, self.high)


class Absent(NamedTuple):
    """A number that could not be computed."""

    group: str
    metric: str
    reason: str


class Scores(NamedTuple):
    """The table of one run."""

    run: str
    era: Era
    rows: tuple[Row, ...]
    absent: tuple[Absent, ...]
    measures: Mapping[str, Measure] = {}  # what the numbers are, by name
    apart: Mapping[
        str, str
    ] = {}  # the columns by which queries are counted apart, and what they say

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups, the headline first."""
        return tuple(dict.fromkeys(row.group for row in self.rows))

    @property
    def columns(self) -> dict[str, Shown]:
        """How the numbers that people look at first are shown, by metric: of those that some group
        has.
        """
        known = {row.metric for row in self.rows}
        return {
            name: each.shown for name, each in self.measures.items() if each.shown and name in known
        }

    def rows_of(self, group: str, table: str) -> dict[str, dict[str, Row]]:
        """What stands in a table of its own kind, of a group: by row and column."""
        found: dict[str, dict[str, Row]] = {}
        for row in self.rows:
            cell = self.measures[row.metric].cell if row.metric in self.measures else None
            if row.group == group and cell is not None and cell.table == table:
                found.setdefault(cell.row, {})[cell.column] = row
        return found

    def find(self, group: str, metric: str) -> Row | Absent:
        """One number, or why it is not there. Raises InputError for a group or metric that the
        table does not know.
        """
        everything: list[Row | Absent] = [*self.rows, *self.absent]
        entries = {(entry.group, entry.metric): entry for entry in everything}
        if (group, metric) not in entries:
            groups, metrics = (
                ", ".join(dict.fromkeys(key[part] for key in entries)) for part in (0, 1)
            )
            there = f"the groups are {groups}; the metrics {metrics}"
            raise InputError(f"no {metric!r} of {group!r} in {self.run}: {there}")
        return entries[group, metric]

    def save(self, folder: Path) -> None:
        """Write metrics.json, nested by group and metric, and metrics.csv, one line a number."""
        groups: dict[str, Any] = {group: {} for group in self.groups}
        missing: dict[str, Any] = {}
        for row in self.rows:
            kept = _stored(row)
            groups[row.group][row.metric] = {
                key: kept[key] for key in ("value", "n", "low", "high", "unit")
            }
        for entry in self.absent:
            missing.setdefault(entry.group, {})[entry.metric] = entry.reason
        columns = [{"metric": name, **shown._asdict()} for name, shown in self.columns.items()]
        content = {
            "run": self.run,
            "era": self.era,
            "groups": groups,
            "not_computed": missing,
            "columns": columns,
        }
        (folder / "metrics.json").write_text(
            json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8"
        )
        with (folder / "metrics.csv").open("w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(Row._fields)
            for row in self.rows:
                lines.writerow("" if number is None else number for number in _stored(row).values())


def score_run(
    run: RunFolder, measures: Sequence[Measures] | None = None, *, era: Era = "2021"
) -> Scores:
    """Score what is in a run folder, finished or not.

    measures: what to compute; None = the standard ones, which need no network; see
    `cfexp.evaluation.measure`.

    Raises InputError for a folder that is no run, and for whatever is missing or damaged in it.
    """
    found = measure(run, measures, era=era)
    entries = [
        _entry(found, group, name) for group in found.facts.members for name in found.measures
    ]
    rows = tuple(entry for entry in entries if isinstance(entry, Row))
    absent = tuple(entry for entry in entries if isinstance(entry, Absent))
    apart = {
        column.name: column.meaning
        for column in found.facts.declaration.columns
        if column.counted_apart
    }
    return Scores(run.name, era, rows, absent, found.measures, apart)


def _entry(found: Measurements, group: str, name: str) -> Row | Absent:
    """A number of one group, or why there is none."""
    of = found.measures[name]
    if of.missing:
        return Absent(group, name, of.missing)
    value, low, high, n = found.score(name, group)
    if n == 0:
        return Absent(group, name, f"no {of.counted}")
    if not math.isfinite(value):
        return Absent(group, name, f"of {of.counted}, some give no finite number")
    return Row(group, name, value, n, low, high, of.unit)


def _stored(row: Row) -> dict[str, Any]:
    """A row as files hold it: in five digits, or as many as tell its interval's ends apart; None
    for no interval.
    """
    digits = next(
        (count for count in range(5, 17) if f"{row.low:.{count}g}" != f"{row.high:.{count}g}"), 5
    )
    numbers = {"value": row.value, "low": row.low, "high": row.high}
    rounded = {
        name: float(f"{x:.{digits}g}") if math.isfinite(x) else None for name, x in numbers.items()
    }
    return row._asdict() | rounded


def print_table(scores: Scores, console: Console | None = None) -> None:
    """Print the main columns, a line a group, and the headline group's further figures of its
    decisions and edits.
    """
    console = console or Console()
    columns = {name: shown for name, shown in scores.columns.items() if shown.table}
    table = table_of(
        f"{scores.run}: before and after",
        "queries",
        "n",
        *(shown.header for shown in columns.values()),
    )
    for group in scores.groups:
        count = scores.find(
            group, "flip_rate"
        )  # every query has flipped or not, but where nothing may change
        cells = (_cell(scores.find(group, name), shown.digits) for name, shown in columns.items())
        table.add_row(
            group,
            str(count.n if isinstance(count, Row) else 0),
            *cells,
            style="bold" if group == scores.groups[0] else None,
        )
    console.print(table)
    headline = scores.groups[0]
    if line := counted_apart(scores):
        console.print(line)
    table = table_of(f"{headline}: decisions and edits", "figure", "value", "95 % interval", "n")
    for row in scores.rows:
        of = scores.measures.get(row.metric)
        if row.group == headline and of is not None and of.is_telling and row.metric not in columns:
            value, interval = row.texts
            table.add_row(row.metric, f"{value} {row.unit}".rstrip(), interval, str(row.n))
    console.print(table)
    for table in _sweep_tables(scores, headline):
        console.print(table)
    reasons: dict[str, list[str]] = {}
    for entry in scores.absent:
        of = scores.measures.get(entry.metric)
        # What has a table of its own has a dash there; a floor is missing with its measure.
        if entry.group == headline and of is not None and not of.of_region and not of.ending:
            reasons.setdefault(entry.reason, []).append(entry.metric)
    for reason, metrics in reasons.items():
        console.print(f"not computed: {', '.join(metrics)} ({reason})", style="dim")


def counted_apart(scores: Scores) -> str:
    """How many of the headline's queries are counted apart, and why; empty where none is."""
    for row in scores.rows:
        why = scores.apart.get(row.metric)
        if row.group == scores.groups[0] and why is not None and row.value > 0:
            count = round(row.value * row.n / 100)
            return f"{count} of the queries (n {row.n}) are counted apart, as {row.metric}: {why}"
    return ""


def _sweep_tables(scores: Scores, group: str) -> Iterator[Table]:
    """What each region alone does to the decision, and the smallest sets that turn it; none where
    nobody asked.
    """
    regions, sets = scores.rows_of(group, ALONE), scores.rows_of(group, SETS)
    if not regions:
        return
    table = table_of(
        f"{group}: one region alone",
        "region",
        "n",
        "% flipped",
        "95 % interval",
        "distance",
        "steps",
    )
    for region, columns in sorted(regions.items(), key=lambda item: -item[1][FLIP].value):
        flips = columns[FLIP]
        price = (_cell(columns.get(name), digits) for name, digits in ((DISTANCE, 2), (STEP, 1)))
        table.add_row(region, str(flips.n), f"{flips.value:.1f}", flips.texts[1], *price)
    yield table
    table = table_of(f"{group}: the smallest set that flips", "regions", "%", "95 % interval", "n")
    for label, columns in sets.items():
        for row in columns.values():
            table.add_row(label, *row.texts, str(row.n))
    yield table


def table_of(title: str, first: str, *headers: str) -> Table:
    """An empty table for the terminal: `first` the names, `headers` over numbers."""
    table = Table(
        title=title,
        title_justify="left",
        header_style="bold",
        box=box.SIMPLE_HEAD,
        pad_edge=False,
        collapse_padding=True,
    )
    table.add_column(first)
    for header in headers:
        table.add_column(header, justify="right")
    return table


def _cell(entry: Row | Absent | None, digits: int) -> str:
    return f"{entry.value:.{digits}f}" if isinstance(entry, Row) else "—"


def short(value: float) -> str:
    """A number in three digits or so."""
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def shown(value: float, low: float | None, high: float | None) -> tuple[str, str]:
    """A number and its 95 % interval, short, but in as many digits as tell the interval's ends
    apart.

    A dash stands for no interval, whose ends are NaN, or None as files have them.
    """
    if low is None or high is None or math.isnan(low) or math.isnan(high):
        return short(value), "—"
    texts = short(value), short(low), short(high)
    digits = 3
    while texts[1] == texts[2] and low < high:
        digits += 1
        texts = f"{value:.{digits}g}", f"{low:.{digits}g}", f"{high:.{digits}g}"
    return texts[0], f"[{texts[1]}, {texts[2]}]"
