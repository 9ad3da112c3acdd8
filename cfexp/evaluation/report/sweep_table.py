"""What the members of a sweep have come to, side by side: a table, sweep.csv, sweep.json, and a
plot, sweep.png.
"""

import csv
import json
import shlex
from collections.abc import Sequence
from pathlib import Path

from rich.console import Console
from rich.markup import escape

from cfexp.declaration import Shown
from cfexp.evaluation.measure.base import FLOOR
from cfexp.evaluation.report.members import FINISHED, FOLDER, Measured, Member, order_of
from cfexp.evaluation.report.plot import COLORS, Line, Panel, Point, save_panels
from cfexp.evaluation.report.table import short, table_of
from cfexp.evaluation.report.table import shown as in_words

# So many values of a setting have a place each on the x axis; of more, it is a scale.
MOST_PLACES = 12
MOST_PANELS = 4  # beside each other in the plot
LABEL_ROOM = 32  # characters of the table that a setting's values take at most; longer ones wrap


def save_and_show(sweep: Path, members: Sequence[Member], console: Console | None = None) -> None:
    """Write sweep.csv, sweep.json and sweep.png, print the table, and say what failed and where all
    of it lies.
    """
    console = console or Console()
    parameters = _parameters(members)
    _save(sweep, members, parameters)
    print_members(f"{_title(sweep)}: {len(members)} members", members, console)
    panels, ticks, setting = _panels(members, parameters, _columns(members))
    plot = sweep / "sweep.png"
    plot.unlink(missing_ok=True)
    if panels:
        save_panels(plot, _title(sweep), panels, ticks, setting)
    for member in members:
        if member.state != FINISHED:
            reason = f": {member.error}" if member.error else ""
            console.print(
                f"{member.state}: {member.name}{reason}", style="red", markup=False, soft_wrap=True
            )
    files = "sweep.csv, sweep.json" + (", sweep.png" if panels else "")
    print(f"the sweep lies in {shlex.quote(str(sweep))}: {files}, and a folder for each member")


def print_members(title: str, members: Sequence[Member], console: Console | None = None) -> None:
    """Print a row a member, each number with its 95 % interval below it; what does not fit beside
    each other stands in a further table.
    """
    console = console or Console()
    columns, parameters = _columns(members), _parameters(members)
    headers = [shown.header for _, shown in columns]
    numbers = [
        [_cell(member.metrics.get(name), shown.digits) for name, shown in columns]
        for member in members
    ]
    if any(member.objective is not None for member in members):
        headers.append("\nobjective")
        for member, row in zip(members, numbers, strict=True):
            row.append("—" if member.objective is None else f"{member.objective:.4g}")
    labels = [*([short_name(name) for name in parameters] or ["member"]), "n"]
    named = []
    for member in members:
        values = [escape(member.parameters.get(name, "")) for name in parameters] or [member.name]
        counts = [row.n for row in member.metrics.values() if row.n is not None]
        named.append([*values, str(max(counts)) if counts else ""])
    taken = sum(min(_width(texts), LABEL_ROOM) for texts in zip(labels, *named, strict=True))
    widths = [_width(texts) for texts in zip(headers, *numbers, strict=True)]
    for part in _side_by_side(widths, console.width - taken):
        table = table_of(title, *labels, *headers[part])
        for place, column in enumerate(table.columns):
            column.no_wrap, column.overflow = place >= len(labels), "fold"
            column.max_width = LABEL_ROOM if place < len(labels) else None
        for member, values, row in zip(members, named, numbers, strict=True):
            cells, style = row[part], None
            if member.state != FINISHED:
                cells, style = [member.state, *[""] * len(cells)][: len(cells)], "bold red"
            table.add_row(*values, *cells, style=style)
        console.print(table)


def _parameters(members: Sequence[Member]) -> list[str]:
    return list(dict.fromkeys(name for member in members for name in member.parameters))


def _width(texts: Sequence[str]) -> int:
    """Of a column with these texts, with the blanks beside it."""
    return max(len(line) for text in texts for line in text.split("\n")) + 2


def _side_by_side(widths: Sequence[int], room: int) -> list[slice]:
    """Which columns stand in a table each, of so much room; one at least."""
    parts, start, taken = [], 0, 0
    for place, width in enumerate(widths):
        if place > start and taken + width > room:
            parts.append(slice(start, place))
            start, taken = place, 0
        taken += width
    return [*parts, slice(start, len(widths))]


def _title(sweep: Path) -> str:
    """The experiment's name; its folder holds the sweep's unless the user gave another."""
    folder = sweep.resolve()
    return folder.parent.name if folder.name.startswith(FOLDER) else folder.name


def short_name(parameter: str) -> str:
    """`proximity_weight` for explainer.proximity_weight."""
    return parameter.rpartition(".")[2]


def _columns(members: Sequence[Member]) -> list[tuple[str, Shown]]:
    """The metrics that members' own tables show first, or of a stage its test figures; and how."""
    columns = {
        name: shown for member in members for name, shown in member.columns.items() if shown.sweep
    }
    if not columns:
        known = dict.fromkeys(
            name for member in members for name in member.metrics if name.startswith("test/")
        )
        return [(name, Shown(f"\n{name.removeprefix('test/')}", 3, panel=name)) for name in known][
            :6
        ]
    found = []
    for name, shown in columns.items():
        found.append((name, shown))
        if shown.floor and any(name + FLOOR in member.metrics for member in members):
            found.append((name + FLOOR, Shown(shown.floor, shown.digits)))
    return found


def _cell(row: Measured | None, digits: int) -> str:
    if row is None:
        return "—"
    value = f"{row.value:.{digits}f}"
    interval = in_words(row.value, row.low, row.high)[1]
    return value if row.low is None else f"{value}\n{interval}"


def _save(sweep: Path, members: Sequence[Member], parameters: Sequence[str]) -> None:
    content = [
        {
            **{name: value for name, value in member._asdict().items() if name != "columns"},
            "state": member.state,
            "metrics": {name: row._asdict() for name, row in member.metrics.items()},
        }
        for member in members
    ]
    (sweep / "sweep.json").write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")
    metrics = list(dict.fromkeys(name for member in members for name in member.metrics))
    with (sweep / "sweep.csv").open("w", encoding="utf-8", newline="") as file:
        lines = csv.writer(file, lineterminator="\n")
        # Of a stage's figures nothing is known but their values.
        has_n = any(row.n is not None for member in members for row in member.metrics.values())
        of_each = Measured._fields if has_n else ("value",)
        headers = [
            name if field == "value" else f"{name}_{field}" for name in metrics for field in of_each
        ]
        lines.writerow(["member", *parameters, "state", "objective", *headers])
        for member in members:
            values = [
                "" if (known := getattr(member.metrics.get(name), field, None)) is None else known
                for name in metrics
                for field in of_each
            ]
            objective = "" if member.objective is None else member.objective
            own = [member.parameters.get(name, "") for name in parameters]
            lines.writerow([member.name, *own, member.state, objective, *values])


def _panels(
    members: Sequence[Member], parameters: Sequence[str], columns: Sequence[tuple[str, Shown]]
) -> tuple[list[Panel], list[tuple[float, str]], str]:
    """A panel a metric over the parameter with the most values; a line for each combination of the
    others'.
    """
    finished = [member for member in members if member.state == FINISHED]
    values = {
        name: dict.fromkeys(member.parameters.get(name, "") for member in finished)
        for name in parameters
    }
    setting = max(parameters, key=lambda name: len(values[name]), default=None)
    if setting is None or not finished:
        return [], [], ""
    places, ticks = _places(sorted(values[setting], key=order_of))
    groups: dict[str, list[Member]] = {}
    for member in finished:
        others = [
            f"{short_name(name)}={member.parameters.get(name, '')}"
            for name in parameters
            if name != setting
        ]
        groups.setdefault(", ".join(others), []).append(member)
    if len(groups) > len(COLORS):  # a cloud of trials
        groups = {"": finished}
    joined = len(groups) > 1 or len(parameters) == 1
    # Nothing lies between two names.
    along = all(kind == 0 for kind, _, _ in map(order_of, values[setting]))

    def panel(title: str, metric: str) -> Panel:
        lines = []
        for (label, group), color in zip(groups.items(), COLORS, strict=False):
            ordered = sorted(group, key=lambda member: places[member.parameters[setting]])
            shown = [
                (places[member.parameters[setting]], _number(member, metric)) for member in ordered
            ]
            points = [Point(x, row.value, row.low, row.high) for x, row in shown if row is not None]
            lines += (
                [Line(label, points, color, joined=along)]
                if joined
                else [Line("", [point], color) for point in points]
            )
            floors = [
                (places[member.parameters[setting]], member.metrics.get(metric + FLOOR))
                for member in ordered
            ]
            known = [Point(x, row.value) for x, row in floors if row is not None]
            if known and joined:
                lines.append(
                    Line(
                        f"{label} floor: the reconstruction".strip(),
                        known,
                        color,
                        dashed=True,
                        joined=along,
                    )
                )
        return Panel(title, lines)

    panels = [panel(shown.panel, name) for name, shown in columns if shown.panel][:MOST_PANELS]
    if any(member.objective is not None for member in finished):
        panels.append(panel("objective", ""))
    return panels, ticks, setting


def _number(member: Member, metric: str) -> Measured | None:
    """A metric, or for "" the objective."""
    if metric:
        return member.metrics.get(metric)
    return None if member.objective is None else Measured(member.objective)


def _places(values: Sequence[str]) -> tuple[dict[str, float], list[tuple[float, str]]]:
    """Where each value lies on the x axis, and its ticks: a place for each, or of many numbers a
    scale.
    """
    orders = [order_of(value) for value in values]
    if len(values) <= MOST_PLACES or any(kind for kind, _, _ in orders):
        places = {value: number / max(len(values) - 1, 1) for number, value in enumerate(values)}
        every = -(-len(values) // MOST_PLACES)
        letters = 48 // min(len(values), 4)  # of few values more are shown
        return places, [(places[value], value[:letters]) for value in values[::every]]
    low, high = orders[0][1], orders[-1][1]
    places = {
        value: (number - low) / (high - low)
        for value, (_, number, _) in zip(values, orders, strict=True)
    }
    return places, [(share / 4, short(low + share / 4 * (high - low))) for share in range(5)]
