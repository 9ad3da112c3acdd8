"""Explanation or attack, by a student: whether it turns with the model that taught it."""

import torch
from torch import Tensor

from cfexp.declaration import Shown
from cfexp.evaluation.directions import is_success
from cfexp.evaluation.measure.base import Chunk, Measure
from cfexp.evaluation.measure.networks import Decide
from cfexp.pixel_attack import success_margin


def non_adversarial_rate(student: Decide) -> Measure:
    """The non-adversarial flip rate (SCE, DiDAE): of the pictures that turn the explained model, in
    8 bit, the share that turns its student, too.

    The student turns where it decides the counterfactual as was asked for (where no class was: as
    anything but the query's), and the query not so: a student that was on the other side already
    has not turned. n counts the successes of the explained model.

    student: a model with smooth activations, distilled from the explained one on its own training
        images; images, records -> logits (B, K) of exclusive classes.
    """

    def turned(chunk: Chunk) -> Tensor:
        query_class, counter_class = (
            torch.tensor([record[name] for record in chunk.records])
            for name in ("query_class", "counter_class")
        )
        success = torch.tensor([is_success(record) for record in chunk.records])
        before, after = (
            success_margin(student(images, chunk.records), query_class, counter_class) > 0
            for images in (chunk.query, chunk.counterfactual)
        )
        return torch.where(success, 100.0 * (after & ~before), torch.nan)

    return Measure(
        "non_adversarial_rate",
        turned,
        "%",
        "successes",
        "rate",
        shown=Shown("\nstudent", table=False),
        is_telling=True,
    )
