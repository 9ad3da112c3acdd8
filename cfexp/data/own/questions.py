"""A user's own questions about the user's own images, in place of a VQA data set."""

import csv
import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import torch
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from cfexp.data.base import QueryDataModule
from cfexp.data.batch import VQABatch
from cfexp.data.own.images import FORMATS, GUIDE, check_size, image_files, upright_rgb
from cfexp.data.questions.dataset import collate, words_of
from cfexp.data.questions.files import fit_square
from cfexp.data.questions.vocabulary import Vocabulary
from cfexp.data.questions.vqa import VQADataModule
from cfexp.data.reading.images import read_picture
from cfexp.data.reading.loaders import ShareOf, make_loader
from cfexp.data.reading.skipping import BadSamples
from cfexp.errors import InputError

_COLUMNS = ("image", "question")


class Asked(NamedTuple):
    """One question about one image."""

    image: Path
    question: str


def fit_own_square(picture: Image.Image, size: int, name: object) -> tuple[NDArray[Any], str]:
    """An image as a VQA model takes it, (size, size, 3) uint8, and in words what was done to it.

    Its centred square, as of the data sets' images; turned as its EXIF data says, what is
    transparent over white. Raises InputError, which begins with `name`, for a mode of another kind
    and for too few pixels.
    """
    rgb, made = upright_rgb(picture, name)
    side = min(rgb.size)
    enlargement = check_size(side, side, (size, size), name)
    square = "" if rgb.width == rgb.height else "its centred square "
    done = f"{square}{'enlarged' if enlargement > 1 else 'reduced'} to {size}x{size}"
    told = [f"{rgb.width}x{rgb.height}", *made, *([] if rgb.size == (size, size) else [done])]
    return fit_square(rgb, size, Image.Resampling.BILINEAR), ", ".join(told)


class OwnQuestions(QueryDataModule):
    """Questions of a user's own, each about an image, to be explained by networks for a VQA data
    set.

    images: files, or folders of them; each of `questions` is asked about each. table: a CSV file
    with the columns image and question in place of both; its images lie beside it, where their
    paths are not absolute. data_set: whose image size and vocabulary; no file of it is read but the
    vocabulary. fingerprint: what the files held when they were first read; None = now. Raises
    InputError for what is not there.
    """

    def __init__(
        self,
        data_set: VQADataModule,
        images: Sequence[str] = (),
        questions: Sequence[str] = (),
        table: str | None = None,
        fingerprint: str | None = None,
    ) -> None:
        super().__init__()
        self.data_set = data_set
        if table is None:
            asked = [" ".join(str(question).split()) for question in questions]
            if not all(asked):
                raise InputError("question= is empty")
            self.asked = [
                Asked(path, question) for path in image_files(images) for question in asked
            ]
        else:
            self.asked = list(_read_table(Path(table).expanduser()))
        stems = Counter(path.stem for path in dict.fromkeys(each.image for each in self.asked))
        # Two of one name are told apart by their whole paths.
        self._image_ids = [
            each.image.stem if stems[each.image.stem] == 1 else str(each.image)
            for each in self.asked
        ]
        self._fingerprint = fingerprint

    def check(self) -> list[str]:
        """Open every image; returns what is done to them, a line for each kind of it.

        Raises InputError for the first that cannot be used, unless such are skipped.
        """
        done: dict[str, list[Path]] = {}
        for path in dict.fromkeys(each.image for each in self.asked):
            try:
                done.setdefault(
                    fit_own_square(_picture(path), self.data_set.image_size, path)[1], []
                ).append(path)
            except InputError:
                if self.data_set.on_bad_sample == "raise":
                    raise
        return [
            f"{first}{f' and {len(more)} more' if more else ''}: {told}"
            for told, (first, *more) in done.items()
        ]

    def check_words(self) -> list[str]:
        """What the vocabulary lacks of the questions, a line for each that has such a word.

        Raises InputError for a question that has no known word.
        """
        lines = []
        for question in dict.fromkeys(each.question for each in self.asked):
            given = f"question={question!r}"
            known, unknown = self.vocabulary.split(question)
            listed = ", ".join(dict.fromkeys(unknown))
            if not known:
                words = listed or "it has none"
                lacks = f"none of its words is in the VQA model's vocabulary ({words})"
                raise InputError(f"{given}: {lacks}; {self._examples}")
            if unknown:
                lacks = "not in the VQA model's vocabulary, and read as unknown"
                lines.append(f"{given}: {lacks}: {listed}")
            if len(known) + len(unknown) > (most := self.data_set.max_question_length):
                read = f"only its first {most} words are read (data.max_question_length)"
                lines.append(f"{given}: {read}")
        return lines

    @property
    def _examples(self) -> str:
        return f"it knows words such as {', '.join(self.vocabulary.words[:12])}"

    def setup(self, stage: str | None = None) -> None:
        """Nothing: the questions are known, and each image is read with its batch."""

    def predict_dataloader(self) -> DataLoader[VQABatch]:
        """Each question once, however many processes there are, and none that is left out."""
        dataset = _Questions(self)
        left = [row for row in range(len(dataset)) if row not in self._left_out]
        share = ShareOf(left, self.trainer)
        return make_loader(
            dataset, collate, 0, batch_size=self.data_set.eval_batch_size, sampler=share
        )

    @property
    def vocabulary(self) -> Vocabulary:
        """The words and answers of the VQA model."""
        return self.data_set.vocabulary

    @property
    def facts(self) -> dict[str, int]:
        """What sizes the networks: num_words (with the padding) and num_answers."""
        return self.data_set.facts

    @cached_property
    def fingerprint(self) -> str:
        """A short hash over the questions and all that the images hold."""
        if self._fingerprint is not None:
            return self._fingerprint
        digest = hashlib.sha256()
        for each in self.asked:
            held = each.image.read_bytes() if each.image.is_file() else b"-"
            digest.update(
                hashlib.sha256(held).digest() + hashlib.sha256(each.question.encode()).digest()
            )
        return digest.hexdigest()[:12]

    @property
    def description(self) -> dict[str, Any]:
        """What is stored once beside the explanations of a run."""
        return {"data": type(self).__name__, "fingerprint": self.fingerprint, "palette": None}

    def describe(self, key: int) -> dict[str, Any]:
        """What is stored beside an explanation: the image's name and the question. Nobody knows the
        right answer.
        """
        return {"image_id": self._image_ids[key], "question": self.asked[key].question}

    @property
    def class_names(self) -> tuple[str, ...]:
        """The answers that the VQA model's outputs stand for."""
        return self.data_set.class_names


class _Questions(Dataset[VQABatch]):
    """The questions as batches of one row, or of none where the image cannot be read and such are
    skipped.
    """

    def __init__(self, own: OwnQuestions) -> None:
        self._own, of = own.asked, own.data_set
        self._size, self._vocabulary, self._longest = (
            of.image_size,
            of.vocabulary,
            of.max_question_length,
        )
        self._image = {
            path: number
            for number, path in enumerate(dict.fromkeys(each.image for each in self._own))
        }
        self._bad = BadSamples(len(self._own), of.on_bad_sample)

    def __len__(self) -> int:
        return len(self._own)

    @property
    def all_bad(self) -> bool:
        """Whether no question has an image that can be read."""
        return self._bad.all

    def __getitem__(self, row: int) -> VQABatch:
        """One question."""
        path, question = self._own[row]
        image = torch.zeros(1, 3, self._size, self._size)
        try:
            pixels = fit_own_square(_picture(path), self._size, path)[0]
            image = (
                torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float().div_(127.5).sub_(1)[None]
            )
        except InputError as error:
            self._bad.meet(row, error)
        kept = self._bad.good([row]).tolist()
        words, length = words_of([question], self._vocabulary, self._longest)
        answer, image_id, key = (
            torch.tensor([number])[kept] for number in (-1, self._image[path], row)
        )
        text = (question,) if kept[0] else ()
        return VQABatch(image[kept], words[kept], length[kept], answer, image_id, key, text)


def _picture(path: Path) -> Image.Image:
    return read_picture(path, FORMATS, remedy=f"is it an image? ({GUIDE})")


def _read_table(path: Path) -> Iterator[Asked]:
    """The rows of a CSV file; raises InputError for one that cannot be read, is empty or lacks a
    column.
    """
    if not path.is_file():
        raise InputError(f"questions={path}: no such file")
    try:
        with path.open(
            encoding="utf-8-sig", newline=""
        ) as file:  # as spreadsheets write it, with a mark in front
            lines = csv.DictReader(file)
            if missing := [name for name in _COLUMNS if name not in (lines.fieldnames or ())]:
                there = ", ".join(lines.fieldnames or ()) or "none"
                lacks = f"there is no column {missing[0]!r} in its first line, but {there}"
                raise InputError(f"questions={path}: {lacks}")
            rows = [(lines.line_num, row) for row in lines]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"questions={path} is no readable CSV file in UTF-8 ({error})") from None
    if not rows:
        raise InputError(f"questions={path} has no row below its first line")
    for line, row in rows:
        image, question = ((row[name] or "").strip() for name in _COLUMNS)
        if not image or not question:
            raise InputError(
                f"questions={path}, line {line}: the {'question' if image else 'image'} is empty"
            )
        place = path.parent / Path(image).expanduser()
        if not place.is_file():
            raise InputError(f"questions={path}, line {line}: no image at {place}")
        yield Asked(place, " ".join(question.split()))
