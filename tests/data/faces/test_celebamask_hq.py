"""CelebAMask-HQ's files as batches: the embedded faces, the real pieces, and every kind of damage
in one line.
"""

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hydra.utils import instantiate
from omegaconf import OmegaConf
from PIL import Image

from cfexp.data.faces.celebamask_hq import CelebAMaskHQDataModule
from cfexp.errors import InputError
from cfexp.worlds.face_names import CELEBA_ATTRIBUTES, PARTS, REGIONS
from cfexp.worlds.faces import FaceParameters, cached_faces
from tests.data.damage import Damage, as_folder, cut, edited, replaced

ROOT = Path(__file__).parents[3]
REAL = ROOT.parent / "shared" / "real" / "CelebAMask-HQ"
WORLD = FaceParameters(faces=48)
MAPPING = "CelebA-HQ-to-CelebA-mapping.txt"
ATTRIBUTES = "CelebAMask-HQ-attribute-anno.txt"
MASKS = Path("CelebAMask-HQ-mask-anno")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cached_faces(WORLD, tmp_path_factory.mktemp("cache"))


def module(root: Path | None, cache_dir: Path, **settings: Any) -> CelebAMaskHQDataModule:
    chosen = {
        "image_size": (64, 64),
        "first_test_id": 40,
        "holdout_images": 8,
        "batch_size": 4,
        **settings,
    }
    return CelebAMaskHQDataModule(
        None if root is None else str(root), cache_dir=str(cache_dir), **chosen
    )


def numbers(data: CelebAMaskHQDataModule) -> list[list[int]]:
    return [
        [int(record.image_id) for record in data.records(part)] for part in ("train", "val", "test")
    ]


def test_embedded_faces_come_as_batches(world: Path) -> None:
    data = module(None, world.parent, world=WORLD, horizontal_flip=0)
    data.prepare_data()
    data.setup()
    assert data.folder == world
    assert data.fingerprint == f"faces-{WORLD.key}"
    assert data.facts == {"num_regions": 19, "num_classes": 3, "height": 64, "width": 64}
    assert data.class_names == ("Male", "Smiling", "Young")
    assert data.region_names == REGIONS
    lines = (world / ATTRIBUTES).read_text().splitlines()[2:]
    seen: list[str] = []
    for batch in (*data.train_dataloader(), *data.val_dataloader(), *data.test_dataloader()):
        seen += batch.image_id
        assert batch.image.shape == (len(batch.image_id), 3, 64, 64)
        for row, name in enumerate(batch.image_id):
            pixels = np.asarray(Image.open(world / "CelebA-HQ-img" / f"{name}.jpg"))
            np.testing.assert_allclose(
                (batch.image[row].permute(1, 2, 0) + 1) * 127.5, pixels, atol=1e-3
            )
            values = lines[int(name)].split()[1:]
            expected = [
                float(values[CELEBA_ATTRIBUTES.index(each)] == "1") for each in data.class_names
            ]
            assert batch.labels[row].tolist() == expected
            truth = data.truth(name)
            assert truth is not None
            assert batch.identity[row] == truth["person"] + 1
    for key, record in enumerate(data.records("test")):
        described = data.describe(key)
        truth = data.truth(described["image_id"])
        assert truth is not None
        assert (described["image_id"], described["labels"]["Smiling"]) == (
            record.image_id,
            truth["smiling"],
        )
    assert sorted(seen, key=int) == [str(number) for number in range(48)]


def test_the_config_is_of_the_embedded_faces(tmp_path: Path) -> None:
    given = {
        "cache_dir": str(tmp_path),
        "seed": 3,
        "data": OmegaConf.load(ROOT / "conf" / "data" / "faces.yaml"),
    }
    data = instantiate(OmegaConf.create(given).data)
    assert isinstance(data, CelebAMaskHQDataModule)
    assert data.fingerprint == f"faces-{FaceParameters().key}"
    assert (data.image_size, data.first_test_id, data.seed) == ((64, 64), 5400, 3)
    assert not list(tmp_path.iterdir())


def test_label_maps_are_the_parts_painted_in_the_documented_order(
    world: Path, tmp_path: Path
) -> None:
    data = module(world, tmp_path)
    for batch in data.test_dataloader():
        for row, name in enumerate(batch.image_id):
            expected = np.zeros((64, 64), dtype=np.int64)
            for region, part in enumerate(PARTS, start=1):
                path = world / MASKS / "0" / f"{int(name):05d}_{part}.png"
                if path.exists():
                    expected[np.asarray(Image.open(path)) > 0] = region
            np.testing.assert_array_equal(batch.label_map[row], expected)


def test_the_papers_split_is_by_number_and_celebas_by_its_partition(
    world: Path, tmp_path: Path
) -> None:
    train, val, test = numbers(module(world, tmp_path))
    assert (train, val, test) == (list(range(32)), list(range(32, 40)), list(range(40, 48)))
    assert numbers(module(world, tmp_path, holdout_images=0))[:2] == [list(range(40)), []]
    partition = dict(
        line.split() for line in (world / "list_eval_partition.txt").read_text().splitlines()
    )
    files = [line.split()[2] for line in (world / MAPPING).read_text().splitlines()[1:]]
    expected = [[k for k, file in enumerate(files) if partition[file] == part] for part in "012"]
    assert numbers(module(world, tmp_path, split="celeba")) == expected
    assert all(expected)
    unseen = numbers(module(world, tmp_path, split="unseen"))
    assert unseen == [[k for k in expected[0] if k not in test], *expected[1:]]
    assert len(unseen[0]) < len(expected[0])


def test_attributes_are_selectable_and_identities_need_their_file(
    root: Path, tmp_path: Path
) -> None:
    (root / "identity_CelebA.txt").unlink()
    (root / MAPPING).unlink()  # which nothing else needs
    data = module(root, tmp_path, attributes=["Wearing_Hat", "Smiling"])
    data.setup()
    batch = next(iter(data.test_dataloader()))
    assert batch.labels.shape == (8, 2)
    assert batch.identity.tolist() == [-1] * 8
    assert data.class_name(0) == "Wearing_Hat"
    assert data.truth("3") is None


def test_a_mirrored_face_has_its_left_eye_where_the_right_one_was(
    world: Path, tmp_path: Path
) -> None:
    dataset = module(world, tmp_path).dataset("train")
    plain, mirrored = dataset[0], dataset[len(dataset)]
    assert torch.equal(mirrored.image, plain.image.flip(3))
    left, right = REGIONS.index("left_eye"), REGIONS.index("right_eye")
    assert torch.equal(mirrored.label_map == left, (plain.label_map == right).flip(2))
    assert torch.equal(
        mirrored.label_map == REGIONS.index("hair"),
        (plain.label_map == REGIONS.index("hair")).flip(2),
    )


def test_predicted_label_maps_take_the_place_of_the_parts(root: Path, tmp_path: Path) -> None:
    folder = tmp_path / "predicted"
    folder.mkdir()
    for number in range(48):
        Image.new("L", (32, 32), number % 19).save(folder / f"{number}.png")
    shutil.rmtree(root / MASKS)
    batch = next(iter(module(root, tmp_path, layouts=str(folder)).test_dataloader()))
    assert batch.label_map.unique(dim=1).unique(dim=2)[:, 0, 0].tolist() == [
        number % 19 for number in range(40, 48)
    ]
    (folder / "7.png").unlink()
    with pytest.raises(
        InputError, match=r"7\.png: the label map of an image is no file there; predict"
    ):
        module(root, tmp_path, layouts=str(folder)).setup()


def test_a_masks_size_may_be_half_the_images(root: Path, tmp_path: Path) -> None:
    """As shipped: 1024 and 512 pixels."""
    full = next(iter(module(root, tmp_path, image_size=(32, 32)).test_dataloader()))
    for path in (root / MASKS / "0").iterdir():
        Image.open(path).resize((32, 32), Image.Resampling.NEAREST).convert("RGB").save(path)
    half = next(iter(module(root, tmp_path, image_size=(32, 32)).test_dataloader()))
    assert torch.equal(full.image, half.image)
    assert torch.equal(full.label_map, half.label_map)


def painted(value: int, size: tuple[int, int] = (64, 64)) -> Damage:
    return lambda path: Image.new("L", size, value).save(path)


def without(pattern: str) -> Damage:
    def damage(folder: Path) -> None:
        for path in folder.glob(pattern):
            path.unlink()

    return damage


IMAGE, SKIN = "CelebA-HQ-img/41.jpg", "CelebAMask-HQ-mask-anno/0/00041_skin.png"
# the line names the image
UNKNOWN_IMAGE = "48.jpg: an image of the attribute file is no file there"
# File, damage, what the line must name beside the file (or the folder).
DAMAGE: dict[str, tuple[str, Damage, str]] = {
    "no images": ("CelebA-HQ-img", shutil.rmtree, "CelebAMask-HQ not found in data.root="),
    "no masks": (str(MASKS), shutil.rmtree, "CelebAMask-HQ not found in data.root="),
    "no attributes": (ATTRIBUTES, Path.unlink, "CelebAMask-HQ not found in data.root="),
    "an image missing": (IMAGE, Path.unlink, "an image of the attribute file is no file there"),
    "an image a folder": (
        IMAGE,
        as_folder,
        "an image of the attribute file is no file there",
    ),
    "an image truncated": (IMAGE, cut, "not a readable image"),
    "an image empty": (IMAGE, replaced(b""), "not a readable image"),
    "an image a web page": (IMAGE, replaced(b"<html>404</html>"), "not a readable image"),
    "no mask of an image": (
        str(MASKS / "0"),
        without("00041_*"),
        "no mask of image 41: expected 00041_skin.png",
    ),
    "a folder of masks missing": (str(MASKS / "0"), shutil.rmtree, "cannot be listed"),
    "a mask truncated": (SKIN, cut, "not a readable image"),
    "a mask a JPEG": (
        SKIN,
        lambda path: Image.new("L", (64, 64)).save(path, "JPEG"),
        "not a readable image",
    ),
    "a mask a folder": (SKIN, as_folder, "cannot be read"),
    "a mask of 77": (SKIN, painted(77), "must be 0 or 255 everywhere, got 77"),
    "a mask of another size": (SKIN, painted(255, (32, 32)), "pixels, 00041_skin.png is 32x32"),
    "the count": (ATTRIBUTES, edited("48", "30000"), "announces '30000' images, 48 follow"),
    "no header": (
        ATTRIBUTES,
        edited(CELEBA_ATTRIBUTES[0], "0.jpg"),
        "line 2 must name the attributes",
    ),
    "an attribute renamed": (ATTRIBUTES, edited("Smiling", "Smile"), "has no attribute 'Smiling'"),
    "CelebA's names": (ATTRIBUTES, edited("\n7.jpg", "\n000007.jpg"), "images are 0.jpg, 1.jpg"),
    "a duplicate": (
        ATTRIBUTES,
        edited("\n7.jpg", "\n6.jpg"),
        "line 10 is about 6.jpg, which is there before",
    ),
    "an image too many": (ATTRIBUTES, edited("\n7.jpg", "\n48.jpg"), UNKNOWN_IMAGE),
    "identities without the mapping": (
        MAPPING,
        Path.unlink,
        "CelebAMask-HQ not found in data.root=",
    ),
    "the mapping cut short": (MAPPING, cut, "line"),
    "the mapping a row short": (MAPPING, edited("\n7 ", "\n700 "), "has no row for image 7"),
    "identities a web page": ("identity_CelebA.txt", replaced(b"<html>404</html>"), "line 1"),
}


def read_all(data: CelebAMaskHQDataModule) -> None:
    data.setup()
    list(data.test_dataloader())


@pytest.mark.parametrize(("file", "damage", "named"), DAMAGE.values(), ids=DAMAGE)
def test_damage_is_one_line_that_says_where(
    root: Path, tmp_path: Path, file: str, damage: Damage, named: str
) -> None:
    damage(root / file)
    with pytest.raises(InputError) as caught:
        read_all(module(root, tmp_path / "cache"))
    message = str(caught.value)
    # Parts are painted from the skin on, so a skin of another size shows in the next part.
    assert (
        file.replace("_skin", "_") in message.replace("_nose", "_").replace("_skin", "_")
        or named == UNKNOWN_IMAGE
    )
    assert named in message
    assert "docs/data_sets.md" in message or "choose data.attributes" in message
    assert "\n" not in message


def test_bad_samples_may_be_skipped(root: Path, tmp_path: Path) -> None:
    cut(root / IMAGE)
    painted(77)(root / SKIN.replace("41", "43"))
    data = module(root, tmp_path, on_bad_sample="skip")
    batch = next(iter(data.test_dataloader()))
    assert batch.image_id == ("40", "42", "44", "45", "46", "47")
    assert data.dataset("test").bad_samples == 2


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"split": "val"}, "data.split must be one of paper, celeba, unseen"),
        ({"holdout_images": 40}, "data.holdout_images=40 leaves no image to train on"),
        ({"holdout_images": -1}, "data.holdout_images"),
        ({"first_test_id": 0}, "data.first_test_id"),
        ({"first_test_id": 48}, "its test part has no image"),
        ({"attributes": "Smiling"}, "data.attributes must be a list"),
        ({"attributes": []}, "data.attributes must be a list"),
        (
            {"attributes": ["Smiling", "Smiling"]},
            "data.attributes must be a list of different names",
        ),
        ({"attributes": ["Happy"]}, "has no attribute 'Happy'; its 40 are 5_o_Clock_Shadow"),
        ({"layouts": "/nowhere"}, "data.layouts=/nowhere is no folder"),
        ({"image_size": 64}, "data.image_size must be"),
        ({"world": {"people": 3}}, "data.world: "),
    ],
)
def test_settings_out_of_range_are_refused(
    world: Path, tmp_path: Path, settings: dict[str, Any], named: str
) -> None:
    with pytest.raises(InputError) as caught:
        module(world, tmp_path, **settings).setup()
    assert named in str(caught.value)


def test_a_cache_that_cannot_be_written_is_named(world: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="set cache_dir to a folder that you may write to"):
        next(iter(module(world, tmp_path / "file").test_dataloader()))


@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real is not here")
def test_real_faces_come_as_batches(tmp_path: Path) -> None:
    data = CelebAMaskHQDataModule(
        str(REAL), cache_dir=str(tmp_path), first_test_id=20_000, holdout_images=10
    )
    data.setup()
    assert [len(data.dataset(part)) for part in ("train", "val", "test")] == [54, 10, 36]
    val = data.dataset("val")
    batch = val.__getitems__(range(len(val)))[0]
    assert batch.image.shape == (10, 3, 256, 256)
    assert batch.image_id == tuple(sorted(batch.image_id, key=int))
    assert batch.label_map.amax() <= 18
    for name, least in (("skin", 0.08), ("hair", 0.03), ("background", 0.05), ("nose", 0.005)):
        share = (batch.label_map == REGIONS.index(name)).float().mean()
        assert least < share < 0.7, name
    columns = torch.arange(256.0)
    for side, other in ((4, 5), (6, 7)):  # the person's left is at the right of the picture
        left, right = ((batch.label_map == region).sum((0, 1)) for region in (side, other))
        assert (left * columns).sum() / left.sum() > (right * columns).sum() / right.sum() + 30
    assert (batch.identity == -1).all()
    celeba = CelebAMaskHQDataModule(str(REAL), cache_dir=str(tmp_path), split="celeba")
    assert [
        sum(map(len, numbers(celeba))),
        len({number for part in numbers(celeba) for number in part}),
    ] == [100, 100]
