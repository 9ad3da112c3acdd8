"""Groups of images, such as a patient's, by the names of their files where no column says them."""

import re
from collections import defaultdict
from collections.abc import Sequence
from pathlib import PurePosixPath
from re import Pattern
from typing import NamedTuple

from cfexp.errors import InputError

PREFIX = "prefix:"
IN_NAMES = "prefix:_ takes what stands before the first _ of a file's name"
SEPARATORS = ("_", "-")
# Fewer names than that are of cameras or classes; and a name of more of the images, of all.
LEAST_NAMES, MOST_OF_ALL = 10, 0.1
_SHARED = 0.5  # of the images: as many share their name with another


class Leak(NamedTuple):
    """Names that several files begin with, in two parts."""

    separator: str
    names: int
    in_two_parts: int
    example: str


def pattern_of(group: str) -> Pattern[str] | None:
    """What finds a group in a file's name: `prefix:_`, what stands before the first `_`; or a
    regular expression with one (group), of the path within the folder. None of anything else.

    Raises InputError for an expression that is none, or has several groups.
    """
    if group.startswith(PREFIX) and len(group) > len(PREFIX):
        return re.compile(f"^(?:.*/)?([^/]+?){re.escape(group.removeprefix(PREFIX))}[^/]*$")
    if "(" not in group:
        return None
    try:
        pattern = re.compile(group)
    except re.error as error:
        raise InputError(f"data.group={group}: no regular expression ({error})") from None
    if pattern.groups != 1:
        raise InputError(f"data.group={group}: must have one (group), has {pattern.groups}")
    return pattern


def groups_in_names(places: Sequence[str], pattern: Pattern[str]) -> list[str | None]:
    """The group of each image by its path within the folder, less its suffix; None of one that has
    none.
    """
    found = (pattern.search(str(PurePosixPath(place).with_suffix(""))) for place in places)
    return [None if each is None else each[1] for each in found]


def leak_by_names(places: Sequence[str], parts: Sequence[str], num_classes: int) -> Leak | None:
    """What the files' names tell of groups that lie in two parts, where many begin with a name that
    some share; None where they do not, or the names count one thing (IMG_1) or are of the classes.

    places, parts: of each image.
    """
    for separator in SEPARATORS:
        pattern = pattern_of(f"{PREFIX}{separator}")
        assert pattern is not None
        held: dict[str, list[str]] = defaultdict(list)
        for name, part in zip(groups_in_names(places, pattern), parts, strict=True):
            if name is not None:
                held[name].append(part)
        sizes = [len(each) for each in held.values()]
        are_groups = (
            len(held) >= max(LEAST_NAMES, 2 * num_classes)
            and max(sizes) <= MOST_OF_ALL * len(places)
            and sum(size for size in sizes if size > 1) >= _SHARED * len(places)
        )
        divided = [name for name, each in held.items() if len({*each}) > 1]
        if are_groups and divided:
            return Leak(separator, len(held), len(divided), divided[0])
    return None
