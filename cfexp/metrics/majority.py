"""What a model that always says the same reaches: the figure beside which an accuracy is read."""

from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric


class MajorityShare(Metric):
    """The share of the most frequent of `num_classes` values in what was seen, for each of
    `num_groups` and for all.

    A value of -1 is none of them, and counts as one that a model which always says the same never
    meets. Under several processes all that they saw counts. `compute` gives (num_groups + 1,)
    shares, NaN for a group of which nothing was seen; the last is that of all.
    """

    counts: Tensor  # (num_groups, num_classes + 1); the last column is of the value -1

    def __init__(self, num_classes: int, num_groups: int = 1, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        counts = torch.zeros(num_groups, num_classes + 1, dtype=torch.int64)
        self.add_state("counts", counts, dist_reduce_fx="sum")

    def update(self, values: Tensor, groups: Tensor | None = None) -> None:
        """Values in -1..num_classes - 1, of any shape; groups: to which each belongs, None = to the
        first.
        """
        columns = self.counts.shape[1]
        place = values.flatten() % columns  # -1 is the last
        if groups is not None:
            place = place + columns * groups.flatten()
        self.counts += torch.bincount(place, minlength=self.counts.numel()).view_as(self.counts)

    def compute(self) -> Tensor:
        """See above."""
        counts = torch.cat([self.counts, self.counts.sum(0, keepdim=True)]).double()
        return (counts[:, :-1].amax(1) / counts.sum(1)).float()
