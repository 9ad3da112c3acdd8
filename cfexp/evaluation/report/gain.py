"""What a repair gained: the accuracy of each model on images that none was trained on, over all and
in its worst group.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from rich.console import Console

from cfexp.errors import InputError
from cfexp.evaluation.measure.base import Score
from cfexp.evaluation.measure.estimate import SEED, share_among
from cfexp.evaluation.report.table import table_of
from cfexp.metrics.functional import bootstrap_interval
from cfexp.whole_files import write_whole

LEAST = 20  # images of a group, below which its interval says nothing
HEADINGS = ("all", "gain", "worst group", "worst group before")


class Judged(NamedTuple):
    """N images that were decided by models; the first is the one before the repair."""

    right: Mapping[str, NDArray[np.bool_]]  # (N,) by model
    labels: Sequence[str]  # (N) what each image is
    factors: Sequence[Mapping[str, str]]  # (N) what else is known of each, by name


class Row(NamedTuple):
    """A model's accuracies, in percent."""

    model: str
    everywhere: Score
    gain: Score | None  # in points against the first model, on the same images
    worst: tuple[str, Score]  # a group and its accuracy
    worst_before: tuple[str, Score]  # in the group that was the first model's worst


def check_groups(factors: Sequence[Mapping[str, str]], groups: Sequence[str] | None) -> None:
    """Raise InputError for a name by which test images are to be grouped and that nobody knows."""
    known = _names(factors)
    if unknown := [name for name in groups or () if name not in known]:
        problem = f"{unknown[0]!r} is nothing that is known of test images"
        raise InputError(f"groups: {problem}; there is {', '.join(known) or 'nothing'}")


def gains(judged: Judged, groups: Sequence[str] | None = None) -> list[Row]:
    """The rows of the table.

    groups: names of the factors by which images are grouped, each by itself and by label; None =
    all. Groups of fewer than `LEAST` images count for nothing. The worst of many groups is low by
    chance, too: its interval is that of a group chosen beforehand.
    """
    known = _names(judged.factors)
    count = len(judged.labels)
    members = {"all": np.ones(count, dtype=bool)}
    for label in dict.fromkeys(judged.labels):
        of_label = np.array([each == label for each in judged.labels])
        members[label] = of_label
        for name in known if groups is None else groups:
            values = np.array([each.get(name, "") for each in judged.factors])
            for value in np.unique(values[of_label]):
                members[f"{label}, {name} {value}"] = of_label & (values == value)
    members = {name: each for name, each in members.items() if each.sum() >= LEAST} or members
    first = next(iter(judged.right))
    before = min(members, key=lambda name: judged.right[first][members[name]].mean())
    rows = []
    for model, right in judged.right.items():
        worst = min(members, key=lambda name: right[members[name]].mean())
        found = {name: share_among(right, members[name]) for name in (worst, before)}
        moved = 100.0 * (right.astype(float) - judged.right[first])
        low, high = bootstrap_interval(moved, seed=SEED)
        rows.append(
            Row(
                model,
                share_among(right, np.ones(count, dtype=bool)),
                None if model == first else Score(float(moved.mean()), low, high, count),
                (worst, found[worst]),
                (before, found[before]),
            )
        )
    return rows


def show_gains(rows: Sequence[Row], said: Mapping[str, str], folder: Path) -> None:
    """Print the table, and leave it in `folder` as table.md and metrics.json."""
    count = rows[0].everywhere.n
    title = f"% right of {count} test images that the run did not explain, with 95 % intervals"
    table = table_of(title, "trained on", *HEADINGS)
    lines = [f"{title}.", "", f"| trained on | {' | '.join(HEADINGS)} |", "|---" * 5 + "|"]
    for row in rows:
        cells = (
            said.get(row.model, row.model),
            _text(row.everywhere),
            "" if row.gain is None else _text(row.gain, signed=True),
            *(
                f"{_text(score)} {name} (n {score.n})"
                for name, score in (row.worst, row.worst_before)
            ),
        )
        table.add_row(*cells)
        lines.append(f"| {' | '.join(cells)} |")
    Console().print(table)
    write_whole(folder / "table.md", "\n".join(lines) + "\n")
    content = {row.model: _json(row) for row in rows}
    write_whole(folder / "metrics.json", json.dumps(content, indent=2) + "\n")


def _names(factors: Sequence[Mapping[str, str]]) -> list[str]:
    return [*dict.fromkeys(name for each in factors for name in each)]


def _text(score: Score, *, signed: bool = False) -> str:
    sign = "+" if signed else ""
    interval = f" [{score.low:{sign}.1f}, {score.high:{sign}.1f}]"
    # There is none where no image, or every one, is decided otherwise.
    return f"{score.value:{sign}.1f}{'' if math.isnan(score.low) else interval}"


def _json(row: Row) -> dict[str, Any]:
    def of(score: Score) -> dict[str, float | None]:
        return {name: None if math.isnan(x) else x for name, x in score._asdict().items()}

    found: dict[str, Any] = {"accuracy": of(row.everywhere)}
    if row.gain is not None:
        found["gain"] = of(row.gain)
    for name, (group, score) in (("worst_group", row.worst), ("worst_before", row.worst_before)):
        found[name] = {"group": group, **of(score)}
    return found
