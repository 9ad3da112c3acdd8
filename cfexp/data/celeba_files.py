"""The text files of CelebA and CelebAMask-HQ, read and checked: attributes, identities, partition, mapping."""

import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cfexp.data.archives import ImageFiles, read_content
from cfexp.data.records import OFFICIAL_REMEDY, shown
from cfexp.errors import InputError

_FILE_NAME = re.compile(r"\d{1,9}\.(jpg|jpeg|png)")
_VALUES = {"1": 1.0, "-1": 0.0}


class Attributes(NamedTuple):
    """An attribute file."""

    names: tuple[str, ...]  # its columns
    rows: dict[str, list[str]]  # by file name, "1" or "-1" a column

    def select(self, path: Path, names: Sequence[str]) -> dict[str, tuple[float, ...]]:
        """1 or 0 of the columns `names` by file name; raises InputError if there is no such column."""
        for name in names:
            if name not in self.names:
                problem = f"has no attribute {name!r}; its {len(self.names)} are {', '.join(self.names)}"
                raise InputError(f"{path}: {problem}; choose data.attributes among them")
        columns = [self.names.index(name) for name in names]
        return {file: tuple(_VALUES[row[column]] for column in columns) for file, row in self.rows.items()}


def read_attributes(path: Path) -> Attributes:
    """`list_attr_celeba.txt` or `CelebAMask-HQ-attribute-anno.txt`: the count, the names, a row an image.

    Raises InputError, which names the line, unless the count is that of the rows, no file is there twice and every
    value is 1 or -1.
    """
    lines = _lines(path)
    count = lines[0][1].strip()
    if not count.isdecimal():
        raise _error(path, lines[0][0], f"must be the number of images, got {shown(count)}")
    names = tuple(lines[1][1].split()) if len(lines) > 1 else ()
    if not names or names[0].removeprefix("-").isdecimal() or _FILE_NAME.fullmatch(names[0]):
        number = lines[1][0] if len(lines) > 1 else 2
        raise _error(path, number, "must name the attributes; the header is missing")
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise _error(path, lines[1][0], f"names the attribute {twice!r} twice")
    rows: dict[str, list[str]] = {}
    for number, line in lines[2:]:
        file, *values = line.split()
        _check_new_file(path, number, file, rows)
        if len(values) != len(names):
            raise _error(path, number, f"has {len(values)} values for {len(names)} attributes")
        if not _VALUES.keys() >= set(values):
            wrong = next(value for value in values if value not in _VALUES)
            raise _error(path, number, f"has the value {shown(wrong)}; attributes are 1 or -1")
        rows[file] = values
    # As text: int() refuses a number of very many digits.
    if count.lstrip("0") != str(len(rows)):
        problem = f"{path}: line {lines[0][0]} announces {shown(count)} images, {len(rows)} follow"
        raise InputError(f"{problem}; the file is cut short or was edited: {OFFICIAL_REMEDY}")
    return Attributes(names, rows)


def read_identities(path: Path) -> dict[str, int]:
    """`identity_CelebA.txt`: the person, an integer of at least 0, by file name; raises InputError."""
    return _read_numbers(path, "a person's number")


def read_partition(path: Path) -> dict[str, int]:
    """`list_eval_partition.txt`: 0 = train, 1 = validation, 2 = test by file name; raises InputError."""
    return _read_numbers(path, "0, 1 or 2", allowed=(0, 1, 2))


class MappedImage(NamedTuple):
    """A row of CelebA-HQ-to-CelebA-mapping.txt."""

    orig_idx: int  # the number of CelebA's image, from 0
    orig_file: str  # its name, which counts from 1


def read_mapping(path: Path) -> dict[int, MappedImage]:
    """`CelebA-HQ-to-CelebA-mapping.txt`: CelebA's image by the number of CelebA-HQ's; raises InputError."""
    lines = _lines(path)
    number, header = lines[0]
    if header.split() != ["idx", "orig_idx", "orig_file"]:
        raise _error(path, number, f"must be the header `idx orig_idx orig_file`, got {shown(header.strip())}")
    mapping: dict[int, MappedImage] = {}
    for number, line in lines[1:]:
        fields = line.split()
        if len(fields) != 3:
            raise _error(path, number, f"must have 3 columns, got {len(fields)}")
        index, orig_idx = (_whole(path, number, field) for field in fields[:2])
        if not _FILE_NAME.fullmatch(fields[2]):
            raise _error(path, number, f"must end in an image file's name, got {shown(fields[2])}")
        if int(fields[2].partition(".")[0]) != orig_idx + 1:
            raise _error(path, number, f"orig_idx {orig_idx} is image {orig_idx + 1:06d}, not {fields[2]}")
        if index in mapping:
            raise _error(path, number, f"has idx {index}, which is there before")
        mapping[index] = MappedImage(orig_idx, fields[2])
    return mapping


def check_listed(folder: Path, names: Iterable[str], of: str, remedy: str = OFFICIAL_REMEDY) -> None:
    """Raise InputError unless `folder` has a file of every name; one listing, no file is opened."""
    ImageFiles(folder, None).check(list(names), of, remedy)


def fingerprint_texts(paths: Iterable[Path]) -> str:
    """12 hexadecimal digits over names and content of those of the files that are there; raises InputError."""
    total = hashlib.sha256()
    for path in paths:
        if path.exists():
            total.update(f"{path.name} {hashlib.sha256(read_content(path)).hexdigest()}\n".encode())
    return total.hexdigest()[:12]


def _read_numbers(path: Path, kind: str, allowed: Collection[int] | None = None) -> dict[str, int]:
    numbers: dict[str, int] = {}
    for number, line in _lines(path):
        fields = line.split()
        if len(fields) != 2:
            raise _error(path, number, f"must be a file name and {kind}, got {len(fields)} columns")
        _check_new_file(path, number, fields[0], numbers)
        value = _whole(path, number, fields[1])
        if allowed is not None and value not in allowed:
            raise _error(path, number, f"must be {kind}, got {value}")
        numbers[fields[0]] = value
    return numbers


def _check_new_file(path: Path, number: int, file: str, known: Collection[str]) -> None:
    if not _FILE_NAME.fullmatch(file):
        raise _error(path, number, f"must begin with an image file's name, got {shown(file)}")
    if file in known:
        raise _error(path, number, f"is about {file}, which is there before")


def _whole(path: Path, number: int, field: str) -> int:
    # Nine digits are more than any number in these files has, and surely fit an int64 tensor.
    if not (field.isascii() and field.isdecimal() and len(field) <= 9):
        raise _error(path, number, f"has {shown(field)} where a whole number must be")
    return int(field)


def _error(path: Path, number: int, problem: str) -> InputError:
    return InputError(f"{path}: line {number} {problem}; {OFFICIAL_REMEDY}")


def _lines(path: Path) -> list[tuple[int, str]]:
    """The lines that are not blank with their numbers, at least one; a byte order mark and CRLF are accepted."""
    try:
        text = read_content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text (byte {error.start}); {OFFICIAL_REMEDY}") from None
    lines = [(number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    if not lines:
        raise InputError(f"{path}: the file is empty; {OFFICIAL_REMEDY}")
    return lines
