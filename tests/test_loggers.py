"""What wandb gets of a run, offline; and the workspace that shows it."""

import importlib.util
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from lightning.pytorch.loggers import WandbLogger
from omegaconf import OmegaConf
from PIL import Image

from cfexp.evaluation.gallery import card_table
from cfexp.evaluation.run_folder import RunFolder
from cfexp.evaluation.table import score_run
from cfexp.loggers import log_results
from tests.evaluation.run_writer import painted, picture, record, square, write_run

SCRIPT = Path(__file__).parents[1] / "experiments" / "dashboards" / "make_workspace.py"
OBJECT = square(4, 4)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    known = (record(key, "red", "blue", truth="red", image_id=key) for key in range(3))
    written = [(each, picture(), painted(picture(), OBJECT, (0, 0, 200)), OBJECT) for each in known]
    OmegaConf.save(OmegaConf.create({"explainer": {"l2_weight": 0.3}}), tmp_path / "config.yaml")
    return write_run(tmp_path, written)


@pytest.fixture
def logger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[WandbLogger]:
    monkeypatch.setenv("WANDB_MODE", "offline")
    logger = WandbLogger(project="cfexp", save_dir=tmp_path)
    yield logger
    logger.experiment.finish()


def test_wandb_has_what_a_sweep_is_compared_by(run: RunFolder, logger: WandbLogger) -> None:
    sheet = run.path / "sheet.png"
    Image.new("RGB", (40, 40)).save(sheet)
    scores = score_run(run)
    log_results(logger, scores, run, sheet)
    assert logger.experiment.config["explainer"]["l2_weight"] == 0.3
    summary = logger.experiment.summary
    assert summary["test/what color/flip_rate"] == 100
    assert summary["test/what color/rms_change"] > 0
    (folder,) = (run.path / "wandb").glob("offline-run-*/files/media")
    (table,) = (folder / "table" / "test").glob("cards_*.json")  # its pictures travel as an artifact of their own
    content = json.loads(table.read_text())
    assert content["columns"] == card_table(run)[0]
    (figures,) = (folder / "table" / "test").glob("table_*.json")
    lows = {row[1]: row[4] for row in json.loads(figures.read_text())["data"]}
    assert lows["flip_rate"] == pytest.approx(43.85, abs=0.01)
    assert lows["rms_change"] is None  # all three edits are one: no interval
    images = [cell for row in content["data"] for cell in row if cell == "Image"]
    assert len(images) == 3 * 3  # query, counterfactual, difference


def test_cards_are_the_runs_own_pictures(run: RunFolder) -> None:
    columns, rows = card_table(run, count=2)
    assert [len(row) for row in rows] == [len(columns)] * 2
    card = dict(zip(columns, rows[0], strict=True))
    assert (card["key"], card["about"], card["before"], card["after"]) == (0, "Question 0?", "red", "blue")
    assert card["counterfactual"].getpixel((5, 5)) == (0, 0, 200)
    assert card["outcome"] == "flipped"


def workspace_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_workspace", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def recorder(name: str) -> Any:
    """Stands for a class of wandb-workspaces: keeps what it is given."""
    return lambda *values, **settings: SimpleNamespace(kind=name, values=values, **settings)


def test_the_workspace_has_an_axis_for_each_setting_and_figure() -> None:
    script = workspace_script()
    ws = SimpleNamespace(Section=recorder("Section"))
    kinds = ("LinePlot", "MediaBrowser", "ParallelCoordinatesPlot", "ParallelCoordinatesPlotColumn", "Config")
    wr = SimpleNamespace(**{kind: recorder(kind) for kind in (*kinds, "SummaryMetric")})
    sweeps, _, shown = script.sections(ws, wr)
    for panel, (settings, figures) in zip(sweeps.panels, (script.VQA, script.STEEX), strict=True):
        assert [column.metric.values[0] for column in panel.columns] == settings + figures
    assert ["test/cards"] in [panel.media_keys for panel in shown.panels]


def test_the_axes_are_settings_that_there_are(run: RunFolder) -> None:
    explainers = SCRIPT.parents[2] / "conf" / "explainer"
    script = workspace_script()
    for name, (settings, figures) in (("vqa_gan", script.VQA), ("steex", script.STEEX)):
        config = OmegaConf.load(explainers / f"{name}.yaml")
        for setting in settings:
            assert setting.removeprefix("explainer.") in config
        assert len(figures) >= 4
    known = {f"test/{row.group}/{row.metric}" for row in score_run(run).rows}
    assert set(script.VQA[1]) <= known


def test_a_missing_package_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setattr(sys, "argv", ["make_workspace.py", "--entity", "me"])
    with pytest.raises(SystemExit) as stopped:
        workspace_script().main()
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install wandb-workspaces" in said
