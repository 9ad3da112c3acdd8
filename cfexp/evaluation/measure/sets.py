"""How far the counterfactuals as a set are from the queries, as Inception sees them (its 2048
features).
"""

from cfexp.evaluation.measure.base import BOTH, Measure, See, Sets
from cfexp.metrics.distances import frechet_interval, kernel_interval

TWO = "two queries"


def fid(features: See) -> Measure:
    """See `frechet_interval`."""
    return Measure("fid", Sets(features, frechet_interval), counted=TWO, kind="distance", also=BOTH)


def kid(features: See) -> Measure:
    """See `kernel_interval`."""
    return Measure("kid", Sets(features, kernel_interval), counted=TWO, kind="distance", also=BOTH)
