import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from PIL import Image

from cfexp.data.streets.bdd100k import REGIONS, BDD100kDataModule
from cfexp.data.streets.bdd_oia import read_frames
from cfexp.errors import InputError
from cfexp.worlds.streets import StreetParameters

REAL = Path(__file__).parents[4] / "shared" / "real"
WORLD = StreetParameters(train_scenes=12, val_scenes=6)
Json = dict[str, Any]


def data_module(root: Path | None, **settings: Any) -> BDD100kDataModule:
    given = {"batch_size": 4, "eval_batch_size": 4, "holdout_images": 2, **settings}
    return BDD100kDataModule(None if root is None else str(root), **given)


def actions_of(root: Path, split: str = "train") -> Json:
    actions: Json = json.loads((root / f"{split}_25k_images_actions.json").read_text())
    return actions


def write_actions(root: Path, content: Any, split: str = "train") -> None:
    (root / f"{split}_25k_images_actions.json").write_text(json.dumps(content))


# The embedded streets


def test_the_embedded_streets_come_as_batches(world: Path) -> None:
    data = data_module(
        None, world={"train_scenes": 12, "val_scenes": 6}, cache_dir=str(world.parent)
    )
    assert data.folder == world
    data.prepare_data()
    data.setup("fit")
    assert [len(data.dataset("train")), len(data.dataset("val"))] == [10, 2]
    batch = next(iter(data.test_dataloader()))
    assert batch.image.shape == (4, 3, 64, 128)
    assert batch.label_map.shape == (4, 64, 128)
    assert batch.identity.tolist() == [-1] * 4
    assert batch.image_id == tuple(f"00000001-{k:08x}" for k in range(4))
    expected = [row["category"][:4] for row in actions_of(world, "val")["annotations"][:4]]
    assert batch.labels.tolist() == expected
    file = Image.open(world / "labels" / "sem_seg" / "masks" / "val" / "00000001-00000000.png")
    values = np.asarray(file).astype(np.int64)
    values[values == 255] = 19
    assert torch.equal(batch.label_map[0], torch.from_numpy(values))
    assert data.facts == {"num_regions": 20, "num_classes": 4, "height": 64, "width": 128}
    assert data.class_name(0) == "forward"
    assert data.fingerprint == f"streets-{WORLD.key}"
    assert [REGIONS[k] for k in (0, 6, 13, 19)] == ["road", "traffic_light", "car", "unlabeled"]


def test_fewer_queries_than_processes_are_allowed() -> None:
    """Lightning's constructor forbids it, whatever the class says."""
    assert data_module(None).allow_zero_length_dataloader_with_multiple_devices


def test_the_config_makes_the_data_module(tmp_path: Path) -> None:
    overrides = ["data=streets", f"cache_dir={tmp_path}", "seed=3", "data.image_size=[96,192]"]
    small = [
        "data.world.train_scenes=4",
        "data.world.val_scenes=2",
        "data.holdout_images=1",
        "data.batch_size=2",
    ]
    with initialize_config_dir(str(Path(__file__).parents[3] / "conf"), version_base="1.3"):
        data = instantiate(compose("train", overrides=overrides + small).data)
    assert data.world == StreetParameters(
        train_scenes=4, val_scenes=2, image_height=96, image_width=192
    )
    assert data.seed == 3
    assert next(iter(data.train_dataloader())).image.shape == (2, 3, 96, 192)


def test_an_image_is_described_with_its_reasons_and_truth(world: Path) -> None:
    data = data_module(world)
    described = data.describe(2)
    assert described["image_id"] == "00000001-00000002"
    scene = json.loads((world / "streets_truth_val.json").read_text())["scenes"][2]
    assert described["truth"] == scene
    assert described["labels"]["forward"] == int(scene["go"])
    assert len(described["reasons"]) == 21
    mask = data.truth_mask(2)
    assert mask is not None
    assert mask.sum() == sum(len(lamp["pixels"]) for lamp in scene["lamps"] if lamp["causal"])
    larger = data_module(world, image_size=(128, 256)).truth_mask(2)
    assert larger is not None
    assert (larger[::2, ::2] == mask).all()
    assert json.dumps(described)


def test_mirrored_streets_swap_left_and_right(world: Path) -> None:
    dataset = data_module(world).dataset("train")
    plain, mirrored = dataset[3], dataset[3 + len(dataset)]
    assert torch.equal(mirrored.image, plain.image.flip(3))
    assert mirrored.labels[0, [0, 1, 3, 2]].tolist() == plain.labels[0].tolist()


# Label maps of the files


def old_layout(root: Path) -> Path:
    """The same data set as the old `seg` package had it."""
    old = root / "old"
    for split in ("train", "val"):
        (old / "bdd100k" / "seg" / "images").mkdir(parents=True, exist_ok=True)
        shutil.copytree(root / "images" / "10k" / split, old / "bdd100k" / "seg" / "images" / split)
        labels = old / "bdd100k" / "seg" / "labels" / split
        labels.mkdir(parents=True)
        for mask in (root / "labels" / "sem_seg" / "masks" / split).iterdir():
            shutil.copy(mask, labels / f"{mask.stem}_train_id.png")
    return old


def test_the_old_layout_and_palette_masks_read_alike(root: Path) -> None:
    old = old_layout(root)
    for mask in (old / "bdd100k" / "seg" / "labels" / "val").iterdir():
        picture = Image.open(mask).convert("L")
        picture.putpalette([value for k in range(256) for value in (k, 255 - k, 7)])
        assert picture.mode == "P"
        picture.save(mask)
    current = next(iter(data_module(root).test_dataloader()))
    other = next(iter(data_module(old, oia_root=str(root)).test_dataloader()))
    assert all(torch.equal(*pair) for pair in zip(current[:4], other[:4], strict=True))
    assert current.image_id == other.image_id


def test_both_forms_of_bdd_oia_give_the_same_labels(root: Path) -> None:
    before = data_module(root)
    expected = [before.describe(k) for k in range(6)]
    frames = read_frames(root / "val_25k_images_actions.json")
    regrouped = {
        stem: {"actions": frame.actions, "reason": frame.reasons} for stem, frame in frames.items()
    }
    for path in root.glob("*_25k_*.json"):
        path.unlink()
    (root / "gt_4a_21r_val.json").write_text(json.dumps(regrouped))
    after = data_module(root)
    assert [after.describe(k) for k in range(6)] == expected


def test_labels_are_joined_by_name_and_position_and_confused_frames_dropped(root: Path) -> None:
    content = actions_of(root, "val")
    content["images"].reverse()  # an image keeps its annotation, at the position of its id
    content["annotations"][1]["category"] = [1, 1, 0, 0, 1]
    content["annotations"][2]["category"] = [
        0,
        0,
        0,
        0,
    ]  # four numbers, and all 0, are in the real files
    before = data_module(root).dataset("test").labels
    write_actions(root, content, "val")
    labels = data_module(root).dataset("test").labels
    assert labels[1].isnan().all()
    assert labels[2].tolist() == [0, 0, 0, 0]
    assert torch.equal(labels[[0, 3, 4, 5]], before[[0, 3, 4, 5]])
    assert data_module(root, require_labels=True).dataset("test").labels.shape == (5, 4)
    described = data_module(root).describe(1)
    assert described["labels"] == {"forward": None, "stop": None, "left": None, "right": None}


def test_without_bdd_oia_labels_are_unknown_unless_they_are_needed(root: Path) -> None:
    for path in root.glob("*_25k_*.json"):
        path.unlink()
    assert data_module(root).dataset("train").labels.isnan().all()
    for settings in (
        {"require_labels": True},
        {"source": "classification"},
        {"oia_root": str(root)},
    ):
        with pytest.raises(InputError, match="BDD-OIA not found in data"):
            data_module(root, **settings).dataset("train")


def test_the_images_of_bdd_oia_need_no_masks(root: Path) -> None:
    frames = root / "oia" / "lastframe" / "data"
    frames.mkdir(parents=True)
    for split in ("train", "val"):
        for image in (root / "images" / "10k" / split).iterdir():
            shutil.copy(image, frames)
        shutil.copy(root / f"{split}_25k_images_actions.json", root / "oia")
    data = data_module(None, oia_root=str(root / "oia"), source="classification")
    batch = next(iter(data.test_dataloader()))
    assert torch.equal(batch.labels, next(iter(data_module(root).test_dataloader())).labels)
    assert (batch.label_map == 19).all()
    assert len(data.dataset("train")) == 10
    next(frames.iterdir()).unlink()
    data = data_module(root, oia_root=str(root / "oia"), source="classification")
    with pytest.raises(InputError, match="the image of an action is no file there"):
        data.setup()


def test_predicted_masks_take_the_place_of_the_true_ones(root: Path) -> None:
    folder = root / "predicted"
    folder.mkdir()
    for k in range(6):
        Image.fromarray(np.full((64, 128), k if k < 5 else 19, dtype=np.uint8)).save(
            folder / f"00000001-{k:08x}.png"
        )
    dataset = data_module(root, layouts=str(folder)).dataset("test")
    assert [int(dataset[k].label_map.max()) for k in range(6)] == [0, 1, 2, 3, 4, 19]
    assert (data_module(root, layouts="none").dataset("test")[0].label_map == 19).all()
    (folder / "00000001-00000003.png").unlink()
    (folder / "00000001-00000004.png").unlink()
    with pytest.raises(
        InputError,
        match=r"00000001-00000003.png: the mask of an image is no file there \(nor are 1",
    ):
        data_module(root, layouts=str(folder)).dataset("test")
    skipping = data_module(root, layouts=str(folder), on_bad_sample="skip").test_dataloader()
    assert sum(len(batch.image_id) for batch in skipping) == 4


def test_the_fingerprint_knows_files_and_labels(root: Path) -> None:
    first = data_module(root).fingerprint
    assert data_module(root).fingerprint == first
    assert len(first) == 12
    content = actions_of(root)
    content["annotations"][0]["category"] = [0, 0, 0, 0, 0]
    write_actions(root, content)
    second = data_module(root).fingerprint
    (root / "images" / "10k" / "val" / "00000001-00000000.jpg").write_bytes(b"")
    assert len({first, second, data_module(root).fingerprint}) == 3


# The real pieces


@pytest.mark.skipif(
    not (REAL / "bdd100k").is_dir(), reason="the real pieces of BDD100k are not here"
)
def test_real_frames_of_bdd100k() -> None:
    data = data_module(REAL / "bdd100k", image_size=(256, 512))
    assert [len(data.dataset("train")), len(data.dataset("val"))] == [14, 2]
    batch = next(iter(data.train_dataloader()))
    assert batch.image.shape == (4, 3, 256, 512)
    assert batch.labels.isnan().all()
    regions = {
        int(value)
        for k in range(14)
        for value in np.unique(data.dataset("train")[k].label_map.numpy())
    }
    assert {0, 2, 8, 10, 13, 19} <= regions <= set(range(20))
    with pytest.raises(InputError, match="BDD100k not found"):
        data.dataset("test")  # the pieces hold the train split only
    assert len(data.fingerprint) == 12


@pytest.mark.skipif(not (REAL / "bdd_oia").is_dir(), reason="the real piece of BDD-OIA is not here")
def test_real_actions_of_bdd_oia() -> None:
    frames = read_frames(REAL / "bdd_oia" / "gt_4a_21r_val.json")
    assert len(frames) == 1117
    actions = np.array([frame.actions for frame in frames.values()])
    assert actions.sum(0).tolist() == [405, 688, 213, 242]
    why = np.array([frame.reasons for frame in frames.values()])
    # Which reasons are for which action, as the embedded streets write them.
    assert actions[why[:, :3].any(1), 0].mean() > 0.99
    assert actions[why[:, 3:9].any(1), 1].mean() > 0.98
    assert actions[why[:, 15:18].any(1), 2].mean() < 0.05
    assert actions[why[:, 18:].any(1), 3].mean() < 0.05


def test_a_split_of_the_embedded_streets_is_drawn_when_it_is_read(tmp_path: Path) -> None:
    world = {"train_scenes": 3, "val_scenes": 2}
    data = BDD100kDataModule(world=world, cache_dir=str(tmp_path), holdout_images=1)
    data.prepare_data()
    assert not list(tmp_path.glob("streets*"))
    data.setup("predict")
    assert data.describe(0)["truth"]["file_name"] == "00000001-00000000.jpg"
    assert [path.name.split("-")[0] for path in tmp_path.glob("streets*")] == ["streets_val"]
    assert len(data.records("train")) == 2
    (train,) = tmp_path.glob("streets_train-*")
    assert not (train / "images" / "10k" / "val").exists()
    assert {record.labels for record in data.records("train")} != {(float("nan"),) * 4}
    # A world that is there as a whole is read as it is.
    whole = data.folder
    again = BDD100kDataModule(world=world, cache_dir=str(tmp_path), holdout_images=1)
    assert [each.image.parents[3] for each in again.records("test")] == [whole] * 2
    for ours, theirs in zip(data.records("test"), again.records("test"), strict=True):
        assert ours.image.read_bytes() == theirs.image.read_bytes()
        assert ours.labels == theirs.labels
