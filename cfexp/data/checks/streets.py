"""What may be wrong with BDD100k and BDD-OIA as a whole: folders, masks and actions against each
other.
"""

from functools import partial

from cfexp.data.base import Part
from cfexp.data.checks.findings import Findings
from cfexp.data.checks.inspection import Inspection, inspect_records
from cfexp.data.label_maps.module import PARTS
from cfexp.data.reading.archives import list_files, list_names
from cfexp.data.streets.bdd100k import SPLITS, BDD100kDataModule
from cfexp.data.streets.bdd_oia import Split, find_actions, read_frames
from cfexp.data.streets.segmentation import find_segmentation

SEGMENTED_IMAGES: dict[Split, int] = {"train": 7_000, "val": 1_000}
FRAMES: dict[Split, int] = {"train": 16_082, "val": 2_270}  # of BDD-OIA, confused ones included


def check_bdd100k(data: BDD100kDataModule, findings: Findings) -> list[Inspection]:
    """Check folders and lists; returns what opens the images."""
    actions = _check_actions(data, findings)
    if findings.attempt(lambda: data.frames) is None:
        data.frames = {split: {} for split in SPLITS}  # damaged lists must not hide the files
    if data.source == "segmentation":
        for split in SPLITS:
            _check_split(data, split, findings)
    for part in PARTS:
        findings.attempt(partial(data.records, part))
    # Settings that leave nothing to train on must not hide the files.
    data.holdout_images = 0
    parts: tuple[Part, ...] = ("train", "test")
    records = {part: Findings().attempt(partial(data.records, part)) or [] for part in parts}
    stems = {(part, record.image_id) for part in records for record in records[part]}
    findings.in_two_parts(
        {f"{part}/{stem}": part for part, stem in sorted(stems)},
        {f"{part}/{stem}": stem for part, stem in stems},
        f"{data.folder}: {{}} is {{}} too: split leakage",
    )
    unknown = [
        record for part in records for record in records[part] if record.image_id not in actions
    ]
    if actions and unknown and data.source == "segmentation":
        findings.note(f"{unknown[0].image}: no actions of it are known", len(unknown))
    return inspect_records(data, records)


def _check_actions(data: BDD100kDataModule, findings: Findings) -> set[str]:
    """The stems of the frames that BDD-OIA knows."""
    root = data.folder if data.oia_root is None else data.oia_root
    stems: dict[str, str] = {}
    for split in SPLITS:
        path = find_actions(root, split)
        if path is None:
            expected = root / f"{split}_25k_images_actions.json"
            findings.note(f"{expected}: no such file; no actions are known without it")
            continue
        frames = findings.attempt(partial(read_frames, path)) or {}
        if twice := sorted(stem for stem in frames if stem in stems):
            findings.error(
                f"{path}: {twice[0]} is of the {stems[twice[0]]} part too: split leakage",
                len(twice),
            )
        stems.update(dict.fromkeys(frames, split))
        # Of the rows, those whose annotators were confused are left out: 0.1 % of them.
        if data.root is not None and frames and not 0.99 <= len(frames) / FRAMES[split] <= 1:
            findings.total(path, "frames", len(frames), FRAMES[split])
    return set(stems)


def _check_split(data: BDD100kDataModule, split: Split, findings: Findings) -> None:
    folders = findings.attempt(partial(find_segmentation, data.folder, split))
    if folders is None:
        return
    images = findings.attempt(partial(list_names, folders.images)) or {}
    stems = {
        name.rpartition(".")[0]
        for name in images
        if name.lower().endswith((".jpg", ".jpeg", ".png"))
    }
    if data.root is not None:
        findings.total(folders.images, "images", len(stems), SEGMENTED_IMAGES[split])
    if data.layouts == "ground_truth":
        masks = findings.attempt(partial(list_files, folders.masks)) or set()
        of_none = [
            name
            for name in sorted(masks)
            if name.endswith(folders.suffix) and name[: -len(folders.suffix)] not in stems
        ]
        if of_none:
            findings.note(f"{folders.masks / of_none[0]}: is the mask of no image", len(of_none))
