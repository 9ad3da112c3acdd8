"""Whether an explainer that is asked for a decision by its strength, bin by bin, gives it: what the
explained model says of the image for each bin.
"""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from cfexp.declaration import Shown
from cfexp.evaluation.measure.base import Cell, Chunk, Facts, Measure, Values
from cfexp.metrics.functional import rank_correlation

TABLE, ANSWER = "bins", "answer"
_BIN, _PROBABILITY = "candidate_bin", "candidate_probability"
_COUNTED = "queries with an image for each bin"


def measures(facts: Facts) -> Iterator[Measure]:
    """Of explanations that have an image for each bin; none of others.

    `bin_correlation`: Spearman's of the bins with the probabilities of the class that is binned, of
    each query, in [-1, 1]; 0 where all of them are alike. `answer_at_bin_{k}`: those probabilities.
    """
    bins = next(filter(None, (record.get(_BIN) for record in facts.records)), None)
    if bins is None:
        return
    shown = Shown("rank corr.\nof bins", 3, panel="rank correlation of the bins")
    yield Measure("bin_correlation", _correlation, counted=_COUNTED, shown=shown)
    for place, number in enumerate(bins):
        answer, cell = partial(_answer, place=place), Cell(TABLE, str(number), ANSWER)
        name = f"answer_at_bin_{number}"
        yield Measure(name, answer, "%", counted=_COUNTED, of_region=True, cell=cell)


def _correlation(chunk: Chunk) -> Values:
    found = np.full(len(chunk.records), np.nan)
    for row, record in enumerate(chunk.records):
        if record.get(_BIN) is not None:
            pair = (torch.tensor([record[name]]).double() for name in (_BIN, _PROBABILITY))
            found[row] = rank_correlation(*pair).item()
    return found


def _answer(chunk: Chunk, place: int) -> Values:
    told = [record.get(_PROBABILITY) for record in chunk.records]
    return np.array([np.nan if each is None else 100 * each[place] for each in told])
