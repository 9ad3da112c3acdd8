"""Of which class an image is by its labels, and whether the decision is right about that."""

from dataclasses import replace
from typing import Any

import numpy as np

from cfexp.declaration import Declaration
from cfexp.evaluation.directions import names_unlike_the_label, true_class
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


def test_two_names_of_a_label_are_found_by_name_and_a_yes_or_no_by_place() -> None:
    ill = {"sides": {"class": ["normal", "pneumonia"]}}
    two = {"query_logits": [0.0, 1.0]}
    asked: list[tuple[str, tuple[str, ...], dict[str, Any], int | None]] = [
        ("class", ("normal", "pneumonia"), ill, 1),
        ("class", ("Pneumonia", "normal"), ill, 0),
        ("class", ("healthy", "pneumonia"), ill, None),  # is what is normal healthy?
        ("class", (), ill, None),
        ("class", ("pneumonia", "normal"), {}, 1),  # of a run before there were `sides`
        ("Smiling", ("not smiling", "smiling"), {}, 1),
        ("Smiling", ("smiling", "neutral"), {}, 0),
        ("Wearing_Hat", ("with one", "not wearing hat"), {}, 0),
        ("forward", ("yes", "no"), {}, 0),
        ("forward", ("stop", "go"), {}, 1),
        ("forward", (), {}, 1),
    ]
    for label, names, data, known in asked:
        declared = Declaration(label=label, class_names=names)
        assert true_class(record(labels={label: 1}, **two), declared, data) == known, names


def test_names_of_a_decision_that_are_none_of_the_labels_are_told() -> None:
    of_three = {"class_names": [*LABELS]}
    other = CLASSES._replace(class_names=("rund", "long", "platt"))
    assert names_unlike_the_label([record()], CLASSES, of_three) == ""
    assert names_unlike_the_label([record(labels=None)], other, of_three) == ""
    assert names_unlike_the_label([record()], other, of_three) == (
        "the decision's classes rund, platt are none of the label's: flat, long, round"
    )
    two = Declaration(label="go", class_names=("stop", "forth"))
    one = record(labels={"go": 1})
    assert names_unlike_the_label([one], two, {"class_names": ["go"]}) == ""  # a yes or no
    sides = {"class_names": ["go"], "sides": {"go": ["stop", "go"]}}
    assert names_unlike_the_label([one], two, sides) == (
        "the decision's class forth is none of the label's: stop, go"
    )


def test_decisions_between_several_classes_are_right_or_wrong() -> None:
    records = [record(), record(query_class=0), record(labels=None)]
    everything = {"all": np.ones(3, dtype=bool)}
    facts = Facts(RunFolder("none"), {}, records, CLASSES, everything, np.arange(3))
    other = replace(
        facts, data={"class_names": [*LABELS]}, declaration=CLASSES._replace(class_names=("a", "b"))
    )
    (measure,) = [each for each in directions.measures(other) if each.name == "decision_right"]
    assert measure.of is None
    assert measure.missing.startswith("the decision's classes a, b are none")
    pictures: Any = (None,) * 5
    (measure,) = [each for each in directions.measures(facts) if each.name == "decision_right"]
    assert callable(measure.of)
    right: Any = measure.of(Chunk(facts, slice(0, 3), records, *pictures))
    np.testing.assert_equal(right, [100, 0, np.nan])
