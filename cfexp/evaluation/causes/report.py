"""Effects of causes as people read them: tables, a plot of claims against the truth, and a sheet of
the intervened scenes.
"""

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from rich.console import Console

from cfexp.evaluation.causes.effects import ALL, Effects, FactorEffect
from cfexp.evaluation.causes.interventions import Answer
from cfexp.evaluation.measure.base import Score
from cfexp.evaluation.report.plot import COLORS, DOTS, GRID
from cfexp.evaluation.report.table import table_of
from cfexp.metrics.causation import Agreement
from cfexp.whole_files import whole_file, write_whole
from cfexp.worlds.factors import Scene

Rows = list[tuple[str, ...]]
FACTORS = ("factor", "values", "n", "CaCE", "95 %", "PN", "PS", "PNS", "turned", "95 %", "claimed")
UNITS = ("region or set", "direction", "n", "turned", "95 %", "claimed", "95 %")
MIDDLE = 60  # percent: names of points to the right of that stand to their left
SHEET_ROW = 1.25  # inches
TEXT_WIDTH = 2.2  # inches
IN_A_ROW = 3  # scenes of the sheet
INK = "#57606a"


def save_and_show(
    effects: Effects, folder: Path, *, title: str, made_by: dict[str, Any], console: Console
) -> None:
    """Write metrics.json, table.md and claims.png, and print the tables."""
    tables = (
        (f"{title}: what each factor does to the decision, in %", FACTORS, factor_rows(effects)),
        (
            "the decision turned by a region alone: drawn otherwise, and explained, in %",
            *(UNITS, unit_rows(effects)),
        ),
    )
    said = agreement_lines(effects)
    text = "\n".join(f"## {name}\n\n{_markdown(head, rows)}" for name, head, rows in tables)
    write_whole(folder / "table.md", f"{text}\n{chr(10).join(said)}\n")
    write_whole(folder / "metrics.json", json.dumps(to_json(effects, made_by), indent=2) + "\n")
    if any(unit.ranked for unit in effects.units):
        with whole_file(folder / "claims.png") as partial:
            _plot(effects, title).savefig(partial, dpi=DOTS, format="png")
    for name, head, rows in tables:
        table = table_of(name, *head)
        for column in table.columns:
            column.no_wrap = True
        for row in rows:
            table.add_row(*row)
        console.print(table)
    for line in said:
        console.print(line, highlight=False)


def factor_rows(effects: Effects) -> Rows:
    """The table of factors, the largest effect first."""
    order = sorted(effects.factors, key=lambda each: -abs(each.cace.value))
    return [_factor_row(each) for each in order if each.cace.n]


def _factor_row(each: FactorEffect) -> tuple[str, ...]:
    shares = (each.necessity, each.sufficiency, each.both)
    return (
        *(each.factor.name, " / ".join(each.factor.values), str(each.cace.n), *texts(each.cace)),
        *(_with_n(score) for score in shares),
        *texts(each.turned),
        _with_n(each.claimed),
    )


def unit_rows(effects: Effects) -> Rows:
    """The table of regions and sets, those first that turn most decisions."""
    first = {unit.name: unit.true.value for unit in effects.units if unit.direction == ALL}
    order = sorted(effects.units, key=lambda unit: -first[unit.name])
    return [
        (
            *(unit.name, unit.direction, str(unit.true.n), *texts(unit.true)),
            *texts(unit.claimed),
        )
        for unit in order
        if unit.true.n
    ]


def agreement_lines(effects: Effects) -> list[str]:
    """What is said of the rank correlation, and of whether the drawings are the run's pictures."""
    value, interval = texts(effects.alike)
    alike = (
        f"decided alike, drawn anew and as in the run: {value} % {interval} (n {effects.scenes})"
    )
    if not effects.agreement.units:
        return [
            alike,
            "no rank correlation: the run tried no region alone (explainer.sweep_regions=true) on "
            "enough scenes",
        ]
    tied, untied = map(_agreement_text, (effects.agreement, effects.untied))
    return [
        alike,
        f"rank correlation of what explanations claim with the true effects: {tied}; shares "
        f"that cannot be told from {effects.tolerated:g} % are tied at 0 on both sides",
        f"with each share as it is: {untied}",
    ]


def to_json(effects: Effects, made_by: dict[str, Any]) -> dict[str, Any]:
    """All numbers as metrics.json has them; None where there is none."""
    units: dict[str, Any] = {}
    for unit in effects.units:
        of_unit = units.setdefault(unit.name, {"regions": list(unit.regions), "directions": {}})
        of_unit["directions"][unit.direction] = {
            "true": _score(unit.true),
            "claimed": _score(unit.claimed),
            "ranked": unit.ranked,
        }
    return {
        **made_by,
        "scenes": effects.scenes,
        "alike": _score(effects.alike),
        "tolerated": effects.tolerated,
        "agreement": _agreement(effects.agreement),
        "agreement_untied": _agreement(effects.untied),
        "factors": {
            each.factor.name: {
                "values": list(each.factor.values),
                "regions": list(each.factor.regions),
                **{name: _score(getattr(each, name)) for name in FactorEffect._fields[1:]},
            }
            for each in effects.factors
        },
        "units": units,
    }


def save_sheet(
    path: Path,
    scenes: Sequence[Scene],
    answers: Sequence[Answer],
    effects: Effects,
    class_names: Sequence[str],
) -> None:
    """Write a picture of scenes with both values of each factor side by side, and the decision
    below; red where the factor turns it.

    Each row is a factor, the largest effect first, in the first scenes that have it: they are not
    selected.
    """
    order = sorted(effects.factors, key=lambda each: -abs(each.cace.value))
    rows = [each.factor for each in order if any(each.factor.name in s.drawn for s in scenes)]
    height, width = scenes[0].image.shape[:2]
    across = max(SHEET_ROW * width / height, TEXT_WIDTH)
    tall = len(rows) * (SHEET_ROW + 0.35) + 0.3  # inches; each with two lines of text
    figure = Figure(figsize=(2 * IN_A_ROW * across + 0.5, tall))
    grid = figure.subplots(len(rows), 2 * IN_A_ROW, squeeze=False)
    figure.subplots_adjust(0.01, 0.3 / tall, 0.99, 1 - 0.25 / tall, wspace=0.06, hspace=0.35)
    for axes in grid.flat:
        axes.axis("off")
        axes.set_anchor("W")
    for line, factor in zip(grid, rows, strict=True):
        pairs = zip(scenes, answers, strict=True)
        having = [(scene, answer) for scene, answer in pairs if factor.name in scene.drawn]
        for pair, (scene, answer) in enumerate(having[:IN_A_ROW]):
            said = answer["drawn"][factor.name]
            turned = (said[0] > 0.5) != (said[1] > 0.5)
            for value, (axes, p) in enumerate(zip(line[2 * pair :], said, strict=False)):
                axes.imshow(scene.drawn[factor.name][value])
                own = ", as it is" if scene.own[factor.name] == value else ""
                axes.set_title(
                    f"{factor.name}: {factor.values[value]}{own}", fontsize=7, loc="left"
                )
                text = f"{class_names[p > 0.5]}, p({class_names[1]}) = {100 * p:.0f} %"
                ink = COLORS[1] if turned else INK
                axes.text(0, 1.02 * height, text, fontsize=8, va="top", color=ink)
    with whole_file(path) as partial:
        figure.savefig(partial, dpi=DOTS, format="png")


def _plot(effects: Effects, title: str) -> Figure:
    """What explanations claim of each unit and direction, against what is true."""
    figure = Figure(figsize=(6.4, 5.6), layout="constrained")
    axes = figure.subplots()
    axes.plot([0, 100], [0, 100], "--", color=GRID)
    axes.set_title(f"{title}\n{_agreement_text(effects.agreement)}", loc="left", fontsize="medium")
    ranked = [unit for unit in effects.units if unit.ranked]
    for color, direction in zip(COLORS, dict.fromkeys(u.direction for u in ranked), strict=False):
        points = [unit for unit in ranked if unit.direction == direction]
        x, y = ([getattr(u, side).value for u in points] for side in ("true", "claimed"))
        axes.plot(x, y, "o", color=color, label=direction, alpha=0.8)
        for unit in points:
            thin: dict[str, Any] = {"color": color, "linewidth": 0.7, "alpha": 0.5}
            axes.hlines(unit.claimed.value, unit.true.low, unit.true.high, **thin)
            axes.vlines(unit.true.value, unit.claimed.low, unit.claimed.high, **thin)
    names: dict[tuple[float, float], dict[str, None]] = {}
    for unit in ranked:
        if max(place := (unit.true.value, unit.claimed.value)) > effects.tolerated:
            names.setdefault(place, {})[unit.name] = None
    for (true, claimed), there in names.items():
        is_far = true > MIDDLE
        axes.annotate(
            ", ".join(there),
            (true + (-1 if is_far else 1), claimed + 1),
            fontsize=7,
            horizontalalignment="right" if is_far else "left",
        )
    axes.set_xlabel("decisions that the region turns when it is drawn otherwise, %")
    axes.set_ylabel("decisions that explanations in it alone turn, %")
    axes.grid(color=GRID)
    axes.legend(frameon=False, loc="lower right")
    axes.spines[["top", "right"]].set_visible(False)
    return figure


def texts(score: Score) -> tuple[str, str]:
    """A number in percent or points, and its interval; a dash stands for none."""
    if not score.n:
        return "—", "—"
    value, low, high = (f"{each:.1f}".replace("-0.0", "0.0") for each in score[:3])
    return value, "—" if np.isnan(score.low) else f"[{low}, {high}]"


def _with_n(score: Score) -> str:
    return f"{texts(score)[0]} (n {score.n})" if score.n else "—"


def _agreement_text(agreement: Agreement) -> str:
    if np.isnan(agreement.value):
        return f"none, over {agreement.units} units: one side is all equal"
    interval = f"[{agreement.low:.3f}, {agreement.high:.3f}]"
    return f"{agreement.value:.3f} {interval} over {agreement.units} units"


def _agreement(agreement: Agreement) -> dict[str, Any]:
    return {name: _number(value) for name, value in agreement._asdict().items()}


def _score(score: Score) -> dict[str, Any]:
    known = score._asdict() if score.n else {"value": np.nan, "low": np.nan, "high": np.nan, "n": 0}
    return {name: _number(value) for name, value in known.items()}


def _number(value: float) -> float | None:
    return None if np.isnan(value) else value


def _markdown(head: Sequence[str], rows: Rows) -> str:
    def lines() -> Iterator[str]:
        yield f"| {' | '.join(head)} |"
        yield f"|{'---|' * len(head)}"
        for row in rows:
            yield f"| {' | '.join(row)} |"

    return "\n".join(lines()) + "\n"
