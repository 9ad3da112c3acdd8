"""CelebA's aligned images as batches: the embedded faces, the real pieces, a zip, and damage in one
line.
"""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cfexp.data.faces.celeba import CelebADataModule
from cfexp.errors import InputError
from cfexp.worlds.faces import FaceParameters, cached_aligned_faces
from tests.data.damage import as_folder, cut

ROOT = Path(__file__).parents[3]
REAL = ROOT.parent / "shared" / "real" / "CelebA"
WORLD = FaceParameters(faces=40)
PARTITION = "list_eval_partition.txt"
Damage = Callable[[Path], object]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cached_aligned_faces(WORLD, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def zipped(root: Path) -> Path:
    with zipfile.ZipFile(root / "img_align_celeba.zip", "w") as archive:
        archive.mkdir("img_align_celeba")
        for path in sorted((root / "img_align_celeba").iterdir()):
            archive.write(path, f"img_align_celeba/{path.name}")
    shutil.rmtree(root / "img_align_celeba")
    return root


def module(root: Path | None, **settings: Any) -> CelebADataModule:
    return CelebADataModule(None if root is None else str(root), **{"batch_size": 4, **settings})


def test_embedded_faces_come_as_batches(world: Path) -> None:
    data = module(None, cache_dir=str(world.parent), world=WORLD)
    data.setup()
    assert data.folder == world
    lines = {
        line.split()[0]: line.split()[1:]
        for line in (world / "list_attr_celeba.txt").read_text().splitlines()[2:]
    }
    partition = dict(line.split() for line in (world / PARTITION).read_text().splitlines())
    identity = dict(
        line.split() for line in (world / "identity_CelebA.txt").read_text().splitlines()
    )
    for value, part in enumerate(("train", "val", "test")):
        dataset = data.dataset(part)  # type: ignore[arg-type]
        assert [f"{record.image_id}.jpg" for record in dataset.records] == [
            name for name in sorted(partition) if partition[name] == str(value)
        ]
        batch = dataset.__getitems__(range(len(dataset)))[0]
        assert batch.image.shape == (len(dataset), 3, 128, 128)
        assert batch.label_map.eq(0).all()
        for row, name in enumerate(batch.image_id):
            assert batch.labels[row].tolist() == [
                float(lines[f"{name}.jpg"][k] == "1") for k in (20, 31, 39)
            ]
            assert batch.identity[row] == int(identity[f"{name}.jpg"])
            truth = data.truth(name)
            assert truth is not None
            assert truth["young"] == bool(batch.labels[row, 2])


def test_the_centred_square_is_cropped_and_resized_bicubically(world: Path) -> None:
    """As torchvision's CenterCrop(150), Resize(128, BICUBIC) on PIL images."""
    from torchvision.transforms import CenterCrop, InterpolationMode, Resize

    from cfexp import _torchvision  # noqa: F401

    batch = next(iter(module(world).test_dataloader()))
    for row, name in enumerate(batch.image_id):
        picture = Image.open(world / "img_align_celeba" / f"{name}.jpg")
        expected = Resize((128, 128), InterpolationMode.BICUBIC)(CenterCrop(150)(picture))
        np.testing.assert_allclose(
            (batch.image[row].permute(1, 2, 0) + 1) * 127.5, np.asarray(expected), atol=1e-3
        )
    framed = next(iter(module(world, crop="celeba_hq").test_dataloader()))
    square = Image.open(world / "img_align_celeba" / f"{framed.image_id[0]}.jpg")
    expected = square.crop((12, 39, 166, 193)).resize((128, 128), Image.Resampling.BICUBIC)
    np.testing.assert_allclose(
        (framed.image[0].permute(1, 2, 0) + 1) * 127.5, np.asarray(expected), atol=1e-3
    )
    whole = next(iter(module(world, crop=None, image_size=(218, 178)).test_dataloader()))
    assert whole.image.shape[2:] == (218, 178)


def test_a_zip_gives_the_same_as_its_folder(world: Path, zipped: Path) -> None:
    folder, archive = module(world), module(zipped, num_workers=2)
    archive.setup()
    _ = archive.dataset("test")[0]  # opened here before the workers are forked
    for one, other in zip(folder.test_dataloader(), archive.test_dataloader(), strict=True):
        assert one.image_id == other.image_id
        assert torch.equal(one.image, other.image)


def test_predicted_label_maps_are_read(world: Path, tmp_path: Path) -> None:
    for record in (
        record for part in ("train", "val", "test") for record in module(world).records(part)
    ):
        label_map = np.zeros((128, 128), dtype=np.uint8)
        label_map[64:] = 13
        Image.fromarray(label_map).save(tmp_path / f"{record.image_id}.png")
    data = module(world, layouts=str(tmp_path))
    batch = next(iter(data.test_dataloader()))
    assert batch.label_map[:, :64].eq(0).all()
    assert batch.label_map[:, 64:].eq(13).all()
    # With mouth and lips as one region, the 17 that are left are numbered without a gap.
    merged = module(world, layouts=str(tmp_path), one_mouth=True, horizontal_flip=0)
    assert (merged.facts["num_regions"], merged.region_names[11]) == (17, "hair")
    assert next(iter(merged.test_dataloader())).label_map[:, 64:].eq(11).all()
    for lip in (10, 11, 12):
        Image.new("L", (128, 128), lip).save(tmp_path / f"{batch.image_id[0]}.png")
        assert next(iter(merged.test_dataloader())).label_map[0].eq(10).all()
    Image.new("L", (128, 128), 19).save(tmp_path / f"{batch.image_id[0]}.png")
    with pytest.raises(InputError, match=r"label id 19 is none of 0\.\.18"):
        next(iter(data.test_dataloader()))


def edited(old: str, new: str) -> Damage:
    def damage(path: Path) -> None:
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return damage


def first_row_gone(path: Path) -> None:
    path.write_text(path.read_text().partition("\n")[2])


def one_image(change: Callable[[Path], object]) -> Damage:
    """Damage to the last image, which is of the test part."""
    return lambda folder: change(sorted(folder.iterdir())[-1])


def scribbled(path: Path) -> None:
    """Change bytes within the members and leave the directory at the end alone."""
    content = bytearray(path.read_bytes())
    middle = len(content) * 3 // 4
    content[100:middle] = b"\x55" * (middle - 100)
    path.write_bytes(bytes(content))


FOLDER_DAMAGE: dict[str, tuple[str, Damage, str]] = {
    "no images": ("img_align_celeba", shutil.rmtree, "CelebA not found in data.root="),
    "no attributes": ("list_attr_celeba.txt", Path.unlink, "CelebA not found in data.root="),
    "no partition": (PARTITION, Path.unlink, "CelebA not found in data.root="),
    "the partition a row short": (PARTITION, first_row_gone, "has no row for"),
    "a part that is not there": (PARTITION, edited(".jpg 0", ".jpg 7"), "must be 0, 1 or 2, got 7"),
    "a value of 0": ("list_attr_celeba.txt", edited(" -1", "  0"), "has the value '0'"),
    "an image missing": (
        "img_align_celeba",
        one_image(Path.unlink),
        "an image of the attribute file is no file",
    ),
    "an image truncated": ("img_align_celeba", one_image(cut), "not a readable image"),
    "an image too small": (
        "img_align_celeba",
        one_image(lambda path: Image.new("RGB", (128, 128)).save(path)),
        "is 128x128, too small for data.crop=150",
    ),
    "identities cut": (
        "identity_CelebA.txt",
        lambda path: path.write_text(path.read_text()[:-5]),
        "must be",
    ),
}
ZIP_DAMAGE: dict[str, tuple[Damage, str]] = {
    "no zip": (lambda path: path.write_bytes(b"<html>404</html>"), "not a readable zip"),
    "empty": (lambda path: path.write_bytes(b""), "not a readable zip"),
    "cut short": (cut, "not a readable zip"),
    "scribbled": (scribbled, "cannot be read from the zip"),
    "of something else": (lambda path: zipfile.ZipFile(path, "w").close(), "holds no "),
    "a folder": (as_folder, "not a readable zip"),
}


def read_all(data: CelebADataModule) -> None:
    data.setup()
    for loader in (data.train_dataloader(), data.val_dataloader(), data.test_dataloader()):
        list(loader)


def message_of(root: Path) -> str:
    with pytest.raises(InputError) as caught:
        read_all(module(root))
    message = str(caught.value)
    assert "\n" not in message
    assert "docs/data_sets.md" in message
    return message


@pytest.mark.parametrize(("file", "damage", "named"), FOLDER_DAMAGE.values(), ids=FOLDER_DAMAGE)
def test_damage_is_one_line_that_says_where(
    root: Path, file: str, damage: Damage, named: str
) -> None:
    damage(root / file)
    message = message_of(root)
    assert named in message
    assert file in message


@pytest.mark.parametrize(("damage", "named"), ZIP_DAMAGE.values(), ids=ZIP_DAMAGE)
def test_damage_to_the_zip_is_one_line_that_says_where(
    zipped: Path, damage: Damage, named: str
) -> None:
    damage(zipped / "img_align_celeba.zip")
    message = message_of(zipped)
    assert named in message
    assert "img_align_celeba.zip" in message


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"crop": 0}, "data.crop"),
        ({"crop": 200}, "is 178x218, too small for data.crop=200"),
        ({"crop": "centre"}, "data.crop=centre is neither a side in pixels nor one of celeba_hq"),
        ({"layouts": "/nowhere"}, "data.layouts=/nowhere is no folder"),
        ({"attributes": ["Happy"]}, "has no attribute 'Happy'"),
    ],
)
def test_settings_out_of_range_are_refused(
    world: Path, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputError) as caught:
        next(iter(module(world, **settings).test_dataloader()))
    assert named in str(caught.value)


@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real is not here")
def test_real_faces_come_as_batches() -> None:
    data = CelebADataModule(str(REAL), attributes=["Smiling", "Young"])
    data.setup()
    assert [len(data.dataset(part)) for part in ("train", "val", "test")] == [500, 60, 40]
    batch = next(iter(data.test_dataloader()))
    assert batch.image.shape == (40, 3, 128, 128)
    assert set(batch.labels.unique().tolist()) == {0, 1}
    assert batch.identity.min() > 0
    people = {record.identity for part in ("train", "val", "test") for record in data.records(part)}
    assert len(people) == 120
    with pytest.raises(InputError, match="has no attribute 'Male'; its 2 are Smiling, Young"):
        CelebADataModule(str(REAL)).setup()
