"""Which images train, validate and test, where nobody says: drawn by a seed, whole groups at a
time, each class in the same shares.
"""

from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np

from cfexp.data.base import Part
from cfexp.data.own.digests import UNREADABLE
from cfexp.errors import InputError
from cfexp.whole_files import write_whole

PARTS: tuple[Part, ...] = ("train", "val", "test")

Item = TypeVar("Item")


def draw_parts(
    classes: Sequence[int],
    groups: Sequence[Hashable],
    shares: Sequence[float],
    seed: int,
) -> list[Part]:
    """The part of each of N images.

    classes, groups: N of each image; what shares a group shares a part. shares: of train, val and
    test, in proportion. Groups are taken in an order of the seed, the largest first, and each goes
    to the part that lacks its classes most.
    """
    members: dict[Hashable, list[int]] = defaultdict(list)
    for image, group in enumerate(groups):
        members[group].append(image)
    order = list(members)
    np.random.default_rng(seed).shuffle(order)
    order.sort(key=lambda group: -len(members[group]))  # stable: of equal ones the seed's order
    total, whole = Counter(classes), sum(shares)
    wanted = [{each: total[each] * share / whole for each in total} for share in shares]
    parts: list[Part] = ["train"] * len(classes)
    for group in order:
        held = Counter(classes[image] for image in members[group])

        # How far each part is from what it wants, of the classes that the group holds; in shares of
        # what it wants, so that the small parts have their turn.
        def lack(part: int, held: Counter[int] = held) -> float:
            return sum(
                count * wanted[part][each] / max(total[each] * shares[part] / whole, 1e-9)
                for each, count in held.items()
            )

        asked = [part for part in range(len(shares)) if shares[part] > 0]
        best = max(asked, key=lack)
        for each, count in held.items():
            wanted[best][each] -= count
        for image in members[group]:
            parts[image] = PARTS[best]
    return parts


def deal_parts(
    classes: Sequence[int],
    groups: Sequence[Hashable],
    shares: Sequence[float],
    seed: int,
) -> list[Part]:
    """As `draw_parts`; and where that leaves none to train or to test on, as few groups may, the
    groups without a validation part, and then without regard to their classes.
    """
    of_two, one_class = (shares[0], 0.0, shares[2]), [0] * len(classes)
    for told, wanted in ((classes, shares), (classes, of_two), (one_class, of_two)):
        parts = draw_parts(told, groups, wanted, seed)
        if {"train", "test"} <= {*parts}:
            break
    return parts


def deal_mapped(
    classes: Sequence[int],
    groups: Sequence[Hashable],
    shares: Sequence[float],
    seed: int,
) -> tuple[list[Part], bool]:
    """Parts for a segmenter, of the images that have a label map: often those of one part alone
    have one. Also whether a group had to be divided, as there is one only.
    """
    alone = len({*groups}) < 2
    dealt = range(len(classes)) if alone else groups
    return deal_parts(classes, dealt, shares, seed), alone and len(classes) > 1


def same_bytes(paths: Sequence[Path], digests: Sequence[str]) -> list[str]:
    """A name of each file that those alone share which hold the same bytes, by their digests: as
    groups, so that no image is in two parts.
    """
    return [
        f"{path}" if digest == UNREADABLE else digest
        for path, digest in zip(paths, digests, strict=True)
    ]


def kept_parts(path: Path) -> dict[str, Part]:
    """The parts that were drawn before, by the images' places; none where they are not there."""
    known = {part: part for part in PARTS}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
        rows = (line.rsplit(",", 1) for line in lines)
        return {place: known[part] for place, part in rows}  # type: ignore[index]
    except (OSError, ValueError, KeyError):
        return {}


def keep_parts(path: Path, parts: Mapping[str, Part]) -> None:
    """Keep what was drawn, where that can be written: it is drawn again alike."""
    with suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        rows = [f"{place},{part}" for place, part in parts.items()]
        write_whole(path, "\n".join(["file,part", *rows]) + "\n")


def check_shares(split: Sequence[float]) -> tuple[float, ...]:
    """Of train, val and test; raises InputError for what is none."""
    numbers = not isinstance(split, str) and all(
        isinstance(each, int | float) and each >= 0 for each in split
    )
    if not numbers or len(split) != 3 or split[0] <= 0 or split[2] <= 0:
        shown = [*split] if numbers else split
        example = "such as [0.7,0.1,0.2]"
        raise InputError(
            f"data.split must be shares of train, val and test, {example}, got {shown}"
        )
    return tuple(float(each) for each in split)


def in_turn(items: Sequence[Item], classes: Sequence[str]) -> list[Item]:
    """One of each class after the other, each class's in their order.

    classes: of each item.
    """
    of_class: dict[str, list[Item]] = {}
    for item, name in zip(items, classes, strict=True):
        of_class.setdefault(name, []).append(item)
    longest = max(map(len, of_class.values()), default=0)
    return [each[turn] for turn in range(longest) for each in of_class.values() if turn < len(each)]
