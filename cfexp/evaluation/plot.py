"""Curves with intervals over one setting, panel beside panel, as one picture."""

import math
from collections.abc import Sequence
from functools import cache
from itertools import pairwise
from typing import NamedTuple

from PIL import Image, ImageDraw, ImageFont

INK, GREY, GRID, PAPER = "#1b1f24", "#6a737d", "#d8dee4", "#ffffff"
COLORS = ("#0969da", "#cf222e", "#1a7f37", "#8250df", "#bf8700", "#1b7c83")
WIDTH, HEIGHT, MARGIN, LEFT, TOP, BOTTOM = 380, 260, 28, 62, 40, 64  # pixels: a panel's axes, and what is round them
TITLE, TEXT, SMALL = 20, 15, 13  # font sizes
_FINE = 2  # drawn so many times as large, and reduced: Pillow's lines have no soft edges


class Point(NamedTuple):
    """A measured value with its 95 % interval, None where there is none."""

    x: float  # 0 = left, 1 = right
    value: float
    low: float | None = None
    high: float | None = None


class Line(NamedTuple):
    """What is joined in one colour."""

    label: str  # in the legend; "" = not there
    points: Sequence[Point]
    color: str = COLORS[0]
    dashed: bool = False  # of a floor: no marks, no intervals


class Panel(NamedTuple):
    """One pair of axes."""

    title: str
    lines: Sequence[Line]


def draw_panels(title: str, panels: Sequence[Panel], ticks: Sequence[tuple[float, str]], setting: str) -> Image.Image:
    """The panels in a row; ticks: where on the x axis, 0..1, and what stands there; setting: its name."""
    legend = {line.label: line for panel in panels for line in panel.lines if line.label}
    across = MARGIN + len(panels) * (LEFT + WIDTH + MARGIN)
    down = 2 * MARGIN + TITLE + TOP + HEIGHT + BOTTOM + len(legend) * (SMALL + 8)
    sheet = _Sheet(across, down)
    sheet.text(MARGIN, MARGIN, title, TITLE, INK, "la")
    for number, panel in enumerate(panels):
        left = MARGIN + LEFT + number * (LEFT + WIDTH + MARGIN)
        _draw_panel(sheet, panel, left, MARGIN + TITLE + TOP, ticks, setting)
    y = float(MARGIN + TITLE + TOP + HEIGHT + BOTTOM)
    for label, line in legend.items():
        sheet.line(MARGIN + LEFT, y, MARGIN + LEFT + 28, y, line.color, 2, line.dashed)
        sheet.text(MARGIN + LEFT + 38, y, label, SMALL, INK, "lm")
        y += SMALL + 8
    return sheet.finished()


def _draw_panel(
    sheet: "_Sheet", panel: Panel, left: float, top: float, ticks: Sequence[tuple[float, str]], setting: str
) -> None:
    bounds = [each for line in panel.lines for point in line.points for each in point[1:] if each is not None]
    levels = nice_ticks(min(bounds, default=0.0), max(bounds, default=1.0))

    def place(x: float, value: float) -> tuple[float, float]:
        # A margin in the axes keeps the marks at their ends whole.
        share = (value - levels[0]) / (levels[-1] - levels[0])
        return left + WIDTH * (0.04 + 0.92 * x), top + HEIGHT * (1 - share)

    sheet.text(left, top - 14, panel.title, TEXT, INK, "ls")
    for level in levels:
        _, y = place(0, level)
        sheet.line(left, y, left + WIDTH, y, GRID, 1)
        sheet.text(left - 8, y, f"{level:g}", SMALL, GREY, "rm")
    for x, label in ticks:
        across, _ = place(x, levels[0])
        sheet.line(across, top + HEIGHT, across, top + HEIGHT + 5, GREY, 1)
        sheet.text(across, top + HEIGHT + 9, label, SMALL, GREY, "ma")
    sheet.text(left + WIDTH / 2, top + HEIGHT + 30, setting, SMALL, INK, "ma")
    for line in panel.lines:
        places = [place(point.x, point.value) for point in line.points]
        for (x0, y0), (x1, y1) in pairwise(places):
            sheet.line(x0, y0, x1, y1, line.color, 2, line.dashed)
        if line.dashed:
            continue
        for point, (x, y) in zip(line.points, places, strict=True):
            if point.low is not None and point.high is not None:
                sheet.line(x, place(0, point.low)[1], x, place(0, point.high)[1], line.color, 1)
            sheet.dot(x, y, line.color)


def nice_ticks(low: float, high: float) -> list[float]:
    """Three to seven round numbers, the first at most `low` and the last at least `high`."""
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-9):
        low, high = low - 0.5 * (abs(low) or 1), high + 0.5 * (abs(high) or 1)
    rough = (high - low) / 4
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(each * power for each in (1, 2, 5, 10) if each * power >= rough)
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [round(number * step, 12) for number in range(first, last + 1)]


class _Sheet:
    """Paper that is drawn on in pixels of what comes out."""

    def __init__(self, width: float, height: float) -> None:
        self._image = Image.new("RGB", (round(width) * _FINE, round(height) * _FINE), PAPER)
        self._draw = ImageDraw.Draw(self._image)

    def finished(self) -> Image.Image:
        return self._image.reduce(_FINE)

    def text(self, x: float, y: float, text: str, size: int, color: str, anchor: str) -> None:
        self._draw.text((x * _FINE, y * _FINE), text, color, _font(size * _FINE), anchor=anchor)

    def line(self, x0: float, y0: float, x1: float, y1: float, color: str, width: int, dashed: bool = False) -> None:
        length = math.hypot(x1 - x0, y1 - y0)
        count = max(1, round(length / 10)) if dashed else 1
        for part in range(count):
            start, end = part / count, (part + (0.55 if dashed else 1)) / count
            ends = [(x0 + at * (x1 - x0), y0 + at * (y1 - y0)) for at in (start, end)]
            self._draw.line([(x * _FINE, y * _FINE) for x, y in ends], color, width * _FINE)

    def dot(self, x: float, y: float, color: str, radius: float = 4) -> None:
        self._draw.ellipse([each * _FINE for each in (x - radius, y - radius, x + radius, y + radius)], color)


@cache
def _font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    return ImageFont.load_default(size)
