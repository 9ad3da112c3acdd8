"""The learning-rate schedule that the stages share."""

from typing import Any

from torch.optim import Optimizer
from torch.optim.lr_scheduler import LambdaLR


def constant_then_linear(optimizer: Optimizer, constant: int, linear: int) -> LambdaLR:
    """SEAN's schedule, stepped each epoch: the rate stays for `constant` epochs, then falls to 0 within `linear`.

    As published, the first lower rate is that of epoch `constant` + 2, and the last epoch trains at rate / `linear`.
    """
    return LambdaLR(optimizer, lambda epoch: min(1.0, max(0.0, (constant + linear - epoch) / linear)))


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
