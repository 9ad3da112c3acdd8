"""Whether the decision follows the bins, against scipy's rank correlation."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from rich.console import Console
from scipy.stats import spearmanr

from cfexp.evaluation.measure.bins import measures
from cfexp.evaluation.report.bins import show_bins
from cfexp.evaluation.report.table import Row, Scores, score_run
from cfexp.evaluation.run_folder import RunFolder
from tests.evaluation.run_writer import picture, record, write_run

ANSWERS = [[0.1, 0.2, 0.7, 0.9], [0.3, 0.2, 0.2, 0.6], [0.5, 0.5, 0.5, 0.5]]


def scored(folder: Path, answers: list[list[float]]) -> Scores:
    rows = []
    for key, told in enumerate(answers):
        known = record(key, "stop", "go", truth="stop", image_id=key)
        known |= {"candidate_bin": [0, 1, 2, 3], "candidate_probability": told} if told else {}
        rows.append((known, picture(), picture((9, 9, 9)), None))
    write_run(folder, rows)
    return score_run(RunFolder(folder), [measures])


def value(scores: Scores, name: str) -> Row:
    row = scores.find("all", name)
    assert isinstance(row, Row)
    return row


def test_it_is_spearmans_of_each_query(tmp_path: Path) -> None:
    scores = scored(tmp_path, ANSWERS)
    expected = [spearmanr(range(4), told).statistic for told in ANSWERS[:2]]
    assert value(scores, "bin_correlation").value == pytest.approx(np.mean([*expected, 0]))
    means = np.mean(ANSWERS, axis=0) * 100
    for number in range(4):
        assert value(scores, f"answer_at_bin_{number}").value == pytest.approx(means[number])


def test_the_answers_stand_in_a_table_and_a_plot(tmp_path: Path) -> None:
    console = Console(record=True, width=80)
    show_bins(scored(tmp_path, ANSWERS), tmp_path, console)
    assert "what each bin gives" in console.export_text()
    with Image.open(tmp_path / "bins.png") as plot:
        assert np.asarray(plot.convert("L")).std() > 5


def test_without_bins_there_is_nothing_to_say(tmp_path: Path) -> None:
    scores = scored(tmp_path, [[]])
    assert not scores.rows
    write_run(tmp_path / "plain", [(record(1, "a", "b", truth="a"), picture(), picture(), None)])
    console = Console(record=True)
    show_bins(score_run(RunFolder(tmp_path / "plain")), tmp_path, console)
    assert not console.export_text()
    assert not (tmp_path / "bins.png").exists()
