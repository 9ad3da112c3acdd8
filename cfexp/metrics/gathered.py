"""The pure functions as torchmetrics classes, right under DDP: rows are gathered, and each query
counts once.

Once, also where a distributed sampler repeats samples to even the shards: of several rows of a
query the last counts.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from cfexp.metrics.attributes import correlation_difference
from cfexp.metrics.distances import frechet_distance, kernel_distance
from cfexp.metrics.functional import bootstrap_interval, wilson_interval
from cfexp.tensors import check_shapes


class Estimate(NamedTuple):
    """A mean over n queries with its 95 % interval; NaN for n = 0."""

    value: float
    low: float
    high: float
    n: int


class QueryRows(Metric):
    """Keeps `width` numbers a query; what is computed of them is said by the classes below."""

    is_differentiable = False
    full_state_update = False

    keys: list[Tensor]  # (N,) int64
    rows: list[Tensor]  # (N, width) float64

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width
        for name in ("keys", "rows"):
            self.add_state(name, default=[], dist_reduce_fx="cat")
        self.reset()

    def reset(self) -> None:
        """Forget every query. The states start with no rows rather than as empty lists, which
        torchmetrics would gather as float32 from a process that saw no query.
        """
        super().reset()
        self._append(torch.zeros(0), torch.zeros(0, self.width))

    def _append(self, keys: Tensor | Sequence[int], rows: Tensor) -> None:
        if len(keys) != len(rows) or rows.shape[1:] != (self.width,):
            expected = (len(keys), self.width)
            raise ValueError(
                f"{type(self).__name__} needs rows of shape {expected}, got {tuple(rows.shape)}"
            )
        self.keys.append(torch.as_tensor(keys, device=self.device).to(torch.int64, copy=True))
        self.rows.append(rows.detach().to(self.device, torch.float64, copy=True))

    def gathered(self) -> Tensor:
        """(N, width), one row a query, in the order of the keys."""
        keys, order = dim_zero_cat(self.keys).cpu().sort(stable=True)
        is_last = torch.cat(
            [keys[1:] != keys[:-1], keys.new_ones(min(len(keys), 1), dtype=torch.bool)]
        )
        return dim_zero_cat(self.rows).cpu()[order[is_last]]


class MeanOverQueries(QueryRows):
    """Mean of a measure over the queries for which it means something, with its interval.

    measure: the arguments of `update` after the keys -> (B,), such as `ssim` of queries and
    counterfactuals, or `attributes_changed` of logits, whose mean is MNAC. is_rate: its values are
    false or true; percent are returned, with Wilson's interval, else that of the seeded bootstrap.
    """

    def __init__(self, measure: Callable[..., Tensor], is_rate: bool = False) -> None:
        super().__init__(width=1)
        self.measure, self.is_rate = measure, is_rate

    def update(self, keys: Tensor | Sequence[int], *arguments: Tensor) -> None:
        """Measure B queries, of these keys."""
        self._append(keys, self.measure(*arguments)[:, None])

    def compute(self) -> Estimate:
        """Of all queries so far, of all processes."""
        values = self.gathered()[:, 0]
        known = values[~values.isnan()]
        n = len(known)
        if self.is_rate:
            low, high = wilson_interval(int((known > 0).sum()), n)
            return Estimate(100 * (known > 0).double().mean().item(), 100 * low, 100 * high, n)
        return Estimate(known.mean().item(), *bootstrap_interval(known.numpy()), n)


class FeatureDistance(QueryRows):
    """A distance of the features (D,) of all counterfactuals from those of all queries:
    `frechet_distance`, or with kernel `kernel_distance` of pairs. FID and KID if the features are
    Inception's. NaN for fewer than two queries.
    """

    higher_is_better = False

    def __init__(self, dimension: int, kernel: bool = False) -> None:
        super().__init__(width=2 * dimension)
        self.kernel = kernel

    def update(self, keys: Tensor | Sequence[int], query: Tensor, counterfactual: Tensor) -> None:
        """Take in the features (B, D) of B queries and of their counterfactuals."""
        check_shapes(query=(query, "B D"), counterfactual=(counterfactual, "B D"))
        self._append(keys, torch.cat([query, counterfactual], dim=1))

    def compute(self) -> float:
        """Of all queries so far, of all processes."""
        query, counterfactual = (
            self.gathered().numpy().reshape(-1, 2, self.width // 2).swapaxes(0, 1)
        )
        if len(query) < 2:
            return float("nan")
        if self.kernel:
            return kernel_distance(query, counterfactual, paired=True)
        return frechet_distance(query, counterfactual)


class CorrelationDifference(QueryRows):
    """CD of an oracle's decisions on K attributes, see `correlation_difference`; its decisions on
    the queries are the labels. attribute: the one that was asked for. NaN for no query.
    """

    higher_is_better = False

    def __init__(self, num_attributes: int, attribute: int) -> None:
        super().__init__(width=2 * num_attributes)
        self.attribute = attribute

    def update(self, keys: Tensor | Sequence[int], before: Tensor, after: Tensor) -> None:
        """Take in the logits (B, K) of B queries and of their counterfactuals."""
        check_shapes(before=(before, "B K"), after=(after, "B K"))
        self._append(keys, torch.cat([before, after], dim=1) > 0)

    def compute(self) -> float:
        """Of all queries so far, of all processes."""
        before, after = self.gathered().numpy().reshape(-1, 2, self.width // 2).swapaxes(0, 1)
        if len(before) == 0:
            return float("nan")
        return correlation_difference(before, before, after, self.attribute)
