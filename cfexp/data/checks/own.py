"""What a data set of one's own holds, in a table, and what may be wrong with it."""

import shlex
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cfexp.data.checks.findings import Findings
from cfexp.data.checks.inspection import Inspected, Inspection, inspect_image, inspect_label_map
from cfexp.data.checks.labels import check_labels
from cfexp.data.label_maps.dataset import LabelMapRecord
from cfexp.data.own.columns import Column
from cfexp.data.own.data_set import OwnDataSet
from cfexp.data.own.folder import FoundImage
from cfexp.data.own.groups import PREFIX, Leak, leak_by_names
from cfexp.data.own.images import OwnImageReader
from cfexp.data.own.left_out import TESTS_ON_VAL
from cfexp.data.own.parts import PARTS
from cfexp.data.own.table import DELIMITERS, listed
from cfexp.errors import InputError

FEW = 100  # images: of fewer a network learns them by heart
FEW_OF_A_CLASS = 20
MOST_CLASSES_SHOWN = 6
# Of the area: a region that is smaller is some pixels of the networks' picture.
LEAST_SHARE = 0.002


class Row(NamedTuple):
    """A line of the table."""

    what: str
    found: str
    taken: str  # what it was taken for


def check_own(data: OwnDataSet, findings: Findings) -> list[Inspection]:
    """Add to the findings; returns what opens the images, with their label maps where those can be
    read.
    """
    contents = findings.attempt(lambda: data.contents)
    if contents is None:
        return []
    _check_table(data, findings)
    findings.attempt(lambda: contents.columns)
    _check_label(data, findings)
    sound = findings.attempt(lambda: data.class_names) is not None
    sound &= findings.attempt(lambda: data.region_names) is not None
    sound &= findings.attempt(lambda: data.reader) is not None
    findings.attempt(lambda: data.parts)
    findings.attempt(data.prepare_data)
    records = {part: findings.attempt(partial(data.records, part)) for part in PARTS}
    if not sound or any(each is None for each in records.values()):
        reader = OwnImageReader(["image"], data.image_size)
        return [partial(_image_alone, reader, image, data) for image in contents.images]
    given = {part: each or [] for part, each in records.items()}
    check_labels(data, given, findings)
    _check_counts(data, findings)
    _check_maps(data, findings)
    return [
        partial(_with_label_map, data, record, part) for part in PARTS for record in given[part]
    ]


def own_table(data: OwnDataSet) -> list[Row]:
    """What was found and what each thing was taken for; what cannot be read is left out."""
    rows: list[Row] = []
    for part in (_images, _labels, _columns, _parts, _regions):
        try:
            rows += list(part(data))
        except InputError:  # a finding says so
            continue
    return rows


def _check_label(data: OwnDataSet, findings: Findings) -> None:
    """Of several labels none need be meant yet; and one that cannot be used must not hide the
    rest.
    """
    columns = Findings().attempt(lambda: data.contents.columns) or {}
    labels = [each for each in columns.values() if each.kind != "other"]
    labels = [each for each in labels if not each.is_constant] or labels
    data.labels = [each.name for each in labels]
    given, count = data.label is not None, findings.count
    if not given and len(data.labels) > 1:
        data.label = data.labels[0]
    findings.attempt(lambda: data.column)
    if findings.count > count:
        data.column, data.classes = None, None
    if given or len(data.labels) == 1:
        data.labels = []


def _check_table(data: OwnDataSet, findings: Findings) -> None:
    contents = data.contents
    table = findings.attempt(lambda: contents.table)
    if table is None or findings.attempt(lambda: contents.rows) is None:
        return
    for line in contents.without_image:
        findings.error(f"{line}; data.on_bad_sample=skip goes on without such rows")
    names, missing = contents.names, len(contents.images) - len(contents.rows)
    for how, count, what in (
        ("number", names.by_number, "names are matched by their number"),
        ("case", names.by_case, "names differ in upper and lower case, or in their accents' code"),
        ("place", names.by_place, "names are matched without their folders or suffix"),
    ):
        if count:
            findings.note(f"{table.path}: {what}: {' is '.join(names.examples[how])}", count)
    if missing:
        first = next(
            image for place, image in enumerate(contents.images) if place not in contents.rows
        )
        findings.note(f"{first.path}: has no row in {table.path.name}", missing)


def _check_counts(data: OwnDataSet, findings: Findings) -> None:
    where, count = data.contents.folder.root, sum(len(data.records(part)) for part in PARTS)
    if count < FEW:
        findings.note(f"{where}: {count} images; networks learn so few by heart")
    if data.contents.tests_on_val:
        findings.note(f"{where}: {TESTS_ON_VAL}")
    for part in ("train", "test"):
        if not data.records(part):
            findings.error(f"{where}: its {part} part has no image; name some in the table")
    if (leak := _leak(data)) is not None:
        names = f"{leak.in_two_parts:,} of {leak.names:,} names before {leak.separator!r}"
        remedy = f"if each is a patient, data.group={PREFIX}{leak.separator} keeps it in one part"
        if data.contents.parts is not None:
            remedy = "if each is a patient, divide them otherwise"
        line = f"{where}: {names}, such as {leak.example}, have images in two parts; {remedy}"
        findings.note(line, leak.in_two_parts)
    for left in data.left_out():
        if not left.shown:
            findings.note(f"{where}: {left.what}", left.many)
    if (elsewhere := data.contents.folder.label_maps_elsewhere()) is not None:
        findings.note(f"{elsewhere}: if these are label maps, call the folder label_maps")
    for name, many in ({} if data.column is None else data.column.counts()).items():
        if many < FEW_OF_A_CLASS:
            findings.note(f"{where}: class {name!r} has {many} images: its figures say little")


def _leak(data: OwnDataSet) -> Leak | None:
    """Of a data set without groups, what the names of its files tell of such."""
    if data.contents.group_column is not None:
        return None
    places = {image.image_id: str(image.place) for image in data.contents.images}
    parts = {places[record.image_id]: part for part in PARTS for record in data.records(part)}
    num_classes = 0 if data.column is None else len(data.column.classes)
    return leak_by_names([*parts], [*parts.values()], num_classes)


def _check_maps(data: OwnDataSet, findings: Findings) -> None:
    if data.maps.listed is None:
        return
    strays = data.maps.strays
    if by := data.maps.by_suffix:
        path, image = by[0]
        findings.note(f"{path}: is taken for the label map of {image}", len(by))
    for path in strays:
        findings.error(f"{path}: is the label map of no image; name it as its image")
    if data.unmapped:
        findings.note(
            f"{data.unmapped[0].path}: has no label map: a segmenter predicts it",
            len(data.unmapped),
        )
    if data.in_one_group:
        findings.note(f"{data.contents.folder.label_maps_folder}: {data.in_one_group}")
    shares = region_shares(data)
    for name, share in zip(data.region_names, shares, strict=True):
        if share == 0:
            findings.note(f"{data.root}: region {name!r} is in none of the label maps looked at")
        elif share < LEAST_SHARE:
            findings.note(f"{data.root}: region {name!r} covers {100 * share:.2f} % of the area")


def _images(data: OwnDataSet) -> Iterator[Row]:
    folder = data.contents.folder
    kinds = Counter(image.path.suffix.lower()[1:] for image in folder.images)
    sizes: Counter[tuple[int, int]] = Counter()
    for place in np.unique(np.linspace(0, len(folder.images) - 1, FEW).astype(int)):
        try:
            with Image.open(folder.images[place].path) as picture:
                sizes[picture.size] += 1
        except Exception:  # a damaged file makes Pillow raise nearly anything; it is found later
            continue
    size = "; ".join("{}x{}".format(*each) for each, _ in sizes.most_common(3))
    more = " and other sizes" if len(sizes) > 3 else ""
    height, width = data.image_size
    where = folder.images_folder.relative_to(folder.root)
    found = f"{len(folder.images):,} in {where}/: {', '.join(sorted(kinds))}; {size}{more}"
    yield Row("images", found, f"shown at {width}x{height}")


def _labels(data: OwnDataSet) -> Iterator[Row]:
    contents = data.contents
    if contents.table is None:
        by = "one folder a class" if contents.columns else "no table and no folders of classes"
        yield Row("labels", by, "labels" if contents.columns else "none")
        return
    table = contents.table
    of = f"{len(table.rows):,} rows, between {DELIMITERS[table.delimiter]}s"
    yield Row("labels", f"{table.path.name}: {of}", f"{len(contents.rows):,} images have a row")
    yield Row(
        f"  {contents.file_column}", _examples(table.values(contents.file_column)), "the files"
    )


def _columns(data: OwnDataSet) -> Iterator[Row]:
    contents = data.contents
    explained = None if data.column is None else data.column.name
    for name, column in contents.columns.items():
        if column.kind == "other":
            yield Row(f"  {name}", _examples(column.classes), "no label: not used")
            continue
        kind = "binary" if column.kind == "binary" else f"{len(column.classes)} classes"
        taken = kind
        if name == explained:
            assert data.column is not None
            taken = f"{kind}; the decision: {_outputs(data.column)}"
            if data.labels:
                taken = f"{kind}; {shlex.quote(f'decision.label={name}')} explains it"
        elif column.is_constant:
            taken = f"{kind}; but all images that have one have the same"
        elif data.labels:
            taken = f"{kind}; {shlex.quote(f'decision.label={name}')} explains it"
        yield Row(f"  {name}", _shares(column), taken)


def _outputs(column: Column) -> str:
    """The decision's classes by the outputs that they are of, unless decision.class_names says
    otherwise.
    """
    first, *more = column.classes[:MOST_CLASSES_SHOWN]
    if column.kind == "binary":
        return f"{first!r} (output 0, or below 0) or {more[0]!r} (output 1, or above 0)"
    named = [f"{name!r} ({place})" for place, name in enumerate(more, 1)]
    return ", ".join([f"{first!r} (output 0)", *named]) + (
        ", ..." if len(column.classes) > MOST_CLASSES_SHOWN else ""
    )


def _parts(data: OwnDataSet) -> Iterator[Row]:
    contents = data.contents
    if contents.group_column is not None:
        sizes = Counter(contents.groups)
        found = f"{len(sizes):,} groups of up to {max(sizes.values())} images"
        yield Row(f"  {contents.group_column}", found, "groups, which stay in one part")
    else:
        given = f"data.group=COLUMN or {PREFIX}_ gives some"
        yield Row("groups", "none", f"each image is divided by itself; {given}")
    counts = ", ".join(f"{len(data.records(part)):,} {part}" for part in PARTS)
    if contents.parts is not None:
        yield Row("parts", counts, f"by {contents.part_name or 'the folders'}")
    else:
        yield Row("parts", counts, f"drawn (data.split_seed={data.split_seed}): {data.split_file}")


def _regions(data: OwnDataSet) -> Iterator[Row]:
    if data.maps.listed is not None:
        of = len(data.contents.images)
        found = f"{len(data.maps.files):,} for {of:,} images"
        if data.maps.layouts is not None:
            there = sum(
                (data.maps.layouts / f"{i.image_id}.png").is_file() for i in data.contents.images
            )
            found += f"; {there:,} in {data.maps.layouts}"
        yield Row("label maps", found, f"regions by {data.maps.listed.source}")
    else:
        said = data.label_maps if data.label_maps != "auto" else "no folder label_maps"
        yield Row(
            "label maps", said, "one region: the whole image" if data.maps.made is None else "made"
        )
        if data.maps.made is None:
            return  # the one region is all
    swaps = data.mirrored_regions
    for place, (name, share) in enumerate(zip(data.region_names, region_shares(data), strict=True)):
        other = None if swaps is None or swaps[place] == place else data.region_names[swaps[place]]
        value = _value_of(data, place)
        taken = f"region; mirrored it is {other}" if other is not None else "region"
        yield Row(f"  {name}", f"{value}{100 * share:.1f} % of the area", taken)


def _value_of(data: OwnDataSet, place: int) -> str:
    if data.maps.listed is None:
        return ""
    keys = data.maps.listed.colors or data.maps.listed.values
    shown = [
        "#{:02x}{:02x}{:02x}".format(*key) if isinstance(key, tuple) else str(key)
        for key, region in keys.items()
        if region == place
    ]
    return f"{listed(shown, 3)}: "


def _shares(column: Column) -> str:
    counts = column.counts()
    known = max(sum(counts.values()), 1)
    shown = [
        f"{name} {_percent(count / known)}"
        for name, count in list(counts.items())[:MOST_CLASSES_SHOWN]
    ]
    if column.unknown:
        shown.append(f"not known of {column.unknown:,}")
    return ", ".join(shown) + (", ..." if len(counts) > MOST_CLASSES_SHOWN else "")


def _percent(share: float) -> str:
    """In whole numbers, where that does not say that something there is nothing."""
    return "less than 1 %" if 0 < share < 0.005 else f"{100 * share:.0f} %"


def _examples(values: tuple[str, ...] | list[str]) -> str:
    return listed(list(dict.fromkeys(values)), 3)


def _image_alone(reader: OwnImageReader, image: FoundImage, data: OwnDataSet) -> Inspected:
    record = LabelMapRecord(image.image_id, image.path, None, ())
    found = inspect_image(
        str(image.path),
        "data",
        partial(reader.content, record),
        lambda _: reader.image(record),
    )
    return found._replace(turned=False)  # as these are


def _with_label_map(data: OwnDataSet, record: LabelMapRecord, part: str) -> Inspected:
    found = inspect_label_map(record, data.reader, part, len(data.region_names))
    return found._replace(turned=False)


def region_shares(data: OwnDataSet, most: int = FEW) -> NDArray[np.float64]:
    """(R,), the share of each region in the area of the label maps, of `most` images at most."""
    counts = np.zeros(len(data.region_names))
    records = [record for part in PARTS for record in data.records(part)]
    for place in np.unique(np.linspace(0, len(records) - 1, most).astype(int)):
        try:
            label_map = data.reader.label_map(records[place])
        except InputError:  # named where all are opened
            continue
        if label_map is not None:
            counts += np.bincount(np.asarray(label_map).ravel(), minlength=len(counts))
    shares: NDArray[np.float64] = counts / max(counts.sum(), 1)
    return shares
