"""Somebody else's counterfactual images: what belongs together, and whether it can be read."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cfexp.data.own.images import FORMATS, SUFFIXES, upright_rgb
from cfexp.data.reading.images import read_picture
from cfexp.errors import InputError

# A recorded distance is of float images, ours of their 8 bits, which may be truncated, not rounded.
TOLERANCE = 2 / 255
NAMES = ("query", "counterfactual", "reconstruction")
FURTHER = "further[{}]"


class Reported(NamedTuple):
    """What the system that made a counterfactual says of it; None = it does not say."""

    success: bool  # whether it counts it as decided as was asked for
    right: bool  # whether its model decided the query by the label
    label: int | None = None
    query_class: int | None = None
    counter_class: int | None = None
    counterfactual_class: int | None = None
    l_1: float | None = None  # mean over all values of images in [0, 1]
    l_inf: float | None = None  # the largest of them


class Imported(NamedTuple):
    """One counterfactual, with what belongs to it."""

    name: str  # the stem of its files
    query: Path
    counterfactual: Path
    reconstruction: Path | None = None
    reported: Reported | None = None
    further: tuple[Path, ...] = ()  # counterfactuals of the same query

    @property
    def pictures(self) -> dict[str, Path]:
        """Its files, by name."""
        paths = (self.query, self.counterfactual, self.reconstruction)
        known = {name: path for name, path in zip(NAMES, paths, strict=True) if path is not None}
        return known | {FURTHER.format(at): path for at, path in enumerate(self.further)}


class Found(NamedTuple):
    """What is in the folders that a user gives."""

    imported: list[Imported]
    problems: list[str]  # what is left out, and why: a line each
    notes: list[str]  # what a user should know of the rest


def pair_folders(
    query: Path,
    counterfactual: Path,
    reconstruction: Path | None = None,
    further: Sequence[Path] = (),
) -> Found:
    """Pair the images of folders by stem; their endings may differ.

    further: folders of further counterfactuals of the same queries.

    Queries without a counterfactual are no problem, but noted. Raises InputError for a folder that
    is not there or holds no image.
    """
    paths = dict(zip(NAMES, (query, counterfactual, reconstruction), strict=True))
    folders = {name: path for name, path in paths.items() if path is not None}
    others = {FURTHER.format(at): path for at, path in enumerate(further)}
    folders |= others
    files: dict[str, Mapping[str, Sequence[Path]]] = {
        name: images_in(path, name) for name, path in folders.items()
    }
    imported, problems = [], []
    for stem, (path, *_) in files["counterfactual"].items():
        lacks = next((name for name in folders if stem not in files[name]), None)
        twice = next((name for name in folders if len(files[name].get(stem, ())) > 1), None)
        if lacks is not None:
            problems.append(f"{path} has no {lacks} of that name in {folders[lacks]}")
        elif twice is not None:
            names = ", ".join(each.name for each in files[twice][stem])
            of = len(files[twice][stem])
            problems.append(f"{twice}={folders[twice]}: {of} images are called {stem} ({names})")
        else:
            same = files.get("reconstruction", {}).get(stem, [None])[0]
            more = tuple(files[name][stem][0] for name in others)
            imported.append(Imported(stem, files["query"][stem][0], path, same, further=more))
    lacking = [stem for stem in files["query"] if stem not in files["counterfactual"]]
    return Found(imported, problems, without_counterfactual(lacking, len(files["query"])))


def without_counterfactual(stems: Sequence[str], queries: int) -> list[str]:
    """The note of queries that have no counterfactual; none where all have one."""
    if not stems:
        return []
    which = f"{len(stems)} of {queries} queries have no counterfactual, the first is {stems[0]}"
    return [f"{which}: they are in no number; if they are failures, success is less than it says"]


def images_in(folder: Path, setting: str) -> dict[str, list[Path]]:
    """The images of a folder by stem, in the order of their names.

    setting: which names the folder. Raises InputError where it is not there, or holds no image.
    """
    try:
        listed = sorted(folder.iterdir())
    except OSError as error:
        reason = "no such folder" if isinstance(error, FileNotFoundError) else error.strerror
        raise InputError(f"{setting}={folder}: {reason}") from None
    found: dict[str, list[Path]] = {}
    for path in listed:
        if path.suffix.lower() in SUFFIXES and not path.name.startswith("."):
            found.setdefault(path.stem, []).append(path)
    if not found:
        raise InputError(f"{setting}={folder}: no image in this folder ({', '.join(SUFFIXES)})")
    return found


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """An image as (H, W, 3) uint8, upright, grey made RGB; raises InputError for a damaged file."""
    remedy = "make it again, or leave it out by on_bad_sample=skip"
    pixels: NDArray[np.uint8] = np.asarray(
        upright_rgb(read_picture(path, FORMATS, remedy=remedy), path)[0]
    )
    return pixels


def checked(found: Found) -> tuple[Found, tuple[int, int]]:
    """What of it can be used, and its height and width: every file is opened.

    All images of a run have one size, that of most counterfactuals. A recorded distance that is not
    that of the images leaves the record out, and not the images. Raises InputError where nothing is
    left.
    """
    problems, kept = list(found.problems), []
    sizes: Counter[tuple[int, int]] = Counter()
    for each in found.imported:
        try:
            pixels = {name: read_pixels(path) for name, path in each.pictures.items()}
        except InputError as error:
            problems.append(str(error))
            continue
        of = {name: (image.shape[0], image.shape[1]) for name, image in pixels.items()}
        different = next((name for name in of if of[name] != of["counterfactual"]), None)
        if different is not None:
            both = (
                f"is {_wide(of['counterfactual'])} pixels, its {different} {_wide(of[different])}"
            )
            problems.append(f"{each.counterfactual} {both}: resize one of them")
            continue
        sizes[of["counterfactual"]] += 1
        wrong = _wrong_distance(each, pixels)
        if wrong:
            problems.append(wrong)
        kept.append(
            (each._replace(reported=_of_folder(each)) if wrong else each, of["counterfactual"])
        )
    if not kept:
        first = f", the first because {problems[0]}" if problems else ""
        raise InputError(f"no counterfactual can be used{first}")
    usual = sizes.most_common(1)[0][0]
    problems += [
        f"{each.counterfactual} is {_wide(size)} pixels, most others {_wide(usual)}: "
        "a run has one size"
        for each, size in kept
        if size != usual
    ]
    return Found([each for each, size in kept if size == usual], problems, found.notes), usual


def numbers_of(names: Iterable[str]) -> list[int] | None:
    """The numbers that names are; None where one is none, or two are the same."""
    listed = list(names)
    # Of more digits some do not fit into the 64 bits of a column.
    if not all(name.isascii() and name.isdigit() and len(name) < 19 for name in listed):
        return None
    numbers = [int(name) for name in listed]
    return numbers if len(set(numbers)) == len(numbers) else None


def _wide(size: tuple[int, int]) -> str:
    return f"{size[1]}x{size[0]}"


def _of_folder(each: Imported) -> Reported | None:
    """What is reported of an image but by its record."""
    return None if each.reported is None else Reported(*each.reported[:2])


def _wrong_distance(each: Imported, pixels: Mapping[str, NDArray[np.uint8]]) -> str:
    """What is wrong with the recorded distances of an image; "" for nothing."""
    if each.reported is None:
        return ""
    change = np.abs(pixels["query"].astype(float) - pixels["counterfactual"]) / 255
    for name, ours in (("l_1", change.mean()), ("l_inf", change.max())):
        told = getattr(each.reported, name)
        if told is not None and not abs(told - ours) <= TOLERANCE:
            of = f"the images differ by {ours:.4g}: the record is not used"
            return f"the record of {each.counterfactual} says {name} {told:g}, {of}"
    return ""
