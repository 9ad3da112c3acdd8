"""What the explained model says of the image for each bin, against the bin: numbers and a curve."""

from pathlib import Path

from rich.console import Console

from cfexp.evaluation.measure.bins import ANSWER, TABLE
from cfexp.evaluation.report.plot import COLORS, Line, Panel, Point, save_panels
from cfexp.evaluation.report.table import Row, Scores, table_of


def show_bins(scores: Scores, folder: Path, console: Console | None = None) -> None:
    """Print the headline group's table, and leave the curves of all groups in bins.png; nothing
    where a run has no bins.
    """
    groups = {
        group: [cells[ANSWER] for cells in scores.rows_of(group, TABLE).values()]
        for group in scores.groups
    }
    headline = scores.groups[0]
    if len(groups[headline]) < 2:
        return
    table = table_of(f"{headline}: what each bin gives", "bin", "answer %", "95 % interval", "n")
    for number, row in enumerate(groups[headline]):
        table.add_row(str(number), *row.texts, str(row.n))
    (console or Console()).print(table)
    count = len(groups[headline])
    lines = [
        Line(group, _points(rows), COLORS[number % len(COLORS)])
        for number, (group, rows) in enumerate(groups.items())
        if rows
    ]
    asked = [Point(number / (count - 1), 100 * number / count) for number in range(count)]
    lines.append(Line("asked, by a bin's lower edge", asked, "#6a737d", dashed=True))
    ticks = [(number / (count - 1), str(number)) for number in range(count)]
    panel = Panel("mean probability of the class, %", lines)
    save_panels(folder / "bins.png", f"{scores.run}: decision by bin", [panel], ticks, "bin")


def _points(rows: list[Row]) -> list[Point]:
    return [
        Point(number / (len(rows) - 1), row.value, row.low, row.high)
        for number, row in enumerate(rows)
    ]
