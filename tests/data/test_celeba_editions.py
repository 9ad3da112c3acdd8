"""CelebA in the other forms in which it is downloaded: lists with commas, a folder deeper, and the
lossless edition.
"""

import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image

from cfexp.data.faces.celeba import CelebADataModule
from cfexp.data.faces.celeba_files import read_attributes
from cfexp.data.faces.celebamask_hq import CelebAMaskHQDataModule
from cfexp.errors import InputError
from cfexp.worlds.faces import FaceParameters, cached_aligned_faces, cached_faces
from tests.data.damage import copy_of, edited, findings_of, train

IMAGES, PNG_IMAGES = "img_align_celeba", "img_align_celeba_png"
LISTS = ("list_attr_celeba", "list_eval_partition", "identity_CelebA")
HEADERS = {"list_eval_partition": "image_id,partition", "identity_CelebA": "image_id,identity"}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return cached_aligned_faces(FaceParameters(faces=24), tmp_path_factory.mktemp("cache"))


@pytest.fixture
def root(world: Path, tmp_path: Path) -> Path:
    return copy_of(world, tmp_path / "root")


def module(root: Path, **settings: str | int) -> CelebADataModule:
    given: dict[str, Any] = {"image_size": (16, 16), "batch_size": 4, "eval_batch_size": 4}
    return CelebADataModule(str(root), cache_dir=str(root.parent / "cache"), **given | settings)


def with_commas(root: Path, no: str = "-1") -> Path:
    """The lists as the most downloaded copy has them."""
    for name in LISTS:
        lines = (root / f"{name}.txt").read_text().splitlines()
        header = HEADERS.get(name, "image_id," + ",".join(lines[1].split()))
        rows = [",".join(line.split()) for line in (lines if name in HEADERS else lines[2:])]
        text = "\n".join([header, *(row.replace(",-1", f",{no}") for row in rows)]) + "\n"
        (root / f"{name}.csv").write_text(text)
        (root / f"{name}.txt").unlink()
    return root


def deeper(root: Path, name: str = IMAGES) -> Path:
    (root / name).rename(root / "images")
    (root / name).mkdir()
    (root / "images").rename(root / name / name)
    return root


def lossless(root: Path) -> Path:
    (root / PNG_IMAGES).mkdir()
    for path in (root / IMAGES).iterdir():
        Image.open(path).save(root / PNG_IMAGES / f"{path.stem}.png")
    shutil.rmtree(root / IMAGES)
    return root


def packed(root: Path, name: str) -> Path:
    with zipfile.ZipFile(root / f"{name}.zip", "w") as archive:
        for path in sorted((root / name).rglob("*.*") if (root / name).is_dir() else [root / name]):
            archive.write(path, path.relative_to(root))
    shutil.rmtree(root / name) if (root / name).is_dir() else (root / name).unlink()
    return root


EDITIONS: dict[str, Callable[[Path], object]] = {
    "lists with commas": with_commas,
    "lists with commas and zeros": lambda root: with_commas(root, no="0"),
    "a folder deeper": deeper,
    "as it is downloaded most": lambda root: deeper(with_commas(root)),
    "that, zipped": lambda root: packed(
        packed(deeper(with_commas(root)), IMAGES), "list_attr_celeba.csv"
    ),
    "lossless": lossless,
    "lossless, a folder deeper": lambda root: deeper(lossless(root), PNG_IMAGES),
    "lossless, zipped": lambda root: packed(lossless(root), PNG_IMAGES),
    "lossless in the other's folder": lambda root: (lossless(root) / PNG_IMAGES).rename(
        root / IMAGES
    ),
}


@pytest.mark.parametrize("name", EDITIONS)
def test_it_is_read_as_the_authors_form_is(world: Path, root: Path, name: str) -> None:
    EDITIONS[name](root)
    expected, data = module(world), module(root)
    for one, other in zip(expected.test_dataloader(), data.test_dataloader(), strict=True):
        assert one.image_id == other.image_id
        assert torch.equal(one.image, other.image)  # JPEG decoded and stored without loss
        assert torch.equal(one.labels, other.labels)
        assert torch.equal(one.identity, other.identity)
    train(data)
    findings = findings_of(module(root, on_bad_sample="skip"))
    assert not findings.has_errors, [*findings]
    assert not any("has no attributes" in finding.first for finding in findings)


def test_the_lossless_edition_is_another_data_set(root: Path) -> None:
    before = module(root)
    assert before.description["images"] == IMAGES
    fingerprint = before.fingerprint
    after = module(lossless(root))
    assert after.description["images"] == PNG_IMAGES
    assert after.fingerprint == f"{fingerprint}-png"


def line_of(root: Path) -> str:
    with pytest.raises(InputError) as caught:
        module(root).setup()
    lines = [finding.first for finding in findings_of(module(root, on_bad_sample="skip"))]
    assert str(caught.value).partition(";")[0] in [line.partition(";")[0] for line in lines]
    return str(caught.value)


@pytest.mark.parametrize("name", LISTS)
def test_a_list_in_both_forms_is_refused(root: Path, name: str) -> None:
    kept = (root / f"{name}.txt").read_bytes()
    with_commas(root)
    (root / f"{name}.txt").write_bytes(kept)
    assert (
        line_of(root)
        == f"{root / f'{name}.txt'}: {name}.csv is there as well; keep the one that is to count"
    )


def test_two_editions_or_two_folders_of_images_are_refused(root: Path) -> None:
    shutil.copytree(root / IMAGES, root / "kept")
    shutil.copytree(root / "kept", root / IMAGES / IMAGES)
    assert "there are images in" in line_of(root)
    shutil.rmtree(root / IMAGES / IMAGES)
    (root / "kept").rename(root / PNG_IMAGES)
    assert f"{root / IMAGES}: {PNG_IMAGES} is there as well; keep the edition" in line_of(root)


def test_the_parts_of_a_7z_archive_are_to_be_unpacked(root: Path) -> None:
    shutil.rmtree(root / IMAGES)
    parts = root / "Img" / f"{PNG_IMAGES}.7z"
    parts.mkdir(parents=True)
    for number in (2, 1):
        (parts / f"{PNG_IMAGES}.7z.00{number}").write_bytes(b"7z")
    first = parts / f"{PNG_IMAGES}.7z.001"
    remedy = f"unpack the images into {root}: 7z x {first.name}"
    problem = "a part of a 7z archive, which cannot be read as it is"
    assert line_of(root) == f"{first}: {problem}; {remedy}"


def test_a_missing_lossless_image_is_named(root: Path) -> None:
    min((lossless(root) / PNG_IMAGES).iterdir()).unlink()
    with pytest.raises(InputError, match="an image of the attribute file is no file there"):
        module(root).setup()


TABLES = {
    "both words for no": (
        "image_id,Male,Young\n000001.jpg,0,1\n000002.jpg,-1,1\n",
        "line 2 has the value '0', line 3",
    ),
    "no header": ("000001.jpg,1,1\n", "the header is missing"),
    "another separator": (
        "image_id;Male;Young\n000001.jpg;1;1\n",
        "a header of columns between commas",
    ),
    "another value": (
        "image_id,Male\n000001.jpg,yes\n",
        "has the value 'yes'; attributes are 1 or -1, or 1 or 0",
    ),
    "a row's number first": (
        ",image_id,Male\n0,000001.jpg,1\n",
        "must begin with an image file's name, got '0'",
    ),
    "a column less": ("image_id,Male,Young\n000001.jpg,1\n", "has 1 values for 2 attributes"),
    "a quotation mark": ('image_id,Male\n"000001.jpg,1\n', "has no columns between commas"),
    "no rows": ("image_id,Male\n", "names no image"),
}


@pytest.mark.parametrize(("text", "named"), TABLES.values(), ids=TABLES)
def test_what_is_wrong_with_a_list_with_commas_is_named(
    tmp_path: Path, text: str, named: str
) -> None:
    path = tmp_path / "list_attr_celeba.csv"
    path.write_text(text)
    with pytest.raises(InputError) as caught:
        read_attributes(path)
    assert named in str(caught.value)


def test_quotation_marks_blanks_crlf_and_a_byte_order_mark_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "list_attr_celeba.csv"
    path.write_bytes(b'\xef\xbb\xbf"image_id", "Male"\r\n"000001.jpg", 1\r\n\r\n000002.jpg,0 \r\n')
    attributes = read_attributes(path)
    assert attributes.names == ("Male",)
    assert attributes.select(path, ["Male"]) == {"000001.jpg": (1.0,), "000002.jpg": (0.0,)}


def test_zeros_stand_for_no_in_the_authors_form_too(root: Path) -> None:
    path = root / "list_attr_celeba.txt"
    before = module(root).dataset("test").labels
    path.write_text(path.read_text().replace("-1", "0"))
    assert torch.equal(module(root).dataset("test").labels, before)
    edited(" 0", " -1")(path)
    with pytest.raises(
        InputError, match=r"has the value '0', line 3 has '-1': .* in the whole file"
    ):
        module(root).setup()


def test_the_identities_of_celebamask_hq_may_have_commas(tmp_path: Path) -> None:
    root = copy_of(
        cached_faces(FaceParameters(faces=24, image_size=32), tmp_path / "cache"), tmp_path / "root"
    )

    def identities() -> NDArray[np.int64]:
        cache = str(tmp_path / "cache")
        data = CelebAMaskHQDataModule(
            str(root), cache_dir=cache, image_size=(16, 16), first_test_id=20, holdout_images=4
        )
        return data.dataset("test").identity.numpy()

    before = identities()
    text = (root / "identity_CelebA.txt").read_text()
    (root / "identity_CelebA.txt").unlink()
    (root / "identity_CelebA.csv").write_text("image_id,identity\n" + text.replace(" ", ","))
    np.testing.assert_array_equal(identities(), before)
    assert (before >= 0).all()
