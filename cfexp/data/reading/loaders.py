"""How a data set is loaded, whichever it is."""

from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar, cast

import numpy as np
import torch
from lightning import Trainer
from numpy.typing import NDArray
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from cfexp.data.batch import ImageParcel
from cfexp.data.reading.skipping import SkippingLoader

BatchT = TypeVar("BatchT")


class EpochSampler(DistributedSampler[BatchT]):
    """Shuffles by (seed, epoch), each process its own share, and may begin amid an epoch.

    For one process too: a run resumed at epoch k sees what an undisturbed one does. Lightning sets
    the epoch, and under DDP leaves a DistributedSampler as it is.
    """

    def __init__(self, dataset: Dataset[BatchT], replicas: int, rank: int, seed: int) -> None:
        # torch shuffles by seed + epoch; the shift keeps the epochs of one seed apart from those of
        # the next.
        super().__init__(dataset, replicas, rank, shuffle=True, seed=seed << 16, drop_last=True)
        self._seen = 0  # items of the epoch that comes first

    def begin(self, trainer: Trainer | None, seen: int) -> None:
        """Begin with the trainer's epoch, after so many items of it that were seen.

        Lightning 2.6 sets the epoch of a resumed run after worker processes were given their first
        indices.
        """
        self.set_epoch(0 if trainer is None else trainer.current_epoch)
        self._seen = seen

    def __iter__(self) -> Iterator[Any]:
        """The items of this process's part of the epoch."""
        seen, self._seen = self._seen, 0
        # torch annotates an iterator over what lies there, not over where it lies.
        return islice(cast(Iterator[int], super().__iter__()), seen, None)


def draw_evenly(groups: NDArray[np.int64], most: int, seed: Sequence[int]) -> NDArray[np.int64]:
    """Rows of N samples, N of them, of every group as many; none is drawn more than `most` times.

    groups: (N,), of each sample. What a small group cannot give without going over `most` is drawn
    from the others. The order is by group.
    """
    generator = np.random.default_rng(seed)
    members = sorted((np.flatnonzero(groups == each) for each in np.unique(groups)), key=len)
    drawn: list[NDArray[np.int64]] = []
    left = len(groups)
    for number, rows in enumerate(members):
        count = min(left // (len(members) - number), most * len(rows))
        whole, rest = divmod(count, len(rows))
        drawn += [rows] * whole + [generator.permutation(rows)[:rest]]
        left -= count
    return np.concatenate(drawn)


def make_loader(
    dataset: Dataset[BatchT],
    collate: Callable[[list[BatchT]], BatchT | ImageParcel],
    num_workers: int,
    **order: Any,
) -> DataLoader[BatchT]:
    """Batches in some order (batch_size, sampler, ... of `DataLoader`); worker processes stay from
    epoch to epoch.
    """
    return SkippingLoader(
        dataset,
        collate_fn=collate,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        **order,
    )


class ShareOf(DistributedSampler[Any]):
    """A process's share of `rows` in their order, every k-th of k processes: each row once, where
    torch repeats some.

    Of fewer rows than processes some have none, or with `never_none` the first. It is a
    DistributedSampler so that Lightning leaves it as it is.
    """

    def __init__(self, rows: Collection[int], trainer: Any, never_none: bool = False) -> None:
        """trainer: who knows of the processes; None = there is one."""
        replicas, rank = (1, 0) if trainer is None else (trainer.world_size, trainer.global_rank)
        super().__init__(rows, replicas, rank, shuffle=False)  # type: ignore[arg-type]
        self.rows = list(rows)[rank::replicas]
        if never_none and not self.rows:
            self.rows = list(rows)[:1]

    def __iter__(self) -> Iterator[Any]:
        """The rows."""
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)
