from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


class VQABatch(NamedTuple):
    """B questions, each about one image; what every VQA dataloader yields and every VQA module
    takes.
    """

    image: Tensor  # (B, 3, H, W) float32 in [-1, 1], RGB
    question: Tensor  # (B, T) int64 word ids, 1..num_words - 1, right-padded with 0
    question_length: Tensor  # (B,) int64 in 1..T: how many ids of each row are words
    # (B,) int64 in 0..num_answers - 1: the consensus answer; -1 = not in the answer vocabulary
    answer: Tensor
    image_id: Tensor  # (B,) int64, COCO's; rows that share one share the picture
    question_id: Tensor  # (B,) int64, the key into everything else that is known of the question
    # B questions as they were asked, for models that read them themselves
    text: tuple[str, ...] = ()


class ImageBatch(NamedTuple):
    """B images with their label map and labels; what every loader of faces and streets yields."""

    image: Tensor  # (B, 3, H, W) float32 in [-1, 1], RGB
    label_map: Tensor  # (B, H, W) int64 in 0..R - 1: the semantic region of each pixel
    labels: Tensor  # (B, K) float32, 0 or 1: the attributes or actions; NaN = not known
    identity: Tensor  # (B,) int64: the person; -1 = not known, or not a face
    # (B,) int64: the image's place in its part of the data, which finds all else known of it
    key: Tensor
    image_id: tuple[str, ...]  # B file stems


class ImportedBatch(NamedTuple):
    """B queries with the counterfactuals that somebody else made of them."""

    image: Tensor  # (B, 3, H, W) float32 in [-1, 1], RGB: the queries
    reconstruction: Tensor  # (B, 3, H, W); the queries where there is none
    counterfactual: Tensor  # (B, 3, H, W)
    counter_class: Tensor  # (B,) int64, the class that was asked for; -1 = nobody says
    # (B,) int64, 1 or 0: whether who made it counts it as a success; -1 = not known
    reported_success: Tensor
    # (B,) int64, what their model decides about the query; -1 = not known
    reported_query_class: Tensor
    key: Tensor  # (B,) int64
    candidates: Tensor  # (B, N, 3, H, W): further counterfactuals of each query


class ImageParcel(NamedTuple):
    """An `ImageBatch` on its way from a worker process: a tensor costs a file and a connection, an
    array neither.
    """

    image: Tensor  # the one part that is large enough
    label_map: NDArray[np.uint8]  # (B, H, W)
    labels: NDArray[np.float32]
    identity: NDArray[np.int64]
    key: NDArray[np.int64]
    image_id: tuple[str, ...]

    @classmethod
    def pack(cls, batch: ImageBatch) -> "ImageParcel":
        """In the worker."""
        label_map = batch.label_map.byte().numpy()
        labels, identity, key = (part.numpy() for part in (batch.labels, batch.identity, batch.key))
        return cls(batch.image, label_map, labels, identity, key, batch.image_id)

    def unpack(self) -> ImageBatch:
        """Where it arrives; the label map is pinned where the image is."""
        label_map = torch.empty(
            self.label_map.shape, dtype=torch.int64, pin_memory=self.image.is_pinned()
        )
        np.copyto(
            label_map.numpy(), self.label_map
        )  # by one thread: several would take the workers' time
        labels, identity, key = (
            torch.from_numpy(part) for part in (self.labels, self.identity, self.key)
        )
        return ImageBatch(self.image, label_map, labels, identity, key, self.image_id)
