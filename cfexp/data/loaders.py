"""How a data set is loaded, whichever it is."""

from collections.abc import Callable, Collection, Iterator
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset, DistributedSampler

from cfexp.data.skipping import SkippingLoader

BatchT = TypeVar("BatchT")


def make_loader(
    dataset: Dataset[BatchT], collate: Callable[[list[BatchT]], BatchT], num_workers: int, **order: Any
) -> DataLoader[BatchT]:
    """Batches in some order (batch_size, sampler, ... of `DataLoader`); worker processes stay from epoch to epoch."""
    return SkippingLoader(
        dataset,
        collate_fn=collate,
        num_workers=num_workers,
        persistent_workers=num_workers > 0,
        pin_memory=torch.cuda.is_available(),
        **order,
    )


class ShareOf(DistributedSampler[Any]):
    """A process's share of `rows` in their order, every k-th of k processes: each row once, where torch repeats some.

    Of fewer rows than processes some have none, or with `never_none` the first. It is a DistributedSampler so that
    Lightning leaves it as it is.
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
