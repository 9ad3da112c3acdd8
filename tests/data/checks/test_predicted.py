"""Label maps that a segmenter predicted: held against the data set's own, or by their look."""

from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from cfexp.data.label_maps.plausible import FACES, STREETS, bands_of, other_order
from cfexp.data.own.images import OwnImages
from cfexp.worlds.face_names import REGIONS
from tests.data.checks.test_content import ALIGNED, MASKS, aligned, found, masked, said, street
from tests.data.damage import findings_of


def predicted(
    root: Path, folder: Path, regions: dict[str, str] | None = None
) -> dict[str, NDArray[np.uint8]]:
    """The data set's own label maps as if they were predicted, the regions called otherwise."""
    numbers = np.arange(256, dtype=np.uint8)
    for name, called in (regions or {}).items():
        numbers[REGIONS.index(name)] = REGIONS.index(called)
    folder.mkdir()
    maps = {}
    data = masked(root, image_size=(32, 32))
    for part in ("train", "val", "test"):
        dataset = data.dataset(part)
        for row, record in enumerate(dataset.records):
            maps[record.image_id] = numbers[dataset[row].label_map[0].numpy()]
            Image.fromarray(maps[record.image_id]).save(folder / f"{record.image_id}.png")
    return maps


def bisenet() -> dict[str, str]:
    """What our regions are called where the numbers of the usual face parser are read as ours."""
    (order,) = (order for name, order in FACES.orders.items() if "BiSeNet" in name)
    return {REGIONS[region]: REGIONS[number] for number, region in enumerate(order)}


def test_predicted_label_maps_are_held_against_the_masks(hq: Path, tmp_path: Path) -> None:
    predicted(hq, tmp_path / "right")
    lines = [
        finding.first
        for finding in findings_of(
            masked(hq, layouts=str(tmp_path / "right"), on_bad_sample="skip")
        )
    ]
    assert not any("agree" in line or "look" in line for line in lines)
    predicted(hq, tmp_path / "other", bisenet())
    finding = found(
        masked(hq, layouts=str(tmp_path / "other")), "agree with the data set's own masks"
    )
    assert finding.severity == "error"
    assert "neck lies on hair" in finding.first
    assert ": the order of the usual BiSeNet face parser (skin l_brow" in finding.first
    predicted(hq, tmp_path / "swapped", {"left_eye": "right_eye", "right_eye": "left_eye"})
    finding = found(
        masked(hq, layouts=str(tmp_path / "swapped")), "agree with the data set's own masks"
    )
    assert (
        "left_eye lies on right_eye, right_eye lies on left_eye: left and right exchanged"
        in finding.first
    )
    predicted(hq, tmp_path / "own", {"hair": "hat", "hat": "hair"})
    finding = found(
        masked(hq, layouts=str(tmp_path / "own")), "agree with the data set's own masks"
    )
    assert finding.first.endswith("lies on hair")  # by nobody's order that is known


def test_a_segmenter_that_misses_small_regions_is_none_of_that(hq: Path, tmp_path: Path) -> None:
    weak = {name: "skin" for name in REGIONS if name not in ("background", "skin", "hair")}
    predicted(hq, tmp_path / "weak", weak)
    findings = findings_of(masked(hq, layouts=str(tmp_path / "weak"), on_bad_sample="skip"))
    assert not findings.has_errors, [*findings]


def test_label_maps_of_other_images_agree_too_little(hq: Path, tmp_path: Path) -> None:
    maps = predicted(hq, tmp_path / "layouts")
    for stem, label_map in maps.items():
        Image.fromarray(np.roll(label_map, 14, 1)).save(tmp_path / "layouts" / f"{stem}.png")
    finding = found(masked(hq, layouts=str(tmp_path / "layouts")), "fewer than a segmenter reaches")
    assert finding.severity == "note"


def test_predicted_street_maps_are_held_against_the_masks(streets: Path, tmp_path: Path) -> None:
    (tmp_path / "layouts").mkdir()
    for path in (streets / MASKS).rglob("*.png"):
        with Image.open(path) as mask:
            shifted = [19 if value == 255 else min(value + 1, 19) for value in range(256)]
            mask.point(shifted).save(tmp_path / "layouts" / path.name)
    finding = found(
        street(streets, layouts=str(tmp_path / "layouts")), "agree with the data set's own masks"
    )
    assert finding.severity == "error"
    assert "sidewalk lies on road" in finding.first
    assert "train ids counted from 1" in finding.first


def test_where_there_are_no_masks_the_look_of_faces_tells(
    celeba: Path, hq: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    for name, regions in (("right", None), ("other", bisenet())):
        maps = list(predicted(hq, tmp_path / f"of_{name}", regions).values())
        (tmp_path / name).mkdir()
        for place, path in enumerate(sorted((celeba / ALIGNED).iterdir())):
            Image.fromarray(maps[place % len(maps)]).save(tmp_path / name / f"{path.stem}.png")
    lines = [
        finding.first
        for finding in findings_of(
            aligned(celeba, layouts=str(tmp_path / "right"), on_bad_sample="skip")
        )
    ]
    assert not any("look like" in line for line in lines)
    assert said(aligned(celeba, layouts=str(tmp_path / "right")), caplog) == []
    data = aligned(celeba, layouts=str(tmp_path / "other"))
    assert (
        found(data, "they look like the order of the usual BiSeNet face parser").severity == "error"
    )
    assert any(
        "BiSeNet" in line for line in said(aligned(celeba, layouts=str(tmp_path / "other")), caplog)
    )


def test_a_label_map_drawn_by_other_numbers_is_told(hq: Path, tmp_path: Path) -> None:
    predicted(hq, tmp_path / "right")
    predicted(hq, tmp_path / "other", bisenet())
    image = str(hq / "CelebA-HQ-img" / "3.jpg")
    (line,) = OwnImages([image], masked(hq), [str(tmp_path / "right" / "3.png")]).check()
    assert "label_map=" not in line
    _, line = OwnImages([image], masked(hq), [str(tmp_path / "other" / "3.png")]).check()
    assert line.startswith(f"label_map={tmp_path / 'other' / '3.png'}: as it is read it shows")
    assert "it looks like the order of the usual BiSeNet" in line
    Image.new("L", (32, 32), 13).save(tmp_path / "one.png")
    _, line = OwnImages([image], masked(hq), [str(tmp_path / "one.png")]).check()
    assert line == f"label_map={tmp_path / 'one.png'}: holds one region only, hair 100 %"


def test_what_looks_like_neither_order_is_left_alone() -> None:
    noise = np.random.default_rng(0).integers(0, 19, (60, 60)).astype(np.uint8)
    assert other_order(bands_of(noise, 19), FACES) is None
    assert other_order(bands_of(noise, 20), STREETS) is None
