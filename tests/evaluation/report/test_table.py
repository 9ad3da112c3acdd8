import csv
import json
import math
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from rich.console import Console
from torch import Tensor

from cfexp.evaluation import measurements
from cfexp.evaluation.measure import vqa
from cfexp.evaluation.measure.known import standard_measures
from cfexp.evaluation.report.table import Absent, Row, Scores, print_table, score_run
from cfexp.evaluation.run_folder import Record, RunFolder
from cfexp.metrics.functional import bootstrap_interval, ssim, wilson_interval
from tests.evaluation.run_writer import PALETTE, SIDE, painted, picture, record, square, write_run

TOP, BOTTOM = square(0, 0), square(20, 20)  # 8 x 8 of 32 x 32 pixels each
QUERY = painted(painted(picture(), TOP, PALETTE["red"]), BOTTOM, PALETTE["green"])
PIXELS = SIDE**2


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    """Four colour questions about two images, and a number question about the second."""
    # Half of 10's energy would be elsewhere if a pixel outside the mask had changed: 64 pixels go
    # from red to blue.
    repainted = painted(QUERY, TOP, PALETTE["blue"])
    # 11: 32 pixels brighter by 30 in one channel inside the mask, 32 outside; too few to change the
    # answer.
    brighter = QUERY.copy()
    brighter[20:24, 20:28, 0] += 30
    brighter[10:14, 20:28, 0] += 30
    # 20: the answer flips, but the object is as red as it was: every pixel around it is darker by
    # 51.
    darker = np.where(TOP[..., None], QUERY, QUERY - np.minimum(QUERY, 51)).astype(np.uint8)
    people = {"answers": ["red"] * 3 + ["blue"] * 7, "multiple_choice_answer": "blue"}
    return write_run(
        tmp_path_factory.mktemp("runs") / "run",
        [
            (record(10, "red", "blue", truth="red"), QUERY, repainted, TOP),
            (record(11, "green", "green", truth="green"), QUERY, brighter, BOTTOM),
            (
                record(20, "red", "green", truth="red", image_id=2, success=False),
                QUERY,
                darker,
                TOP,
            ),
            (record(21, "red", "blue", truth="blue", image_id=2, **people), QUERY, QUERY, None),
            (
                record(
                    22,
                    "2",
                    "3",
                    truth="2",
                    image_id=2,
                    question_type="how many",
                    answer_type="number",
                ),
                *(QUERY, repainted, TOP),
            ),
        ],
        data={"palette": PALETTE},
    )


@pytest.fixture(scope="module")
def scores(run: RunFolder) -> Scores:
    return score_run(run)


def number(scores: Scores, metric: str, group: str = "what color") -> Row:
    row = scores.find(group, metric)
    assert isinstance(row, Row), row
    return row


def test_groups(scores: Scores) -> None:
    assert scores.groups == (
        "what color",
        "what color is the",
        "how many",
        "number",
        "other",
        "all",
    )


def test_decisions(scores: Scores) -> None:
    # 21 says red where seven of ten people say blue: 90 % credit, but it was not right, and comes
    # to be.
    assert number(scores, "accuracy_before").value == pytest.approx((100 + 100 + 100 + 90) / 4)
    assert number(scores, "accuracy_after").value == pytest.approx((0 + 100 + 0 + 100) / 4)
    flips = number(scores, "flip_rate")
    assert (flips.value, flips.n, flips.unit) == (75, 4, "%")
    assert (flips.low, flips.high) == pytest.approx(
        [100 * bound for bound in wilson_interval(3, 4)]
    )
    assert number(scores, "flip_rate_right").value == pytest.approx(100 * 2 / 3)
    assert number(scores, "flip_rate_right").n == 3
    assert number(scores, "success_stored", "all").value == 80
    assert number(scores, "success_float", "all").value == 60
    accuracy = number(scores, "accuracy_after", "all")
    expected = bootstrap_interval([0, 100, 0, 100, 0], groups=[1, 1, 2, 2, 2], seed=0)
    assert (accuracy.low, accuracy.high) == pytest.approx(expected)


def test_distances(scores: Scores) -> None:
    # Squared edits: 10 has two channels of 64 pixels by 200, 11 one of 64 by 30, 21 none. Of 20,
    # outside the red square, 896 grey pixels lose 51 in three channels and the 64 green ones in the
    # one channel that is not black.
    squares = [2 * 64 * 200**2, 64 * 30**2, (3 * 896 + 64) * 51**2, 0]
    assert number(scores, "l2").value == pytest.approx(
        np.mean([energy**0.5 / 255 for energy in squares])
    )
    assert number(scores, "rms_change").value == pytest.approx(
        np.mean([(e / PIXELS / 3) ** 0.5 for e in squares])
    )
    assert number(scores, "changed_fraction").value == pytest.approx(
        100 * (64 + 64 + 960 + 0) / 4 / PIXELS
    )


def test_similarity(run: RunFolder, scores: Scores) -> None:
    keys = [10, 11, 20, 21]
    expected = ssim(run.images("query", keys), run.images("counterfactual", keys))
    assert number(scores, "ssim").value == pytest.approx(float(expected.mean()))


def test_locality(scores: Scores) -> None:
    locality, area, lift = (
        number(scores, name) for name in ("edit_locality", "mask_area", "locality_lift")
    )
    assert locality.value == pytest.approx((100 + 50 + 0) / 3)
    assert area.value == pytest.approx(100 * 64 / PIXELS)
    assert not area.has_interval  # all masks are of one size
    # All masks are of one size: the lift is the locality in its units, interval and all.
    assert np.array([lift.value, lift.low, lift.high]) * area.value == pytest.approx(
        locality[2:3] + locality[4:6]
    )
    assert {locality.n, area.n, lift.n} == {3}


def test_the_lift_is_the_quotient_of_the_rows(tmp_path: Path) -> None:
    large = square(0, 0, size=16)
    known = [record(key, "red", "blue", truth="red", image_id=key) for key in (1, 2)]
    dark = np.full_like(QUERY, 40)
    inside = painted(QUERY, TOP, (0, 0, 0))
    scores = score_run(
        write_run(tmp_path, [(known[0], QUERY, inside, TOP), (known[1], dark + 40, dark, large)])
    )
    assert number(scores, "edit_locality").value == pytest.approx((100 + 25) / 2)
    assert number(scores, "mask_area").value == pytest.approx((6.25 + 25) / 2)
    assert number(scores, "locality_lift").value == pytest.approx(125 / 31.25)


def test_colors(scores: Scores) -> None:
    # Of the two flips that were right before, 10 is blue now and 20 red as ever, though the model
    # says green.
    for metric, value in (
        ("color_readable", 100),
        ("color_changed", 50),
        ("color_is_new_answer", 50),
    ):
        assert (number(scores, metric).value, number(scores, metric).n) == (value, 2)
    reason = scores.find("how many", "color_changed")
    assert reason == Absent(
        "how many",
        "color_changed",
        "no flipped colour questions, right before, with truth mask and palette",
    )


def test_a_new_color_that_is_not_the_new_answer(tmp_path: Path) -> None:
    cyan_square = painted(QUERY, TOP, (0, 200, 0))
    scores = score_run(
        write_run(
            tmp_path,
            [(record(1, "red", "blue", truth="red"), QUERY, cyan_square, TOP)],
            data={"palette": PALETTE},
        )
    )
    assert number(scores, "color_changed").value == 100
    assert number(scores, "color_is_new_answer").value == 0


def test_no_palette_no_masks(tmp_path: Path) -> None:
    scores = score_run(
        write_run(tmp_path, [(record(1, "red", "blue", truth="red"), QUERY, QUERY + 1, None)])
    )
    absent = {entry.metric for entry in scores.absent if entry.group == "what color"}
    masked = {"edit_locality", "mask_area", "locality_lift"}
    colors = {"color_readable", "color_changed", "color_is_new_answer"}
    assert absent == masked | colors | {"language_sensitivity"}


def test_language_sensitivity(scores: Scores) -> None:
    a, b = (2 * 64 * 200**2) ** 0.5, (64 * 30**2) ** 0.5
    # 10 and 11 edit different pixels of image 1; 21 does not edit image 2 at all, which 20 does.
    apart = 2 * math.hypot(a, b) / (a + b)
    color = number(scores, "language_sensitivity")
    assert color.value == pytest.approx((apart + 2) / 2)
    assert color.n == 2
    # Among all questions there are three pairs, (21, 22) the third.
    assert number(scores, "language_sensitivity", "all").value == pytest.approx((apart + 2 + 2) / 3)
    assert isinstance(scores.find("how many", "language_sensitivity"), Absent)


def test_the_same_question_twice_is_no_pair(tmp_path: Path) -> None:
    known = [record(key, "red", "blue", truth="red", question="What color?") for key in (1, 2)]
    scores = score_run(write_run(tmp_path, [(each, QUERY, QUERY + 1, None) for each in known]))
    assert isinstance(scores.find("all", "language_sensitivity"), Absent)


def test_identity(tmp_path: Path) -> None:
    known = [
        record(key, "red", "red", truth=truth, image_id=key // 2)
        for key, truth in enumerate(("red", "blue") * 3)
    ]
    scores = score_run(
        write_run(
            tmp_path, [(each, QUERY, QUERY, TOP) for each in known], data={"palette": PALETTE}
        )
    )
    for metric in (
        "flip_rate",
        "flip_rate_right",
        "success_stored",
        "l2",
        "rms_change",
        "changed_fraction",
    ):
        assert number(scores, metric).value == 0
    assert number(scores, "ssim").value == pytest.approx(1)
    assert number(scores, "accuracy_before").value == number(scores, "accuracy_after").value == 50
    assert not number(
        scores, "accuracy_before"
    ).has_interval  # one of two is right about every image
    assert not number(scores, "l2").has_interval
    for metric in (
        "edit_locality",
        "checkerboard_2",
        "checkerboard_4",
        "language_sensitivity",
        "color_changed",
    ):
        assert isinstance(scores.find("what color", metric), Absent)


def test_era(tmp_path: Path) -> None:
    """Ten people say "red", the model "Red": right for the official code of 2016, wrong for
    today's.
    """
    known = record(1, "Red", "Red", truth="red")
    run = write_run(tmp_path, [(known, QUERY, QUERY, None)])
    assert number(score_run(run), "accuracy_before").value == 0
    assert number(score_run(run, era="2016"), "accuracy_before").value == 100


def test_transfer(run: RunFolder) -> None:
    def follows_the_picture(images: Tensor, records: Sequence[Record]) -> list[str]:
        assert images.shape == (len(records), 3, SIDE, SIDE)
        blue = images[:, 2, 0, 0] > 0
        return [
            "green"
            if known["key"] == 11
            else "2"
            if known["key"] == 22
            else "blue"
            if is_blue
            else "red"
            for known, is_blue in zip(records, blue.tolist(), strict=True)
        ]

    scores = score_run(run, [*standard_measures(), vqa.transfer("second", follows_the_picture)])
    # Right before under both: 10, 11 and 20, of which 10 and 20 flip; it sees that 10 turned blue,
    # and 20 stayed red.
    assert (number(scores, "transfer_second").value, number(scores, "transfer_second").n) == (50, 2)
    assert number(scores, "accuracy_before_second").value == pytest.approx(
        (100 + 100 + 100 + 90) / 4
    )
    assert number(scores, "accuracy_after_second").value == pytest.approx((0 + 100 + 100 + 90) / 4)
    assert number(scores, "transfer_second", "how many").value == 0


def test_other_explainers_know_no_question(tmp_path: Path) -> None:
    known = record(1, "smiling", "not smiling", truth="")
    for name in ("question", "question_type", "answer_type", "answers", "multiple_choice_answer"):
        del known[name]
    scores = score_run(write_run(tmp_path, [(known, QUERY, QUERY + 1, None)]))
    assert scores.groups == ("all",)
    assert number(scores, "flip_rate", "all").value == 100
    told = {row.metric for row in scores.rows} | {entry.metric for entry in scores.absent}
    assert not told & {
        "language_sensitivity",
        *(measure.name for measure in (*vqa.measures(), *vqa.colors())),
    }


def test_any_chunks_give_the_same_table(
    run: RunFolder, scores: Scores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(measurements, "CHUNK_VALUES", 1)
    parts = score_run(run)
    assert parts.absent == scores.absent
    for one, other in zip(parts.rows, scores.rows, strict=True):
        assert one[:2] == other[:2]
        assert one[2:6] == pytest.approx(other[2:6], rel=1e-5, nan_ok=True)


def test_a_finished_run_gives_the_same_table(
    run: RunFolder, scores: Scores, tmp_path: Path
) -> None:
    finished = RunFolder(shutil.copytree(run.path, tmp_path / "run"))
    finished.finish()
    again = score_run(finished)
    assert (again[:2], list(again.measures)) == (scores[:2], list(scores.measures))
    assert repr(again[2:4]) == repr(scores[2:4])  # NaN is no equal of itself


def test_small_pictures_have_no_checkerboard(tmp_path: Path) -> None:
    small = picture(side=12)
    scores = score_run(
        write_run(tmp_path, [(record(1, "red", "blue", truth="red"), small, small + 1, None)])
    )
    reason = "no edits of pictures of at least 16 pixels a side"
    assert scores.find("all", "checkerboard_2") == Absent("all", "checkerboard_2", reason)


# --- what is written and printed


def test_files(scores: Scores, tmp_path: Path) -> None:
    scores.save(tmp_path)
    content = json.loads((tmp_path / "metrics.json").read_text())
    flips = content["groups"]["what color"]["flip_rate_right"]
    assert flips == {"value": 66.667, "n": 3, "low": 20.766, "high": 93.851, "unit": "%"}
    assert (
        content["not_computed"]["how many"]["language_sensitivity"]
        == "no pairs of different questions about one image"
    )
    assert content["groups"]["how many"]["checkerboard_2"]["low"] is None
    with (tmp_path / "metrics.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(scores.rows)
    assert lines[2] == {
        "group": "what color",
        "metric": "flip_rate_right",
        **{"value": "66.667", "n": "3", "low": "20.766", "high": "93.851", "unit": "%"},
    }
    assert {
        line["low"]
        for line in lines
        if line["metric"] == "checkerboard_2" and line["group"] == "how many"
    } == {""}


def printed(width: int = 80) -> Console:
    return Console(width=width, record=True, file=Path("/dev/null").open("w"))


def test_printed_table(scores: Scores) -> None:
    console = printed()
    print_table(scores, console)
    text = console.export_text()
    similarity = f"{number(scores, 'ssim').value:.3f}"
    headline = next(line for line in text.splitlines() if line.strip().startswith("what color "))
    assert headline.split() == [
        "what",
        "color",
        "4",
        "97.5",
        "50.0",
        "66.7",
        "50.0",
        "23.4",
        similarity,
    ]
    assert "color_is_new_answer" in text
    assert "what color: decisions and edits" in text  # attacks have a table of their own
    assert "not computed" not in text
