"""The judges that a user gives to `python -m cfexp.evaluate`, from files to the table."""

from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from omegaconf import OmegaConf
from torch import nn

from cfexp import evaluate
from cfexp.evaluation.measure.base import Measure
from tests.commands import InProcess, Main
from tests.evaluation.run_writer import picture, write_run

NETWORK = {"_target_": f"{__name__}.Attributes"}
NAMES = ["Male", "Smiling", "Young"]
LIGHT, DARK = (200, 200, 200), (50, 60, 90)


class Attributes(nn.Module):
    """An attribute a channel: there where it is bright. As a decision model it has three heads."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        means: torch.Tensor = self.norm(images).mean((2, 3))
        return means

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return 20 * self.features(images)


@pytest.fixture
def main(in_process: InProcess, monkeypatch: pytest.MonkeyPatch) -> Main:
    """Runs `python -m cfexp.evaluate ARGUMENTS` within this process."""
    monkeypatch.setenv("COLUMNS", "160")
    return partial(in_process, evaluate.main)


@pytest.fixture
def oracle(tmp_path: Path) -> Path:
    """The folder of a stage, with its checkpoint and config."""
    folder = tmp_path / "stage"
    folder.mkdir()
    torch.save(Attributes().state_dict(), folder / "model.ckpt")
    OmegaConf.save({"network": NETWORK, "data": {"attributes": NAMES}}, folder / "config.yaml")
    return folder / "model.ckpt"


@pytest.fixture
def run(tmp_path: Path, oracle: Path) -> Path:
    """Three searches on faces: in the first two all three attributes turn on, in the last one none
    does.
    """
    folder = tmp_path / "run"
    known: dict[str, Any] = {
        "query_class": 0,
        "counter_class": 1,
        "reconstruction_class": 0,
        "flip_step": 3,
    }
    known |= {"answer_before": "not smiling", "answer_after": "smiling"}
    known |= {
        "code_distance": 1.0,
        "region_change": [1.0],
        "success": True,
        "stored_success": True,
        "stored_class": 1,
    }
    rows = [
        ({**known, "key": key, "image_id": f"{key}"}, picture(DARK), picture(shown), None)
        for key, shown in enumerate((LIGHT, LIGHT, DARK))
    ]
    write_run(folder, rows, data={"region_names": ["skin"]})
    loader = {
        "_target_": "cfexp.models.loading.pretrained.load_network",
        "network": NETWORK,
        "checkpoint": str(oracle),
    }
    explainer = {"decision_model": loader, "head": 1}
    OmegaConf.save(
        {"name": "faces", "label": "Smiling", "explainer": explainer}, folder / "config.yaml"
    )
    return folder


def test_judges_from_files_to_the_table(main: Main, run: Path, oracle: Path) -> None:
    code, stdout, stderr = main(
        f"run={run}", f"+checkpoints.oracle={oracle}", f"+checkpoints.identity={oracle}",
        "mnac_published=true", "cout=true", "num_threads=1",
    )  # fmt: skip
    assert code == 0, stderr
    rows = pd.read_csv(run / "metrics.csv").set_index(["group", "metric"]).loc["all"]
    assert rows.loc["mnac", "value"] == 2
    assert rows.loc["mnac", "n"] == 3
    assert rows.loc["mnac_reconstruction", "value"] == 0
    assert rows.loc["oracle_frechet", "value"] > 0.1
    assert rows.loc["oracle_frechet_reconstruction", "value"] == pytest.approx(0, abs=1e-9)
    # Batch statistics of a pair put its two pictures at opposite sides, and equal ones both at 0.
    assert rows.loc["mnac_published", "value"] == 2
    assert rows.loc["identity_similarity_reconstruction", "value"] == 1
    assert -1 <= rows.loc["cout", "value"] < 1
    assert rows.loc["cout_reconstruction", "value"] == pytest.approx(-1, abs=1e-3)
    assert "cd" in rows.index
    missing = [line for line in stdout if line.startswith("not computed:")]
    assert any(
        "fid, kid" in line and "(no +checkpoints.inception=PATH)" in line for line in missing
    )
    assert any(
        "fva, face_similarity (no +checkpoints.face_verification=PATH)" in line for line in missing
    )
    assert not any("mnac" in line for line in missing)
    assert any(line.strip().startswith("mnac of 3") for line in stdout)


def test_what_is_missing_depends_on_the_pictures(main: Main, run: Path) -> None:
    (run / "data.json").write_text('{"region_names": ["road"]}')
    code, stdout, stderr = main(f"run={run}", "num_threads=1")
    assert code == 0, stderr
    missing = " ".join(line for line in stdout if line.startswith("not computed:"))
    assert "fid, kid" in missing
    assert "cout (needs cout=true)" in missing
    assert "fva" not in missing


def test_measures_are_changed_left_out_and_added_by_config(
    main: Main, run: Path, tmp_path: Path
) -> None:
    own = tmp_path / "conf" / "measure"
    own.mkdir(parents=True)
    (own / "redness.yaml").write_text(
        f"# @package measure.redness\n_target_: {__name__}.redness\nscale: 2\n"
    )
    # A file that a measure needs is no VQA model that judges transfer.
    judge = f"redness: {{_target_: {__name__}.Attributes}}\nneeds: checkpoints.mine\n"
    (own / "mine.yaml").write_text(f"# @package measure.mine\n_target_: {__name__}.mine\n{judge}")
    code, _, stderr = main(
        f"run={run}", "+checkpoints.mine=there", f"hydra.searchpath=[file://{tmp_path}/conf]",
        "+measure=[redness,mine]", "measure.redness.scale=3", "+measure.pixels=null",
        "num_threads=1",
    )  # fmt: skip
    assert code == 0, stderr
    rows = pd.read_csv(run / "metrics.csv").set_index(["group", "metric"]).loc["all"]
    assert rows.loc["redness", "value"] == pytest.approx(3 * (200 + 200 + 50) / 3)
    assert rows.loc["mine", "n"] == 3
    assert "ssim" not in rows.index
    assert "flip_rate" in rows.index


def mine(redness: Attributes) -> Measure:
    return Measure("mine", lambda chunk: redness.features(chunk.made)[:, 0])


def redness(scale: float) -> Measure:
    return Measure("redness", lambda chunk: scale * (chunk.made[:, 0].mean((1, 2)) + 1) * 127.5)


def test_a_network_is_that_of_the_stage_that_trains_it(main: Main, run: Path) -> None:
    # Shipped weights have no config beside them.
    code, _, stderr = main(
        f"run={run}", "+requires.identity.experiment=face_identity", "num_threads=1"
    )
    assert code == 0, stderr
    rows = pd.read_csv(run / "metrics.csv").set_index(["group", "metric"]).loc["all"]
    assert rows.loc["identity_similarity_reconstruction", "value"] == pytest.approx(1, abs=1e-5)
    assert -1 <= rows.loc["identity_similarity", "value"] < 1


@pytest.mark.parametrize(
    ("override", "problem"),
    [
        (
            "+measure.sdif.splits=3",
            "measure.sdif is no measure, for it has no _target_; there are ",
        ),
        (
            "+measure.pixels.splits=3",
            "measure.pixels: measures() got an unexpected keyword argument 'splits'",
        ),
        ("+checkpoints.inception=nowhere.pth", "no checkpoint at nowhere.pth"),
        ("+checkpoints.face_verification=nowhere.pth", "no checkpoint at nowhere.pth"),
        ("+checkpoints.lpips=nowhere.pth", "no checkpoint at nowhere.pth"),
        ("+checkpoints.self_supervised=nowhere.pth", "no checkpoint at nowhere.pth"),
        ("+checkpoints.oracle=nowhere.ckpt", "nowhere.ckpt has no config.yaml beside it"),
        (
            "oracle_network={_target_: torch.nn.Identity}",
            "oracle_network is given, its weights are not",
        ),
    ],
)
def test_what_a_user_has_wrong_is_one_line(
    main: Main, run: Path, override: str, problem: str
) -> None:
    code, _, stderr = main(f"run={run}", override, "num_threads=1")
    (line,) = [line for line in stderr if line.startswith("error: ")]
    assert code == 2
    assert problem in line
