"""Intervals of the table, and where nothing is known of further queries."""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from cfexp.evaluation.report.table import Absent, Row, Scores, print_table, score_run, shown
from cfexp.metrics.functional import wilson_interval
from tests.evaluation.report.test_table import QUERY, TOP, number, printed
from tests.evaluation.run_writer import PALETTE, record, write_run


def answered(tmp_path: Path, answers: Sequence[str], images: int) -> Scores:
    """Queries that the model answers so, about so many images in turn, right if "red"; each edit is
    another.
    """
    known = [
        record(key, each, each, truth="red", image_id=key % images)
        for key, each in enumerate(answers)
    ]
    rows = [(each, QUERY, np.roll(QUERY, key + 1, axis=1), TOP) for key, each in enumerate(known)]
    return score_run(write_run(tmp_path, rows, data={"palette": PALETTE}))


def test_one_query_has_no_interval_but_that_of_its_rates(tmp_path: Path) -> None:
    scores = answered(tmp_path, ["red"], images=1)
    assert {row.metric for row in scores.rows if row.has_interval} == {
        "flip_rate",
        "success_float",
        "success_stored",
    } | {"flip_rate_right"}
    scores.save(tmp_path)
    written = json.loads((tmp_path / "metrics.json").read_text())["groups"]["all"]
    assert (written["accuracy_before"]["low"], written["rms_change"]["high"]) == (None, None)
    console = printed()
    print_table(scores, console)
    line = next(line for line in console.export_text().splitlines() if "mask_area" in line)
    assert line.split() == ["mask_area", "6.25", "%", "—", "1"]


def test_of_the_accuracy_of_a_model_that_is_always_right_or_wrong_the_images_tell(
    tmp_path: Path,
) -> None:
    right, wrong = (
        number(answered(tmp_path / answer, [answer] * 20, images=10), "accuracy_before")
        for answer in ("red", "blue")
    )
    assert (right.value, right.n) == (100, 20)
    assert (right.low, right.high) == pytest.approx([100 * end for end in wilson_interval(10, 10)])
    assert (wrong.low, wrong.high) == pytest.approx([100 * end for end in wilson_interval(0, 10)])
    several = answered(tmp_path / "one", ["red"] * 20, images=1)
    for metric in (
        "accuracy_before",
        "rms_change",
        "ssim",
        "edit_locality",
        "language_sensitivity",
    ):
        assert not number(several, metric).has_interval


def test_numbers_that_are_none_are_left_out_and_said(tmp_path: Path) -> None:
    known = [record(key, "stop", "go", truth="", image_id=key) for key in range(3)]
    for key, each in enumerate(known):
        found = {
            "code_distance": (math.nan, math.inf, 2.0)[key],
            "flip_step": 3,
            "region_change": [1.0],
        }
        each |= {
            **found,
            "reconstruction_class": each["query_class"],
            "counter_class": each["stored_class"],
        }
    scores = score_run(write_run(tmp_path, [(each, QUERY, QUERY, None) for each in known]))
    reason = scores.find("all", "code_distance")
    assert reason == Absent("all", "code_distance", "of searches, some give no finite number")
    scores.save(tmp_path)
    assert "Infinity" not in (tmp_path / "metrics.json").read_text()


@pytest.mark.parametrize(
    ("number", "texts"),
    [
        ((28.03, 27.95, 28.12), ("28.0", "[27.9, 28.1]")),
        ((28.03, 28.021, 28.038), ("28.03", "[28.02, 28.04]")),
        ((0.98765, 0.98764, 0.98766), ("0.9877", "[0.9876, 0.9877]")),
        ((28.0, math.nan, math.nan), ("28.0", "—")),
        ((28.0, None, None), ("28.0", "—")),
        ((0.0, 0.0, 3.7), ("0", "[0, 3.7]")),
    ],
)
def test_an_interval_shows_its_width(
    number: tuple[float, float | None, float | None], texts: tuple[str, str]
) -> None:
    assert shown(*number) == texts


def test_files_keep_the_width_of_an_interval(tmp_path: Path) -> None:
    row = Row("all", "rms_change", 28.0000021, 9, 28.0000012, 28.0000034, "of 255")
    Scores("run", "2021", (row,), ()).save(tmp_path)
    written = json.loads((tmp_path / "metrics.json").read_text())["groups"]["all"]["rms_change"]
    assert (written["value"], written["low"], written["high"]) == (28.000002, 28.000001, 28.000003)
