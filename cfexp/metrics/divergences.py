"""How far distributions over classes are from each other, in bounded numbers."""

import torch
import torch.nn.functional as F
from torch import Tensor

from cfexp.tensors import check_shapes, check_values


def binary_jensen_shannon(before: Tensor, after: Tensor) -> Tensor:
    """The Jensen-Shannon divergence of each of K yes-or-no distributions from another: (B, K) in
    [0, 1] bits.

    before, after: logits (B, K) of yes. Raises ValueError for other shapes, NaN and infinity.
    """
    check_shapes(before=(before, "B K"), after=(after, "B K"))
    check_values(before=before, after=after)
    # Of no and yes; in double, for the differences of small numbers.
    first, second = (
        torch.stack([F.logsigmoid(-logits), F.logsigmoid(logits)]).double()
        for logits in (before, after)
    )
    middle = torch.logaddexp(first, second) - torch.tensor(2.0, dtype=torch.float64).log()
    divergences = [(each.exp() * (each - middle)).sum(0) for each in (first, second)]
    nats = (divergences[0] + divergences[1]) / 2
    return (nats / torch.tensor(2.0, dtype=torch.float64).log()).clamp(0, 1)


def bounded_kl(asked: Tensor, logits: Tensor) -> Tensor:
    """The Kullback-Leibler divergence of what a model says from what it was asked for, as
    1 - exp(-KL): (B,) in [0, 1], 0 where they are the same.

    Of a class asked for with certainty it is 1 less the probability of that class.

    asked: probabilities (B, K); logits: (B, K). Raises ValueError for other shapes, NaN and
    infinity, and for rows that do not sum to 1.
    """
    check_shapes(asked=(asked, "B K"), logits=(logits, "B K"))
    check_values(0, 1, asked=asked)
    check_values(logits=logits)
    wanted = asked.double()
    if not torch.allclose(wanted.sum(1), torch.ones(len(wanted), dtype=torch.float64), atol=1e-5):
        raise ValueError("asked must be probabilities that sum to 1")
    surprise = torch.special.xlogy(wanted, wanted) - wanted * logits.double().log_softmax(1)
    return -torch.expm1(-surprise.sum(1).clamp(min=0))
