"""What a metric's values are, for whoever measures, prints or compares them."""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Values = NDArray[np.float64]  # (N,) one value a query, NaN where the metric means nothing for it


class Metric(NamedTuple):
    """What a metric's values are."""

    unit: str  # "%" (in 0..100), "of 255" (grey levels), "of [0, 1]" (images scaled so), or "" for a plain number
    counted: str  # what n counts, and what there is none of where a group has no value
    is_rate: bool = False  # each value is 0 or 100
