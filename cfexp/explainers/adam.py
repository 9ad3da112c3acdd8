"""A step of Adam (Kingma and Ba 2015) as a function, for searches whose queries start and stop each
by itself.
"""

import math

import torch
from torch import Tensor

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-8  # torch's defaults


def adam(
    gradient: Tensor, moments: tuple[Tensor, Tensor], step: int, learning_rate: float
) -> tuple[Tensor, tuple[Tensor, Tensor]]:
    """What Adam takes off the codes at step 1, 2 ..., and the running means of the gradient and of
    its square.
    """
    mean = torch.lerp(gradient, moments[0], BETA_1)
    variance = torch.lerp(gradient.square(), moments[1], BETA_2)
    size = learning_rate / (1 - BETA_1**step)
    return size * mean / (variance.sqrt() / math.sqrt(1 - BETA_2**step) + EPSILON), (mean, variance)
