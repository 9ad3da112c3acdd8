"""What an oracle says of the attributes of a picture before and after: how many changed, and which
together.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cfexp.evaluation.measure.base import BOTH, Chunk, Facts, Family, Features, Measure, See, Sets
from cfexp.metrics.attributes import attributes_changed, correlation_difference
from cfexp.metrics.distances import Distance, bootstrap_error, frechet_interval

TWO = "two queries"


class Oracle(NamedTuple):
    """A network of attributes."""

    see: See  # images -> logits (B, K) and, behind them, features (B, D)
    names: Sequence[str]  # of the K attributes
    # Images (2, 3, H, W) -> logits (2, K) in training mode, with the batch statistics of one pair.
    of_pairs: See


def mnac(oracle: Oracle) -> Measure:
    """How many attributes the oracle sees otherwise (Rodriguez et al. 2021)."""
    count = len(oracle.names)

    def changed(chunk: Chunk) -> Tensor:
        query, made = chunk.seen(oracle.see)
        return attributes_changed(query[:, :count], made[:, :count])

    return Measure("mnac", changed, f"of {count}", also=BOTH)


def mnac_published(oracle: Oracle) -> Measure:
    """MNAC as the released script counts it: the oracle in training mode, with the batch statistics
    of one pair.
    """

    def changed(chunk: Chunk) -> Tensor:
        pairs = [
            oracle.of_pairs(torch.stack(pair)) for pair in zip(chunk.query, chunk.made, strict=True)
        ]
        before, after = torch.stack(pairs, dim=1)
        return attributes_changed(before, after)

    return Measure("mnac_published", changed, f"of {len(oracle.names)}", also=BOTH)


def oracle_frechet(oracle: Oracle) -> Measure:
    """A Frechet distance, which is no FID, of the oracle's features."""
    count = len(oracle.names)

    def frechet(query: Features, made: Features, groups: NDArray[np.int64]) -> Distance:
        return frechet_interval(query[:, count:], made[:, count:], groups)

    return Measure(
        "oracle_frechet", Sets(oracle.see, frechet), counted=TWO, kind="distance", also=BOTH
    )


def cd(oracle: Oracle) -> Family:
    """Whether attributes change together as they go together in data (Jeanneret et al. 2022)."""
    names = list(oracle.names)

    def of_run(facts: Facts) -> Iterator[Measure]:
        label = facts.declaration.label
        if label not in names:
            reason = f"the decision's label, {label}, is none of the oracle's attributes"
            yield Measure("cd", None, also=BOTH, missing=reason)
            return
        attribute = names.index(label)

        def correlation(query: Features, made: Features, groups: NDArray[np.int64]) -> Distance:
            return _correlation(
                query[:, : len(names)] > 0, made[:, : len(names)] > 0, attribute, groups
            )

        yield Measure("cd", Sets(oracle.see, correlation), counted=TWO, kind="distance", also=BOTH)

    return of_run


def _correlation(
    before: NDArray[np.bool_], after: NDArray[np.bool_], attribute: int, groups: NDArray[np.int64]
) -> Distance:
    def of_rows(counts: NDArray[np.int64]) -> float:
        drawn_before, drawn_after = (
            np.repeat(before, counts, axis=0),
            np.repeat(after, counts, axis=0),
        )
        return correlation_difference(before, drawn_before, drawn_after, attribute)

    value = correlation_difference(before, before, after, attribute)
    error = bootstrap_error(of_rows, len(before), groups)
    return Distance.of(value, error, scale=before.shape[1], lowest=0.0)
