"""Damage to BDD100k and BDD-OIA: doctor names it; training stops with one line, or skips and
counts.
"""

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cfexp.data.streets.bdd100k import BDD100kDataModule
from cfexp.worlds.streets import StreetParameters, cached_streets
from tests.data.damage import (
    WEB_PAGE,
    Case,
    Damage,
    as_folder,
    check_case,
    copied,
    copy_of,
    cut,
    drawn,
    edited,
    findings_of,
    in_utf16,
    json_edited,
    removed,
    replaced,
    train,
    with_bom,
    with_crlf,
)

WORLD = StreetParameters(train_scenes=8, val_scenes=3, image_height=48, image_width=96)
ACTIONS, REASONS = "val_25k_images_actions.json", "val_25k_images_reasons.json"
IMAGES, MASKS = "images/10k/val", "labels/sem_seg/masks/val"
STEM = "00000001-00000001"
PHOTO, MASK = f"{IMAGES}/{STEM}.jpg", f"{MASKS}/{STEM}.png"
NO_FILE = "the mask of an image is no file there"


@pytest.fixture(scope="session")
def streets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cached_streets(WORLD, tmp_path_factory.mktemp("streets"))


def make(root: Path, **settings: Any) -> BDD100kDataModule:
    sizes = {"image_size": (16, 32), "holdout_images": 2, "batch_size": 2, "eval_batch_size": 1}
    return BDD100kDataModule(str(root), **{**sizes, **settings})


def category(value: Any) -> Damage:
    return json_edited(lambda content: content["annotations"][1].update(category=value))


def image(**values: Any) -> Damage:
    return json_edited(lambda content: content["images"][1].update(values))


def palette_mask(value: int) -> Damage:
    def damage(path: Path) -> None:
        picture = Image.new("P", (64, 32), value)
        picture.putpalette(list(range(256)) * 3)
        picture.save(path)

    return damage


def of_training_too(path: Path) -> None:
    """A frame of val has the name of one of train."""
    content = json.loads(path.read_text())
    content["images"][1]["file_name"] = "00000000-00000000.jpg"
    path.write_text(json.dumps(content))


CASES: dict[str, Case] = {
    "truncated JPEG": Case(PHOTO, cut, f"{STEM}.jpg: not a readable image", "skips"),
    "empty image": Case(PHOTO, replaced(b""), f"{STEM}.jpg: not a readable image", "skips"),
    "web page for an image": Case(
        PHOTO, replaced(WEB_PAGE), f"{STEM}.jpg: not a readable image", "skips"
    ),
    "folder for an image": Case(
        PHOTO, as_folder, f"{STEM}.jpg: cannot be read (Is a directory)", "skips", "readable"
    ),
    "image of 16 bit": Case(
        PHOTO, drawn("I;16", (64, 32)), "must have 8 bits a channel, got mode I;16", "skips"
    ),
    "grey image": Case(
        PHOTO, drawn("L", (64, 32), kind="JPEG"), "mode L is made RGB", "goes on", is_note=True
    ),
    "image of other proportions": Case(
        PHOTO, drawn("RGB", (64, 64)), "its image 64x64: other proportions", "skips"
    ),
    "image missing": Case(
        PHOTO, removed, f"{STEM}.png: is the mask of no image", "goes on", is_note=True
    ),
    "two images of a name": Case(
        PHOTO, copied(f"{STEM}.png"), "has the same name; keep one", "stops"
    ),
    "mask missing": Case(MASK, removed, f"{STEM}.png: no such file", "skips", NO_FILE),
    "truncated mask": Case(MASK, cut, f"{STEM}.png: not a readable image", "skips"),
    "empty mask": Case(MASK, replaced(b""), f"{STEM}.png: not a readable image", "skips"),
    "folder for a mask": Case(
        MASK, as_folder, f"{STEM}.png: cannot be read (Is a directory)", "skips", NO_FILE
    ),
    "JPEG for a mask": Case(
        MASK, drawn("L", (64, 32), kind="JPEG"), "not a readable image (no PNG)", "skips"
    ),
    "mask in colour": Case(MASK, drawn("RGB", (64, 32)), "(mode L or P), got mode RGB", "skips"),
    "mask of 16 bit": Case(MASK, drawn("I;16", (64, 32)), "(mode L or P), got mode I;16", "skips"),
    "mask with a palette": Case(MASK, palette_mask(13), "", "goes on"),
    "label id 77": Case(
        MASK, drawn("L", (64, 32), 77), "label id 77 is none of 0..18, 255", "skips"
    ),
    "label id 19": Case(MASK, palette_mask(19), "label id 19 is none of 0..18, 255", "skips"),
    "mask of other proportions": Case(
        MASK, drawn("L", (32, 32)), "its image 96x48: other proportions", "skips"
    ),
    "mask of another size": Case(
        MASK, drawn("L", (32, 16)), "its label map is 32x16, most", "goes on", is_note=True
    ),
    "mask of no image": Case(
        MASK, copied("more.png"), "more.png: is the mask of no image", "goes on", is_note=True
    ),
    "no masks": Case(MASKS, removed, "cannot be listed", "stops"),
    "no images": Case("images", removed, "BDD100k not found in data.root=", "stops"),
    "training image in test": Case(
        f"{IMAGES.replace('val', 'train')}/00000000-00000000.jpg",
        copied(f"../val/{STEM}.jpg"),
        "is in two parts, test and train",
        "goes on",
    ),
    "one name in both splits": Case(
        f"{IMAGES.replace('val', 'train')}/00000000-00000000.jpg",
        lambda path: (
            copied(f"../val/{path.name}")(path),
            palette_mask(1)(path.parents[3] / MASKS / f"{path.stem}.png"),
        ),
        "split leakage",
        "goes on",
    ),
    "actions missing": Case(
        ACTIONS, removed, "no actions are known without it", "goes on", is_note=True
    ),
    "actions empty": Case(ACTIONS, replaced(b""), "the file is empty", "stops"),
    "actions cut short": Case(ACTIONS, cut, "damaged or truncated JSON", "stops"),
    "folder for actions": Case(ACTIONS, as_folder, "cannot be read (Is a directory)", "stops"),
    "actions in UTF-16": Case(ACTIONS, in_utf16, "not UTF-8 text", "stops"),
    "actions with BOM": Case(ACTIONS, with_bom, "", "goes on"),
    "actions with CRLF": Case(ACTIONS, with_crlf, "", "goes on"),
    "actions without images": Case(
        ACTIONS, json_edited(lambda c: c.pop("images")), "has no key 'images'", "stops"
    ),
    "action NaN": Case(
        ACTIONS, category([float("nan"), 0, 0, 0, 0]), "must be 0s and 1s, got nan", "stops"
    ),
    "action infinite": Case(
        ACTIONS, category([float("inf"), 0, 0, 0, 0]), "must be 0s and 1s, got inf", "stops"
    ),
    "action 2": Case(ACTIONS, category([2, 0, 0, 0, 0]), "must be 0s and 1s, got 2", "stops"),
    "three actions": Case(ACTIONS, category([1, 0, 0]), "must be 4 or 5 numbers, got 3", "stops"),
    "id NaN": Case(
        ACTIONS, image(id=float("nan")), "images[1].id must be an integer, got nan", "stops"
    ),
    "duplicate id": Case(ACTIONS, image(id=0), "images[1].id 0 is that of images[0] too", "stops"),
    "duplicate name": Case(
        ACTIONS, image(file_name=f"{STEM[:-1]}0.jpg"), "is there twice", "stops"
    ),
    "a path for a name": Case(
        ACTIONS, image(file_name="../1.jpg"), "must be the name of a file", "stops"
    ),
    "frame in both splits": Case(
        ACTIONS, of_training_too, "is of the train part too: split leakage", "goes on"
    ),
    "reason NaN": Case(REASONS, edited("0]", "NaN]"), "must be 0s and 1s", "stops"),
    "reasons empty": Case(
        REASONS, replaced(b"[]"), "must be a list of objects, got an empty list", "stops"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_damage_to_bdd100k(streets: Path, tmp_path: Path, name: str) -> None:
    check_case(CASES[name], copy_of(streets, tmp_path / "root"), make)


def test_sound_streets_give_notes_only(streets: Path) -> None:
    findings = list(findings_of(make(streets, on_bad_sample="skip")))
    assert {finding.severity for finding in findings} == {"note"}
    assert (
        f"{streets / IMAGES.replace('val', 'train')}: 8 images; the whole data set has 7,000"
        in [finding.first for finding in findings]
    )
    assert train(make(streets)) == 0
    embedded = BDD100kDataModule(None, world=WORLD, cache_dir=str(streets.parent), holdout_images=2)
    assert list(findings_of(embedded)) == []


def test_damaged_lists_do_not_hide_bad_images(streets: Path, tmp_path: Path) -> None:
    root = copy_of(streets, tmp_path / "root")
    (root / ACTIONS).write_bytes(b"")
    (root / PHOTO).write_bytes(b"")
    lines = [
        finding.first
        for finding in findings_of(make(root, on_bad_sample="skip"))
        if finding.severity == "error"
    ]
    assert [line.removeprefix(f"{root}/").split(":")[0] for line in lines] == [ACTIONS, PHOTO]


def test_frames_without_their_images_are_skipped_and_counted(streets: Path, tmp_path: Path) -> None:
    root = copy_of(streets, tmp_path / "root")
    (root / "lastframe" / "data").mkdir(parents=True)
    for split in ("train", "val"):
        for path in (root / "images" / "10k" / split).iterdir():
            shutil.copy(path, root / "lastframe" / "data")
    shutil.rmtree(root / "images")
    settings = {"source": "classification", "on_bad_sample": "skip"}
    assert not findings_of(make(root, **settings)).has_errors
    (root / "lastframe" / "data" / f"{STEM}.jpg").unlink()
    (finding,) = [each for each in findings_of(make(root, **settings)) if each.severity == "error"]
    assert f"{STEM}.jpg: no such file" in finding.first
    assert train(make(root, **settings)) == 1
