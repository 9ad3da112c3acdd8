"""The embedded faces as a reader of their files finds them: all is recomputed from what lies on the
disk.
"""

import hashlib
import json
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cfexp.errors import InputError
from cfexp.worlds.face_drawing import draw_faces
from cfexp.worlds.face_names import CELEBA_ATTRIBUTES, MIRRORED_REGIONS, PARTS, REGIONS
from cfexp.worlds.face_people import CONSTANT_ATTRIBUTES
from cfexp.worlds.faces import FaceParameters, cached_aligned_faces, cached_faces, sample_world

FACES = 240
WORLD = FaceParameters(faces=FACES)


class Face(NamedTuple):
    """What the files say of one face."""

    image: NDArray[np.float64]  # (64, 64, 3) in 0..1
    label_map: NDArray[np.uint8]  # (64, 64), painted here in the documented order
    attributes: dict[str, bool]
    truth: dict[str, Any]

    def pixels(self, *regions: str) -> NDArray[np.float64]:
        return self.image[np.isin(self.label_map, [REGIONS.index(name) for name in regions])]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cached_faces(WORLD, tmp_path_factory.mktemp("cache"))


@pytest.fixture(scope="module")
def faces(folder: Path) -> list[Face]:
    lines = (folder / "CelebAMask-HQ-attribute-anno.txt").read_text().splitlines()
    truths = json.loads((folder / "faces_truth.json").read_text())["faces"]
    found = []
    for number, (line, truth) in enumerate(zip(lines[2:], truths, strict=True)):
        name, *values = line.split()
        assert name == truth["file"] == f"{number}.jpg"
        attributes = dict(zip(lines[1].split(), [value == "1" for value in values], strict=True))
        image = np.asarray(Image.open(folder / "CelebA-HQ-img" / name)) / 255
        found.append(Face(image, painted(folder, number), attributes, truth))
    return found


def painted(folder: Path, number: int) -> NDArray[np.uint8]:
    label_map = np.zeros((64, 64), dtype=np.uint8)
    for region, part in enumerate(PARTS, start=1):
        path = folder / "CelebAMask-HQ-mask-anno" / str(number // 2000) / f"{number:05d}_{part}.png"
        if path.exists():
            mask = np.asarray(Image.open(path))
            assert set(np.unique(mask)) == {0, 255}, path
            label_map[mask == 255] = region
    return label_map


def best_threshold(values: list[float], truth: list[bool]) -> float:
    """The share of the faces that the best threshold on one number gets right."""
    positive = np.array(truth)[np.argsort(values)]
    below = np.concatenate(([0], np.cumsum(positive)))
    right = positive.sum() - below + np.arange(len(values) + 1) - below
    return float(max(right.max(), len(values) - right.min()) / len(values))


def test_the_layout_is_that_of_celebamask_hq(folder: Path) -> None:
    assert {path.name for path in folder.iterdir()} == {
        *("CelebA-HQ-img", "CelebAMask-HQ-mask-anno", "CelebAMask-HQ-attribute-anno.txt"),
        *("CelebA-HQ-to-CelebA-mapping.txt", "faces_truth.json"),
        *("list_attr_celeba.txt", "identity_CelebA.txt", "list_eval_partition.txt"),
    }
    lines = (folder / "CelebAMask-HQ-attribute-anno.txt").read_text().splitlines()
    assert lines[0] == str(FACES)
    assert lines[1].split() == list(CELEBA_ATTRIBUTES)
    assert len(CELEBA_ATTRIBUTES) == 40
    assert [CELEBA_ATTRIBUTES.index(name) for name in ("Male", "Smiling", "Young")] == [20, 31, 39]
    assert lines[2].startswith("0.jpg  ")
    mapping = (folder / "CelebA-HQ-to-CelebA-mapping.txt").read_text().splitlines()
    assert mapping[0] == "idx         orig_idx    orig_file"
    assert len(mapping) == FACES + 1
    assert len({line.split()[2] for line in mapping}) == FACES + 1
    masks = {path.name for path in (folder / "CelebAMask-HQ-mask-anno" / "0").iterdir()}
    assert {name[6:-4] for name in masks} == set(PARTS)


def test_celebas_lists_say_the_same_of_the_same_faces(folder: Path) -> None:
    hq = [
        line.split()
        for line in (folder / "CelebAMask-HQ-attribute-anno.txt").read_text().splitlines()[2:]
    ]
    mapping = [
        line.split()
        for line in (folder / "CelebA-HQ-to-CelebA-mapping.txt").read_text().splitlines()[1:]
    ]
    lines = (folder / "list_attr_celeba.txt").read_text().splitlines()
    celeba = {line.split()[0]: line.split()[1:] for line in lines[2:]}
    assert lines[0] == str(FACES)
    assert "  1" in lines[2]
    assert " 1" not in lines[2].replace("  1", "")
    assert list(celeba) == sorted(celeba)
    for (name, *values), (index, orig_idx, orig_file) in zip(hq, mapping, strict=True):
        assert name == f"{index}.jpg"
        assert orig_file == f"{int(orig_idx) + 1:06d}.jpg"
        assert celeba[orig_file] == values
    partition = dict(
        line.split() for line in (folder / "list_eval_partition.txt").read_text().splitlines()
    )
    for file, part in partition.items():
        assert int(part) == (int(file[:6]) > 162_770) + (int(file[:6]) > 182_637)
    identity = dict(
        line.split() for line in (folder / "identity_CelebA.txt").read_text().splitlines()
    )
    assert identity.keys() == partition.keys() == celeba.keys()
    persons = [{identity[file] for file in identity if partition[file] == part} for part in "012"]
    assert not persons[0] & persons[1]
    assert not persons[1] & persons[2]
    assert not persons[0] & persons[2]
    assert min(len(each) for each in persons) >= 3
    counts = sorted(Counter(identity.values()).values())
    # The last person's pictures are cut off by the number of faces.
    assert counts[1] >= 4
    assert counts[-1] <= 8


def test_the_masks_painted_in_order_give_what_was_drawn(faces: list[Face]) -> None:
    drawn = draw_faces(sample_world(WORLD).table, 64)
    for face, label_map in zip(faces, drawn.label_maps, strict=True):
        np.testing.assert_array_equal(face.label_map, label_map)


def test_every_face_has_a_mouth_of_a_good_size(faces: list[Face]) -> None:
    for face in faces:
        for name, rows in (("mouth", 2), ("upper_lip", 2), ("lower_lip", 2)):
            mask = face.label_map == REGIONS.index(name)
            assert mask.any(1).sum() >= rows
            assert mask.sum() >= 10
        for name in (
            "skin",
            "nose",
            "left_eye",
            "right_eye",
            "hair",
            "neck",
            "cloth",
            "background",
        ):
            assert (face.label_map == REGIONS.index(name)).sum() >= 12, name


def test_left_is_the_persons_left(faces: list[Face]) -> None:
    for face in faces:
        for name in ("eye", "brow"):
            columns = [
                np.nonzero(face.label_map == REGIONS.index(f"{side}_{name}"))[1]
                for side in ("left", "right")
            ]
            assert columns[0].mean() > columns[1].mean() + 8
    assert [REGIONS[other] for other in MIRRORED_REGIONS][4:10:2] == [
        "right_eye",
        "right_brow",
        "right_ear",
    ]
    assert [MIRRORED_REGIONS[other] for other in MIRRORED_REGIONS] == list(range(19))


def test_smiling_and_young_are_balanced_and_independent(faces: list[Face]) -> None:
    counts = Counter((face.attributes["Smiling"], face.attributes["Young"]) for face in faces)
    assert sum(face.attributes["Smiling"] for face in faces) == FACES // 2
    assert sum(face.attributes["Young"] for face in faces) == FACES // 2
    # One standard deviation of a quarter of 240 is 3.9 when both margins are fixed.
    assert all(abs(count - FACES / 4) < 16 for count in counts.values())


def test_the_look_of_the_mouth_decides_smiling_and_its_shape_does_not(faces: list[Face]) -> None:
    smiling = [face.attributes["Smiling"] for face in faces]
    brightness = [float(face.pixels("mouth").mean()) for face in faces]
    lips = [float(face.pixels("upper_lip", "lower_lip")[:, 0].mean()) for face in faces]
    assert best_threshold(brightness, smiling) == 1
    assert best_threshold(lips, smiling) > 0.75

    def corners(face: Face) -> float:
        rows, columns = np.nonzero(
            np.isin(face.label_map, [REGIONS.index("upper_lip"), REGIONS.index("lower_lip")])
        )
        return float(np.polyfit(columns - columns.mean(), rows, 2)[0])

    assert 0.5 < best_threshold([corners(face) for face in faces], smiling) < 0.72
    sizes = [float((face.label_map == REGIONS.index("mouth")).sum()) for face in faces]
    assert best_threshold(sizes, smiling) < 0.65


def test_skin_and_hair_decide_young(faces: list[Face]) -> None:
    young = [face.attributes["Young"] for face in faces]

    def roughness(face: Face) -> float:
        """How much the skin changes from a row to the next, away from its edges, against its
        brightness.
        """
        grey = face.image.mean(2)
        skin = face.label_map == REGIONS.index("skin")
        # Glasses and fringe together leave some faces little skin that is not next to something
        # else.
        inside = next(mask for mask in (eroded(skin, 2), eroded(skin, 1)) if mask[:36].any())
        inside[36:] = False  # beards
        waves = np.abs(2 * grey - np.roll(grey, 2, 0) - np.roll(grey, -2, 0))
        return float(waves[inside].mean() / grey[inside].mean())

    def eroded(mask: NDArray[np.bool_], by: int) -> NDArray[np.bool_]:
        steps = [step for step in range(-by, by + 1) if step]
        inner: NDArray[np.bool_] = np.logical_and.reduce(
            [mask, *(np.roll(mask, step, axis) for step in steps for axis in (0, 1))]
        )
        return inner

    def color(face: Face) -> float:
        hair = face.pixels("hair").mean(0)
        return float(hair.max() - hair.min() - (0.3 if hair.mean() < 0.3 else 0))

    assert best_threshold([roughness(face) for face in faces], young) > 0.95
    assert best_threshold([abs(color(face)) for face in faces], young) > 0.8
    for face in faces:
        assert not (face.attributes["Young"] and face.attributes["Gray_Hair"])


@pytest.mark.parametrize(
    ("attribute", "region"),
    [
        ("Eyeglasses", "glasses"),
        ("Wearing_Hat", "hat"),
        ("Wearing_Necklace", "necklace"),
        ("Wearing_Earrings", "earring"),
    ],
)
def test_what_is_worn_has_its_region(faces: list[Face], attribute: str, region: str) -> None:
    worn = [face.attributes[attribute] for face in faces]
    assert worn == [bool((face.label_map == REGIONS.index(region)).any()) for face in faces]
    assert 3 <= sum(worn) < FACES / 2


@pytest.mark.parametrize(
    ("attribute", "region", "channel"),
    [("Black_Hair", "hair", 0), ("Pale_Skin", "skin", 2), ("Blond_Hair", "hair", 0)],
)
def test_colors_are_those_named(
    faces: list[Face], attribute: str, region: str, channel: int
) -> None:
    named = [face.attributes[attribute] for face in faces]
    colors = [float(np.median(face.pixels(region)[:, channel])) for face in faces]
    if attribute == "Blond_Hair":  # grey is as bright
        colored = [row for row, face in enumerate(faces) if not face.truth["gray"]]
        named, colors = [named[row] for row in colored], [colors[row] for row in colored]
    assert best_threshold(colors, named) > 0.95


def test_attributes_without_a_visible_cause_are_constant_and_no_others(faces: list[Face]) -> None:
    constant = [
        name for name in CELEBA_ATTRIBUTES if len({face.attributes[name] for face in faces}) == 1
    ]
    assert sorted(constant) == sorted(CONSTANT_ATTRIBUTES)
    assert not any(face.attributes[name] for face in faces for name in constant)


def test_the_pictures_of_a_person_are_alike(faces: list[Face]) -> None:
    by_person: dict[int, list[NDArray[np.float64]]] = {}
    for face in faces:
        by_person.setdefault(face.truth["person"], []).append(
            np.median(face.pixels("nose"), axis=0)
        )
    within = np.mean([np.var(each, axis=0).mean() for each in by_person.values() if len(each) > 1])
    across = np.var([each[0] for each in by_person.values()], axis=0).mean()
    assert within < across / 20


def test_the_truth_says_what_decides(folder: Path, faces: list[Face]) -> None:
    info = json.loads((folder / "faces_truth.json").read_text())["info"]
    assert info["causal_regions"] == {
        "Smiling": ["mouth", "upper_lip", "lower_lip"],
        "Young": ["skin", "hair"],
    }
    assert info["regions"] == list(REGIONS)
    assert info["parameters"] == {"seed": 0, "faces": FACES, "image_size": 64}
    for face in faces:
        assert (face.truth["smiling"], face.truth["young"]) == (
            face.attributes["Smiling"],
            face.attributes["Young"],
        )
        assert (face.truth["wrinkles"] == 0) == face.attributes["Young"]


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in files
    }


def test_the_same_parameters_give_the_same_bytes(tmp_path: Path) -> None:
    worlds = ((3, "a"), (3, "b"), (4, "b"))
    first, second, other = (
        cached_faces(FaceParameters(seed=seed, faces=40), tmp_path / name) for seed, name in worlds
    )
    assert digests(first) == digests(second)
    assert first.name == second.name != other.name
    assert digests(other)["CelebA-HQ-img/0.jpg"] != digests(first)["CelebA-HQ-img/0.jpg"]
    assert [path.name for path in (tmp_path / "a").iterdir()] == [first.name]


def test_a_larger_picture_shows_the_same_face() -> None:
    table = {name: values[:8] for name, values in sample_world(WORLD).table.items()}
    small, large = draw_faces(table, 64), draw_faces(table, 128)
    blocks = large.images.reshape(8, 64, 2, 64, 2, 3).mean((2, 4))
    assert np.abs(blocks - small.images).mean() < 4
    assert (large.label_maps[:, ::2, ::2] == small.label_maps).mean() > 0.95


def test_aligned_images_show_the_same_faces(tmp_path: Path) -> None:
    parameters = FaceParameters(faces=20)
    hq, aligned = cached_faces(parameters, tmp_path), cached_aligned_faces(parameters, tmp_path)
    for name in ("list_attr_celeba.txt", "identity_CelebA.txt", "list_eval_partition.txt"):
        assert (hq / name).read_bytes() == (aligned / name).read_bytes()
    for line in (hq / "CelebA-HQ-to-CelebA-mapping.txt").read_text().splitlines()[1:]:
        index, _, file = line.split()
        picture = Image.open(aligned / "img_align_celeba" / file)
        assert picture.size == (178, 218)
        shown = picture.crop((14, 34, 164, 184)).resize((64, 64), Image.Resampling.BOX)
        face = Image.open(hq / "CelebA-HQ-img" / f"{index}.jpg")
        assert np.abs(np.asarray(shown, dtype=float) - np.asarray(face, dtype=float)).mean() < 6


@pytest.mark.parametrize(
    ("values", "named"),
    [
        ({"faces": 9}, "world.faces"),
        ({"faces": 30_001}, "world.faces"),
        ({"faces": 60.0}, "world.faces"),
        ({"image_size": 31}, "world.image_size"),
        ({"seed": -1}, "world.seed"),
        ({"seed": True}, "world.seed"),
    ],
)
def test_parameters_out_of_range_are_refused(values: dict[str, Any], named: str) -> None:
    with pytest.raises(InputError, match=named):
        FaceParameters(**values)
