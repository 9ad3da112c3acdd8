"""What a sweep over regions says of a run: how often each region alone turns the decision, and at what price."""

from collections import Counter
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from cfexp.declaration import Declaration
from cfexp.evaluation.directions import has_something_to_explain
from cfexp.evaluation.run_folder import Record

Values = NDArray[np.float64]
FLIP, DISTANCE, STEP = "sweep_flip_", "sweep_distance_", "sweep_step_"  # and the region's or the group's name
SETS, SET_FOUND, SET_SIZE = "sweep_set_", "sweep_set_found", "sweep_set_size"
NEEDED = f"{SETS}of_"  # and the regions' names, joined by +
# Of the smallest sets, so many of the most frequent are counted by name: of the others their size only.
MAX_SETS = 12


def sweep_values(records: Sequence[Record], region_names: Sequence[str], declaration: Declaration) -> dict[str, Values]:
    """The metrics of N searches that also swept the regions, each (N,), NaN where one means nothing; none of others.

    As everywhere, a search counts whose reconstruction keeps the decision, and is not of the class asked for already;
    of a region, those of pictures that have it. `sweep_flip_{region}` is of the image as stored; `sweep_distance_` and
    `sweep_step_` are of the flips. `sweep_set_found`: whether any set of regions was found that flips;
    `sweep_set_size`: of the smallest, which where no single region flips is found greedily, an upper bound (see
    `cfexp.explainers.region_sweep.sweep_regions`); `sweep_set_of_{a}+{b}`: whether that is the smallest.
    """
    rows = [row for row, record in enumerate(records) if _counts(record)]
    names = (*region_names, *declaration.region_groups)
    values: dict[str, Values] = {}

    def put(name: str, row: int, value: float) -> None:
        values.setdefault(name, np.full(len(records), np.nan))[row] = value

    for unit, name in enumerate(names):
        for row in rows:
            success = records[row]["sweep_success"][unit]
            if success >= 0:
                put(f"{FLIP}{name}", row, 100 * success)
                put(f"{DISTANCE}{name}", row, records[row]["sweep_distance"][unit] if success else np.nan)
                # A search may flip by its last step, or by being rounded: after no step of its own.
                flipped_at = records[row]["sweep_flip_step"][unit]
                put(f"{STEP}{name}", row, flipped_at if success and flipped_at >= 0 else np.nan)
    sets = {row: _joined(region_names, records[row]["sweep_smallest_set"]) for row in rows}
    frequent = [name for name, _ in Counter(filter(None, sets.values())).most_common(MAX_SETS)]
    for row, name in sets.items():
        put(SET_FOUND, row, 100 * bool(name))
        put(SET_SIZE, row, name.count("+") + 1 if name else np.nan)
        for other in frequent:
            put(f"{NEEDED}{other}", row, 100 * (name == other))
    return values


def _counts(record: Record) -> bool:
    return record.get("sweep_success") is not None and has_something_to_explain(record)


def _joined(region_names: Sequence[str], members: Sequence[bool]) -> str:
    """The names of a set's regions; "" for none."""
    return "+".join(name for name, member in zip(region_names, members, strict=True) if member)
