"""`data=own`: what a folder of images, labels and label maps is taken for."""

import os
import shutil
from collections import Counter, defaultdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from cfexp.data.base import Part
from cfexp.data.label_maps.module import PARTS
from cfexp.data.own.data_set import OwnDataSet
from cfexp.errors import InputError
from tests.data.own.own_writer import COUNT, edit, name_by_patient, write_own, write_text


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return write_own(tmp_path / "set")


def opened(root: Path, **settings: Any) -> OwnDataSet:
    settings = {"label": "state", "cache_dir": str(root.parent / "cache"), **settings}
    return OwnDataSet(str(root), **settings)


def regions(label_map: Tensor) -> list[int]:
    return sorted(set(label_map.flatten().tolist()))


def ids(data: OwnDataSet) -> dict[str, Part]:
    return {record.image_id: part for part in PARTS for record in data.records(part)}


def test_images_labels_regions_and_sizes_come_from_the_files(root: Path) -> None:
    data = opened(root)
    assert data.image_size == (32, 32)
    assert data.class_names == ("state",)
    assert data.region_names == ("ground", "disc")
    assert data.facts == {"num_regions": 2, "num_classes": 1, "height": 32, "width": 32}
    assert len(ids(data)) == COUNT
    labels = {r.image_id: r.labels[0] for part in PARTS for r in data.records(part)}
    assert [labels[f"{k:03}"] for k in range(4)] == [1.0, 0.0, 1.0, 0.0]  # green, red by name
    batch = data.dataset("train")[0]
    assert batch.image.shape == (1, 3, 32, 32)
    assert regions(batch.label_map) == [0, 1]
    settings = data.settings()
    assert settings["decision.class_names"] == ["green", "red"]
    assert settings["train_images"] == len(data.records("train"))
    assert data.description["sides"] == {"state": ["green", "red"]}
    for label in ("lit", "size"):  # a yes or no, and three classes
        assert opened(root, label=label).description["sides"] == {}


def test_parts_are_drawn_by_group_and_class_and_kept(root: Path) -> None:
    data = opened(root)
    parts = ids(data)
    of_source = defaultdict(set)
    for k in range(COUNT):
        of_source[k // 4].add(parts[f"{k:03}"])
    assert all(len(each) == 1 for each in of_source.values())
    counts = Counter(parts.values())
    assert counts == {"train": 28, "val": 4, "test": 8}
    kept = data.split_file.read_text(encoding="utf-8")
    assert kept.splitlines()[0] == "file,part"
    assert ids(opened(root)) == parts
    assert ids(opened(root, split_seed=1)) != parts
    one_class = Counter(int(name) % 2 for name, part in parts.items() if part == "test")
    assert one_class == {0: 4, 1: 4}


def test_groups_are_read_in_the_files_names(tmp_path: Path) -> None:
    root = write_own(tmp_path / "set", table=False, maps=False)
    name_by_patient(root, ["cat_s", "dog_s"])
    for group in ("prefix:_", "(p[0-9]+)_view"):
        data = opened(root, label="class", group=group)
        of: dict[str, set[Part]] = defaultdict(set)
        for record_id, part in ids(data).items():
            of[record_id.rpartition("__")[2].partition("_")[0]].add(part)
        assert len(of) == COUNT // 2
        assert all(len(each) == 1 for each in of.values())
    for group, problem in (
        ("patient", "no table of labels; prefix:_ takes"),
        ("prefix:+", "is in no file's name"),
        ("(p", "no regular expression"),
        ("(p)(v)", "must have one"),
    ):
        with pytest.raises(InputError, match=problem):
            opened(root, label="class", group=group).records("train")


def test_copies_of_an_image_stay_in_one_part(root: Path) -> None:
    edit(root / "labels.csv", ",source", ",taken")
    first = (root / "images/000.png").read_bytes()
    for k in range(2, COUNT, 2):
        (root / f"images/{k:03}.png").write_bytes(first)
    parts = ids(opened(root))
    assert len({parts[f"{k:03}"] for k in range(0, COUNT, 2)}) == 1


@pytest.mark.parametrize(
    ("yes", "no"), [("1", "0"), ("1", "-1"), ("yes", "No"), ("TRUE", "false"), ("1.0", "0.0")]
)
def test_words_for_yes_and_no(root: Path, yes: str, no: str) -> None:
    lines = ["file,lit"] + [f"{k:03}.png,{yes if k % 2 else no}" for k in range(COUNT)]
    write_text(root / "labels.csv", lines)
    data = opened(root, label=None)
    assert data.class_names == ("lit",)
    assert data.settings()["decision.below"] == "not lit"
    labels = {r.image_id: r.labels[0] for part in PARTS for r in data.records(part)}
    assert (labels["000"], labels["001"]) == (0, 1)


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_delimiters_and_names_without_zeros_and_suffix(root: Path, delimiter: str) -> None:
    rows = [f"{k}{delimiter}{['red', 'green'][k % 2]}" for k in range(COUNT)]
    write_text(root / "labels.csv", [f"image ID{delimiter}state", *rows])
    data = opened(root, label=None)
    assert len(data.contents.rows) == COUNT
    assert data.contents.names.by_number == 100 if COUNT > 100 else COUNT
    assert data.contents.names.examples["number"] == ("0", "000.png")


def test_one_folder_a_class_and_parts_by_folders(tmp_path: Path) -> None:
    root = write_own(tmp_path / "set", table=False, maps=False)
    for k in range(COUNT):
        part = "test" if k % 10 == 0 or k % 10 == 1 else "train"
        target = root / "images" / part / ("green" if k % 2 else "red")
        target.mkdir(parents=True, exist_ok=True)
        (root / f"images/{k:03}.png").rename(target / f"{k:03}.png")
    data = opened(root, label=None)
    assert data.class_names == ("class",)
    assert Counter(ids(data).values()) == {"train": 32, "test": 8}
    assert data.region_names == ("image",)


def test_the_first_few_test_images_are_of_all_classes(tmp_path: Path) -> None:
    root = write_own(tmp_path / "set", table=False, maps=False)
    for k in range(COUNT):
        place = root / f"images/{'test' if k < 20 else 'train'}/{'cat' if k % 20 < 13 else 'dog'}"
        place.mkdir(parents=True, exist_ok=True)
        (root / f"images/{k:03}.png").rename(place / f"{k:03}.png")
    records = opened(root, label="class").records("test")
    firsts = [record.image_id for record in records[:5]]
    assert (firsts, len(records)) == (["000", "013", "001", "014", "002"], 20)


def test_several_classes_and_two_of_them(root: Path) -> None:
    data = opened(root, label="size")
    assert data.exclusive
    assert data.class_names == ("0", "1", "2")
    assert data.records("train")[0].labels.count(1.0) == 1
    two = opened(root, label="size", classes={"2": "large", 0: "small"})
    assert not two.exclusive
    assert two.settings()["decision.class_names"] == ["large", "small"]
    assert len(ids(two)) == sum(k % 3 != 1 for k in range(COUNT))
    assert [left.many for left in two.left_out()] == [13]


def test_values_name_regions_without_a_list_and_colours_do(root: Path) -> None:
    (root / "regions.csv").unlink()
    assert opened(root).region_names == ("value_0", "value_255")
    for path in (root / "label_maps").iterdir():
        grey = np.asarray(Image.open(path))
        Image.fromarray(np.stack([grey, grey * 0, grey * 0], 2)).save(path)
    assert opened(root).region_names == ("color_000000", "color_ff0000")
    write_text(
        root / "regions.csv",
        ["color,name,mirrored", "#000000,left,right", "255 0 0,right,left"],
    )
    data = opened(root)
    assert data.region_names == ("left", "right")
    assert data.mirrored_regions == (1, 0)
    assert regions(data.dataset("train")[0].label_map) == [0, 1]


def test_palettes_are_read_by_index_or_by_colour(root: Path) -> None:
    for path in (root / "label_maps").iterdir():
        indices = Image.fromarray((np.asarray(Image.open(path)) > 0).astype(np.uint8))
        indices.putpalette([9, 9, 9, 0, 255, 0])
        indices.save(path)
    write_text(root / "regions.csv", ["value,name", "0,ground", "1,disc"])
    by_index = opened(root).dataset("train")[0].label_map
    write_text(root / "regions.csv", ["color,name", "#090909,ground", "#00ff00,disc"])
    assert (opened(root).dataset("train")[0].label_map == by_index).all()


def test_a_grid_and_one_region_in_place_of_label_maps(root: Path) -> None:
    grid = opened(root, label_maps="grid:2x4")
    assert grid.region_names[5] == "row2_column2"
    label_map = grid.dataset("test")[0].label_map[0]
    assert label_map[20, 10] == 5
    assert regions(label_map) == list(range(8))
    assert opened(root, label_maps="whole").region_names == ("image",)
    with pytest.raises(InputError, match="grid has 2 to 64"):
        opened(root, label_maps="grid:1x1")


def test_superpixels_are_made_once_of_colour_and_place(root: Path) -> None:
    pytest.importorskip("skimage")
    data = opened(root, label_maps="superpixels:3")
    data.prepare_data()
    disc = np.asarray(Image.open(root / "label_maps/000.png")) > 0
    record = next(r for part in PARTS for r in data.records(part) if r.image_id == "000")
    label_map = data.reader.label_map(record)
    assert label_map is not None
    kinds = np.asarray(label_map)
    assert data.region_names == ("kind1", "kind2", "kind3")
    kind = int(np.bincount(kinds[disc], minlength=3).argmax())
    assert (kinds[disc] == kind).mean() > 0.5  # superpixels at its edge are of both
    assert (kinds[~disc] == kind).mean() < 0.1


def test_maps_that_were_predicted_take_the_place_of_missing_ones(root: Path) -> None:
    Image.new("RGB", (48, 32)).save(root / "images/000.png")  # they are of the networks' size
    (root / "label_maps/000.png").unlink()
    (root.parent / "predicted").mkdir()
    Image.new("L", (32, 32), 1).save(root.parent / "predicted/000.png")
    data = opened(root, layouts=str(root.parent / "predicted"))
    assert [image.image_id for image in data.unmapped] == ["000"]
    given = opened(root, label_maps=str(root.parent / "predicted"))
    assert given.unmapped == []  # nothing is left to predict
    record = next(r for part in PARTS for r in data.records(part) if r.image_id == "000")
    assert np.asarray(data.reader.label_map(record)).min() == 1
    assert len(ids(opened(root, mapped_only=True))) == COUNT - 1


def test_sizes_modes_and_sub_folders(root: Path) -> None:
    (root / "images/deep/er").mkdir(parents=True)
    (root / "images/000.png").unlink()
    Image.new("RGBA", (90, 45), (1, 2, 3, 0)).save(root / "images/deep/er/000.png")
    Image.new("L", (64, 32)).save(root / "label_maps/000.png")
    data = opened(root)
    assert data.image_size == (32, 32)
    record = next(r for part in PARTS for r in data.records(part) if r.image_id == "000")
    image = data.reader.image(record)
    assert (image.mode, image.size, image.getpixel((0, 0))) == ("RGB", (32, 32), (255, 255, 255))


@pytest.mark.parametrize(("side", "size"), [(64, (64, 80)), (128, (128, 144)), (256, (160, 192))])
def test_sides_are_what_the_networks_of_a_size_take(
    tmp_path: Path, side: int, size: tuple[int, int]
) -> None:
    root = write_own(tmp_path / "set", 4, maps=False)
    for path in (root / "images").iterdir():
        Image.new("RGB", (166, 145)).save(path)
    assert opened(root, side=side).image_size == size


def test_images_without_a_row_or_a_label_are_kept_and_counted(root: Path) -> None:
    edit(root / "labels.csv", "000.png,red", "000.png,?")
    edit(root / "labels.csv", "001.png,green,0,1,s0\n", "")
    data = opened(root)
    assert len(ids(data)) == COUNT
    assert sorted(left.many for left in data.left_out()) == [1, 1]
    labels = {r.image_id: r.labels[0] for part in PARTS for r in data.records(part)}
    assert np.isnan(labels["000"])
    assert np.isnan(labels["001"])


def test_the_fingerprint_follows_what_the_files_hold(root: Path, tmp_path: Path) -> None:
    first = opened(root).fingerprint
    for path in (root / "images/003.png", root / "label_maps/004.png"):
        content, times = path.read_bytes(), path.stat()
        path.write_bytes(content[:-1] + b"?")  # of the same size
        os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # and time
        assert opened(root).fingerprint != first
        path.write_bytes(content)
        assert opened(root).fingerprint == first
    # A copy elsewhere, with other times, is the same data set.
    assert opened(shutil.copytree(root, tmp_path / "moved/set")).fingerprint == first


def test_the_fingerprint_follows_the_files(root: Path) -> None:
    first = opened(root).fingerprint
    assert opened(root).fingerprint == first
    edit(root / "labels.csv", "000.png,red", "000.png,green")
    assert opened(root).fingerprint != first


def test_the_file_column_is_the_one_that_names_the_files(root: Path) -> None:
    for folder in ("images", "label_maps"):
        for path in (root / folder).iterdir():
            path.rename(path.with_stem(f"x{path.stem}"))
    rows = [f"x{k + 1:03},{['red', 'green'][k % 2]},old/x{k:03}.JPG" for k in range(COUNT)]
    write_text(root / "labels.csv", ["id,state,photo", *rows])  # each id is another file's number
    data = opened(root)
    assert data.contents.file_column == "photo"
    assert len(data.contents.rows) == COUNT
    assert data.contents.names.by_place == COUNT
    assert data.contents.names.examples["place"] == ("old/x000.JPG", "x000.png")
    assert {r.image_id: r.labels[0] for r in data.records("train")}.items() <= {
        f"x{k:03}": float(k % 2 == 0) for k in range(COUNT)
    }.items()


def test_accents_in_two_codes_and_upper_case_are_the_same_name(root: Path) -> None:
    rows = ["file,state"] + [f"gr\u00f6\u00dfe {k:03}.png,{'ab'[k % 2]}" for k in range(COUNT)]
    write_text(root / "labels.csv", rows)
    for folder in ("images", "label_maps"):
        for path in (root / folder).iterdir():
            path.rename(path.with_name(f"GRo\u0308\u00dfE {path.stem}.PNG"))
    data = opened(root)
    assert len(data.contents.rows) == COUNT
    assert data.contents.names.by_case == COUNT
    assert len(data.maps.files) == COUNT


def test_columns_that_tell_no_two_images_apart_are_not_asked_for(root: Path) -> None:
    rows = [f"{k:03}.png,{'ab'[k % 2]},1,,p{k // 2}" for k in range(COUNT)]
    write_text(root / "labels.csv", ["file,state,valid,remark,patient-id", *rows])
    data = opened(root, label=None)
    assert data.column is not None
    assert data.column.name == "state"
    assert data.contents.columns["remark"].kind == "other"
    assert data.contents.group_column == "patient-id"


def test_what_is_not_read_is_said(root: Path) -> None:
    (root / "images/scan.heic").write_bytes(b"x")
    (root / "label_maps/strange.png").write_bytes((root / "label_maps/000.png").read_bytes())
    said = "\n".join(opened(root).told())
    assert "1 files that are no image, such as" in said
    assert "1 label maps of no image, such as" in said
    (root / "images").rename(root / "Images")
    (root / "label_maps").rename(root / "Label_Maps")
    assert len(ids(opened(root))) == COUNT
    assert len(opened(root).maps.files) == COUNT
    (root / "Label_Maps").rename(root / "masks")
    assert opened(root).contents.folder.label_maps_elsewhere() == root / "masks"


def test_a_segmenter_is_tested_where_only_training_images_have_label_maps(root: Path) -> None:
    rows = [f"{k:03}.png,{'ab'[k % 2]},{'train' if k < 30 else 'test'}" for k in range(COUNT)]
    write_text(root / "labels.csv", ["file,state,part", *rows])
    for k in range(30, COUNT):
        (root / f"label_maps/{k:03}.png").unlink()
    counts = Counter(ids(opened(root, mapped_only=True)).values())
    assert counts == {"train": 20, "val": 4, "test": 6}
    assert Counter(ids(opened(root)).values()) == {"train": 30, "test": 10}


def test_label_maps_of_one_part_are_dealt_out_by_group(root: Path) -> None:
    rows = [f"{k:03},{k % 2},{'test' if k < 8 else 'train'},s{k // 4}" for k in range(COUNT)]
    write_text(root / "labels.csv", ["file,state,part,patient", *rows])
    for k in range(8):
        (root / f"label_maps/{k:03}.png").unlink()
    parts = ids(opened(root, mapped_only=True))
    of_patient = [{parts[f"{k + j:03}"] for j in range(4)} for k in range(8, COUNT, 4)]
    assert all(len(each) == 1 for each in of_patient)
    assert Counter(parts.values()) == {"train": 20, "test": 8, "val": 4}
    others = [ids(opened(root, mapped_only=True, split_seed=seed)) for seed in (0, 1)]
    assert others[0] == parts
    assert others[1] != parts
    # Of two patients, of one class each, one is tested on; one alone must be divided.
    rows = [f"{k:03},{1 < k < 36:d},{'test' if k < 8 else 'train'},s{k // 4}" for k in range(COUNT)]
    write_text(root / "labels.csv", ["file,state,part,patient", *rows])
    for k in range(8, 32):
        (root / f"label_maps/{k:03}.png").unlink()
    parts = ids(opened(root, mapped_only=True))
    assert Counter(parts.values()) == {"train": 4, "test": 4}
    assert len({parts[f"{k:03}"] for k in range(32, 36)}) == 1
    assert opened(root).in_one_group == ""
    for k in range(32, 36):
        (root / f"label_maps/{k:03}.png").unlink()
    data = opened(root)
    assert Counter(ids(opened(root, mapped_only=True)).values()) == {
        "train": 2,
        "val": 1,
        "test": 1,
    }
    assert "all label maps are of one patient" in " ".join(data.told())
