"""What an intervention does to a decision, where both outcomes of the same scene can be seen:
effect of a concept, necessity, sufficiency; and how well what is claimed ranks as what is true.
"""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from cfexp.metrics.functional import rank_correlation, wilson_interval

Bools = NDArray[np.bool_]
Floats = NDArray[np.float64]


class Frequency(NamedTuple):
    """How often something happened, of how many."""

    happened: int
    n: int


class Causation(NamedTuple):
    """The probabilities of causation (Pearl 2000, chapter 9) of X = 1 for Y = 1, as frequencies."""

    necessity: Frequency  # PN = P(Y_{x=0} = 0 | X = 1, Y = 1)
    sufficiency: Frequency  # PS = P(Y_{x=1} = 1 | X = 0, Y = 0)
    both: Frequency  # PNS = P(Y_{x=1} = 1, Y_{x=0} = 0)
    reverse: Frequency  # P(Y_{x=1} = 0, Y_{x=0} = 1): that X = 1 prevents what X = 0 brings


class Agreement(NamedTuple):
    """Spearman's rank correlation with its bootstrap interval."""

    value: float
    low: float
    high: float
    units: int  # of how many pairs of numbers


def concept_effects(first: Floats, second: Floats) -> Floats:
    """The effect of a binary concept on each of N scenes, whose mean is CaCE (Goyal, Feder, Shalit,
    Kim 2019): E[f(I) | do(C = 1)] - E[f(I) | do(C = 0)].

    Deviation: the pairs are of one scene, which is drawn with both values; the paper compares
    generated sets where that cannot be.

    first, second: (N,) the model's output where C = 0, and where C = 1. Raises ValueError for other
    shapes.
    """
    if first.ndim != 1 or first.shape != second.shape:
        raise ValueError(f"outputs must have one shape (N,), got {first.shape}, {second.shape}")
    return second - first


def probabilities_of_causation(own: NDArray[np.int64], first: Bools, second: Bools) -> Causation:
    """Tian and Pearl (2000) bound these by what data can tell; by drawing both potential outcomes
    of a scene are seen, and each is a frequency.

    own: (N,) which value of X the scene has by itself, 0 or 1; -1 = neither, which says something
    of PNS alone. first, second: (N,) whether Y = 1 under do(X = 0), and under do(X = 1). Raises
    ValueError for other shapes.
    """
    if not own.shape == first.shape == second.shape or own.ndim != 1:
        shapes = f"{own.shape}, {first.shape}, {second.shape}"
        raise ValueError(f"own, first and second must have one shape (N,), got {shapes}")

    def frequency(happened: Bools, among: Bools) -> Frequency:
        return Frequency(int((happened & among).sum()), int(among.sum()))

    everyone = np.ones(own.shape, dtype=bool)
    return Causation(
        necessity=frequency(~first, (own == 1) & second),
        sufficiency=frequency(second, (own == 0) & ~first),
        both=frequency(second & ~first, everyone),
        reverse=frequency(first & ~second, everyone),
    )


def rank_agreement(
    true: Floats,
    claimed: Floats,
    *,
    tolerated: float | None = None,
    n_resamples: int = 1000,
    confidence: float = 0.95,
    seed: int = 0,
) -> Agreement:
    """Spearman's rank correlation, over U units, of how often they truly do something with how
    often that is claimed; the interval is the percentile bootstrap's over the N scenes, of which
    both are.

    A share that cannot be told from `tolerated`, in 0..1, counts as no effect: one whose Wilson
    interval does not lie above it is 0, and so tied, on both sides alike. Else the order of what is
    nothing but noise would count as much as that of causes. None = each share counts as it is.

    true, claimed: (N, U) of 0 and 1, NaN where a scene says nothing of a unit; of the same scenes,
    so a value that is NaN in one is left out of both. There is no correlation (NaN) of fewer than
    two units, nor where all of one side are equal. Raises ValueError for other shapes and values.
    """
    if true.ndim != 2 or true.shape != claimed.shape:
        raise ValueError(f"effects must have one shape (N, U), got {true.shape}, {claimed.shape}")
    known = ~np.isnan(true) & ~np.isnan(claimed)
    happened = [np.where(known, each, 0.0) for each in (true, claimed)]
    if any(not np.isin(each, (0, 1)).all() for each in happened):
        raise ValueError("effects must be 0, 1 or NaN")

    def shares(counts: Floats, sizes: Floats) -> Floats:
        found: Floats = counts / sizes
        if tolerated is None:
            return found
        pairs = zip(counts.astype(int).tolist(), sizes.astype(int).tolist(), strict=True)
        told = [wilson_interval(count, size, confidence)[0] > tolerated for count, size in pairs]
        return np.where(told, found, 0.0)

    def agreement(rows: NDArray[np.int64]) -> float:
        sizes = known[rows].sum(0)
        units = sizes > 0
        first, second = (shares(each[rows].sum(0)[units], sizes[units]) for each in happened)
        if len(first) < 2 or not np.ptp(first) or not np.ptp(second):
            return float("nan")
        return float(rank_correlation(*(torch.from_numpy(each)[None] for each in (first, second))))

    rng = np.random.default_rng(seed)
    count = len(true)
    drawn = [agreement(rng.integers(count, size=count)) for _ in range(n_resamples)]
    finite = [each for each in drawn if not np.isnan(each)]
    tail = (1 - confidence) / 2
    low, high = np.quantile(finite, [tail, 1 - tail]) if len(finite) > 1 else (np.nan, np.nan)
    units = int((known.sum(0) > 0).sum())
    return Agreement(agreement(np.arange(count)), float(low), float(high), units)
