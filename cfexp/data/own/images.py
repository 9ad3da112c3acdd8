"""A user's own images as queries: files of any size and mode, with label maps or without."""

import hashlib
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import ExifTags, Image, ImageOps

from cfexp.data.base import Part
from cfexp.data.label_maps.dataset import (
    NO_REGION,
    LabelMapDataset,
    LabelMapRecord,
    PngLabelMaps,
)
from cfexp.data.label_maps.module import LabelMapDataModule
from cfexp.data.label_maps.plausible import SURE_OF_ONE, bands_of, other_order, shares_of
from cfexp.data.reading.images import EIGHT_BIT_MODES, read_picture
from cfexp.errors import InputError

GUIDE = "see docs/own_images_and_models.md"
FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")
# A side enlarged further has too little in it to explain a decision by.
MAX_ENLARGEMENT = 2
# Sides stretched against each other by less are not worth a word: 1281 x 720 pixels.
UNSEEN_STRETCH = 1.01


def fit_image(
    picture: Image.Image, image_size: Sequence[int], name: object
) -> tuple[Image.Image, str]:
    """An image as the networks take it, RGB at `image_size` = (H, W), and in words what was done to
    it.

    Turned as its EXIF data says; what is transparent lies over white; sides are resized each by
    itself, as those of the data sets are. Raises InputError, which begins with `name`, for a mode
    of another kind and for too few pixels.
    """
    rgb, made = upright_rgb(picture, name)
    (width, height), (model_height, model_width) = rgb.size, image_size
    enlargement = check_size(width, height, image_size, name)
    done = [f"{width}x{height}", *made]
    if rgb.size != (model_width, model_height):
        stretch = width * model_height / (height * model_width)
        stretch = max(stretch, 1 / stretch)
        told = (
            f", its sides stretched by {stretch:.2f} against each other"
            if stretch > UNSEEN_STRETCH
            else ""
        )
        done.append(
            f"{'enlarged' if enlargement > 1 else 'reduced'} to {model_width}x{model_height}{told}"
        )
    return rgb.resize((model_width, model_height), Image.Resampling.BICUBIC), ", ".join(done)


def upright_rgb(picture: Image.Image, name: object) -> tuple[Image.Image, list[str]]:
    """An image as it was seen, as RGB of 8 bits, and in words what that took.

    Raises InputError, which begins with `name`, for a mode of another kind.
    """
    upright, rotated = _upright(picture)
    rgb, made = _to_rgb(upright, name)
    return rgb, [*(["turned as its EXIF data says"] if rotated else []), *made]


def check_size(width: int, height: int, image_size: Sequence[int], name: object) -> float:
    """By how much an image must be enlarged for networks of `image_size` = (H, W); raises
    InputError if too much.
    """
    model_height, model_width = image_size
    enlargement = max(model_width / max(width, 1), model_height / max(height, 1))
    if enlargement > MAX_ENLARGEMENT:
        least = f"{-(-model_width // MAX_ENLARGEMENT)}x{-(-model_height // MAX_ENLARGEMENT)}"
        problem = (
            f"is {width}x{height} pixels, too small for networks of {model_width}x{model_height}"
        )
        raise InputError(f"{name}: {problem}; give at least {least}")
    return enlargement


def fit_label_map(
    label_map: Image.Image, image: Image.Image, image_size: Sequence[int], name: object
) -> Image.Image:
    """A label map of a region a pixel, drawn over `image` as it looks (upright), at `image_size` =
    (H, W).

    Raises InputError where it does not cover the same rectangle, at whatever size.
    """
    width, height = _upright(image)[0].size
    # What one pixel more or less of the smaller picture explains is rounding.
    tolerance = max(width, height, *label_map.size)
    if abs(label_map.width * height - label_map.height * width) > tolerance:
        sizes = f"{label_map.width}x{label_map.height}, its image {width}x{height}"
        raise InputError(
            f"{name}: the label map is {sizes}: other proportions; "
            "draw it over the upright image, at any scale"
        )
    return label_map.resize((image_size[1], image_size[0]), Image.Resampling.NEAREST)


def drawn_regions(region_names: Sequence[str]) -> NDArray[np.uint8]:
    """(256,), the region that each value of a drawn label map stands for, for `PngLabelMaps`.

    The regions' own numbers, as BDD100k's train ids and CelebAMask-HQ's ids are; 255 is unlabeled
    where there is such a region.
    """
    regions = np.full(256, NO_REGION, dtype=np.uint8)
    regions[: len(region_names)] = np.arange(len(region_names))
    if "unlabeled" in region_names:
        regions[255] = region_names.index("unlabeled")
    return regions


class OwnImageReader(PngLabelMaps):
    """Reads a user's files, fitted to the networks: see `fit_image` and `fit_label_map`."""

    remedy = GUIDE

    def __init__(self, region_names: Sequence[str], image_size: Sequence[int]) -> None:
        super().__init__(drawn_regions(region_names), unlabeled=0)
        self.image_size = image_size

    def picture(self, path: Path) -> Image.Image:
        """The whole file, as it is."""
        return read_picture(path, FORMATS, remedy=f"is it an image? ({GUIDE})")

    def image(self, record: LabelMapRecord) -> Image.Image:
        """RGB, of the networks' size."""
        return fit_image(self.picture(record.image), self.image_size, record.image)[0]

    def label_map(self, record: LabelMapRecord) -> Image.Image | None:
        """A region a pixel, of the networks' size; None where none was drawn."""
        label_map = super().label_map(record)
        if label_map is None:
            return None
        return fit_label_map(
            label_map, self.picture(record.image), self.image_size, record.label_map
        )

    def shown(
        self, record: LabelMapRecord, image: Image.Image, size: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """(H, W), what was drawn; unlabeled where nothing was."""
        label_map = self.label_map(record)
        return (
            np.full(image.size[::-1], self.unlabeled, np.uint8)
            if label_map is None
            else np.asarray(label_map)
        )


class OwnImages(LabelMapDataModule):
    """Images of a user's own, to be explained by networks for another data set, whose regions and
    labels they have.

    images: files, or folders of them. data_set: whose image size, regions and labels; no file of it
    is read, unless an explainer asks for its training part. has_root: whether it is known where
    that lies. label_maps: a file for each image, or a folder of `{image's stem}.png`; None = to be
    predicted. fingerprint: what the files held when they were first read; None = now. Raises
    InputError for what is not there, and for a data set without label maps.
    """

    def __init__(
        self,
        images: Sequence[str],
        data_set: LabelMapDataModule,
        label_maps: Sequence[str] | None = None,
        fingerprint: str | None = None,
        has_root: bool = True,
    ) -> None:
        if not isinstance(data_set, LabelMapDataModule):
            name = type(data_set).__name__
            raise InputError(f"image= is for experiments that search in label maps, not for {name}")
        super().__init__(
            data_set.image_size,
            eval_batch_size=data_set.eval_batch_size,
            max_test_images=data_set.max_test_images,
            on_bad_sample=data_set.on_bad_sample,
        )
        self.region_names, self.class_names = data_set.region_names, data_set.class_names
        self.looks = data_set.looks
        paths = image_files(images)
        maps = [None] * len(paths) if label_maps is None else _label_maps(label_maps, paths)
        stems = Counter(path.stem for path in paths)
        unknown = (float("nan"),) * len(self.class_names)
        self._records = [
            # Two of one name are told apart by their whole paths.
            LabelMapRecord(
                path.stem if stems[path.stem] == 1 else str(path), path, label_map, unknown
            )
            for path, label_map in zip(paths, maps, strict=True)
        ]
        self._fingerprint = fingerprint
        self._data_set, self._data_set.has_root = data_set, has_root

    def records(self, part: Part) -> list[LabelMapRecord]:
        """All of them, whatever the part."""
        return list(self._records)

    def dataset(self, part: Part) -> LabelMapDataset:
        """All of them; but of the training part, which none of them is of, that of the data set.

        Raises InputError where nobody said where that lies.
        """
        return self._data_set.dataset(part) if part == "train" else super().dataset(part)

    @property
    def reader(self) -> OwnImageReader:
        """What opens and fits the files."""
        return OwnImageReader(self.region_names, self.image_size)

    @cached_property
    def fingerprint(self) -> str:
        """A short hash over all that the files hold."""
        if self._fingerprint is not None:
            return self._fingerprint
        digest = hashlib.sha256()
        for record in self._records:
            for path in (record.image, record.label_map):
                digest.update(b"-" if path is None else hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()[:12]

    def check(self) -> list[str]:
        """Open every file; returns what is done to the images, a line for each kind of it.

        Raises InputError for the first that cannot be used, unless such are skipped.
        """
        done: dict[str, list[Path]] = {}
        drawn: list[tuple[Path | None, NDArray[np.float64]]] = []
        for record in self._records[: self.max_test_images]:
            try:
                _, told = fit_image(
                    self.reader.picture(record.image), self.image_size, record.image
                )
                label_map = self.reader.label_map(record)
            except InputError:
                if self.on_bad_sample == "raise":
                    raise
                continue
            done.setdefault(told, []).append(record.image)
            if label_map is not None:
                drawn.append(
                    (record.label_map, bands_of(np.asarray(label_map), len(self.region_names)))
                )
        lines = [
            f"{first}{f' and {len(more)} more' if more else ''}: {told}"
            for told, (first, *more) in done.items()
        ]
        return lines + [line for path, bands in drawn for line in self._odd(path, bands)]

    def _odd(self, path: Path | None, bands: NDArray[np.float64]) -> list[str]:
        """What is odd about a label map, in lines."""
        shown = shares_of(bands, self.region_names)
        if (bands.sum(1) > 0).sum() == 1:
            return [f"label_map={path}: holds one region only, {shown}"]
        order = None if self.looks is None else other_order(bands, self.looks, SURE_OF_ONE)
        return (
            []
            if order is None
            else [f"label_map={path}: as it is read it shows {shown}; it looks like {order}"]
        )


def image_files(images: Sequence[str]) -> list[Path]:
    """Every image that is named, and those of every folder, by name."""
    paths: list[Path] = []
    for given in map(Path, images):
        if given.expanduser().is_dir():
            folder = given.expanduser()
            found = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
            if not found:
                raise InputError(f"image={given}: no image in this folder ({', '.join(SUFFIXES)})")
            paths += found
        elif given.expanduser().is_file():
            paths.append(given.expanduser())
        else:
            raise InputError(f"image={given}: no such file or folder")
    if not paths:
        raise InputError("image=[] names no image")
    return paths


def _label_maps(given: Sequence[str], images: Sequence[Path]) -> list[Path]:
    """The label map of each image."""
    paths = [Path(path).expanduser() for path in given]
    if len(paths) == 1 and paths[0].is_dir():
        paths = [paths[0] / f"{image.stem}.png" for image in images]
    elif len(paths) != len(images):
        counts = f"{len(paths)} for {len(images)}"
        raise InputError(f"label_map= must be one for each image: {counts}; or give a folder")
    for path in paths:
        if not path.is_file():
            raise InputError(f"label_map={path}: no such file")
    return paths


def _upright(picture: Image.Image) -> tuple[Image.Image, bool]:
    """The image as it was seen, and whether it had to be turned or mirrored."""
    try:
        turns = picture.getexif().get(ExifTags.Base.Orientation) in range(2, 9)
        return (ImageOps.exif_transpose(picture), True) if turns else (picture, False)
    except (
        Exception
    ):  # damaged EXIF data make Pillow raise nearly anything; the picture is as good without
        return picture, False


def _to_rgb(picture: Image.Image, name: object) -> tuple[Image.Image, list[str]]:
    """The image as RGB of 8 bits, and in words what it was."""
    if picture.mode.startswith("I"):
        values: NDArray[Any] = np.asarray(picture)
        if values.min() < 0 or values.max() > 0xFFFF:
            raise InputError(
                f"{name}: grey values must be of 8 or 16 bits, got {values.min()}..{values.max()}"
            )
        grey = (values / 257).round().astype(np.uint8)  # 65535 / 255
        return Image.fromarray(grey).convert("RGB"), ["16-bit grey made RGB"]
    if picture.mode not in EIGHT_BIT_MODES:
        raise InputError(
            f"{name}: an image must have 8 or 16 bits a channel, got mode {picture.mode}"
        )
    if picture.has_transparency_data:
        white = Image.new("RGBA", picture.size, "white")
        return Image.alpha_composite(white, picture.convert("RGBA")).convert("RGB"), [
            f"{picture.mode} over white"
        ]
    return picture.convert("RGB"), [] if picture.mode == "RGB" else [f"{picture.mode} made RGB"]
