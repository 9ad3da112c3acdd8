"""STEEX (Jacob et al., ECCV 2022, "STEEX: steering counterfactual explanations with semantics"): a search a query,
in the style codes of a frozen semantic-synthesis GAN.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn

from cfexp.data.batch import ImageBatch
from cfexp.errors import InputError
from cfexp.explainers.base import Explainer, Explanation
from cfexp.explainers.search import counter_class_of, search_style_codes
from cfexp.models.pretrained import freeze
from cfexp.models.sean import SEAN
from cfexp.models.sean_fast import FastSEAN


class STEEX(Explainer):
    """Encodes the query, moves its style codes until the decision model decides otherwise, and decodes them.

    decision_model: images (B, 3, H, W) in [-1, 1] -> logits (B, K); explained, and frozen here, as is the autoencoder.
    segmenter: images -> logits (B, R, H, W), predicts the layouts; None = those that the data set gives.
    head: which of K binary heads is explained; None = the only one (K = 1), or K classes that exclude each other.
    class_names: of a head's decision below and above 0, or of the K classes.
    regions: names of the regions that may change; None = all. counter_class: what to ask for, by name; None = the other
    decision, or the second most probable class.
    noise: each query's generator noise comes from a seed of its own and is kept (published: redrawn every step); False
    leaves noise out. num_steps, learning_rate, proximity_weight, early_stop: see `search_style_codes`.
    """

    def __init__(
        self,
        decision_model: nn.Module,
        autoencoder: SEAN,
        segmenter: nn.Module | None = None,
        head: int | None = None,
        class_names: Sequence[str] | None = None,
        regions: Sequence[str] | None = None,
        counter_class: str | None = None,
        num_steps: int = 100,
        learning_rate: float = 0.01,
        proximity_weight: float = 0.3,
        early_stop: bool = False,
        noise: bool = True,
    ) -> None:
        """Raises InputError for a counter class that is none of the names."""
        super().__init__()
        self.decision_model, self.autoencoder = freeze(decision_model), freeze(autoencoder)
        self.segmenter = None if segmenter is None else freeze(segmenter)
        self.head = head
        self.class_names = None if class_names is None else list(class_names)
        self.regions = None if regions is None else list(regions)
        self.num_steps, self.learning_rate, self.proximity_weight = num_steps, learning_rate, proximity_weight
        self.early_stop, self.noise = early_stop, noise
        if counter_class is not None and counter_class not in (self.class_names or []):
            raise InputError(f"counter_class={counter_class!r} is none of the classes {self.class_names}")
        self.counter_class = counter_class
        self.region_mask: Tensor | None = None
        self.generator: FastSEAN | None = None

    def setup(self, stage: str) -> None:
        """Look the regions up; raises InputError for a name that the data set does not have."""
        if self.regions is not None:
            names: Sequence[str] = self.trainer.datamodule.region_names  # type: ignore[attr-defined]
            if unknown := [region for region in self.regions if region not in names]:
                raise InputError(f"regions: {unknown[0]!r} is none of {', '.join(names)}")
            self.region_mask = torch.tensor([name in self.regions for name in names], device=self.device)

    def class_name(self, index: int) -> str:
        """What decision `index` is called."""
        return str(index) if self.class_names is None else self.class_names[index]

    @torch.enable_grad()
    def explain(self, batch: ImageBatch) -> Explanation:
        """One counterfactual for each image of the batch.

        Beside the contract's: `code_distance` (B,), the l2 norm of the codes' change; `region_change` (B, R), of each
        region's; `flip_step` (B,); `reconstruction_class` (B,), what the decision model says of the reconstruction:
        where that is not the query's decision, there is nothing to explain; the two curves of `StyleSearch`.
        """
        if self.generator is None:
            self.generator = FastSEAN(self.autoencoder)
        generator = self.generator
        with torch.no_grad():
            label_map = batch.label_map if self.segmenter is None else self.segmenter(batch.image).argmax(1)
            codes = self.autoencoder.encode(batch.image, label_map)
            layout = generator.prepare(label_map, batch.key.tolist() if self.noise else None)
            reconstruction = generator.decode(codes, layout)
            query_logits = self.decision_model(batch.image)
            reconstruction_logits = self.decision_model(reconstruction)
        if self.counter_class is None:
            counter_class = counter_class_of(query_logits, self.head)
        else:
            assert self.class_names is not None
            counter_class = torch.full_like(batch.key, self.class_names.index(self.counter_class))
        found = search_style_codes(
            lambda moved: generator.decode(moved, layout),
            self.decision_model,
            codes,
            counter_class,
            head=self.head,
            region_mask=self.region_mask,
            num_steps=self.num_steps,
            learning_rate=self.learning_rate,
            proximity_weight=self.proximity_weight,
            early_stop=self.early_stop,
        )
        change = (found.style_codes - codes).norm(dim=2)
        return Explanation(
            query=batch.image,
            reconstruction=reconstruction,
            counterfactual=found.image,
            query_logits=self._classes(query_logits),
            counterfactual_logits=self._classes(found.logits),
            counter_class=counter_class,
            extras={
                "reconstruction_class": self._classes(reconstruction_logits).argmax(1),
                "code_distance": change.norm(dim=1),
                "region_change": change,
                "flip_step": found.flip_step,
                "decision_curve": found.decision_curve,
                "proximity_curve": found.proximity_curve,
            },
        )

    @torch.no_grad()
    def logits(self, image: Tensor, batch: Any) -> Tensor:
        """Logits (B, 2) of a head, or (B, K), on other images."""
        return self._classes(self.decision_model(image))

    def keys(self, batch: ImageBatch) -> Tensor:
        """The places of the images in the part that is explained."""
        return batch.key

    def _classes(self, logits: Tensor) -> Tensor:
        """Logits that exclude each other: of a binary head 0 and its logit."""
        if self.head is None and logits.shape[1] > 1:
            return logits
        logit = logits[:, self.head or 0]
        return torch.stack([torch.zeros_like(logit), logit], dim=1)
