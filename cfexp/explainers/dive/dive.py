"""DiVE (Rodriguez et al., ICCV 2021, "Beyond trivial counterfactual explanations with diverse
valuable explanations"): several explanations of a query at once, in the latents of a beta-TCVAE.
"""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils import parametrize

from cfexp import losses
from cfexp.data.base import QueryDataModule
from cfexp.data.batch import ImageBatch
from cfexp.declaration import EVALUATIONS, RECONSTRUCTION_CLASS, Column, Declaration, Shown
from cfexp.errors import InputError
from cfexp.explainers.base import Explanation, eight_bit
from cfexp.explainers.classifier import ClassifierExplainer
from cfexp.explainers.dive.masks import BY_FISHER, METHODS, fisher_information, latent_masks
from cfexp.explainers.dive.search import LatentSearch, search_latents
from cfexp.explainers.memory import check_budget
from cfexp.models.loading.pretrained import freeze
from cfexp.models.tcvae import TCVAE

START = 0.01  # standard deviation of the first edits, as published
AT_ONCE = 32  # images whose Fisher information is computed


class DiVE(ClassifierExplainer):
    """Encodes the query, moves N copies of its code until the decision model decides otherwise on
    each, and decodes them.

    The counterfactual is, of those that succeed once they are stored in 8 bits, the one whose code
    moved least in l1, as the paper measures proximity; of none, the one nearest to success. All are
    its `candidates`, in that order.

    Args:
        autoencoder: frozen here.
        num_explanations: N.
        num_steps, learning_rate, lasso_weight, diversity_weight, reconstruction_weight, stop_share,
            stop_margin, as_one_batch: see `search_latents`.
        masks: which latents each explanation may move, with `keep` and `mask_seed`: see
            `latent_masks`.
        published_fisher: see `fisher_information`; it is also taken at the mean codes, and not at
            codes that are drawn as equation 8 has it.
        max_fisher_images: of the training part, by whose codes the Fisher information is computed;
            None = all (published: those of the validation part).
        decision_of: "query", or "reconstruction" as published: whose decision is to be another.
        memory_budget: as of STEEX, see `Explainer.queries_that_fit`.
        settings: see `ClassifierExplainer`.

    Raises:
        InputError: for a setting out of its range, and for an autoencoder of another kind.

    """

    called = "DiVE"
    starts_from = "reconstruction"
    columns = (
        Column("query_codes", "the code of the query", ("D",)),
        Column("codes", "the code of the counterfactual", ("D",)),
        RECONSTRUCTION_CLASS,
        Column(
            "code_l1",
            "the l1 norm of the code's change",
            summary="mean",
            counted="searches",
            shown=Shown("code\nl1", 2, panel="l1 of the code's change"),
        ),
        Column(
            "flip_step",
            "after how many steps the decision is the one asked for; -1 = never",
            unit="steps",
            summary="mean",
            counted="successful searches",
            successes_only=True,
            known_from=0,
            shown=Shown("steps to\nflip"),
        ),
        EVALUATIONS,
        Column(
            "answers",
            "how many of the N explanations succeed as they are stored",
            summary="mean",
            counted="searches whose reconstruction keeps the decision",
            explained_only=True,
            shown=Shown("answers\nof N"),
        ),
        Column("decision_curve", "the mean decision loss of the N before each step", ("T",)),
        Column("reconstruction_curve", "their summed distance from the query, likewise", ("T",)),
        Column("diversity_curve", "the sum of their pairs' squared cosines, likewise", ("T",)),
        Column("lasso_curve", "the summed l1 norm of their edits, likewise", ("T",)),
        Column("candidate_code_l1", "`code_l1` of each candidate", ("N",)),
        Column("candidate_flip_step", "`flip_step` of each candidate", ("N",)),
        Column("candidate_codes", "`codes` of each candidate", ("N", "D")),
        Column("candidate_pairwise_cosine", "the mean cosine of the edits of all pairs of the N"),
    )

    def __init__(
        self,
        *,
        autoencoder: TCVAE,
        num_explanations: int = 8,
        num_steps: int = 20,
        learning_rate: float = 0.01,
        lasso_weight: float = 1.0,
        diversity_weight: float = 1.0,
        reconstruction_weight: float = 10.0,
        stop_share: float | None = 0.9,
        stop_margin: float = 0.0,
        as_one_batch: bool = False,
        masks: str = "none",
        keep: bool = True,
        mask_seed: int = 0,
        published_fisher: bool = False,
        max_fisher_images: int | None = 500,
        decision_of: str = "query",
        memory_budget: str | int | None = None,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.autoencoder = freeze(autoencoder)
        if not hasattr(autoencoder, "code_dim"):
            problem = f"checkpoints.autoencoder is of a {type(autoencoder).__name__}"
            raise InputError(f"{problem}: DiVE needs a TCVAE; see +experiment=dive_smile")
        _check_whole("num_explanations", num_explanations, 1)
        _check_whole("num_steps", num_steps, 0)
        if max_fisher_images is not None:
            _check_whole("max_fisher_images", max_fisher_images, 1)
        if masks not in METHODS:
            raise InputError(f"explainer.masks must be {' or '.join(METHODS)}, got {masks!r}")
        if decision_of not in ("query", "reconstruction"):
            problem = "explainer.decision_of must be query or reconstruction"
            raise InputError(f"{problem}, got {decision_of!r}")
        self.num_explanations, self.num_steps = num_explanations, num_steps
        weights = {
            "learning_rate": learning_rate,
            "lasso_weight": lasso_weight,
            "diversity_weight": diversity_weight,
            "reconstruction_weight": reconstruction_weight,
            "stop_margin": stop_margin,
        }
        for name, value in weights.items():
            _check_finite(name, value)
        if stop_share is not None and not 0 < stop_share <= 1:
            raise InputError(f"explainer.stop_share must be in 0..1, got {stop_share!r}")
        self._search: dict[str, Any] = {
            **weights,
            "stop_share": stop_share,
            "as_one_batch": as_one_batch,
        }
        self.masks, self.keep, self.mask_seed = masks, keep, mask_seed
        self.published_fisher, self.max_fisher_images = published_fisher, max_fisher_images
        self.decision_of = decision_of
        check_budget(memory_budget)
        self.memory_budget = memory_budget
        self._dataset: Any = None
        self._mask: Tensor | None = None

    @property
    def declaration(self) -> Declaration:
        """As always; the counterfactual is one of the candidates."""
        return super().declaration._replace(among_candidates=self.num_explanations > 1)

    def looks(self, image: Tensor, label_map: Tensor) -> dict[str, Callable[[], object]]:
        """Of each network, by its attribute: what it does with images; see `ScoredStage.looks`."""
        return {
            "decision_model": lambda: self.decision_model(image),
            "autoencoder": lambda: self.autoencoder(image),
        }

    def settle(self, data: QueryDataModule) -> None:
        """Take the training images, where masks need them; raises InputError for what is wrong with
        their files.
        """
        super().settle(data)
        if self.masks in BY_FISHER:
            self._dataset = data.dataset("train")

    def explain_briefly(self, batch: ImageBatch) -> None:
        """Explain by one step."""
        kept, self.num_steps = self.num_steps, min(self.num_steps, 1)
        try:
            self.explain(batch)
        finally:
            self.num_steps = kept

    def explain(self, batch: ImageBatch) -> Explanation:
        """One counterfactual for each image of the batch, the first of N candidates.

        Beside the contract's, `label_map` (B, H, W) of the batch, and the declared columns.

        Raises InputError for a counter class that the decision model does not have, and for masks
        that cannot be made.
        """
        image = batch.image
        with parametrize.cached():  # spectral norms of weights that stay as they are
            with torch.no_grad():
                mean, _ = self.autoencoder.encode(image)
                reconstruction = self.autoencoder.decode(mean)
                query_logits, reconstruction_logits = map(self.decide, (image, reconstruction))
            of_query = self.decision_of == "query"
            counter_class = self.asked_for(query_logits if of_query else reconstruction_logits)
            start = torch.stack([_noise(key, self.num_explanations, mean) for key in batch.key])
            found = search_latents(
                self.autoencoder.decode,
                self.decision_model,
                mean,
                image,
                counter_class,
                START * start,
                head=self.head,
                mask=self.mask(),
                num_steps=self.num_steps,
                **self._search,
            )
            order, answers = self._best_first(found, counter_class)
        rows = torch.arange(len(image), device=image.device)
        best = rows, order[:, 0]
        ranked = rows[:, None], order
        length, codes = found.edits.abs().sum(2), mean[:, None] + found.edits
        extras = {
            "label_map": batch.label_map,
            "query_codes": mean,
            "codes": codes[best],
            "reconstruction_class": self.exclusive(reconstruction_logits).argmax(1),
            "code_l1": length[best],
            "flip_step": found.flip_step[best],
            "evaluations": found.evaluations,
            "answers": answers,
            "decision_curve": found.decision_curve,
            "reconstruction_curve": found.reconstruction_curve,
            "diversity_curve": found.diversity_curve,
            "lasso_curve": found.lasso_curve,
        }
        if self.num_explanations > 1:
            pairs = combinations(found.edits.unbind(1), 2)
            cosines = [F.cosine_similarity(one, other) for one, other in pairs]
            extras |= {
                "candidates": found.images[ranked],
                "candidate_code_l1": length[ranked],
                "candidate_flip_step": found.flip_step[ranked],
                "candidate_codes": codes[ranked],
                "candidate_pairwise_cosine": torch.stack(cosines).mean(0),
            }
        return Explanation(
            query=image,
            reconstruction=reconstruction,
            counterfactual=found.images[best],
            query_logits=self.exclusive(query_logits),
            counterfactual_logits=self.exclusive(found.logits[best]),
            counter_class=counter_class,
            extras=extras,
        )

    def mask(self) -> Tensor | None:
        """(N, D) bool, which latents each explanation may move; None = all. Made at the first call;
        raises InputError as `latent_masks`.
        """
        if self.masks != "none" and self._mask is None:
            mask = latent_masks(
                self.masks,
                self.num_explanations,
                self.autoencoder.code_dim,
                fisher=self.fisher() if self.masks in BY_FISHER else None,
                keep=self.keep,
                seed=self.mask_seed,
            )
            assert mask is not None
            self._mask = mask.to(self.device)
        return self._mask

    def fisher(self) -> Tensor:
        """The Fisher information (D, D) of the decision over the latents, float64, of the training
        images that count.
        """
        size = self.autoencoder.code_dim
        total = torch.zeros(size, size, dtype=torch.float64)
        count = min(len(self._dataset), self.max_fisher_images or len(self._dataset))
        draw = torch.Generator().manual_seed(self.mask_seed)
        for first in range(0, count, AT_ONCE):
            rows = range(first, min(first + AT_ONCE, count))
            images = torch.cat([self._dataset[row].image for row in rows])
            with torch.no_grad():
                weights = next(self.autoencoder.parameters())
                codes, log_variance = self.autoencoder.encode(images.to(weights))
                if not self.published_fisher:
                    noise = torch.randn(codes.shape, generator=draw)
                    codes = codes + (log_variance / 2).exp() * noise.to(codes)
            total += (
                fisher_information(
                    lambda codes: self.decide(self.autoencoder.decode(codes)),
                    codes,
                    self.head,
                    published=self.published_fisher,
                )
                .double()
                .cpu()
            )
        return total

    @torch.no_grad()
    def _best_first(self, found: LatentSearch, counter_class: Tensor) -> tuple[Tensor, Tensor]:
        """(B, N) int64, a query's explanations, those first that succeed as they are stored, by the
        l1 norm of their edits; then by how near they are to success. And how many succeed, (B,).
        """
        copies = self.num_explanations
        logits = self.decide(eight_bit(found.images.flatten(0, 1)))
        asked = counter_class.repeat_interleave(copies)
        margin = losses.decision_margin(logits, asked, self.head).view(-1, copies)
        succeeds, length = margin > 0, found.edits.abs().sum(2)
        order = torch.where(succeeds, length, -margin).argsort(dim=1, stable=True)
        failed_last = (~succeeds).long().gather(1, order).argsort(dim=1, stable=True)
        return order.gather(1, failed_last), succeeds.sum(1)


def _noise(key: Tensor, copies: int, like: Tensor) -> Tensor:
    """(N, D) normal noise from a query's own seed: of more copies the first are the same."""
    draw = torch.Generator().manual_seed(int(key))
    rows = [torch.randn(like.shape[1], generator=draw, dtype=torch.float32) for _ in range(copies)]
    return torch.stack(rows).to(like)


def _check_whole(name: str, value: object, least: int) -> None:
    if type(value) is not int or value < least:
        problem = f"explainer.{name} must be a whole number of at least {least}"
        raise InputError(f"{problem}, got {value!r}")


def _check_finite(name: str, value: object) -> None:
    number = isinstance(value, int | float) and not isinstance(value, bool)
    if not number or not 0 <= value < float("inf"):  # type: ignore[operator]  # it is a number
        problem = f"explainer.{name} must be a finite number of at least 0"
        raise InputError(f"{problem}, got {value!r}")
