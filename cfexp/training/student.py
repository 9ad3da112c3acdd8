"""The stage that distils a decision model into a student, which judges its counterfactuals."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric

from cfexp.data.base import data_of
from cfexp.data.batch import ImageBatch
from cfexp.errors import InputError
from cfexp.training.stage import LookedOnStage


class StudentStage(LookedOnStage):
    """Distillation (Hinton et al. 2015): the student learns the teacher's soft decisions on the
    teacher's own training images, and no label.

    An image is mixed with another one of its batch, and the teacher is asked about just what the
    student sees (Beyer et al. 2022), so that the two are alike between the images, too. A student
    for the non-adversarial rate has smooth activations: an adversarial pattern of the teacher's,
    which hangs on its own kinks and weights, is none of the student's.

    network: images (B, 3, H, W) in [-1, 1] -> logits (B, K); the student. teacher: the same of the
    decision model, frozen here. exclusive: whether the K outputs are classes that exclude each
    other; else each is a decision of its own; None = as the data's labels are. mixup: alpha of
    Zhang et al. 2018; 0 = images as they are. warmup, cooldown: see `by_step`.
    """

    def __init__(
        self,
        network: nn.Module,
        teacher: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        exclusive: bool | None = None,
        mixup: float = 1.0,
        warmup: float = 0.0,
        cooldown: float = 0.0,
    ) -> None:
        # Who looks on is the teacher: it stays in evaluation mode, and out of the checkpoints.
        super().__init__(network, optimizer, teacher, warmup, cooldown)
        self.exclusive, self.mixup = exclusive, mixup
        self.agreement: list[MeanMetric] = []  # of each output; of classes one

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Cross-entropy against the teacher's probabilities, of a batch of mixed images.

        Raises InputError where the two have not as many outputs.
        """
        image = batch.image
        if self.mixup > 0:
            alpha = torch.tensor(self.mixup, dtype=torch.float32)
            share = torch.distributions.Beta(alpha, alpha).sample((len(image), 1, 1, 1)).to(image)
            image = torch.lerp(image.roll(1, 0), image, share)
        taught = self._taught(image)
        said = self.network(image)
        if said.shape != taught.shape:
            count, needed = said.shape[1], taught.shape[1]
            problem = f"the student has {count} outputs, its teacher {needed}"
            raise InputError(f"{problem}: give network.num_outputs={needed}")
        if self._has_classes(taught):
            loss = F.cross_entropy(said, taught.softmax(1))
        else:
            loss = F.binary_cross_entropy_with_logits(said, taught.sigmoid())
        return self.log_loss(loss, len(image))

    def score(self, batch: ImageBatch) -> None:
        """Whether each decision is the teacher's."""
        said, taught = self.network(batch.image), self._taught(batch.image)
        if self._has_classes(taught):
            same = (said.argmax(1) == taught.argmax(1))[:, None]
        else:
            same = (said > 0) == (taught > 0)
        if not self.agreement:
            self.agreement = [MeanMetric().to(self.device) for _ in range(same.shape[1])]
        for metric, column in zip(self.agreement, same.T, strict=True):
            metric.update(column.float())

    def log_scores(self, part: str) -> None:
        """The agreement with the teacher in percent: of all decisions, and of each of several
        outputs.
        """
        found = [100 * metric.compute() for metric in self.agreement]
        if len(found) > 1:
            names = data_of(self).class_names
            if len(names) != len(found):
                names = tuple(map(str, range(len(found))))
            for name, value in zip(names, found, strict=True):
                self.log(f"{part}/agreement/{name}", value)
        self.log(f"{part}/agreement", torch.stack(found).mean(), prog_bar=True)
        self.agreement = []

    @torch.no_grad()
    def _taught(self, image: Tensor) -> Tensor:
        """The teacher's logits (B, K)."""
        assert self.feature_network is not None
        logits: Tensor = self.feature_network(image)
        return logits

    def _has_classes(self, logits: Tensor) -> bool:
        if self.exclusive is not None:
            return self.exclusive
        return logits.shape[1] > 1 and bool(getattr(data_of(self), "exclusive", False))
