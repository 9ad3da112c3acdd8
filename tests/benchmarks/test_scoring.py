"""The benchmark of scoring, on a few small pictures."""

from pathlib import Path

import pytest
import torch

from cfexp.benchmarks import scoring
from cfexp.evaluation.report.table import score_run

SMALL = ["--explanations", "12", "--side", "16"]


def test_it_says_what_measures_cost_beside_networks(capsys: pytest.CaptureFixture[str]) -> None:
    threads = torch.get_num_threads()
    assert scoring.main(SMALL) == 0
    printed = capsys.readouterr().out
    assert "12 explanations of 16 pixels, " in printed
    assert printed.rstrip().endswith("wanted at most 120 seconds and 1 GB: yes")
    assert scoring.main([*SMALL, "--seconds", "0"]) == 1
    torch.set_num_threads(threads)


def test_every_measure_of_images_gives_a_number_of_it(tmp_path: Path) -> None:
    run = scoring.write_run(tmp_path, 12, 16)
    scores = score_run(run, scoring.all_measures(scoring.StandIns(16)))
    known = {row.metric for row in scores.rows if row.group == "all"}
    assert known >= {
        *("fid", "kid", "sfid", "fva", "face_similarity", "s3", "lpips", "cout", "bkl"),
        *("mnac", "cd", "oracle_score", "label_variation", "flip_rate", "success_kept"),
    }


def test_what_cannot_be_measured_is_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert scoring.main(["--side", "4"]) == 2
    said = capsys.readouterr().err
    assert said == "error: --explanations and --threads must be above 0, --side at least 8\n"
