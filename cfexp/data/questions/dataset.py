"""Questions about images as a torch Dataset."""

import contextlib
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from cfexp.data.batch import VQABatch
from cfexp.data.questions.files import Split, VQAQuestion, image_name, read_image
from cfexp.data.questions.vocabulary import Vocabulary
from cfexp.data.reading.archives import ImageFiles
from cfexp.data.reading.skipping import BadSamples, OnBadSample
from cfexp.errors import InputError


class VQADataset(Dataset[VQABatch]):
    """Questions, or with `group_by_image` images with all their questions, as items to be joined by
    `collate`.

    `questions` must be ordered by image_id, as `read_split` gives them. cache_images: read every
    picture now and keep it as uint8. on_bad_sample: what becomes of a picture that is missing or
    cannot be read: `raise` InputError, now or when it is read, or `skip` its questions, so that
    their batch is smaller or empty; `bad_samples` counts such pictures.
    """

    def __init__(
        self,
        root: Path,
        split: Split,
        questions: Sequence[VQAQuestion],
        vocabulary: Vocabulary,
        image_size: int,
        max_question_length: int = 26,
        group_by_image: bool = False,
        cache_images: bool = False,
        on_bad_sample: OnBadSample = "raise",
    ) -> None:
        self.files, self.split, self.image_size = ImageFiles.find(root / split), split, image_size
        self.text = [question.question for question in questions]
        self.question, self.question_length = words_of(self.text, vocabulary, max_question_length)
        self.answer = torch.tensor(
            [vocabulary.answer_id(question.multiple_choice_answer) for question in questions]
        )
        self.question_id = torch.tensor([question.question_id for question in questions])
        image_ids = np.array([question.image_id for question in questions], dtype=np.int64)
        self.image_id = torch.from_numpy(image_ids)
        self._pictures, self._picture_of_row, rows_of_picture = np.unique(
            image_ids, return_inverse=True, return_counts=True
        )
        # The rows of a picture are consecutive, as `questions` is ordered.
        rows_of_item = rows_of_picture if group_by_image else np.ones_like(image_ids)
        self._first_row = [0, *rows_of_item.cumsum().tolist()]
        self._bad = BadSamples(len(self._pictures), on_bad_sample)
        if on_bad_sample == "raise":
            names = [image_name(split, image_id) for image_id in self._pictures.tolist()]
            self.files.check(names, "the image of a question")
        self._cache: Tensor | None = None
        if cache_images:
            self._cache = self._read(np.arange(len(self._pictures)))

    def __len__(self) -> int:
        return len(self._first_row) - 1

    @property
    def bad_samples(self) -> int:
        """How many images were skipped, with their questions, because they cannot be read."""
        return len(self._bad)

    @property
    def all_bad(self) -> bool:
        """Whether every image was met and none can be read."""
        return self._bad.all

    def first_files(self, count: int) -> Iterator[tuple[str, bytes]]:
        """Path and content of the first so many pictures, as far as they can be read."""
        for image_id in self._pictures[:count].tolist():
            name = image_name(self.split, image_id)
            with contextlib.suppress(InputError):
                yield str(self.files.folder / name), self.files.content(name)

    def good(self, items: Sequence[int]) -> Tensor:
        """(N,) bool, the pictures of which of N items could be read so far."""
        rows = [self._first_row[item] for item in items]
        return self._bad.good(torch.from_numpy(self._picture_of_row[rows]))

    def __getitem__(self, item: int) -> VQABatch:
        """The B rows of one item."""
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[int]) -> list[VQABatch]:
        """The rows of several items as one batch, each picture read once; DataLoader prefers this
        to __getitem__.
        """
        rows = np.concatenate(
            [np.arange(self._first_row[item], self._first_row[item + 1]) for item in items]
        )
        needed, picture_of_row = np.unique(self._picture_of_row[rows], return_inverse=True)
        pixels = self._read(needed) if self._cache is None else self._cache[needed]
        kept = self._bad.good(torch.from_numpy(needed)).numpy()[picture_of_row]
        rows, picture_of_row = rows[kept], picture_of_row[kept]
        image = pixels.float().div_(127.5).sub_(1)[picture_of_row]
        columns = (
            self.question,
            self.question_length,
            self.answer,
            self.image_id,
            self.question_id,
        )
        question, length, answer, image_id, question_id = (column[rows] for column in columns)
        text = tuple(self.text[row] for row in rows)
        return [VQABatch(image, question, length, answer, image_id, question_id, text)]

    def _read(self, pictures: NDArray[np.int64]) -> Tensor:
        """(P, 3, S, S) uint8, the (P,) pictures; bad ones, if they are to be skipped, are marked
        and left at 0.
        """
        pixels = torch.zeros(len(pictures), 3, self.image_size, self.image_size, dtype=torch.uint8)
        for position, picture in enumerate(pictures.tolist()):
            name = image_name(self.split, int(self._pictures[picture]))
            try:
                pixels[position] = read_image(
                    self.files.folder / name, self.image_size, self.files.content(name)
                )
            except InputError as error:
                self._bad.meet(picture, error)
        return pixels


def collate(items: list[VQABatch]) -> VQABatch:
    """Join items of any number of rows, less the padding that no row needs: the question encoder
    steps over it.
    """
    batch = items[0] if len(items) == 1 else _joined(items)
    if len(batch.question_length) == 0:
        return batch
    return batch._replace(question=batch.question[:, : int(batch.question_length.max())])


def words_of(
    questions: Sequence[str], vocabulary: Vocabulary, longest: int
) -> tuple[Tensor, Tensor]:
    """The ids of N questions' words, padded to (N, longest), and (N,) how many words each has."""
    words, lengths = vocabulary.encode_all(questions, longest)
    return torch.from_numpy(words), torch.from_numpy(lengths)


def _joined(items: list[VQABatch]) -> VQABatch:
    columns: dict[str, Any] = {
        name: torch.cat([getattr(item, name) for item in items])
        for name in VQABatch._fields
        if name != "text"
    }
    return VQABatch(**columns, text=tuple(chain.from_iterable(item.text for item in items)))
