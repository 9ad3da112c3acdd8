"""Progressive Exaggeration (Singla et al., ICLR 2020, "Explanation by progressive exaggeration"): a
generator that is trained once for one decision, then one forward pass a bin of that decision.
"""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cfexp.data.batch import ImageBatch
from cfexp.declaration import Column, Declaration
from cfexp.errors import InputError
from cfexp.explainers.adversarial import AdversarialExplainer
from cfexp.explainers.base import Explanation, eight_bit
from cfexp.explainers.classifier import ClassifierExplainer
from cfexp.explainers.memory import check_budget
from cfexp.explainers.pe import objective
from cfexp.explainers.pe.bins import say_few, train_odds
from cfexp.explainers.pe.objective import BIN_TARGETS, BinTarget, Passes
from cfexp.models.progressive_exaggeration import Discriminator, Generator

CHOICES = ("far", "first")


class ProgressiveExaggeration(AdversarialExplainer, ClassifierExplainer):
    """Trains a generator G(x, k) whose image looks like x and is decided as bin k of K says.

        L_G = adversarial_weight (-mean D(x_t, t)) + cycle_weight |x - x_c|
              + code_weight |E(x, s) - E(x_t, s)|^2 + reconstruction_weight |x - G(x, s)|
              + decision_weight (CE(f(x_t), t) + CE(f(x_c), f(x)))
        L_D = mean relu(1 - D(x, s)) + mean relu(1 + D(x_t, t))

    with x_t = G(x, t) for a random bin t and x_c = G(x_t, s), back to the own bin s of x. The bins
    are K equal parts of [0, 1], where p(class) of the explained model f lies: of the class above 0
    of a head, else of `counter_class`. The released code differs from the paper; the options below
    have both, see `objective` for the rest.

    Args:
        generator, discriminator: the two networks, of the same K bins.
        generator_optimizer, discriminator_optimizer, scheduler, clip_norm: see
            `AdversarialExplainer`; published: Adam at 2e-4 with betas 0 and 0.9, and neither of the
            others.
        critic_steps: the generator takes a step after so many of the discriminator.
        classifier_gradient: let the gradient of the decision's terms flow through f, as in the
            paper; the released code stops it.
        bin_target: the probability that a bin asks for, its `lower` edge (released) or `centre`.
        batch_statistics: explain by the statistics of what is explained at once, as the released
            code does: then an explanation depends on its batch.
        choose: which bin's image is the counterfactual: of the bins' ends the `far` one, or the
            `first` beyond the query's own bin that is decided as asked, as stored; the far end
            where none is.
        max_repeats: an epoch draws every bin's images equally often, but none more often than this.
        cache_dir: where f's decisions about the training images are kept.
        settings: see `ClassifierExplainer`.

    Raises:
        InputError: for settings out of range, networks of different bins, and classes that exclude
            each other without a `counter_class`.

    """

    called = "PE"
    starts_from = "reconstruction"
    columns = (
        Column("bin", "which of K equal parts of [0, 1] holds p of the class, for the query"),
        Column("chosen_bin", "the bin whose image is the counterfactual"),
        Column(
            "reconstruction_class",
            "what the decision model says of the image for the query's own bin: if not "
            "`query_class`, nothing is explained",
        ),
        Column("candidate_bin", "the bin of each candidate", ("K",)),
        Column("candidate_probability", "p of the class for each candidate, as stored", ("K",)),
    )
    generator: Generator
    discriminator: Discriminator

    def __init__(
        self,
        *,
        generator: Generator,
        discriminator: Discriminator,
        generator_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        discriminator_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler] | None = None,
        clip_norm: float | None = None,
        adversarial_weight: float = 1.0,
        cycle_weight: float = 100.0,
        code_weight: float = 100.0,
        reconstruction_weight: float = 0.0,
        decision_weight: float = 1.0,
        critic_steps: int = 5,
        classifier_gradient: bool = True,
        bin_target: BinTarget = "lower",
        batch_statistics: bool = False,
        choose: str = "far",
        max_repeats: int = 10,
        cache_dir: str = "~/.cache/cfexp",
        memory_budget: str | int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        for name, value, known in (
            ("bin_target", bin_target, BIN_TARGETS),
            ("choose", choose, CHOICES),
        ):
            if value not in known:
                raise InputError(f"explainer.{name} must be {' or '.join(known)}, got {value!r}")
        for name, number in (("critic_steps", critic_steps), ("max_repeats", max_repeats)):
            if number < 1:
                raise InputError(f"explainer.{name} must be at least 1, got {number}")
        if generator.num_bins != discriminator.num_bins:
            bins = f"{generator.num_bins} and {discriminator.num_bins}"
            raise InputError(f"explainer.generator and discriminator have {bins} bins: give one")
        check_budget(memory_budget)
        self.memory_budget = memory_budget
        self.automatic_optimization = False
        self.generator, self.discriminator = generator, discriminator
        self.generator_optimizer = generator_optimizer
        self.discriminator_optimizer = discriminator_optimizer
        self.scheduler, self.clip_norm = scheduler, clip_norm
        self.weights = {
            "adversarial": adversarial_weight,
            "cycle": cycle_weight,
            "code": code_weight,
            "reconstruction": reconstruction_weight,
            "target_decision": decision_weight,
            "cycle_decision": decision_weight,
        }
        self.critic_steps, self.classifier_gradient = critic_steps, classifier_gradient
        self.bin_target, self.batch_statistics = bin_target, batch_statistics
        self.choose, self.max_repeats = choose, max_repeats
        self.cache_dir = cache_dir
        self.num_bins = generator.num_bins
        if self.head is None and len(self.class_names or ()) > 2:
            self._binned(len(self.class_names or ()))  # which is said before it is trained

    @property
    def declaration(self) -> Declaration:
        """As always; the counterfactual is one of the candidates."""
        return super().declaration._replace(among_candidates=True)

    def looks(self, image: Tensor, label_map: Tensor) -> dict[str, Callable[[], object]]:
        """Of each network, by its attribute: what it does with images; see `ScoredStage.looks`."""
        bins = torch.zeros(len(image), dtype=torch.int64, device=image.device)
        return {
            "decision_model": lambda: self.decision_model(image),
            "generator": lambda: self.generator(image, bins),
            "discriminator": lambda: self.discriminator(image, bins),
        }

    def setup(self, stage: str) -> None:
        """Before a training, ask the explained model about the training images, and have their bins
        drawn evenly.
        """
        super().setup(stage)
        if stage != "fit":
            return
        data: Any = self._data
        self.decision_model.to(self.trainer.strategy.root_device)
        which = f"{self.head} {self.counter_class if self.head is None else None}"
        odds = train_odds(data, self.odds, self.decision_model, which, Path(self.cache_dir))
        bins = objective.bins_of(odds, self.num_bins)
        say_few(bins, self.num_bins)
        data.draw_evenly(bins.tolist(), self.max_repeats)

    def odds(self, image: Tensor) -> Tensor:
        """(B,) log odds of the class whose probability is binned, with the gradient by the
        images.
        """
        return self._odds_of(self.exclusive(self.decide(image)))

    @torch.no_grad()
    def explain(self, batch: ImageBatch) -> Explanation:
        """The images for all bins of each image of the batch, and one of them as the
        counterfactual.
        """
        logits = self.decide(batch.image)
        query_logits, counter_class = self.exclusive(logits), self.asked_for(logits)
        own = objective.bins_of(self._odds_of(query_logits), self.num_bins)
        images = self._exaggerate(batch.image)
        stored = torch.stack([self.logits(eight_bit(each), batch) for each in images.unbind(1)], 1)
        chosen = self._chosen(own, counter_class, stored)
        rows = torch.arange(len(own), device=own.device)
        reconstruction, found = images[rows, own], images[rows, chosen]
        probability = self._odds_of(stored.flatten(0, 1)).sigmoid().view(stored.shape[:2])
        bins = torch.arange(self.num_bins, device=own.device)
        return Explanation(
            query=batch.image,
            reconstruction=reconstruction,
            counterfactual=found,
            query_logits=query_logits,
            counterfactual_logits=self.logits(found, batch),
            counter_class=counter_class,
            extras={
                "bin": own,
                "chosen_bin": chosen,
                "reconstruction_class": self.logits(reconstruction, batch).argmax(1),
                "candidates": images,
                "candidate_bin": bins.expand(len(own), -1),
                "candidate_probability": probability,
                "label_map": batch.label_map,
            },
        )

    def training_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """A step of the discriminator, and each `critic_steps`-th time one of the generator."""
        optimizers = self.optimizers()
        assert isinstance(optimizers, list)
        generator_optimizer, discriminator_optimizer = optimizers
        query = batch.image
        with torch.no_grad():
            odds = self.odds(query)
        own = objective.bins_of(odds, self.num_bins)
        target = torch.randint(self.num_bins, own.shape, device=self.device)
        turn = (batch_idx + 1) % self.critic_steps == 0
        with torch.set_grad_enabled(turn):
            changed = self.generator.exaggerate(query, target)
        self.toggle_optimizer(discriminator_optimizer)
        both = torch.cat([query, changed.image.detach()]), torch.cat([own, target])
        terms = {"critic": objective.critic_loss(*self.discriminator(*both).chunk(2))}
        self.step(discriminator_optimizer, terms["critic"])
        if turn:
            self.toggle_optimizer(generator_optimizer)
            again = self.generator.exaggerate
            passes = Passes(
                changed,
                again(changed.image, own, batch_statistics=True),
                again(query, own, batch_statistics=True),
            )
            found = self._terms(query, odds, passes, target)
            loss = torch.stack([self.weights[name] * term for name, term in found.items()]).sum()
            self.step(generator_optimizer, loss)
            terms |= found
            self.log("loss", loss.detach(), prog_bar=True, logger=False)
        self.log_dict(
            {f"train/{name}": term.detach() for name, term in terms.items()}, batch_size=len(own)
        )

    def validation_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """How many decisions the images for the far bins change, how near the decisions are to what
        the bins ask for, and how far the images for the own bins are from the queries.
        """
        explanation = self.explain(batch)
        extras = explanation.extras
        asked = objective.asked_probability(extras["candidate_bin"], self.num_bins, self.bin_target)
        flips = explanation.counterfactual_logits.argmax(1) == explanation.counter_class
        distance = (explanation.query - explanation.reconstruction).abs().mean()
        scores = {
            "val/decision_error": (extras["candidate_probability"] - asked).abs().mean(),
            "val/reconstruction_l1": distance,
        }
        self.log_dict(scores, batch_size=len(flips), sync_dist=True)
        rate = flips.float().mean()
        self.log("val/flip_rate", rate, batch_size=len(flips), sync_dist=True, prog_bar=True)

    def trained_state(self) -> dict[str, Tensor]:
        """The generator alone, under its own name: who explains needs nothing else."""
        return self.generator.state_dict(prefix="generator.")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """As always; where no weight of the discriminator is given, it stays as it is."""
        super().on_load_checkpoint(checkpoint)
        given = checkpoint["state_dict"]
        if not any(name.startswith("discriminator.") for name in given):
            given |= self.discriminator.state_dict(prefix="discriminator.")

    def _binned(self, classes: int) -> int:
        """The class whose probability is binned, of so many that exclude each other."""
        if classes == 2:
            return 1
        if self.counter_class is None:
            problem = f"of {classes} classes PE is trained for one"
            raise InputError(f"explainer.counter_class must be given: {problem}")
        return self.counter_class

    def _odds_of(self, logits: Tensor) -> Tensor:
        """(B,) of logits (B, K) of classes that exclude each other."""
        return objective.log_odds(logits, self._binned(logits.shape[1]))

    def _exaggerate(self, image: Tensor) -> Tensor:
        """(B, K, 3, H, W), for each bin."""
        count, bins = len(image), torch.arange(self.num_bins, device=image.device)
        if self.batch_statistics:  # those of all that is explained at once, as published
            every = image.repeat_interleave(self.num_bins, 0)
            made: Tensor = self.generator(every, bins.repeat(count), batch_statistics=True)
            return made.view(count, self.num_bins, *image.shape[1:])
        return torch.stack([self.generator(image, each.expand(count)) for each in bins], dim=1)

    def _chosen(self, own: Tensor, counter_class: Tensor, stored: Tensor) -> Tensor:
        """(B,) the bins of the counterfactuals; stored: logits (B, K, C) of the bins' images."""
        reached = stored.argmax(2) == counter_class[:, None]
        up = counter_class == self._binned(stored.shape[2])
        far = torch.where(up, self.num_bins - 1, 0)
        if self.choose == "far":
            return far
        bins = torch.arange(self.num_bins, device=own.device)
        ahead = (bins - own[:, None]) * torch.where(up, 1, -1)[:, None]
        ahead = ahead.masked_fill((ahead < 1) | ~reached, self.num_bins)
        nearest, place = ahead.min(1)
        return torch.where(nearest < self.num_bins, place, far)

    def _terms(
        self, query: Tensor, odds: Tensor, passes: Passes, target: Tensor
    ) -> dict[str, Tensor]:
        """The generator's terms, without their weights; odds: (B,) of the query."""

        def seen(image: Tensor) -> Tensor:
            return self.odds(image if self.classifier_gradient else image.detach())

        asked = objective.asked_probability(target, self.num_bins, self.bin_target)
        scores = self.discriminator(passes.changed.image, target)
        return {
            "adversarial": objective.adversarial(scores),
            **objective.image_terms(query, passes),
            **objective.decision_terms(
                seen(passes.changed.image), asked, seen(passes.cycle.image), odds
            ),
        }
