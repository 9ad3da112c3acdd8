"""Every kind of damage to the files of BDD100k and BDD-OIA gives one line that says where."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from cfexp.errors import InputError
from tests.data.streets.test_bdd100k import Json, actions_of, data_module, write_actions


def broken(change: Callable[[Json], None]) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        content = actions_of(root)
        change(content)
        write_actions(root, content)

    return damage


def category(value: Any) -> Callable[[Path], None]:
    return broken(lambda content: content["annotations"][1].update(category=value))


def file(name: str, content: bytes | None) -> Callable[[Path], None]:
    def damage(root: Path) -> None:
        path = root / name
        path.unlink()
        path.mkdir() if content is None else path.write_bytes(content)

    return damage


ACTIONS, REASONS = "train_25k_images_actions.json", "train_25k_images_reasons.json"
IMAGES, MASKS = "images/10k/train", "labels/sem_seg/masks/train"
FIRST = "00000000-00000000"


def empty_folder(root: Path) -> None:
    shutil.rmtree(root / IMAGES)
    (root / IMAGES).mkdir()


def two_of_a_name(root: Path) -> None:
    shutil.copy(root / IMAGES / f"{FIRST}.jpg", root / IMAGES / f"{FIRST}.png")


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "no images": (lambda root: shutil.rmtree(root / "images"), "BDD100k not found in data.root"),
    "no masks": (
        lambda root: shutil.rmtree(root / "labels"),
        f"{MASKS}: cannot be listed (No such file",
    ),
    "empty folder": (empty_folder, "no image is of the train part"),
    "a mask is missing": (
        lambda root: (root / MASKS / f"{FIRST}.png").unlink(),
        "the mask of an image is no file there",
    ),
    "a mask is a folder": (
        file(f"{MASKS}/{FIRST}.png", None),
        "the mask of an image is no file there",
    ),
    "two images of a name": (two_of_a_name, "has the same name; keep one"),
    "a truncated image": (
        file(f"{IMAGES}/{FIRST}.jpg", b"\xff\xd8\xff"),
        f"{FIRST}.jpg: not a readable image",
    ),
    "an empty mask": (file(f"{MASKS}/{FIRST}.png", b""), f"{FIRST}.png: not a readable image"),
    "actions are empty": (file(ACTIONS, b" \n"), f"{ACTIONS}: the file is empty"),
    "actions are truncated": (
        file(ACTIONS, b'{"images": [{'),
        f"{ACTIONS}: damaged or truncated JSON",
    ),
    "actions are no text": (file(ACTIONS, b"\xff\xfe\x00"), f"{ACTIONS}: not UTF-8 text"),
    "actions are a folder": (file(ACTIONS, None), f"{ACTIONS}: cannot be read (Is a directory)"),
    "actions are a list": (
        file(ACTIONS, b"[]"),
        f"{ACTIONS}: the top level must be an object with frames",
    ),
    "actions are regrouped and short": (
        file(ACTIONS, b'{"a": {"actions": [1, 0, 0], "reason": []}}'),
        "[0].actions must be 4 or 5 numbers, got 3",
    ),
    "no annotations": (
        broken(lambda c: c.pop("annotations")),
        f"{ACTIONS}: has no key 'annotations'",
    ),
    "fewer annotations": (
        broken(lambda c: c["annotations"].pop()),
        "has 12 images and 11 annotations",
    ),
    "an annotation is a number": (
        broken(lambda c: c["annotations"].__setitem__(1, 7)),
        "annotations[1] must be an object",
    ),
    "no category": (
        broken(lambda c: c["annotations"][1].pop("category")),
        "annotations[1] has no key 'category'",
    ),
    "three actions": (category([1, 0, 0]), "annotations[1].category must be 4 or 5 numbers, got 3"),
    "action 2": (category([2, 0, 0, 0, 0]), "annotations[1].category must be 0s and 1s, got 2"),
    "action NaN": (
        category([float("nan"), 0, 0, 0, 0]),
        "annotations[1].category must be 0s and 1s, got nan",
    ),
    "action true": (
        category([True, 0, 0, 0, 0]),
        "annotations[1].category must be 0s and 1s, got True",
    ),
    "actions are text": (category("1000"), "annotations[1].category must be a list, got '1000'"),
    "a file name twice": (
        broken(lambda c: c["images"][1].update(file_name=c["images"][0]["file_name"])),
        f"images[1].file_name {FIRST}.jpg is there twice",
    ),
    "an id twice": (
        broken(lambda c: c["images"][1].update(id=0)),
        "images[1].id 0 is that of images[0] too",
    ),
    "an id too high": (
        broken(lambda c: c["images"][1].update(id=99)),
        "images[1].id 99 has no annotation: there are 12",
    ),
    "an id is text": (
        broken(lambda c: c["images"][1].update(id="1")),
        "images[1].id must be an integer, got '1'",
    ),
    "a path for a name": (
        broken(lambda c: c["images"][1].update(file_name="../x.jpg")),
        "images[1].file_name must be the name of a file, got '../x.jpg'",
    ),
    "reasons are an object": (
        file(REASONS, b'{"a": 1}'),
        f"{REASONS}: the top level must be a list",
    ),
    "twenty reasons": (
        file(REASONS, json.dumps([{"file_name": "a.jpg", "reason": [0] * 20}]).encode()),
        "[0].reason must be 21 numbers, got 20",
    ),
    "a reason twice": (
        file(REASONS, json.dumps([{"file_name": "a.jpg", "reason": [0] * 21}] * 2).encode()),
        "[1].file_name a is there twice",
    ),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damage_is_named_in_one_line(root: Path, name: str) -> None:
    damage, message = DAMAGES[name]
    damage(root)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        data_module(root, cache_images=True).setup("fit")
    assert "\n" not in str(caught.value)
    assert str(root) in str(caught.value) or "data." in str(caught.value)


def test_a_mark_and_crlf_are_no_damage(root: Path) -> None:
    expected = data_module(root).dataset("train").labels
    path = root / ACTIONS
    path.write_bytes(
        b"\xef\xbb\xbf" + json.dumps(actions_of(root), indent=1).replace("\n", "\r\n").encode()
    )
    assert torch.equal(data_module(root).dataset("train").labels, expected)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (
            {"source": "detection"},
            "data.source must be segmentation or classification, got 'detection'",
        ),
        ({"layouts": 3}, "data.layouts must be ground_truth, none or a folder of masks, got 3"),
        ({"holdout_images": -1}, "data.holdout_images must be an integer of at least 0, got -1"),
        (
            {"holdout_images": 12},
            "data.holdout_images=12 leaves no image to train on: there are 12; lower it",
        ),
        ({"world": {"scenes": 3}}, "data.world:"),
        ({"root": None, "oia_root": "/data/oia"}, "data.oia_root is given and data.root is not"),
        ({"layouts": "/nowhere/masks"}, "/nowhere/masks: cannot be listed"),
    ],
)
def test_settings_out_of_range_are_named(world: Path, settings: Json, message: str) -> None:
    with pytest.raises(InputError, match=re.escape(message)):
        data_module(**{"root": world, **settings}).setup("fit")
