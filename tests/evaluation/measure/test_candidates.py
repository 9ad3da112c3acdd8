"""How different the answers to one query are, of pictures and of codes."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from cfexp.declaration import Declaration
from cfexp.evaluation.measure.candidates import (
    candidate_code_cosine,
    candidate_l1,
    candidate_lpips,
)
from cfexp.evaluation.report.table import Row, score_run
from cfexp.evaluation.run_folder import RunFolder
from tests.evaluation.run_writer import picture, record, write_run

# The grey of the counterfactual and of two further candidates, of three queries.
GREYS = [(100, 120, 160), (10, 10, 40), (0, 255, 0)]
COSINES = [0.5, -0.25, 0.9]


def apart(first: Tensor, second: Tensor) -> Tensor:
    """In grey levels."""
    return (first - second).abs().mean((1, 2, 3)) * 127.5


MEASURES = [candidate_lpips(apart), candidate_l1(), candidate_code_cosine()]


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    rows = []
    for key, (first, *_) in enumerate(GREYS):
        known = record(
            key, "stop", "go", truth="stop", image_id=key, candidate_pairwise_cosine=COSINES[key]
        )
        known["stored_success"] = key > 0
        rows.append((known, picture(), picture((first,) * 3), None))
    written = write_run(tmp_path / "run", rows)
    for key, greys in enumerate(GREYS):
        for number in (1, 2):
            path = written.picture(f"candidate_{number}", key)
            path.parent.mkdir(exist_ok=True)
            Image.fromarray(picture((greys[number],) * 3)).save(path)
    return written


def row(run: RunFolder, name: str) -> Row:
    found = score_run(run, MEASURES).find("all", name)
    assert isinstance(found, Row), found
    return found


def test_of_pictures_it_is_the_mean_over_the_pairs(run: RunFolder) -> None:
    means = [np.mean([abs(a - b), abs(a - c), abs(b - c)]) for a, b, c in GREYS]
    assert row(run, "candidate_lpips")[2:4] == pytest.approx((np.mean(means), 3), rel=1e-5)
    assert row(run, "candidate_lpips_successes")[2:4] == pytest.approx(
        (np.mean(means[1:]), 2), rel=1e-5
    )
    # The distance above is the l1 of pictures.
    assert row(run, "candidate_l1")[2:4] == row(run, "candidate_lpips")[2:4]


def test_of_codes_the_explainer_tells_it(run: RunFolder) -> None:
    assert row(run, "candidate_code_cosine")[2:4] == pytest.approx((np.mean(COSINES), 3))
    assert row(run, "candidate_code_cosine_successes")[2:4] == pytest.approx(
        (np.mean(COSINES[1:]), 2)
    )


def test_of_one_answer_there_is_nothing_to_tell(tmp_path: Path) -> None:
    plain = write_run(
        tmp_path / "run", [(record(1, "stop", "go", truth="stop"), picture(), picture(), None)]
    )
    scores = score_run(plain, MEASURES)
    assert not scores.rows
    assert not scores.absent


def test_a_counterfactual_that_is_a_candidate_counts_once(run: RunFolder) -> None:
    run.declare(Declaration(among_candidates=True))
    means = [abs(b - c) for _, b, c in GREYS]
    assert row(run, "candidate_lpips").value == pytest.approx(np.mean(means), rel=1e-5)
