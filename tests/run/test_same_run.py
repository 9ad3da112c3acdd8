"""Whether a run may go on in a folder: by the settings that make a difference."""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from omegaconf import DictConfig, OmegaConf, open_dict

from cfexp.data.streets.bdd100k import BDD100kDataModule
from cfexp.errors import InputError
from cfexp.models.loading.pretrained import file_hash
from cfexp.run.same_run import refuse_other_run
from cfexp.worlds.streets import StreetParameters, cached_streets


@pytest.fixture
def config(tmp_path: Path) -> DictConfig:
    """What a user asks for: not resolved, the facts not known."""
    (tmp_path / "decision.ckpt").write_bytes(b"weights")
    content: dict[str, Any] = {
        **{
            "name": "steex",
            "seed": 0,
            "facts": {},
            "folder": None,
            "num_threads": 2,
            "requires": {"decision": {}},
        },
        "checkpoints": {"decision": str(tmp_path / "decision.ckpt")},
        "network": {"regions": "${facts.num_regions}", "widths": [4, 8]},
        "data": {"root": None, "eval_batch_size": 8},
        "trainer": {"devices": 1, "precision": "32-true"},
        "explainer": {
            "regions": None,
            "checkpoint": "${checkpoints.decision}",
            "network": "${network}",
        },
    }
    config = OmegaConf.create(content)
    OmegaConf.set_struct(config, True)
    return config


@pytest.fixture
def run(config: DictConfig, tmp_path: Path) -> Path:
    """What a run of it has left."""
    folder = tmp_path / "run"
    folder.mkdir()
    made = OmegaConf.merge(config, {"facts": {}})
    OmegaConf.set_struct(made, False)
    made.facts, made.folder = {"num_regions": 20}, str(folder)
    OmegaConf.save(made, folder / "config.yaml", resolve=True)
    checkpoints = {
        name: {"path": path, "sha256": file_hash(path)} for name, path in config.checkpoints.items()
    }
    (folder / "provenance.json").write_text(json.dumps({"checkpoints": checkpoints}))
    (folder / "checkpoints").mkdir()
    return folder


def test_the_same_command_goes_on(config: DictConfig, run: Path, tmp_path: Path) -> None:
    before = OmegaConf.to_yaml(config)
    refuse_other_run(config, run)
    refuse_other_run(config, tmp_path / "nothing yet")
    assert OmegaConf.to_yaml(config) == before  # as it was asked: filled in later


def test_what_makes_no_difference_may_differ(config: DictConfig, run: Path, tmp_path: Path) -> None:
    config.num_threads, config.data.eval_batch_size, config.trainer.devices = 1, 64, 2
    config.checkpoints.decision = shutil.copy(tmp_path / "decision.ckpt", tmp_path / "moved.ckpt")
    refuse_other_run(config, run)


def test_a_run_that_has_made_nothing_is_in_nobodys_way(config: DictConfig, run: Path) -> None:
    (run / "checkpoints").rmdir()
    config.seed = 1
    refuse_other_run(config, run)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("explainer.regions", ["car"], r"explainer.regions=\['car'\] instead of None"),
        ("network.widths", [4, 9], r"explainer.network.widths=\[4, 9\] instead of \[4, 8\]"),
        ("data.root", "/x", "data.root=/x instead of None"),
        ("trainer.precision", "bf16-true", "trainer.precision=bf16-true instead of 32-true"),
        ("seed", 1, "seed=1 instead of 0"),
    ],
)
def test_another_config_is_refused_with_the_difference(
    config: DictConfig, run: Path, key: str, value: Any, message: str
) -> None:
    OmegaConf.update(config, key, value)
    with pytest.raises(
        InputError,
        match=f"run holds a run of another config: {message}. Remove it, or choose another",
    ):
        refuse_other_run(config, run)


def test_other_weights_are_another_config(config: DictConfig, run: Path, tmp_path: Path) -> None:
    was = file_hash(tmp_path / "decision.ckpt")
    (tmp_path / "decision.ckpt").write_bytes(b"other weights")
    with pytest.raises(
        InputError, match=rf"checkpoints.decision of SHA-256 [0-9a-f]{{12}}... instead of {was}..."
    ):
        refuse_other_run(config, run)


def test_three_differences_are_enough(config: DictConfig, run: Path) -> None:
    config.seed, config.trainer.precision, config.data.root, config.network.widths = (
        1,
        "64-true",
        "/x",
        [1],
    )
    three = "seed=1 instead of 0; data.root=/x instead of None; trainer.precision=.*"
    with pytest.raises(InputError, match=rf"{three}; \.\.\.\. Remove"):
        refuse_other_run(config, run)


def test_a_data_set_that_was_moved_is_the_same(
    config: DictConfig, run: Path, tmp_path: Path
) -> None:
    """Neither how its path is written counts nor where it lies, if it is gone from where it was."""
    world = StreetParameters(train_scenes=3, val_scenes=2)
    root = cached_streets(world, tmp_path).rename(tmp_path / "streets")
    data: dict[str, Any] = {
        "root": str(root),
        "image_size": [64, 128],
        "cache_dir": str(tmp_path),
        "holdout_images": 1,
    }
    fingerprint = BDD100kDataModule(**data).fingerprint
    data["_target_"] = "cfexp.data.streets.bdd100k.BDD100kDataModule"
    with open_dict(config):
        config.data = data
    made = OmegaConf.load(run / "config.yaml")
    made.data = data
    OmegaConf.save(made, run / "config.yaml")
    provenance = json.loads((run / "provenance.json").read_text())
    provenance["data_fingerprint"] = fingerprint
    (run / "provenance.json").write_text(json.dumps(provenance))
    config.data.root = f"{tmp_path}/x/../streets/"
    (tmp_path / "x").mkdir()
    refuse_other_run(config, run)
    copy = shutil.copytree(root, tmp_path / "copy")
    config.data.root = str(copy)
    with pytest.raises(
        InputError, match=r"data.root=\S+copy instead of \S+streets"
    ):  # which may differ in an image
        refuse_other_run(config, run)
    shutil.rmtree(root)
    refuse_other_run(config, run)
    next((copy / "images").rglob("*.jpg")).write_bytes(b"another")
    with pytest.raises(InputError, match=r"data.root=\S+copy instead of \S+streets"):
        refuse_other_run(config, run)
