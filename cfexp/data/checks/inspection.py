"""Opening every image and label map of a data set, several at once, to see whether they can be
used.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from io import BytesIO
from typing import NamedTuple

from PIL import Image
from rich.console import Console
from rich.progress import track

from cfexp.data.base import Part
from cfexp.data.checks.content import Content, Seen, check_content, check_grey, content_of
from cfexp.data.checks.findings import Findings
from cfexp.data.label_maps.dataset import LabelMapRecord, PngLabelMaps, check_proportions
from cfexp.data.label_maps.module import LabelMapDataModule
from cfexp.data.label_maps.plausible import Looks
from cfexp.data.reading.images import is_turned
from cfexp.errors import InputError


class Inspected(NamedTuple):
    """What an image's files are like."""

    path: str
    part: str  # of the data set
    problems: tuple[str, ...] = ()
    digest: bytes = b""  # of the image's bytes; empty where it cannot be read
    mode: str = "RGB"
    size: tuple[int, int] | None = None  # width, height
    label_map: str = ""  # its path
    label_map_size: tuple[int, int] | None = None
    content: Content = Content()
    turned: bool = False  # EXIF says that it is to be shown otherwise than it is stored


# Pillow's modes of files that can only be grey: nothing is to be said of that.
ONE_CHANNEL = ("1", "L", "LA", "La", "I", "I;16", "I;16B", "I;16L", "F")
Inspection = Callable[[], Inspected]


def inspect_label_map(
    record: LabelMapRecord, reader: PngLabelMaps, part: str, num_regions: int
) -> Inspected:
    """Open an image and its label map as training would."""
    label_map = None
    found, image = _opened(
        str(record.image), part, lambda: reader.content(record), lambda _: reader.image(record)
    )
    try:
        label_map = reader.label_map(record)
        if label_map is not None:
            found = found._replace(label_map=str(record.label_map), label_map_size=label_map.size)
        if label_map is not None and image is not None:
            check_proportions(record, image, label_map)
    except InputError as error:
        found = found._replace(problems=(*found.problems, str(error)))
    return found._replace(content=content_of(image, label_map, num_regions))


def inspect_records(
    data: LabelMapDataModule, records: Mapping[Part, Sequence[LabelMapRecord]]
) -> list[Inspection]:
    """What opens the images of some parts, each with its label map."""
    reader, num_regions = data.reader, len(data.region_names)
    return [
        partial(inspect_label_map, record, reader, part, num_regions)
        for part in records
        for record in records[part]
    ]


def inspect_image(
    path: str, part: str, read: Callable[[], bytes], decode: Callable[[bytes], Image.Image]
) -> Inspected:
    """Open an image whose file is what `read` gives, by `decode`; both may raise InputError."""
    found, image = _opened(path, part, read, decode)
    return found._replace(content=content_of(image, None, 0))


def _opened(
    path: str, part: str, read: Callable[[], bytes], decode: Callable[[bytes], Image.Image]
) -> tuple[Inspected, Image.Image | None]:
    try:
        content = read()
        image = decode(content)
    except InputError as error:
        return Inspected(path, part, (str(error),)), None
    with Image.open(BytesIO(content)) as picture:  # as it is in the file
        found = Inspected(
            path, part, mode=picture.mode, size=picture.size, turned=is_turned(picture)
        )
    return found._replace(digest=hashlib.blake2b(content, digest_size=16).digest()), image


def inspect_all(
    inspections: Sequence[Inspection],
    findings: Findings,
    *,
    one_size: bool,
    size_problem: Callable[[tuple[int, int]], str | None],
    looks: Looks | None = None,
    region_names: Sequence[str] = (),
    show: bool = True,
) -> None:
    """Carry them out, with a progress bar on stderr, and add to the findings.

    one_size: images of other sizes than most are worth a note. size_problem: what is odd about an
    image of (W, H) pixels, or None. looks: what label maps of `region_names` should look like.
    """
    seen: list[Inspected] = []
    # Decoding releases the interpreter; more threads than that only wait for each other.
    with ThreadPoolExecutor(min(8, os.cpu_count() or 1)) as pool:
        results = pool.map(lambda inspection: inspection(), inspections)
        bar = track(
            results,
            "opening every image",
            len(inspections),
            console=Console(stderr=True),
            disable=not show,
        )
        for found in bar:
            for problem in found.problems:
                findings.error(problem, of=[found.path])
            if found.mode != "RGB":
                findings.note(f"{found.path}: mode {found.mode} is made RGB", of=[found.path])
            if found.turned:
                findings.note(
                    f"{found.path}: EXIF says that it is to be turned; it is read as it is stored",
                    of=[found.path],
                )
            seen.append(found)
    usual = []
    for found in seen:
        if found.size is not None and (problem := size_problem(found.size)) is not None:
            line = f"{found.path}: is {found.size[0]}x{found.size[1]}; {problem}"
            findings.note(line, of=[found.path])
        else:
            usual.append(found)
    if one_size:
        _note_sizes(findings, "image", ((found.path, found.size) for found in usual))
    _note_sizes(findings, "label map", ((found.path, found.label_map_size) for found in seen))
    check_content(
        [Seen(found.path, found.label_map, found.content) for found in seen],
        findings,
        looks,
        region_names,
    )
    check_grey([found.content for found in seen if found.mode not in ONE_CHANNEL], findings)
    _find_copies(findings, seen)


def _note_sizes(
    findings: Findings, kind: str, sizes: Iterable[tuple[str, tuple[int, int] | None]]
) -> None:
    known = [(path, size) for path, size in sizes if size is not None]
    if not known:
        return
    (most, _), *others = Counter(size for _, size in known).most_common()
    if others:
        path, size = next((path, size) for path, size in known if size != most)
        of = "" if kind == "image" else f"its {kind} "
        count = sum(count for _, count in others)
        findings.note(f"{path}: {of}is {size[0]}x{size[1]}, most are {most[0]}x{most[1]}", count)


def _find_copies(findings: Findings, seen: Iterable[Inspected]) -> None:
    first: dict[bytes, Inspected] = {}
    for found in seen:
        if found.digest:
            other = first.setdefault(found.digest, found)
            if other.part != found.part:
                parts = f"{found.part} and {other.part}"
                line = f"{found.path}: is in two parts, {parts}: the same bytes as {other.path}"
                findings.error(line, of=[found.path, other.path])
            elif other is not found:
                line = f"{found.path}: the same bytes as {other.path}"
                findings.note(line, of=[found.path, other.path])
