"""Curves with intervals over one setting, panel beside panel, as one picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

COLORS = ("#0969da", "#cf222e", "#1a7f37", "#8250df", "#bf8700", "#1b7c83")
GRID = "#d8dee4"
PANEL, LEGEND_LINE = (4.6, 3.6), 0.25  # inches
DOTS = 110  # an inch


class Point(NamedTuple):
    """A measured value with its 95 % interval, None where there is none."""

    x: float  # 0 = left, 1 = right
    value: float
    low: float | None = None
    high: float | None = None


class Line(NamedTuple):
    """What is of one colour, and joined where what lies between two points means something."""

    label: str  # in the legend; "" = not there
    points: Sequence[Point]
    color: str = COLORS[0]
    dashed: bool = False  # of a floor: no marks, no intervals
    joined: bool = True  # False: marks alone


class Panel(NamedTuple):
    """One pair of axes."""

    title: str
    lines: Sequence[Line]


def save_panels(
    path: Path,
    title: str,
    panels: Sequence[Panel],
    ticks: Sequence[tuple[float, str]],
    setting: str,
) -> None:
    """Write the panels in a row as PNG; ticks: where on the x axis, 0..1, and what stands there;
    setting: its name.
    """
    labels = {line.label for panel in panels for line in panel.lines if line.label}
    size = (len(panels) * PANEL[0], PANEL[1] + len(labels) * LEGEND_LINE)
    figure = Figure(figsize=size, layout="constrained")
    figure.suptitle(title, x=0.01, horizontalalignment="left")
    known: dict[str, Artist] = {}
    for axes, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        _draw(axes, panel)
        axes.set_xlabel(setting)
        axes.set_xticks([x for x, _ in ticks], [label for _, label in ticks])
        known |= dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    if known:
        figure.legend(list(known.values()), list(known), loc="outside lower left", frameon=False)
    figure.savefig(path, dpi=DOTS)


def _draw(axes: Axes, panel: Panel) -> None:
    axes.set_title(panel.title, loc="left", fontsize="medium")
    axes.set_xlim(-0.04, 1.04)
    axes.grid(axis="y", color=GRID)
    axes.spines[["top", "right", "left"]].set_visible(False)
    for line in panel.lines:
        x, values = [point.x for point in line.points], [point.value for point in line.points]
        label = line.label or "_"  # which stands in no legend
        if line.dashed:
            # Not joined, a short stroke at each place.
            axes.plot(
                x,
                values,
                "--" if line.joined else "_",
                markersize=18,
                color=line.color,
                label=label,
            )
            continue
        axes.plot(x, values, "o-" if line.joined else "o", color=line.color, label=label)
        bounds = [
            (point.x, point.low, point.high)
            for point in line.points
            if None not in (point.low, point.high)
        ]
        if bounds:
            axes.vlines(*zip(*bounds, strict=True), color=line.color, linewidth=1)
