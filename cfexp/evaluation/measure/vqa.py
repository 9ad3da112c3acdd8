"""What is measured of a VQA model's explanations: answers, and whether the objects asked about
changed as answered.
"""

from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cfexp.declaration import Shown
from cfexp.evaluation.groups import COLORS
from cfexp.evaluation.measure.base import Chunk, Facts, Measure, Values, rate
from cfexp.evaluation.measure.edits import flipped
from cfexp.evaluation.run_folder import Record
from cfexp.metrics.functional import nearest_color, vqa_accuracy

# The answers (B,) of another model to the questions of B records, about images (B, 3, H, W).
Predictor = Callable[[Tensor, Sequence[Record]], Sequence[str]]
ANSWERED = "questions with human answers"


def asks(facts: Facts) -> bool:
    """Whether the queries are questions."""
    return any("question" in record for record in facts.records)


def measures() -> list[Measure]:
    """Accuracy before and after, flips of right answers, and what a plain reading of the colours
    says of the flips.
    """
    right_flipped = Shown("right,\nflipped", panel="right answers that flip, %")
    counted = "questions answered right before"
    return [
        Measure(
            "accuracy_before", _before, "%", ANSWERED, needs=asks, shown=Shown("accuracy\nbefore")
        ),
        Measure("accuracy_after", _after, "%", ANSWERED, needs=asks, shown=Shown("%\nafter")),
        Measure(
            "flip_rate_right",
            _flip_rate_right,
            "%",
            counted,
            "rate",
            needs=asks,
            shown=right_flipped,
        ),
    ]


def colors() -> list[Measure]:
    """See `_readings`."""
    counted = "flipped colour questions, right before, with truth mask and palette"
    return [
        Measure(
            name, partial(_reading, name=name), "%", counted, "rate", needs=asks, is_telling=True
        )
        for name in ("color_readable", "color_changed", "color_is_new_answer")
    ]


def transfer(name: str, predictor: Predictor) -> list[Measure]:
    """Whether another model, called `name`, is convinced, too, and how good it is."""
    counted = "flipped questions that both models answered right before"

    def asked(chunk: Chunk) -> tuple[Sequence[str], Sequence[str]]:
        return predictor(chunk.query, chunk.records), predictor(chunk.counterfactual, chunk.records)

    def before(chunk: Chunk) -> Values:
        return _accuracy(chunk, chunk.once(asked)[0])

    def after(chunk: Chunk) -> Values:
        return _accuracy(chunk, chunk.once(asked)[1])

    def convinced(chunk: Chunk) -> Values:
        theirs = [_right(chunk.records, answers) for answers in chunk.once(asked)]
        return rate(~theirs[1], among=_right_before(chunk) & flipped(chunk) & theirs[0])

    return [
        Measure(f"accuracy_before_{name}", before, "%", ANSWERED),
        Measure(f"accuracy_after_{name}", after, "%", ANSWERED),
        Measure(f"transfer_{name}", convinced, "%", counted, kind="rate", is_telling=True),
    ]


def _before(chunk: Chunk) -> Values:
    return _accuracy(chunk, [record.get("answer_before") for record in chunk.records])


def _after(chunk: Chunk) -> Values:
    return _accuracy(chunk, [record.get("answer_after") for record in chunk.records])


def _flip_rate_right(chunk: Chunk) -> Values:
    return rate(flipped(chunk), among=_right_before(chunk))


def _reading(chunk: Chunk, name: str) -> Values:
    return chunk.once(_readings)[name]


def _readings(chunk: Chunk) -> dict[str, Values]:
    """What a plain reading of the colour of the object(s) asked about says, of flipped colour
    questions.

    `color_readable`: of the query it is the answer, so that another reading of the counterfactual
    is due to the edit.
    """
    names = "color_readable", "color_changed", "color_is_new_answer"
    values = {name: np.full(len(chunk.records), np.nan) for name in names}
    counts, palette = _right_before(chunk) & flipped(chunk), chunk.facts.palette
    for row, record in enumerate(chunk.records):
        asked = record.get("multiple_choice_answer")
        is_color = (record.get("question_type") or "").startswith(COLORS) and asked in palette
        mask = chunk.mask[row, 0]
        if not (counts[row] and is_color and mask.any()):
            continue
        old, new = (
            nearest_color((image[row][:, mask].T + 1) / 2, palette)
            for image in (chunk.query, chunk.counterfactual)
        )
        values["color_readable"][row] = 100 * (old == asked)
        values["color_changed"][row] = 100 * (new != asked)
        values["color_is_new_answer"][row] = 100 * (new == record["answer_after"])
    return values


def _right_before(chunk: Chunk) -> NDArray[np.bool_]:
    return _right(chunk.records, [record.get("answer_before") for record in chunk.records])


def _right(records: Sequence[Record], answers: Sequence[str | None]) -> NDArray[np.bool_]:
    """Whether each answer is the people's consensus; nothing is where there is none."""
    consensus = [record.get("multiple_choice_answer") for record in records]
    pairs = zip(answers, consensus, strict=True)
    return np.array([answer is not None and answer == expected for answer, expected in pairs])


def _accuracy(chunk: Chunk, answers: Sequence[str | None]) -> Values:
    """The official accuracy of each answer in percent."""
    pairs, era = zip(answers, chunk.records, strict=True), chunk.facts.era
    return np.array(
        [
            vqa_accuracy(answer, record["answers"], era=era)
            if answer is not None and record.get("answers")
            else np.nan
            for answer, record in pairs
        ]
    )
