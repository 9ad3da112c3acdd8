"""The photographs that are shipped, and the weights that explain them."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import safetensors
from hydra import compose, initialize_config_module
from omegaconf import DictConfig
from PIL import Image

import cfexp
from cfexp import explain, load_explainer
from cfexp.data.converters.traffic_lights import REGIONS
from cfexp.evaluation.run_folder import RunFolder
from cfexp.run import stages
from cfexp.run.own_data import fill_in_from_data
from cfexp.run.stage_names import stage_config
from tests.commands import InProcess

SAMPLE = Path(cfexp.__file__).parent / "samples" / "traffic_lights"
STAGES = ("decision", "autoencoder", "segmenter")


def test_the_photographs_are_whole_and_say_whose_they_are() -> None:
    with (SAMPLE / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 12
    assert {row["state"] for row in rows} == {"red", "green"}
    assert {row["part"] for row in rows} == {"test"}
    for row in rows:
        image = Image.open(SAMPLE / "images" / row["file"])
        regions = np.asarray(Image.open(SAMPLE / "label_maps" / row["file"]))
        assert (image.mode, image.size, regions.shape) == ("RGB", (64, 64), (64, 64))
        assert set(np.unique(regions)) == set(range(len(REGIONS)))
    for kind in ("images", "label_maps"):
        assert {path.name for path in (SAMPLE / kind).iterdir()} == {row["file"] for row in rows}
    attribution = (SAMPLE / "ATTRIBUTION.txt").read_text(encoding="utf-8")
    assert all(each in attribution for each in ("Wawan Pradana", "CC BY 4.0", "Changed"))


def test_the_weights_are_small_and_say_what_made_them() -> None:
    paths = {path.stem: path for path in SAMPLE.glob("*.safetensors")}
    assert set(paths) == set(STAGES)
    assert sum(path.stat().st_size for path in paths.values()) <= 4e6
    for path in paths.values():
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata()
        assert metadata["command"] == "make real-traffic-lights"
        assert json.loads(metadata["test_figures"])


def test_a_photograph_is_explained_by_its_regions() -> None:
    explainer = load_explainer("real_traffic_lights", ["explainer.num_steps=12"])
    assert tuple(explainer.region_names) == REGIONS
    name = min(path.name for path in (SAMPLE / "images").iterdir())
    label_map = SAMPLE / "label_maps" / name
    explained = explainer.explain(SAMPLE / "images" / name, label_map, regions=["lamp", "housing"])
    assert (explained.before, tuple(explained.success.tolist())) == (("green",), (True,))
    still, *moved = explained.extras["region_change"][0].tolist()
    assert still == 0
    assert min(moved) > 0
    outside = np.asarray(Image.open(label_map)) == 0
    change = (explained.counterfactual - explained.reconstruction)[0].abs().mean(0).numpy()
    assert change[outside].mean() < change[~outside].mean()


def test_the_guarded_decision_model_is_trained_with_the_autoencoder_that_explains(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = {}

    def made(name: str, requirement: DictConfig, config: DictConfig) -> Path:
        asked[name] = stage_config(requirement, config)
        return tmp_path / name

    monkeypatch.setattr(stages, "_trained_stage", made)
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        again = ["checkpoints.autoencoder=null", "checkpoints.decision=null"]
        guarded = "requires.decision.experiment=real_guarded_decision"
        config = compose("explain", overrides=["+experiment=real_traffic_lights", *again, guarded])
        fill_in_from_data(config, say=False)
        stages.provide_stages(config)
    assert list(asked) == ["autoencoder", "decision"]  # one that shares a checkpoint after it
    assert asked["decision"].checkpoints.autoencoder == str(tmp_path / "autoencoder")
    adversary = asked["decision"].module.region_adversary
    assert adversary.autoencoder.checkpoint == str(tmp_path / "autoencoder")
    assert adversary.autoencoder.network.cells == ["4x4", "4x2", "1x1"]


@pytest.mark.slow
def test_the_demo_explains_all_and_a_photograph_of_ones_own(
    in_process: InProcess, tmp_path: Path
) -> None:
    given = ["+experiment=real_traffic_lights", "num_threads=1", "logger=csv"]
    code, _, stderr = in_process(explain.main, *given, f"hydra.run.dir={tmp_path / 'demo'}")
    assert code == 0, stderr
    records = RunFolder(tmp_path / "demo").records()
    assert len(records) == 12
    assert sum(record["stored_success"] for record in records) >= 11
    photograph = tmp_path / "mine.jpg"
    name = min(path for path in (SAMPLE / "images").iterdir())
    Image.open(name).resize((200, 200)).save(photograph)
    code, stdout, stderr = in_process(
        explain.main, *given, f"image={photograph}", f"hydra.run.dir={tmp_path / 'own'}"
    )
    assert code == 0, stderr
    assert "mine: green -> red" in "\n".join(stdout)
