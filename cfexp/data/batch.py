from typing import NamedTuple

from torch import Tensor


class VQABatch(NamedTuple):
    """B questions, each about one image; what every VQA dataloader yields and every VQA module takes."""

    image: Tensor  # (B, 3, H, W) float32 in [-1, 1], RGB
    question: Tensor  # (B, T) int64 word ids, 1..num_words - 1, right-padded with 0
    question_length: Tensor  # (B,) int64 in 1..T: how many ids of each row are words
    answer: Tensor  # (B,) int64 in 0..num_answers - 1: the consensus answer; -1 = not in the answer vocabulary
    image_id: Tensor  # (B,) int64, COCO's; rows that share one share the picture
    question_id: Tensor  # (B,) int64, the key into everything else that is known of the question


class ImageBatch(NamedTuple):
    """B images with their layout and labels; what every loader of faces and streets yields."""

    image: Tensor  # (B, 3, H, W) float32 in [-1, 1], RGB
    label_map: Tensor  # (B, H, W) int64 in 0..R - 1: the semantic region of each pixel
    labels: Tensor  # (B, K) float32, 0 or 1: the attributes or actions; NaN = not known
    identity: Tensor  # (B,) int64: the person; -1 = not known, or not a face
    key: Tensor  # (B,) int64: the image's place in its part of the data, which finds all else that is known of it
    image_id: tuple[str, ...]  # B file stems
