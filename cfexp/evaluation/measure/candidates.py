"""How different the answers are that an explainer found to one query: the counterfactual and the
other candidates.
"""

from collections.abc import Callable
from itertools import combinations

import numpy as np
import torch
from torch import Tensor

from cfexp.evaluation.measure.base import SUCCESSES, Chunk, Facts, Measure, Values

COUNTED = "queries with several candidates"
PICTURE, COLUMN = "candidate_{}", "candidate_pairwise_cosine"


def candidate_lpips(distance: Callable[[Tensor, Tensor], Tensor]) -> Measure:
    """The mean distance of the pairs among a query's candidates, the higher the more different.

    distance: LPIPS, or another of pictures (B, 3, H, W) and (B, 3, H, W) -> (B,).
    """
    return _of_pairs("candidate_lpips", distance)


def candidate_l1() -> Measure:
    """The same of pictures alone, in grey levels: the mean over pixels and channels."""

    def apart(first: Tensor, second: Tensor) -> Tensor:
        return (first - second).abs().mean((1, 2, 3)) * 127.5

    return _of_pairs("candidate_l1", apart, "of 255")


def _of_pairs(name: str, distance: Callable[[Tensor, Tensor], Tensor], unit: str = "") -> Measure:
    def of_pairs(chunk: Chunk) -> Tensor:
        first = () if chunk.facts.declaration.among_candidates else (chunk.counterfactual,)
        pairs = combinations((*first, *chunk.once(_further)), 2)
        return torch.stack([distance(*pair) for pair in pairs]).mean(0)

    def has_several(facts: Facts) -> bool:
        return facts.some_show(PICTURE.format(1))

    return Measure(name, of_pairs, unit, counted=COUNTED, needs=has_several, also=(SUCCESSES,))


def candidate_code_cosine() -> Measure:
    """The mean cosine of the pairs among the edits of the codes, in [-1, 1], the lower the more
    different.

    The explainer tells it of each query, in a column that it declares.
    """

    def of_edits(chunk: Chunk) -> Values:
        told = [record.get(COLUMN) for record in chunk.records]
        return np.array([np.nan if each is None else each for each in told], dtype=np.float64)

    def is_told(facts: Facts) -> bool:
        return facts.some_have(COLUMN)

    return Measure(
        "candidate_code_cosine", of_edits, counted=COUNTED, needs=is_told, also=(SUCCESSES,)
    )


def _further(chunk: Chunk) -> list[Tensor]:
    """The candidates that are stored as such, each (B, 3, H, W)."""
    run, keys = chunk.facts.run, [record["key"] for record in chunk.records]
    names: list[str] = []
    while run.picture(PICTURE.format(len(names) + 1), keys[0]).is_file():
        names.append(PICTURE.format(len(names) + 1))
    return [run.images(name, keys) for name in names]
