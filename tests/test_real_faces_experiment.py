"""experiments/real_faces: its pairs as a data set of one's own, and its stages, without a photo and
without a training.
"""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from PIL import Image

from cfexp.data.own.data_set import OwnDataSet
from cfexp.run.configuration import register_resolvers
from cfexp.run.stage_names import compose_stage
from cfexp.worlds.face_names import MIRRORED_REGIONS, REGIONS

FOLDER = Path(__file__).parents[1] / "experiments" / "real_faces"


def script(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, FOLDER / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_pairs_become_a_data_set_of_ones_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pairs, source = script("pairs"), tmp_path / "source"
    monkeypatch.setattr(pairs, "TO_TRAIN", 3)
    for folder in ("images", "masks"):
        (source / folder).mkdir(parents=True)
    for name in "abcd":
        Image.new("RGB", (64, 64), (9, 9, 9)).save(source / "images" / f"{name}.jpg")
        values = np.arange(64 * 64, dtype=np.uint8).reshape(64, 64) % len(REGIONS)
        Image.fromarray(values).save(source / "masks" / f"{name}.png")
    pairs.main(source, tmp_path / "pairs")
    pairs.main(source, tmp_path / "pairs")  # and again, over what is there
    data = OwnDataSet(
        str(tmp_path / "pairs"), label=None, mapped_only=True, cache_dir=str(tmp_path / "cache")
    )
    assert [len(data.dataset(part)) for part in ("train", "val", "test")] == [3, 0, 1]
    assert (data.region_names, data.mirrored_regions) == (REGIONS, MIRRORED_REGIONS)
    assert np.array_equal(data.dataset("test")[0].label_map[0].numpy(), values)


@pytest.mark.parametrize(
    ("experiment", "stages"),
    [
        ("real_smile", "smile_decision autoencoder oracle layouts segmenter"),
        ("real_young", "decision autoencoder oracle layouts segmenter"),
        ("real_smile_dive", "smile_decision tcvae oracle layouts segmenter"),
        ("real_smile_pe", "smile_decision layouts segmenter"),
    ],
)
def test_all_stages_see_faces_in_the_segmenters_framing(experiment: str, stages: str) -> None:
    register_resolvers()
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        given = [f"+experiment={experiment}", "data.root=/celeba", "pairs_root=/pairs"]
        waiting, names = [compose("explain", overrides=given)], set()
        while waiting:
            config = waiting.pop()
            if config.data._target_.endswith("CelebADataModule"):
                assert config.data.crop == "celeba_hq"
                assert config.data.root == "/celeba"
            else:
                assert config.data.root == "/pairs"
            for requirement in config.requires.values():
                stage, name = compose_stage(requirement, config)
                names.add(name)
                waiting.append(stage)
    # What two of them need is one stage.
    needed = {f"real_faces_{name}" for name in stages.split()}
    assert {name.rpartition("-")[0] for name in names} == needed
    assert len(names) == len(needed)
