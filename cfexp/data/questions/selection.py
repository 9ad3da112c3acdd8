"""Which of a data set's questions train, which are held out, and which test."""

import logging
from collections.abc import Collection, Sequence

from cfexp.data.questions.files import VQAQuestion
from cfexp.data.questions.vocabulary import Vocabulary
from cfexp.errors import InputError

_log = logging.getLogger(__name__)


def hold_out(
    questions: Collection[VQAQuestion], holdout_images: int
) -> tuple[list[VQAQuestion], list[VQAQuestion]]:
    """The questions of the images to train on, and those of the last `holdout_images` images by id.

    Raises InputError where that leaves no image to train on.
    """
    image_ids = sorted({question.image_id for question in questions})
    count = len(image_ids) - holdout_images
    if count < 1:
        found = f"train2014 has {len(image_ids)} images with questions"
        problem = f"leaves no image to train on: {found}"
        raise InputError(f"data.holdout_images={holdout_images} {problem}; lower it")
    last = image_ids[count - 1]
    fit = [question for question in questions if question.image_id <= last]
    return fit, [question for question in questions if question.image_id > last]


def of_types(questions: list[VQAQuestion], prefixes: tuple[str, ...] | None) -> list[VQAQuestion]:
    """The questions whose type begins with one of the prefixes; None = all.

    Raises InputError where there are none.
    """
    if prefixes is None:
        return questions
    kept = [question for question in questions if question.question_type.startswith(prefixes)]
    if not kept:
        types = ", ".join(sorted({question.question_type for question in questions}))
        problem = f"matches no question; there are: {types}"
        raise InputError(f"data.train_question_types={list(prefixes)} {problem}")
    return kept


def answerable(
    questions: Sequence[VQAQuestion], vocabulary: Vocabulary, source: str
) -> list[VQAQuestion]:
    """The questions whose consensus answer is in the vocabulary; how many they are is logged.

    Raises InputError where there are none; `source` says there where the vocabulary comes from.
    """
    kept = [
        question
        for question in questions
        if vocabulary.answer_id(question.multiple_choice_answer) >= 0
    ]
    known = "%d of %d training questions have an answer in the vocabulary"
    _log.info(known, len(kept), len(questions))
    if not kept:
        none = f"none of the {len(questions)} training questions has an answer in {source}"
        raise InputError(none)
    return kept


def first_images(questions: list[VQAQuestion], max_questions: int | None) -> list[VQAQuestion]:
    """The questions, in the order of their images' ids, of the first whole images that hold so
    many; None = all.
    """
    if max_questions is None or max_questions >= len(questions):
        return questions
    last = questions[max_questions - 1].image_id
    return [question for question in questions if question.image_id <= last]
