"""JSON files of records, read with checks whose messages name the file, the record and the key."""

import json
import reprlib
from collections.abc import Sized
from typing import Any, Protocol

from cfexp.errors import InputError

OFFICIAL_REMEDY = "extract the official file again (docs/data_sets.md)"
PREDICTED_REMEDY = "predict the label maps of data.layouts again"
_KINDS = {int: "an integer", str: "a string", list: "a list", dict: "an object"}


class Readable(Protocol):
    """A `Path`, or a file in a zip."""

    @property
    def name(self) -> str:
        """Its name without the folder."""

    def exists(self) -> bool:
        """Whether it is there."""

    def read_bytes(self) -> bytes:
        """Its content."""


def read_json(path: Readable, remedy: str = OFFICIAL_REMEDY) -> dict[str, Any]:
    """A JSON file whose top level is an object; a UTF-8 byte order mark and CRLF are accepted.

    Raises InputError, which ends in `remedy`, for anything else.
    """
    document = read_any_json(path, remedy)
    if not isinstance(document, dict):
        raise InputError(
            f"{path}: the top level must be an object, got {shown(document)}; {remedy}"
        )
    return document


def read_any_json(path: Readable, remedy: str = OFFICIAL_REMEDY) -> Any:
    """A JSON file of any top level, otherwise as `read_json`."""
    document: Any
    try:
        content = path.read_bytes()
        if not content.strip():
            raise InputError(f"{path}: the file is empty; {remedy}")
        document = json.loads(content.decode("utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); {remedy}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}); {remedy}") from None
    except json.JSONDecodeError as error:
        raise InputError(f"{path}: damaged or truncated JSON ({error}); {remedy}") from None
    except RecursionError:
        raise InputError(f"{path}: JSON nested too deeply; {remedy}") from None
    except InputError:
        raise
    except ValueError as error:  # an integer of more digits than Python reads
        raise InputError(f"{path}: damaged JSON ({error}); {remedy}") from None
    return document


class Records:
    """A list of JSON objects that knows which file and key it came from."""

    def __init__(self, path: Readable, name: str, rows: list[Any]) -> None:
        self.path, self.name, self.rows = path, name, rows

    def __len__(self) -> int:
        return len(self.rows)

    def error(self, index: int, key: str, problem: str) -> InputError:
        """The error to raise about `key` ("" = all of it) of record `index`."""
        place = f"{self.name}[{index}].{key}" if key else f"{self.name}[{index}]"
        return InputError(f"{self.path}: {place} {problem}; {OFFICIAL_REMEDY}")

    def get(self, index: int, key: str, kind: type) -> Any:
        """The value under `key`, whose type is `kind` itself, so that true is no integer; raises
        InputError.
        """
        row = self.rows[index]
        if type(row) is not dict:
            raise self.error(index, "", f"must be an object, got {shown(row)}")
        if key not in row:
            raise self.error(index, "", f"has no key {key!r}")
        value = row[key]
        if type(value) is not kind:
            raise self.error(index, key, f"must be {_KINDS[kind]}, got {shown(value)}")
        return value

    def identity(self, index: int, key: str) -> int:
        """An integer in 0..2^63 - 1, as an int64 tensor will hold it; raises InputError."""
        value: int = self.get(index, key, int)
        if not 0 <= value < 2**63:
            raise self.error(index, key, f"must be in 0..2^63 - 1, got {shown(value)}")
        return value

    def nested(self, index: int, key: str) -> "Records":
        """The list of objects under `key` of record `index`; raises InputError if it is no list."""
        return Records(self.path, f"{self.name}[{index}].{key}", self.get(index, key, list))


def records_of(document: dict[str, Any], path: Readable, name: str) -> Records:
    """The non-empty list under `name` of the document read from `path`; raises InputError."""
    if name not in document:
        raise InputError(f"{path}: has no key {name!r}; {OFFICIAL_REMEDY}")
    rows = document[name]
    if not isinstance(rows, list) or not rows:
        problem = f"must be a list of at least one object, got {shown(rows)}"
        raise InputError(f"{path}: {name} {problem}; {OFFICIAL_REMEDY}")
    return Records(path, name, rows)


def shown(value: Any) -> str:
    """A short form of a value for a message: one line, whatever it is."""
    if isinstance(value, Sized) and len(value) == 0:
        return f"an empty {type(value).__name__}"
    return reprlib.repr(value)
