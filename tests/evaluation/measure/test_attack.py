"""The attack block on runs whose answers are known: a light that counts, and a pixel that only one
model sees.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from cfexp.errors import InputError
from cfexp.evaluation.measure.attack import NON_ADVERSARIAL, Attack, Decide, measures
from cfexp.evaluation.measure.known import standard_measures
from cfexp.evaluation.measure.student import non_adversarial_rate
from cfexp.evaluation.report.attack_table import print_attack
from cfexp.evaluation.report.table import Absent, Row, Scores, score_run
from cfexp.evaluation.run_folder import RunFolder
from tests.evaluation.run_writer import painted, picture, record, square

LIGHT = square(0, 0, 16)  # rows and columns 0..15: the region that counts
COUNT = 12


def bright(mask: Tensor, scale: float = 100.0) -> Decide:
    """A model that says 1 where the mean of `mask` is above middle grey."""

    def decide(images: Tensor, records: Sequence[dict[str, Any]]) -> Tensor:
        logit = scale * (images * mask).sum((1, 2, 3)) / (3 * mask.sum())
        return torch.stack([torch.zeros_like(logit), logit], dim=1)

    return decide


SEES_LIGHT = bright(torch.from_numpy(LIGHT).float())
SEES_CORNER = bright(torch.from_numpy(square(31, 31, 1)).float())


def search_run(folder: Path, level: int, **known: Any) -> RunFolder:
    """Searches that turned a light from dark (level 100) to `level`, in pictures of which every
    pixel else stays.
    """
    run = RunFolder(folder)
    label_map = LIGHT.astype(np.uint8)
    success = level > 127
    search = {
        "code_distance": 1.0,
        "region_change": [0.0, 1.0],
        "flip_step": 3,
        "reconstruction_class": 0,
    }
    search |= {"truth": {"causal_regions": ["light"], "go": False, "lamps": [], "light": "red"}}
    classes = {"query_class": 0, "counter_class": 1, "success": success, "stored_success": success}
    with run.writer() as store:
        for key in range(COUNT):
            row = {
                **record(key, "stop", "go", truth="stop", image_id=key),
                **search,
                **classes,
                **known,
            }
            row["stored_class"] = int(success)
            images = {
                "query": picture(),
                "reconstruction": picture((101, 101, 101)),
                "label_map": label_map,
            }
            store.add(
                row,
                {
                    **images,
                    "counterfactual": painted(images["reconstruction"], LIGHT, (level,) * 3),
                },
            )
    (folder / "data.json").write_text('{"region_names": ["road", "light"]}')
    return run


def attacked(run: RunFolder, attack: Attack | None) -> Scores:
    return score_run(run, [*standard_measures(), *([] if attack is None else [measures(attack)])])


def value(scores: Scores, metric: str) -> float:
    found = scores.find("all", f"attack_{metric}")
    assert isinstance(found, Row), found
    return found.value


def test_a_student_that_looks_at_the_light_turns_with_what_lit_it_alone(tmp_path: Path) -> None:
    """And not with the pixel by which the attack turned its teacher."""
    both = bright(torch.from_numpy(LIGHT | square(31, 31, 1)).float())
    attack = Attack(SEES_CORNER, SEES_LIGHT, [64], num_steps=5, student=SEES_LIGHT)
    scores = attacked(search_run(tmp_path / "corner", 250), attack)
    assert value(scores, "pgd_success") == 100
    assert value(scores, "pgd_non_adversarial_rate") == 0
    assert value(scores, "counterfactual_non_adversarial_rate") == 100
    assert value(scores, "query_non_adversarial_rate") == 100
    run = search_run(tmp_path / "whole", 250)
    for student, expected in ((SEES_LIGHT, 100), (both, 100), (SEES_CORNER, 0)):
        found = score_run(run, [non_adversarial_rate(student)]).find("all", NON_ADVERSARIAL)
        assert isinstance(found, Row)
        assert (found.value, found.n) == (expected, COUNT)
    failed = search_run(tmp_path / "failed", 120)
    brought = search_run(tmp_path / "brought", 250, reconstruction_class=1)
    for nothing in (failed, brought):  # of failures nothing is asked, nor of what SEAN brought
        found = score_run(nothing, [non_adversarial_rate(SEES_LIGHT)]).find("all", NON_ADVERSARIAL)
        assert not isinstance(found, Row)


def test_a_student_that_was_on_the_other_side_already_does_not_turn(tmp_path: Path) -> None:
    def contrary(images: Tensor, records: Sequence[dict[str, Any]]) -> Tensor:
        return torch.tensor([[0.0, 1.0]]).expand(len(images), 2)

    run = search_run(tmp_path, 250)
    found = score_run(run, [non_adversarial_rate(contrary)]).find("all", NON_ADVERSARIAL)
    assert isinstance(found, Row)
    assert (found.value, found.n) == (0, COUNT)


def test_what_lights_the_light_convinces_and_survives(tmp_path: Path) -> None:
    attack = Attack(SEES_LIGHT, SEES_LIGHT, epsilons=[1, 8, 32, 64], num_steps=5)
    scores = attacked(search_run(tmp_path, 250), attack)
    for name in (
        "success",
        "rounding",
        "transfer",
        "jpeg_75",
        "jpeg_50",
        "blur_1",
        "mostly_inside",
    ):
        row = scores.find("all", f"attack_counterfactual_{name}")
        assert isinstance(row, Row)
        assert (row.value, row.n) == (100, COUNT), name
        assert row.low == pytest.approx(
            100 * COUNT / (COUNT + 1.959964**2), abs=0.01
        )  # Wilson's, of all of n
    assert value(scores, "counterfactual_inside") == pytest.approx(
        100, abs=0.01
    )  # of the change from reconstruction
    # The light is at 100: it takes 27.5 levels.
    assert value(scores, "pgd_epsilon") == 32
    assert value(scores, "pgd_success") == 100
    assert value(scores, "pgd_inside") == pytest.approx(100)  # the gradient is nowhere else
    for name in ("transfer", "jpeg_75", "jpeg_50", "blur_1"):
        assert value(scores, f"query_{name}") == 100


def test_an_edit_that_one_model_alone_sees_is_an_attack(tmp_path: Path) -> None:
    run = search_run(tmp_path, 100)  # nothing has changed but what is counted as a success here:
    for path in run.explanations.glob("records-*.jsonl"):
        path.write_text(path.read_text().replace('"success": false', '"success": true'))
        path.write_text(
            path.read_text().replace('"stored_success": false', '"stored_success": true')
        )
    scores = attacked(run, Attack(SEES_CORNER, SEES_LIGHT, epsilons=[64], num_steps=5))
    assert value(scores, "pgd_success") == 100
    assert value(scores, "pgd_transfer") == 0
    assert value(scores, "pgd_blur_1") == 0  # a pixel does not survive it
    assert value(scores, "pgd_inside") == 0
    assert value(scores, "counterfactual_transfer") == 0
    assert value(scores, "counterfactual_jpeg_75") == 0


def test_epsilon_grows_until_the_attack_succeeds_as_often_as_the_run(tmp_path: Path) -> None:
    scores = attacked(
        search_run(tmp_path / "fails", 120), Attack(SEES_LIGHT, SEES_LIGHT, num_steps=5)
    )
    assert (value(scores, "counterfactual_success"), value(scores, "pgd_epsilon")) == (0, 1)
    assert isinstance(scores.find("all", "attack_counterfactual_transfer"), Absent)
    scores = attacked(
        search_run(tmp_path / "works", 250), Attack(SEES_LIGHT, SEES_LIGHT, [1, 2], 5)
    )
    assert (value(scores, "pgd_success"), value(scores, "pgd_epsilon")) == (
        0,
        2,
    )  # it said how far it came


def test_only_what_there_is_something_to_explain_of_is_asked(tmp_path: Path) -> None:
    attack = Attack(SEES_LIGHT, SEES_LIGHT, [32], 5, max_queries=5)
    row = attacked(search_run(tmp_path / "few", 250), attack).find("all", "attack_pgd_success")
    assert isinstance(row, Row)
    assert row.n == 5
    flipped_already = search_run(tmp_path / "none", 250, reconstruction_class=1)
    scores = attacked(flipped_already, attack)
    assert not [each.metric for each in scores.rows if each.metric.startswith("attack_")]


def test_another_model_than_the_one_explained_is_refused(tmp_path: Path) -> None:
    def contrary(images: Tensor, records: Sequence[dict[str, Any]]) -> Tensor:
        return -SEES_LIGHT(images, records)

    with pytest.raises(
        InputError, match=r"checkpoints\.explained decides 12 of 12 queries otherwise than the run"
    ):
        attacked(search_run(tmp_path, 250), Attack(contrary, SEES_LIGHT))


def test_of_questions_the_cause_is_the_object(tmp_path: Path) -> None:
    run = RunFolder(tmp_path)
    with run.writer() as store:
        for key in range(4):
            known = record(
                key,
                "dark",
                "bright",
                truth="dark",
                query_class=0,
                stored_class=1,
                has_truth_mask=True,
            )
            images = {
                "query": picture(),
                "counterfactual": painted(picture(), LIGHT, (250, 250, 250)),
            }
            store.add(known, {**images, "reconstruction": picture(), "truth_mask": square(0, 0, 8)})
    scores = attacked(run, Attack(SEES_LIGHT, SEES_LIGHT, [32], 5))
    inside = scores.find("what color", "attack_counterfactual_inside")
    assert isinstance(inside, Row)
    assert inside.value == pytest.approx(25)
    mostly = scores.find("what color", "attack_counterfactual_mostly_inside")
    assert isinstance(mostly, Row)
    assert mostly.value == 0


def test_the_block_is_printed_where_it_was_asked_for(tmp_path: Path) -> None:
    run = search_run(tmp_path, 250)
    for attack, expected in ((None, False), (Attack(SEES_LIGHT, SEES_CORNER, [32], 5), True)):
        console = Console(file=io.StringIO(), width=120)
        print_attack(attacked(run, attack), console)
        assert isinstance(console.file, io.StringIO)
        text = console.file.getvalue()
        assert bool(text) == expected
    assert "PGD of 32 of 255" in " ".join(text.split())
    (line,) = [line for line in text.splitlines() if line.strip().startswith("survives jpeg 75")]
    assert line.count("n 12") == 3
