"""Damage to CelebAMask-HQ and CelebA: doctor names it; training stops with one line, or skips and
counts.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from cfexp.data.faces.celeba import CelebADataModule
from cfexp.data.faces.celebamask_hq import CelebAMaskHQDataModule
from cfexp.worlds.face_names import CELEBA_ATTRIBUTES
from cfexp.worlds.faces import FaceParameters, cached_aligned_faces, cached_faces
from tests.data.damage import (
    WEB_PAGE,
    Case,
    Damage,
    all_removed,
    as_folder,
    check_case,
    copied,
    copy_of,
    cut,
    drawn,
    edited,
    findings_of,
    in_utf16,
    line_gone,
    moved,
    removed,
    replaced,
    to_be_turned,
    train,
    with_bom,
    with_crlf,
    zipped,
)

ATTRIBUTES, MAPPING, IDENTITIES = (
    "CelebAMask-HQ-attribute-anno.txt",
    "CelebA-HQ-to-CelebA-mapping.txt",
    "identity_CelebA.txt",
)
PHOTO, MASKS = "CelebA-HQ-img/21.jpg", "CelebAMask-HQ-mask-anno/0"
SKIN = f"{MASKS}/00021_skin.png"
NO_FILE = "an image of the attribute file is no file there"


@pytest.fixture(scope="session")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("faces")


@pytest.fixture(scope="session")
def masked_faces(cache: Path) -> Path:
    return cached_faces(FaceParameters(faces=24, image_size=32), cache)


@pytest.fixture(scope="session")
def aligned_faces(cache: Path) -> Path:
    return cached_aligned_faces(FaceParameters(faces=24), cache)


@pytest.fixture
def hq(cache: Path) -> Callable[..., CelebAMaskHQDataModule]:
    def make(root: Path, **settings: Any) -> CelebAMaskHQDataModule:
        sizes = {"image_size": (16, 16), "first_test_id": 20, "holdout_images": 4, "batch_size": 4}
        return CelebAMaskHQDataModule(
            str(root), cache_dir=str(cache), **{**sizes, "eval_batch_size": 1, **settings}
        )

    return make


@pytest.fixture
def celeba(cache: Path) -> Callable[..., CelebADataModule]:
    def make(root: Path, **settings: Any) -> CelebADataModule:
        sizes = {"image_size": (16, 16), "batch_size": 4, "eval_batch_size": 1}
        return CelebADataModule(str(root), cache_dir=str(cache), **{**sizes, **settings})

    return make


def row_added(path: Path) -> None:
    """Attributes of 24.jpg, which is no image but in the mapping, as it has rows for all 30,000."""
    lines = path.read_text().splitlines()
    with path.with_name(MAPPING).open("a") as mapping:
        mapping.write("24 200000 200001.jpg\n")
    path.write_text("\n".join(["25", *lines[1:], lines[-1].replace("23.jpg", "24.jpg")]) + "\n")


def same_original(path: Path) -> None:
    """Image 21, a test image, is made of the picture of CelebA that 3, a training image, is made
    of.
    """
    lines = path.read_text().splitlines()
    lines[22] = f"21 {' '.join(lines[4].split()[1:])}"
    path.write_text("\n".join(lines) + "\n")


HQ: dict[str, Case] = {
    "truncated JPEG": Case(PHOTO, cut, "21.jpg: not a readable image", "skips"),
    "empty image": Case(PHOTO, replaced(b""), "21.jpg: not a readable image", "skips"),
    "web page for an image": Case(
        PHOTO, replaced(WEB_PAGE), "21.jpg: not a readable image", "skips"
    ),
    "folder for an image": Case(
        PHOTO, as_folder, "21.jpg: cannot be read (Is a directory)", "skips", NO_FILE
    ),
    "image missing": Case(PHOTO, removed, "21.jpg: no such file", "skips", NO_FILE),
    "image of 16 bit": Case(
        PHOTO, drawn("I;16"), "must have 8 bits a channel, got mode I;16", "skips"
    ),
    "image in CMYK": Case(
        PHOTO, drawn("CMYK", kind="JPEG"), "mode CMYK is made RGB", "goes on", is_note=True
    ),
    "grey image": Case(
        PHOTO, drawn("L", kind="JPEG"), "mode L is made RGB", "goes on", is_note=True
    ),
    "image of other proportions": Case(
        PHOTO, drawn("RGB", (64, 32)), "its image 64x32: other proportions", "skips"
    ),
    "image of another size": Case(
        PHOTO, drawn("RGB"), "is 64x64, most are 32x32", "goes on", is_note=True
    ),
    "mask missing": Case(
        MASKS, all_removed("00021_*"), "no mask of any part", "skips", "no mask of image 21"
    ),
    "truncated mask": Case(SKIN, cut, "00021_skin.png: not a readable image", "skips"),
    "empty mask": Case(SKIN, replaced(b""), "00021_skin.png: not a readable image", "skips"),
    "folder for a mask": Case(
        SKIN, as_folder, "00021_skin.png: cannot be read (Is a directory)", "skips"
    ),
    "JPEG for a mask": Case(
        SKIN, drawn("L", kind="JPEG"), "00021_skin.png: not a readable image", "skips"
    ),
    "label id 77": Case(
        SKIN, drawn("L", (32, 32), 77), "must be 0 or 255 everywhere, got 77", "skips"
    ),
    "mask of another size": Case(
        SKIN, drawn("L", (16, 16)), "is 32x32 pixels, 00021_skin.png is 16x16", "skips"
    ),
    "mask of an unknown part": Case(
        SKIN, copied("00021_tail.png"), "00021_tail.png: is the mask of no part", "goes on"
    ),
    "mask in another folder": Case(
        SKIN,
        moved("../3/00021_skin.png"),
        "3/00021_skin.png: is not read: its folder is 0",
        "goes on",
    ),
    "face without skin": Case(
        SKIN, removed, "0/00021_skin.png: no such file: a face", "goes on", is_note=True
    ),
    "mask of no image": Case(
        SKIN, copied("00024_skin.png"), "is the mask of no image", "goes on", is_note=True
    ),
    "folder of masks missing": Case(MASKS, removed, "cannot be listed", "stops"),
    "attributes missing": Case(
        ATTRIBUTES, removed, "no such file", "stops", "CelebAMask-HQ not found in data.root="
    ),
    "attributes empty": Case(ATTRIBUTES, replaced(b""), "the file is empty", "stops"),
    "folder for attributes": Case(
        ATTRIBUTES, as_folder, "cannot be read (Is a directory)", "stops"
    ),
    "attributes without header": Case(
        ATTRIBUTES, line_gone(1), "must name the attributes; the header", "stops"
    ),
    "attributes without count": Case(
        ATTRIBUTES, line_gone(0), "must be the number of images", "stops"
    ),
    "attributes a row short": Case(
        ATTRIBUTES, line_gone(9), "announces '24' images, 23 follow", "stops"
    ),
    "attributes cut short": Case(ATTRIBUTES, cut, "line", "stops"),
    "attributes with BOM": Case(ATTRIBUTES, with_bom, "", "goes on"),
    "attributes with CRLF": Case(ATTRIBUTES, with_crlf, "", "goes on"),
    "attributes in UTF-16": Case(ATTRIBUTES, in_utf16, "not UTF-8 text", "stops"),
    "duplicate id": Case(
        ATTRIBUTES, edited("\n7.jpg", "\n6.jpg"), "is about 6.jpg, which is there before", "stops"
    ),
    "attribute of 0": Case(ATTRIBUTES, edited(" -1 ", " 0 "), "has the value '0'", "stops"),
    "attribute NaN": Case(ATTRIBUTES, edited(" -1 ", " nan "), "has the value 'nan'", "stops"),
    "attribute renamed": Case(
        ATTRIBUTES, edited("Smiling", "Smile"), "has no attribute 'Smiling'", "stops"
    ),
    "attribute twice": Case(ATTRIBUTES, edited("Young", CELEBA_ATTRIBUTES[0]), "twice", "stops"),
    "attributes without image": Case(
        ATTRIBUTES, row_added, "24.jpg, which is no image of", "skips", NO_FILE
    ),
    "image without attributes": Case(
        PHOTO, copied("24.jpg"), "24.jpg: has no attributes in", "goes on", is_note=True
    ),
    "what a Mac leaves": Case(PHOTO, copied("._21.jpg"), "", "goes on"),
    "image to be turned": Case(
        PHOTO, to_be_turned, "21.jpg: EXIF says that it is to be", "goes on", is_note=True
    ),
    "test image among those of training": Case(
        PHOTO, copied("3.jpg"), "is in two parts, test and train", "goes on"
    ),
    "mapping without header": Case(MAPPING, line_gone(0), "must be the header", "stops"),
    "mapping with BOM": Case(MAPPING, with_bom, "", "goes on"),
    "mapping with CRLF": Case(MAPPING, with_crlf, "", "goes on"),
    "mapping a row short": Case(MAPPING, line_gone(8), "has no row for image 7", "stops"),
    "mapping with a duplicate id": Case(
        MAPPING, edited("\n7 ", "\n6 "), "has idx 6, which is there before", "stops"
    ),
    "one original in two parts": Case(
        MAPPING, same_original, "of the train part: split leakage", "goes on"
    ),
    "web page for identities": Case(IDENTITIES, replaced(WEB_PAGE), "line 1 must", "stops"),
    "identities with CRLF": Case(IDENTITIES, with_crlf, "", "goes on"),
}


@pytest.mark.parametrize("name", HQ)
def test_damage_to_celebamask_hq(
    masked_faces: Path, tmp_path: Path, hq: Callable[..., CelebAMaskHQDataModule], name: str
) -> None:
    check_case(HQ[name], copy_of(masked_faces, tmp_path / "root"), hq)


def test_sound_faces_give_notes_only(
    masked_faces: Path, hq: Callable[..., CelebAMaskHQDataModule]
) -> None:
    for split in ("paper", "celeba"):
        findings = list(findings_of(hq(masked_faces, split=split, on_bad_sample="skip")))
        lines = [finding.first for finding in findings if "shows the person" not in finding.first]
        assert lines == [
            f"{masked_faces / 'CelebA-HQ-img'}: 24 images; the whole data set has 30,000"
        ]
        assert len(findings) == 1 + (split == "paper")  # which lets people be in both parts
    embedded = CelebAMaskHQDataModule(
        None,
        world=FaceParameters(faces=24, image_size=32),
        cache_dir=str(masked_faces.parent),
        first_test_id=20,
    )
    embedded.on_bad_sample, embedded.holdout_images = "skip", 4
    assert not findings_of(embedded).has_errors
    assert train(hq(masked_faces)) == 0


PARTITION, LIST, ALIGNED = "list_eval_partition.txt", "list_attr_celeba.txt", "img_align_celeba"


def last_image(damage: Damage) -> Damage:
    """Damage to the last image by name, which is of the test part."""
    return lambda folder: damage(max(folder.iterdir()))


def person_moved(path: Path) -> None:
    """The last image, of the test part, shows the person of the first, of the train part."""
    lines = path.read_text().splitlines()
    lines[-1] = f"{lines[-1].split()[0]} {lines[0].split()[1]}"
    path.write_text("\n".join(lines) + "\n")


def last_member_scribbled(path: Path) -> None:
    content = path.read_bytes()
    start = content.rindex(b"PK\x03\x04") + 200
    path.write_bytes(content[:start] + b"\x55" * 100 + content[start + 100 :])


CELEBA: dict[str, Case] = {
    "truncated JPEG": Case(ALIGNED, last_image(cut), "not a readable image", "skips"),
    "empty image": Case(ALIGNED, last_image(replaced(b"")), "not a readable image", "skips"),
    "folder for an image": Case(
        ALIGNED, last_image(as_folder), "cannot be read (Is a directory)", "skips", NO_FILE
    ),
    "image missing": Case(ALIGNED, last_image(removed), "no such file", "skips", NO_FILE),
    "image too small": Case(
        ALIGNED, last_image(drawn("RGB", (128, 128))), "128x128, too small", "skips"
    ),
    "image of 16 bit": Case(
        ALIGNED, last_image(drawn("I;16", (178, 218))), "got mode I;16", "skips"
    ),
    "image without attributes": Case(
        ALIGNED, last_image(copied("000001.jpg")), "has no attributes in", "goes on", is_note=True
    ),
    "no images": Case(ALIGNED, removed, "CelebA not found in data.root=", "stops"),
    "partition missing": Case(
        PARTITION, removed, "no such file", "stops", "CelebA not found in data.root="
    ),
    "partition empty": Case(PARTITION, replaced(b" \n"), "the file is empty", "stops"),
    "partition a row short": Case(PARTITION, line_gone(5), "has no row for", "stops"),
    "partition with a part 7": Case(
        PARTITION, edited(".jpg 0", ".jpg 7"), "must be 0, 1 or 2, got 7", "stops"
    ),
    "partition with BOM": Case(PARTITION, with_bom, "", "goes on"),
    "partition with CRLF": Case(PARTITION, with_crlf, "", "goes on"),
    "attributes without header": Case(
        LIST, line_gone(1), "must name the attributes; the header", "stops"
    ),
    "attributes with CRLF": Case(LIST, with_crlf, "", "goes on"),
    "person in two parts": Case(
        IDENTITIES, person_moved, "of the train part: split leakage", "goes on"
    ),
    "identities a row short": Case(IDENTITIES, line_gone(5), "has no row for", "goes on"),
    "identities NaN": Case(
        IDENTITIES, edited(".jpg ", ".jpg nan"), "where a whole number must be", "stops"
    ),
    "zip that is none": Case(ALIGNED, zipped(replaced(WEB_PAGE)), "not a readable zip", "stops"),
    "empty zip": Case(ALIGNED, zipped(replaced(b"")), "not a readable zip", "stops"),
    "zip cut short": Case(ALIGNED, zipped(cut), "not a readable zip", "stops"),
    "folder for a zip": Case(ALIGNED, zipped(as_folder), "not a readable zip", "stops"),
    "zip with a damaged image": Case(
        ALIGNED, zipped(last_member_scribbled), "cannot be read from the zip", "skips"
    ),
    "zip without an image": Case(ALIGNED, zipped(Path.exists, without=-1), "holds no ", "skips"),
    "sound zip": Case(ALIGNED, zipped(Path.exists), "", "goes on"),
}


@pytest.mark.parametrize("name", CELEBA)
def test_damage_to_celeba(
    aligned_faces: Path, tmp_path: Path, celeba: Callable[..., CelebADataModule], name: str
) -> None:
    check_case(CELEBA[name], copy_of(aligned_faces, tmp_path / "root"), celeba)


def test_sound_aligned_faces_give_notes_only(
    aligned_faces: Path, celeba: Callable[..., CelebADataModule]
) -> None:
    (finding,) = findings_of(celeba(aligned_faces, on_bad_sample="skip"))
    assert finding == (
        "note",
        1,
        f"{aligned_faces / ALIGNED}: 24 images; the whole data set has 202,599",
    )
