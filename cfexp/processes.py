"""What processes that run side by side share: one of them makes what all need, and their batches are one batch."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from lightning.pytorch.plugins import TorchSyncBatchNorm
from torch import nn

from cfexp.models.batch_norm import desynchronise, synchronise

_log = logging.getLogger(__name__)


@contextmanager
def one_at_a_time(folder: Path, waiting: str) -> Iterator[None]:
    """Hold what only one process may do in `folder`, which is made; whoever else comes says `waiting`, and waits.

    The operating system lets go of it when the process ends, in whatever way.
    """
    folder.mkdir(parents=True, exist_ok=True)
    lock = FileLock(folder / ".lock")
    try:
        lock.acquire(blocking=False)
    except Timeout:
        _log.info(waiting)
        lock.acquire(poll_interval=0.5)
    try:
        yield
    finally:
        lock.release()


class SyncBatchNorms(TorchSyncBatchNorm):
    """Lightning's `sync_batchnorm`, on CPUs, too."""

    def apply(self, model: nn.Module) -> nn.Module:
        """To a LightningModule that has its trainer."""
        if model.trainer.strategy.root_device.type != "cpu":  # type: ignore[union-attr]
            return super().apply(model)
        synchronise(model)
        return model

    def revert(self, model: nn.Module) -> nn.Module:
        """When the training is over."""
        desynchronise(model)
        return super().revert(model)
