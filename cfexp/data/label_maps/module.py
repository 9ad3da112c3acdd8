"""The part of a LightningDataModule that does not depend on which images with label maps and labels
it is.
"""

import contextlib
import math
from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import Any, get_args

import numpy as np
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from cfexp.data.base import Part, QueryDataModule
from cfexp.data.batch import ImageBatch
from cfexp.data.checks.content import FIRST, Seen, content_of, enlarged, first_look, say_first
from cfexp.data.label_maps.dataset import (
    Evenly,
    LabelMapDataset,
    LabelMapRecord,
    MirroringSampler,
    PngLabelMaps,
    make_label_map_loader,
)
from cfexp.data.label_maps.more import WithMore, read_more
from cfexp.data.label_maps.plausible import Looks
from cfexp.data.reading.loaders import ShareOf
from cfexp.data.reading.settings import check_at_least
from cfexp.data.reading.skipping import OnBadSample, Replacing, check_on_bad_sample, log_skipped
from cfexp.errors import InputError

PARTS: tuple[Part, ...] = ("train", "val", "test")
_PARTS: dict[str | None, tuple[Part, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    None: ("train", "val", "test"),
}


class LabelMapDataModule(QueryDataModule):
    """Loaders over the records of three parts; a subclass says which records, regions and classes
    there are.

    A subclass sets `region_names`, `class_names`, `mirrored_labels` and `mirrored_regions`, and
    gives `records`, `reader` and `fingerprint`. `image_size`: (H, W). `horizontal_flip`: the share
    of training images that are mirrored. `max_test_images`: test on, and explain, the first so many
    images; None = all. `predict_part`: which part is explained, in its fixed order.
    `on_bad_sample`: `raise` InputError at a file that is missing or cannot be read, or `skip` the
    image and count it (in training the next one comes in its place, so that no batch is smaller); a
    list of the data set that is damaged is an InputError in any case. The order of training is a
    function of (`seed`, epoch). Raises InputError for settings out of range.
    """

    looks: Looks | None = None  # what label maps of these regions look like
    # whether they were chosen to be trained on, as attributes are; of actions some are
    trains_all_labels = False
    class_names: tuple[str, ...] = ()  # K names of the labels
    # False: of a data set for its sizes and names alone, whose place must be given and was not
    has_root = True
    exclusive = False  # whether these are classes of which an image has one
    # which label takes the place of each in a mirrored image
    mirrored_labels: tuple[int, ...] | None = None
    mirrored_regions: tuple[int, ...] | None = None  # and which region; None = all stay

    def __init__(
        self,
        image_size: Sequence[int],
        batch_size: int = 16,
        eval_batch_size: int = 64,
        num_workers: int = 0,
        cache_images: bool = False,
        horizontal_flip: float = 0.5,
        max_test_images: int | None = None,
        predict_part: Part = "test",
        on_bad_sample: OnBadSample = "raise",
        seed: int = 0,
        more: str | None = None,
        more_times: int = 1,
    ) -> None:
        super().__init__()
        if isinstance(image_size, int | str) or len(image_size) != 2:
            raise InputError(f"data.image_size must be [height, width], got {image_size!r}")
        height, width = image_size
        check_at_least(1, image_size=height)
        check_at_least(1, image_size=width)
        check_at_least(1, batch_size=batch_size, eval_batch_size=eval_batch_size)
        check_at_least(0, num_workers=num_workers, seed=seed)
        check_at_least(1, more_times=more_times)
        if max_test_images is not None:
            check_at_least(1, max_test_images=max_test_images)
        if type(horizontal_flip) not in (int, float) or not 0 <= horizontal_flip <= 1:
            raise InputError(
                f"data.horizontal_flip must be a share in [0, 1], got {horizontal_flip!r}"
            )
        if predict_part not in get_args(Part):
            parts = ", ".join(get_args(Part))
            raise InputError(f"data.predict_part must be one of {parts}, got {predict_part!r}")
        check_on_bad_sample(on_bad_sample)
        self.image_size = (height, width)
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.cache_images, self.horizontal_flip = cache_images, horizontal_flip
        self.max_test_images, self.predict_part = max_test_images, predict_part
        self.on_bad_sample, self.seed = on_bad_sample, seed
        self.more, self.more_times = None if more is None else Path(more), more_times
        self._datasets: dict[Part, LabelMapDataset] = {}
        self._said: dict[Part, int] = {}  # how many were skipped, when it was said
        self._looked = False
        self._evenly: Evenly | None = None

    def records(self, part: Part) -> list[LabelMapRecord]:
        """The images of a part, in their fixed order; raises InputError for whatever is wrong with
        the files.
        """
        raise NotImplementedError

    @property
    def reader(self) -> PngLabelMaps:
        """What opens the files of a record."""
        raise NotImplementedError

    def setup(self, stage: str | None = None) -> None:
        """Read and check what the stage needs, once; raises InputError."""
        parts: tuple[Part, ...] = (self.predict_part,) if stage == "predict" else _PARTS[stage]
        for part in parts:
            self.dataset(part)
        if self.root is not None and not self._looked:
            self._looked = True
            self._look_at_first(self.dataset(parts[0]).records[:FIRST])

    def size_problem(self, size: tuple[int, int]) -> str | None:
        """What is odd about an image of (W, H) pixels, of which all is shown; None = nothing."""
        return enlarged(min(size[0] / self.image_size[1], size[1] / self.image_size[0]))

    def own_label_map(self, record: LabelMapRecord) -> Image.Image | None:
        """What the data set itself has as an image's label map, where `layouts` are predicted ones;
        None = nothing.

        Raises InputError for files that cannot be read.
        """
        return None

    def _look_at_first(self, records: Sequence[LabelMapRecord]) -> None:
        """Say what is odd about the first images: what is wrong in a whole data set shows there."""
        sizes, seen = {}, []
        for record in records:
            with contextlib.suppress(InputError):  # which is met when it is read
                image, label_map = self.reader.image(record), self.reader.label_map(record)
                seen.append(
                    Seen(
                        str(record.image),
                        str(record.label_map),
                        content_of(image, label_map, len(self.region_names)),
                    )
                )
                with Image.open(
                    BytesIO(self.reader.content(record))
                ) as picture:  # before it is cropped
                    sizes[str(record.image)] = picture.size
        say_first(sizes, self.size_problem, first_look(seen, self.looks, self.region_names))

    def teardown(self, stage: str) -> None:
        """Say how many images were skipped."""
        log_skipped(self._datasets, self._said)

    def dataset(self, part: Part) -> LabelMapDataset:
        """The data set of a part, made on first use; empty for a validation part without images.

        Raises InputError for whatever is wrong with the files, and where nobody says where they
        are.
        """
        if part not in self._datasets:
            if not self.has_root:
                problem = f"this explainer looks at images of the {part} part of the data set"
                raise InputError(f"{problem}: say where it lies, data.root=PATH")
            records = self.records(part)
            if part == "test" and self.max_test_images is not None:
                records = records[: self.max_test_images]
            if not records and part != "val":
                raise InputError(
                    f"{type(self).__name__}: its {part} part has no image (docs/data_sets.md)"
                )
            reader = self.reader
            if part == "train" and self.more is not None:
                more = read_more(self.more, self.class_names, records)
                reader = WithMore(reader, records, more, len(self.region_names))
                records = [*records, *more * self.more_times]
            self._datasets[part] = LabelMapDataset(
                records,
                reader,
                self.image_size,
                self.mirrored_labels,
                self.cache_images,
                self.on_bad_sample,
                self.mirrored_regions,
            )
        return self._datasets[part]

    def train_dataloader(self) -> DataLoader[ImageBatch]:
        """Shuffled and mirrored; the last incomplete batch is dropped. Raises InputError if that
        leaves none.
        """
        dataset = self.dataset("train")
        trainer = self.trainer
        replicas, rank = (1, 0) if trainer is None else (trainer.world_size, trainer.global_rank)
        order = (replicas, rank, self.seed, self.horizontal_flip, self._evenly)
        sampler = MirroringSampler(dataset, *order)
        sampler.begin(trainer, self.batches_seen * self.batch_size)
        if len(sampler) < self.batch_size:
            problem = f"is more than the {len(sampler)} images that a process trains on"
            raise InputError(f"data.batch_size={self.batch_size} {problem}")
        return self._loader(
            Replacing(dataset), batch_size=self.batch_size, sampler=sampler, drop_last=True
        )

    def draw_evenly(self, groups: Sequence[int], most: int) -> None:
        """Let each epoch of the training draw of every group of images as many, none more than
        `most` times.

        groups: of each image of the training part, in its fixed order.
        """
        if len(groups) != (count := len(self.dataset("train"))):
            raise ValueError(f"groups must be of the {count} training images, got {len(groups)}")
        self._evenly = Evenly(np.asarray(groups, dtype=np.int64), most)

    def in_order(self, part: Part) -> DataLoader[ImageBatch]:
        """Every image of a part once, in its fixed order."""
        return self._loader(self.dataset(part), batch_size=self.eval_batch_size)

    def val_dataloader(self) -> DataLoader[ImageBatch] | list[DataLoader[ImageBatch]]:
        """The validation part in its fixed order; none if it is empty."""
        dataset = self.dataset("val")
        return self._loader(dataset, batch_size=self.eval_batch_size) if len(dataset) > 0 else []

    def test_dataloader(self) -> DataLoader[ImageBatch]:
        """The test part in its fixed order."""
        dataset = self.dataset("test")
        # A process without any would not take part where the others gather their figures.
        share = ShareOf(range(len(dataset)), self.trainer, never_none=True)
        return self._loader(dataset, batch_size=self.eval_batch_size, sampler=share)

    def predict_dataloader(self) -> DataLoader[ImageBatch]:
        """The part that is explained, in its fixed order, less what was left out."""
        dataset = self.dataset(self.predict_part)
        count = (
            len(dataset)
            if self.max_test_images is None
            else min(len(dataset), self.max_test_images)
        )
        left = [index for index in range(count) if index not in self._left_out]
        return self._loader(
            dataset, batch_size=self.eval_batch_size, sampler=ShareOf(left, self.trainer)
        )

    @property
    def facts(self) -> dict[str, int]:
        """What sizes the networks: num_regions and num_classes, and height and width in pixels."""
        height, width = self.image_size
        counts = {"num_regions": len(self.region_names), "num_classes": len(self.class_names)}
        return {**counts, "height": height, "width": width}

    @property
    def description(self) -> dict[str, Any]:
        """What is stored once beside the explanations of a run."""
        return {
            "data": type(self).__name__,
            "fingerprint": self.fingerprint,
            "region_names": list(self.region_names),
            "class_names": list(self.class_names),
        }

    def explained(self, key: int) -> LabelMapRecord:
        """Image `key` of the part that is explained."""
        return self.dataset(self.predict_part).records[key]

    def describe(self, key: int) -> dict[str, Any]:
        """What is stored beside an explanation of image `key` of the part that is explained.

        Its id, labels by name (None = not known) and identity (-1 = not known).
        """
        record = self.explained(key)
        values = [None if math.isnan(value) else int(value) for value in record.labels]
        labels = dict(zip(self.class_names, values, strict=True))
        return {"image_id": record.image_id, "labels": labels, "identity": record.identity}

    def _loader(self, dataset: Dataset[ImageBatch], **order: Any) -> DataLoader[ImageBatch]:
        return make_label_map_loader(dataset, self.num_workers, **order)
