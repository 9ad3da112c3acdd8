"""The attack in the pixels that explanations are compared with: as an explainer, and as a measure
of equal success.
"""

from collections.abc import Callable

import torch
from torch import Tensor

LEVEL = 1 / 127.5  # a grey level of an 8-bit picture, for images in [-1, 1]


def success_margin(logits: Tensor, query_class: Tensor, counter_class: Tensor) -> Tensor:
    """By how much a decision is what was asked for, (B,) in logits: positive once it is.

    logits: (B, K) of classes that exclude each other. query_class, counter_class: (B,) int64; where
    the latter is -1, any class but the query's will do.
    """
    asked = torch.where(counter_class < 0, query_class, counter_class)[:, None]
    lead = logits.gather(1, asked)[:, 0] - logits.scatter(1, asked, -torch.inf).amax(1)
    return torch.where(counter_class < 0, -lead, lead)


def projected_gradient(
    decide: Callable[[Tensor], Tensor],
    query: Tensor,
    query_class: Tensor,
    counter_class: Tensor,
    *,
    epsilon: float,
    num_steps: int = 40,
) -> Tensor:
    """Projected gradient descent in the pixels (Madry et al. 2018), within `epsilon` grey levels of
    each: (B, 3, H, W).

    Deviations: it starts from the query itself, so that it can be repeated, and follows the margin,
    whose gradient does not vanish where the model is certain. The steps are of 2.5 epsilon /
    num_steps, as there.

    decide: images in [-1, 1] to logits (B, K); its networks must be frozen. query: (B, 3, H, W) in
    [-1, 1].
    """
    bound = epsilon * LEVEL
    image = query
    for _ in range(num_steps):
        image = image.detach().requires_grad_()
        with torch.enable_grad():
            margin = success_margin(decide(image), query_class, counter_class)
            (gradient,) = torch.autograd.grad(margin.sum(), [image])
        moved = image.detach() + 2.5 * bound / num_steps * gradient.sign()
        image = (query + (moved - query).clamp(-bound, bound)).clamp(-1, 1)
    return image.detach()
