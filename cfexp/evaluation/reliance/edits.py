"""What the edits of a run changed, region by region: all that is said of what a model relies on.

A run tells its regions in one of three ways: by label maps; without them by truth masks (the object
that a question is about, and the rest of the picture); without those each picture has nine parts.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from cfexp.declaration import Declaration
from cfexp.errors import InputError
from cfexp.evaluation.directions import direction_members, has_something_to_explain
from cfexp.evaluation.groups import EVERYTHING, is_counted_apart
from cfexp.evaluation.measure.base import Members, Values
from cfexp.evaluation.run_folder import Record, RunFolder

OBJECT, ELSEWHERE = "object asked about", "elsewhere"
NINTHS = tuple(
    f"{row} {column}"
    for row in ("top", "middle", "bottom")
    for column in ("left", "centre", "right")
)
NOWHERE = 255  # in a label map: a pixel of no region that has a name


@dataclass(frozen=True)
class Edits:
    """The N searches of a run that had something to explain, and whose regions are known."""

    run: RunFolder
    declaration: Declaration
    everything: list[Record]  # all of the run
    records: list[Record]  # (N,)
    regions: list[str]  # (R,)
    regions_from: str  # in words: what says where the regions are
    measured_by: str  # in words: what says how much of the edit each has
    present: NDArray[np.bool_]  # (N, R) whether the picture has the region
    shares: Values  # (N, R) of the squared edit, 0..1; all 0 where nothing changed
    looks: Values  # (N, 4 R) where the edit is, and which way the colours went: for clusters
    causes: list[
        frozenset[str] | None
    ]  # (N,) what the decision rests on in truth; None = not known
    causes_from: str  # in words: who says so; "" = nobody

    @cached_property
    def turned(self) -> Members:
        """(N,) the explanations: searches whose stored picture is decided as asked."""
        success = [bool(record["stored_success"]) for record in self.records]
        return np.array(success, dtype=bool) & self.shares.any(1)

    @cached_property
    def leading(self) -> NDArray[np.int64]:
        """(N,) the region with the largest share of each edit."""
        leading: NDArray[np.int64] = self.shares.argmax(1)
        return leading

    @cached_property
    def image_ids(self) -> NDArray[np.int64]:
        """(N,) of which picture each is, numbered."""
        names = [str(record["image_id"]) for record in self.records]
        numbers: NDArray[np.int64] = np.unique(names, return_inverse=True)[1]
        return numbers

    @cached_property
    def is_cause(self) -> NDArray[np.bool_]:
        """(N, R) whether each region is a true cause; nowhere true where causes are not known."""
        return np.array(
            [[name in (causes or ()) for name in self.regions] for causes in self.causes],
            dtype=bool,
        ).reshape(len(self.records), len(self.regions))

    @cached_property
    def knows_causes(self) -> Members:
        """(N,) whether the causes are known."""
        return np.array([causes is not None for causes in self.causes], dtype=bool)

    @cached_property
    def directions(self) -> dict[str, Members]:
        """(N,) by name: all searches, then those of each direction where the run has some."""
        everyone = {EVERYTHING: np.ones(len(self.records), dtype=bool)}
        if not self.declaration.by_direction:
            return everyone
        return everyone | direction_members(self.records, self.declaration.class_names)


def edits_of(run: RunFolder, expected: Sequence[str] | None = None) -> Edits:
    """Read a run's edits, one picture at a time.

    expected: the regions that may decide, by what a person knows; None = as the data tells.

    Raises InputError for a damaged run, and for expected regions that it does not have.
    """
    declaration, everything = run.declaration, run.records()
    everything.sort(key=lambda record: (str(record["image_id"]), record["key"]))
    counted = [
        record
        for record in everything
        if has_something_to_explain(record) and not is_counted_apart(declaration, record)
    ]
    places = _Places(run, everything)
    records, present, shares, looks = [], [], [], []
    for record in track(counted, description="edits", transient=True):
        place = places.of(record)
        if place is None:
            continue
        share, look, has = _edit(run, declaration, record, place, len(places.names))
        records.append(record)
        present.append(has)
        shares.append(share)
        looks.append(look)
    if not records:
        raise InputError(
            f"{run.path}: no search of this run had anything to explain; there is nothing to report"
        )
    causes, causes_from = _causes(records, places, expected)
    column = declaration.region_column
    by_codes = column is not None and places.by_label_map
    return Edits(
        *(run, declaration, everything, records, places.names, places.said),
        "the squared change of each region's code"
        if by_codes
        else "the squared change of its pixels",
        *(np.array(present), np.array(shares), np.array(looks), causes, causes_from),
    )


class _Places:
    """Where the regions of a run's pictures are."""

    def __init__(self, run: RunFolder, records: Sequence[Record]) -> None:
        self.run = run
        self.by_label_map = any(run.picture("label_map", each["key"]).is_file() for each in records)
        self.by_mask = not self.by_label_map and any(each.get("has_truth_mask") for each in records)
        if self.by_label_map:
            self.said = "the label maps"
            self.names = [str(name) for name in run.data.get("region_names") or []]
            if not self.names:
                highest = max(
                    int(each[each < NOWHERE].max(initial=0)) for each in self._all(records)
                )
                self.names = [f"region {index}" for index in range(highest + 1)]
        elif self.by_mask:
            self.said, self.names = "the truth masks", [OBJECT, ELSEWHERE]
        else:
            self.said, self.names = "nothing: each picture is cut into nine parts", [*NINTHS]

    def _all(self, records: Sequence[Record]) -> Iterator[NDArray[np.uint8]]:
        found = (self.run.label_map(record["key"]) for record in records)
        return (each for each in found if each is not None)

    def of(self, record: Record) -> NDArray[np.int64] | None:
        """(H, W) the region of each pixel; None where this picture's are not known."""
        if self.by_label_map:
            label_map = self.run.label_map(record["key"])
            return None if label_map is None else label_map.astype(np.int64)
        if self.by_mask:
            if not record.get("has_truth_mask"):
                return None
            mask = self.run.masks([record["key"]])[0, 0].numpy()
            return np.where(mask, 0, 1)
        height, width = self.run.images("query", [record["key"]]).shape[2:]
        rows, columns = np.arange(height) * 3 // height, np.arange(width) * 3 // width
        ninths: NDArray[np.int64] = 3 * rows[:, None] + columns
        return ninths


def _edit(
    run: RunFolder, declaration: Declaration, record: Record, place: NDArray[np.int64], count: int
) -> tuple[Values, Values, NDArray[np.bool_]]:
    """(R,) share of the edit of each region, (4 R,) how it looks, (R,) whether it is there."""
    start, made = (
        run.images(name, [record["key"]])[0] for name in (declaration.starts_from, "counterfactual")
    )
    if place.shape != start.shape[1:]:
        size = "x".join(map(str, place.shape[::-1]))
        raise InputError(
            f"{run.picture('label_map', record['key'])} is {size} pixels, its picture "
            f"{start.shape[2]}x{start.shape[1]}"
        )
    squares, means, sizes = _changes(made - start, torch.from_numpy(place), count)
    present = sizes > 0
    column = declaration.region_column
    codes = None if column is None else record.get(column.name)
    if codes is not None and len(codes) >= count:
        squares = np.nan_to_num(np.array(codes[:count], dtype=np.float64), posinf=0.0) ** 2
    shares = squares / max(squares.sum(), 1e-12)
    look = np.concatenate([shares[:, None], shares[:, None] * means], axis=1)
    return shares, look.ravel(), present


def _changes(change: Tensor, place: Tensor, count: int) -> tuple[Values, Values, Values]:
    """Of each region the summed square of a change (3, H, W); its mean colour, of length at most 1;
    and its pixels.
    """
    index = place.flatten().clamp(max=count)
    sums = torch.zeros(5, count + 1, dtype=torch.float64)
    pixels = change.flatten(1).double()
    values = torch.cat([pixels, pixels.square().sum(0, keepdim=True), torch.ones_like(pixels[:1])])
    sums.index_add_(1, index, values)
    *colors, squares, sizes = sums[:, :count].numpy()
    strength = np.sqrt(squares / np.maximum(sizes, 1))
    means = np.stack(colors, axis=1) / np.maximum(sizes * strength, 1e-12)[:, None]
    return squares, means, sizes


def _causes(
    records: Sequence[Record], places: _Places, expected: Sequence[str] | None
) -> tuple[list[frozenset[str] | None], str]:
    """The true causes of each decision, and who says so."""
    if expected is not None:
        if unknown := sorted({*expected} - {*places.names}):
            there = ", ".join(places.names)
            raise InputError(f"expected: the run has no region {unknown[0]!r}; it has {there}")
        return [frozenset(expected)] * len(records), "you, by expected="
    if places.by_mask:
        return [frozenset([OBJECT])] * len(records), "the question: the object that it is about"
    truths = [record.get("truth") for record in records]
    told = [
        frozenset(truth["causal_regions"])
        if isinstance(truth, dict) and truth.get("causal_regions") is not None
        else None
        for truth in truths
    ]
    return told, "the data set" if any(each is not None for each in told) else ""
