"""The learning-rate schedule that the stages share."""

import math
from typing import Any

from lightning import Trainer
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def by_step(optimizer: Optimizer, total: float, warmup: float, cooldown: float) -> dict[str, Any]:
    """For `configure_optimizers`: the rate rises over the first `warmup` share of `total` steps,
    and falls linearly over the last `cooldown` share; both 0 = constant. total: see `whole_length`.
    """

    def factor(step: int) -> float:
        done = step / total
        rise = done / warmup if warmup > 0 else 1.0
        fall = (1 - done) / cooldown if cooldown > 0 else 1.0
        return max(min(1.0, rise, fall), 1e-3)

    return {
        "optimizer": optimizer,
        "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"},
    }


def whole_length(trainer: Trainer) -> float:
    """The optimizer's steps of all epochs.

    `max_steps` and `max_time` end a training before and are not its length, so that it may go on
    with larger ones.
    """
    steps = float(trainer.estimated_stepping_batches)  # which also knows of the batches
    batches, epochs = trainer.num_training_batches, trainer.max_epochs
    # The batches are not counted where none is asked for.
    if epochs is None or epochs < 0 or not math.isfinite(batches):
        return steps
    return math.ceil(batches / trainer.accumulate_grad_batches) * max(epochs, 1)
