"""A data set of one's own (`data=own`): images, labels, and label maps or what stands for them."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cfexp.data.base import Part
from cfexp.data.label_maps.dataset import LabelMapRecord
from cfexp.data.label_maps.module import LabelMapDataModule
from cfexp.data.own.columns import UNKNOWN_CLASS, Column, chosen_classes
from cfexp.data.own.contents import Chosen, Contents
from cfexp.data.own.digests import digests
from cfexp.data.own.folder import REGIONS, FoundImage, OwnFolder
from cfexp.data.own.label_maps import OwnLabelMaps, check_label_maps
from cfexp.data.own.left_out import TESTS_ON_VAL, Left, left_out
from cfexp.data.own.parts import (
    PARTS,
    check_shares,
    deal_mapped,
    deal_parts,
    in_turn,
    keep_parts,
    kept_parts,
    same_bytes,
)
from cfexp.data.own.reader import OwnReader
from cfexp.data.reading.settings import check_at_least
from cfexp.errors import InputError

# Sides are multiples of this and of an eighth of `data.side`: larger networks halve images more.
STEP, LEAST_SIDE, LOOKED_AT = 16, 32, 200
LONGEST = 2.0  # one side against the other
STRETCHED = 1.5  # more is worth a word
NAN = float("nan")


class OwnDataSet(LabelMapDataModule):
    """Images in `root`/images (or in `root`), with labels by a table or by folders; see
    docs/own_data.md.

    label: the column that is decided about; None = the only one. classes: which of its classes, in
    this order, or a mapping to other names; images of others are left out. labels_file,
    file_column, group, part: of the table, None = found. split: shares of train, val and test where
    no column says, drawn by `split_seed` and kept beside the cache. label_maps, layouts: see
    `OwnLabelMaps`. mapped_only: leave out images without a label map in a file. image_size: None =
    the usual proportions, the short side at most `side`. fingerprint: what the files held when they
    were first read. Raises InputError for settings out of range; everything else when it is read.
    """

    trains_all_labels = True
    shared_settings: tuple[str, ...] = (
        *(f"data.{name}" for name in ("label", "classes", "labels_file", "file_column", "group")),
        *(f"data.{name}" for name in ("part", "split", "split_seed", "image_size", "fingerprint")),
        *(f"decision.{name}" for name in ("label", "below", "above", "output", "class_names")),
        *("train_images", "mapped_images", "facts.num_regions"),
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
        self.split, self.split_seed = check_shares(split), split_seed
        self.label_maps, self.layouts = check_label_maps(label_maps, layouts)
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
    def maps(self) -> OwnLabelMaps:
        """The label maps, or what stands for them."""
        kept = self.cache_dir, self.fingerprint
        return OwnLabelMaps(self.contents, self.label_maps, self.layouts, *kept)

    @cached_property
    def usual_size(self) -> tuple[int, int]:
        """(H, W) for the networks: the images' usual proportions."""
        images = self.contents.images
        sizes = []
        for place in np.unique(np.linspace(0, len(images) - 1, LOOKED_AT).astype(int)):
            try:
                with Image.open(images[place].path) as picture:
                    sizes.append(picture.size)
            except Exception:  # of whatever kind; who reads it says so
                continue
        if not sizes:
            return self.side, self.side
        width, height = np.median(np.array(sizes, dtype=float), axis=0)
        step = max(STEP, self.side // 8)
        short = min(self.side, max(-(-int(min(width, height)) // step) * step, LEAST_SIDE))
        stretch = min(max(width, height) / min(width, height), LONGEST)
        long = max(round(short * stretch / step) * step, short)
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
    def exclusive(self) -> bool:  # type: ignore[override]  # the files say it
        """Whether the labels are several classes that exclude each other."""
        return self.column is not None and self.column.kind == "classes"

    @property
    def class_names(self) -> tuple[str, ...]:  # type: ignore[override]  # the files say them
        """The one binary label, or the classes."""
        if self.column is None:
            return ()
        return self.column.classes if self.exclusive else (self.column.name,)

    @property
    def region_names(self) -> tuple[str, ...]:  # type: ignore[override]  # the files say them
        """By the list, by the values found, or by what is made in their place."""
        return self.maps.region_names

    @property
    def mirrored_regions(self) -> tuple[int, ...] | None:  # type: ignore[override]  # as these
        """By the list, or of the columns of a grid."""
        return self.maps.mirrored

    @cached_property
    def reader(self) -> OwnReader:
        """What opens and fits the files."""
        return self.maps.reader(self.image_size)

    @property
    def unmapped(self) -> list[FoundImage]:
        """The images that lack a label map in a file, where no folder gives all."""
        given = self.layouts is not None and self.label_maps not in ("auto", "own")
        if self.maps.listed is None or given:
            return []
        return [each for each in self._used if each.image_id not in self.maps.files]

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
        classes = None if self.classes is None else [*map(str, self.classes)]
        kept = [self.fingerprint, self.label, classes, self.split, self.split_seed]
        key = hashlib.sha256(json.dumps([*kept, self.chosen], default=str).encode()).hexdigest()
        return self.cache_dir / f"split-{key[:12]}.csv"

    def prepare_data(self) -> None:
        """Make superpixels, if they are asked for and not there."""
        self.maps.make(self.image_size)

    def records(self, part: Part) -> list[LabelMapRecord]:
        """A part's images by name, of val and test in turn one a class; raises InputError."""
        if not self._records:
            self._check_rows()
            made = {each: list[LabelMapRecord]() for each in PARTS}
            parts = self._mapped_parts[0] if self.mapped_only else self.parts
            for image in self._used:
                if image.image_id in parts:
                    made[parts[image.image_id]].append(self._record(image))
            for each in ("val", "test"):
                made[each] = in_turn(made[each], [str(record.labels) for record in made[each]])
            self._records = made
        return self._records[part]

    @cached_property
    def fingerprint(self) -> str:
        """A short hash over the lists, and the names and contents of images and label maps."""
        if self._fingerprint is not None:
            return self._fingerprint
        digest, folder, held = hashlib.sha256(), self.contents.folder, self._digests
        for image in folder.images:
            digest.update(f"{image.place} {held[image.path]}\n".encode())
        for stem, path in folder.label_map_files().items():
            digest.update(f"{stem} {held[path]}\n".encode())
        table = self.contents.table
        for path in (folder.root / REGIONS, *([table.path] if table else [])):
            digest.update(path.read_bytes() if path.is_file() else b"-")
        return digest.hexdigest()[:12]

    @cached_property
    def _digests(self) -> dict[Path, str]:
        """What each image and label map holds, read once."""
        folder = self.contents.folder
        paths = [*(image.path for image in folder.images), *folder.label_map_files().values()]
        place = hashlib.sha256(str(folder.root.resolve()).encode()).hexdigest()[:12]
        kept = self.cache_dir / f"contents-{place}.json"
        return dict(zip(paths, digests(paths, kept), strict=True))

    @property
    def description(self) -> dict[str, Any]:
        """As always, and where label maps come from; `sides`: a label's two names."""
        sides = None if self.column is None else self.column.sides
        told = {} if self.column is None or sides is None else {self.column.name: [*sides]}
        return {**super().description, "label_maps": self.label_maps, "sides": told}

    def describe(self, key: int) -> dict[str, Any]:
        """As always; of images without labels nothing about any: Parquet takes no empty struct."""
        described = super().describe(key)
        if not self.class_names:
            del described["labels"]
        return described

    def size_problem(self, size: tuple[int, int]) -> str | None:
        """Sides that are stretched against each other; too much enlarged is an error anyway."""
        stretch = size[0] * self.image_size[0] / (size[1] * self.image_size[1])
        stretch = max(stretch, 1 / stretch)
        problem = f"its sides are stretched by {stretch:.2f} against each other"
        return problem if stretch > STRETCHED else None

    def settings(self) -> dict[str, Any]:
        """What the files say of a config that uses them, by full name."""
        column, records = self.column, self.records("train")
        told: dict[str, Any] = {
            "data.image_size": [*self.image_size],
            "data.fingerprint": self.fingerprint,
            "facts.num_regions": len(self.region_names),
            "train_images": len(records),
            "mapped_images": sum(r.image_id in self.maps.files for r in records),
        }
        if column is not None:
            told["decision.label"] = told["data.label"] = column.name
            told["decision.output"] = None if self.exclusive else 0
            told["decision.class_names"] = [*column.classes]
            if not self.exclusive:
                told["decision.below"], told["decision.above"] = column.classes
        return told

    def told(self) -> list[str]:
        """What a user should know before anything is trained, in lines."""
        parts = ", ".join(f"{len(self.records(part)):,} {part}" for part in PARTS)
        drawn = self.contents.parts is None
        source = f"drawn by data.split_seed={self.split_seed}, kept in {self.split_file}"
        lines = [f"data: {parts} ({source if drawn else 'as the data say'})"]
        if self.contents.tests_on_val:
            lines.append(f"note: {TESTS_ON_VAL}")
        lines += [f"note: {each.many:,} {each.what}" for each in self.left_out()]
        if self.unmapped:
            lines.append(f"note: {len(self.unmapped):,} images have no label map: it is predicted")
            lines += [f"note: {each}" for each in (self.in_one_group,) if each]
        return lines

    def left_out(self) -> list[Left]:
        """What of the folder is not used, with counts."""
        return left_out(self.contents, self.column, self.maps)

    @property
    def in_one_group(self) -> str:
        """What to say where label maps are of one group alone; "" where they are not."""
        if not self.unmapped or not self._mapped_parts[1]:
            return ""
        of = f"all label maps are of one {self.contents.group_column or 'image and its copies'}"
        return f"{of}: the segmenter is tested on what it nearly knows; give some of another"

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

    def _check_rows(self) -> None:
        """Raise InputError for rows without an image, unless such are skipped."""
        if self.contents.rows and self.contents.without_image and self.on_bad_sample == "raise":
            first, *more = self.contents.without_image
            others = f", nor of {len(more)} more rows" if more else ""
            raise InputError(f"{first}{others}; data.on_bad_sample=skip goes on without them")

    def _record(self, image: FoundImage) -> LabelMapRecord:
        path = self.maps.path_of(image, self.image_size)
        return LabelMapRecord(image.image_id, image.path, path, *self._labels[image.image_id])

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
        kept = kept_parts(path)
        if all(str(image.place) in kept for image in used):
            return {image.image_id: kept[str(image.place)] for image in used}
        classes, groups = self._classes_and_groups(used)
        parts = deal_parts(classes, groups, self.split, self.split_seed)
        if (counts := Counter(parts))["train"] == 0 or counts["test"] == 0:
            lacks = "train on" if counts["train"] == 0 else "test on"
            of = f"{len(used)} images in {len(set(groups))} groups"
            raise InputError(
                f"data.split={[*self.split]} leaves no image to {lacks}: there are {of}; "
                "give more, or a column of parts"
            )
        keep_parts(path, {str(image.place): part for image, part in zip(used, parts, strict=True)})
        return {image.image_id: part for image, part in zip(used, parts, strict=True)}

    def _classes_and_groups(self, images: Sequence[FoundImage]) -> tuple[list[int], list[str]]:
        """The class of each, and what shares a part: a group's, or what is the same to the byte."""
        places = {each.image_id: place for place, each in enumerate(self.contents.images)}
        values = None if self.column is None else self.column.values
        own = [places[image.image_id] for image in images]
        classes = [UNKNOWN_CLASS if values is None else values[place] for place in own]
        if self.contents.group_column is None:
            paths = [image.path for image in images]
            return classes, same_bytes(paths, [self._digests[path] for path in paths])
        return classes, [self.contents.groups[place] for place in own]

    @cached_property
    def _mapped_parts(self) -> tuple[dict[str, Part], bool]:
        """Of the images with a label map, by id, the part for a segmenter; and whether a group had
        to be divided.
        """
        mapped = [image for image in self._used if self.maps.path_of(image, self.image_size)]
        given = {image.image_id: self.parts[image.image_id] for image in mapped}
        if {"train", "test"} <= {*given.values()}:
            return given, False
        classes, groups = self._classes_and_groups(mapped)
        parts, divided = deal_mapped(classes, groups, self.split, self.split_seed)
        return dict(zip(given, parts, strict=True)), divided
