"""What the columns of a table say of images: a binary label, one of several classes, a group, a
part.
"""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from cfexp.data.base import Part
from cfexp.data.own.folder import PART_NAMES
from cfexp.data.own.table import Table, is_unknown, listed
from cfexp.errors import InputError

Kind = Literal["binary", "classes", "other"]
YES = frozenset(("1", "1.0", "yes", "y", "true", "t"))
NO = frozenset(("0", "0.0", "-1", "-1.0", "no", "n", "false", "f"))
_MINUS, _ZERO = frozenset(("-1", "-1.0")), frozenset(("0", "0.0"))
# A column of more values than these names something else: a file, a date, a measurement.
MOST_CLASSES = 50
# Of fewer images of a class none may be left to train on, or to test.
LEAST = 5
GROUP_NAMES = (
    *("group", "patient", "person", "subject", "participant", "individual", "donor", "identity"),
    *("video", "clip", "source", "slide", "writer"),
)
# Of a table without one of those, and only as `lesion_id`: a column `lesion` may be a label.
GROUP_IDS = ("lesion", "case", "study", "specimen", "animal", "session", "sequence", "scene")
PART_COLUMNS = ("part", "split", "partition", "subset", "set")
_PART_NUMBERS = {"0": "train", "1": "val", "2": "test"}  # CelebA's
UNKNOWN_CLASS = -1
_WHOLE = re.compile(r"-?\d+\.0+")


class Column(NamedTuple):
    """A column as a label: of each row the number of its class."""

    name: str
    kind: Kind
    classes: tuple[str, ...]  # of a binary one what is below and above 0
    values: tuple[int, ...]  # a row; `UNKNOWN_CLASS` where none is known

    def counts(self) -> dict[str, int]:
        """How many rows have each class."""
        found = Counter(self.values)
        return {name: found[number] for number, name in enumerate(self.classes)}

    @property
    def is_constant(self) -> bool:
        """Whether no two images differ in it."""
        return sum(count > 0 for count in self.counts().values()) < 2

    @property
    def sides(self) -> tuple[str, ...] | None:
        """What a binary label's 0 and 1 are called, where both have names of their own; None of a
        yes or no, and of several classes.
        """
        plain = self.kind != "binary" or self.classes == _yes_or_no(self.name)
        return None if plain else self.classes

    @property
    def unknown(self) -> int:
        """How many rows have none."""
        return sum(value == UNKNOWN_CLASS for value in self.values)


def label_column(
    where: Path, name: str, cells: Sequence[str], lines: Sequence[int] | None = None
) -> Column:
    """A column as a label. where: what messages begin with. lines: of the cells in the file.

    Binary: 0 and 1, -1 and 1, yes and no, true and false, in any case, which may be mixed; or two
    names. `classes`: several names or whole numbers. Anything else is `other`. Raises InputError
    for a class that is spelled in two ways.
    """
    cells = [_whole(cell) for cell in cells]
    known = [cell for cell in cells if not is_unknown(cell)]
    folded = {cell.casefold() for cell in known}
    if folded and folded <= YES | NO and not (folded & _MINUS and folded & _ZERO):
        values = [
            UNKNOWN_CLASS if is_unknown(cell) else int(cell.casefold() in YES) for cell in cells
        ]
        return Column(name, "binary", _yes_or_no(name), tuple(values))
    spelled: dict[str, str] = {}
    for place, cell in enumerate(cells):
        if is_unknown(cell):
            continue
        first = spelled.setdefault(cell.casefold(), cell)
        if first != cell:
            line = "" if lines is None else f"line {lines[place]}: "
            problem = f"column {name!r} has {cell!r} and {first!r}"
            raise InputError(f"{where}: {line}{problem}; spell a class in one way")
    classes = _in_order(spelled.values())
    if not 2 <= len(classes) <= min(MOST_CLASSES, max(len(known) // 2, 2)) or _measures(classes):
        return Column(name, "other", tuple(classes), ())
    number = {each: place for place, each in enumerate(classes)}
    kind: Kind = "binary" if len(classes) == 2 else "classes"
    return Column(name, kind, tuple(classes), tuple(number.get(cell, -1) for cell in cells))


def chosen_classes(column: Column, classes: Any, where: Path) -> Column:
    """A column of the classes alone that `data.classes` names, in that order, under other names
    where it is a mapping.

    Raises InputError for a class that there is not, for one class, and for a class of too few
    images.
    """
    if (column.is_constant and column.unknown < len(column.values)) or len(column.classes) == 1:
        raise InputError(
            f"{where}: column {column.name!r} is the same for all images that have it; "
            "a decision needs two classes"
        )
    if column.kind == "other":
        raise InputError(
            f"{where}: column {column.name!r} is no label: it has {len(column.classes)} different "
            f"values, such as {listed(column.classes, 3)}; choose decision.label among the others"
        )
    if classes is None:
        kept: dict[str, str] = {name: name for name in column.classes}
    else:
        kept = _asked_for(column, classes)
    numbers = {column.classes.index(name): place for place, name in enumerate(kept)}
    values = tuple(numbers.get(value, UNKNOWN_CLASS) for value in column.values)
    chosen = column._replace(
        classes=tuple(kept.values()),
        values=values,
        kind="binary" if len(kept) == 2 else "classes",
    )
    for name, count in chosen.counts().items():
        if count < LEAST:
            others = [each for each, many in column.counts().items() if many >= LEAST]
            remedy = (
                f"leave it out: data.classes=[{','.join(others)}]"
                if len(others) > 1 and classes is None
                else f"give at least {LEAST}"
            )
            what = f"{name!r} of column {column.name!r}"
            raise InputError(f"{where}: {what} has {count} images; {remedy}")
    return chosen


def _asked_for(column: Column, classes: Any) -> dict[str, str]:
    """The names in the table and what they are called here."""
    if isinstance(classes, Mapping):
        asked = {str(name): str(called) for name, called in classes.items()}
    elif isinstance(classes, Sequence) and not isinstance(classes, str):
        if len(set(map(str, classes))) < len(classes):
            raise InputError(f"data.classes names a class twice: {listed([*map(str, classes)])}")
        asked = {str(name): str(name) for name in classes}
    else:
        example = f"[{','.join(column.classes[:2])}]"
        raise InputError(f"data.classes must be a list such as {example}, got {classes!r}")
    if len(asked) < 2:
        raise InputError(f"data.classes must name at least two classes, got {[*asked]}")
    for name in asked:
        if name not in column.classes:
            known = listed(column.classes)
            raise InputError(f"data.classes: {name!r} is none of {column.name!r}'s: {known}")
    if len(set(asked.values())) < len(asked):
        raise InputError(f"data.classes calls two classes the same: {[*asked.values()]}")
    return asked


def part_column(table: Table, name: str) -> list[Part]:
    """The part of each row; raises InputError, which names the line, for a value that is none."""
    parts: list[Part] = []
    place = table.column(name)
    for line, cells in table.rows:
        word = cells[place].casefold()
        part = PART_NAMES.get(word) or _PART_NUMBERS.get(word.removesuffix(".0"))
        if part is None:
            expected = "train, val or test"
            raise InputError(
                f"{table.path}: line {line}: {name} is {cells[place]!r}; it must be {expected}"
            )
        parts.append(part)  # type: ignore[arg-type]  # the tables hold no other
    return parts


def is_part_column(table: Table, name: str) -> bool:
    """Whether a column of that name says the parts: of most rows, so that another word among them
    is found to be wrong and not taken for a class.
    """
    if name.casefold() not in PART_COLUMNS:
        return False
    words = [cell.casefold() for cell in table.values(name)]
    named = sum(word in PART_NAMES for word in words)
    return 2 * named > len(words) or {*words} <= {*PART_NAMES, *_PART_NUMBERS}


def group_columns(names: Sequence[str]) -> list[str]:
    """The columns that are called as groups are: `patient`, `patient_id`, `video id`; where there
    are none, those called as the ids of less sure ones, `lesion_id`.
    """
    words = {name: name.casefold().replace(" ", "_").replace("-", "_") for name in names}
    bare = {name: word.removesuffix("_id").removesuffix("id") for name, word in words.items()}
    sure = [name for name in names if bare[name] in GROUP_NAMES]
    return sure or [name for name in names if bare[name] in GROUP_IDS and bare[name] != words[name]]


def _yes_or_no(name: str) -> tuple[str, str]:
    """What a label that is there or not is called below and above 0."""
    return f"not {name}", name


def _whole(cell: str) -> str:
    """A whole number without its fraction, as spreadsheets and pandas write 1 as 1.0."""
    return cell.partition(".")[0] if _WHOLE.fullmatch(cell) else cell


def _in_order(classes: Any) -> list[str]:
    """By number where all are numbers, else by name."""
    try:
        return sorted(classes, key=float)
    except ValueError:
        return sorted(classes)


def _measures(classes: Sequence[str]) -> bool:
    """Whether values are numbers with a fraction, which name no class."""
    try:
        return any(not float(each).is_integer() for each in classes)
    except ValueError:
        return False
