"""Clusters of explanations: edits of the same regions that turn colours the same way."""

import warnings
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy.cluster.vq import kmeans2
from scipy.spatial.distance import cdist

from cfexp.evaluation.measure.base import Score
from cfexp.evaluation.measure.estimate import share
from cfexp.evaluation.reliance.edits import Edits

MOST = 8  # clusters
FEWEST = 8  # explanations, below which they are one cluster
CLEAR = 0.25  # a mean silhouette below is no structure (Kaufman and Rousseeuw 1990)
TRIES = 5  # seeded starts of k-means, of which the tightest is taken
SAMPLE = 1000  # explanations by which the number of clusters is chosen: distances of all pairs


class Cluster(NamedTuple):
    """Explanations that are alike."""

    rows: NDArray[np.int64]  # of the run's searches, the most typical first
    of_all: Score  # percent of the explanations
    regions: list[tuple[str, float]]  # that hold most of its edits, with the mean share in percent
    directions: list[tuple[str, int]]  # how many explanations of each


def clusters_of(edits: Edits, seed: int) -> list[Cluster]:
    """The explanations' clusters, the largest first."""
    turned = np.flatnonzero(edits.turned)
    if not len(turned):
        return []
    looks = edits.looks[turned]
    labels, centres = _partition(looks, seed)
    found = []
    for label in range(len(centres)):
        rows = np.flatnonzero(labels == label)
        distance = ((looks[rows] - centres[label]) ** 2).sum(1)
        ordered = turned[rows[np.argsort(distance, kind="stable")]]
        shares = 100 * edits.shares[ordered].mean(0)
        main = [index for index in np.argsort(-shares, kind="stable")[:3] if shares[index] >= 5]
        directions = [
            (name, int(members[ordered].sum())) for name, members in [*edits.directions.items()][1:]
        ]
        found.append(
            Cluster(
                ordered,
                share(100.0 * (labels == label)),
                [(edits.regions[index], float(shares[index])) for index in main],
                [(name, count) for name, count in directions if count],
            )
        )
    return sorted(found, key=lambda cluster: -len(cluster.rows))


def _partition(
    looks: NDArray[np.float64], seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """(N,) the cluster of each point, and the (K, F) centres; K by the mean silhouette."""
    one = np.zeros(len(looks), dtype=np.int64), looks.mean(0, keepdims=True)
    distinct = len(np.unique(looks.round(6), axis=0))
    if len(looks) < FEWEST or distinct < 2:
        return one
    drawn = np.random.default_rng(seed).permutation(len(looks))[:SAMPLE]
    distances = cdist(looks[drawn], looks[drawn])
    best, clearest = one, CLEAR
    for count in range(2, min(MOST, distinct, len(looks) // 3) + 1):
        labels, centres = _k_means(looks, count, seed)
        clear = _silhouette(distances, labels[drawn])
        if clear > clearest:
            best, clearest = (labels, centres), clear
    return best


def _k_means(
    looks: NDArray[np.float64], count: int, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    tries = []
    for start in range(TRIES):
        with warnings.catch_warnings():
            # A cluster may run empty; such a try has fewer.
            warnings.filterwarnings("ignore", message="One of the clusters is empty")
            centres, labels = kmeans2(looks, count, minit="++", seed=seed + start)
        kept, labels = np.unique(labels, return_inverse=True)
        spread = float(((looks - centres[kept][labels]) ** 2).sum())
        tries.append((spread, start, labels, centres[kept]))
    _, _, labels, centres = min(tries, key=lambda each: each[:2])
    return labels, centres


def _silhouette(distances: NDArray[np.float64], labels: NDArray[np.int64]) -> float:
    """The mean silhouette (Rousseeuw 1987) of points of these distances (N, N)."""
    kinds, labels, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    if len(kinds) < 2:
        return -1.0
    sums = np.stack([distances[:, labels == kind].sum(1) for kind in range(len(kinds))], axis=1)
    rows = np.arange(len(labels))
    own = sums[rows, labels] / np.maximum(sizes[labels] - 1, 1)
    others = sums / sizes
    others[rows, labels] = np.inf
    nearest = others.min(1)
    widths = (nearest - own) / np.maximum(np.maximum(own, nearest), 1e-12)
    return float(np.where(sizes[labels] > 1, widths, 0.0).mean())
