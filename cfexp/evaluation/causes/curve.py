"""One factor over several runs, whose decision models differ in a setting: its true effect, and the
share of the explanations that go through it.
"""

import json
from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.console import Console

from cfexp.evaluation.causes.effects import FactorEffect
from cfexp.evaluation.causes.report import texts
from cfexp.evaluation.measure.base import Score
from cfexp.evaluation.measure.estimate import share_among
from cfexp.evaluation.reliance.edits import edits_of
from cfexp.evaluation.report.plot import COLORS, Line, Panel, Point, save_panels
from cfexp.evaluation.report.table import table_of
from cfexp.evaluation.run_folder import RunFolder
from cfexp.whole_files import whole_file, write_whole
from cfexp.worlds.factors import Factor

LABELS = {
    "cace": "true effect: CaCE, points",
    "turned": "true effect: decisions that it turns, %",
    "through": "explanations that go mainly through it, %",
}


class CurvePoint(NamedTuple):
    """What one run says of the factor."""

    at: float  # the setting
    cace: Score
    turned: Score
    through: Score  # of the explanations


def curve_point(run: RunFolder, at: float, effect: FactorEffect) -> CurvePoint:
    """A run's point; raises InputError as `edits_of`."""
    edits = edits_of(run)
    regions = [number for number, name in enumerate(edits.regions) if name in effect.factor.regions]
    through = share_among(np.isin(edits.leading, regions), edits.turned)
    return CurvePoint(at, effect.cace, effect.turned, through)


def save_and_show_curve(
    points: Sequence[CurvePoint], factor: Factor, setting: str, folder: Path, console: Console
) -> None:
    """Write curve.json, curve.md and curve.png, and print the table. points: by their setting."""
    table = table_of(f"{factor.name} over {setting}", setting, *_HEADERS)
    rows = [(f"{point.at:g}", *_cells(point)) for point in points]
    for row in rows:
        table.add_row(*row)
    console.print(table)
    lines = [f"| {' | '.join(row)} |" for row in ((setting, *_HEADERS), *rows)]
    said = [f"{label}: {rises(points, name)}" for name, label in LABELS.items()]
    for each in said:
        console.print(each, highlight=False)
    text = "\n".join([lines[0], "|---" * len(rows[0]) + "|", *lines[1:], "", *said, ""])
    write_whole(folder / "curve.md", text)
    content = [
        {"at": point.at, **{name: getattr(point, name)._asdict() for name in LABELS}}
        for point in points
    ]
    known = {"factor": factor.name, "setting": setting, "points": content}
    write_whole(folder / "curve.json", json.dumps(known, indent=2) + "\n")
    low, high = points[0].at, points[-1].at
    width = (high - low) or 1.0

    def line(name: str, color: str) -> Line:
        marks = [
            Point((point.at - low) / width, *getattr(point, name)[:3])
            for point in points
            if getattr(point, name).n
        ]
        return Line(LABELS[name], marks, color)

    drawn = [line(name, color) for name, color in zip(LABELS, COLORS, strict=False)]
    ticks = [((point.at - low) / width, f"{point.at:g}") for point in points]
    with whole_file(folder / "curve.png", folder / "curve.partial.png") as partial:
        save_panels(partial, factor.name, [Panel("", drawn)], ticks, setting)


def rises(points: Sequence[CurvePoint], name: str) -> str:
    """Whether a number rises along the curve, in words."""
    values = [getattr(point, name).value for point in points]
    steps = [after - before for before, after in pairwise(values)]
    if all(step > 0 for step in steps):
        return "rises from point to point"
    return "never falls" if all(step >= 0 for step in steps) else "does not rise throughout"


_HEADERS = ("CaCE", "95 %", "turned", "95 %", "n", "explanations through it", "95 %", "n")


def _cells(point: CurvePoint) -> tuple[str, ...]:
    true = (*texts(point.cace), *texts(point.turned), str(point.turned.n))
    return (*true, *texts(point.through), str(point.through.n))
