"""What wandb gets of a run, offline; and the workspace that shows it."""

import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import wandb
from lightning.pytorch.loggers import WandbLogger
from omegaconf import OmegaConf
from PIL import Image

from cfexp.evaluation.report.sheet import card_pictures
from cfexp.evaluation.report.table import score_run
from cfexp.evaluation.run_folder import RunFolder
from cfexp.run.loggers import keep_wandb_within, log_results
from tests.evaluation.run_writer import painted, picture, record, square, write_run

SCRIPT = Path(__file__).parents[2] / "experiments" / "dashboards" / "make_workspace.py"
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


def test_what_wandb_gets_lies_in_the_runs_folder_which_may_be_moved(
    run: RunFolder, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing in the home, and nothing that is named by a whole path."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    for name in ("WANDB_DATA_DIR", "WANDB_CACHE_DIR"):  # put back at the end
        monkeypatch.setenv(name, "")
    monkeypatch.setattr("cfexp.run.loggers._GIVEN", set())
    monkeypatch.setenv("WANDB_MODE", "offline")
    keep_wandb_within(run.path)
    logger = WandbLogger(project="cfexp", save_dir=run.path)
    sheet = run.path / "sheet.png"
    Image.new("RGB", (40, 40)).save(sheet)
    log_results(logger, score_run(run), run, sheet)
    logger.experiment.finish()
    wandb.teardown()  # as at the end of a process: its own writes the file
    assert not [path for path in home.rglob("*") if path.is_file()]
    moved = run.path.rename(tmp_path_factory.mktemp("elsewhere") / "run")
    (folder,) = (moved / "wandb").glob("offline-run-*")
    media = [
        path.relative_to(folder / "files").as_posix()
        for path in (folder / "files" / "media").rglob("*.*")
    ]
    assert any(
        name.startswith("media/images/test/cards_") for name in media
    )  # one: these cards are alike
    assert any(name.startswith("media/images/test/counterfactuals_") for name in media)
    (table,) = [name for name in media if name.endswith(".html")]
    assert "flip_rate" in (folder / "files" / table).read_text()
    (log,) = folder.glob("*.wandb")
    written = log.read_bytes()
    # By their place within the run; not each, as the file is written in blocks, which may cut a
    # name in two.
    assert any(name.partition("/")[2].encode() in written for name in media)
    assert not [
        line
        for line in re.findall(rb"[ -~]+", written)
        if b"/artifacts/" in line or b"staging" in line
    ]


def test_cards_are_the_runs_own_pictures(run: RunFolder) -> None:
    pictures, captions = card_pictures(run, count=2)
    assert len(pictures) == len(captions) == 2
    assert pictures[0].width > 3 * picture().shape[1]  # query, counterfactual, difference
    assert (0, 0, 200) in {color for _, color in pictures[0].getcolors(maxcolors=100_000) or []}
    assert captions[0] == "Question 0? red -> blue (flipped; image 0)"


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
    kinds = (
        "LinePlot",
        "MediaBrowser",
        "ParallelCoordinatesPlot",
        "ParallelCoordinatesPlotColumn",
        "Config",
    )
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


def test_a_missing_package_is_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "wandb_workspaces", None)
    monkeypatch.setattr(sys, "argv", ["make_workspace.py", "--entity", "me"])
    with pytest.raises(SystemExit) as stopped:
        workspace_script().main()
    assert stopped.value.code == 2
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "pip install wandb-workspaces" in said
