"""What a metric's values are, for whoever measures, prints or compares them."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cfexp.declaration import Column, Shown

Values = NDArray[np.float64]  # (N,) one value a query, NaN where the metric means nothing for it


class Metric(NamedTuple):
    """What a metric's values are."""

    unit: str  # "%" (in 0..100), "of 255" (grey levels), "of [0, 1]" (images scaled so), or "" for a plain number
    counted: str  # what n counts, and what there is none of where a group has no value
    is_rate: bool = False  # each value is 0 or 100
    shown: Shown | None = None  # how it stands in the main table, and in that of a sweep
    is_telling: bool = False  # it tells an explanation from an attack: in the second table
    of_region: bool = False  # one of many, with a table of their own


def metrics_of_column(column: Column, region_names: Sequence[str]) -> dict[str, Metric]:
    """The metrics that an explainer's column brings; none where it is not summarised."""
    if column.by_region:
        return {
            column.by_region + name: Metric(column.unit, f"queries with {name}", of_region=True)
            for name in region_names
        }
    if column.summary == "none":
        return {}
    return {
        column.name: Metric(
            "%" if column.summary == "rate" else column.unit,
            column.counted,
            is_rate=column.summary == "rate",
            shown=column.shown,
        )
    }
