"""A further data set is one module and one config, here outside of cfexp, found by Hydra's search
path and Python's: doctor, training and explaining take it as it is.
"""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cfexp import doctor, explain
from cfexp.data.base import Part
from cfexp.data.label_maps.dataset import LabelMapRecord, PngLabelMaps
from cfexp.data.label_maps.module import LabelMapDataModule
from cfexp.evaluation.run_folder import RunFolder
from tests.commands import InProcess

# What a user writes: the class below, and these.
DATA = f"""
_target_: {__name__}.Shapes
root: ${{must_be_given:data.root}}
image_size: [16, 16]
seed: ${{seed}}
"""
DECISION = """
# @package _global_
defaults:
  - override /data: shapes
  - override /network: smooth_classifier
  - override /module: classifier
name: shapes_decision
trainer: {max_epochs: 6}
"""
EXPLAINED = """
# @package _global_
defaults:
  - override /data: shapes
  - override /explainer: pgd
name: shapes_pgd
decision: {label: bright, below: dark, above: bright}
checkpoints: {decision: null}
requires:
  decision: {experiment: shapes_decision, share: [data.image_size]}
"""
PARTS: tuple[Part, ...] = ("train", "val", "test")


class Shapes(LabelMapDataModule):
    """Squares that are brighter or darker than the ground, which a list tells apart."""

    region_names = ("ground", "square")
    class_names = ("bright",)
    fingerprint = "shapes"
    reader = PngLabelMaps([0, 1] + [255] * 254, unlabeled=0)

    def __init__(self, root: str, **settings: Any) -> None:
        super().__init__(**settings)
        self.root = Path(root)

    def records(self, part: Part) -> list[LabelMapRecord]:
        with (self.folder / "list.csv").open(encoding="utf-8") as lines:
            rows = [row for row in csv.DictReader(lines) if row["part"] == part]
        return [
            LabelMapRecord(
                row["name"],
                self.folder / f"{row['name']}.png",
                self.folder / f"{row['name']}_map.png",
                (float(row["bright"]),),
            )
            for row in rows
        ]


@pytest.fixture
def given(tmp_path: Path) -> list[str]:
    """The settings by which a command finds the configs and the files."""
    rng, lines = np.random.default_rng(0), ["name,part,bright"]
    (tmp_path / "set").mkdir()
    for k in range(56):
        image = rng.integers(60, 120, (16, 16, 3), dtype=np.uint8)
        label_map = np.zeros((16, 16), np.uint8)
        y, x = rng.integers(1, 7, 2)
        label_map[y : y + 8, x : x + 8] = 1
        image[label_map == 1] = 220 if k % 2 else 20
        Image.fromarray(image).save(tmp_path / f"set/{k}.png")
        Image.fromarray(label_map).save(tmp_path / f"set/{k}_map.png")
        lines.append(f"{k},{PARTS[(k >= 48) + (k >= 52)]},{k % 2}")
    (tmp_path / "set/list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    for name, text in {
        "data/shapes": DATA,
        "experiment/shapes_decision": DECISION,
        "experiment/shapes_pgd": EXPLAINED,
    }.items():
        path = tmp_path / f"conf/{name}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return [
        f"hydra.searchpath=[file://{tmp_path}/conf]",
        f"data.root={tmp_path}/set",
        f"cache_dir={tmp_path}/cache",
    ]


def test_the_doctor_opens_every_file_of_it(
    in_process: InProcess, tmp_path: Path, given: list[str]
) -> None:
    code, stdout, stderr = in_process(doctor.main, *given, "data=shapes")
    assert (code, stdout) == (
        0,
        [f"checked {tmp_path}/set (56 images): errors of 0 kinds, notes of 0"],
    )
    Image.new("L", (16, 16), 2).save(tmp_path / "set/50_map.png")
    code, stdout, stderr = in_process(doctor.main, *given, "data=shapes")
    assert code == 1, stderr
    assert "set/50_map.png: label id 2 is none of 0..1" in stdout[1]


def test_its_decision_model_is_trained_as_a_stage_and_explained(
    in_process: InProcess, tmp_path: Path, given: list[str]
) -> None:
    folder = tmp_path / "run"
    code, _, stderr = in_process(
        explain.main,
        *given,
        "+experiment=shapes_pgd",
        "explainer.num_steps=2",
        "num_threads=1",
        "logger=csv",
        f"hydra.run.dir={folder}",
    )
    assert code == 0, stderr
    run = RunFolder(folder)
    records = run.records()
    assert len(records) == 4
    assert [record["query_class"] for record in records] == [0, 1, 0, 1]
    shown = run.label_map(records[0]["key"])
    assert shown is not None
    assert set(np.unique(shown)) == {0, 1}
