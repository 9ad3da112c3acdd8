"""The shape of every number that a run is scored by: what it is called, what is computed, of what,
and what n counts.

A measure says what is computed of one query, of two sets, or of a group; value, n and interval, the
same of the reconstruction and of the successes are made of all measures alike, see
`cfexp.evaluation.measurements`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from typing import Any, Literal, NamedTuple, Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cfexp.declaration import Declaration, Shown
from cfexp.evaluation.run_folder import Palette, Record, RunFolder
from cfexp.metrics.distances import Distance
from cfexp.metrics.vqa_text import Era

# What the names of the same number end in, of the reconstruction and of the successes alone.
FLOOR, SUCCESSES = "_reconstruction", "_successes"
RECONSTRUCTION = "reconstruction"  # the picture of which a floor is
BOTH = (FLOOR, SUCCESSES)
QUERIES = "queries"

Made = TypeVar("Made")
Values = NDArray[np.float64]  # (N,) one value a query, NaN where the measure means nothing for it
Members = NDArray[np.bool_]  # (N,) of which queries something holds
Features = NDArray[np.floating[Any]]  # (N, D)
See = Callable[[Tensor], Tensor]  # what a network makes of images (B, 3, H, W) in [-1, 1]: (B, D)


@dataclass(frozen=True)
class Facts:
    """What holds for all N explanations of a run."""

    run: RunFolder
    data: Mapping[str, Any]  # what the data set says of all queries alike
    records: list[Record]  # (N), in the order of (image_id, key)
    declaration: Declaration
    members: Mapping[
        str, Members
    ]  # by group, the headline first; without the queries that are counted apart
    image_ids: NDArray[np.int64]  # (N,) numbers of the images
    era: Era = "2021"  # of the official VQA evaluator

    @property
    def region_names(self) -> Sequence[str]:
        """The regions of the label maps."""
        names: Sequence[str] = self.data.get("region_names", [])
        return names

    @cached_property
    def palette(self) -> Palette:
        """The data set's colour names; empty if it has none."""
        return self.run.palette or {}

    @property
    def headline(self) -> Members:
        """Who is in the first group."""
        return next(iter(self.members.values()))

    def some_have(self, name: str) -> bool:
        """Whether any record has a value of that name."""
        return any(record.get(name) is not None for record in self.records)

    def some_show(self, picture: str) -> bool:
        """Whether any explanation has a picture of that name."""
        return any(self.run.picture(picture, record["key"]).is_file() for record in self.records)


@dataclass(frozen=True)
class Chunk:
    """B explanations, with their pictures as they are on disk."""

    facts: Facts
    rows: slice  # which of the run's
    records: list[Record]
    query: Tensor  # (B, 3, H, W) in [-1, 1]
    reconstruction: Tensor  # (B, 3, H, W)
    counterfactual: Tensor  # (B, 3, H, W)
    mask: Tensor  # (B, 1, H, W) bool, nowhere true where there is none
    made: Tensor  # compared with the query: the counterfactual, or of a floor the reconstruction
    _found: dict[tuple[object, int], Any] = field(default_factory=dict)

    @property
    def floor(self) -> "Chunk":
        """The same with the reconstruction in place of the counterfactual: an edit of nothing."""
        return replace(self, made=self.reconstruction)

    @property
    def start(self) -> Tensor:
        """(B, 3, H, W) what the explainer's edit started from."""
        return self.query if self.facts.declaration.starts_from == "query" else self.reconstruction

    def once(self, make: Callable[["Chunk"], Made]) -> Made:
        """`make` of this chunk, which several measures share."""
        return self._once((make, id(self.made)), lambda: make(self))

    def seen(self, see: See) -> tuple[Tensor, Tensor]:
        """What a network makes of the queries and of what was made of them; it sees each picture
        once.
        """
        query, made = (
            self._once((see, id(each)), partial(see, each)) for each in (self.query, self.made)
        )
        return query, made

    def _once(self, key: tuple[object, int], make: Callable[[], Made]) -> Made:
        if key not in self._found:
            self._found[key] = make()
        found: Made = self._found[key]
        return found


class Score(NamedTuple):
    """A number with its 95 % interval, NaN where there is none, and of how many; 0 = there is no
    number.
    """

    value: float
    low: float
    high: float
    n: int


NOTHING = Score(float("nan"), float("nan"), float("nan"), 0)


class Sets(NamedTuple):
    """A distance of sets, of what a network sees."""

    see: See
    # The features of N queries and of what was made of them, and (N,) of which image each is.
    distance: Callable[[Features, Features, NDArray[np.int64]], Distance]
    min_images: int = 1  # fewer different ones give no number; nor do fewer than two queries


class Pool(Protocol):
    """Collects what a number of whole groups is made of."""

    def update(self, chunk: Chunk) -> None:
        """Take B explanations in."""


class Pooled(NamedTuple):
    """A number of a whole group that is no mean over its queries."""

    pool: Pool  # of one run; measures may share it
    score: Callable[[str], Score]  # of a group


class Cell(NamedTuple):
    """Where a number stands in a table of its own kind."""

    table: str
    row: str
    column: str


class Measure(NamedTuple):
    """A number of every group of explanations."""

    name: str  # in metrics.json
    # What is computed: (B,) of B queries, NaN where it means nothing; (B, 2) of a ratio; or of
    # sets, or of a group. None = it cannot be, see `missing`.
    of: Callable[[Chunk], Tensor | Values] | Sets | Pooled | None
    # "%" (in 0..100), "of 255" (grey levels), "of [0, 1]" (images scaled so), "" of a plain number.
    unit: str = ""
    counted: str = QUERIES  # what n counts, and what there is none of where a group has no value
    # Of a rate each value is 0 or 100. Of a ratio, each pair is of the numbers whose means are
    # divided.
    kind: Literal["rate", "mean", "ratio", "distance", "pooled"] = "mean"
    needs: Callable[[Facts], bool] = lambda facts: (
        True
    )  # what a run must have for this to mean anything
    also: tuple[str, ...] = ()  # FLOOR and SUCCESSES, of which the same number is made, too
    shown: Shown | None = None  # how it stands in the main table, and in that of a sweep
    is_telling: bool = False  # it says more of the decisions and edits: in the second table
    of_region: bool = False  # one of many, with a table of their own
    cell: Cell | None = None  # where it stands in that
    of_everyone: bool = False  # it counts the queries, too, that are counted apart
    missing: str = ""  # why it is not computed
    ending: str = ""  # which of `also` this is; "" = the number itself

    @property
    def is_rate(self) -> bool:
        """Whether each value is 0 or 100."""
        return self.kind == "rate"

    @property
    def numbers(self) -> "list[Measure]":
        """The measure itself, and the same of the reconstruction and of the successes where it is
        made, too.
        """
        found = [self]
        for ending in self.also:
            counted = (
                self.counted.replace(QUERIES, "successes") if ending == SUCCESSES else self.counted
            )
            found.append(
                self._replace(name=self.name + ending, shown=None, counted=counted, ending=ending)
            )
        return found


# What a `_target_` of conf/measure/ returns: a measure, several, or a function that knows those of
# a run.
Family = Callable[[Facts], Iterable[Measure] | Measure]
Measures = Measure | Sequence[Measure] | Family


def measures_of(chosen: Iterable[Measures], facts: Facts) -> list[Measure]:
    """The measures that mean something for a run, and what it is declared to be without."""
    found: list[Measure] = []
    for each in chosen:
        made = each(facts) if callable(each) else each
        found += [made] if isinstance(made, Measure) else made
    found = [measure for measure in found if measure.needs(facts)]
    without = facts.declaration.without
    if RECONSTRUCTION in without:
        reason = without[RECONSTRUCTION]
        floors = [each for each in found if FLOOR in each.also]
        kept = [each._replace(also=tuple({*each.also} - {FLOOR})) for each in found]
        found = kept + [
            Measure(each.name + FLOOR, None, missing=reason, ending=FLOOR) for each in floors
        ]
    lacking = {name: Measure(name, None, missing=reason) for name, reason in without.items()}
    return [each for each in found if each.name not in lacking] + [*lacking.values()]


def of_rows(chunk: Chunk, values: Values) -> Values:
    """Of what was measured of the N explanations of a run at once, a chunk's."""
    return values[chunk.rows]


def rate(happened: NDArray[np.bool_], among: NDArray[np.bool_] | None = None) -> Values:
    """The values of a rate: 100 where it happened, 0 where not, NaN where it is not to be asked."""
    return np.where(True if among is None else among, 100.0 * happened, np.nan)
