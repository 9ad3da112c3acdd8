"""Questions and answers of any source as the files of VQAv1: what converters to it share."""

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cfexp.data.questions.files import ANSWERS_PER_QUESTION, Split
from cfexp.errors import InputError
from cfexp.worlds.scenes import encode_mask

# The question types of VQAv1 (QuestionTypes/mscoco_question_types.txt) that begin the questions
# of the sources that are converted here.
_QUESTION_TYPES = (
    "are",
    "are the",
    "are there",
    "are there any",
    "are these",
    "can you",
    "do",
    "do you",
    "does the",
    "does this",
    "has",
    "how",
    "how many",
    "how many people are in",
    "is",
    "is he",
    "is it",
    "is that a",
    "is the",
    "is there",
    "is there a",
    "is this",
    "is this a",
    "what",
    "what are the",
    "what color",
    "what color are the",
    "what color is",
    "what color is the",
    "what is",
    "what is in the",
    "what is on the",
    "what is the",
    "what is the color of the",
    "what is this",
    "what kind of",
    "what time",
    "what type of",
    "where are the",
    "where is the",
    "which",
    "who is",
    "why",
)
# Ids differ between the splits, and so does every question of an image.
_FIRST_IMAGE_ID: dict[Split, int] = {"train2014": 1, "val2014": 1_000_001}
_QUESTIONS_PER_IMAGE = 1000


class Origin(NamedTuple):
    """Where questions come from, and what may be done with them."""

    description: str
    url: str = ""
    license_name: str = "the source's own"
    license_url: str = ""


class AskedObject(NamedTuple):
    """What a question asks about, where the source knows it."""

    name: str
    color: str
    mask: NDArray[np.bool_]  # (H, W) of the stored image


class Row(NamedTuple):
    """One question about the image of this number (from 0, of its split)."""

    image: int
    question: str
    answers: Sequence[str]  # one to ten
    asked: AskedObject | None = None


def question_type(question: str) -> str:
    """VQAv1's rule: the longest of its question types that begins the question, else `none of the
    above`.
    """
    text = question.lower() + " "
    fitting = [prefix for prefix in _QUESTION_TYPES if text.startswith(prefix + " ")]
    return max(fitting, key=len, default="none of the above")


def answer_type(answer: str) -> str:
    """VQAv1's three: yes/no, number, other."""
    if answer in ("yes", "no"):
        return "yes/no"
    return "number" if answer.isdecimal() else "other"


def ten_answers(answers: Sequence[str]) -> list[str]:
    """The answers in turn until there are ten, as VQA's metric is defined for ten people.

    Raises InputError for none, and for more than ten.
    """
    if not 1 <= len(answers) <= ANSWERS_PER_QUESTION:
        raise InputError(
            f"a question needs 1 to {ANSWERS_PER_QUESTION} answers, got {len(answers)}"
        )
    return [answers[i % len(answers)] for i in range(ANSWERS_PER_QUESTION)]


def stored_image(folder: Path, split: Split, image: int) -> Path:
    """Where the image of this number (from 0, of its split) lies in the folder."""
    image_id = _FIRST_IMAGE_ID[split] + image
    return folder / split / f"COCO_{split}_{image_id:012d}.jpg"


def save_image(folder: Path, split: Split, image: int, picture: Image.Image) -> None:
    """Write an image as RGB JPEG."""
    path = stored_image(folder, split, image)
    path.parent.mkdir(exist_ok=True)
    picture.convert("RGB").save(path, quality=95, subsampling=0)


def write_split(
    folder: Path,
    split: Split,
    rows: Iterable[Row],
    origin: Origin,
    palette: Mapping[str, Sequence[int]] | None = None,
) -> None:
    """The question and annotation files of a split; and, where a palette is given, the scene graphs
    with what each question asks about.

    Raises InputError for a question with no answer or too many.
    """
    questions: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    scenes: dict[int, list[dict[str, Any]]] = {}
    asked_about: dict[str, list[int]] = {}
    asked: dict[int, int] = {}
    for row in rows:
        image_id = _FIRST_IMAGE_ID[split] + row.image
        question_id = image_id * _QUESTIONS_PER_IMAGE + asked.get(image_id, 0)
        asked[image_id] = asked.get(image_id, 0) + 1
        keys = {"question_id": question_id, "image_id": image_id}
        questions.append({**keys, "question": row.question})
        annotations.append({**keys, **_annotated(row)})
        if row.asked is not None:
            things = scenes.setdefault(image_id, [])
            asked_about[str(question_id)] = [len(things)]
            things.append(_described(row.asked))
    header: dict[str, Any] = {
        "info": {"description": origin.description, "url": origin.url},
        "license": {"name": origin.license_name, "url": origin.license_url},
        "data_type": "mscoco",
        "data_subtype": split,
    }
    files: dict[str, dict[str, Any]] = {
        f"OpenEnded_mscoco_{split}_questions.json": {
            **header,
            "task_type": "Open-Ended",
            "questions": questions,
        },
        f"mscoco_{split}_annotations.json": {**header, "annotations": annotations},
    }
    if palette is not None:
        files[f"scene_graphs_{split}.json"] = {
            "info": {"palette": {name: list(rgb) for name, rgb in palette.items()}},
            "scenes": [{"image_id": i, "objects": things} for i, things in scenes.items()],
            "questions": asked_about,
        }
    (folder / split).mkdir(exist_ok=True)
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


def _annotated(row: Row) -> dict[str, Any]:
    """What the annotations say of a question, beside its ids."""
    answers = ten_answers(row.answers)
    consensus = max(dict.fromkeys(answers), key=answers.count)
    return {
        "question_type": question_type(row.question),
        "answer_type": answer_type(consensus),
        "multiple_choice_answer": consensus,
        # The official metric tells the ten apart by their answer_id.
        "answers": [
            {"answer": answer, "answer_confidence": "yes", "answer_id": person}
            for person, answer in enumerate(answers, start=1)
        ],
    }


def _described(thing: AskedObject) -> dict[str, Any]:
    """A thing as a scene graph has it."""
    rows, columns = np.nonzero(thing.mask)
    left, top = int(columns.min()), int(rows.min())
    box = [left, top, int(columns.max()) - left + 1, int(rows.max()) - top + 1]
    return {
        "shape": thing.name,
        "color": thing.color,
        "size": "any",
        "box": box,
        "mask": encode_mask(thing.mask),
    }
