"""`python -m cfexp.data.convert easy_vqa OUT`: write other data sets in the layouts that cfexp
reads.
"""

import argparse
import json
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from PIL import Image
from rich.progress import track

from cfexp.data.questions.files import ANSWERS_PER_QUESTION, SPLITS, Split, image_path
from cfexp.errors import InputError

# The question types of VQAv1 (QuestionTypes/mscoco_question_types.txt) that begin an easy-VQA
# question.
_QUESTION_TYPES = (
    "does the",
    "is",
    "is there",
    "is there a",
    "what",
    "what color is the",
    "what is the",
    "what is the color of the",
)
# Ids must differ between the splits. easy-VQA counts each from 0 and has up to 21 questions an
# image.
_FIRST_IMAGE_ID: dict[Split, int] = {"train2014": 1, "val2014": 100_001}
_QUESTIONS_PER_IMAGE = 100


def convert_easy_vqa(out: Path, limit: int | None = None) -> None:
    """Write easy-VQA (Zhou 2019; the PyPI package `easy-vqa`) as VQAv1: its train set as train2014,
    test as val2014.

    PNG images become JPEG of quality 95 without chroma subsampling. Each answer is given ten times,
    as by ten people who agree. `limit` keeps the first images of each split only. `out` is complete
    or absent. Raises InputError if it exists with something in it, or if easy-vqa is not installed.
    """
    try:
        import easy_vqa
    except ImportError:
        raise InputError("easy-vqa is not installed; run: pip install 'cfexp[convert]'") from None
    out = out.expanduser().resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"{out}: exists and is not an empty folder; give another one, or remove it"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{out.name}-", suffix=".partial", dir=out.parent))
    try:
        sources = (
            (easy_vqa.get_train_questions(), easy_vqa.get_train_image_paths()),
            (easy_vqa.get_test_questions(), easy_vqa.get_test_image_paths()),
        )
        for split, ((texts, answers, numbers), paths) in zip(SPLITS, sources, strict=True):
            kept = sorted(paths)[:limit]
            rows = [row for row in zip(texts, answers, numbers, strict=True) if row[2] in set(kept)]
            _write_questions(unfinished, split, rows)
            (unfinished / split).mkdir()
            for number in track(kept, description=f"writing {split}"):
                target = image_path(unfinished, split, _FIRST_IMAGE_ID[split] + number)
                with Image.open(paths[number]) as image:
                    image.convert("RGB").save(target, quality=95, subsampling=0)
        unfinished.chmod(0o755)  # mkdtemp's own is for one user only
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


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


def _write_questions(folder: Path, split: Split, rows: Iterable[tuple[str, str, int]]) -> None:
    """The question and annotation files of (question, answer, image number) rows."""
    questions: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    asked: dict[int, int] = {}
    for text, answer, number in rows:
        image_id = _FIRST_IMAGE_ID[split] + number
        question_id = image_id * _QUESTIONS_PER_IMAGE + asked.get(image_id, 0)
        asked[image_id] = asked.get(image_id, 0) + 1
        keys = {"question_id": question_id, "image_id": image_id}
        people = range(1, ANSWERS_PER_QUESTION + 1)
        questions.append({**keys, "question": text})
        annotations.append(
            {
                **keys,
                "question_type": question_type(text),
                "answer_type": answer_type(answer),
                "multiple_choice_answer": answer,
                # The official metric tells the ten apart by their answer_id.
                "answers": [
                    {"answer": answer, "answer_confidence": "yes", "answer_id": person}
                    for person in people
                ],
            }
        )
    header: dict[str, Any] = {
        "info": {
            "description": "easy-VQA as VQA v1.0",
            "url": "https://github.com/vzhou842/easy-VQA",
        },
        "license": {
            "name": "MIT",
            "url": "https://github.com/vzhou842/easy-VQA/blob/master/LICENSE",
        },
        "data_type": "mscoco",
        "data_subtype": split,
    }
    files = {
        f"OpenEnded_mscoco_{split}_questions.json": {
            **header,
            "task_type": "Open-Ended",
            "questions": questions,
        },
        f"mscoco_{split}_annotations.json": {**header, "annotations": annotations},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content), encoding="utf-8")


CONVERTERS: dict[str, Callable[[Path], None]] = {"easy_vqa": convert_easy_vqa}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code: 2 after one line about what was wrong with the
    input.
    """
    parser = argparse.ArgumentParser(prog="python -m cfexp.data.convert", description=__doc__)
    commands = parser.add_subparsers(dest="data_set", required=True, metavar="DATA_SET")
    for name, convert in CONVERTERS.items():
        summary = (convert.__doc__ or "").splitlines()[0]
        commands.add_parser(name, help=summary, description=summary).add_argument(
            "out", type=Path, metavar="OUT", help="the folder to write; must be absent or empty"
        )
    given = parser.parse_args(arguments)
    try:
        CONVERTERS[given.data_set](given.out)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {given.out}; use it with data.root={given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
