"""What a CSV file says of imported images: labels of the data set, and what was asked for."""

import csv
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from cfexp.errors import InputError

KEYS = ("image", "image_id")  # the column of the files' names; the second is CelebA's on Kaggle
ASKED = "counter_class"
_TRUTH = {"0": 0, "1": 1, "-1": 0, "": None}  # -1 is no in CelebA's lists


class Row(NamedTuple):
    """What is known of one image."""

    labels: dict[str, int | None]  # by name, 0 or 1; None = not known
    counter_class: int | None = None  # None = it does not say


def read_labels(path: Path, class_names: Sequence[str] | None) -> dict[str, Row]:
    """The rows of a file by the stem of their image.

    Its first line names the columns: `image` (or `image_id`), `counter_class` if it says that, a
    name or number of the decision's classes, and labels, each 0 or 1 (-1 is 0; empty = not known).
    Raises InputError for a file that is not so.
    """
    given = f"labels={path}"
    if not path.is_file():
        raise InputError(f"{given}: no such file")
    found: dict[str, Row] = {}
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            for line, row in _lines(csv.DictReader(file), given):
                stem = Path(row["image"]).stem
                if not stem:
                    raise InputError(f"{given}, line {line}: the image is empty")
                if stem in found:
                    raise InputError(f"{given}, line {line}: {stem} stands there twice")
                asked = row.get(ASKED) or None
                labels = {
                    name: _truth(value, f"{given}, line {line}: {name}")
                    for name, value in row.items()
                    if name not in ("image", ASKED)
                }
                at = f"{given}, line {line}"
                found[stem] = Row(labels, None if asked is None else _class(asked, class_names, at))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{given} is no readable CSV file in UTF-8 ({error})") from None
    if not found:
        raise InputError(f"{given} has no row below its first line")
    return found


def _lines(reader: "csv.DictReader[str]", given: str) -> Iterator[tuple[int, dict[str, str]]]:
    names = reader.fieldnames or []
    key = next((name for name in KEYS if name in names), None)
    if key is None:
        there = ", ".join(names) or "none"
        raise InputError(f"{given}: there is no column 'image' in its first line, but {there}")
    for row in reader:
        if None in row or None in row.values():
            raise InputError(f"{given}, line {reader.line_num}: expected {len(names)} values")
        cells = {name: value.strip() for name, value in row.items()}
        yield reader.line_num, {"image": cells.pop(key), **cells}


def _truth(value: str, of: str) -> int | None:
    if value not in _TRUTH:
        raise InputError(f"{of} must be 0 or 1 (or -1, or empty), got {value!r}")
    return _TRUTH[value]


def _class(value: str, class_names: Sequence[str] | None, of: str) -> int:
    names = list(class_names or ())
    if value in names:
        return names.index(value)
    if value.isascii() and value.isdigit() and (not names or int(value) < len(names)):
        return int(value)
    known = f"of {', '.join(names)}" if names else "a whole number"
    raise InputError(f"{of}: {ASKED} must be one {known}, got {value!r}")
