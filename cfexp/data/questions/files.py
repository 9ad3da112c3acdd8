"""VQAv1 or VQAv2 as its distributors lay it out, read and checked: nothing behind this module meets
a damaged file.

A root folder holds, for each split (`train2014`, `val2014`),
`OpenEnded_mscoco_SPLIT_questions.json` (or the `MultipleChoice_` file),
`mscoco_SPLIT_annotations.json` and the images `SPLIT/COCO_SPLIT_%012d.jpg`; or, for any of them,
the zip in which it was shipped. Version 2 (Goyal et al., CVPR 2017) has the same content under
names that begin with `v2_`, but for the images, which are the same. The embedded scenes add
`scene_graphs_SPLIT.json`.
"""

import hashlib
import re
import sys
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from cfexp.data.questions.scene_graph import Palette, SceneGraphObject, read_scene_graph
from cfexp.data.reading.archives import Archive, ImageFiles, PackedFile, read_content, read_head
from cfexp.data.reading.images import read_rgb
from cfexp.data.reading.records import (
    OFFICIAL_REMEDY,
    Readable,
    Records,
    read_json,
    records_of,
    shown,
)
from cfexp.errors import InputError

Split = Literal["train2014", "val2014"]
SPLITS: tuple[Split, ...] = ("train2014", "val2014")
_ZIPS: dict[str, str] = {
    "train2014": "Train_mscoco.zip",
    "val2014": "Val_mscoco.zip",
}  # of questions, of annotations
ANSWERS_PER_QUESTION = 10  # VQA asked ten people; its metric is defined for ten
Version = Literal["VQAv1", "VQAv2"]
_PREFIXES: dict[Version, str] = {
    "VQAv1": "",
    "VQAv2": "v2_",
}  # of the names of questions, annotations and their zips
# The authors' files begin with what they are, in some 300 bytes.
_HEAD, _SAYS_2 = 2000, re.compile(rb'"version"\s*:\s*"2')


class VQAQuestion(NamedTuple):
    """One question with all that the files say of it."""

    question_id: int
    image_id: int
    question: str
    question_type: str
    answer_type: str  # yes/no, number or other
    answers: tuple[str, ...]  # what ten people said
    multiple_choice_answer: str  # the consensus
    asked: (
        tuple[SceneGraphObject, ...] | None
    )  # the objects that the question is about; None = the files do not say


def read_split(root: Path, split: Split) -> tuple[dict[int, VQAQuestion], Palette | None]:
    """The questions of a split by question_id, in the order of (image_id, question_id), and its
    palette if it has one.

    Raises InputError, in one line that names the file and the record, for whatever is missing or
    wrong.
    """
    question_path, annotation_path, graph_path = locate_split(root, split)
    questions = _split_records(question_path, "questions", split)
    texts = _read_questions(questions)
    image_ids = {question_id: image_id for question_id, (image_id, _) in texts.items()}
    asked, palette = (
        read_scene_graph(graph_path, image_ids) if graph_path is not None else ({}, None)
    )
    annotations = _split_records(annotation_path, "annotations", split)
    joined: dict[int, VQAQuestion] = {}
    for index in range(len(annotations)):
        question_id, image_id = (
            annotations.identity(index, "question_id"),
            annotations.identity(index, "image_id"),
        )
        if question_id in joined:
            raise annotations.error(index, "question_id", f"{question_id} is there twice")
        if question_id not in texts:
            raise annotations.error(
                index, "question_id", f"{question_id} is not in {question_path.name}"
            )
        expected_image, text = texts[question_id]
        if image_id != expected_image:
            raise annotations.error(
                index, "image_id", f"{image_id} is {expected_image} in {question_path.name}"
            )
        joined[question_id] = VQAQuestion(
            question_id,
            image_id,
            text,
            annotations.get(index, "question_type", str),
            annotations.get(index, "answer_type", str),
            _answers(annotations, index),
            annotations.get(index, "multiple_choice_answer", str),
            asked.get(question_id),
        )
    for index, question_id in enumerate(texts):
        if question_id not in joined:
            raise questions.error(
                index, "question_id", f"{question_id} has no annotation in {annotation_path.name}"
            )
    ordered = sorted(
        joined.values(), key=lambda question: (question.image_id, question.question_id)
    )
    return {question.question_id: question for question in ordered}, palette


def locate_split(root: Path, split: Split) -> tuple[Readable, Readable, Path | None]:
    """The question, annotation and scene graph files of a split; the last is None where there is
    none.

    Raises InputError that lists what is missing.
    """
    version, (questions, annotations, graph) = find_version(root), _split_files(root, split)
    missing = [
        str(path)
        for path in (questions, annotations, ImageFiles.find(root / split).folder)
        if not path.exists()
    ]
    if missing:
        others = f" (and {', '.join(missing[1:])})" if missing[1:] else ""
        nothing = not questions.exists() and not annotations.exists() and version == "VQAv1"
        other_names = " VQAv2's names, v2_..., are read, too." if nothing else ""
        raise InputError(
            f"{version} not found in data.root={root}: expected {missing[0]}{others}.{other_names} "
            "See docs/data_sets.md; or leave data.root unset for the embedded scenes."
        )
    return questions, annotations, graph if graph.exists() else None


def find_version(root: Path) -> Version:
    """Which version lies there, by the files' names and by what they say of themselves; VQAv1 where
    there is none.

    Raises InputError where files of both do: a question of one has no annotation in the other, or
    another.
    """
    found = {version: _files_there(root, prefix) for version, prefix in _PREFIXES.items()}
    if all(found.values()):
        first, second = (files[0].name for files in found.values())
        problem = f"holds VQAv1's {first} and VQAv2's {second}"
        raise InputError(f"{root}: {problem}; keep the files of one version there")
    if found["VQAv2"]:
        return "VQAv2"
    renamed = {_says_2(file): file for file in found["VQAv1"]}
    if len(renamed) == 2:
        problem = (
            f"{renamed[True].name} says that it is of version 2, {renamed[False].name} does not"
        )
        raise InputError(f"{root}: {problem}; keep the files of one version there")
    return "VQAv2" if True in renamed else "VQAv1"


def fingerprint_files(root: Path) -> str:
    """12 hexadecimal digits over names, sizes and content of both splits' JSON files; no image is
    read.

    Raises InputError if there is none, or one cannot be read.
    """
    find_version(root)
    files = [path for split in SPLITS for path in _split_files(root, split) if path.exists()]
    if not files:
        locate_split(root, "train2014")  # says what is missing
    total = hashlib.sha256()
    for path in files:
        content = read_content(path) if isinstance(path, Path) else path.read_bytes()
        total.update(f"{path.name} {len(content)} {hashlib.sha256(content).hexdigest()}\n".encode())
    return total.hexdigest()[:12]


def image_name(split: Split, image_id: int) -> str:
    """The name of COCO's image of this id."""
    return f"COCO_{split}_{image_id:012d}.jpg"


def image_path(root: Path, split: Split, image_id: int) -> Path:
    """Where COCO's image of this id lies."""
    return root / split / image_name(split, image_id)


def read_image(path: Path, size: int, content: bytes | None = None) -> Tensor:
    """The image as (3, size, size) uint8 RGB: its centred square, resized; untouched where it has
    that size.

    content: its bytes, where they are known already. Raises InputError if it is not a complete JPEG
    or PNG image.
    """
    pixels = fit_square(read_rgb(path, content), size, Image.Resampling.BILINEAR)
    return torch.from_numpy(pixels.transpose(2, 0, 1).copy())


def fit_square(image: Image.Image, size: int, resample: Image.Resampling) -> NDArray[Any]:
    """The centred square at size x size: short side resized and long side cropped, in one
    resampling.
    """
    return np.asarray(ImageOps.fit(image, (size, size), method=resample))


def _split_files(root: Path, split: Split) -> tuple[Readable, Readable, Path]:
    """The files of a split under the names of the version that is there."""
    prefix = _PREFIXES["VQAv2" if _files_there(root, _PREFIXES["VQAv2"]) else "VQAv1"]
    return *_named(root, split, prefix), root / f"scene_graphs_{split}.json"


def _files_there(root: Path, prefix: str) -> list[Path | PackedFile]:
    """The questions and annotations of both splits whose names begin so, if there are any."""
    return [file for split in SPLITS for file in _named(root, split, prefix) if file.exists()]


def _named(root: Path, split: Split, prefix: str) -> tuple[Path | PackedFile, Path | PackedFile]:
    """Questions and annotations of a split."""
    kinds = ("OpenEnded", "MultipleChoice")
    questions = (f"{prefix}{kind}_mscoco_{split}_questions.json" for kind in kinds)
    return (
        _first_there(root, f"{prefix}Questions_{_ZIPS[split]}", *questions),
        _first_there(
            root, f"{prefix}Annotations_{_ZIPS[split]}", f"{prefix}mscoco_{split}_annotations.json"
        ),
    )


def _first_there(root: Path, packed: str, *names: str) -> Path | PackedFile:
    """The first of the files that is there, unpacked or in the zip; the first name if none is."""
    archive = Archive(root / packed)
    choices: list[Path | PackedFile] = [
        *(root / name for name in names),
        *(PackedFile(archive, name) for name in names),
    ]
    return next((choice for choice in choices if choice.exists()), choices[0])


def _says_2(file: Path | PackedFile) -> bool:
    """Whether a file begins by saying that it is of version 2; raises InputError where it cannot be
    read.
    """
    return (
        _SAYS_2.search(read_head(file, _HEAD) if isinstance(file, Path) else file.head(_HEAD))
        is not None
    )


def _split_records(path: Readable, name: str, split: Split) -> Records:
    """The records under `name` of a file that is of `split`, if it says of which it is; raises
    InputError.
    """
    document = read_json(path)
    subset = document.get("data_subtype", split)
    if subset != split:
        raise InputError(
            f"{path}: data_subtype must be {split!r}, got {shown(subset)}; {OFFICIAL_REMEDY}"
        )
    return records_of(document, path, name)


def _read_questions(records: Records) -> dict[int, tuple[int, str]]:
    """{question_id: (image_id, question)} in the order of the file."""
    texts: dict[int, tuple[int, str]] = {}
    for index in range(len(records)):
        question_id, image_id = (
            records.identity(index, "question_id"),
            records.identity(index, "image_id"),
        )
        if question_id in texts:
            raise records.error(index, "question_id", f"{question_id} is there twice")
        text = records.get(index, "question", str)
        if not text.strip():
            raise records.error(index, "question", "is empty")
        texts[question_id] = (image_id, text)
    return texts


def _answers(annotations: Records, index: int) -> tuple[str, ...]:
    rows = annotations.get(index, "answers", list)
    if len(rows) != ANSWERS_PER_QUESTION:
        raise annotations.error(
            index, "answers", f"must be {ANSWERS_PER_QUESTION} answers, got {len(rows)}"
        )
    try:
        # The 2.5 million answers of train2014 are few different strings. Only a string can be
        # interned.
        return tuple([sys.intern(row["answer"]) for row in rows])
    except (KeyError, TypeError):
        people = annotations.nested(index, "answers")
        return tuple([people.get(person, "answer", str) for person in range(len(people))])
