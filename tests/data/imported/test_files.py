"""Two folders of images: what is paired, and what is said of the rest."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cfexp.data.imported.files import checked, numbers_of, pair_folders, read_pixels
from cfexp.data.imported.module import ImportedImages
from cfexp.errors import InputError
from tests.data.imported.trees import folders, grey, save

LEVELS = {"a": (10, 200), "b": (20, 210), "c": (30, 220)}


def test_stems_are_paired_whatever_their_endings(tmp_path: Path) -> None:
    query, counterfactual = folders(tmp_path, LEVELS)
    (query / "notes.txt").write_text("no image")
    save(query / ".hidden.png", grey(1))
    found, size = checked(pair_folders(query, counterfactual))
    assert (found.problems, found.notes, size) == ([], [], (16, 16))
    assert [(each.name, each.query.name, each.counterfactual.name) for each in found.imported] == [
        (stem, f"{stem}.jpg", f"{stem}.png") for stem in "abc"
    ]


def test_queries_without_a_counterfactual_are_noted_and_no_problem(tmp_path: Path) -> None:
    query, counterfactual = folders(tmp_path, LEVELS)
    (counterfactual / "b.png").unlink()
    found = pair_folders(query, counterfactual)
    assert [each.name for each in found.imported] == ["a", "c"]
    assert found.problems == []
    (note,) = found.notes
    assert note.startswith("1 of 3 queries have no counterfactual, the first is b: ")


def damaged(query: Path, counterfactual: Path) -> None:
    path = counterfactual / "b.png"
    path.write_bytes(path.read_bytes()[:60])


def unpaired(query: Path, counterfactual: Path) -> None:
    (query / "b.jpg").unlink()


def sized_otherwise(query: Path, counterfactual: Path) -> None:
    save(query / "b.jpg", grey(20, side=24))


def of_another_size_than_the_run(query: Path, counterfactual: Path) -> None:
    save(query / "b.jpg", grey(20, side=24))
    save(counterfactual / "b.png", grey(210, side=24))


def empty(query: Path, counterfactual: Path) -> None:
    (query / "b.jpg").write_bytes(b"")


def unreadable(query: Path, counterfactual: Path) -> None:
    (query / "b.jpg").unlink()
    (query / "b.jpg").mkdir()


def no_image(query: Path, counterfactual: Path) -> None:
    (counterfactual / "b.png").write_text("<html>")


def named_twice(query: Path, counterfactual: Path) -> None:
    save(query / "b.png", grey(20))


def dangling(query: Path, counterfactual: Path) -> None:
    (query / "b.jpg").unlink()
    (query / "b.jpg").symlink_to("nowhere.jpg")


def deep(query: Path, counterfactual: Path) -> None:
    Image.new("F", (16, 16)).save(counterfactual / "b.tiff")
    (counterfactual / "b.png").unlink()


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (damaged, "counterfactual/b.png: not a readable image"),
        (unpaired, "counterfactual/b.png has no query of that name in "),
        (sized_otherwise, "counterfactual/b.png is 16x16 pixels, its query 24x24: resize one"),
        (of_another_size_than_the_run, "b.png is 24x24 pixels, most others 16x16: a run has one"),
        (empty, "query/b.jpg: not a readable image"),
        (unreadable, "query/b.jpg: not a readable image"),
        (no_image, "counterfactual/b.png: not a readable image (no JPEG or "),
        (named_twice, "/query: 2 images are called b (b.jpg, b.png)"),
        (dangling, "query/b.jpg: no such file"),
        (deep, "counterfactual/b.tiff: an image must have 8 or 16 bits a channel, got mode F"),
    ],
)
def test_what_cannot_be_used_is_one_line_and_the_rest_is_used(
    tmp_path: Path, damage: Callable[[Path, Path], None], said: str
) -> None:
    both = folders(tmp_path, LEVELS)
    damage(*both)
    names: dict[str, Any] = dict(zip(("query", "counterfactual"), map(str, both), strict=True))
    with pytest.raises(InputError) as stopped:
        ImportedImages(**names).check()
    assert said in str(stopped.value)
    assert "on_bad_sample=skip leaves out what cannot be used" in str(stopped.value)
    assert "\n" not in str(stopped.value)
    images = ImportedImages(**names, on_bad_sample="skip")
    first, *rest = images.check()
    assert first.startswith("left out: ")
    assert said in first
    assert rest[-1] == "2 counterfactuals of 16x16 pixels"
    assert [each.name for each in images.imported] == ["a", "c"]
    assert images.description["left_out"] == [first.removeprefix("left out: ")]


def test_a_missing_or_empty_folder_and_nothing_left_are_one_line_each(tmp_path: Path) -> None:
    query, counterfactual = folders(tmp_path, LEVELS)
    (tmp_path / "none").mkdir()
    with pytest.raises(InputError, match=r"^query=.*/nowhere: no such folder$"):
        pair_folders(tmp_path / "nowhere", counterfactual)
    with pytest.raises(InputError, match=r"^counterfactual=.*/none: no image in this folder \("):
        pair_folders(query, tmp_path / "none")
    for path in query.iterdir():
        path.write_bytes(b"")
    with pytest.raises(
        InputError, match=r"^no counterfactual can be used, the first because .*a\.jpg"
    ):
        ImportedImages(str(query), str(counterfactual), on_bad_sample="skip").check()


def test_a_reconstruction_is_paired_and_checked_likewise(tmp_path: Path) -> None:
    query, counterfactual = folders(tmp_path, LEVELS)
    for stem, level in (("a", 12), ("b", 22)):
        save(tmp_path / "reconstruction" / f"{stem}.png", grey(level))
    found = pair_folders(query, counterfactual, tmp_path / "reconstruction")
    assert [each.name for each in found.imported] == ["a", "b"]
    (problem,) = found.problems
    assert "counterfactual/c.png has no reconstruction of that name in " in problem


def test_grey_images_are_made_rgb(tmp_path: Path) -> None:
    pixels = read_pixels(save(tmp_path / "grey.png", grey(77)))
    assert pixels.shape == (16, 16, 3)
    assert set(pixels.ravel().tolist()) == {77}


def test_names_that_are_numbers_are_the_keys() -> None:
    assert numbers_of(["0000012", "7"]) == [12, 7]
    assert numbers_of(["07", "7"]) is None
    assert numbers_of(["7", "a"]) is None
    assert numbers_of(["7" * 19]) is None


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"query": "a"},
        {"counterfactual": "a"},
        {"ace": "a", "query": "b"},
        {"ace": "a", "query": "b", "counterfactual": "c"},
    ],
)
def test_half_of_it_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(InputError, match="give query=DIR and counterfactual=DIR, or ace=DIR"):
        ImportedImages(**given)


def test_settings_are_checked(tmp_path: Path) -> None:
    both: dict[str, Any] = {"query": "a", "counterfactual": "b"}
    with pytest.raises(InputError, match="on_bad_sample must be raise or skip, got 'keep'"):
        ImportedImages(**both, on_bad_sample="keep")  # type: ignore[arg-type]
    with pytest.raises(InputError, match="batch_size must be a whole number of at least 1, got 0"):
        ImportedImages(**both, batch_size=0)
    with pytest.raises(InputError, match="results=smile: an experiment of a tree; give ace=DIR"):
        ImportedImages(**both, results="smile")


def test_other_content_is_another_fingerprint(tmp_path: Path) -> None:
    query, counterfactual = folders(tmp_path, LEVELS)
    both = str(query), str(counterfactual)
    before = ImportedImages(*both).fingerprint
    assert ImportedImages(*both).fingerprint == before
    save(counterfactual / "a.png", grey(201))
    assert ImportedImages(*both).fingerprint != before
