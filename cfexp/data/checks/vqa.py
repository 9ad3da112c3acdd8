"""What may be wrong with VQAv1 or VQAv2 as a whole: questions, annotations and images against each
other.
"""

from collections import Counter
from functools import partial

from cfexp.data.checks.findings import Findings
from cfexp.data.checks.inspection import Inspected, Inspection, inspect_image
from cfexp.data.questions.files import (
    SPLITS,
    Split,
    Version,
    VQAQuestion,
    find_version,
    image_name,
    read_split,
)
from cfexp.data.questions.vqa import VQADataModule
from cfexp.data.reading.archives import ImageFiles
from cfexp.data.reading.images import read_rgb

QUESTIONS: dict[Version, dict[Split, int]] = {
    "VQAv1": {"train2014": 248_349, "val2014": 121_512},
    "VQAv2": {"train2014": 443_757, "val2014": 214_354},
}
IMAGES: dict[Split, int] = {"train2014": 82_783, "val2014": 40_504}
# Of VQAv1 the most frequent answer, yes, is to 22 % of the questions; 2,000 answers are those to
# nine in ten.
MOST_OF_ONE, MOST_UNKNOWN = 0.5, 0.25


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
        if asked[split] and (
            more := sorted(name for name in names if name.endswith(".jpg") and name not in wanted)
        ):
            findings.note(f"{files.folder / more[0]}: no question is about it", len(more))
        if data.root is not None and asked[split]:
            version = find_version(data.root)
            known = QUESTIONS[version][split]
            findings.total(
                data.folder, f"questions of {version}'s {split}", len(asked[split]), known
            )
            findings.total(
                data.folder, f"images of {split} with questions", len(wanted), IMAGES[split]
            )
        # Damaged lists must not hide the images.
        shown = wanted or {name for name in names if name.endswith(".jpg")}
        inspections += [partial(_inspect, files, name, split) for name in sorted(shown)]
    train, val = (asked[split] for split in SPLITS)
    for kind, common in (
        ("question_id", train.keys() & val.keys()),
        (
            "image_id",
            {each.image_id for each in train.values()} & {each.image_id for each in val.values()},
        ),
    ):
        if common:
            findings.error(
                f"{data.folder}: {kind} {min(common)} is in both {SPLITS[0]} and {SPLITS[1]}",
                len(common),
            )
    if train:
        findings.attempt(lambda: data.vocabulary)
    if data.root is not None:
        for split in SPLITS:
            _check_answers(data, split, list(asked[split].values()), findings)
    return inspections


def _check_answers(
    data: VQADataModule, split: Split, questions: list[VQAQuestion], findings: Findings
) -> None:
    """Whether the questions tell answers apart, and the vocabulary knows them."""
    counts = Counter(question.multiple_choice_answer for question in questions)
    if not counts:
        return
    (answer, most), share_of = (
        counts.most_common(1)[0],
        f"of the {len(questions):,} questions of {split}",
    )
    if len(counts) == 1:
        add = findings.error if split == "train2014" else findings.note
        add(f"{data.folder}: all {share_of[3:]} have the answer {answer!r}")
    elif most > MOST_OF_ONE * len(questions):
        percent = f"{100 * most / len(questions):.0f} %"
        findings.note(f"{data.folder}: {answer!r} is the answer to {percent} {share_of}")
    of_type: dict[str, set[str]] = {}
    for question in questions:
        of_type.setdefault(question.question_type, set()).add(question.multiple_choice_answer)
    single = sorted(name for name, answers in of_type.items() if len(answers) == 1)
    if single and len(counts) > 1:
        alike = f"questions that begin with {single[0]!r}"
        findings.note(f"{data.folder}: {alike} have one answer only in {split}", len(single))
    vocabulary = Findings().attempt(lambda: data.vocabulary)
    if vocabulary is not None:
        unknown = sum(count for answer, count in counts.items() if vocabulary.answer_id(answer) < 0)
        if unknown > MOST_UNKNOWN * len(questions):
            percent = f"{100 * unknown / len(questions):.0f} %"
            known = f"is not among data.num_answers={len(vocabulary.answers)}"
            findings.note(f"{data.folder}: the answer to {percent} {share_of} {known}")


def _inspect(files: ImageFiles, name: str, split: Split) -> Inspected:
    path = files.folder / name
    return inspect_image(
        str(path), split, lambda: files.content(name), lambda content: read_rgb(path, content)
    )
