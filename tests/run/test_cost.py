"""What a training or an explaining will take, in words, after its first steps."""

import logging
from typing import Any

import pytest
import torch
from lightning import LightningModule, Trainer
from torch.utils.data import DataLoader, TensorDataset

from cfexp.run.cost import SayCost, cost


class Line(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.line = torch.nn.Linear(1, 1)

    def training_step(self, batch: Any, batch_idx: int) -> torch.Tensor:
        loss: torch.Tensor = self.line(batch[0]).square().mean()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), 0.1)


@pytest.mark.parametrize(
    ("seconds", "said"), [(12.0, "about 12 s"), (600.0, "about 10 min"), (7200.0, "about 2.0 h")]
)
def test_durations_and_memory_in_words(seconds: float, said: str) -> None:
    text = cost(seconds, 0.25, "step")
    assert text.startswith(f"{said} (0.25 s a step), ")
    assert "GiB" in text


def test_it_is_said_once_after_the_first_steps(caplog: pytest.LogCaptureFixture) -> None:
    loader = DataLoader(TensorDataset(torch.zeros(16, 1)), batch_size=4)
    settings: dict[str, Any] = {"logger": False, "enable_checkpointing": False}
    trainer = Trainer(
        max_epochs=5,
        accelerator="cpu",
        callbacks=[SayCost()],
        enable_progress_bar=False,
        enable_model_summary=False,
        **settings,
    )
    with caplog.at_level(logging.INFO, "cfexp.run.cost"):
        trainer.fit(Line(), loader)
    (line,) = [record.getMessage() for record in caplog.records if "GiB" in record.getMessage()]
    assert line.startswith("Line: 15 steps of 4 images are left: about 0 s (")
