"""Style codes fitted to the pixels of an image. Ours; STEEX searches from what the style encoder
gives.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from cfexp.explainers.adam import adam


@torch.enable_grad()
def refine_codes(
    decode: Callable[[Tensor], Tensor],
    image: Tensor,
    codes: Tensor,
    num_steps: int,
    learning_rate: float,
) -> Tensor:
    """Codes (N, R, D) after steps of Adam from `codes` (N, R, D), of which `decode` makes images
    nearer to image (N, 3, H, W), by the mean squared error of its pixels; of each query by itself.

    The model that is explained has no say in it. A region that is absent takes no gradient, and
    keeps its code.
    """
    moments = torch.zeros_like(codes), torch.zeros_like(codes)
    for step in range(num_steps):
        codes = codes.detach().requires_grad_()
        error = (decode(codes) - image).square().flatten(1).mean(1)
        (gradient,) = torch.autograd.grad(error.sum(), codes)
        update, moments = adam(gradient, moments, step + 1, learning_rate)
        codes = codes.detach() - update
    return codes.detach()
