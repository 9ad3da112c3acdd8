"""Style codes fitted to the pixels of an image. Ours; STEEX searches from what the style encoder
gives.
"""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from cfexp.explainers.adam import adam
from cfexp.explainers.steex.search import AT_ONCE
from cfexp.models.sean.fast import FastSEAN, PreparedLabelMaps


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
        with torch.autocast(codes.device.type, enabled=False):  # see `Objective`
            error = (decode(codes) - image).square().flatten(1).mean(1)
            (gradient,) = torch.autograd.grad(error.sum(), codes)
        update, moments = adam(gradient, moments, step + 1, learning_rate)
        codes = codes.detach() - update
    return codes.detach()


def refine_some(
    generator: FastSEAN,
    prepared: PreparedLabelMaps,
    image: Tensor,
    codes: Tensor,
    some: Tensor,
    num_steps: int,
    learning_rate: float,
) -> Tensor:
    """The codes (B, R, D) of images (B, 3, H, W), of which those where `some` (B,) bool holds are
    refined, by the generator and its label maps; see `refine_codes`.
    """
    codes = codes.clone()
    for rows in torch.split(some.nonzero()[:, 0], AT_ONCE):
        decode = partial(generator.decode, prepared=generator.of(prepared, rows))
        codes[rows] = refine_codes(decode, image[rows], codes[rows], num_steps, learning_rate)
    return codes
