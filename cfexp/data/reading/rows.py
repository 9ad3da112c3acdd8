"""The rows of a small CSV file whose first line names its columns."""

import csv
from pathlib import Path

from cfexp.errors import InputError


def read_rows(path: Path, given: str) -> list[dict[str, str]]:
    """Each row by the columns' names, of a file in UTF-8; a byte order mark is accepted. As
    `csv.DictReader` has it, what a row has too many or too few of is at None.

    given: what named the file, for the message. Raises InputError for a file that cannot be read or
    has no row.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            rows = [*csv.DictReader(file)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{given} is no readable CSV file in UTF-8 ({error})") from None
    if not rows:
        raise InputError(f"{given} has no row below its first line")
    return rows
