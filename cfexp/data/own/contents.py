"""What a folder of one's own holds, read and taken for something: images, labels, groups, parts."""

import re
from collections import Counter
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path, PurePath
from re import Pattern
from typing import Any, NamedTuple

from cfexp.data.base import Part
from cfexp.data.own.columns import (
    UNKNOWN_CLASS,
    Column,
    group_columns,
    is_part_column,
    label_column,
    part_column,
)
from cfexp.data.own.folder import REMEDY, FoundImage, Names, OwnFolder
from cfexp.data.own.groups import IN_NAMES, groups_in_names, pattern_of
from cfexp.data.own.images import SUFFIXES
from cfexp.data.own.table import Table, is_unknown, listed, read_table
from cfexp.data.reading.records import shown
from cfexp.errors import InputError

FOLDERS = "class"  # what the column is called that folders are
# The surer names first: `id` and `name` may be those of a person.
_FILE_NAMES = (
    *("file", "file_name", "filename", "file_path", "filepath", "path", "image", "image_name"),
    *("image_path", "image_file", "img", "img_name", "img_path", "image_id", "img_id"),
    *("id", "name"),
)
_ROWS_LOOKED_AT = 1000  # to tell which column names the files


class Chosen(NamedTuple):
    """What a user says of the table; None = found by itself."""

    table: str | None = None
    file: str | None = None
    group: str | None = None
    part: str | None = None


class Contents:
    """The images of a folder and what is said of them: by a table, or by the folders they lie in.

    `images` are in a fixed order; `columns`, `groups` and `parts` have an entry for each. Every
    property raises InputError for what is wrong, which names the file, the row and the column.
    """

    def __init__(self, folder: OwnFolder, chosen: Chosen) -> None:
        self.folder, self.chosen = folder, chosen
        self.tests_on_val = False  # whether the val part is taken for the test part, as none is

    @property
    def images(self) -> list[FoundImage]:
        """All of them, with a label or without."""
        return self.folder.images

    @cached_property
    def table(self) -> Table | None:
        """The table; None where folders, or nothing, say what the images show."""
        tables = self.folder.tables()
        if self.chosen.table is not None:
            path = self.folder.root / self.chosen.table
            if not path.is_file():
                there = f"; there is {tables[0].name}" if tables else ""
                raise InputError(f"data.labels_file={path}: no such file{there}")
            return read_table(path)
        named = [path for path in tables if path.stem.lower() == "labels"]
        tables = named or [path for path in tables if path.suffix.lower() != ".txt"]
        if len(tables) > 1:
            names = listed([path.name for path in tables])
            raise InputError(
                f"{self.folder.root}: several tables, {names}; data.labels_file=NAME says which, "
                "or join them, with a column `part`"
            )
        return read_table(tables[0]) if tables else None

    @cached_property
    def file_column(self) -> str:
        """The column that names the files: what is said, one so called, or the first."""
        assert self.table is not None
        if self.chosen.file is not None:
            self.table.column(self.chosen.file)
            return self.chosen.file
        called = {re.sub(r"[\s-]", "_", each.casefold()): each for each in self.table.columns}
        named = [called[name] for name in _FILE_NAMES if name in called]
        candidates = list(dict.fromkeys([*named, *self.table.columns]))
        # A number that only counts the rows may stand beside the files' names, and may be the name
        # of another row's file: whole names come first.
        whole, first = self._naming(candidates, whole=True), candidates[0]
        if whole is not None:
            return whole
        return self._naming([first], most=0) or self._naming(candidates) or first

    def _naming(
        self, candidates: Sequence[str], whole: bool = False, most: float = 0.5
    ) -> str | None:
        """The column that names most images, of those that do so in more than a share `most` of
        the rows; whole: with their suffixes.
        """
        assert self.table is not None
        names = Names(self.images)
        step = -(-len(self.table.rows) // _ROWS_LOOKED_AT)
        found: dict[str, int] = {}
        for name in candidates:
            cells = self.table.values(name)[::step]
            if (count := names.count(cells, whole)) > most * len(cells):
                found[name] = count
        return max(found, key=found.__getitem__, default=None)

    @cached_property
    def rows(self) -> dict[int, int]:
        """The row of each image that has one, by the image's place."""
        if self.table is None:
            return {}
        names, cells = self.names, self.table.values(self.file_column)
        place = {image.image_id: number for number, image in enumerate(self.images)}
        rows: dict[int, int] = {}
        self.without_image: list[str] = []
        for row, ((line, _), cell) in enumerate(zip(self.table.rows, cells, strict=True)):
            where = f"{self.table.path}: line {line}"
            if not cell:
                raise InputError(f"{where}: column {self.file_column!r} names no file")
            try:
                image = names.find(cell)
            except ValueError as error:
                remedy = "give it with its folder and suffix"
                raise InputError(f"{where}: {cell!r} is {error}; {remedy}") from None
            if image is None:
                self.without_image.append(f"{where}: {cell!r}: no such image in {self._images}")
                continue
            other = rows.setdefault(place[image.image_id], row)
            if other != row:
                first = self.table.rows[other].line
                problem = f"{cell!r} is {image.place}, of which line {first} is already"
                raise InputError(f"{where}: {problem}; keep one row for an image")
        if len(self.table.columns) == 1:
            problem = f"has one column only, {self.file_column!r}"
            remedy = "put commas, semicolons or tabs between the columns, and a label in one"
            raise InputError(f"{self.table.path}: {problem}; {remedy}")
        self._check_header(names)
        if not rows:
            example = self.images[0].place
            raise InputError(
                f"{self.table.path}: no row's {self.file_column!r} is one of the "
                f"{len(self.images)} images in {self._images}, such as {example}; "
                "data.file_column=NAME says which column names the files"
            )
        return rows

    def _check_header(self, names: Names) -> None:
        """Raise InputError for a first line that is an image's."""
        if PurePath(self.file_column).suffix.lower() not in SUFFIXES:
            return
        try:
            found = names.find(self.file_column)
        except ValueError:  # of several images
            return
        if found is not None:
            problem = f"line 1 is of an image, {shown(','.join(self._table.columns))}"
            remedy = "name the columns in a line before it, such as file,label"
            raise InputError(f"{self._table.path}: {problem}; {remedy}")

    @cached_property
    def names(self) -> Names:
        """How names are found, and how loosely they were."""
        return Names(self.images)

    @cached_property
    def columns(self) -> dict[str, Column]:
        """What may be a label, by name; a value for each image."""
        if self.table is None:
            return self._of_folders()
        lines = [row.line for row in self.table.rows]
        taken = {self.file_column, self.group_column, self.part_name}
        columns = {}
        for name in self.table.columns:
            if name in taken:
                continue
            column = label_column(self.table.path, name, self.table.values(name), lines)
            values = column.values
            if values:  # of rows, made those of images
                values = tuple(
                    values[self.rows[place]] if place in self.rows else UNKNOWN_CLASS
                    for place in range(len(self.images))
                )
            columns[name] = column._replace(values=values)
        return columns

    def label(self, name: str | None) -> Column:
        """The column of a label; the only one where none is named. Raises InputError."""
        columns = self.columns
        labels = [each for each in columns.values() if each.kind != "other"]
        labels = [each for each in labels if not each.is_constant] or labels
        if name is None:
            if len(labels) == 1:
                return labels[0]
            if not labels:
                lacks = "has no column of labels" if self.table else "has no labels"
                where = self.table.path if self.table else self.folder.root
                ways = "labels.csv with a row for each image, or one folder a class in images/"
                raise InputError(f"{where}: {lacks}; give {ways} ({REMEDY})")
            known = listed([each.name for each in labels])
            raise InputError(f"decision.label must be given: decision.label=COLUMN, one of {known}")
        if name not in columns:
            where = self.table.path if self.table else self.folder.root
            known = listed([*columns]) or "none"
            raise InputError(f"decision.label={name}: {where} has no such label; it has {known}")
        return columns[name]

    @cached_property
    def group_column(self) -> str | None:
        """The column whose equal values stay in one part; or what the files' names are read by."""
        if self.chosen.group is not None:
            if self._group_in_names is None and self.table is not None:
                self.table.column(self.chosen.group)
            return self.chosen.group
        if self.table is None:
            return None
        found = group_columns([each for each in self.table.columns if each != self.file_column])
        if len(found) > 1:
            raise InputError(
                f"{self.table.path}: {listed(found)} may all be groups; data.group=NAME says which"
            )
        return found[0] if found else None

    @cached_property
    def _group_in_names(self) -> Pattern[str] | None:
        """What finds a group in a file's name; None where a column says it."""
        given = self.chosen.group
        if given is None or (self.table is not None and given in self.table.columns):
            return None
        pattern = pattern_of(given)
        if pattern is None and self.table is None:
            raise InputError(f"data.group={given}: there is no table of labels; {IN_NAMES}")
        return pattern

    @cached_property
    def groups(self) -> list[str]:
        """Of each image; one without a group is its own."""
        alone = [f"\0{image.image_id}" for image in self.images]
        if self.group_column is None:
            return alone
        if (pattern := self._group_in_names) is not None:
            found = groups_in_names([str(image.place) for image in self.images], pattern)
            if not any(found):
                problem = f"is in no file's name, such as {self.images[0].place}"
                raise InputError(f"data.group={self.group_column} {problem}; {IN_NAMES}")
            return [each or other for each, other in zip(found, alone, strict=True)]
        cells = self._table.values(self.group_column)
        return [
            alone[place]
            if place not in self.rows or is_unknown(cells[self.rows[place]])
            else cells[self.rows[place]]
            for place in range(len(self.images))
        ]

    @cached_property
    def part_name(self) -> str | None:
        """The column that says the parts."""
        if self.chosen.part is not None:
            if self.table is None:
                raise InputError(f"data.part={self.chosen.part}: there is no table of labels")
            self.table.column(self.chosen.part)
            return self.chosen.part
        names = () if self.table is None else self.table.columns
        return next((name for name in names if is_part_column(self._table, name)), None)

    @cached_property
    def parts(self) -> list[Part | None] | None:
        """Of each image, where the table or the folders say; None in it = left to nobody, None
        alone = to be drawn.
        """
        named: list[Any]
        if self.table is not None and self.part_name is not None:
            of_rows = part_column(self.table, self.part_name)
            named = [
                of_rows[self.rows[place]] if place in self.rows else None
                for place in range(len(self.images))
            ]
        else:
            named = [self.folder.folder_of(image)[0] for image in self.images]
            if not all(named) or set(named) == {"train"}:
                return None
        if "val" in named and "test" not in named:  # as many have them: what is left is tested on
            self.tests_on_val = True
            named = ["test" if part == "val" else part for part in named]
        return named

    def group_in_two_parts(self) -> str | None:
        """What to say of a group whose members are in several given parts; None = there is none."""
        first: dict[str, tuple[int, Part]] = {}
        for place, (group, part) in enumerate(zip(self.groups, self.parts or (), strict=False)):
            if part is None:
                continue
            other, of = first.setdefault(group, (place, part))
            if of != part:
                names = self.images[place].place, self.images[other].place
                where = self.table.path if self.table else self._images
                return (
                    f"{where}: {self.group_column} {group!r} is in two parts: "
                    f"{names[0]} is {part}, {names[1]} {of}; keep a group in one part"
                )
        return None

    @property
    def _table(self) -> Table:
        assert self.table is not None
        return self.table

    @property
    def _images(self) -> Path:
        return self.folder.images_folder

    def _of_folders(self) -> dict[str, Column]:
        classes: Sequence[Any] = [self.folder.folder_of(image)[1] for image in self.images]
        if not any(classes):
            return {}
        loose = [image for image, each in zip(self.images, classes, strict=True) if each is None]
        if loose:
            of = f"{len(loose)} of {len(classes)} images"
            raise InputError(
                f"{loose[0].path}: lies in no folder of a class, as {of}; "
                "move them, or give labels.csv"
            )
        if len(counts := Counter(classes)) < 2:
            raise InputError(
                f"{self._images}: one folder a class: there is only {next(iter(counts))!r}; "
                "give a second class, or labels.csv"
            )
        column = label_column(self._images, FOLDERS, classes)
        return {FOLDERS: column}
