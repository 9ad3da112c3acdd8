"""What may be wrong with CelebA or CelebAMask-HQ as a whole: its lists against each other and
against its folders.
"""

import re
from collections.abc import Collection
from functools import partial
from pathlib import Path

from cfexp.data.base import Part
from cfexp.data.checks.findings import Findings
from cfexp.data.checks.inspection import Inspection, inspect_label_map, inspect_records
from cfexp.data.faces.celeba import PARTITION, CelebADataModule
from cfexp.data.faces.celeba_files import (
    read_attributes,
    read_identities,
    read_mapping,
    read_partition,
)
from cfexp.data.faces.celebamask_hq import MAPPING, CelebAMaskHQDataModule
from cfexp.data.faces.module import IDENTITIES, FaceDataModule
from cfexp.data.label_maps.dataset import LabelMapRecord
from cfexp.data.reading.archives import list_files, list_names
from cfexp.data.reading.images import PICTURES
from cfexp.worlds.face_names import CELEBA_IMAGES, PARTS
from cfexp.worlds.faces import IMAGES, MASKS

CELEBAMASK_HQ_IMAGES = 30_000
_PARTS: tuple[Part, ...] = ("train", "val", "test")
_MASK = re.compile(r"(\d{5})_(\w+)\.png")


def check_celeba(data: CelebADataModule, findings: Findings) -> list[Inspection]:
    """Check the lists; returns what opens the images."""
    files = findings.attempt(lambda: data.reader.files)
    images = None if files is None else findings.attempt(lambda: _pictures(files.names()))
    folder = data.folder if files is None else files.folder
    path = findings.attempt(lambda: data.list_file(PARTITION)) or data.place(PARTITION)
    partition = findings.attempt(lambda: read_partition(path)) or {}
    rows = _check_attributes(data, folder, images, findings)
    if partition:
        findings.missing(rows, partition, f"{path}: has no row for {{}}")
        findings.missing(
            partition, rows or None, f"{path}: has a row for {{}}, which has no attributes"
        )
    identities = _identities(data, findings)
    if identities:
        where = data.list_file(IDENTITIES)
        findings.missing(rows, identities, f"{where}: has no row for {{}}")
        parts = {name: _PARTS[value] for name, value in partition.items()}
        other = "the person of {} of the {other_part} part"
        shown = f"{where}: {{}} of the {{part}} part shows {other}: split leakage"
        findings.in_two_parts(parts, identities, shown)
    if data.root is not None and images is not None:
        findings.total(folder, "images", len(images), CELEBA_IMAGES)
    return _inspections(data, folder, images, findings)


def check_celebamask_hq(data: CelebAMaskHQDataModule, findings: Findings) -> list[Inspection]:
    """Check the lists and the names of the masks; returns what opens the images."""
    folder = data.place(IMAGES)
    images = findings.attempt(lambda: _pictures(list_files(folder)))
    rows = _check_attributes(data, folder, images, findings)
    inspections = _inspections(data, folder, images, findings)
    if data.layouts is None and images is not None:
        _check_mask_names(data, images, findings)
    path = data.place(MAPPING)
    mapping = (findings.attempt(lambda: read_mapping(path)) if path.exists() else None) or {}
    identities = _identities(data, findings)
    if mapping:
        orig = {f"{number}.jpg": row.orig_file for number, row in mapping.items()}
        findings.missing(rows, orig, f"{path}: has no row for image {{}}")
        known = findings.attempt(lambda: _parts_of(data)) or {}
        shown = (
            f"{path}: {{}} of the {{part}} part is {{}} of the {{other_part}} part: split leakage"
        )
        findings.in_two_parts(known, orig, shown)
        persons = {name: identities[file] for name, file in orig.items() if file in identities}
        shown = shown.replace(" is {}", " shows the person of {}")
        # The paper's split is by number, and never claimed to keep people apart.
        findings.in_two_parts(known, persons, shown, note=data.split != "celeba")
    elif not path.exists():
        findings.note(f"{path}: no such file; identities and data.split=celeba need it")
    if data.root is not None and images is not None:
        findings.total(folder, "images", len(images), CELEBAMASK_HQ_IMAGES)
    return inspections


def _check_attributes(
    data: FaceDataModule, folder: Path, images: Collection[str] | None, findings: Findings
) -> dict[str, list[str]]:
    """The rows of the attribute file, held against the images."""
    path = findings.attempt(lambda: data.list_file(data.attribute_file))
    attributes = None if path is None else findings.attempt(lambda: read_attributes(path))
    if path is None or attributes is None:
        return {}
    if (
        isinstance(data, CelebADataModule) and images is not None
    ):  # whose files may have another suffix than the names
        file_of = data.files_of(attributes.rows)
        listed = {file: name for name, file in file_of.items()}
        images = {listed.get(name, name) for name in images}
    findings.missing(
        attributes.rows, images, f"{path}: has attributes of {{}}, which is no image of {folder}"
    )
    left_out = f"{folder}/{{}}: has no attributes in {path.name}, and is left out"
    findings.missing(images or (), attributes.rows, left_out, note=True)
    return attributes.rows


def _identities(data: FaceDataModule, findings: Findings) -> dict[str, int]:
    path = findings.attempt(lambda: data.list_file(IDENTITIES))
    if path is None:
        return {}
    if not path.exists():
        findings.note(f"{path}: no such file; without it no identity is known")
        return {}
    return findings.attempt(lambda: read_identities(path)) or {}


def _check_mask_names(
    data: CelebAMaskHQDataModule, images: Collection[str], findings: Findings
) -> None:
    masks = data.place(MASKS)
    numbers = {name.partition(".")[0] for name in images}
    whole = {number for number in numbers if number.isdecimal()}
    expected = {_folder(number) for number in whole}
    present = findings.attempt(partial(list_names, masks)) or {}
    skins = set()
    for folder in sorted({name for name in present if name.isdecimal()} | expected, key=int):
        for name in sorted(findings.attempt(partial(list_files, masks / folder)) or ()):
            match = _MASK.fullmatch(name)
            if match is None or match[2] not in PARTS:
                findings.error(
                    f"{masks / folder / name}: is the mask of no part; those are NUMBER_PART.png"
                )
            elif str(int(match[1])) not in numbers:
                findings.note(f"{masks / folder / name}: is the mask of no image")
            elif folder != _folder(match[1]):
                findings.error(
                    f"{masks / folder / name}: is not read: its folder is {_folder(match[1])}"
                )
            elif match[2] == "skin":
                skins.add(str(int(match[1])))
    if bare := sorted(whole - skins, key=int):
        path = masks / _folder(bare[0]) / f"{int(bare[0]):05d}_skin.png"
        findings.note(f"{path}: no such file: a face without skin", len(bare))


def _folder(number: str) -> str:
    """Of an image's masks."""
    return str(int(number) // 2000)


def _parts_of(data: FaceDataModule) -> dict[str, str]:
    return {record.image.name: part for part in _PARTS for record in data.records(part)}


def _inspections(
    data: FaceDataModule, folder: Path, images: Collection[str] | None, findings: Findings
) -> list[Inspection]:
    """What opens every image of the lists, or where those are damaged every image of the folder."""
    for part in _PARTS:
        records = findings.attempt(partial(data.records, part))
        if records == [] and part != "val":
            findings.error(f"{data.folder}: no image is of the {part} part")
    if isinstance(data, CelebAMaskHQDataModule):
        data.holdout_images = 0  # a setting that leaves nothing to train on must not hide the files
    records_of = {part: Findings().attempt(partial(data.records, part)) or [] for part in _PARTS}
    if images is None and not any(records_of.values()):
        return []
    if any(records_of.values()):
        return inspect_records(data, records_of)
    listed = [
        LabelMapRecord(Path(name).stem, folder / name, _label_map(data, Path(name).stem), ())
        for name in sorted(images or ())
    ]
    return [
        partial(inspect_label_map, record, data.reader, "unknown", len(data.region_names))
        for record in listed
    ]


def _label_map(data: FaceDataModule, stem: str) -> Path | None:
    """Where the label map of an image lies, as far as its name tells."""
    if data.layouts is not None:
        return data.layouts / f"{stem}.png"
    if isinstance(data, CelebAMaskHQDataModule) and stem.isdecimal():
        return data.place(MASKS) / _folder(stem) / f"{int(stem):05d}.png"
    return None


def _pictures(names: Collection[str]) -> Collection[str]:
    # A Mac leaves a `._NAME` beside files that it copies.
    return {name for name in names if name.lower().endswith(PICTURES) and not name.startswith("._")}
