"""How far the question steers the edit of one image."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch

from cfexp.evaluation.measure.base import Chunk, Facts, Measure, Members, Pooled, Score
from cfexp.evaluation.measure.estimate import mean
from cfexp.evaluation.measure.vqa import asks
from cfexp.evaluation.run_folder import Record
from cfexp.metrics.functional import language_sensitivity as sensitivity


def language_sensitivity(facts: Facts) -> Measure:
    """See `cfexp.metrics.functional.language_sensitivity`: a mean over pairs of queries, of a
    group's own.
    """
    pairs = _Pairs(facts)
    counted = "pairs of different questions about one image"
    return Measure(
        "language_sensitivity",
        Pooled(pairs, pairs.score),
        counted=counted,
        kind="pooled",
        needs=asks,
        is_telling=True,
    )


class _Pairs:
    def __init__(self, facts: Facts) -> None:
        self.members = facts.members
        self.values: dict[str, list[float]] = {group: [] for group in facts.members}
        self.image_ids: dict[str, list[int]] = {group: [] for group in facts.members}

    def update(self, chunk: Chunk) -> None:
        edits, image_ids = chunk.counterfactual - chunk.query, chunk.facts.image_ids[chunk.rows]
        for group, member in self.members.items():
            if pairs := _pairs(chunk.records, member[chunk.rows]):
                first, second = torch.tensor(pairs).T
                self.values[group] += sensitivity(edits[first], edits[second]).tolist()
                self.image_ids[group] += image_ids[second.numpy()].tolist()

    def score(self, group: str) -> Score:
        return mean(np.array(self.values[group]), np.array(self.image_ids[group]), unit="")


def _pairs(records: Sequence[Record], member: Members) -> list[tuple[int, int]]:
    """Rows of consecutive members that ask different things about one image."""
    rows = np.flatnonzero(member).tolist()
    return [
        (first, second)
        for first, second in pairwise(rows)
        if records[first]["image_id"] == records[second]["image_id"]
        and records[first].get("question") != records[second].get("question")
    ]
