"""Which explanations of a run are told together: by question, by answer, or by direction."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cfexp.declaration import Declaration
from cfexp.evaluation.directions import direction_members
from cfexp.evaluation.run_folder import Record

COLORS = "what color"  # the headline group: every question type with this prefix
EVERYTHING = "all"


def is_counted_apart(declaration: Declaration, record: Record) -> bool:
    """Whether there is nothing to measure of an explanation, by a column that its explainer
    declares for that.
    """
    return any(
        column.counted_apart and bool(record.get(column.name)) for column in declaration.columns
    )


def group_members(
    records: Sequence[Record], declaration: Declaration
) -> dict[str, NDArray[np.bool_]]:
    """(N,) bool by group: the union "what color", each question type, each answer type, "all".

    Of explanations that are told by direction: "all", and each direction; see `direction_members`.
    A question type that is called as a union is, like VQA's own "what color", gets " (type)" to its
    name.
    """
    everything = {EVERYTHING: np.ones(len(records), dtype=bool)}
    if declaration.by_direction and (
        directions := direction_members(records, declaration.class_names)
    ):
        return everything | directions
    types = [record.get("question_type") or "" for record in records]
    answer_types = [record.get("answer_type") or "" for record in records]
    is_color = np.array([name.startswith(COLORS) for name in types])
    unions = {COLORS, EVERYTHING, *answer_types}
    groups = {COLORS: is_color} if is_color.any() else {}
    for name in sorted(set(types) - {""}, key=lambda name: (not name.startswith(COLORS), name)):
        groups[f"{name} (type)" if name in unions else name] = np.array(
            [each == name for each in types]
        )
    for name in sorted(set(answer_types) - {""}):
        groups[name] = np.array([each == name for each in answer_types])
    return groups | everything
