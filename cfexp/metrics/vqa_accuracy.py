from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from cfexp.errors import InputError
from cfexp.metrics.vqa_text import Era, vqa_accuracy


class Score(NamedTuple):
    """A mean over n questions."""

    accuracy: float  # percent, not rounded; NaN for n = 0
    n: int  # different questions


class VQAScores(NamedTuple):
    """What `VQAAccuracy.compute` returns: only types that occurred, in the order the constructor
    was given.
    """

    overall: Score
    per_question_type: dict[str, Score]
    per_answer_type: dict[str, Score]


class VQAAccuracy(Metric):
    """VQA accuracy over a data set (Antol et al. 2015): overall, per question type and per answer
    type.

    A micro-average over questions, each scored by `vqa_accuracy`; to join types, weight them by
    their n. The official evaluator's tables are these numbers rounded to two decimals. Every
    question counts once, also where a distributed sampler repeats samples to even the shards: of
    several predictions for a question_id the last counts.

    question_types, answer_types: the names that may occur. era: see `vqa_accuracy`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    accuracy: list[Tensor]  # (N,) float32 in 0..100
    question_type: list[Tensor]  # (N,) int64 index into question_types
    answer_type: list[Tensor]  # (N,) int64 index into answer_types
    question_id: list[Tensor]  # (N,) int64

    def __init__(
        self,
        question_types: Sequence[str],
        answer_types: Sequence[str] = ("yes/no", "number", "other"),
        era: Era = "2021",
    ) -> None:
        super().__init__()
        self.question_types = tuple(question_types)
        self.answer_types = tuple(answer_types)
        self.era: Era = era
        for name in ("accuracy", "question_type", "answer_type", "question_id"):
            self.add_state(name, default=[], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forget every question.

        The states start with no rows rather than as empty lists: where torchmetrics gathers from a
        process that saw no question, it takes an empty list for float32, and the others' ids and
        types come out wrong.
        """
        super().reset()
        self._append([], [], [], [])

    def update(
        self,
        predictions: Sequence[str],
        answers: Sequence[Sequence[str]],
        question_types: Sequence[str],
        answer_types: Sequence[str],
        question_ids: Tensor | Sequence[int],
    ) -> None:
        """Score B questions: the predicted answer, the ten human answers, the two types and the id
        of each.

        Raises InputError for a type that the constructor did not name, ValueError where the lengths
        differ.
        """
        columns = (predictions, answers, question_types, answer_types, question_ids)
        if len({len(column) for column in columns}) > 1:
            raise ValueError(
                f"update needs as many of each argument, got {[len(column) for column in columns]}"
            )
        self._append(
            [
                vqa_accuracy(prediction, human, era=self.era)
                for prediction, human in zip(predictions, answers, strict=True)
            ],
            [_index(self.question_types, name, "question type") for name in question_types],
            [_index(self.answer_types, name, "answer type") for name in answer_types],
            question_ids,
        )

    def _append(
        self,
        accuracy: list[float],
        question_type: list[int],
        answer_type: list[int],
        question_id: Tensor | Sequence[int],
    ) -> None:
        self.accuracy.append(torch.tensor(accuracy, dtype=torch.float32, device=self.device))
        self.question_type.append(
            torch.tensor(question_type, dtype=torch.int64, device=self.device)
        )
        self.answer_type.append(torch.tensor(answer_type, dtype=torch.int64, device=self.device))
        self.question_id.append(
            torch.as_tensor(question_id, dtype=torch.int64, device=self.device).clone()
        )

    def compute(self) -> VQAScores:
        """The scores of all questions so far, of all processes."""
        ids = dim_zero_cat(self.question_id).cpu()
        ids, order = ids.sort(stable=True)
        is_last = torch.cat([ids[1:] != ids[:-1], ids.new_ones(min(len(ids), 1), dtype=torch.bool)])
        kept = order[is_last]
        accuracy = dim_zero_cat(self.accuracy).cpu().double()[kept]
        return VQAScores(
            _score(accuracy),
            _score_by(self.question_types, dim_zero_cat(self.question_type).cpu()[kept], accuracy),
            _score_by(self.answer_types, dim_zero_cat(self.answer_type).cpu()[kept], accuracy),
        )


def _index(names: tuple[str, ...], name: str, kind: str) -> int:
    if name not in names:
        raise InputError(f"unknown {kind} {name!r}: expected one of {', '.join(map(repr, names))}")
    return names.index(name)


def _score(accuracy: Tensor) -> Score:
    return Score(accuracy.mean().item(), len(accuracy))


def _score_by(names: tuple[str, ...], index: Tensor, accuracy: Tensor) -> dict[str, Score]:
    return {
        name: _score(accuracy[index == i]) for i, name in enumerate(names) if (index == i).any()
    }
