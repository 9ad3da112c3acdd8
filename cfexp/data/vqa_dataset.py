"""Questions about images as a torch Dataset."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from cfexp.data.batch import VQABatch
from cfexp.data.vqa_files import Split, VQAQuestion, check_images, image_path, read_image
from cfexp.data.vqa_vocabulary import Vocabulary


class VQADataset(Dataset[VQABatch]):
    """Questions, or with `group_by_image` images with all their questions, as items to be joined by `collate`.

    `questions` must be ordered by image_id, as `read_split` gives them. Raises InputError if an image is missing; a
    damaged one raises InputError when it is read: now with `cache_images`, which keeps every picture as uint8.
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
    ) -> None:
        self.root, self.split, self.image_size = root, split, image_size
        words = np.zeros((len(questions), max_question_length), dtype=np.int64)
        lengths = np.zeros(len(questions), dtype=np.int64)
        for row, question in enumerate(questions):
            ids = vocabulary.encode(question.question, max_question_length)
            words[row, : len(ids)], lengths[row] = ids, len(ids)
        self.question, self.question_length = torch.from_numpy(words), torch.from_numpy(lengths)
        self.answer = torch.tensor([vocabulary.answer_id(question.multiple_choice_answer) for question in questions])
        self.question_id = torch.tensor([question.question_id for question in questions])
        image_ids = np.array([question.image_id for question in questions], dtype=np.int64)
        self.image_id = torch.from_numpy(image_ids)
        self._pictures, self._picture_of_row, rows_of_picture = np.unique(
            image_ids, return_inverse=True, return_counts=True
        )
        # The rows of a picture are consecutive, as `questions` is ordered.
        rows_of_item = rows_of_picture if group_by_image else np.ones_like(image_ids)
        self._first_row = [0, *rows_of_item.cumsum().tolist()]
        check_images(root, split, self._pictures.tolist())
        self._cache: Tensor | None = None
        if cache_images:
            self._cache = self._read(self._pictures)

    def __len__(self) -> int:
        return len(self._first_row) - 1

    def __getitem__(self, item: int) -> VQABatch:
        """The B rows of one item."""
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[int]) -> list[VQABatch]:
        """The rows of several items as one batch, each picture read once; DataLoader prefers this to __getitem__."""
        rows = np.concatenate([np.arange(self._first_row[item], self._first_row[item + 1]) for item in items])
        needed, picture_of_row = np.unique(self._picture_of_row[rows], return_inverse=True)
        pixels = self._read(self._pictures[needed]) if self._cache is None else self._cache[needed]
        image = pixels.float().div_(127.5).sub_(1)[picture_of_row]
        known = (self.question, self.question_length, self.answer, self.image_id, self.question_id)
        return [VQABatch(image, *(column[rows] for column in known))]

    def _read(self, image_ids: NDArray[np.int64]) -> Tensor:
        """(P, 3, S, S) uint8, the pictures of (P,) ids."""
        pixels = torch.empty(len(image_ids), 3, self.image_size, self.image_size, dtype=torch.uint8)
        for position, image_id in enumerate(image_ids.tolist()):
            pixels[position] = read_image(image_path(self.root, self.split, image_id), self.image_size)
        return pixels


def collate(items: list[VQABatch]) -> VQABatch:
    """Join items of any number of rows, less the padding that no row needs: the question encoder steps over it."""
    batch = items[0] if len(items) == 1 else VQABatch(*(torch.cat(column) for column in zip(*items, strict=True)))
    return batch._replace(question=batch.question[:, : int(batch.question_length.max())])
