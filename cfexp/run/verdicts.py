"""What a person said of counterfactuals: a CSV file, as the page of `cfexp.gallery verdict=true`
saves it.
"""

from collections.abc import Sequence
from pathlib import Path

from cfexp.data.reading.rows import read_rows
from cfexp.errors import InputError
from cfexp.evaluation.report.verdict import UNUSABLE

COLUMNS = ("key", "verdict")


def read_verdicts(path: Path, class_names: Sequence[str]) -> dict[int, int]:
    """The class of each counterfactual by its key; those that are unusable are left out.

    Raises InputError for a file that is not so.
    """
    given = f"verdicts={path}"
    found: dict[int, int] = {}
    for line, row in enumerate(read_rows(path, given), 2):
        key, verdict = (row.get(name) or "" for name in COLUMNS)
        at = f"{given}, line {line}"
        if not key.isdecimal():
            raise InputError(f"{at}: expected the columns key and verdict, and a number as key")
        if verdict not in (*class_names, UNUSABLE):
            known = ", ".join((*class_names, UNUSABLE))
            raise InputError(f"{at}: a verdict must be one of {known}, got {verdict!r}")
        if int(key) in found:
            raise InputError(f"{at}: key {key} stands there twice")
        if verdict != UNUSABLE:
            found[int(key)] = class_names.index(verdict)
    return found
