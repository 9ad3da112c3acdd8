import pytest
import torch
from torch import nn

from cfexp.training.schedule import by_step


def rates(total: float, warmup: float, cooldown: float, steps: int) -> list[float]:
    """The learning rate of each step, where the optimizer's own is 0.5."""
    optimizer = torch.optim.SGD([nn.Parameter(torch.zeros(1))], lr=0.5)
    schedule = by_step(optimizer, total, warmup, cooldown)
    assert schedule["optimizer"] is optimizer
    assert schedule["lr_scheduler"]["interval"] == "step"
    seen = []
    for _ in range(steps):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule["lr_scheduler"]["scheduler"].step()
    return seen


def test_the_rate_rises_stays_and_falls() -> None:
    seen = rates(total=20, warmup=0.2, cooldown=0.5, steps=20)
    assert seen[1:5] == pytest.approx([0.125, 0.25, 0.375, 0.5])
    assert seen[5:11] == pytest.approx([0.5] * 6)
    assert seen[11:] == pytest.approx([0.5 * (20 - step) / 10 for step in range(11, 20)])
    # At no step is nothing learned, and none goes backwards where the trainer goes on beyond the
    # total.
    assert seen[0] == pytest.approx(0.5e-3)
    assert rates(total=4, warmup=0.0, cooldown=0.5, steps=8)[4:] == pytest.approx([0.5e-3] * 4)


def test_without_warmup_and_cooldown_it_is_constant() -> None:
    assert rates(total=10, warmup=0.0, cooldown=0.0, steps=12) == [0.5] * 12
    # A trainer without an end (max_epochs=-1) has no total.
    assert rates(total=float("inf"), warmup=0.0, cooldown=0.0, steps=3) == [0.5] * 3
