"""The learning-rate schedule that the stages share."""

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def by_step(optimizer: Optimizer, total: float, warmup: float, cooldown: float) -> dict[str, Any]:
    """For `configure_optimizers`: the rate rises over the first `warmup` share of `total` steps, and falls linearly
    over the last `cooldown` share; both 0 = constant.
    """

    def factor(step: int) -> float:
        done = step / total
        rise = done / warmup if warmup > 0 else 1.0
        fall = (1 - done) / cooldown if cooldown > 0 else 1.0
        return max(min(1.0, rise, fall), 1e-3)

    return {"optimizer": optimizer, "lr_scheduler": {"scheduler": LambdaLR(optimizer, factor), "interval": "step"}}
