"""A data set of one's own (`data=own`): images, labels, and label maps or what stands for them."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property, partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cfexp.data.base import Part
from cfexp.data.label_maps.dataset import LabelMapRecord, MaskFile
from cfexp.data.label_maps.module import LabelMapDataModule
from cfexp.data.own.columns import UNKNOWN_CLASS, Column, chosen_classes
from cfexp.data.own.contents import Chosen, Contents
from cfexp.data.own.folder import REGIONS, REMEDY, FoundImage, OwnFolder
from cfexp.data.own.images import OwnImageReader
from cfexp.data.own.made_maps import WHOLE, Grid, Made, Superpixels, made_by, write_superpixels
from cfexp.data.own.parts import PARTS, draw_parts, same_bytes
from cfexp.data.own.region_list import (
    FORMATS,
    RegionList,
    found_regions,
    read_regions,
)
from cfexp.data.reading.images import read_picture
from cfexp.data.reading.settings import check_at_least
from cfexp.errors import InputError
from cfexp.whole_files import write_whole

# Sides are multiples of this, which all networks here take; so many images tell the usual size.
STEP, LEAST_SIDE, LOOKED_AT = 16, 32, 200
LONGEST = 2.0  # one side against the other
STRETCHED = 1.5  # more is worth a word
NAN = float("nan")


class OwnReader(OwnImageReader):
    """Reads a data set's own images and label maps, fitted to the networks.

    regions: of label maps in files; None = there are none. made: what draws them instead. predicted:
    the folder of maps whose values are the regions' numbers.
    """

    remedy = REMEDY

    def __init__(
        self,
        image_size: Sequence[int],
        region_names: Sequence[str],
        regions: RegionList | None,
        made: Made | None,
        predicted: Path | None,
    ) -> None:
        super().__init__([*region_names], image_size)
        self.listed, self.made, self.predicted = regions, made, predicted

    def label_map(self, record: LabelMapRecord) -> Image.Image | None:
        """A region a pixel, of the networks' size; None where there is none."""
        if isinstance(self.made, Grid):
            return Image.fromarray(self.made.label_map(self.image_size))
        return super().label_map(record)

    def decode(self, files: Sequence[MaskFile]) -> Image.Image:
        """The label map in a file, mode L."""
        ((path, content, _),) = files
        if self.listed is None or (self.predicted is not None and self.predicted in Path(path).parents):
            return super().decode(files)
        picture = read_picture(Path(path), FORMATS, content, remedy="save it again as PNG")
        return Image.fromarray(self.listed.regions_of(picture, path))


class Left(NamedTuple):
    """What is not used, with how many."""

    count: int
    what: str


class OwnDataSet(LabelMapDataModule):
    """Images in `root`/images (or in `root`), with labels by a table or by folders; see
    docs/own_data.md.

    label: the column that is decided about; None = the only one. classes: which of its classes,
    in this order, or a mapping to other names; images of others are left out. labels_file,
    file_column, group, part: of the table, None = found. split: shares of train, val and test where
    no column says, drawn by `split_seed` and kept beside the cache. label_maps: `auto` (the folder
    label_maps, or one region where there is none), `whole`, `grid:4x4`, `superpixels`, or a folder of
    maps whose values are numbers of regions. layouts: a folder of predicted maps, for images without
    one. mapped_only: leave out images without a label map in a file. image_size: None = the usual
    proportions, the short side at most `side`. fingerprint: what the files held when they were first
    read. Raises InputError for settings out of range; everything else when it is read.
    """

    trains_all_labels = True
    shared_settings = (
        *(f"data.{name}" for name in ("label", "classes", "labels_file", "file_column", "group")),
        *(f"data.{name}" for name in ("part", "split", "split_seed", "image_size", "fingerprint")),
        *(f"decision.{name}" for name in ("label", "below", "above", "output", "class_names")),
        *("size", "train_images"),
    )

    def __init__(
        self,
        root: str,
        label: str | None = None,
        classes: Any = None,
        labels_file: str | None = None,
        file_column: str | None = None,
        group: str | None = None,
        part: str | None = None,
        split: Sequence[float] = (0.7, 0.1, 0.2),
        split_seed: int = 0,
        label_maps: str = "auto",
        layouts: str | None = None,
        mapped_only: bool = False,
        image_size: Sequence[int] | None = None,
        side: int = 64,
        cache_dir: str = "~/.cache/cfexp",
        fingerprint: str | None = None,
        **loading: Any,
    ) -> None:
        check_at_least(LEAST_SIDE, side=side)
        check_at_least(0, split_seed=split_seed)
        self.root = Path(root).expanduser()
        super().__init__(image_size or (side, side), **loading)
        self.side, self.label, self.classes = side, label, classes
        self.chosen = Chosen(labels_file, file_column, group, part)
        self.split, self.split_seed = _shares(split), split_seed
        self.label_maps, self.made = str(label_maps), made_by(str(label_maps))
        if self.made is None and self.label_maps not in ("auto", "own", "whole"):
            if not Path(self.label_maps).expanduser().is_dir():
                ways = "auto, whole, grid:4x4, superpixels or a folder of label maps"
                raise InputError(f"data.label_maps={label_maps} is no folder; it may be {ways}")
            layouts = self.label_maps
        self.layouts = None if layouts is None else Path(layouts).expanduser()
        self.mapped_only = mapped_only
        self.cache_dir = Path(cache_dir).expanduser() / "own"
        self._fingerprint = fingerprint
        self.labels: list[str] = []  # of which to choose one, where none is said
        self._records: dict[Part, list[LabelMapRecord]] = {}
        if image_size is None:
            with suppress(InputError):  # which is raised again where it is said
                self.image_size = self.usual_size

    @cached_property
    def contents(self) -> Contents:
        """What is found in the folder."""
        assert self.root is not None
        return Contents(OwnFolder(self.root), self.chosen)

    @cached_property
    def usual_size(self) -> tuple[int, int]:
        """(H, W) for the networks: the images' usual proportions."""
        images = self.contents.images
        sizes = []
        for place in np.unique(np.linspace(0, len(images) - 1, LOOKED_AT).astype(int)):
            try:
                with Image.open(images[place].path) as picture:
                    sizes.append(picture.size)
            except Exception:  # a damaged file makes Pillow raise nearly anything; who reads it says so
                continue
        if not sizes:
            return self.side, self.side
        width, height = np.median(np.array(sizes, dtype=float), axis=0)
        short = min(self.side, max(_stepped(min(width, height)), LEAST_SIDE))
        stretch = min(max(width, height) / min(width, height), LONGEST)
        long = max(int(round(short * stretch / STEP)) * STEP, short)
        return (short, long) if width >= height else (long, short)

    @cached_property
    def column(self) -> Column | None:
        """The label that is decided about, of each image; None where none is named and none found.

        Raises InputError for a label that cannot be used.
        """
        if self.label is None and not any(
            each.kind != "other" for each in self.contents.columns.values()
        ):
            return None
        found = self.contents.label(self.label)
        where = self.contents.table.path if self.contents.table else self.contents.folder.root
        return chosen_classes(found, self.classes, where)

    @property
    def exclusive(self) -> bool:
        """Whether the labels are several classes that exclude each other."""
        return self.column is not None and self.column.kind == "classes"

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]  # the files say them
        """The one binary label, or the classes."""
        if self.column is None:
            return ()
        return self.column.classes if self.exclusive else (self.column.name,)

    @cached_property
    def label_map_files(self) -> dict[str, Path]:
        """The label maps in files, by the image's id; those of no image are in `stray_maps`."""
        places = self.contents.folder.label_map_files()
        found: dict[str, Path] = {}
        self.stray_maps: list[Path] = []
        for stem, path in places.items():
            try:
                image = self.contents.names.find(stem)
            except ValueError as error:
                raise InputError(f"{path}: {stem!r} is {error}; lay it in the same folders") from None
            if image is None:
                self.stray_maps.append(path)
            elif image.image_id in found:
                other = found[image.image_id]
                raise InputError(f"{path}: {other.name} is of {image.place}, too; keep one")
            else:
                found[image.image_id] = path
        return found

    @cached_property
    def listed(self) -> RegionList | None:
        """The regions of label maps in files; None where those are not used."""
        if self.made is not None or self.label_maps == "whole":
            return None
        path = self.contents.folder.root / REGIONS
        if path.is_file():
            return read_regions(path)
        if not self.label_map_files:
            if self.label_maps == "auto" and not self.contents.folder.label_maps_folder.is_dir():
                return None
            folder = self.contents.folder.label_maps_folder
            raise InputError(
                f"{folder}: holds no label map of an image; give {{image's stem}}.png, "
                "or data.label_maps=whole, grid:4x4 or superpixels"
            )
        return self._found_regions()

    @property
    def region_names(self) -> tuple[str, ...]:  # type: ignore[override]  # the files say them
        """By the list, by the values found, or by what is made in their place."""
        if self.made is not None:
            return self.made.names
        return (WHOLE,) if self.listed is None else self.listed.names

    @property
    def mirrored_regions(self) -> tuple[int, ...] | None:  # type: ignore[override]  # as these
        """By the list; a grid's cells are those of the mirrored picture, too."""
        return None if self.listed is None else self.listed.mirrored

    @cached_property
    def reader(self) -> OwnReader:
        """What opens and fits the files."""
        size, names = self.image_size, self.region_names
        return OwnReader(size, names, self.listed, self.made, self.layouts)

    @property
    def unmapped(self) -> list[FoundImage]:
        """The images without a label map, where label maps in files are used."""
        if self.listed is None:
            return []
        return [each for each in self._used if each.image_id not in self.label_map_files]

    @cached_property
    def parts(self) -> dict[str, Part]:
        """The part of each image, by id: as the table or the folders say, or drawn and kept.

        Raises InputError for a group in two parts.
        """
        given = self.contents.parts
        if given is None:
            return self._drawn_parts()
        if (problem := self.contents.group_in_two_parts()) is not None:
            raise InputError(problem)
        return {
            image.image_id: part or "train"
            for image, part in zip(self.contents.images, given, strict=True)
        }

    @property
    def split_file(self) -> Path:
        """Where the parts that were drawn are kept."""
        kept = [self.fingerprint, self.label, self._plain_classes, self.split, self.split_seed]
        key = hashlib.sha256(json.dumps([*kept, self.chosen], default=str).encode()).hexdigest()
        return self.cache_dir / f"split-{key[:12]}.csv"

    def prepare_data(self) -> None:
        """Make superpixels, if they are asked for and not there."""
        if isinstance(self.made, Superpixels):
            write_superpixels(self._openers(), self.made.clusters, self._superpixels)

    def records(self, part: Part) -> list[LabelMapRecord]:
        """The images of a part in the order of their names; raises InputError."""
        if not self._records:
            self._check_rows()
            made = {each: list[LabelMapRecord]() for each in PARTS}
            for image in self._used:
                record = self._record(image)
                if record.label_map is not None or not self.mapped_only:
                    made[self.parts[image.image_id]].append(record)
            self._records = made
        return self._records[part]

    @cached_property
    def fingerprint(self) -> str:
        """A short hash over the lists, and the names and sizes of images and label maps."""
        if self._fingerprint is not None:
            return self._fingerprint
        digest, folder = hashlib.sha256(), self.contents.folder
        for image in folder.images:
            digest.update(f"{image.place} {image.path.stat().st_size}\n".encode())
        for stem, path in folder.label_map_files().items():
            digest.update(f"{stem} {path.stat().st_size}\n".encode())
        table = self.contents.table
        for path in (folder.root / REGIONS, *([table.path] if table else [])):
            digest.update(path.read_bytes() if path.is_file() else b"-")
        return digest.hexdigest()[:12]

    @property
    def description(self) -> dict[str, Any]:
        """As always, and where label maps come from."""
        return {**super().description, "label_maps": self.label_maps}

    def size_problem(self, size: tuple[int, int]) -> str | None:
        """Sides that are stretched against each other; how much is enlarged is an error or nothing."""
        stretch = size[0] * self.image_size[0] / (size[1] * self.image_size[1])
        stretch = max(stretch, 1 / stretch)
        problem = f"its sides are stretched by {stretch:.2f} against each other"
        return problem if stretch > STRETCHED else None

    def settings(self) -> dict[str, Any]:
        """What the files say of a config that uses them, by full name."""
        column = self.column
        told: dict[str, Any] = {
            "data.image_size": [*self.image_size],
            "data.fingerprint": self.fingerprint,
            "train_images": len(self.records("train")),
        }
        if column is not None:
            told["decision.label"] = column.name
            told["data.label"] = column.name
            told["decision.output"] = None if self.exclusive else 0
            told["decision.class_names"] = [*column.classes]
            if not self.exclusive:
                told["decision.below"], told["decision.above"] = column.classes
        return told

    def told(self) -> list[str]:
        """What a user should know before anything is trained, in lines."""
        counts = {part: len(self.records(part)) for part in PARTS}
        parts = ", ".join(f"{count:,} {part}" for part, count in counts.items())
        drawn = self.contents.parts is None
        source = f"drawn by data.split_seed={self.split_seed}, kept in {self.split_file}"
        lines = [f"data: {parts} ({source if drawn else 'as the data say'})"]
        lines += [f"note: {each.count:,} {each.what}" for each in self.left_out()]
        if self.listed is not None and self.unmapped:
            lines.append(f"note: {len(self.unmapped):,} images have no label map: it is predicted")
        return lines

    def left_out(self) -> list[Left]:
        """What of the folder is not used, with counts."""
        contents, lines = self.contents, []
        raw = None if self.column is None else self.contents.columns[self.column.name]
        if raw is not None and self.column is not None:
            for name, count in raw.counts().items():
                if count and not self._is_kept(raw, raw.classes.index(name)):
                    lines.append(Left(count, f"images of class {name!r}: data.classes leaves it out"))
        if contents.table is not None:
            lines.append(Left(len(contents.images) - len(contents.rows), "images without a row"))
        if raw is not None:
            known = raw.unknown - (len(contents.images) - len(contents.rows) if contents.table else 0)
            lines.append(Left(known, f"images whose {raw.name!r} is not known"))
        return [each for each in lines if each.count > 0]

    @cached_property
    def _used(self) -> list[FoundImage]:
        """The images, less those of classes that are left out."""
        images = self.contents.images
        if self.column is None or self.classes is None:
            return images
        raw = self.contents.columns[self.column.name].values
        return [
            image
            for image, value, kept in zip(images, raw, self.column.values, strict=True)
            if value == UNKNOWN_CLASS or kept != UNKNOWN_CLASS
        ]

    def _is_kept(self, raw: Column, value: int) -> bool:
        assert self.column is not None
        pairs = zip(raw.values, self.column.values, strict=True)
        return any(own == value and kept != UNKNOWN_CLASS for own, kept in pairs)

    def _check_rows(self) -> None:
        """Raise InputError for rows without an image, unless such are skipped."""
        if self.contents.rows and self.contents.without_image and self.on_bad_sample == "raise":
            first, *more = self.contents.without_image
            others = f", nor of {len(more)} more rows" if more else ""
            raise InputError(f"{first}{others}; data.on_bad_sample=skip goes on without them")

    def _record(self, image: FoundImage) -> LabelMapRecord:
        path: Path | None = None
        if isinstance(self.made, Superpixels):
            path = self._superpixels / f"{image.image_id}.png"
        elif self.listed is not None:
            path = self.label_map_files.get(image.image_id)
        if path is None and self.layouts is not None:
            path = self.layouts / f"{image.image_id}.png"
        labels, identity = self._labels[image.image_id]
        return LabelMapRecord(image.image_id, image.path, path, labels, identity)

    @cached_property
    def _labels(self) -> dict[str, tuple[tuple[float, ...], int]]:
        """The labels of each image, and the number of its group."""
        column, groups = self.column, self.contents.groups
        number = {group: place for place, group in enumerate(dict.fromkeys(groups))}
        grouped = self.contents.group_column is not None
        found = {}
        for place, image in enumerate(self.contents.images):
            value = UNKNOWN_CLASS if column is None else column.values[place]
            if column is None:
                labels: tuple[float, ...] = ()
            elif value == UNKNOWN_CLASS:
                labels = (NAN,) * len(self.class_names)
            elif self.exclusive:
                labels = tuple(float(value == each) for each in range(len(column.classes)))
            else:
                labels = (float(value),)
            found[image.image_id] = labels, number[groups[place]] if grouped else -1
        return found

    def _drawn_parts(self) -> dict[str, Part]:
        path, used = self.split_file, self._used
        places = {image.image_id: place for place, image in enumerate(self.contents.images)}
        values = None if self.column is None else self.column.values
        classes = [
            UNKNOWN_CLASS if values is None else values[places[image.image_id]] for image in used
        ]
        groups = [self.contents.groups[places[image.image_id]] for image in used]
        if (kept := _kept_parts(path, used)) is not None:
            return kept
        if self.contents.group_column is None:
            groups = same_bytes([image.path for image in used])
        parts = draw_parts(classes, groups, self.split, self.split_seed)
        if (counts := Counter(parts))["train"] == 0 or counts["test"] == 0:
            lacks = "train on" if counts["train"] == 0 else "test on"
            of = f"{len(used)} images in {len(set(groups))} groups"
            raise InputError(
                f"data.split={[*self.split]} leaves no image to {lacks}: there are {of}; "
                "give more, or a column of parts"
            )
        with suppress(OSError):  # it is drawn again alike
            path.parent.mkdir(parents=True, exist_ok=True)
            rows = [f"{image.place},{part}" for image, part in zip(used, parts, strict=True)]
            write_whole(path, "\n".join(["file,part", *rows]) + "\n")
        return {image.image_id: part for image, part in zip(used, parts, strict=True)}

    def _found_regions(self) -> RegionList:
        """What the label maps hold, looked through once and kept."""
        kept = self.cache_dir / f"regions-{self.fingerprint}.json"
        if kept.is_file():
            names, keys, colored = json.loads(kept.read_text(encoding="utf-8"))
            numbers: dict[Any, int] = {
                tuple(key) if colored else key: place for place, key in enumerate(keys)
            }
            values, colors = ({}, numbers) if colored else (numbers, {})
            return RegionList(tuple(names), values, colors, None, "what the files hold")
        found = found_regions(self.label_map_files.values())
        kept.parent.mkdir(parents=True, exist_ok=True)
        content = [found.names, [*(found.colors or found.values)], found.in_colors]
        write_whole(kept, json.dumps(content))
        return found

    @property
    def _superpixels(self) -> Path:
        assert isinstance(self.made, Superpixels)
        size = "{}x{}".format(*self.image_size)
        return self.cache_dir / f"superpixels-{self.fingerprint}-{size}-{self.made.clusters}"

    def _openers(self) -> dict[str, Any]:
        reader = OwnImageReader([WHOLE], self.image_size)
        unknown = (NAN,)
        return {
            image.image_id: partial(
                reader.image, LabelMapRecord(image.image_id, image.path, None, unknown)
            )
            for image in self.contents.images
        }

    @property
    def _plain_classes(self) -> Any:
        classes = self.classes
        return None if classes is None else [*map(str, classes)]


def region_shares(data: OwnDataSet, most: int = 100) -> NDArray[np.float64]:
    """(R,), the share of each region in the area of the label maps, of `most` images at most."""
    counts = np.zeros(len(data.region_names))
    records = [record for part in PARTS for record in data.records(part)]
    for place in np.unique(np.linspace(0, len(records) - 1, most).astype(int)):
        try:
            label_map = data.reader.label_map(records[place])
        except InputError:  # named where all are opened
            continue
        if label_map is not None:
            counts += np.bincount(np.asarray(label_map).ravel(), minlength=len(counts))
    return counts / max(counts.sum(), 1)


def _kept_parts(path: Path, images: Sequence[FoundImage]) -> dict[str, Part] | None:
    """The parts that were drawn before; None where they are not there, or not of these images."""
    known = {part: part for part in PARTS}
    try:
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
        rows = dict(line.rsplit(",", 1) for line in lines)
        return {image.image_id: known[rows[str(image.place)]] for image in images}  # type: ignore[index]
    except (OSError, ValueError, KeyError):
        return None


def _stepped(length: float) -> int:
    return -(-int(length) // STEP) * STEP


def _shares(split: Sequence[float]) -> tuple[float, ...]:
    numbers = not isinstance(split, str) and all(
        isinstance(each, int | float) and each >= 0 for each in split
    )
    if not numbers or len(split) != 3 or split[0] <= 0 or split[2] <= 0:
        shown = [*split] if numbers else split
        example = "such as [0.7,0.1,0.2]"
        raise InputError(f"data.split must be shares of train, val and test, {example}, got {shown}")
    return tuple(float(each) for each in split)
