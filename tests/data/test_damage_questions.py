"""Damage to VQAv1: doctor names it; training stops with one line, or skips and counts."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfexp.data.questions.vqa import VQADataModule
from cfexp.worlds.scenes import SceneParameters, cached_scenes
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
    zipped,
)

WORLD = SceneParameters(train_scenes=8, val_scenes=4, image_size=32)
QUESTIONS, ANNOTATIONS = (
    "OpenEnded_mscoco_val2014_questions.json",
    "mscoco_val2014_annotations.json",
)
IMAGES = "val2014"
NO_FILE = "the image of a question is no file there"


@pytest.fixture(scope="session")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cached_scenes(WORLD, tmp_path_factory.mktemp("scenes"))


@pytest.fixture
def make(scenes: Path) -> Callable[..., VQADataModule]:
    def made(root: Path, **settings: Any) -> VQADataModule:
        sizes = {"image_size": 16, "holdout_images": 2, "batch_size": 4, "eval_batch_size": 1}
        return VQADataModule(str(root), cache_dir=str(scenes.parent), **{**sizes, **settings})

    return made


def last_image(damage: Damage) -> Damage:
    return lambda folder: damage(max(folder.iterdir()))


def question(**values: Any) -> Damage:
    return json_edited(lambda content: content["questions"][1].update(values))


def annotation(**values: Any) -> Damage:
    return json_edited(lambda content: content["annotations"][1].update(values))


def same_as_first(key: str) -> Damage:
    return json_edited(
        lambda content: content["questions"][1].update({key: content["questions"][0][key]})
    )


def training_image_in_test(folder: Path) -> None:
    shutil.copy(min((folder.parent / "train2014").iterdir()), min(folder.iterdir()))


CASES: dict[str, Case] = {
    "truncated JPEG": Case(IMAGES, last_image(cut), "not a readable image", "skips"),
    "empty image": Case(IMAGES, last_image(replaced(b"")), "not a readable image", "skips"),
    "web page for an image": Case(
        IMAGES, last_image(replaced(WEB_PAGE)), "not a readable image", "skips"
    ),
    "folder for an image": Case(
        IMAGES, last_image(as_folder), "cannot be read (Is a directory)", "skips", NO_FILE
    ),
    "image missing": Case(IMAGES, last_image(removed), "no such file", "skips", NO_FILE),
    "image of 16 bit": Case(
        IMAGES, last_image(drawn("I;16")), "8 bits a channel, got mode I;16", "skips"
    ),
    "grey image": Case(
        IMAGES, last_image(drawn("L", kind="JPEG")), "mode L is made RGB", "goes on", is_note=True
    ),
    "image of no question": Case(
        IMAGES,
        last_image(copied("COCO_val2014_000000000007.jpg")),
        "no question is about it",
        "goes on",
        is_note=True,
    ),
    "training image in test": Case(
        IMAGES, training_image_in_test, "is in two parts, val2014 and train2014", "goes on"
    ),
    "no images": Case(IMAGES, removed, "VQAv1 not found in data.root=", "stops"),
    "zip that is none": Case(
        IMAGES, zipped(replaced(WEB_PAGE)), "val2014.zip: not a readable zip", "stops"
    ),
    "empty zip": Case(IMAGES, zipped(replaced(b"")), "val2014.zip: not a readable zip", "stops"),
    "zip without an image": Case(
        IMAGES, zipped(Path.exists, without=-1), "val2014.zip: holds no COCO", "skips"
    ),
    "sound zip": Case(IMAGES, zipped(Path.exists), "", "goes on"),
    "questions missing": Case(QUESTIONS, removed, "VQAv1 not found in data.root=", "stops"),
    "questions empty": Case(QUESTIONS, replaced(b""), "the file is empty", "stops"),
    "questions cut short": Case(QUESTIONS, cut, "damaged or truncated JSON", "stops"),
    "folder for questions": Case(QUESTIONS, as_folder, "cannot be read (Is a directory)", "stops"),
    "questions in UTF-16": Case(QUESTIONS, in_utf16, "not UTF-8 text", "stops"),
    "questions with BOM": Case(QUESTIONS, with_bom, "", "goes on"),
    "questions with CRLF": Case(QUESTIONS, with_crlf, "", "goes on"),
    "questions of train": Case(
        QUESTIONS, edited("val2014", "train2014"), "data_subtype must be 'val2014'", "stops"
    ),
    "question_id NaN": Case(
        QUESTIONS, question(question_id=float("nan")), "must be an integer, got nan", "stops"
    ),
    "image_id NaN": Case(
        QUESTIONS, question(image_id=float("nan")), "must be an integer, got nan", "stops"
    ),
    "duplicate id": Case(QUESTIONS, same_as_first("question_id"), "is there twice", "stops"),
    "question without text": Case(
        QUESTIONS, question(question=""), "questions[1].question is empty", "stops"
    ),
    "question without annotation": Case(
        ANNOTATIONS,
        json_edited(lambda content: content["annotations"].pop()),
        "has no annotation in",
        "stops",
    ),
    "annotation without question": Case(
        QUESTIONS,
        json_edited(lambda content: content["questions"].pop()),
        f"is not in {QUESTIONS}",
        "stops",
    ),
    "annotations with BOM": Case(ANNOTATIONS, with_bom, "", "goes on"),
    "annotations with CRLF": Case(ANNOTATIONS, with_crlf, "", "goes on"),
    "annotations cut short": Case(ANNOTATIONS, cut, "damaged or truncated JSON", "stops"),
    "no answers": Case(
        ANNOTATIONS, annotation(answers=[]), "answers must be 10 answers, got 0", "stops"
    ),
    "answers NaN": Case(
        ANNOTATIONS, annotation(answers=float("nan")), "answers must be a list, got nan", "stops"
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_damage_to_vqav1(
    scenes: Path, tmp_path: Path, make: Callable[..., VQADataModule], name: str
) -> None:
    check_case(CASES[name], copy_of(scenes, tmp_path / "root"), make)


def test_sound_scenes_give_notes_only(scenes: Path, make: Callable[..., VQADataModule]) -> None:
    findings = list(findings_of(make(scenes, on_bad_sample="skip")))
    assert {finding.severity for finding in findings} == {"note"}
    assert any("whole data set has 248,349" in finding.first for finding in findings)
    assert train(make(scenes)) == 0
    assert (
        list(
            findings_of(
                VQADataModule(None, world=WORLD, cache_dir=str(scenes.parent), holdout_images=2)
            )
        )
        == []
    )


def test_all_questions_of_a_bad_image_are_left_out(
    scenes: Path, tmp_path: Path, make: Callable[..., VQADataModule]
) -> None:
    root = copy_of(scenes, tmp_path / "root")
    bad = min((root / "train2014").iterdir())
    bad.write_bytes(b"")
    image_id = int(bad.stem[-12:])
    single: dict[str, Any] = {"batch_size": 1}  # of which nothing would be left
    for settings in (
        {},
        {"cache_images": True},
        single,
        {"group_by_image": True, "images_per_batch": 1},
    ):
        data = make(root, on_bad_sample="skip", **settings)
        dataset = data.dataset("train")
        loader = data.train_dataloader()
        batches = [batch.image_id.tolist() for batch in loader]
        assert len(batches) == len(loader)
        if not settings.get("group_by_image"):  # images have other numbers of questions
            assert {len(batch) for batch in batches} == {data.batch_size}
        seen = [each for batch in batches for each in batch]
        assert image_id not in seen
        assert set(dataset.image_id.tolist()) - set(seen) <= {image_id} or not settings.get(
            "group_by_image"
        )
        assert dataset.bad_samples == 1
        assert len(dataset[0].image_id) == 0


def test_damaged_lists_do_not_hide_bad_images(
    scenes: Path, tmp_path: Path, make: Callable[..., VQADataModule]
) -> None:
    root = copy_of(scenes, tmp_path / "root")
    (root / QUESTIONS).write_bytes(b"")
    photo = max((root / IMAGES).iterdir())
    photo.write_bytes(b"")
    lines = [
        finding.first
        for finding in findings_of(make(root, on_bad_sample="skip"))
        if finding.severity == "error"
    ]
    assert [line.split(":")[0] for line in lines] == [str(root / QUESTIONS), str(photo)]


def test_ids_in_both_splits_are_found(
    scenes: Path, tmp_path: Path, make: Callable[..., VQADataModule]
) -> None:
    root = copy_of(scenes, tmp_path / "root")
    shutil.rmtree(root / IMAGES)
    (root / IMAGES).mkdir()
    for path in (root / "train2014").iterdir():
        shutil.copy(path, root / IMAGES / path.name.replace("train", "val"))
    for name in (QUESTIONS, ANNOTATIONS):
        text = (root / name.replace("val", "train")).read_text()
        (root / name).write_text(text.replace("train2014", "val2014"))
    for path in root.glob("scene_graphs_*"):
        path.unlink()
    lines = [
        finding.first
        for finding in findings_of(make(root, on_bad_sample="skip"))
        if finding.severity == "error"
    ]
    assert any(
        "question_id" in line and "is in both train2014 and val2014" in line for line in lines
    )
    assert any("image_id" in line and "is in both train2014 and val2014" in line for line in lines)
    assert any("is in two parts, val2014 and train2014" in line for line in lines)
