"""What a sweep over regions says of a run: how often each region alone turns the decision, and at
what price.
"""

from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial

import numpy as np

from cfexp.declaration import Declaration
from cfexp.evaluation.directions import has_something_to_explain
from cfexp.evaluation.measure.base import Cell, Facts, Measure, Values, of_rows
from cfexp.evaluation.run_folder import Record

FLIP, DISTANCE, STEP = "flip", "distance", "steps"  # the columns of the regions' table
ALONE, SETS = "one region alone", "smallest sets"  # the tables
# Of the smallest sets, so many of the most frequent are counted by name: of the others their size
# only.
MAX_SETS = 12
_SWEPT = "searches whose reconstruction keeps the decision"
_FLIPS = "flips through it alone"


def measures(facts: Facts) -> Iterator[Measure]:
    """Of searches that also swept the regions; none of others.

    As everywhere, a search counts whose reconstruction keeps the decision, and is not of the class
    asked for already; of a region, those of pictures that have it. `sweep_flip_{region}` is of the
    image as stored; `sweep_distance_` and `sweep_step_` are of the flips. `sweep_set_found`:
    whether any set of regions was found that flips; `sweep_set_size`: of the smallest, which where
    no single region flips is found greedily, an upper bound (see
    `cfexp.explainers.steex.region_sweep.sweep_regions`); `sweep_set_of_{a}+{b}`: whether that is
    the smallest.
    """
    for measure, values in swept(facts.records, facts.region_names, facts.declaration):
        yield measure._replace(of=partial(of_rows, values=values))


def swept(
    records: Sequence[Record], region_names: Sequence[str], declaration: Declaration
) -> Iterator[tuple[Measure, Values]]:
    """The measures of N searches, and their values (N,)."""
    rows = [row for row, record in enumerate(records) if _counts(record)]

    def column(found: dict[int, float]) -> Values:
        values = np.full(len(records), np.nan)
        values[list(found)] = list(found.values())
        return values

    for unit, name in enumerate((*region_names, *declaration.region_groups)):
        have_it = [row for row in rows if records[row]["sweep_success"][unit] >= 0]
        of_unit = {
            row: [records[row][f"sweep_{what}"][unit] for what in _COLUMNS] for row in have_it
        }
        if not of_unit:
            continue
        flips = {row: 100.0 * success for row, (success, _, _) in of_unit.items()}
        yield _alone(f"sweep_flip_{name}", name, FLIP), column(flips)
        prices = {
            row: distance if success else np.nan for row, (success, distance, _) in of_unit.items()
        }
        yield _alone(f"sweep_distance_{name}", name, DISTANCE), column(prices)
        # A search may flip by its last step, or by being rounded: after no step of its own.
        steps = {
            row: step if success and step >= 0 else np.nan
            for row, (success, _, step) in of_unit.items()
        }
        yield _alone(f"sweep_step_{name}", name, STEP), column(steps)
    sets = {row: _joined(region_names, records[row]["sweep_smallest_set"]) for row in rows}
    if not sets:
        return
    yield (
        _of_sets("sweep_set_found", "any set found"),
        column({row: 100.0 * bool(name) for row, name in sets.items()}),
    )
    size = _of_sets("sweep_set_size", "mean number of regions")
    size = size._replace(
        unit="regions", counted="searches that some set of regions flips", kind="mean"
    )
    yield size, column({row: name.count("+") + 1 if name else np.nan for row, name in sets.items()})
    for name, _ in Counter(filter(None, sets.values())).most_common(MAX_SETS):
        of_set = _of_sets(f"sweep_set_of_{name}", name.replace("+", " + "))
        yield of_set, column({row: 100.0 * (name == other) for row, other in sets.items()})


_COLUMNS = ("success", "distance", "flip_step")


def _alone(name: str, region: str, column: str) -> Measure:
    cell = Cell(ALONE, region, column)
    if column == FLIP:
        return Measure(name, None, "%", f"{_SWEPT}, of pictures with it", "rate", cell=cell)
    return Measure(name, None, "steps" if column == STEP else "", _FLIPS, of_region=True, cell=cell)


def _of_sets(name: str, label: str) -> Measure:
    return Measure(name, None, "%", _SWEPT, "rate", cell=Cell(SETS, label, ""))


def _counts(record: Record) -> bool:
    return record.get("sweep_success") is not None and has_something_to_explain(record)


def _joined(region_names: Sequence[str], members: Sequence[bool]) -> str:
    """The names of a set's regions; "" for none."""
    return "+".join(name for name, member in zip(region_names, members, strict=True) if member)
