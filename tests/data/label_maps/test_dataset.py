from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from cfexp.data.base import Part
from cfexp.data.batch import ImageBatch
from cfexp.data.label_maps.cache import LabelMapCache
from cfexp.data.label_maps.dataset import (
    NO_REGION,
    LabelMapDataset,
    LabelMapRecord,
    PngLabelMaps,
    collate,
)
from cfexp.data.label_maps.module import LabelMapDataModule
from cfexp.data.reading.skipping import Replacing
from cfexp.errors import InputError

REGIONS = np.full(256, NO_REGION, dtype=np.uint8)
REGIONS[:3], REGIONS[255] = (0, 1, 2), 3
SIZE = (8, 16)


class Layouts(LabelMapDataModule):
    """`count` images of noise under `folder`; labels (left, right), of which image i has i % 2."""

    region_names = ("road", "car", "sky", "unlabeled")
    class_names = ("left", "right")
    mirrored_labels = (1, 0)
    fingerprint = "noise"
    reader = PngLabelMaps(REGIONS, unlabeled=3)

    def __init__(self, folder: Path, count: int = 10, **settings: Any) -> None:
        super().__init__(**{"image_size": SIZE, "batch_size": 4, "eval_batch_size": 4, **settings})
        self.place, self.count = folder, count

    def records(self, part: Part) -> list[LabelMapRecord]:
        if part == "val":
            return []
        return [write_sample(self.place, f"{part}{i}", i) for i in range(self.count)]


def write_sample(
    folder: Path, name: str, index: int, size: tuple[int, int] = SIZE
) -> LabelMapRecord:
    rng = np.random.default_rng(index)
    height, width = size
    image, label_map = folder / f"{name}.png", folder / f"{name}_map.png"
    Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8)).save(image)
    values = np.array([0, 1, 2, 255], dtype=np.uint8)
    Image.fromarray(values[rng.integers(0, 4, (height, width))]).save(label_map)
    return LabelMapRecord(
        name, image, label_map, (float(index % 2 == 0), float(index % 2 == 1)), identity=index
    )


def epoch(data: Layouts, number: int) -> list[ImageBatch]:
    loader = data.train_dataloader()
    loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
    return list(loader)


def by_id(batches: Iterator[ImageBatch] | list[ImageBatch]) -> dict[str, tuple[torch.Tensor, ...]]:
    return {
        name: (batch.image[row], batch.label_map[row], batch.labels[row])
        for batch in batches
        for row, name in enumerate(batch.image_id)
    }


def test_a_batch_has_the_pixels_regions_and_labels_of_the_files(tmp_path: Path) -> None:
    data = Layouts(tmp_path)
    batches = list(data.test_dataloader())
    assert [len(batch.image_id) for batch in batches] == [4, 4, 2]
    assert [name for batch in batches for name in batch.image_id] == [f"test{i}" for i in range(10)]
    batch = batches[0]
    assert batch.image.shape == (4, 3, 8, 16)
    assert batch.label_map.dtype == torch.int64
    assert batch.labels.tolist() == [[1, 0], [0, 1], [1, 0], [0, 1]]
    assert batch.identity.tolist() == [0, 1, 2, 3]
    assert [key for batch in batches for key in batch.key.tolist()] == list(range(10))
    pixels = np.asarray(Image.open(tmp_path / "test2.png")).transpose(2, 0, 1)
    assert torch.equal(batch.image[2], torch.from_numpy(pixels.astype(np.float32)) / 127.5 - 1)
    label_map = np.asarray(Image.open(tmp_path / "test2_map.png")).astype(np.int64)
    label_map[label_map == 255] = 3
    assert batch.label_map[2].tolist() == label_map.tolist()


def test_image_and_label_map_are_resized_together(tmp_path: Path) -> None:
    record = write_sample(tmp_path, "large", 0, (32, 64))
    batch = LabelMapDataset([record], PngLabelMaps(REGIONS, 3), SIZE)[0]
    image = Image.open(record.image).resize((16, 8), Image.Resampling.BICUBIC)
    assert torch.equal(
        ((batch.image[0] + 1) * 127.5).round().byte(),
        torch.from_numpy(np.array(image)).permute(2, 0, 1),
    )
    assert record.label_map is not None
    label_map = np.array(Image.open(record.label_map).resize((16, 8), Image.Resampling.NEAREST))
    label_map[label_map == 255] = 3
    assert batch.label_map[0].tolist() == label_map.tolist()


def test_a_label_map_of_another_size_is_kept_and_one_of_its_own_is_not(tmp_path: Path) -> None:
    cache = LabelMapCache(tmp_path / "cache")
    small, large = write_sample(tmp_path, "small", 0), write_sample(tmp_path, "large", 0, (32, 64))
    expected = (
        LabelMapDataset([small, large], PngLabelMaps(REGIONS, 3), SIZE)
        .__getitems__([0, 1])[0]
        .label_map
    )
    for _ in range(2):
        dataset = LabelMapDataset([small, large], PngLabelMaps(REGIONS, 3, cache), SIZE)
        assert torch.equal(dataset.__getitems__([0, 1])[0].label_map, expected)
        assert sum(path.is_file() for path in cache.folder.rglob("*")) == 1
    # What may not occur in a file is found, whatever another reader kept of it.
    strict = np.where(REGIONS == 3, NO_REGION, REGIONS)
    with pytest.raises(InputError, match=r"label id 255 is none of 0\.\.2"):
        LabelMapDataset([large], PngLabelMaps(strict, 0, cache), SIZE)[0]
    # And so are other proportions, of an image that was exchanged.
    Image.new("RGB", (32, 32)).save(large.image)
    with pytest.raises(InputError, match="other proportions"):
        LabelMapDataset([large], PngLabelMaps(REGIONS, 3, cache), SIZE)[0]


def test_half_of_an_epoch_is_mirrored_whole_with_the_labels_swapped(tmp_path: Path) -> None:
    data = Layouts(tmp_path, count=64)
    plain = by_id(epoch(Layouts(tmp_path, count=64, horizontal_flip=0.0), 0))
    mirrored = 0
    for name, (image, label_map, labels) in by_id(epoch(data, 0)).items():
        as_is = torch.equal(image, plain[name][0])
        mirrored += not as_is
        expected = (
            plain[name]
            if as_is
            else (plain[name][0].flip(2), plain[name][1].flip(1), plain[name][2].flip(0))
        )
        assert all(
            torch.equal(*pair) for pair in zip((image, label_map, labels), expected, strict=True)
        )
    assert 20 <= mirrored <= 44  # binomial(64, 0.5): outside this once in 400


def test_an_epoch_is_a_function_of_seed_and_number_whatever_reads_it(tmp_path: Path) -> None:
    batches = epoch(Layouts(tmp_path), 3)
    for other in (Layouts(tmp_path, cache_images=True), Layouts(tmp_path, num_workers=2)):
        for batch, same in zip(batches, epoch(other, 3), strict=True):
            assert isinstance(same, ImageBatch)
            assert same.image_id == batch.image_id
            for part, equal in zip(batch[:-1], same[:-1], strict=True):
                assert equal.dtype == part.dtype
                assert torch.equal(equal, part)
    first = [batch.image for batch in batches]
    for settings, number in (({"seed": 1}, 3), ({}, 4)):
        different = [batch.image for batch in epoch(Layouts(tmp_path, **settings), number)]
        assert not all(torch.equal(*pair) for pair in zip(first, different, strict=True))


def test_an_image_without_a_label_map_is_all_unlabeled(tmp_path: Path) -> None:
    record = write_sample(tmp_path, "a", 0)._replace(label_map=None)
    assert LabelMapDataset([record], PngLabelMaps(REGIONS, 3), SIZE)[0].label_map.tolist() == [
        [[3] * 16] * 8
    ]


def test_a_key_is_the_place_in_the_part_mirrored_or_not_and_beside_what_is_skipped(
    tmp_path: Path,
) -> None:
    dataset = Layouts(tmp_path, on_bad_sample="skip").dataset("test")
    damage(dataset.records[1], "empty image")
    batch = dataset.__getitems__([2, 1, 10 + 5])[0]  # image 5 is mirrored
    assert batch.key.dtype == torch.int64
    assert (batch.key.tolist(), batch.image_id) == ([2, 5], ("test2", "test5"))


def damage(record: LabelMapRecord, how: str) -> None:
    image, label_map = record.image, record.label_map
    assert label_map is not None
    if how == "truncated image":
        image.write_bytes(image.read_bytes()[:200])
    elif how == "empty image":
        image.write_bytes(b"")
    elif how == "image is missing":
        image.unlink()
    elif how == "image is a folder":
        image.unlink()
        image.mkdir()
    elif how == "image is text":
        image.write_text("<html>not found</html>")
    elif how == "label map is missing":
        label_map.unlink()
    elif how == "label map is truncated":
        label_map.write_bytes(label_map.read_bytes()[:60])
    elif how == "label map in colour":
        Image.open(label_map).convert("RGB").save(label_map)
    elif how == "label map of 16 bit":
        Image.fromarray(np.zeros(SIZE, dtype=np.uint16)).save(label_map)
    elif how == "label map is a JPEG":
        Image.open(label_map).save(label_map, format="JPEG")
    elif how == "label 77":
        Image.fromarray(np.full(SIZE, 77, dtype=np.uint8)).save(label_map)
    elif how == "other proportions":
        Image.fromarray(np.zeros((8, 8), dtype=np.uint8)).save(label_map)


DAMAGES = {
    "truncated image": "not a readable image",
    "empty image": "not a readable image",
    "image is missing": "no such file",
    "image is a folder": "not a readable image",
    "image is text": "not a readable image",
    "label map is missing": "no such file",
    "label map is truncated": "not a readable image",
    "label map in colour": "mode L or P), got mode RGB",
    "label map of 16 bit": "mode L or P), got mode I;16",
    "label map is a JPEG": "not a readable image",
    "label 77": "label id 77 is none of 0..2, 255",
    "other proportions": "the label map is 8x8, its image 16x8",
}


@pytest.mark.parametrize("how", DAMAGES)
def test_damage_is_named_in_one_line_or_skipped_and_counted(tmp_path: Path, how: str) -> None:
    records = [write_sample(tmp_path, name, k) for k, name in enumerate("abc")]
    damage(records[1], how)
    with pytest.raises(InputError) as caught:
        LabelMapDataset(records, PngLabelMaps(REGIONS, 3), SIZE).__getitems__([0, 1])
    assert DAMAGES[how] in str(caught.value)
    assert str(tmp_path / "b") in str(caught.value)
    assert "\n" not in str(caught.value)
    for cached in (False, True):
        skipping = LabelMapDataset(records, PngLabelMaps(REGIONS, 3), SIZE, None, cached, "skip")
        assert skipping.__getitems__([2, 1, 0])[0].image_id == ("c", "a")
        assert skipping.bad_samples == 1
        assert skipping[1].image_id == ()


def test_in_training_the_next_good_image_comes_in_place_of_a_bad_one(tmp_path: Path) -> None:
    records = [write_sample(tmp_path, name, k) for k, name in enumerate("abcd")]
    for bad in (1, 3):
        damage(records[bad], "empty image")
    for cached in (False, True):
        dataset = LabelMapDataset(records, PngLabelMaps(REGIONS, 3), SIZE, None, cached, "skip")
        training = Replacing(dataset)
        # Of four images, items 4 to 7 are the mirrored ones.
        (batch,) = training.__getitems__([0, 1, 7, 5])
        assert batch.image_id == ("a", "c", "a", "c")
        for row, item in enumerate((0, 2, 4, 6)):
            assert torch.equal(batch.image[row], dataset[item].image[0])
        assert training[1].image_id == ("c",)
        assert dataset.bad_samples == 2


@pytest.mark.parametrize("num_workers", [0, 2])
def test_no_batch_of_a_training_is_smaller_and_a_training_that_goes_on_has_the_same_ones(
    tmp_path: Path, num_workers: int, caplog: pytest.LogCaptureFixture
) -> None:
    def epochs(*numbers: int) -> tuple[Layouts, list[list[tuple[str, ...]]]]:
        data = Layouts(tmp_path, on_bad_sample="skip", batch_size=2, num_workers=num_workers)
        for index in (2, 3, 9):
            damage(data.dataset("train").records[index], "empty image")
        loader, batches = data.train_dataloader(), []
        for number in numbers:
            loader.sampler.set_epoch(number)  # type: ignore[attr-defined]
            batches.append([batch.image_id for batch in loader])
        return data, batches

    data, (first, second) = epochs(0, 1)
    assert [len(batch) for batch in first + second] == [2] * 10
    assert first != second
    assert data.dataset("train").bad_samples == 3
    data.teardown("fit")
    assert (
        caplog.text.count(
            "3 images of the train part were skipped: they cannot be read; in training the next"
        )
        == 1
    )
    # What was met before does not decide what comes in whose place.
    assert epochs(1)[1] == [second]


def test_explaining_the_training_part_explains_no_image_twice(tmp_path: Path) -> None:
    data = Layouts(tmp_path, on_bad_sample="skip", predict_part="train", eval_batch_size=1)
    damage(data.dataset("train").records[4], "empty image")
    explained = [batch.image_id for batch in data.predict_dataloader()]
    assert explained == [(f"train{k}",) for k in range(10) if k != 4]


def test_empty_batches_are_passed_over_and_none_at_all_is_an_error(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    data = Layouts(tmp_path, on_bad_sample="skip", eval_batch_size=1, batch_size=1)
    for index in (0, 9):
        damage(data.dataset("test").records[index], "empty image")
    assert [len(batch.image_id) for batch in data.test_dataloader()] == [1] * 8
    data.teardown("test")
    assert "2 images of the test part were skipped" in caplog.text
    for record in data.dataset("train").records:
        damage(record, "empty image")
    with pytest.raises(InputError, match="no image to train on can be read"):
        list(data.train_dataloader())
    for record in data.dataset("test").records[1:9]:
        damage(record, "empty image")
    with pytest.raises(InputError, match="no sample of 10 batches can be read"):
        list(data.test_dataloader())


def test_bad_samples_are_counted_across_worker_processes(tmp_path: Path) -> None:
    data = Layouts(tmp_path, num_workers=2, on_bad_sample="skip")
    for index in (0, 9):
        damage(data.dataset("test").records[index], "empty image")
    assert sum(len(batch.image_id) for batch in data.test_dataloader()) == 8
    assert data.dataset("test").bad_samples == 2


def test_batches_are_joined_and_described(tmp_path: Path) -> None:
    data = Layouts(tmp_path)
    dataset = data.dataset("test")
    joined, whole = collate([dataset[0], dataset[1]]), dataset.__getitems__([0, 1])[0]
    assert all(torch.equal(*pair) for pair in zip(joined[:5], whole[:5], strict=True))
    assert joined.image_id == whole.image_id
    assert data.describe(3) == {
        "image_id": "test3",
        "labels": {"left": 0, "right": 1},
        "identity": 3,
    }
    assert data.truth_mask(3) is None
    assert data.facts == {"num_regions": 4, "num_classes": 2, "height": 8, "width": 16}
    assert data.val_dataloader() == []


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"image_size": 64}, r"data.image_size must be \[height, width\], got 64"),
        ({"image_size": (0, 64)}, "data.image_size must be an integer of at least 1, got 0"),
        ({"batch_size": 0}, "data.batch_size must be an integer of at least 1, got 0"),
        ({"batch_size": 11}, "data.batch_size=11 is more than the 10 images"),
        ({"num_workers": -1}, "data.num_workers"),
        ({"horizontal_flip": 2}, "data.horizontal_flip must be a share"),
        ({"predict_part": "all"}, "data.predict_part must be one of train, val, test"),
        ({"on_bad_sample": "ignore"}, "data.on_bad_sample must be raise or skip"),
        ({"max_test_images": 0}, "data.max_test_images"),
    ],
)
def test_settings_out_of_range_are_named(
    tmp_path: Path, settings: dict[str, Any], problem: str
) -> None:
    with pytest.raises(InputError, match=problem):
        Layouts(tmp_path, **settings).train_dataloader()


@pytest.mark.parametrize("part", ["train", "test"])
def test_the_limit_is_of_the_part_that_is_tested_or_explained_and_not_of_training(
    tmp_path: Path, part: str
) -> None:
    data = Layouts(tmp_path, max_test_images=3, predict_part=part)
    assert [batch.image_id for batch in data.test_dataloader()] == [("test0", "test1", "test2")]
    assert [batch.image_id for batch in data.predict_dataloader()] == [
        (f"{part}0", f"{part}1", f"{part}2")
    ]
    assert data.describe(2)["image_id"] == f"{part}2"
    assert len(data.dataset("train")) == 10


def test_what_is_left_out_is_not_explained_and_the_others_keep_their_keys(tmp_path: Path) -> None:
    data = Layouts(tmp_path, count=6)
    data.leave_out({0, 3, 99})
    (batch,) = list(data.predict_dataloader())
    assert (batch.key.tolist(), batch.image_id) == (
        [1, 2, 4, 5],
        ("test1", "test2", "test4", "test5"),
    )
    assert len(list(data.test_dataloader())) == 2  # scoring and training see everything
    data.leave_out(range(6))
    assert list(data.predict_dataloader()) == []
