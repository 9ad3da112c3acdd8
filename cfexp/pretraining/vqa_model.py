"""The stage that trains the VQA model which is explained later."""

from collections.abc import Callable, Iterable
from typing import Any

import torch.nn.functional as F
from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from cfexp.data.batch import VQABatch
from cfexp.metrics.vqa_accuracy import VQAAccuracy
from cfexp.models.mlb import VQAModel
from cfexp.pretraining.schedule import by_step


class VQAModelStage(LightningModule):
    """Cross-entropy on the consensus answer (specs of MLB's public code); what is validated is the official accuracy.

    Deviation: the learning rate rises over the first `warmup` share of the steps and falls linearly over the last
    `cooldown` share (both 0: constant, as published), and gradients are clipped by the trainer.

    perturbation: what training images go through first; None = nothing.
    """

    def __init__(
        self,
        network: VQAModel,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        perturbation: nn.Module | None = None,
        warmup: float = 0.0,
        cooldown: float = 0.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.perturbation = perturbation if perturbation is not None else nn.Identity()
        self.optimizer, self.warmup, self.cooldown = optimizer, warmup, cooldown
        self.accuracy: VQAAccuracy | None = None

    def training_step(self, batch: VQABatch, batch_idx: int) -> Tensor:
        """Loss of a batch of questions; the backbone sees each distinct image once."""
        image = self.perturbation(batch.image)
        logits = self.network(image, batch.question, batch.question_length, batch.image_id)
        loss = F.cross_entropy(logits, batch.answer, ignore_index=-1)
        self.log("train/loss", loss, batch_size=len(batch.answer))
        self.log("loss", loss, prog_bar=True, logger=False)
        return loss

    def validation_step(self, batch: VQABatch, batch_idx: int) -> None:
        """Collect the answers of a batch for the official accuracy."""
        self._score(batch)

    def test_step(self, batch: VQABatch, batch_idx: int) -> None:
        """As in validation."""
        self._score(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the official accuracy."""
        self._log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the official accuracy."""
        self._log_scores("test")

    def _score(self, batch: VQABatch) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        if self.accuracy is None:
            self.accuracy = VQAAccuracy(data.question_types).to(self.device)
        logits = self.network(batch.image, batch.question, batch.question_length, batch.image_id)
        records = [data.question(question_id) for question_id in batch.question_id.tolist()]
        self.accuracy.update(
            [data.class_name(index) for index in logits.argmax(1).tolist()],
            [record.answers for record in records],
            [record.question_type for record in records],
            [record.answer_type for record in records],
            batch.question_id,
        )

    def _log_scores(self, stage: str) -> None:
        """Overall and for each question type, in percent."""
        assert self.accuracy is not None  # a batch came first
        scores = self.accuracy.compute()
        self.accuracy = None  # another stage may know other question types
        self.log(f"{stage}/accuracy", scores.overall.accuracy, prog_bar=True)
        for name, score in scores.per_question_type.items():
            self.log(f"{stage}/accuracy/{name}", score.accuracy)

    def configure_optimizers(self) -> Any:
        """The injected optimizer, with the schedule by step."""
        optimizer = self.optimizer(parameter for parameter in self.parameters() if parameter.requires_grad)
        return by_step(optimizer, self.trainer.estimated_stepping_batches, self.warmup, self.cooldown)
