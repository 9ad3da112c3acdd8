"""The table of a run folder: every metric of every group of queries, with its n and its 95 % interval."""

import csv
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from itertools import compress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich import box
from rich.console import Console
from rich.table import Table

from cfexp.declaration import Shown
from cfexp.errors import InputError
from cfexp.evaluation.attack import Attack
from cfexp.evaluation.judges import FLOOR, SUCCESSES, Judge
from cfexp.evaluation.measurements import PREDICTOR_METRICS, Measurements, Predictor, measure
from cfexp.evaluation.metric import Metric, Values
from cfexp.evaluation.region_sweep import DISTANCE, FLIP, NEEDED, SET_FOUND, SET_SIZE, SETS, STEP
from cfexp.evaluation.run_folder import RunFolder
from cfexp.metrics.functional import bootstrap_interval, wilson_interval
from cfexp.metrics.vqa_text import Era

SEED = 0  # of the bootstrap


class Row(NamedTuple):
    """One number of the table."""

    group: str
    metric: str
    value: float
    n: int  # what it is of: see `counted` of the metric
    low: float  # 95 % interval: Wilson's for rates, the bootstrap's over images for means; NaN = there is none
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
    metrics: Mapping[str, Metric] = {}  # what the numbers are, by name
    apart: Mapping[str, str] = {}  # the columns by which queries are counted apart, and what they say

    @property
    def groups(self) -> tuple[str, ...]:
        """The names of the groups, the headline first."""
        return tuple(dict.fromkeys(row.group for row in self.rows))

    @property
    def columns(self) -> dict[str, Shown]:
        """How the numbers that people look at first are shown, by metric: of those that some group has."""
        known = {row.metric for row in self.rows}
        return {name: metric.shown for name, metric in self.metrics.items() if metric.shown and name in known}

    def find(self, group: str, metric: str) -> Row | Absent:
        """One number, or why it is not there. Raises InputError for a group or metric that the table does not know."""
        everything: list[Row | Absent] = [*self.rows, *self.absent]
        entries = {(entry.group, entry.metric): entry for entry in everything}
        if (group, metric) not in entries:
            groups, metrics = (", ".join(dict.fromkeys(key[part] for key in entries)) for part in (0, 1))
            raise InputError(
                f"no {metric!r} of {group!r} in {self.run}: the groups are {groups}; the metrics {metrics}"
            )
        return entries[group, metric]

    def save(self, folder: Path) -> None:
        """Write metrics.json, nested by group and metric, and metrics.csv, one line a number."""
        groups: dict[str, Any] = {group: {} for group in self.groups}
        missing: dict[str, Any] = {}
        for row in self.rows:
            kept = _stored(row)
            groups[row.group][row.metric] = {key: kept[key] for key in ("value", "n", "low", "high", "unit")}
        for entry in self.absent:
            missing.setdefault(entry.group, {})[entry.metric] = entry.reason
        columns = [{"metric": name, **shown._asdict()} for name, shown in self.columns.items()]
        content = {"run": self.run, "era": self.era, "groups": groups, "not_computed": missing, "columns": columns}
        (folder / "metrics.json").write_text(json.dumps(content, indent=2, allow_nan=False) + "\n", encoding="utf-8")
        with (folder / "metrics.csv").open("w", encoding="utf-8", newline="") as file:
            lines = csv.writer(file, lineterminator="\n")
            lines.writerow(Row._fields)
            for row in self.rows:
                lines.writerow("" if number is None else number for number in _stored(row).values())


def score_run(
    run: RunFolder,
    *,
    era: Era = "2021",
    predictors: Mapping[str, Predictor] | None = None,
    judges: Sequence[Judge] = (),
    missing: Mapping[str, str] | None = None,
    attack: Attack | None = None,
) -> Scores:
    """Score what is in a run folder, finished or not.

    predictors: other models by name, whose answers say whether a flip transfers. judges: see
    `cfexp.evaluation.judges`. missing: metrics of other judges, and what they want. attack: whether to ask if it is
    one, see `cfexp.evaluation.attack`.

    Raises InputError for a folder that is no run, and for whatever is missing or damaged in it.
    """
    predictors = predictors or {}
    theirs = {name.format(model): metric for model in predictors for name, metric in PREDICTOR_METRICS.items()}
    measurements = measure(run, era, predictors, judges, attack=attack)
    metrics = measurements.metrics | theirs
    entries = [
        entry
        for index, group in enumerate(measurements.members)
        for entry in _entries(measurements, index, group, metrics)
    ]
    entries += [
        Absent(group, metric + ending, wanted)
        for group in measurements.members
        for metric, wanted in {**(missing or {}), **(attack.missing if attack else {})}.items()
        for ending in ("", FLOOR, SUCCESSES)
    ]
    rows = tuple(entry for entry in entries if isinstance(entry, Row))
    absent = tuple(entry for entry in entries if isinstance(entry, Absent))
    apart = {column.name: column.meaning for column in measurements.declaration.columns if column.counted_apart}
    return Scores(run.name, era, rows, absent, metrics, apart)


def _entries(
    measurements: Measurements, index: int, group: str, metrics: Mapping[str, Metric]
) -> Iterator[Row | Absent]:
    """The numbers of one group, in the order of `metrics`."""
    member = measurements.members[group]
    image_ids = measurements.image_ids[member]
    values = {metric: column[member] for metric, column in measurements.values.items()}
    values["locality_lift"] = _ratio(values["edit_locality"], values["mask_area"])
    of_group = list(compress(measurements.records, measurements.everyone[group]))
    for column in measurements.declaration.columns:
        told = [record[column.name] for record in of_group if column.counted_apart and column.name in record]
        if told:
            value, low, high, n = _share(100.0 * np.array(told))
            yield Row(group, column.name, value, n, low, high, "%")
    for name, metric in metrics.items():
        if name.startswith("checkerboard_"):
            score = measurements.checkerboard.score(index, int(name.removeprefix("checkerboard_")))
        elif name == "language_sensitivity":
            pairs = measurements.sensitivity[group]
            score = _mean(np.array(pairs.values), np.array(pairs.image_ids), metric)
        elif name in measurements.sets:
            score = measurements.sets[name].score(member, measurements.image_ids)
        elif metric.is_rate:
            score = _share(values[name])
        else:
            score = _mean(values[name], image_ids, metric)
        value, low, high, n = score
        if n == 0:
            yield Absent(group, name, f"no {metric.counted}")
        elif not math.isfinite(value):
            yield Absent(group, name, f"of {metric.counted}, some give no finite number")
        else:
            yield Row(group, name, value, n, low, high, metric.unit)


def _share(values: Values) -> tuple[float, float, float, int]:
    """Rate in percent with Wilson's interval, and n, the queries, which count as if they did not depend on each other.

    What several questions about one image have in common is left out; only `_mean` knows of images.
    """
    known = values[~np.isnan(values)]
    happened = int((known > 0).sum())
    low, high = wilson_interval(happened, len(known))
    return 100 * happened / max(len(known), 1), 100 * low, 100 * high, len(known)


def _mean(values: Values, image_ids: NDArray[np.int64], metric: Metric) -> tuple[float, float, float, int]:
    """Mean with the interval of the bootstrap over images, if it has one, and n; of percent, see its `bounds`."""
    known = ~np.isnan(values)
    bounds = (0.0, 100.0) if metric.unit == "%" else None
    low, high = bootstrap_interval(values[known], seed=SEED, groups=image_ids[known], bounds=bounds)
    return float(values[known].sum()) / max(int(known.sum()), 1), low, high, int(known.sum())


def _ratio(above: Values, below: Values) -> Values:
    """Values whose mean is the ratio of the means, and whose spread is that of the ratio to first order.

    The mean of the ratios would be ruled by the smallest objects, and would not be the quotient of the two rows.
    """
    known = ~np.isnan(above)
    if not known.any():
        return above
    ratio = above[known].mean() / below[known].mean()
    linearised: Values = ratio + (above - ratio * below) / below[known].mean()
    return linearised


def _stored(row: Row) -> dict[str, Any]:
    """A row as files hold it: in five digits, or as many as tell its interval's ends apart; None for no interval."""
    digits = next((count for count in range(5, 17) if f"{row.low:.{count}g}" != f"{row.high:.{count}g}"), 5)
    numbers = {"value": row.value, "low": row.low, "high": row.high}
    rounded = {name: float(f"{x:.{digits}g}") if math.isfinite(x) else None for name, x in numbers.items()}
    return row._asdict() | rounded


def print_table(scores: Scores, console: Console | None = None) -> None:
    """Print the main columns, a line a group, and the headline group's figures that tell explanation from attack."""
    console = console or Console()
    known = {row.metric for row in scores.rows}
    columns = {name: shown for name, shown in scores.columns.items() if shown.table}
    table = table_of(f"{scores.run}: before and after", "queries", "n", *(shown.header for shown in columns.values()))
    for group in scores.groups:
        count = scores.find(group, "flip_rate")  # every query has flipped or not, but where nothing may change
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
    table = table_of(f"{headline}: explanation or attack?", "figure", "value", "95 % interval", "n")
    for row in scores.rows:
        metric = scores.metrics.get(row.metric)
        if row.group == headline and metric is not None and metric.is_telling and row.metric not in columns:
            value, interval = row.texts
            table.add_row(row.metric, f"{value} {row.unit}".rstrip(), interval, str(row.n))
    console.print(table)
    if any(metric.startswith(FLIP) for metric in known):
        for table in _sweep_tables(scores, headline):
            console.print(table)
    reasons: dict[str, list[str]] = {}
    for entry in scores.absent:
        # What has a table of its own has a dash there; a floor is missing with its metric.
        elsewhere = entry.metric in scores.metrics and scores.metrics[entry.metric].of_region
        if entry.group == headline and not elsewhere and not entry.metric.endswith((FLOOR, SUCCESSES)):
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
    """What each region alone does to the decision, and the smallest sets that turn it."""
    rows = {row.metric: row for row in scores.rows if row.group == group}
    table = table_of(f"{group}: one region alone", "region", "n", "% flipped", "95 % interval", "distance", "steps")
    rates = [name for name in rows if name.startswith(FLIP)]
    for name in sorted(rates, key=lambda name: -rows[name].value):
        region = name.removeprefix(FLIP)
        price = (_cell(scores.find(group, f"{of}{region}"), digits) for of, digits in ((DISTANCE, 2), (STEP, 1)))
        table.add_row(region, str(rows[name].n), f"{rows[name].value:.1f}", rows[name].texts[1], *price)
    yield table
    table = table_of(f"{group}: the smallest set that flips", "regions", "%", "95 % interval", "n")
    for name, row in rows.items():
        if name.startswith(NEEDED):
            label = name.removeprefix(NEEDED).replace("+", " + ")
        elif name.startswith(SETS):
            label = {SET_FOUND: "any set found", SET_SIZE: "mean number of regions"}[name]
        else:
            continue
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


def _cell(entry: Row | Absent, digits: int) -> str:
    return f"{entry.value:.{digits}f}" if isinstance(entry, Row) else "—"


def short(value: float) -> str:
    """A number in three digits or so."""
    return f"{value:.1f}" if abs(value) >= 10 else f"{value:.3g}"


def shown(value: float, low: float | None, high: float | None) -> tuple[str, str]:
    """A number and its 95 % interval, short, but in as many digits as tell the interval's ends apart.

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
