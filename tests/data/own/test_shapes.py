"""Data sets as people have them, whose own tools wrote them: what is read is what is there."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from cfexp.data.own.data_set import OwnDataSet
from cfexp.data.own.parts import PARTS
from cfexp.errors import InputError
from tests.data.own.own_writer import COUNT, write_own, write_text

NAMES = [f"{k:03}.png" for k in range(COUNT)]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_own(tmp_path / "set")


def opened(root: Path, **settings: Any) -> OwnDataSet:
    return OwnDataSet(str(root), **{"cache_dir": str(root.parent / "cache"), **settings})


def labels(data: OwnDataSet) -> list[float]:
    found = {r.image_id: r.labels[0] for part in PARTS for r in data.records(part)}
    return [found[name.removesuffix(".png")] for name in NAMES]


@pytest.mark.parametrize(
    ("header", "row"),
    [
        (",image,label", "{k},{name},{yes}"),  # as pandas writes its index
        ("image|label", "{name}|{yes}"),
        ("image\tlabel", "images\\{name}\t{yes}.0"),
        ("label;path", "{yes};C:\\Users\\me\\set\\images\\{name}"),
    ],
)
def test_a_table_of_whatever_tool(root: Path, header: str, row: str) -> None:
    rows = [row.format(k=k, name=name, yes=k % 2) for k, name in enumerate(NAMES)]
    write_text(root / "labels.csv", [header, *rows])
    data = opened(root)
    assert data.class_names == ("label",)
    assert labels(data) == [k % 2 for k in range(COUNT)]


def test_whole_numbers_with_a_fraction_are_whole(root: Path) -> None:
    rows = [f"{name},{k % 3}{'.0' if k % 2 else ''}" for k, name in enumerate(NAMES)]
    write_text(root / "labels.csv", ["image,label", *rows])
    data = opened(root, classes=[0, 2])
    assert data.class_names == ("label",)
    assert data.column is not None
    assert data.column.counts() == {"0": 14, "2": 13}


def test_where_no_part_is_called_test_val_is_tested_on(root: Path) -> None:
    rows = [f"{name},{k % 2},{'valid' if k % 4 == 0 else 'Train'}" for k, name in enumerate(NAMES)]
    write_text(root / "labels.csv", ["image,label,split", *rows])
    data = opened(root)
    assert {part: len(data.records(part)) for part in PARTS} == {"train": 30, "val": 0, "test": 10}
    assert "no part is called test" in " ".join(data.told())


def test_label_maps_that_are_called_as_masks_are(root: Path) -> None:
    for path in (root / "label_maps").iterdir():
        path.rename(path.with_name(f"{path.stem}_mask.png"))
    data = opened(root, label="state")
    assert (len(data.maps.files), data.unmapped, len(data.maps.by_suffix)) == (COUNT, [], COUNT)
    assert data.maps.files["003"].name == "003_mask.png"


def test_a_folder_of_another_name_is_said(root: Path) -> None:
    (root / "label_maps").rename(root / "masks")
    (root / "regions.csv").unlink()
    assert "masks: call it label_maps" in " ".join(opened(root, label="state").told())


def test_writers_are_groups(root: Path) -> None:
    rows = [f"{name},{k % 2},w{k // 4}" for k, name in enumerate(NAMES)]
    write_text(root / "labels.csv", ["image,label,writer", *rows])
    data = opened(root)
    assert data.contents.group_column == "writer"
    parts = {r.image_id: part for part in PARTS for r in data.records(part)}
    assert Counter(len({parts[f"{k + j:03}"] for j in range(4)}) for k in range(0, COUNT, 4)) == {
        1: 10
    }


@pytest.mark.parametrize(
    ("lines", "said"),
    [
        (
            [f"{name},{'ab'[k % 2]}" for k, name in enumerate(NAMES)],
            "labels.csv: line 1 is of an image, '000.png,a'; name the columns in a line before it",
        ),
        (
            ["image label", *(f"{name} 1" for name in NAMES)],
            "labels.csv: has one column only, 'image label'; put commas, semicolons or tabs",
        ),
        (
            ["image,label", *(f"{name},1" for name in NAMES)],
            "labels.csv: column 'label' is the same for all images that have it; a decision needs",
        ),
        (
            ["image,label,site", *(f"{name},{k % 2},x" for k, name in enumerate(NAMES))],
            "labels.csv: column 'site' is the same for all images that have it",
        ),
    ],
)
def test_what_is_no_table_of_labels_is_said(root: Path, lines: list[str], said: str) -> None:
    write_text(root / "labels.csv", lines)
    with pytest.raises(InputError) as caught:
        opened(root, label="site" if "site" in lines[0] else None).settings()
    assert said in str(caught.value)


def test_masks_among_the_images_are_not_taken_for_images(root: Path) -> None:
    for path in (root / "label_maps").iterdir():
        path.rename(root / f"images/{path.stem}_mask.png")
    with pytest.raises(InputError, match=r"000_mask\.png: looks like the label map of 000\.png"):
        opened(root, label="state").settings()


@pytest.mark.parametrize("folder", ["mask", "HAM10000_segmentations", "ManualMask/leftMask"])
def test_masks_in_a_folder_of_another_name_are_not_taken_for_images(
    root: Path, folder: str
) -> None:
    (root / folder).parent.mkdir(exist_ok=True)
    (root / "label_maps").rename(root / folder)
    (root / "images").rename(root / "photographs")
    with pytest.raises(InputError, match=r"000\.png: looks like the label map of photographs/000"):
        opened(root, label="state").settings()


def test_label_maps_are_found_beside_a_class_of_another_name_for_them(root: Path) -> None:
    (root / "images/mask").mkdir()
    for k in range(0, COUNT, 2):
        (root / f"images/{k:03}.png").rename(root / f"images/mask/{k + 1:03}.png")
        (root / f"label_maps/{k + 1:03}.png").rename(root / f"images/{k + 1:03}_mask.png")
    with pytest.raises(InputError, match=r"001_mask\.png: looks like the label map of 001\.png"):
        opened(root, label="state").settings()


def test_two_classes_may_number_drawings_alike(tmp_path: Path) -> None:
    root = tmp_path / "set"
    for name in ("one", "two"):
        (root / "images" / name).mkdir(parents=True)
        for k in range(20):
            Image.new("L", (32, 32), k).save(root / f"images/{name}/{k}.png")
    assert opened(root, label="class").settings()["decision.class_names"] == ["one", "two"]


def test_a_class_may_be_called_mask(tmp_path: Path) -> None:
    root = write_own(tmp_path / "set", table=False, maps=False)
    for name in ("mask", "bare"):
        (root / "images" / name).mkdir()
    for k in range(0, 40, 2):
        (root / f"images/{k:03}.png").rename(root / f"images/mask/{k}.png")
        (root / f"images/{k + 1:03}.png").rename(root / f"images/bare/{k}.png")
    assert opened(root, label="class").settings()["decision.class_names"] == ["bare", "mask"]


@pytest.mark.parametrize(
    ("columns", "group"),
    [
        ("file,state,lesion_id", "lesion_id"),
        ("file,state,lesion", None),  # which may be a label
        ("file,study_id,patient_id", "patient_id"),
    ],
)
def test_a_column_of_ids_is_one_of_groups_where_there_is_no_surer_one(
    root: Path, columns: str, group: str | None
) -> None:
    write_text(root / "labels.csv", [columns, *(f"{k:03},{k % 2},{k // 2}" for k in range(COUNT))])
    assert opened(root, label=None).contents.group_column == group
