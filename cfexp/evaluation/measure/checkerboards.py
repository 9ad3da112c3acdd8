"""The checkerboards that edits have in common: see `cfexp.evaluation.checkerboard`."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from cfexp.evaluation.checkerboard import FOLDS, PERIODS, PooledCheckerboard
from cfexp.evaluation.measure.base import Chunk, Facts, Measure, Pooled, Score
from cfexp.metrics.functional import MIN_SPECTRUM


def measures(facts: Facts) -> Iterator[Measure]:
    """checkerboard_P for upsampling by P: of edits together, for a single picture's spectrum says
    little.
    """
    spectra = _Spectra(facts)
    counted = f"edits of pictures of at least {MIN_SPECTRUM} pixels a side"
    for period in PERIODS:
        of = Pooled(spectra, partial(spectra.score, period=period))
        yield Measure(f"checkerboard_{period}", of, counted=counted, kind="pooled", is_telling=True)


class _Spectra:
    def __init__(self, facts: Facts) -> None:
        self.groups = list(facts.members)
        self.members = torch.from_numpy(np.stack(list(facts.members.values())))
        self.fold = torch.from_numpy(np.unique(facts.image_ids, return_inverse=True)[1] % FOLDS)
        self.pooled = PooledCheckerboard(len(self.groups))

    def update(self, chunk: Chunk) -> None:
        edits = chunk.counterfactual - chunk.query
        self.pooled.update(edits, self.members[:, chunk.rows], self.fold[chunk.rows])

    def score(self, group: str, period: int) -> Score:
        return Score(*self.pooled.score(self.groups.index(group), period))
