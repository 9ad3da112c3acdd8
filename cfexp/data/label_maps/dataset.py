"""Images with a semantic label map and labels, as a torch Dataset: what faces and streets share."""

import struct
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, default_collate

from cfexp.data.batch import ImageBatch, ImageParcel
from cfexp.data.label_maps.cache import LabelMapCache
from cfexp.data.reading.archives import read_content
from cfexp.data.reading.images import read_picture, read_rgb
from cfexp.data.reading.loaders import EpochSampler, draw_evenly, make_loader
from cfexp.data.reading.records import OFFICIAL_REMEDY
from cfexp.data.reading.skipping import BadSamples, OnBadSample
from cfexp.errors import InputError

NO_REGION = 255  # in a `PngLabelMaps.regions`: this value may not occur in a file


class LabelMapRecord(NamedTuple):
    """One image of a data set, before any file of it is opened."""

    image_id: str  # the file stem
    image: Path
    label_map: Path | None  # None = no label map is known
    labels: tuple[float, ...]  # (K,) 0 or 1; NaN = not known
    identity: int = -1  # -1 = not known


class MaskFile(NamedTuple):
    """A file that a label map is made from."""

    path: str
    content: bytes
    region: int = -1  # that it is the mask of; -1 = its values say


class PngLabelMaps:
    """Reads a record's image (JPEG or PNG) and its label map (one 8-bit PNG, grey or with a
    palette).

    regions: (256,) uint8, the region that each value of the file stands for, `NO_REGION` for values
    that are wrong. unlabeled: the region of every pixel of an image that has no label map. cache:
    where label maps that are not shown at their own size are kept. A data set whose files are
    otherwise (zipped images, a crop, masks in parts) subclasses this. Its methods raise InputError
    for a file that is not what it should be.
    """

    remedy = OFFICIAL_REMEDY  # how messages end

    def __init__(
        self,
        regions: Sequence[int] | NDArray[np.uint8],
        unlabeled: int,
        cache: LabelMapCache | None = None,
    ) -> None:
        self.regions = np.asarray(regions, dtype=np.uint8)
        assert self.regions.shape == (256,)
        self.unlabeled, self.cache = unlabeled, cache
        # The least value that stands for another region, or for none: most files hold none so
        # large.
        self._unchanged = int(np.argmax(self.regions != np.arange(256)))

    def content(self, record: LabelMapRecord) -> bytes:
        """The bytes of the image's file."""
        return read_content(record.image)

    def image(self, record: LabelMapRecord) -> Image.Image:
        """The whole image, RGB."""
        return read_rgb(record.image)

    def label_map(self, record: LabelMapRecord) -> Image.Image | None:
        """The whole label map, mode L, a region a pixel; None where the record has none."""
        return None if record.label_map is None else self.decode(self.mask_files(record.label_map))

    def shown(
        self, record: LabelMapRecord, image: Image.Image, size: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """(H, W), the label map at `size` = (W, H), of a record and its image."""
        width, height = size
        if record.label_map is None:
            return np.full((height, width), self.unlabeled, np.uint8)
        files = self.mask_files(record.label_map)
        cache = self.cache if self.is_slow(files, size) else None
        if cache is not None:
            texts = (
                f"{size} {image.size} {[file.region for file in files]}".encode(),
                self.regions.tobytes(),
            )
            key = cache.key((*texts, *(file.content for file in files)))
            kept = cache.read(key, (height, width))
            if kept is not None:
                return kept
        drawn = self.decode(files)
        check_proportions(record, image, drawn)
        label_map = np.asarray(_resized(drawn, width, height, Image.Resampling.NEAREST))
        if cache is not None:
            cache.keep(key, label_map)
        return label_map

    def mask_files(self, path: Path) -> list[MaskFile]:
        """What a label map is made from."""
        return [MaskFile(str(path), read_content(path))]

    def decode(self, files: Sequence[MaskFile]) -> Image.Image:
        """The label map that is made from these files, mode L, a region a pixel."""
        ((path, content, _),) = files
        return self.regions_of(
            read_picture(Path(path), formats=("PNG",), content=content, remedy=self.remedy), path
        )

    def regions_of(self, picture: Image.Image, name: object) -> Image.Image:
        """A label map as it is stored, made one of a region a pixel, mode L. name: what messages
        call it.
        """
        if picture.mode not in ("L", "P"):
            expected = "8-bit grey or with a palette (mode L or P)"
            problem = f"a label map must be {expected}, got mode {picture.mode}"
            raise InputError(f"{name}: {problem}; {self.remedy}")
        if picture.mode == "P":  # whose values are the label ids, whatever their colours
            picture = Image.frombytes("L", picture.size, picture.tobytes())
        _, highest = picture.getextrema()
        assert isinstance(highest, int)  # of one channel of 8 bits
        if highest < self._unchanged:
            return picture
        # By Pillow, not numpy: it looks at every pixel of a large file several times as fast.
        present = np.flatnonzero(np.array(picture.histogram()))
        if (wrong := present[self.regions[present] == NO_REGION]).size:
            known = np.flatnonzero(self.regions != NO_REGION).tolist()
            problem = f"label id {wrong[0]} is none of {_ranges(known)}"
            raise InputError(f"{name}: {problem}; {self.remedy}")
        return picture.point(self.regions.tolist())

    def is_slow(self, files: Sequence[MaskFile], size: tuple[int, int]) -> bool:
        """Whether to look for the label map at `size` = (W, H) in the cache first: where the PNG's
        own is another.
        """
        return files[0].content[16:24] != struct.pack(">II", *size)


class LabelMapDataset(Dataset[ImageBatch]):
    """Records as items to be joined by `collate`; item `len(self) + i` is image i mirrored.

    image_size: (H, W) in pixels; images are resized bicubically and label maps by the nearest
    pixel, both at once. mirrored_labels: which label takes the place of each in a mirrored image
    (left and right actions swap); None = all stay. mirrored_regions: likewise of the regions (a
    left eye becomes a right one). cache_images: read everything now and keep it as uint8.
    on_bad_sample: what becomes of a file that cannot be read: `raise` InputError, or `skip` it, so
    that its batch is smaller or empty; `bad_samples` counts those met so far, in all worker
    processes.
    """

    def __init__(
        self,
        records: Sequence[LabelMapRecord],
        reader: PngLabelMaps,
        image_size: tuple[int, int],
        mirrored_labels: Sequence[int] | None = None,
        cache_images: bool = False,
        on_bad_sample: OnBadSample = "raise",
        mirrored_regions: Sequence[int] | None = None,
    ) -> None:
        self.records, self.reader, self.image_size = list(records), reader, image_size
        self.mirrored_labels = None if mirrored_labels is None else list(mirrored_labels)
        self.mirrored_regions = (
            None if mirrored_regions is None else torch.tensor(mirrored_regions, dtype=torch.uint8)
        )
        self.labels = torch.tensor([record.labels for record in self.records], dtype=torch.float32)
        self.identity = torch.tensor(
            [record.identity for record in self.records], dtype=torch.int64
        )
        self._bad = BadSamples(len(self.records), on_bad_sample)
        self._cache: tuple[Tensor, Tensor] | None = None
        if cache_images:
            self._cache = self._read(range(len(self.records)))

    def __len__(self) -> int:
        return len(self.records)

    @property
    def bad_samples(self) -> int:
        """How many images were skipped because a file of theirs cannot be read."""
        return len(self._bad)

    @property
    def all_bad(self) -> bool:
        """Whether every image was met and none can be read."""
        return self._bad.all

    def good(self, items: Sequence[int]) -> Tensor:
        """(B,) bool, which of B items could be read so far."""
        return self._bad.good([item % len(self) for item in items])

    def __getitem__(self, item: int) -> ImageBatch:
        """One image, as a batch of one; raises InputError for files that cannot be read."""
        if not 0 <= item < 2 * len(self):
            raise IndexError(item)
        return self.__getitems__([item])[0]

    def __getitems__(self, items: Sequence[int]) -> list[ImageBatch]:
        """Several images as one batch; DataLoader prefers this to __getitem__."""
        rows = [item % len(self) for item in items]
        pixels, label_map = (
            self._read(rows) if self._cache is None else (part[rows] for part in self._cache)
        )
        mirrored = torch.tensor([item >= len(self) for item in items])
        labels = self.labels[rows]
        if mirrored.any():
            pixels = torch.where(mirrored[:, None, None, None], pixels.flip(3), pixels)
            flipped = label_map.flip(2)
            if self.mirrored_regions is not None:
                flipped = self.mirrored_regions[flipped.long()]
            label_map = torch.where(mirrored[:, None, None], flipped, label_map)
            if self.mirrored_labels is not None:
                labels = torch.where(mirrored[:, None], labels[:, self.mirrored_labels], labels)
        good = self._bad.good(rows).nonzero()[:, 0]
        if len(good) < len(rows):
            pixels, label_map, labels = pixels[good], label_map[good], labels[good]
        key = torch.tensor(rows)[good]
        names = tuple(self.records[row].image_id for row in key.tolist())
        return [
            ImageBatch(_scaled(pixels), label_map.long(), labels, self.identity[key], key, names)
        ]

    def _read(self, rows: Sequence[int]) -> tuple[Tensor, Tensor]:
        """(B, 3, H, W) and (B, H, W) uint8; bad rows, if they are to be skipped, are marked and
        left at 0.
        """
        height, width = self.image_size
        pixels = torch.zeros(len(rows), 3, height, width, dtype=torch.uint8)
        label_map = torch.zeros(len(rows), height, width, dtype=torch.uint8)
        for position, row in enumerate(rows):
            record = self.records[row]
            try:
                shown = read_sample(record, self.reader, self.image_size)
                np.copyto(pixels[position].numpy(), shown[0].transpose(2, 0, 1))
                np.copyto(label_map[position].numpy(), shown[1])
            except InputError as error:
                self._bad.meet(row, error)
        return pixels, label_map


def read_sample(
    record: LabelMapRecord, reader: PngLabelMaps, image_size: tuple[int, int]
) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """An image (H, W, 3) and its label map (H, W) at `image_size` = (H, W); raises InputError."""
    height, width = image_size
    image = reader.image(record)
    label_map = reader.shown(record, image, (width, height))
    return np.asarray(_resized(image, width, height, Image.Resampling.BICUBIC)), label_map


def check_proportions(record: LabelMapRecord, image: Image.Image, label_map: Image.Image) -> None:
    """Raise InputError unless a label map covers the same rectangle as its image, at any size."""
    if label_map.width * image.height != label_map.height * image.width:
        sizes = f"{label_map.width}x{label_map.height}, its image {image.width}x{image.height}"
        problem = f"the label map is {sizes}: other proportions"
        raise InputError(f"{record.label_map}: {problem}; {OFFICIAL_REMEDY}")


def collate(items: list[ImageBatch]) -> ImageBatch:
    """Join items of any number of rows."""
    if len(items) == 1:
        return items[0]
    columns = {
        name: torch.cat([getattr(item, name) for item in items])
        for name in ImageBatch._fields
        if name != "image_id"
    }
    return ImageBatch(**columns, image_id=tuple(name for item in items for name in item.image_id))


def make_label_map_loader(
    dataset: Dataset[ImageBatch], num_workers: int, **order: Any
) -> DataLoader[ImageBatch]:
    """As `make_loader`."""
    return make_loader(dataset, _packed if num_workers else collate, num_workers, **order)


def _packed(items: list[ImageBatch]) -> ImageParcel:
    return ImageParcel.pack(collate(items))


class Evenly(NamedTuple):
    """Which images an epoch draws: of every group as many, see `draw_evenly`."""

    groups: NDArray[np.int64]  # (N,), of each image
    most: int  # how often an epoch may draw one


class MirroringSampler(EpochSampler[ImageBatch]):
    """Shuffles a `LabelMapDataset` as `EpochSampler`, and mirrors images with p = `share`.

    evenly: draw images so; None = each once.

    Which images of an epoch are mirrored is a function of (seed, epoch, index), so a run resumed at
    epoch k, or one on other processes or workers, sees what an undisturbed one does.
    """

    def __init__(
        self,
        dataset: LabelMapDataset,
        replicas: int,
        rank: int,
        seed: int,
        share: float,
        evenly: Evenly | None = None,
    ) -> None:
        super().__init__(dataset, replicas, rank, seed)
        self.count, self.share, self.evenly = len(dataset), share, evenly

    def __iter__(self) -> Iterator[Any]:
        """The items of this process's part of the epoch."""
        seed = [self.seed, self.epoch]
        mirrored = np.random.default_rng(seed).random(self.count) < self.share
        drawn = np.arange(self.count)
        if self.evenly is not None:
            drawn = draw_evenly(*self.evenly, seed)
        for place in super().__iter__():
            yield int(drawn[place]) + self.count * int(mirrored[place])


def _scaled(pixels: Tensor) -> Tensor:
    """uint8 -> [-1, 1], image by image, which stay in the processor's cache, into memory that
    processes share.
    """
    images = [image.float().div_(127.5).sub_(1) for image in pixels]
    return cast(Tensor, default_collate(images)) if images else pixels.float()


def _resized(
    picture: Image.Image, width: int, height: int, resample: Image.Resampling
) -> Image.Image:
    return picture if picture.size == (width, height) else picture.resize((width, height), resample)


def _ranges(values: Sequence[int]) -> str:
    """`0..18, 255` for the sorted values."""
    parts: list[list[int]] = []
    for value in values:
        if parts and parts[-1][-1] == value - 1:
            parts[-1] = [parts[-1][0], value]
        else:
            parts.append([value])
    return ", ".join("..".join(str(end) for end in part) for part in parts)
