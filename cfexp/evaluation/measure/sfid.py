"""FID between counterfactuals and queries of *other* images (Jeanneret et al. 2023)."""

from functools import partial

import numpy as np
from numpy.typing import NDArray

from cfexp.evaluation.measure.base import BOTH, Features, Measure, See, Sets
from cfexp.metrics.distances import FEW_RESAMPLES, Distance, frechet_distance

MIN_IMAGES = 4  # two in each half
MIN_HALF = 3  # of fewer images in a half nothing is known of further ones


def sfid(features: See, splits: int = 10, seed: int = 0) -> Measure:
    """FID rewards what leaves its query as it is: a counterfactual is compared with a set that
    holds its own query.

    Here it is not: the images are split into two random halves, and the counterfactuals of each
    half are compared with the queries of the other; the mean of both directions, and of `splits`
    such splits, which the seed draws. Queries about one image stay in one half. The floor, of the
    reconstructions, is what half as many images leave of two equal sets. The interval is 1.96 times
    the standard error of one split by the bootstrap within its halves.
    """
    compare = partial(_crosswise, splits=splits, seed=seed)
    of = Sets(features, compare, min_images=MIN_IMAGES)
    return Measure("sfid", of, counted="queries of four images", kind="distance", also=BOTH)


def _crosswise(
    query: Features, made: Features, groups: NDArray[np.int64], splits: int, seed: int
) -> Distance:
    images, index = np.unique(groups, return_inverse=True)
    rows_of = np.split(np.argsort(index, kind="stable"), np.cumsum(np.bincount(index))[:-1])

    def of(*halves: NDArray[np.int64]) -> float:
        one, other = (np.concatenate([rows_of[image] for image in half]) for half in halves)
        return (
            frechet_distance(made[one], query[other]) + frechet_distance(made[other], query[one])
        ) / 2

    rng = np.random.default_rng(seed)
    halves = [np.array_split(rng.permutation(len(images)), 2) for _ in range(splits)]
    value = float(np.mean([of(*both) for both in halves]))
    error = float("nan")
    if min(map(len, halves[0])) >= MIN_HALF:
        drawn = [
            of(*(rng.choice(half, len(half)) for half in halves[0])) for _ in range(FEW_RESAMPLES)
        ]
        error = float(np.std(drawn, ddof=1))
    scale = float(sum(np.square(each, dtype=np.float64).sum(1).mean() for each in (query, made)))
    return Distance.of(value, error, scale, lowest=0.0)
