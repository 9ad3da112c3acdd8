"""How long a training or an explaining will take, and how much memory: measured at its first steps,
and said.
"""

import logging
import resource
import time
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer

_log = logging.getLogger(__name__)
# The first batches allocate and warm up; the next ones are measured.
WARM, MEASURED = 2, 3


class SayCost(Callback):
    """Says, after the first few steps, what all of them will take; changes nothing."""

    def __init__(self) -> None:
        super().__init__()
        self._began = 0.0
        self._seen = 0  # batches of this process: a training may have gone on amid

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Begin to measure after the warm-up."""
        if self._seen == WARM:
            self._began = time.perf_counter()

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Say what was measured."""
        self._seen += 1
        if self._seen == WARM + MEASURED and trainer.is_global_zero:
            a_step = (time.perf_counter() - self._began) / MEASURED
            batches = int(trainer.num_training_batches)
            left = batches * ((trainer.max_epochs or 1) - trainer.current_epoch) - batch_idx - 1
            what = f"{type(pl_module).__name__}: {left:,} steps of {len(batch[0])} images are left"
            _log.info("%s: %s", what, cost(left * a_step, a_step, "step"))

    def on_predict_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Begin to measure."""
        if batch_idx == 0:
            self._began = time.perf_counter()

    def on_predict_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Say what the first batch took, where others follow."""
        left = int(sum(trainer.num_predict_batches)) - 1
        if batch_idx == 0 and left > 0 and trainer.is_global_zero:
            an_image = (time.perf_counter() - self._began) / max(len(batch[0]), 1)
            what = f"{type(pl_module).__name__}: {left} batches are left"
            _log.info("%s: %s", what, cost(left * an_image * len(batch[0]), an_image, "image"))


def cost(seconds: float, each: float, of: str) -> str:
    """In words: the time that is left, what one step takes, and the most memory that was held."""
    if torch.cuda.is_available():
        memory = f"{torch.cuda.max_memory_allocated() / 2**30:.1f} GiB of the GPU"
    else:
        memory = f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20:.1f} GiB"
    article = "an" if of[0] in "aeiou" else "a"
    return f"about {_duration(seconds)} ({each:.3g} s {article} {of}), {memory}"


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h"
