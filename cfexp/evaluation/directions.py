"""Which way an explanation went, from the class decided to the one asked for, and whether that
explains anything.
"""

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfexp.declaration import Declaration
from cfexp.evaluation.run_folder import Record

# More pairs of classes than that are a list nobody reads: of two classes there are 2, of four 12.
MAX_DIRECTIONS = 12
NOTHING_SAID: Mapping[str, Any] = MappingProxyType({})
_YES, _NO = ("yes", "true", "1"), ("no", "false", "0")


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
    return is_kept(record) and record["query_class"] != record["counter_class"]


def true_class(
    record: Record, declaration: Declaration, data: Mapping[str, Any] = NOTHING_SAID
) -> int | None:
    """The class that the decision should be by the data set's labels; None where none is known.

    data: what data.json says. Of a decision between two classes that is about one binary label, the
    one that this is, see `places_of_sides`. Of several classes the one that alone is labelled;
    their labels must have the names that the decision's classes have, as the numbers of other
    classes mean other things.
    """
    labels, label = record.get("labels") or {}, declaration.label
    if label is None:
        return None
    if is_of_two(record) and label in labels:
        known, places = labels[label], places_of_sides(declaration, data)
        return None if known is None or places is None else places[int(known)]
    names = [_plain(name) for name in declaration.class_names]
    values = {_plain(name): value for name, value in labels.items()}
    if len(names) < 2 or not values.keys() >= {*names}:
        return None
    having = [place for place, name in enumerate(names) if values[name] == 1]
    return having[0] if len(having) == 1 else None


def is_of_two(record: Record) -> bool:
    """Whether the decision is between two classes."""
    return len(record.get("query_logits") or (0, 1)) == 2 and "query_top_logits" not in record


def places_of_sides(
    declaration: Declaration, data: Mapping[str, Any] = NOTHING_SAID
) -> tuple[int, int] | None:
    """Which of the decision's two classes the binary label's 0 is, and which its 1; None where the
    decision is between other classes than the label.

    A label whose two values have names of their own, such as normal and pneumonia, says so in
    data.json (`sides`): the decision's classes are found by these names. Any other is a yes or no
    (CelebA's Smiling): of it the decision's names are free words, such as stop and go, and 1 is the
    second class, unless one of the two is the label's name, that after `not`, or a word for yes or
    no.
    """
    names = [_plain(name) for name in declaration.class_names]
    sides = _sides(declaration, data)
    if sides is not None:
        below, above = map(_plain, sides)
        return (names.index(below), names.index(above)) if {*names} == {below, above} else None
    label = _plain(declaration.label or "")
    for place, name in enumerate(names[:2]):
        if name in (label, *_YES):
            return 1 - place, place
        if name in (f"not {label}", f"no {label}", *_NO):
            return place, 1 - place
    return 0, 1


def names_unlike_the_label(
    records: Sequence[Record], declaration: Declaration, data: Mapping[str, Any]
) -> str:
    """What to say where the decision's classes are called otherwise than the label's; "" where they
    are not, or nobody says what the label's are.
    """
    label, names = declaration.label, declaration.class_names
    labels = next((record["labels"] for record in records if record.get("labels")), None)
    if labels is None or label is None:
        return ""
    if label in labels:
        known = [*(_sides(declaration, data) or ())]
    else:  # classes that exclude each other
        known = [*labels] if [*labels] == data.get("class_names") else []
    plain = {*map(_plain, known)}
    other = [name for name in names if _plain(name) not in plain]
    if not known or not other:
        return ""
    which = "classes" if len(other) > 1 else "class"
    verb = "are" if len(other) > 1 else "is"
    return f"the decision's {which} {', '.join(other)} {verb} none of the label's: " + ", ".join(
        map(str, known)
    )


def _sides(declaration: Declaration, data: Mapping[str, Any]) -> Sequence[str] | None:
    sides: Sequence[str] | None = (data.get("sides") or {}).get(declaration.label)
    return sides


def _plain(name: str) -> str:
    """A name without what people spell in two ways."""
    return str(name).casefold().replace("_", " ").strip()
