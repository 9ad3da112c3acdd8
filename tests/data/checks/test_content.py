"""What doctor and the start of a run see in images, label maps and labels that can all be read."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from cfexp.data.checks.findings import Finding
from cfexp.data.faces.celeba import CelebADataModule
from cfexp.data.faces.celebamask_hq import CelebAMaskHQDataModule
from cfexp.data.questions.vqa import VQADataModule
from cfexp.data.streets.bdd100k import BDD100kDataModule
from cfexp.worlds.faces import FaceParameters, cached_aligned_faces
from tests.data.damage import copy_of, findings_of
from tests.data.vqa_writer import dump, load

ALIGNED, MASKS = "img_align_celeba", "labels/sem_seg/masks"


def aligned(root: Path, **settings: Any) -> CelebADataModule:
    given = {"image_size": (16, 16), "batch_size": 4, **settings}
    return CelebADataModule(str(root), cache_dir=str(root.parent / "cache"), **given)


def masked(root: Path, **settings: Any) -> CelebAMaskHQDataModule:
    given = {
        "image_size": (16, 16),
        "batch_size": 4,
        "first_test_id": 20,
        "holdout_images": 4,
        **settings,
    }
    return CelebAMaskHQDataModule(str(root), cache_dir=str(root.parent / "cache"), **given)


def street(root: Path, **settings: Any) -> BDD100kDataModule:
    given = {"image_size": (32, 64), "batch_size": 2, "holdout_images": 2, **settings}
    return BDD100kDataModule(str(root), cache_dir=str(root.parent / "cache"), **given)


def found(data: Any, words: str) -> Finding:
    data.on_bad_sample = "skip"
    findings = [finding for finding in findings_of(data) if words in finding.first]
    assert len(findings) == 1, [finding.first for finding in findings_of(data)]
    return findings[0]


def said(data: Any, caplog: pytest.LogCaptureFixture) -> list[str]:
    """What the start of a training says, of whatever stage of it."""
    caplog.clear()
    data.prepare_data()
    for stage in ("fit", "test"):
        data.setup(stage)
    return [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]


def redrawn(paths: Any, change: Callable[[Image.Image], Image.Image]) -> None:
    for path in paths:
        with Image.open(path) as picture:
            changed = change(picture)
        changed.save(path)


# Sizes


@pytest.mark.parametrize("size", [(256, 256), (409, 687), (1024, 1024)])
def test_images_that_are_not_the_aligned_ones_are_told(
    celeba: Path, size: tuple[int, int], caplog: pytest.LogCaptureFixture
) -> None:
    assert said(aligned(celeba), caplog) == []
    paths = sorted((celeba / ALIGNED).iterdir())
    redrawn(paths, lambda picture: picture.resize(size))
    first = aligned(celeba).records("train")[0].image
    line = f"is {size[0]}x{size[1]}; CelebA's aligned images have 178x218: is data.crop=150 meant?"
    finding = found(aligned(celeba), "is data.crop=150 meant?")
    assert (finding.severity, finding.times) == ("note", 24)
    assert finding.first == f"{first}: {line}"
    assert said(aligned(celeba), caplog) == [
        f"{first} {line} (python -m cfexp.doctor looks at all images)"
    ]
    assert (
        said(aligned(celeba, crop=None), caplog) == []
    )  # the whole image is meant, whatever its size


def test_a_few_images_of_another_size_are_counted_and_do_not_stop_to_be_told_in_a_run(
    celeba: Path, caplog: pytest.LogCaptureFixture
) -> None:
    redrawn(sorted((celeba / ALIGNED).iterdir())[-2:], lambda picture: picture.resize((200, 200)))
    assert found(aligned(celeba), "is data.crop=150 meant?").times == 2
    assert said(aligned(celeba), caplog) == []


def test_images_of_other_proportions_or_too_small_are_told(
    hq: Path, streets: Path, vqa_root: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert (
        found(masked(hq, image_size=(128, 128)), "enlarged 4.0 times to what is shown").times == 24
    )
    (line,) = said(masked(hq, image_size=(128, 128)), caplog)
    assert "is 32x32; it is enlarged 4.0 times to what is shown" in line
    layouts = hq.parent / "layouts"
    layouts.mkdir()
    for number in range(24):
        Image.new("L", (48, 32)).save(layouts / f"{number}.png")
    redrawn((hq / "CelebA-HQ-img").iterdir(), lambda picture: picture.resize((48, 32)))
    assert found(masked(hq, layouts=str(layouts)), "CelebAMask-HQ's images are square").times == 24
    redrawn((streets / "images").rglob("*.jpg"), lambda picture: picture.resize((64, 64)))
    assert found(street(streets, layouts="none"), "BDD100k's images have 1280x720").times == 14
    questions = VQADataModule(
        str(vqa_root), cache_dir=str(hq.parent / "cache"), image_size=448, holdout_images=2
    )
    assert found(questions, "is enlarged 14.0 times").times == 12
    questions = VQADataModule(
        str(vqa_root),
        cache_dir=str(hq.parent / "cache"),
        image_size=448,
        holdout_images=2,
        batch_size=2,
    )
    assert any("is 48x32; it is enlarged 14.0 times" in line for line in said(questions, caplog))


# Images


def test_images_of_one_colour_and_grey_ones_are_counted(
    celeba: Path, caplog: pytest.LogCaptureFixture
) -> None:
    paths = sorted((celeba / ALIGNED).iterdir())
    redrawn(paths[:3], lambda picture: Image.new("RGB", picture.size, (90, 120, 40)))
    finding = found(aligned(celeba), "is of one colour only")
    assert (finding.severity, finding.times) == ("note", 3)
    redrawn(paths[3:], lambda picture: picture.convert("L").convert("RGB"))
    assert found(aligned(celeba), "21 of 24 images are grey (R = G = B)").times == 21
    assert not [line for line in said(aligned(celeba), caplog) if "grey" in line]
    redrawn(paths, lambda picture: picture.convert("L"))  # files that have no colours to lack
    assert not [each for each in findings_of(aligned(celeba)) if "grey" in each.first]


# Label maps


def test_label_maps_of_one_region_are_counted_and_all_of_them_an_error(
    streets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    masks = sorted((streets / MASKS / "train").iterdir())
    redrawn(masks[:2], lambda mask: Image.new("L", mask.size, 10))
    finding = found(street(streets), "the label map holds one region only")
    assert (finding.severity, finding.times) == ("note", 2)
    redrawn((streets / MASKS).rglob("*.png"), lambda mask: Image.new("L", mask.size, 255))
    finding = found(
        street(streets), "this label map and all others hold one region only, unlabeled"
    )
    assert (finding.severity, finding.times) == ("error", 14)
    assert any("hold one region only, unlabeled" in line for line in said(street(streets), caplog))


def test_binary_masks_and_those_of_little_are_told(streets: Path) -> None:
    def binary(mask: Image.Image) -> Image.Image:
        return mask.point([255 if value == 0 else 0 for value in range(256)])

    masks = sorted((streets / MASKS).rglob("*.png"))
    kept = {path: path.read_bytes() for path in masks}
    redrawn(masks, binary)
    assert found(street(streets), "hold road and unlabeled only").times == 14
    for path, content in kept.items():
        path.write_bytes(content)
    redrawn(
        masks[:3],
        lambda mask: mask.point([value if value in (6, 13) else 255 for value in range(256)]),
    )
    assert found(street(streets), "most pixels of the label map are unlabeled").times == 3


# What train ids are in Cityscapes' own numbers, as far as those are train ids, too; anything else
# is its 0.
IDS = {0: 7, 1: 8, 2: 11, 3: 12, 4: 13, 5: 17}
CITYSCAPES = [IDS.get(value, 0) for value in range(256)]


def test_masks_of_ids_in_place_of_train_ids_are_an_error(
    streets: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert not any(
        "they look like" in finding.first
        for finding in findings_of(street(streets, on_bad_sample="skip"))
    )
    assert said(street(streets), caplog) == []
    redrawn((streets / MASKS).rglob("*.png"), lambda mask: mask.point(CITYSCAPES))
    finding = found(street(streets), "they look like Cityscapes' ids in place of train ids")
    assert (finding.severity, finding.times) == ("error", 14)
    assert "as the label maps are read they show" in finding.first
    assert "traffic_sign" in finding.first
    assert any("they look like Cityscapes' ids" in line for line in said(street(streets), caplog))


def test_a_few_masks_of_ids_are_counted(streets: Path) -> None:
    redrawn(sorted((streets / MASKS / "train").iterdir())[:2], lambda mask: mask.point(CITYSCAPES))
    finding = found(street(streets), "it looks like Cityscapes' ids in place of train ids")
    assert (finding.severity, finding.times) == ("note", 2)


def test_label_maps_that_look_like_nothing_known_are_told(streets: Path) -> None:
    rng = np.random.default_rng(0)

    def scattered(mask: Image.Image) -> Image.Image:
        return Image.fromarray(rng.choice(np.array([7, 8, 11, 12], np.uint8), mask.size[::-1]))

    masks = sorted((streets / MASKS).rglob("*.png"))
    redrawn(masks[:2], scattered)
    finding = found(
        street(streets), "unlike streets: is it written by the numbers of these regions?"
    )
    assert (finding.severity, finding.times) == ("note", 2)
    redrawn(masks, scattered)
    finding = found(
        street(streets), "unlike streets: are they written by the numbers of these regions?"
    )
    assert (finding.severity, finding.times) == ("note", 14)


# Labels


def relabelled(root: Path, share: float, parts: tuple[str, ...] = ("0", "1", "2")) -> None:
    """Young becomes yes of this share of the images of some parts."""
    partition = dict(
        line.split() for line in (root / "list_eval_partition.txt").read_text().splitlines()
    )
    first, second, *rows = (root / "list_attr_celeba.txt").read_text().splitlines()
    lines = []
    for part in sorted(set(partition.values())):
        of_part = [row for row in rows if partition[row.split()[0]] == part]
        for place, row in enumerate(of_part):
            values = row.split()
            if part in parts:
                values[1 + second.split().index("Young")] = (
                    "1" if place < share * len(of_part) else "-1"
                )
            lines.append(" ".join(values))
    (root / "list_attr_celeba.txt").write_text("\n".join([first, second, *lines]) + "\n")


def test_labels_of_one_value_rare_ones_and_other_shares_are_told(
    cache: Path, tmp_path: Path
) -> None:
    root = copy_of(cached_aligned_faces(FaceParameters(faces=300), cache), tmp_path / "many")
    relabelled(root, 0.0)
    finding = found(aligned(root, attributes=["Male", "Young"]), "images of the train part")
    assert finding.severity == "error"
    assert "'Young' is no in all " in finding.first
    relabelled(root, 0.02)
    finding = found(aligned(root, attributes=["Young"]), "of the train part")
    assert finding.severity == "note"
    assert "who never says so is right in 9" in finding.first
    relabelled(root, 0.5)
    relabelled(root, 1.0, ("2",))
    finding = found(aligned(root, attributes=["Young"]), "is the split meant to be so?")
    assert "'Young' is yes in 50 % of the train part and in 100 % of the test part" in finding.first


def test_questions_with_one_answer_and_answers_that_nobody_knows_are_told(
    vqa_root: Path, tmp_path: Path
) -> None:
    def data(**settings: Any) -> VQADataModule:
        given = {"image_size": 16, "holdout_images": 2, **settings}
        return VQADataModule(str(vqa_root), cache_dir=str(tmp_path / "cache"), **given)

    assert found(data(), "have one answer only in train2014").times == 2  # is there a circle? no
    assert (
        "33 % of the 12 questions of val2014 is not among"
        in found(data(), "of val2014 is not among").first
    )
    for split in ("train2014", "val2014"):
        path = vqa_root / f"mscoco_{split}_annotations.json"
        content = load(path)
        for record in content["annotations"][: 18 if split == "train2014" else None]:
            record["multiple_choice_answer"] = "yes"
        dump(path, content)
    finding = found(data(), "is the answer to")
    assert (
        finding.first == f"{vqa_root}: 'yes' is the answer to 75 % of the 24 questions of train2014"
    )
    finding = found(data(), "have the answer")
    assert (finding.severity, finding.first) == (
        "note",
        f"{vqa_root}: all the 12 questions of val2014 have the answer 'yes'",
    )


def test_an_embedded_world_is_not_looked_into(
    cache: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = CelebADataModule(
        None, FaceParameters(faces=24), str(cache), image_size=(400, 400), batch_size=2
    )
    assert said(data, caplog) == []
    shutil.rmtree(cache / "nothing", ignore_errors=True)
