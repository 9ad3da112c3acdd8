"""VQA's second version: its files' names, in place of the first version's and never beside them."""

import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfexp.data.questions.files import find_version
from cfexp.data.questions.vqa import VQADataModule
from cfexp.errors import InputError
from tests.data.damage import findings_of, train
from tests.data.vqa_writer import dump, load

NAMES = tuple(
    name
    for split in ("train2014", "val2014")
    for name in (f"OpenEnded_mscoco_{split}_questions.json", f"mscoco_{split}_annotations.json")
)


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., VQADataModule]:
    def module(root: Path, **settings: Any) -> VQADataModule:
        given: dict[str, Any] = {
            "cache_dir": str(tmp_path / "cache"),
            "image_size": 16,
            "batch_size": 4,
            "holdout_images": 2,
        }
        return VQADataModule(str(root), **{**given, **settings})

    return module


def renamed(root: Path, names: tuple[str, ...] = NAMES) -> Path:
    for name in names:
        (root / name).rename(root / f"v2_{name}")
    return root


def test_the_second_version_is_read_and_called_by_its_name(
    vqa_root: Path, make: Callable[..., VQADataModule], caplog: pytest.LogCaptureFixture
) -> None:
    first = make(vqa_root)
    train(first)
    assert first.description["data_set"] == "VQAv1"
    renamed(vqa_root)
    caplog.set_level("INFO")
    second = make(vqa_root)
    train(second)
    assert second.description["data_set"] == "VQAv2"
    assert f"VQAv2 in data.root={vqa_root}" in caplog.text
    assert second.question(910).question == first.question(910).question
    assert second.fingerprint != first.fingerprint
    lines = [finding.first for finding in findings_of(make(vqa_root, on_bad_sample="skip"))]
    assert f"{vqa_root}: 24 questions of VQAv2's train2014; the whole data set has 443,757" in lines
    assert (
        f"{vqa_root}: 8 images of train2014 with questions; the whole data set has 82,783" in lines
    )


def test_the_second_version_is_read_from_its_zips(
    vqa_root: Path, make: Callable[..., VQADataModule]
) -> None:
    expected = make(vqa_root).question(910).question
    for split, short in (("train2014", "Train"), ("val2014", "Val")):
        for kind, name in (
            ("Questions", f"OpenEnded_mscoco_{split}_questions.json"),
            ("Annotations", f"mscoco_{split}_annotations.json"),
        ):
            with zipfile.ZipFile(vqa_root / f"v2_{kind}_{short}_mscoco.zip", "w") as archive:
                archive.write(vqa_root / name, f"v2_{name}")
            (vqa_root / name).unlink()
    data = make(vqa_root)
    assert data.data_set == "VQAv2"
    assert data.question(910).question == expected
    train(data)


@pytest.mark.parametrize("moved", [NAMES[:1], NAMES[1:2], NAMES[:2]], ids=str)
def test_files_of_both_versions_in_one_folder_are_refused(
    vqa_root: Path, make: Callable[..., VQADataModule], moved: tuple[str, ...]
) -> None:
    renamed(vqa_root, moved)
    both = f"VQAv1's .* and VQAv2's v2_{moved[0]}"
    line = f"{vqa_root}: holds {both}; keep the files of one version there"
    with pytest.raises(InputError, match=line):
        make(vqa_root).setup("test")
    with pytest.raises(InputError, match=line):
        _ = make(vqa_root).fingerprint
    (finding,) = (
        each for each in findings_of(make(vqa_root, on_bad_sample="skip")) if "VQAv2" in each.first
    )
    assert finding.severity == "error"


def say_version(path: Path, version: str) -> None:
    dump(path, {**load(path), "info": {"description": "questions", "version": version}})


def test_a_renamed_second_version_is_known_by_what_it_says(vqa_root: Path) -> None:
    for name in NAMES:
        say_version(vqa_root / name, "1.0")
    assert find_version(vqa_root) == "VQAv1"
    say_version(vqa_root / NAMES[1], "2.0")
    with pytest.raises(
        InputError, match=f"{NAMES[1]} says that it is of version 2, .*json does not"
    ):
        find_version(vqa_root)
    for name in NAMES:
        say_version(vqa_root / name, "2.0")
    assert find_version(vqa_root) == "VQAv2"


def test_what_is_missing_is_named_as_its_version_has_it(
    vqa_root: Path, make: Callable[..., VQADataModule]
) -> None:
    (renamed(vqa_root) / f"v2_{NAMES[3]}").unlink()
    with pytest.raises(
        InputError,
        match=f"VQAv2 not found in .*: expected {vqa_root / f'v2_{NAMES[3]}'}. See docs/",
    ):
        make(vqa_root).setup("test")
