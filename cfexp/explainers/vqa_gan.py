"""The question-conditioned counterfactual GAN for VQA (Pan, Goyal, Lee 2019, "Question-conditional
counterfactual image generation for VQA"): trained once, then one forward pass a query.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cfexp import losses
from cfexp.data.base import QueryDataModule, data_of
from cfexp.data.batch import VQABatch
from cfexp.declaration import Column
from cfexp.errors import InputError
from cfexp.explainers.adversarial import AdversarialExplainer
from cfexp.explainers.base import Explanation
from cfexp.explainers.memory import check_budget
from cfexp.models.loading.pretrained import freeze
from cfexp.models.own.vqa import OwnVQAModel, Question
from cfexp.models.vqa.lingunet import CounterfactualGenerator, Edited
from cfexp.models.vqa.mlb import VQAModel

OPEN = 0.5  # how far a mask is held open, at most


class VQACounterfactualGAN(AdversarialExplainer):
    """Trains the generator against the frozen VQA model and a discriminator, in turns.

        L_G = counterfactual_loss + l2_weight ||I' - I||^2 + adversarial_weight BCE(D(I'), 1) +
              mask_weight mean(m) + color_weight TV(painted colour) + outline_weight TV(m off edges)
                                                                           the last three with a
                                                                           mask, ours
        L_D = BCE(D(I), 0.9) + BCE(D(I'), 0)

    Until `warmup_epochs` (a fraction will do) have passed, reconstruction alone: l2, with nothing
    of the question seen. Over the next `ramp_epochs` the price of an edit (the weights of l2, mask,
    colour, outline) rises to all of it: dear edits keep a generator that does not know the question
    from changing every object, but dear from the start they keep any generator from learning to
    edit at all. It rises from `ramp_start` for a query whose answer the edit changes, and from
    nothing for the others: what is not achieved yet is not made small, or a colour that the
    generator first paints everything in would be left as it is wherever it is the answer. With a
    mask, a share of the queries (`opened_share`) is shown to the VQA model with the mask held open
    everywhere, each by a degree of its own, and pays nothing; mask and colour take the gradient
    that is due where it is so open. A mask that is closed takes none, and lets none through to the
    colour under it: what it once leaves alone it would leave alone for ever. The answer A is the
    consensus where the vocabulary has it, else the VQA model's own.

    decision_model: the VQA model that is explained, MLB or one by the contract of `own_vqa`; frozen
    here. generator, discriminator_optimizer, ...: constructors that lack only what the VQA model
    (its two sizes) or the networks (their parameters) determine. counterfactual_loss: logits (B,
    K), answers (B,) -> scalar; one of cfexp.losses. discriminator: images -> logits; None trains
    without one. perturbation: what the VQA model's input goes through in training. counter_answer:
    aim at this answer, by cross-entropy, instead of away from A. clip_norm: of both networks.
    memory_budget: explain so many queries of a batch at once as fit into it; see `Explainer`.
    fade: of each edit up to this share, drawn anew, is taken back before the VQA model sees it: it
    has to hold when fainter, too, and does not stop where the answer turns.
    augmentation: makes another batch of each training batch first, see `Recoloring`; its second
    result, where the questions' objects are, is not looked at.
    """

    called = "VQA counterfactual GAN"
    columns = (Column("edit_mask", "where the generator edits, in [0, 1]", ("1", "H", "W")),)
    decision_model: VQAModel | OwnVQAModel
    generator: CounterfactualGenerator

    def __init__(
        self,
        decision_model: VQAModel | OwnVQAModel,
        generator: Callable[..., CounterfactualGenerator],
        discriminator: nn.Module | None,
        counterfactual_loss: Callable[[Tensor, Tensor], Tensor],
        generator_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        discriminator_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        perturbation: nn.Module | None = None,
        l2_weight: float = 6.0e-4,
        adversarial_weight: float = 0.05,
        mask_weight: float = 0.0,
        color_weight: float = 0.0,
        outline_weight: float = 0.0,
        warmup_epochs: float = 1.0,
        ramp_epochs: float = 0.0,
        ramp_start: float = 0.3,
        opened_share: float = 0.0,
        fade: float = 0.0,
        variety_weight: float = 0.0,
        clip_norm: float = 1.0,
        counter_answer: str | None = None,
        memory_budget: str | int | None = None,
        augmentation: Callable[[VQABatch, QueryDataModule], tuple[VQABatch, Tensor]] | None = None,
    ) -> None:
        super().__init__()
        check_budget(memory_budget)
        self.memory_budget, self.augmentation = memory_budget, augmentation
        self.automatic_optimization = False
        self.decision_model = freeze(decision_model)
        self.generator = generator(
            decision_model.question_dim, decision_model.answer_embeddings.shape[1]
        )
        self.discriminator = discriminator
        self.perturbation = perturbation if perturbation is not None else nn.Identity()
        self.counterfactual_loss = counterfactual_loss
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.scheduler = scheduler
        self.l2_weight = l2_weight
        self.adversarial_weight = adversarial_weight
        self.mask_weight = mask_weight
        self.color_weight, self.outline_weight = color_weight, outline_weight
        self.warmup_epochs, self.clip_norm = warmup_epochs, clip_norm
        self.ramp_epochs, self.ramp_start = ramp_epochs, ramp_start
        self.opened_share, self.fade = opened_share, fade
        self.variety_weight = variety_weight
        self.counter_answer = counter_answer
        self.counter_answer_id = -1  # any but the present one
        if not 0 <= fade < 1:
            raise InputError(f"fade must be at least 0 and below 1, got {fade}")
        if variety_weight > 0 and counter_answer is not None:
            problem = f"with counter_answer={counter_answer!r} all answers are alike"
            raise InputError(f"variety_weight={variety_weight}: {problem}; give one of the two")
        weights = {
            "mask_weight": mask_weight,
            "color_weight": color_weight,
            "outline_weight": outline_weight,
            "opened_share": opened_share,
        }
        for name, weight in weights.items():
            if weight > 0 and not self.generator.mask:
                raise InputError(f"{name}={weight} needs a generator with mask=true")

    def looks(self, image: Tensor, label_map: Tensor) -> dict[str, Callable[[], object]]:
        """Of each network, by its attribute: what it does with images; see `ScoredStage.looks`."""
        question = Question(image.new_zeros(len(image), self.decision_model.question_dim), ())
        answer = torch.zeros(len(image), dtype=torch.int64, device=image.device)
        seen: dict[str, Callable[[], object]] = {
            "decision_model": lambda: self._decide(image, question),
            "generator": lambda: self._edit(image, question, answer),
        }
        if self.discriminator is not None:
            discriminator = self.discriminator
            seen["discriminator"] = lambda: discriminator(image)
        return seen

    def settle(self, data: QueryDataModule) -> None:
        """Look the counter answer up; raises InputError if the VQA model cannot give it."""
        super().settle(data)
        if self.counter_answer is not None:
            answers = data.class_names
            if self.counter_answer not in answers:
                problem = f"is no answer of the VQA model: {', '.join(answers[:20])} ..."
                raise InputError(f"counter_answer={self.counter_answer!r} {problem}")
            self.counter_answer_id = answers.index(self.counter_answer)

    def explain(self, batch: VQABatch) -> Explanation:
        """One counterfactual for each question of the batch."""
        question = self.decision_model.ask(batch.question, batch.question_length, batch.text)
        query_logits = self._decide(batch.image, question)
        answer = torch.where(batch.answer >= 0, batch.answer, query_logits.argmax(1))
        edited = self._edit(batch.image, question, answer)
        return Explanation(
            query=batch.image,
            reconstruction=self._edit(batch.image, question, answer, unconditioned=True).image,
            counterfactual=edited.image,
            query_logits=query_logits,
            counterfactual_logits=self._decide(edited.image, question),
            counter_class=torch.full_like(batch.answer, self.counter_answer_id),
            extras={} if edited.mask is None else {"edit_mask": edited.mask},
        )

    def logits(self, image: Tensor, batch: VQABatch) -> Tensor:
        """The VQA model's logits (B, K) on other images for the batch's questions."""
        return self._decide(
            image, self.decision_model.ask(batch.question, batch.question_length, batch.text)
        )

    def keys(self, batch: VQABatch) -> Tensor:
        """The question ids."""
        return batch.question_id

    def training_step(self, batch: VQABatch, batch_idx: int) -> None:
        """One step of the generator, then one of the discriminator (1:1)."""
        optimizers = self.optimizers()
        generator_optimizer, *others = optimizers if isinstance(optimizers, list) else [optimizers]
        if self.augmentation is not None:
            batch, _ = self.augmentation(batch, data_of(self))
        with torch.no_grad():
            question = self.decision_model.ask(batch.question, batch.question_length, batch.text)
        # Training questions without a known answer are dropped by the data module: batch.answer >=
        # 0 here.
        after_warmup = (
            self.current_epoch + batch_idx / self.trainer.num_training_batches - self.warmup_epochs
        )
        warmup = after_warmup < 0
        edited = self._edit(batch.image, question, batch.answer, unconditioned=warmup)
        if warmup:
            terms = self._costs(batch.image, edited._replace(mask=None), None)
        else:
            shown, pays = self._shown(batch.image, edited)
            logits = self._decide(self.perturbation(shown), question)
            price = self._price(logits.detach(), batch.answer, after_warmup) * pays
            terms = self._gains(logits, batch.answer, edited)
            terms |= self._costs(batch.image, edited, price)
        loss = torch.stack(list(terms.values())).sum()
        self._step(generator_optimizer, loss)
        if self.discriminator is not None and not warmup:
            terms["discriminator"] = self._discriminator_loss(batch.image, edited.image.detach())
            self._step(others[0], terms["discriminator"])
        self.log_dict(
            {f"train/{name}": term.detach() for name, term in terms.items()},
            batch_size=len(batch.image),
        )
        self.log("loss", loss.detach(), prog_bar=True, logger=False)

    def validation_step(self, batch: VQABatch, batch_idx: int) -> None:
        """How many answers the edits change, of those that were right, and how far they go."""
        explanation = self.explain(batch)
        before, after = (
            explanation.query_logits.argmax(1),
            explanation.counterfactual_logits.argmax(1),
        )
        right = before == batch.answer
        scores = {
            "val/accuracy_before": right.float().mean(),
            "val/accuracy_after": (after == batch.answer).float().mean(),
            "val/squared_l2": losses.squared_l2(explanation.query, explanation.counterfactual),
        }
        self.log_dict(scores, batch_size=len(before), sync_dist=True)
        # Also where none is right: processes that log different things wait for each other.
        count = int(right.sum())
        flip_rate = ((after != before) & right).sum() / max(count, 1)
        self.log("val/flip_rate", flip_rate, batch_size=count, sync_dist=True, prog_bar=True)

    def _decide(self, image: Tensor, question: Question) -> Tensor:
        return self.decision_model.decide(image, question)

    def _edit(
        self, image: Tensor, question: Question, answer: Tensor, *, unconditioned: bool = False
    ) -> Edited:
        embedding = self.decision_model.answer_embeddings[answer]
        edited: Edited = self.generator(
            image, question.vector, embedding, unconditioned=unconditioned
        )
        return edited

    def _gains(self, logits: Tensor, answer: Tensor, edited: Edited) -> dict[str, Tensor]:
        """What an edit is made for; logits: (B, K) on the edited images, perturbed."""
        if self.counter_answer_id >= 0:
            asked = torch.full_like(answer, self.counter_answer_id)
            terms = {"counterfactual": F.cross_entropy(logits, asked)}
        else:
            terms = {"counterfactual": self.counterfactual_loss(logits, answer)}
        if self.variety_weight > 0:
            terms["variety"] = self.variety_weight * losses.answers_alike(logits, answer)
        if self.discriminator is not None:
            adversarial = losses.generator_adversarial(self.discriminator(edited.image))
            terms["adversarial"] = self.adversarial_weight * adversarial
        return terms

    def _shown(self, query: Tensor, edited: Edited) -> tuple[Tensor, Tensor]:
        """What the VQA model is asked about, and (B,) bool, whether an edit costs what it costs."""
        shown, pays = edited.image, query.new_ones(len(query), dtype=torch.bool)
        if self.fade > 0:
            kept = 1 - self.fade * torch.rand_like(query[:, :1, :1, :1])
            shown = query + kept * (shown - query)
        logits, color = edited.mask_logits, edited.color
        if logits is None or color is None or self.opened_share == 0:
            return shown, pays
        pays = torch.rand(len(query), device=query.device) >= self.opened_share
        least = torch.logit(OPEN * torch.rand_like(logits[:, :1, :1, :1]), eps=1e-3)
        mask = torch.sigmoid(logits + (least - logits.detach()).clamp(min=0))
        opened = (1 - mask) * query + mask * color
        return torch.where(pays[:, None, None, None], shown, opened), pays

    def _price(self, logits: Tensor, answer: Tensor, after_warmup: float) -> Tensor:
        """(B,) which share of its cost each edit pays at a time, in epochs."""
        passed = min(after_warmup / self.ramp_epochs, 1.0) if self.ramp_epochs > 0 else 1.0
        now = logits.argmax(1)
        done = now != answer if self.counter_answer_id < 0 else now == self.counter_answer_id
        return torch.where(done, self.ramp_start + (1 - self.ramp_start) * passed, passed)

    def _costs(self, query: Tensor, edited: Edited, price: Tensor | None) -> dict[str, Tensor]:
        """What an edit costs; price: (B,), see `_price`."""
        terms = {"l2": self.l2_weight * losses.squared_l2(query, edited.image, price)}
        if edited.mask is not None and edited.color is not None:
            mask, color = edited.mask, edited.color
            terms["mask"] = self.mask_weight * losses.mask_area(mask, price)
            terms["color"] = self.color_weight * losses.color_variation(color, mask, price)
            terms["outline"] = self.outline_weight * losses.outline_variation(mask, query, price)
        return terms

    def _discriminator_loss(self, query: Tensor, counterfactual: Tensor) -> Tensor:
        assert self.discriminator is not None
        # Reals of other queries than the fakes: else the discriminator could compare pairs.
        return losses.discriminator_adversarial(
            self.discriminator(query.roll(1, dims=0)), self.discriminator(counterfactual)
        )

    def _step(self, optimizer: Any, loss: Tensor) -> None:
        self.toggle_optimizer(optimizer)
        self.step(optimizer, loss)
