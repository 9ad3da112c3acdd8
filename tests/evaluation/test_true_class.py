"""Of which class an image is by its labels, and whether the decision is right about that."""

from typing import Any

import numpy as np

from cfexp.declaration import Declaration
from cfexp.evaluation.directions import true_class
from cfexp.evaluation.measure import directions
from cfexp.evaluation.measure.base import Chunk, Facts
from cfexp.evaluation.run_folder import RunFolder

CLASSES = Declaration(label="cell", class_names=("round", "long", "flat"))
LABELS = {"flat": 1, "long": 0, "round": 0}


def record(**known: Any) -> dict[str, Any]:
    return {"query_class": 2, "query_logits": [0.0, 1.0, 2.0], "labels": LABELS, **known}


def test_the_one_that_is_labelled_of_several_classes() -> None:
    assert true_class(record(), CLASSES) == 2
    # Of many classes the logits of some are stored.
    assert true_class(record(query_logits=None, query_top_logits=[2.0, 1.0]), CLASSES) == 2
    # A class may be called as the column is.
    assert true_class(record(), CLASSES._replace(label="long")) == 2
    nothing: list[dict[str, Any]] = [
        {"labels": dict.fromkeys(LABELS)},
        {"labels": {**LABELS, "long": 1}},
        {"labels": {"flat": 1, "tall": 0, "round": 0}},  # of other classes
        {"labels": None},
    ]
    for each in nothing:
        assert true_class(record(**each), CLASSES) is None
    assert true_class(record(), CLASSES._replace(label=None)) is None


def test_the_label_of_two() -> None:
    sides = Declaration(label="go", class_names=("halt", "move"))
    for known in (0, 1, None):
        labels = {"go": known, "other": 1}
        assert true_class(record(query_logits=[0.0, 1.0], labels=labels), sides) == known
        assert true_class(record(labels=labels), sides) is None  # between other than two


def test_decisions_between_several_classes_are_right_or_wrong() -> None:
    records = [record(), record(query_class=0), record(labels=None)]
    everything = {"all": np.ones(3, dtype=bool)}
    facts = Facts(RunFolder("none"), {}, records, CLASSES, everything, np.arange(3))
    pictures: Any = (None,) * 5
    (measure,) = [each for each in directions.measures() if each.name == "decision_right"]
    assert callable(measure.of)
    right: Any = measure.of(Chunk(facts, slice(0, 3), records, *pictures))
    np.testing.assert_equal(right, [100, 0, np.nan])
