"""Distances between two sets of images, as a network sees them: how far counterfactuals are from
the real pictures.

Features are (N, D), one row an image, of any floating type; all is computed in float64. What the
numbers are called depends on the network: only with Inception's 2048 features are they FID and KID.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from cfexp.errors import InputError

Matrix = NDArray[np.float64]
# Which rows of both sets to compute a distance of: how often each is there, (N,) whole numbers.
Statistic = Callable[[NDArray[np.int64]], float]

# A standard error from so many resamples is off by some 7 %, or 16 % of the few where each takes
# seconds.
RESAMPLES, FEW_RESAMPLES = 100, 20
SLOW_RANK = 512  # from this many rows and features on, a decomposition takes seconds
MAX_PAIRS = 4000  # of a kernel's matrix: 128 MB each of three; the blocks of more rows are averaged
# Of two rows or groups, each resample that has a spread is the sample itself: their error would be
# 0.
MIN_GROUPS = 3
# Of float64, after sums over thousands of features; an error below this share of the scale is none.
ROUNDING = 1e-9


class Distance(NamedTuple):
    """A distance with its 95 % interval."""

    value: float
    # NaN where there is none: of fewer than three rows or groups, and where no resample differs.
    low: float
    high: float

    @classmethod
    def of(cls, value: float, error: float, scale: float, lowest: float = -np.inf) -> "Distance":
        """With 1.96 times its standard error to each side, but no lower than `lowest`.

        scale: the size of the terms that the distance is a difference of. An error that is their
        rounding is none: no resample differed, as of two equal sets, and that says nothing of
        further rows.
        """
        if not error > ROUNDING * scale:
            error = float("nan")
        low, high = value - 1.96 * error, value + 1.96 * error
        return cls(value, max(low, lowest), high)  # NaN stays NaN: of two, `max` returns the first


def frechet_distance(first: ArrayLike, second: ArrayLike) -> float:
    """Frechet distance of two Gaussians (Dowson & Landau 1982; Heusel et al. 2017): in 0..inf, in
    squared features.

    |m1 - m2|^2 + tr(S1 + S2 - 2 (S1 S2)^(1/2)), of the means and the covariances (with N - 1)
    of (N, D) and (M, D). No matrix root is taken: with factors S = A'A, tr (S1 S2)^(1/2) is the sum
    of the singular values of A1 A2', which stays exact where a covariance is singular, as it is for
    N <= D. Raises ValueError for other shapes, for fewer than two rows, and for features that are
    no numbers.
    """
    (mean_1, factor_1), (mean_2, factor_2) = _moments(_checked(first)), _moments(_checked(second))
    if mean_1.shape != mean_2.shape:
        raise ValueError(f"both sets need as many features, got {len(mean_1)} and {len(mean_2)}")
    cross = np.linalg.svd(factor_1 @ factor_2.T, compute_uv=False).sum()
    distance = (
        np.square(mean_1 - mean_2).sum()
        + np.square(factor_1).sum()
        + np.square(factor_2).sum()
        - 2 * cross
    )
    return max(float(distance), 0.0)  # equal sets leave rounding


def kernel_distance(first: ArrayLike, second: ArrayLike, *, paired: bool = False) -> float:
    """Squared maximum mean discrepancy of the cubic kernel (x.y / D + 1)^3, unbiased (Binkowski et
    al. 2018).

    (N, D) and (M, D) -> around 0, or below it, where the sets are alike; upwards without bound.
    paired: row i of one was made of row i of the other, so the kernel of these two is left out
    (Gretton et al. 2012, equation 4): it would make the estimate too small, and a set's distance to
    itself negative rather than 0. Raises ValueError as `frechet_distance`, and for pairs of which
    one is missing.
    """
    x, y = _checked(first), _checked(second)
    if paired:
        _check_pairs(x, y)
        return _pair_statistic(x, y)(np.ones(len(x), dtype=np.int64))
    alike = sum(_off_diagonal_mean(_kernel(features, features)) for features in (x, y))
    return float(alike - 2 * _kernel(x, y).mean())


def frechet_interval(
    first: ArrayLike, second: ArrayLike, groups: ArrayLike | None = None, seed: int = 0
) -> Distance:
    """Frechet distance of N pairs with an interval: 1.96 times its standard error by the bootstrap
    (Efron 1979) to each side, and never below 0.

    Pairs are drawn together, since one was made of the other; with groups (N,), such as the image
    of each question, whole groups. The error, not the percentiles, for those lie too high: a
    resample repeats images, and the fewer different ones, the larger the distance. No interval of
    fewer than three rows or groups. Raises as `frechet_distance`.
    """
    x, y = _checked(first), _checked(second)
    value = frechet_distance(x, y)
    n_resamples = FEW_RESAMPLES if min(x.shape) > SLOW_RANK else RESAMPLES
    error = bootstrap_error(_gram_frechet(x, y), len(x), groups, n_resamples, seed)
    scale = float(np.square(x).sum(1).mean() + np.square(y).sum(1).mean())
    return Distance.of(value, error, scale, lowest=0.0)


def kernel_interval(
    first: ArrayLike, second: ArrayLike, groups: ArrayLike | None = None, seed: int = 0
) -> Distance:
    """Kernel distance of N pairs with an interval, as `frechet_interval` has it; it may begin below
    0.

    Of more than 4000 pairs it is the mean over blocks, drawn by the seed, as Binkowski et al.
    average subsets; a group is drawn into one block, for the errors of blocks are joined as those
    of independent ones.
    """
    x, y = _checked(first), _checked(second)
    _check_pairs(x, y)
    order, of_each = np.arange(len(x)), _labels(len(x), groups)
    if len(x) > MAX_PAIRS:
        names, index = np.unique(of_each, return_inverse=True)
        place = np.argsort(np.random.default_rng(seed).permutation(len(names)))  # of each group
        order = np.argsort(place[index], kind="stable")
    values, errors = [], []
    for rows in np.array_split(order, -(-len(x) // MAX_PAIRS)):
        statistic = _pair_statistic(x[rows], y[rows])
        values.append(statistic(np.ones(len(rows), dtype=np.int64)))
        labels = None if groups is None else np.asarray(groups)[rows]
        errors.append(bootstrap_error(statistic, len(rows), labels, seed=seed))
    value, error = float(np.mean(values)), float(np.linalg.norm(errors)) / len(errors)
    scale = float(
        sum(((np.square(each).sum(1) / each.shape[1] + 1) ** 3).mean() for each in (x, y))
    )
    return Distance.of(value, error, scale)


def bootstrap_error(
    statistic: Statistic,
    n: int,
    groups: ArrayLike | None = None,
    n_resamples: int = RESAMPLES,
    seed: int = 0,
) -> float:
    """Standard error of a statistic of n rows, by drawing the rows, or whole groups of them, with
    replacement.

    NaN of fewer than three rows or groups. Raises InputError for fewer than 2 resamples, ValueError
    for groups of another length.
    """
    labels = _labels(n, groups)
    if n_resamples < 2:
        raise InputError(f"n_resamples must be at least 2, got {n_resamples}")
    names, index = np.unique(labels, return_inverse=True)
    if len(names) < MIN_GROUPS:
        return float("nan")
    rng = np.random.default_rng(seed)
    found: list[float] = []
    while len(found) < n_resamples:
        drawn = rng.integers(len(names), size=len(names))
        if len(set(drawn.tolist())) < 2:
            continue  # one group alone, which happens among very few, has no spread
        found.append(statistic(np.bincount(drawn, minlength=len(names))[index]))
    return float(np.std(found, ddof=1))


def _labels(n: int, groups: ArrayLike | None) -> NDArray[Any]:
    """The group of each of n rows; without groups each is its own."""
    labels = np.arange(n) if groups is None else np.asarray(groups)
    if labels.shape != (n,):
        raise ValueError(f"groups must have shape ({n},), got {labels.shape}")
    return labels


def _checked(features: ArrayLike) -> Matrix:
    matrix = np.asarray(features, dtype=np.float64)
    if matrix.ndim != 2 or len(matrix) < 2 or matrix.size == 0:
        raise ValueError(f"features must have shape (N, D) with N >= 2, got {matrix.shape}")
    if not np.isfinite(matrix).all():
        raise ValueError("features must be finite numbers")
    return matrix


def _check_pairs(first: Matrix, second: Matrix) -> None:
    if len(first) != len(second):
        raise ValueError(f"pairs need as many rows, got {len(first)} and {len(second)}")


def _moments(features: Matrix) -> tuple[Matrix, Matrix]:
    """The mean (D,), and a factor A with A'A the covariance, of at most D rows."""
    mean = features.mean(0)
    factor = (features - mean) / np.sqrt(len(features) - 1)
    if len(factor) <= factor.shape[1]:
        return mean, factor
    _, reduced = np.linalg.qr(factor)
    return mean, reduced


def _gram_frechet(first: Matrix, second: Matrix) -> Statistic:
    """The Frechet distance of resamples of N pairs, with what all share computed once."""
    _check_pairs(first, second)
    if len(first) > first.shape[1]:  # few features: the factors are the smaller matrices
        return lambda counts: frechet_distance(
            np.repeat(first, counts, axis=0), np.repeat(second, counts, axis=0)
        )
    middle = first.mean(0)  # so that products of large means do not swallow small differences
    first, second = first - middle, second - middle
    products = first @ first.T, second @ second.T, first @ second.T

    def statistic(counts: NDArray[np.int64]) -> float:
        rows = np.flatnonzero(counts)
        weights = counts[rows] / counts.sum()
        scale = np.sqrt(counts[rows] / (counts.sum() - 1))
        own_1, own_2, cross = (product[np.ix_(rows, rows)] for product in products)
        distance = weights @ (own_1 + own_2 - cross - cross.T) @ weights
        for own in (own_1, own_2):
            distance += (scale**2 * np.diag(_centred(own, weights))).sum()
        factor = scale[:, None] * _centred(cross, weights) * scale
        return max(float(distance - 2 * np.linalg.svd(factor, compute_uv=False).sum()), 0.0)

    return statistic


def _centred(products: Matrix, weights: Matrix) -> Matrix:
    """The products (N, N) of rows from which their weighted mean was taken."""
    of_rows, of_columns = products @ weights, weights @ products
    centred: Matrix = products - of_rows[:, None] - of_columns + weights @ of_rows
    return centred


def _kernel(first: Matrix, second: Matrix) -> Matrix:
    if first.shape[1] != second.shape[1]:
        raise ValueError(
            f"both sets need as many features, got {first.shape[1]} and {second.shape[1]}"
        )
    kernel: Matrix = (first @ second.T / first.shape[1] + 1) ** 3
    return kernel


def _off_diagonal_mean(kernel: Matrix) -> float:
    return float((kernel.sum() - np.trace(kernel)) / (len(kernel) * (len(kernel) - 1)))


def _pair_statistic(first: Matrix, second: Matrix) -> Statistic:
    """The kernel distance of resamples of N pairs; a row that was drawn twice is never compared
    with itself.
    """
    cross = _kernel(first, second)
    differences = _kernel(first, first) + _kernel(second, second) - cross - cross.T
    np.fill_diagonal(differences, 0)

    def statistic(counts: NDArray[np.int64]) -> float:
        return float(counts @ differences @ counts / (counts.sum() ** 2 - np.square(counts).sum()))

    return statistic
