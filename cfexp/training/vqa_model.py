"""The stage that trains the VQA model which is explained later."""

from collections.abc import Callable, Iterable, Mapping
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer

from cfexp.data.base import data_of
from cfexp.data.batch import VQABatch
from cfexp.errors import InputError
from cfexp.metrics.majority import MajorityShare
from cfexp.metrics.vqa_accuracy import VQAAccuracy
from cfexp.models.vqa.attention import attention_inside, cells_inside, even_inside
from cfexp.models.vqa.mlb import MLBAttention, VQAModel
from cfexp.training.recoloring import Recoloring, TruthMasks
from cfexp.training.schedule import by_step, whole_length
from cfexp.training.stage import ScoredStage


class VQAModelStage(ScoredStage):
    """Cross-entropy on the consensus answer (specs of MLB's public code); what is validated is the
    official accuracy.

    Deviation: the learning rate rises over the first `warmup` share of the steps and falls linearly
    over the last `cooldown` share (both 0: constant, as published), and gradients are clipped by
    the trainer.

    perturbation: what training images go through first; None = nothing. augmentation: gives the
    objects asked about other colours before that. attention_weight: of a further loss, how little
    of each glimpse's attention is where the question's object truly is (-log of the share): few
    photographs do not teach where a garment is. whole_weight: of one more, how far that attention
    is from even over the whole object (Kullback-Leibler). All three need data with truth masks.
    rates: of the learning rate, the share that parts of the network (`backbone.lite`) have; what
    begins from good weights is to be moved less.
    """

    network: VQAModel

    def __init__(
        self,
        network: VQAModel,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        perturbation: nn.Module | None = None,
        warmup: float = 0.0,
        cooldown: float = 0.0,
        augmentation: Recoloring | None = None,
        attention_weight: float = 0.0,
        whole_weight: float = 0.0,
        rates: Mapping[str, float] | None = None,
    ) -> None:
        """Raises InputError for attention to teach where there is none, and for unknown parts."""
        super().__init__(network, optimizer, warmup, cooldown)
        self.perturbation = perturbation if perturbation is not None else nn.Identity()
        self.augmentation = augmentation
        self.attention_weight, self.whole_weight = attention_weight, whole_weight
        self.rates = dict(rates or {})
        self.truth_masks = TruthMasks()
        weights = {"attention_weight": attention_weight, "whole_weight": whole_weight}
        for name, weight in weights.items():
            if weight > 0 and not isinstance(network.fusion, MLBAttention):
                needed = "a network whose fusion has attention (MLBAttention)"
                raise InputError(f"{name}={weight} needs {needed}")
        names = dict(network.named_modules())
        for part in self.rates.keys() - names.keys():
            raise InputError(f"rates: the network has no part {part}")
        self.accuracy: VQAAccuracy | None = None

    def setup(self, stage: str) -> None:
        """Raise InputError where all questions to train on have the same answer."""
        if stage == "fit":
            data: Any = data_of(self)
            answers = data.dataset("train").answer
            if len(answers) > 1 and (answers == answers[0]).all():
                answer = data.class_name(int(answers[0]))
                problem = f"all {len(answers):,} questions to train on have the answer {answer!r}"
                settings = "data.train_question_types, data.num_answers"
                raise InputError(f"{problem}: there is nothing to learn ({settings})")

    def training_step(self, batch: VQABatch, batch_idx: int) -> Tensor:
        """Loss of a batch of questions; the backbone sees each distinct image once."""
        mask: Tensor | None = None
        if self.augmentation is not None:
            batch, mask = self.augmentation(batch, data_of(self))
        elif self._teaches_attention:
            mask = self.truth_masks(batch, data_of(self))
        image = self.perturbation(batch.image)
        question = self.network.encode_question(batch.question, batch.question_length)
        features, picture = self.network.see(image, batch.image_id)
        logits = self.network.answer(features, question, picture)
        loss = F.cross_entropy(logits, batch.answer, ignore_index=-1)
        if self._teaches_attention and mask is not None:
            fusion = cast(MLBAttention, self.network.fusion)
            attention = fusion.attention(features, question, picture)
            cells = cells_inside(mask, features)
            looking_away = -(attention_inside(attention, cells) + 1e-4).log().mean()
            loss = loss + self.attention_weight * looking_away
            loss = loss + self.whole_weight * _unevenness(attention, cells)
        return self.log_loss(loss, len(batch.answer))

    @property
    def _teaches_attention(self) -> bool:
        return self.attention_weight > 0 or self.whole_weight > 0

    def configure_optimizers(self) -> Any:
        """As in the base, with parts at rates of their own."""
        if not self.rates:
            return super().configure_optimizers()
        of_part: dict[str, list[nn.Parameter]] = {part: [] for part in ("", *self.rates)}
        for name, parameter in self.network.named_parameters():
            if parameter.requires_grad:
                part = next((part for part in self.rates if name.startswith(f"{part}.")), "")
                of_part[part].append(parameter)
        # An optimizer takes groups as well.
        groups: Any = [{"params": each} for each in of_part.values()]
        optimizer = self.optimizer(groups)
        for group, part in zip(optimizer.param_groups, of_part, strict=True):
            group["lr"] *= self.rates.get(part, 1.0)
        return by_step(optimizer, whole_length(self.trainer), self.warmup, self.cooldown)

    def looks(self, image: Tensor, label_map: Tensor) -> dict[str, Callable[[], object]]:
        """As in the base; each image is asked about in one word."""
        question = torch.ones(len(image), 1, dtype=torch.int64, device=image.device)
        return {"network": lambda: self.network(image, question, question[:, 0])}

    def score(self, batch: VQABatch) -> None:
        """Collect the answers of a batch."""
        data: Any = data_of(self)
        if self.accuracy is None:
            self.accuracy = VQAAccuracy(data.question_types).to(self.device)
            shape = data.facts["num_answers"], len(data.question_types)
            self.majority = MajorityShare(*shape).to(self.device)
        logits = self.network(batch.image, batch.question, batch.question_length, batch.image_id)
        records = [data.question(question_id) for question_id in batch.question_id.tolist()]
        self.accuracy.update(
            [data.class_name(index) for index in logits.argmax(1).tolist()],
            [record.answers for record in records],
            [record.question_type for record in records],
            [record.answer_type for record in records],
            batch.question_id,
        )
        types = torch.tensor(
            [data.question_types.index(record.question_type) for record in records]
        )
        self.majority.update(batch.answer, types.to(batch.answer.device))

    def log_scores(self, part: str) -> None:
        """Overall and for each question type, in percent: the official accuracy; and `majority`,
        the share of the most frequent consensus answer of the vocabulary, which is about what
        always giving it would reach.
        """
        assert self.accuracy is not None  # a batch came first
        data: Any = data_of(self)
        *of_types, of_all = (100 * self.majority.compute()).tolist()
        majorities = dict(zip(data.question_types, of_types, strict=True))
        scores = self.accuracy.compute()
        self.accuracy = None  # another stage may know other question types
        self.log(f"{part}/accuracy", scores.overall.accuracy, prog_bar=True)
        self.log(f"{part}/majority", of_all)
        for name, score in scores.per_question_type.items():
            self.log(f"{part}/accuracy/{name}", score.accuracy)
            self.log(f"{part}/majority/{name}", majorities[name])


def _unevenness(attention: Tensor, cells: Tensor) -> Tensor:
    """Kullback-Leibler divergence of attention (B, glimpses, h * w) from what is even over an
    object (see `cells_inside`), in nats; mean over the glimpses.

    An object that fills nothing of any cell costs nothing.
    """
    even = even_inside(cells)
    divergence: Tensor = even * ((even + 1e-9).log() - (attention + 1e-6).log())
    return divergence.sum(2).mean()
