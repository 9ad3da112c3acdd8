"""The table of a data set of one's own: a CSV of whatever delimiter, each row known by its line."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from cfexp.data.reading.records import shown
from cfexp.errors import InputError

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
INDEX = "Unnamed: 0"  # a first column without a name, as pandas writes and calls the row's number
UNKNOWN = frozenset(("", "?", "na", "n/a", "nan", "none", "null", "unknown"))  # no value is known
_UTF_16 = (b"\xff\xfe", b"\xfe\xff")


class Row(NamedTuple):
    """A row of a table."""

    line: int  # of the file, from 1
    cells: tuple[str, ...]  # without blanks around them


class Table(NamedTuple):
    """A table with a header."""

    path: Path
    delimiter: str
    columns: tuple[str, ...]
    rows: tuple[Row, ...]

    def column(self, name: str) -> int:
        """The place of a column; raises InputError where there is none of this name."""
        if name not in self.columns:
            raise InputError(
                f"{self.path}: has no column {name!r}; its columns are {', '.join(self.columns)}"
            )
        return self.columns.index(name)

    def values(self, name: str) -> list[str]:
        """The cells of a column; raises as `column`."""
        place = self.column(name)
        return [row.cells[place] for row in self.rows]


def read_table(path: Path) -> Table:
    """A CSV in UTF-8, between commas, semicolons, tabs or bars, the first line its header.

    Raises InputError, which names the line, for anything else.
    """
    text = _text(path)
    delimiter = _delimiter(next(line for line in text.splitlines() if line.strip()))
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    rows: list[Row] = []
    try:
        for row in reader:
            if any(cell.strip() for cell in row):
                rows.append(Row(reader.line_num, tuple(cell.strip() for cell in row)))
    except csv.Error as error:
        raise InputError(
            f"{path}: line {reader.line_num} cannot be read ({error}); is a quotation mark missing?"
        ) from None
    header, *rows = rows
    columns = _header(path, header)
    for line, cells in rows:
        if len(cells) != len(columns):
            problem = f"has {len(cells)} cells, the header {len(columns)}"
            remedy = f"put texts with a {DELIMITERS[delimiter]} in quotation marks"
            raise InputError(f"{path}: line {line} {problem}; {remedy}")
    if not rows:
        raise InputError(f"{path}: has a header and no row; give a row for each image")
    return Table(path, delimiter, columns, tuple(rows))


def is_unknown(cell: str) -> bool:
    """Whether a cell says that nothing is known."""
    return cell.casefold() in UNKNOWN


def _text(path: Path) -> str:
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    if content.startswith(_UTF_16):
        raise InputError(f"{path}: is UTF-16; save it as CSV UTF-8")
    if content.startswith(b"PK"):
        raise InputError(f"{path}: is a spreadsheet under the name of a CSV; save it as CSV UTF-8")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = content[: error.start].count(b"\n") + 1
        raise InputError(f"{path}: line {line} is no UTF-8 text; save it as CSV UTF-8") from None
    if not text.strip():
        raise InputError(f"{path}: the file is empty; give a header and a row for each image")
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise InputError(f"{path}: line {line} holds a zero byte; save it as CSV UTF-8")
    return text


def _delimiter(header: str) -> str:
    """What stands between the header's cells; a comma where there is one cell only."""
    counts = {delimiter: header.count(delimiter) for delimiter in DELIMITERS}
    return max(counts, key=counts.__getitem__)


def _header(path: Path, header: Row) -> tuple[str, ...]:
    columns = header.cells
    if len(columns) > 1 and not columns[0] and all(columns[1:]):
        columns = (INDEX, *columns[1:])
    for place, name in enumerate(columns):
        if not name:
            problem = f"line {header.line}: column {place + 1} has no name"
            raise InputError(f"{path}: {problem}; name each column in the first line")
        if name in columns[:place]:
            raise InputError(f"{path}: line {header.line} names the column {name!r} twice")
    if len(columns) > 1 and all(_is_number(name) for name in columns[1:]):
        problem = f"line {header.line} looks like a row, {shown(','.join(columns))}"
        raise InputError(f"{path}: {problem}; name the columns in the first line")
    return columns


def _is_number(cell: str) -> bool:
    try:
        float(cell)
    except ValueError:
        return False
    return True


def listed(names: Sequence[str], most: int = 8) -> str:
    """Names in a message, the first few."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
