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
