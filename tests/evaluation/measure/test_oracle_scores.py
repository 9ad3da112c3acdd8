"""Oracle score, label variation and BKL, against a plain reading of their definitions, and of
pictures that stay as they are.
"""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from torch import Tensor

from cfexp.declaration import Declaration
from cfexp.evaluation.measure.asked import bkl
from cfexp.evaluation.measure.base import FLOOR, SUCCESSES, Measures
from cfexp.evaluation.measure.oracle import Oracle, label_variation, oracle_score
from cfexp.evaluation.report.table import Absent, Row, Scores, score_run
from cfexp.evaluation.run_folder import RunFolder
from tests.evaluation.run_writer import picture, write_run

NAMES = ("Smiling", "Male", "Young")
N = 6
COLORS = np.random.default_rng(3).integers(0, 256, size=(N, 2, 3))  # query and counterfactual
ASKED = np.array([1, 0, 1, 1, 0, -1])
LOGITS = [[0.0, 2.0], [1.0, -1.0], [0.0, -3.0], [0.0, 0.5], [0.0, 0.5], [0.0, 1.0]]
SUCCESS = np.array([True, True, False, True, False, True])


def attributes(images: Tensor) -> Tensor:
    """An attribute a channel, there where it is bright; and a feature behind them."""
    logits = 6 * images.mean((2, 3))
    return torch.cat([logits, logits[:, :1]], dim=1)


ORACLE = Oracle(attributes, NAMES, attributes)


def run_of(folder: Path, edited: bool = True, **declared: Any) -> RunFolder:
    rows = []
    for key in range(N):
        record = {"key": key, "image_id": f"{key}", "query_class": 0, "stored_class": 1}
        record |= {"counter_class": int(ASKED[key]), "stored_logits": LOGITS[key]}
        record |= {"success": bool(SUCCESS[key]), "stored_success": bool(SUCCESS[key])}
        shown = [picture((int(r), int(g), int(b))) for r, g, b in COLORS[key]]
        rows.append((record, shown[0], shown[int(edited)], None))
    run = write_run(folder, rows)
    run.declare(Declaration(label="Smiling")._replace(**declared))
    return run


def row(scores: Scores, name: str) -> Row:
    found = scores.find("all", name)
    assert isinstance(found, Row), found
    return found


def scored(run: RunFolder, *measures: Measures) -> Scores:
    return score_run(run, [*measures])


def test_oracle_score_counts_what_the_oracle_decides_as_asked(tmp_path: Path) -> None:
    scores = scored(run_of(tmp_path), oracle_score(ORACLE))
    query, made = (COLORS[:, which, 0] > 127.5 for which in (0, 1))
    among = ASKED >= 0
    found = row(scores, "oracle_score")
    assert found.n == 5
    assert found.value == pytest.approx(100 * (made == ASKED)[among].mean())
    # The reconstruction is the query here: what is of the class asked for without an edit.
    assert row(scores, "oracle_score" + FLOOR).value == pytest.approx(
        100 * (query == ASKED)[among].mean()
    )
    of = among & SUCCESS & (ASKED != 0)  # a query of the class asked for explains nothing
    assert row(scores, "oracle_score" + SUCCESSES)[2:4] == pytest.approx(
        (100 * (made == ASKED)[of].mean(), of.sum())
    )


def test_an_oracle_of_the_classes_themselves(tmp_path: Path) -> None:
    run = run_of(tmp_path, label=None, class_names=("Young", "Male"))
    decided = COLORS[:, 1][:, [2, 1]].argmax(1)
    found = row(scored(run, oracle_score(ORACLE)), "oracle_score")
    among = ASKED >= 0
    assert found.value == pytest.approx(100 * (decided == ASKED)[among].mean())


def test_label_variation_is_the_mean_divergence_of_the_others(tmp_path: Path) -> None:
    scores = scored(run_of(tmp_path), label_variation(ORACLE))
    yes = 1 / (1 + np.exp(-6 * (COLORS / 127.5 - 1)))
    values = [
        np.mean(
            [
                jensenshannon(
                    *([1 - yes[key, which, at], yes[key, which, at]] for which in (0, 1)), base=2
                )
                ** 2
                for at in (1, 2)
            ]
        )
        for key in range(N)
    ]
    found = row(scores, "label_variation")
    assert found[2:4] == pytest.approx((np.mean(values), N), rel=1e-4)
    assert row(scores, "label_variation" + FLOOR).value == pytest.approx(0, abs=1e-12)
    assert found.low < found.value < found.high


def test_unchanged_pictures_move_no_label(tmp_path: Path) -> None:
    scores = scored(run_of(tmp_path, edited=False), label_variation(ORACLE), oracle_score(ORACLE))
    assert row(scores, "label_variation").value == pytest.approx(0, abs=1e-12)
    assert row(scores, "oracle_score").value == row(scores, "oracle_score" + FLOOR).value


def test_bkl_is_what_lacks_of_the_probability_asked_for(tmp_path: Path) -> None:
    found = row(scored(run_of(tmp_path), bkl()), "bkl")
    probability = np.exp(LOGITS) / np.exp(LOGITS).sum(1, keepdims=True)
    lacks = [1 - probability[key, ASKED[key]] for key in range(5)]
    assert found[2:4] == pytest.approx((np.mean(lacks), 5))


@pytest.mark.parametrize(
    ("declared", "reason"),
    [
        ({"label": "Bald"}, "neither the decision's label, Bald, nor its classes are the oracle's"),
        ({"label": None, "class_names": ("a", "b")}, "neither the decision's label, None, nor "),
        # A label says yes or no, and so nothing of three classes.
        ({"class_names": ("a", "b", "c")}, "neither the decision's label, Smiling, nor its "),
    ],
)
def test_an_oracle_that_knows_nothing_of_the_decision(
    tmp_path: Path, declared: dict[str, Any], reason: str
) -> None:
    found = scored(run_of(tmp_path, **declared), oracle_score(ORACLE)).find("all", "oracle_score")
    assert isinstance(found, Absent)
    assert found.reason.startswith(reason)


def test_label_variation_needs_the_label_and_another(tmp_path: Path) -> None:
    alone = Oracle(lambda images: attributes(images)[:, :1], NAMES[:1], attributes)
    scores = scored(run_of(tmp_path), label_variation(alone))
    found = scores.find("all", "label_variation")
    assert isinstance(found, Absent)
    assert found.reason == "the decision's label, Smiling, is the oracle's only attribute"
