"""Which images train, validate and test, where nobody says: drawn by a seed, whole groups at a
time, each class in the same shares.
"""

import hashlib
from collections import Counter, defaultdict
from collections.abc import Hashable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TypeVar

import numpy as np

from cfexp.data.base import Part
from cfexp.whole_files import write_whole

PARTS: tuple[Part, ...] = ("train", "val", "test")
T = TypeVar("T")


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


def same_bytes(paths: Sequence[Path]) -> list[str]:
    """A name of each file that those alone share which hold the same bytes: as groups, so that no
    image is in two parts.
    """
    sizes = [path.stat().st_size for path in paths]
    several = Counter(sizes)
    return [
        f"{path}" if several[size] == 1 else hashlib.sha256(path.read_bytes()).hexdigest()
        for path, size in zip(paths, sizes, strict=True)
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


def dealt_out(things: Sequence[T]) -> dict[Part, list[T]]:
    """All parts of some things, of ten seven to train on, one to validate and two to test.

    A segmenter learns from images with a label map, and often only those of one part have one.
    """
    dealt: dict[Part, list[T]] = {part: [] for part in PARTS}
    # Two things are enough to train and to test on.
    tenth: tuple[Part, ...] = ("train", "test", *(("train",) * 4), "test", "train", "val", "train")
    for place, thing in enumerate(things):
        dealt[tenth[place % len(tenth)]].append(thing)
    return dealt
