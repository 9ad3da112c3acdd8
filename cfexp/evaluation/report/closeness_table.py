"""How near the counterfactuals are to their queries: beside the floor, of all queries and of the
successes only.
"""

from rich.console import Console

from cfexp.evaluation.measure.base import FLOOR, SUCCESSES
from cfexp.evaluation.measure.regions import CODES, PIXELS, TABLE
from cfexp.evaluation.report.table import Row, Scores, short, table_of


def print_closeness(scores: Scores, console: Console | None = None) -> None:
    """Print, of the headline group, what is told of the reconstruction or the successes, too; and
    the regions.
    """
    console = console or Console()
    group = scores.groups[0]
    rows = {row.metric: row for row in scores.rows if row.group == group}
    table = table_of(
        f"{group}: floor and after",
        "figure",
        "floor",
        "after",
        "95 % interval",
        "n",
        "successes",
        "n",
    )
    for name in [
        name
        for name, each in scores.measures.items()
        if each.also and not each.ending and name in rows
    ]:
        row, floor, successes = rows[name], rows.get(name + FLOOR), rows.get(name + SUCCESSES)
        of_successes = (
            ("—", "0") if successes is None else (short(successes.value), str(successes.n))
        )
        label = f"{name} {row.unit}".rstrip()
        table.add_row(
            label,
            "—" if floor is None else short(floor.value),
            *row.texts,
            str(row.n),
            *of_successes,
        )
    console.print(table)
    regions = {
        name: cells for name, cells in scores.rows_of(group, TABLE).items() if PIXELS in cells
    }
    if regions:
        table = table_of(
            f"{group}: what changed",
            "region",
            "n",
            "codes",
            "95 % interval",
            "RMS of 255",
            "95 % interval",
        )
        for region, cells in sorted(regions.items(), key=lambda item: -_value(item[1].get(CODES))):
            codes, pixels = cells.get(CODES), cells[PIXELS]
            of_codes = ("—", "—") if codes is None else codes.texts
            table.add_row(region, str(pixels.n), *of_codes, *pixels.texts)
        console.print(table)


def _value(row: Row | None) -> float:
    return 0 if row is None else row.value
