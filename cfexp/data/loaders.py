"""How a data set is loaded, whichever it is."""

from collections.abc import Callable
from typing import Any, TypeVar

import torch
from torch.utils.data import DataLoader, Dataset

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
