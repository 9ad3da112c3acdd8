"""The attack in the pixels (projected gradient descent, Madry et al., ICLR 2018) as an explainer.

Every explanation is held against it: it changes the decision, too, by an edit that is small in
each pixel and means nothing to a person.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from cfexp.data.batch import ImageBatch
from cfexp.declaration import Column, Shown
from cfexp.errors import InputError
from cfexp.explainers.base import Explanation, eight_bit
from cfexp.explainers.classifier import ClassifierExplainer
from cfexp.pixel_attack import projected_gradient, success_margin


class PGD(ClassifierExplainer):
    """Attacks each query with the smallest of several epsilons that changes the decision of the
    8-bit image.

    Args:
        epsilons: the largest change of a value, in grey levels of 255; ascending. Where none
            suffices the last counts.
        num_steps: of the attack, for each epsilon; see `projected_gradient`, also for what deviates
            from the paper.
        settings: see `ClassifierExplainer`.

    Raises:
        InputError: for epsilons that are not ascending and above 0, and for less than one step.

    """

    called = "PGD"
    columns = (
        Column(
            "epsilon",
            "the largest change of a value that was allowed",
            unit="of 255",
            summary="mean",
            counted="successful attacks",
            successes_only=True,
            shown=Shown("epsilon\nof 255"),
        ),
    )

    def __init__(
        self,
        *,
        epsilons: Sequence[float] = (1, 2, 4, 8, 16, 32),
        num_steps: int = 40,
        **settings: Any,
    ) -> None:
        super().__init__(**settings)
        self.epsilons, self.num_steps = list(epsilons), num_steps
        if (
            not self.epsilons
            or self.epsilons != sorted(set(self.epsilons))
            or self.epsilons[0] <= 0
        ):
            raise InputError(
                f"explainer.epsilons must be ascending and above 0, got {self.epsilons}"
            )
        if num_steps < 1:
            raise InputError(f"explainer.num_steps must be at least 1, got {num_steps}")

    @torch.enable_grad()
    def explain(self, batch: ImageBatch) -> Explanation:
        """One attacked image for each image of the batch; its `label_map` is the batch's."""
        with torch.no_grad():
            logits = self.decide(batch.image)
        query_logits, counter_class = self.exclusive(logits), self.asked_for(logits)
        query_class = query_logits.argmax(1)
        found, epsilons = batch.image.clone(), torch.zeros(len(batch.image), device=self.device)
        left = torch.arange(len(found), device=self.device)
        for epsilon in self.epsilons:
            asked = query_class[left], counter_class[left]
            found[left] = projected_gradient(
                self._decisions,
                batch.image[left],
                *asked,
                epsilon=epsilon,
                num_steps=self.num_steps,
            )
            epsilons[left] = epsilon
            failed = success_margin(self.logits(eight_bit(found[left]), batch), *asked) <= 0
            left = left[failed]
            if not len(left):
                break
        return Explanation(
            query=batch.image,
            reconstruction=batch.image,
            counterfactual=found,
            query_logits=query_logits,
            counterfactual_logits=self.logits(found, batch),
            counter_class=counter_class,
            extras={"epsilon": epsilons, "label_map": batch.label_map},
        )

    def _decisions(self, image: Tensor) -> Tensor:
        return self.exclusive(self.decide(image))
