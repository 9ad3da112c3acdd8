"""The text files of CelebA and CelebAMask-HQ, read and checked: attributes, identities, partition,
mapping.

Lists are read in the authors' form, columns between blanks, and in that of the copy that is
downloaded most: columns between commas under a header (`image_id,Male,...`), without a count, and
with 0 or -1 for no.
"""

import csv
import hashlib
import re
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path
from typing import NamedTuple

from cfexp.data.reading.archives import ImageFiles, read_content
from cfexp.data.reading.records import OFFICIAL_REMEDY, Readable, shown
from cfexp.errors import InputError

_FILE_NAME = re.compile(r"\d{1,9}\.(jpg|jpeg|png)")
_VALUES = {"1": 1.0, "-1": 0.0, "0": 0.0}


class Attributes(NamedTuple):
    """An attribute file."""

    names: tuple[str, ...]  # its columns
    rows: dict[str, list[str]]  # by file name, "1" for yes and "-1" or "0" for no a column

    def select(self, path: Readable, names: Sequence[str]) -> dict[str, tuple[float, ...]]:
        """1 or 0 of the columns `names` by file name; raises InputError if one is missing."""
        for name in names:
            if name not in self.names:
                problem = (
                    f"has no attribute {name!r}; its {len(self.names)} are {', '.join(self.names)}"
                )
                raise InputError(f"{path}: {problem}; choose data.attributes among them")
        columns = [self.names.index(name) for name in names]
        return {
            file: tuple(_VALUES[row[column]] for column in columns)
            for file, row in self.rows.items()
        }


def read_attributes(path: Readable) -> Attributes:
    """`list_attr_celeba.txt` or `CelebAMask-HQ-attribute-anno.txt`: the count, the names, a row an
    image.

    Or `list_attr_celeba.csv`: a header that begins with a word for the file and goes on with the
    names, a row an image. Raises InputError, which names the line, unless the count is that of the
    rows, no file is there twice and every value is 1 or -1, or every value 1 or 0.
    """
    lines, with_commas = _table(path)
    count = None if with_commas else " ".join(lines[0][1])
    if count is not None and not count.isdecimal():
        expected = "the number of images (or a header of columns between commas)"
        raise _error(path, lines[0][0], f"must be {expected}, got {shown(count)}")
    headers, rows_from = (lines[:1], 1) if with_commas else (lines[1:2], 2)
    number, names = headers[0] if headers else (2, [])
    if not names or names[0].removeprefix("-").isdecimal() or _FILE_NAME.fullmatch(names[0]):
        raise _error(path, number, "must name the attributes; the header is missing")
    names = names[1:] if with_commas else names
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise _error(path, number, f"names the attribute {twice!r} twice")
    rows: dict[str, list[str]] = {}
    no_since: dict[str, int] = {}  # the first line of either word for it
    for number, (file, *values) in lines[rows_from:]:
        _check_new_file(path, number, file, rows)
        if len(values) != len(names):
            raise _error(path, number, f"has {len(values)} values for {len(names)} attributes")
        different = set(values)
        if not _VALUES.keys() >= different:
            wrong = next(value for value in values if value not in _VALUES)
            raise _error(
                path, number, f"has the value {shown(wrong)}; attributes are 1 or -1, or 1 or 0"
            )
        for no in different - no_since.keys() - {"1"}:
            no_since[no] = number
        rows[file] = values
    if len(no_since) > 1:
        problem = f"has the value '0', line {no_since['-1']} has '-1'"
        raise _error(
            path, no_since["0"], f"{problem}: attributes are 1 or -1, or 1 or 0, in the whole file"
        )
    if not rows:
        raise InputError(f"{path}: names no image; {OFFICIAL_REMEDY}")
    # As text: int() refuses a number of very many digits.
    if count is not None and count.lstrip("0") != str(len(rows)):
        problem = f"{path}: line {lines[0][0]} announces {shown(count)} images, {len(rows)} follow"
        raise InputError(f"{problem}; the file is cut short or was edited: {OFFICIAL_REMEDY}")
    return Attributes(tuple(names), rows)


def read_identities(path: Readable) -> dict[str, int]:
    """`identity_CelebA.txt` or `.csv`: the person, an integer of at least 0, by file name; raises
    InputError.
    """
    return _read_numbers(path, "a person's number")


def read_partition(path: Readable) -> dict[str, int]:
    """`list_eval_partition.txt` or `.csv`: 0 = train, 1 = validation, 2 = test by file name; raises
    InputError.
    """
    return _read_numbers(path, "0, 1 or 2", allowed=(0, 1, 2))


class MappedImage(NamedTuple):
    """A row of CelebA-HQ-to-CelebA-mapping.txt."""

    orig_idx: int  # the number of CelebA's image, from 0
    orig_file: str  # its name, which counts from 1


def read_mapping(path: Readable) -> dict[int, MappedImage]:
    """`CelebA-HQ-to-CelebA-mapping.txt`: CelebA's image by the number of CelebA-HQ's; raises
    InputError.
    """
    lines = _lines(path)
    number, header = lines[0]
    if header.split() != ["idx", "orig_idx", "orig_file"]:
        raise _error(
            path,
            number,
            f"must be the header `idx orig_idx orig_file`, got {shown(header.strip())}",
        )
    mapping: dict[int, MappedImage] = {}
    for number, line in lines[1:]:
        fields = line.split()
        if len(fields) != 3:
            raise _error(path, number, f"must have 3 columns, got {len(fields)}")
        index, orig_idx = (_whole(path, number, field) for field in fields[:2])
        if not _FILE_NAME.fullmatch(fields[2]):
            raise _error(path, number, f"must end in an image file's name, got {shown(fields[2])}")
        if int(fields[2].partition(".")[0]) != orig_idx + 1:
            raise _error(
                path, number, f"orig_idx {orig_idx} is image {orig_idx + 1:06d}, not {fields[2]}"
            )
        if index in mapping:
            raise _error(path, number, f"has idx {index}, which is there before")
        mapping[index] = MappedImage(orig_idx, fields[2])
    return mapping


def check_listed(
    folder: Path, names: Iterable[str], of: str, remedy: str = OFFICIAL_REMEDY
) -> None:
    """Raise InputError unless `folder` has a file of every name; one listing, no file is opened."""
    ImageFiles(folder, None).check(list(names), of, remedy)


def fingerprint_texts(paths: Iterable[Readable]) -> str:
    """12 hexadecimal digits over names and content of those of the files that are there; raises
    InputError.
    """
    total = hashlib.sha256()
    for path in paths:
        if path.exists():
            total.update(f"{path.name} {hashlib.sha256(_content(path)).hexdigest()}\n".encode())
    return total.hexdigest()[:12]


def _read_numbers(
    path: Readable, kind: str, allowed: Collection[int] | None = None
) -> dict[str, int]:
    numbers: dict[str, int] = {}
    lines, with_commas = _table(path)
    if with_commas and not _FILE_NAME.fullmatch(lines[0][1][0]):
        del lines[0]  # the header
    for number, fields in lines:
        if len(fields) != 2:
            raise _error(path, number, f"must be a file name and {kind}, got {len(fields)} columns")
        _check_new_file(path, number, fields[0], numbers)
        value = _whole(path, number, fields[1])
        if allowed is not None and value not in allowed:
            raise _error(path, number, f"must be {kind}, got {value}")
        numbers[fields[0]] = value
    return numbers


def _check_new_file(path: Readable, number: int, file: str, known: Collection[str]) -> None:
    if not _FILE_NAME.fullmatch(file):
        raise _error(path, number, f"must begin with an image file's name, got {shown(file)}")
    if file in known:
        raise _error(path, number, f"is about {file}, which is there before")


def _whole(path: Readable, number: int, field: str) -> int:
    # Nine digits are more than any number in these files has, and surely fit an int64 tensor.
    if not (field.isascii() and field.isdecimal() and len(field) <= 9):
        raise _error(path, number, f"has {shown(field)} where a whole number must be")
    return int(field)


def _error(path: Readable, number: int, problem: str) -> InputError:
    return InputError(f"{path}: line {number} {problem}; {OFFICIAL_REMEDY}")


def _table(path: Readable) -> tuple[list[tuple[int, list[str]]], bool]:
    """The columns of each line that is not blank, with its number; and whether commas stand between
    them.
    """
    lines = _lines(path)
    if "," not in lines[0][1]:
        return [(number, line.split()) for number, line in lines], False
    table = []
    for number, line in lines:
        try:
            (fields,) = csv.reader([line.strip()], skipinitialspace=True, strict=True)
        except csv.Error as error:
            raise _error(path, number, f"has no columns between commas ({error})") from None
        table.append((number, fields))
    return table, True


def _content(path: Readable) -> bytes:
    return read_content(path) if isinstance(path, Path) else path.read_bytes()


def _lines(path: Readable) -> list[tuple[int, str]]:
    """The lines that are not blank with their numbers, at least one; a byte order mark and CRLF are
    accepted.
    """
    try:
        text = _content(path).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not UTF-8 text (byte {error.start}); {OFFICIAL_REMEDY}"
        ) from None
    lines = [
        (number, line) for number, line in enumerate(text.split("\n"), start=1) if line.strip()
    ]
    if not lines:
        raise InputError(f"{path}: the file is empty; {OFFICIAL_REMEDY}")
    return lines
