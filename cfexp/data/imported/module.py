"""Somebody else's counterfactuals as queries of a run, each with what was made of it."""

import hashlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, get_args

import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from cfexp.data.base import Part, QueryDataModule
from cfexp.data.batch import ImportedBatch
from cfexp.data.imported.ace import read_tree
from cfexp.data.imported.files import (
    Found,
    Imported,
    checked,
    numbers_of,
    pair_folders,
    read_pixels,
)
from cfexp.data.imported.labels import Row, read_labels
from cfexp.data.reading.loaders import ShareOf, make_loader
from cfexp.data.reading.skipping import OnBadSample
from cfexp.errors import InputError

SAID = 20  # lines of one kind; what is more is counted
LABEL = "label"  # what the label in the records of an ACE tree is called here, if nobody says


class _Files(NamedTuple):
    """What was found, and opened once."""

    found: Found
    size: tuple[int, int]  # height, width


class ImportedImages(QueryDataModule):
    """Pairs of a query and a counterfactual, in two folders or in the output tree of an explainer.

    query, counterfactual, reconstruction: folders whose files have equal stems; further: folders of
    further counterfactuals of the same queries, as another seed makes them. ace: in their
    place, see `cfexp.data.imported.ace`; results: which of its experiments. labels: a CSV file, see
    `cfexp.data.imported.labels`. label: the one that the decision is about. class_names: of the
    decision. data_set: whose networks decide, for their sizes; no file of it is read.
    on_bad_sample: "skip" = leave out what cannot be used. fingerprint: what the files held when
    they were first read; None = now.

    Raises InputError for settings that say half of it.
    """

    def __init__(
        self,
        query: str | None = None,
        counterfactual: str | None = None,
        reconstruction: str | None = None,
        further: Sequence[str] | None = None,
        ace: str | None = None,
        results: str | None = None,
        labels: str | None = None,
        label: str | None = None,
        class_names: Sequence[str] | None = None,
        data_set: QueryDataModule | None = None,
        batch_size: int = 16,
        on_bad_sample: OnBadSample = "raise",
        fingerprint: str | None = None,
    ) -> None:
        super().__init__()
        if (ace is None) == (query is None or counterfactual is None) or (
            ace is not None and (query or counterfactual or reconstruction or further)
        ):
            raise InputError("give query=DIR and counterfactual=DIR, or ace=DIR in their place")
        if results is not None and ace is None:
            raise InputError(f"results={results}: an experiment of a tree; give ace=DIR, too")
        self._given = [
            None if each is None else Path(each).expanduser()
            for each in (query, counterfactual, reconstruction)
        ]
        self._further = [Path(each).expanduser() for each in further or ()]
        self._ace = None if ace is None else Path(ace).expanduser()
        self._results = results
        self._labels = None if labels is None else Path(labels).expanduser()
        self.label = label
        self._names = tuple(class_names or ())
        if on_bad_sample not in get_args(OnBadSample):
            raise InputError(f"on_bad_sample must be raise or skip, got {on_bad_sample!r}")
        if type(batch_size) is not int or batch_size < 1:
            raise InputError(f"batch_size must be a whole number of at least 1, got {batch_size!r}")
        self._data_set, self._batch_size, self._on_bad_sample = data_set, batch_size, on_bad_sample
        self._fingerprint = fingerprint

    @cached_property
    def files(self) -> _Files:
        """The pairs that can be used; raises InputError where none can, or where one cannot and
        such are not left out.
        """
        if self._ace is not None:
            found = read_tree(self._ace, self._results)
        else:
            query, counterfactual, reconstruction = self._given
            assert query is not None
            assert counterfactual is not None
            found = pair_folders(query, counterfactual, reconstruction, self._further)
        if self._on_bad_sample == "raise" and found.problems:
            raise InputError(_first(found.problems))
        usable, size = checked(found)
        if self._on_bad_sample == "raise" and usable.problems:
            raise InputError(_first(usable.problems))
        return _Files(usable, size)

    @cached_property
    def rows(self) -> dict[str, Row]:
        """What the labels' file says, by stem; nothing where there is none."""
        return {} if self._labels is None else read_labels(self._labels, self._names)

    @property
    def imported(self) -> list[Imported]:
        """Those that are used, in the order of their names."""
        return self.files.found.imported

    @cached_property
    def keys(self) -> list[int]:
        """The key of each: the number that its name is where all are, else its place."""
        return self._numbers or list(range(len(self.imported)))

    @cached_property
    def _numbers(self) -> list[int] | None:
        return numbers_of(each.name for each in self.imported)

    @property
    def has_reconstructions(self) -> bool:
        """Whether each has a reconstruction."""
        return self._given[2] is not None

    @property
    def has_reports(self) -> bool:
        """Whether who made them says what became of some."""
        return any(each.reported is not None for each in self.imported)

    def check(self) -> list[str]:
        """What a user should know of the files, in lines; raises InputError as `files`."""
        found, rows = self.files.found, self.rows
        left_out = [f"left out: {problem}" for problem in found.problems]
        lines = [*_some(left_out), *_some(found.notes)]
        if rows and (lacking := [each.name for each in self.imported if each.name not in rows]):
            lines.append(
                f"labels={self._labels} says nothing of {len(lacking)} of {len(self.imported)} "
                f"images, the first is {lacking[0]}"
            )
        height, width = self.files.size
        return [*lines, f"{len(self.imported)} counterfactuals of {width}x{height} pixels"]

    def setup(self, stage: str | None = None) -> None:
        """Look for the files; raises as `files`."""
        _ = self.files

    def dataset(self, part: Part) -> "_Pairs":
        """All of them, whatever the part."""
        return _Pairs(self)

    def predict_dataloader(self) -> DataLoader[ImportedBatch]:
        """Each pair once, however many processes there are, and none that is left out."""
        dataset = _Pairs(self)
        left = [row for row, key in enumerate(self.keys) if key not in self._left_out]
        share = ShareOf(left, self.trainer)
        return make_loader(dataset, _collate, 0, batch_size=self._batch_size, sampler=share)

    @property
    def class_names(self) -> tuple[str, ...]:
        """The decision's classes."""
        return self._names

    @property
    def facts(self) -> dict[str, int]:
        """The images' height and width, and what the data set of the networks says beside."""
        height, width = self.files.size
        known = {} if self._data_set is None else self._data_set.facts
        return {**known, "height": height, "width": width}

    @cached_property
    def fingerprint(self) -> str:
        """A short hash over all that the files hold."""
        if self._fingerprint is not None:
            return self._fingerprint
        digest = hashlib.sha256()
        for each in self.imported:
            digest.update(each.name.encode() + repr(each.reported).encode())
            for path in each.pictures.values():
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        if self._labels is not None:
            digest.update(self._labels.read_bytes())
        return digest.hexdigest()[:12]

    @property
    def description(self) -> dict[str, Any]:
        """What is stored once beside the explanations of a run."""
        return {
            "data": type(self).__name__,
            "fingerprint": self.fingerprint,
            "class_names": list(self.class_names),
            "left_out": self.files.found.problems,
            "notes": self.files.found.notes,
        }

    def describe(self, key: int) -> dict[str, Any]:
        """What is stored beside an explanation: the image's name, its labels, and what was reported
        of it.
        """
        each, row = self._of_key[key], self.rows.get(self._of_key[key].name)
        told = each.reported
        labels = {} if row is None else dict(row.labels)
        if told is not None and told.label is not None:
            labels.setdefault(self.label or LABEL, told.label)
        reported = {} if told is None else told._asdict()
        return {
            "image_id": each.name if self._numbers is None else key,
            "labels": labels or None,
            "file": each.counterfactual.relative_to(self._ace or self._given[1] or "").as_posix(),
            "reported": {name: value for name, value in reported.items() if value is not None}
            or None,
        }

    @cached_property
    def _of_key(self) -> dict[int, Imported]:
        return dict(zip(self.keys, self.imported, strict=True))


class _Pairs(Dataset[ImportedBatch]):
    """The pairs as batches of one."""

    def __init__(self, of: ImportedImages) -> None:
        self._imported, self._keys, self._rows = of.imported, of.keys, of.rows
        self.all_bad = False  # what cannot be read is left out already

    def __len__(self) -> int:
        return len(self._imported)

    def __getitem__(self, row: int) -> ImportedBatch:
        """One pair."""
        each = self._imported[row]
        pictures = {name: _image(path) for name, path in each.pictures.items()}
        said, told = self._rows.get(each.name), each.reported
        asked = None if said is None else said.counter_class
        if asked is None and told is not None:
            asked = told.counter_class
        numbers = (
            asked,
            None if told is None else int(told.success),
            None if told is None else told.query_class,
        )
        asked_for, success, decided = (
            torch.tensor([-1 if number is None else number]) for number in numbers
        )
        return ImportedBatch(
            pictures["query"],
            pictures.get("reconstruction", pictures["query"]),
            pictures["counterfactual"],
            asked_for,
            success,
            decided,
            torch.tensor([self._keys[row]]),
            torch.stack([_image(path) for path in each.further], dim=1)
            if each.further
            else pictures["query"][:, None][:, :0],
        )


def _image(path: Path) -> Tensor:
    """(1, 3, H, W) in [-1, 1]."""
    pixels = torch.from_numpy(read_pixels(path).copy())
    return pixels.movedim(-1, 0).float().div_(127.5).sub_(1)[None]


def _collate(batches: list[ImportedBatch]) -> ImportedBatch:
    return ImportedBatch(*(torch.cat(column) for column in zip(*batches, strict=True)))


def _first(problems: list[str]) -> str:
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    return f"{problems[0]}{more}; on_bad_sample=skip leaves out what cannot be used, a line each"


def _some(lines: list[str]) -> list[str]:
    more = len(lines) - SAID
    return lines[:SAID] + ([f"... and {more} more such lines, in data.json"] if more > 0 else [])
