"""What may be wrong with VQAv1 or VQAv2 as a whole: questions, annotations and images against each other."""

from functools import partial

from cfexp.data.archives import ImageFiles
from cfexp.data.findings import Findings
from cfexp.data.images import read_rgb
from cfexp.data.inspection import Inspected, Inspection, inspect_image
from cfexp.data.vqa import VQADataModule
from cfexp.data.vqa_files import SPLITS, Split, Version, VQAQuestion, find_version, image_name, read_split

QUESTIONS: dict[Version, dict[Split, int]] = {
    "VQAv1": {"train2014": 248_349, "val2014": 121_512},
    "VQAv2": {"train2014": 443_757, "val2014": 214_354},
}
IMAGES: dict[Split, int] = {"train2014": 82_783, "val2014": 40_504}


def check_vqa(data: VQADataModule, findings: Findings) -> list[Inspection]:
    """Check the files; returns what opens the images."""
    inspections: list[Inspection] = []
    asked: dict[Split, dict[int, VQAQuestion]] = {}
    for split in SPLITS:
        read = findings.attempt(partial(read_split, data.folder, split))
        asked[split] = {} if read is None else read[0]
        files = ImageFiles.find(data.folder / split)
        image_ids = sorted({question.image_id for question in asked[split].values()})
        names = findings.attempt(files.names) if files.folder.exists() else None
        wanted = {image_name(split, image_id) for image_id in image_ids}
        if names is None:
            continue
        if asked[split] and (more := sorted(name for name in names if name.endswith(".jpg") and name not in wanted)):
            findings.note(f"{files.folder / more[0]}: no question is about it", len(more))
        if data.root is not None and asked[split]:
            version = find_version(data.root)
            known = QUESTIONS[version][split]
            findings.total(data.folder, f"questions of {version}'s {split}", len(asked[split]), known)
            findings.total(data.folder, f"images of {split} with questions", len(wanted), IMAGES[split])
        # Damaged lists must not hide the images.
        shown = wanted or {name for name in names if name.endswith(".jpg")}
        inspections += [partial(_inspect, files, name, split) for name in sorted(shown)]
    train, val = (asked[split] for split in SPLITS)
    for kind, common in (
        ("question_id", train.keys() & val.keys()),
        ("image_id", {each.image_id for each in train.values()} & {each.image_id for each in val.values()}),
    ):
        if common:
            findings.error(f"{data.folder}: {kind} {min(common)} is in both {SPLITS[0]} and {SPLITS[1]}", len(common))
    if train:
        findings.attempt(lambda: data.vocabulary)
    return inspections


def _inspect(files: ImageFiles, name: str, split: Split) -> Inspected:
    path = files.folder / name
    return inspect_image(str(path), split, lambda: files.content(name), lambda content: read_rgb(path, content))
