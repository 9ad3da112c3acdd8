"""What an oracle says of the attributes of a picture before and after: how many changed, and which
together.
"""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from cfexp.evaluation.measure.base import (
    BOTH,
    Chunk,
    Facts,
    Family,
    Features,
    Measure,
    See,
    Sets,
    Values,
    rate,
)
from cfexp.metrics.attributes import attributes_changed, correlation_difference
from cfexp.metrics.distances import Distance, bootstrap_error, frechet_interval
from cfexp.metrics.divergences import binary_jensen_shannon

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


def oracle_score(oracle: Oracle) -> Family:
    """Whether the oracle decides a counterfactual, too, as was asked for (Hvilshoj et al. 2021): by
    the attribute that the decision is about, or by the decision's own classes where it knows them.
    """
    names = list(oracle.names)

    def of_run(facts: Facts) -> Measure:
        label, classes = facts.declaration.label, facts.declaration.class_names
        if label in names and (not classes or len(classes) == 2):
            at = names.index(label)

            def decide(seen: Tensor) -> Tensor:
                return (seen[:, at] > 0).long()

        elif classes and set(classes) <= set(names):
            columns = [names.index(each) for each in classes]

            def decide(seen: Tensor) -> Tensor:
                return seen[:, columns].argmax(1)

        else:
            reason = f"neither the decision's label, {label}, nor its classes are the oracle's"
            return Measure("oracle_score", None, also=BOTH, missing=reason)

        def agrees(chunk: Chunk) -> Values:
            asked = np.array([record["counter_class"] for record in chunk.records])
            decided = decide(chunk.seen(oracle.see)[1]).numpy()
            return rate(decided == asked, among=asked >= 0)

        counted = "queries with a class asked for"
        return Measure("oracle_score", agrees, "%", counted, "rate", also=BOTH, is_telling=True)

    return of_run


def label_variation(oracle: Oracle) -> Family:
    """How far the oracle's opinion of the *other* attributes moves: the mean of their
    Jensen-Shannon divergences, in bits (Hvilshoj et al. 2021, the label variation score).
    """
    names = list(oracle.names)

    def of_run(facts: Facts) -> Measure:
        label = facts.declaration.label
        others = [at for at, name in enumerate(names) if name != label]
        if label not in names or not others:
            which = "none of the oracle's attributes" if others else "the oracle's only attribute"
            reason = f"the decision's label, {label}, is {which}"
            return Measure("label_variation", None, also=BOTH, missing=reason)

        def moved(chunk: Chunk) -> Tensor:
            query, made = (seen[:, others] for seen in chunk.seen(oracle.see))
            return binary_jensen_shannon(query, made).mean(1)

        return Measure("label_variation", moved, "bits", also=BOTH)

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
