"""What images and label maps hold, beyond that they can be read: of one colour, of one region, by
other numbers.
"""

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageChops

from cfexp.data.checks.findings import Findings
from cfexp.data.label_maps.plausible import (
    ONE_UNLIKE,
    SURE_OF_ONE,
    Looks,
    bands_of,
    is_unlike,
    other_order,
    shares_of,
)

FIRST = 8  # images that a run looks at before it begins
# An image that is enlarged by more has too little in it.
MOST_ENLARGED = 2
# What JPEG makes of one colour, or of no colour, differs by less.
_SAME = 6
_MOSTLY = 0.5  # of a label map's pixels, or of the images


_SAID: set[str] = set()  # by this process: each stage of a run reads the data anew
_log = logging.getLogger(__name__)


class Content(NamedTuple):
    """What an image and its label map hold."""

    one_colour: bool = False
    grey: bool = False  # R = G = B
    bands: NDArray[np.float64] | None = None  # of the label map: see `bands_of`


def content_of(
    image: Image.Image | None, label_map: Image.Image | None, num_regions: int
) -> Content:
    """Look at an RGB image and a label map of mode L; either may be None."""
    bands = None if label_map is None else bands_of(np.asarray(label_map), num_regions)
    if image is None:
        return Content(bands=bands)
    red, green, blue = image.split()
    differences = (ImageChops.difference(red, other).getextrema()[1] for other in (green, blue))
    one_colour = all(high - low <= _SAME for low, high in image.getextrema())  # type: ignore[misc]
    return Content(one_colour, max(differences) <= _SAME, bands)  # type: ignore[operator]


class Seen(NamedTuple):
    """An image that was looked at."""

    image: str  # its path
    label_map: str  # its label map's, or the image's own
    content: Content


def check_content(
    seen: Sequence[Seen],
    findings: Findings,
    looks: Looks | None = None,
    region_names: Sequence[str] = (),
) -> None:
    """Add what is odd to the findings; looks: how label maps of `region_names` should look."""
    _note(
        findings, [each.image for each in seen if each.content.one_colour], "is of one colour only"
    )
    maps = [(each.label_map, each.content.bands) for each in seen if each.content.bands is not None]
    if not maps:
        return
    alone = [path for path, bands in maps if (bands.sum(1) > 0).sum() == 1]
    if len(alone) == len(maps) > 1:
        name = region_names[int(np.argmax(sum(bands.sum(1) for _, bands in maps)))]
        findings.error(
            f"{alone[0]}: this label map and all others hold one region only, {name}", len(alone)
        )
        return
    _note(findings, alone, "the label map holds one region only")
    if "unlabeled" in region_names:
        unlabeled = region_names.index("unlabeled")
        bare = [
            path
            for path, bands in maps
            if bands[unlabeled].sum() > _MOSTLY and path not in set(alone)
        ]
        _note(findings, bare, "most pixels of the label map are unlabeled")
    mean = np.sum([bands for _, bands in maps], 0) / len(maps)
    present = [name for name, share in zip(region_names, mean.sum(1), strict=True) if share > 0]
    # a binary mask, or where one may drive
    if len(present) <= 3 and len(present) < len(region_names):
        held = " and ".join(present)
        line = f"all label maps together hold {held} only; are they label maps of regions?"
        findings.note(f"{maps[0][0]}: {line}", len(maps))
    if looks is not None:
        _check_order(maps, mean, findings, looks, region_names)


def check_grey(contents: Sequence[Content], findings: Findings) -> None:
    """Note that most images have no colours; contents: of those in files of three channels."""
    grey = sum(each.grey and not each.one_colour for each in contents)
    if grey > _MOSTLY * len(contents):
        many = f"all {grey:,}" if grey == len(contents) else f"{grey:,} of {len(contents):,}"
        findings.note(f"{many} images are grey (R = G = B)", grey)


def _check_order(
    maps: Sequence[tuple[str, NDArray[np.float64]]],
    mean: NDArray[np.float64],
    findings: Findings,
    looks: Looks,
    region_names: Sequence[str],
) -> None:
    """Whether all label maps, or some, are written by other numbers."""
    unlike = f"unlike {looks.pictures}: are they written by the numbers of these regions?"
    shown = f"{maps[0][0]}: as the label maps are read they show {shares_of(mean, region_names)};"
    if (order := other_order(mean, looks)) is not None:
        findings.error(f"{shown} they look like {order}", len(maps))
        return
    if is_unlike(mean, looks):
        findings.note(f"{shown} {unlike}", len(maps))
        return
    odd: dict[str, list[tuple[str, NDArray[np.float64]]]] = {}
    for path, bands in maps:
        if (order := other_order(bands, looks, SURE_OF_ONE)) is not None:
            odd.setdefault(f"it looks like {order}", []).append((path, bands))
        elif is_unlike(bands, looks, ONE_UNLIKE):
            odd.setdefault(unlike.replace("are they", "is it"), []).append((path, bands))
    for problem, those in odd.items():
        path, bands = those[0]
        shares = shares_of(bands, region_names)
        findings.note(f"{path}: as this label map is read it shows {shares}; {problem}", len(those))


def first_look(seen: Sequence[Seen], looks: Looks | None, region_names: Sequence[str]) -> list[str]:
    """What is odd about the first images of a run, in lines; what is so of one of them only is left
    to the doctor.
    """
    findings = Findings()
    check_content(seen, findings, looks, region_names)
    return [finding.first for finding in findings if finding.times > 1]


def say_first(
    sizes: Mapping[str, tuple[int, int]],
    size_problem: Callable[[tuple[int, int]], str | None],
    lines: Sequence[str],
) -> None:
    """Log what is odd about the first images of a run: a size, if half of them have such ones, and
    these lines.
    """
    odd = [
        (path, size, problem)
        for path, size in sizes.items()
        if (problem := size_problem(size)) is not None
    ]
    if odd and len(odd) >= _MOSTLY * len(sizes):
        path, size, problem = odd[0]
        lines = [f"{path} is {size[0]}x{size[1]}; {problem}", *lines]
    for line in lines:
        if line in _SAID:
            continue
        _SAID.add(line)
        _log.warning("%s (python -m cfexp.doctor looks at all images)", line)


def enlarged(scale: float) -> str | None:
    """What is odd about an image whose smaller side, against what is shown, has this length; None =
    nothing.
    """
    return (
        None
        if scale * MOST_ENLARGED >= 1
        else f"it is enlarged {1 / scale:.1f} times to what is shown"
    )


def _note(findings: Findings, paths: Sequence[str], problem: str) -> None:
    if paths:
        findings.note(f"{paths[0]}: {problem}", len(paths))
