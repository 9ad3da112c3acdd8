"""From the values of queries to a number with its interval: the one place where that is done."""

import numpy as np
from numpy.typing import NDArray

from cfexp.evaluation.measure.base import NOTHING, Features, Members, Score, Sets, Values
from cfexp.metrics.functional import bootstrap_interval, wilson_interval

SEED = 0  # of the bootstrap


def share(values: Values) -> Score:
    """Rate in percent with Wilson's interval, and n, the queries, which count as if they did not
    depend on each other.

    What several questions about one image have in common is left out; only `mean` knows of images.
    """
    known = values[~np.isnan(values)]
    happened = int((known > 0).sum())
    low, high = wilson_interval(happened, len(known))
    return Score(100 * happened / max(len(known), 1), 100 * low, 100 * high, len(known))


def share_among(happened: NDArray[np.bool_], among: NDArray[np.bool_]) -> Score:
    """`share` of what happened (N,) among some (N,)."""
    return share(np.where(among, 100.0 * happened, np.nan))


def mean(values: Values, image_ids: NDArray[np.int64], unit: str) -> Score:
    """Mean with the interval of the bootstrap over images, if it has one, and n; of percent, see
    its `bounds`.
    """
    known = ~np.isnan(values)
    bounds = (0.0, 100.0) if unit == "%" else None
    low, high = bootstrap_interval(values[known], seed=SEED, groups=image_ids[known], bounds=bounds)
    return Score(float(values[known].sum()) / max(int(known.sum()), 1), low, high, int(known.sum()))


def ratio(pairs: Values) -> Values:
    """(N,) values whose mean is the ratio of the means of (N, 2), and whose spread is that of the
    ratio to first order.

    The mean of the ratios would be ruled by the smallest objects, and would not be the quotient of
    the two rows.
    """
    above: Values
    above, below = pairs.T
    known = ~np.isnan(above)
    if not known.any():
        return above
    quotient = above[known].mean() / below[known].mean()
    linearised: Values = quotient + (above - quotient * below) / below[known].mean()
    return linearised


def distance(
    sets: Sets, query: Features, made: Features, rows: Members, image_ids: NDArray[np.int64]
) -> Score:
    """The distance of the sets of those rows (N,) of features (N, D); n = 0 where there are too
    few.
    """
    n = int(rows.sum())
    if n < 2 or len(np.unique(image_ids[rows])) < sets.min_images:
        return NOTHING
    return Score(*sets.distance(query[rows], made[rows], image_ids[rows]), n)
