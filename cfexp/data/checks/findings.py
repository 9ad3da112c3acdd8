"""What a check of a data set found: one entry a kind of problem, with how often it occurs and the
first of them.
"""

import re
from collections.abc import Callable, Collection, Hashable, Iterator, Mapping, Sequence
from typing import Literal, NamedTuple, TypeVar

from cfexp.data.reading.records import OFFICIAL_REMEDY
from cfexp.errors import InputError

Severity = Literal["error", "note"]
T = TypeVar("T")
# What differs between two problems of a kind: paths and other names in quotes, and words with a
# digit.
_PARTICULAR = re.compile(r"'[^']*'|\S*\d\S*|\S*/\S*")


class Finding(NamedTuple):
    """A kind of problem."""

    severity: Severity
    times: int
    first: str  # one line: the path and what is wrong there


class Findings:
    """Collects problems; those whose lines differ in names and numbers only are of one kind."""

    def __init__(self) -> None:
        self._found: dict[tuple[Severity, str], Finding] = {}
        self._lines: set[str] = set()

    def error(self, line: str, count: int = 1, *, of: Sequence[str] = ()) -> None:
        """Something that training or explaining stops at, or that makes a figure wrong. of: the
        paths in the line, which are no part of the kind, whatever characters they have.
        """
        self._add("error", line, count, of)

    def note(self, line: str, count: int = 1, *, of: Sequence[str] = ()) -> None:
        """Something to know; as `error`."""
        self._add("note", line, count, of)

    def attempt(self, read: Callable[[], T]) -> T | None:
        """What `read` gives; None where it raises InputError, which is an error found."""
        try:
            return read()
        except InputError as error:
            self.error(str(error))
            return None

    def total(self, where: object, things: str, count: int, known: int) -> None:
        """Note where there are fewer or more than the whole data set has."""
        if count != known:
            self.note(f"{where}: {count:,} {things}; the whole data set has {known:,}")

    def missing(
        self, names: Collection[str], present: Collection[str] | None, line: str, note: bool = False
    ) -> None:
        """An error, or a note, where some names are not among those present; `line` has a place for
        the first, {}.
        """
        if present is not None and (absent := [name for name in names if name not in present]):
            (self.note if note else self.error)(line.format(min(absent)), len(absent))

    def in_two_parts(
        self,
        part_of: Mapping[str, str],
        thing_of: Mapping[str, Hashable],
        line: str,
        note: bool = False,
    ) -> None:
        """An error, or a note, where a thing that samples show is in two parts; `line` has places
        for two samples.
        """
        first: dict[Hashable, str] = {}
        shared: dict[Hashable, str] = {}
        for sample, part in part_of.items():
            thing = thing_of.get(sample)
            if thing is None:
                continue
            other = first.setdefault(thing, sample)
            if part_of[other] != part:
                shared.setdefault(
                    thing, line.format(sample, other, part=part, other_part=part_of[other])
                )
        if shared:
            self._add("note" if note else "error", next(iter(shared.values())), len(shared))

    @property
    def has_errors(self) -> bool:
        """Whether anything is worse than a note."""
        return any(severity == "error" for severity, _ in self._found)

    @property
    def count(self) -> int:
        """How many kinds there are."""
        return len(self._found)

    def __iter__(self) -> Iterator[Finding]:
        """Errors first, in the order in which they were found."""
        return iter(sorted(self._found.values(), key=lambda finding: finding.severity != "error"))

    def _add(self, severity: Severity, line: str, count: int, of: Sequence[str] = ()) -> None:
        line = line.removesuffix(f"; {OFFICIAL_REMEDY}").removesuffix(f": {OFFICIAL_REMEDY}")
        if line in self._lines:  # met again by another way
            return
        self._lines.add(line)
        plain = line
        for path in of:
            plain = plain.replace(path, "#")
        kind = severity, _PARTICULAR.sub("#", plain)
        known = self._found.get(kind)
        self._found[kind] = (
            Finding(severity, count, line)
            if known is None
            else known._replace(times=known.times + count)
        )
