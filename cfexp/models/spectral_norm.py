"""Spectral norm (Miyato et al. 2018) by torch's parametrization, with its step of the power method
and its gradient as one step of autograd each: of a small network torch's many small ones take as
long as the convolutions themselves.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.parametrizations import _SpectralNorm


def spectral_norm(convolution: nn.Conv2d) -> None:
    """Divide a convolution's weight by its largest singular value, as torch's function of this name
    does: the same numbers, buffers and names.
    """
    parametrize.register_parametrization(convolution, "weight", SpectralNorm(convolution.weight))


class SpectralNorm(_SpectralNorm):
    """Torch's, with another gradient's code."""

    def forward(self, weight: Tensor) -> Tensor:
        """The normalised weight (out, ...); in training after a step of the power method."""
        if self.training:
            self._power_method(weight.flatten(1), self.n_power_iterations)
        normed: Tensor = _Normed.apply(weight, self._u.clone(), self._v.clone())  # type: ignore[no-untyped-call]  # torch's own
        return normed


class _Normed(torch.autograd.Function):
    """W / sigma with sigma = u W v, whose gradient by W is u v."""

    @staticmethod
    def forward(ctx: Any, weight: Tensor, left: Tensor, right: Tensor) -> Tensor:
        sigma = left.dot(weight.flatten(1).mv(right))
        normed = weight / sigma
        ctx.save_for_backward(normed, left, right, sigma)
        return normed

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        normed, left, right, sigma = ctx.saved_tensors
        # A convolution on channels_last gives it in another memory format than the weight has.
        rows = gradient.contiguous().flatten(1)
        along = rows.flatten().dot(normed.flatten())
        return (rows.addr(left * -along, right) / sigma).view(normed.shape), None, None
