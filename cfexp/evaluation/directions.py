"""Which way an explanation went, from the class decided to the one asked for, and whether that
explains anything.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cfexp.declaration import Declaration
from cfexp.evaluation.run_folder import Record

# More pairs of classes than that are a list nobody reads: of two classes there are 2, of four 12.
MAX_DIRECTIONS = 12


def direction_members(
    records: Sequence[Record], class_names: Sequence[str] = ()
) -> dict[str, NDArray[np.bool_]]:
    """(N,) bool by direction, such as "stop -> go": the class decided, and the one asked for.

    Of two classes between which an edit went, both directions, though one may be empty; none at all
    where there would be more than `MAX_DIRECTIONS`. class_names: what the classes are called if no
    record says.
    """
    names = dict(enumerate(class_names))
    for record in records:
        names |= (
            {record["query_class"]: record["answer_before"]} if "answer_before" in record else {}
        )
        names |= (
            {record["stored_class"]: record["answer_after"]} if "answer_after" in record else {}
        )
    pairs = [(record["query_class"], record["counter_class"]) for record in records]
    found = {pair for pair in pairs if pair[0] != pair[1] and pair[1] >= 0}
    both = sorted(
        {direction for first, second in found for direction in ((first, second), (second, first))}
    )
    if len(both) > MAX_DIRECTIONS:
        return {}
    return {
        " -> ".join(str(names.get(index, index)) for index in direction): np.array(
            [pair == direction for pair in pairs]
        )
        for direction in both
    }


def is_kept(record: Record) -> bool:
    """Whether the reconstruction is decided as the query is; an edit that starts from the query has
    none to ask of.
    """
    return record.get("reconstruction_class") in (None, record["query_class"])


def has_something_to_explain(record: Record) -> bool:
    """Whether the reconstruction keeps the decision, and another class is asked for."""
    return is_kept(record) and record["query_class"] != record.get("counter_class")


def is_success(record: Record) -> bool:
    """Whether the counterfactual, as it is stored, is decided as was asked for, and that explains
    something: what the tables count as a success.
    """
    return has_something_to_explain(record) and bool(record["stored_success"])


def true_class(record: Record, declaration: Declaration) -> int | None:
    """The class that the decision should be by the data set's labels; None where none is known.

    Of a decision between two classes that is about one binary label, the label. Of several classes
    the one that alone is labelled; their labels must have the names that the decision's classes
    have, as the numbers of other classes mean other things.
    """
    labels, names = record.get("labels") or {}, declaration.class_names
    if declaration.label is None:
        return None
    of_two = len(record.get("query_logits") or (0, 1)) == 2 and "query_top_logits" not in record
    if of_two and declaration.label in labels:
        known = labels[declaration.label]
        return None if known is None else int(known)
    if len(names) < 2 or not labels.keys() >= {*names}:
        return None
    having = [place for place, name in enumerate(names) if labels[name] == 1]
    return having[0] if len(having) == 1 else None
