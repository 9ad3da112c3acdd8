"""`python -m cfexp.evaluate` on hand-made run folders: identity, reports, and what a user has
wrong.
"""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import nn

from cfexp import evaluate
from cfexp.evaluation.report.goals import compare
from cfexp.evaluation.run_folder import Record
from cfexp.run.configuration import register_resolvers
from cfexp.run.judges import BATCH
from tests.commands import InProcess, Main
from tests.evaluation.run_writer import picture, write_run

CONF = Path(__file__).parents[1] / "conf"
NETWORK = {"_target_": f"{__name__}.Colours", "width": 3}


class Colours(nn.Module):
    """Tells images apart by their mean colour."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(3, width, bias=False)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        assert len(images) <= BATCH
        features: torch.Tensor = self.linear((images.mean((2, 3)) + 1) / 2)
        return features


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A network whose features are the mean colours, with no config beside it, as a shipped one."""
    path = tmp_path / "identity.ckpt"
    torch.save({"linear.weight": torch.eye(3)}, path)
    return path


@pytest.fixture
def main(in_process: InProcess, monkeypatch: pytest.MonkeyPatch) -> Main:
    """Runs `python -m cfexp.evaluate ARGUMENTS` within this process."""
    monkeypatch.setenv("COLUMNS", "160")
    return partial(in_process, evaluate.main)


def search(
    folder: Path, name: str, shown: tuple[int, int, int], distance: float, **config: Any
) -> Path:
    """A run of two searches that turned grey into `shown`, one a bit less red, with the config that
    a run leaves.
    """
    known: Record = {
        "counter_class": 1,
        "query_class": 0,
        "reconstruction_class": 0,
        "stored_class": 1,
        "success": True,
    }
    known |= {
        "stored_success": True,
        "flip_step": 3,
        "code_distance": distance,
        "region_change": [distance],
    }
    known |= {"answer_before": "not smiling", "answer_after": "smiling", "labels": {"Smiling": 0}}
    red, green, blue = shown
    rows = [
        (
            {**known, "key": key, "image_id": str(key)},
            picture(),
            picture((red - key, green, blue)),
            None,
        )
        for key in (0, 1)
    ]
    write_run(folder, rows, data={"region_names": ["skin"]})
    OmegaConf.save(OmegaConf.create({"name": name, **config}), folder / "config.yaml")
    return folder


def test_a_sweep_is_held_against_what_should_rise_and_fall(
    main: Main, checkpoint: Path, tmp_path: Path
) -> None:
    OmegaConf.save(OmegaConf.create({"network": NETWORK}), checkpoint.parent / "config.yaml")
    weights = {"0": (200, 30, 30), "0.1": (150, 60, 60), "1": (110, 90, 90)}
    label = {
        "label": "Smiling",
        "explainer": {"regions": None, "class_names": ["not smiling", "smiling"]},
    }
    runs = [
        search(tmp_path / weight, f"steex_smile_{weight}", shown, 4 - float(weight), **label)
        for weight, shown in weights.items()
    ]
    swept = "runs: [steex_smile_0,steex_smile_0.1,steex_smile_1], group: 'not smiling -> smiling'"
    of_all = "run: steex_smile_0, group: all"
    goals = (
        f"goals=[{{name: distance, {swept}, metric: code_distance, falls: true}},"
        f"{{name: identity, {swept}, metric: identity_similarity, rises: true}},"
        f"{{name: floor, {of_all}, metric: identity_similarity_reconstruction, at_least: 0.999}},"
        f"{{name: right, {of_all}, metric: decision_right, at_least: 100}},"
        f"{{name: young, run: steex_young, group: all, metric: success_kept, at_least: 99.5}}]"
    )
    code, stdout, stderr = main(
        f"run=[{','.join(map(str, runs))}]",
        f"+checkpoints.identity={checkpoint}",
        goals,
        "num_threads=1",
    )
    assert code == 0, stderr
    table = stdout[stdout.index(next(line for line in stdout if line.startswith("Goals"))) :]
    verdicts = {line.split()[0]: line.split()[-1] for line in table if line.strip()}
    beside = stdout[stdout.index(next(each for each in stdout if "3 runs side by side" in each)) :]
    found = [line.split()[:6] for line in beside if line.split()[1:2] == ["STEEX"]]
    assert found == [  # n, kept, success, distance
        [weight, "STEEX", "2", "100.0", "100.0", f"{4 - float(weight):.2f}"] for weight in weights
    ]
    assert [verdicts[name] for name in ("distance", "identity", "floor", "right")] == [
        "reached"
    ] * 4
    assert any(
        line.strip().startswith("young") and line.rstrip().endswith("not given: steex_young")
        for line in table
    )
    rows = pd.read_csv(runs[0] / "metrics.csv").set_index(["group", "metric"])
    cosines = [(red + 30 + 30) / (3 * (red**2 + 2 * 30**2)) ** 0.5 for red in (200, 199)]
    assert rows.loc[("all", "identity_similarity"), "value"] == pytest.approx(
        sum(cosines) / 2, abs=1e-4
    )
    assert pd.isna(rows.loc[("all", "code_distance"), "low"])  # both are as far: no interval
    assert ("smiling -> not smiling", "success_kept") not in rows.index
    # What they were called before is understood.
    code, stdout, stderr = main(
        f"run={runs[0]}", goals.replace("goals=", "figures="), "num_threads=1"
    )
    assert (code, sum(line.startswith("Goals") for line in stdout)) == (0, 1), stderr
    assert not any("side by side" in line for line in stdout)
    code, _, stderr = main(f"run=[{runs[0]},{runs[0]}]", goals, "num_threads=1")
    (line,) = [line for line in stderr if line.startswith("error: ")]
    assert (code, "both are called steex_smile_0, of seed None; goals are of one each" in line) == (
        2,
        True,
    )


@pytest.mark.parametrize("name", ["steex_report", "steex_faces_report", "vqa_report"])
def test_reports_have_goals_that_can_be_checked(name: str) -> None:
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = compose("evaluate", overrides=[f"+experiment={name}", "run=nowhere"])
    goals: Any = OmegaConf.to_container(config.goals)
    verdicts = compare({}, goals)
    assert len(verdicts) == len(goals) >= 10
    assert all(verdict.verdict.startswith("not given: ") for verdict in verdicts)
