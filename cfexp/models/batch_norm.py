"""Batch normalisation by the statistics of all processes, on CPUs: torch's own, `nn.SyncBatchNorm`,
refuses them.
"""

from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.modules.batchnorm import _BatchNorm

_KINDS: tuple[type[_BatchNorm], ...] = (nn.BatchNorm1d, nn.BatchNorm2d, nn.BatchNorm3d)


class SyncBatchNorm(_BatchNorm):
    """In training over the batches of all processes, which exchange their sums for the mean, then
    for the variance.
    """

    kind: int  # of `_KINDS`, which it was

    def forward(self, features: Tensor) -> Tensor:
        """Normalise (B, C, ...)."""
        if not self.training or not distributed.is_initialized():
            return super().forward(features)
        others = [0, *range(2, features.ndim)]
        shape = [1, -1, *[1] * (features.ndim - 2)]
        count = _summed(features.new_tensor(float(features.numel() // features.shape[1])))
        mean = _summed(features.sum(others)) / count
        centred = features - mean.view(shape)
        variance = _summed(centred.square().sum(others)) / count
        if self.track_running_stats:
            self._track(mean.detach(), variance.detach() * count / (count - 1))
        out = centred * (variance + self.eps).rsqrt().view(shape)
        return out if self.weight is None else out * self.weight.view(shape) + self.bias.view(shape)

    def _check_input_dim(self, features: Tensor) -> None:
        """The one thing in which batch normalisations of images and of vectors differ."""

    @torch.no_grad()
    def _track(self, mean: Tensor, unbiased: Tensor) -> None:
        assert self.num_batches_tracked is not None
        assert self.running_mean is not None
        assert self.running_var is not None
        self.num_batches_tracked.add_(1)
        share = 1 / int(self.num_batches_tracked) if self.momentum is None else self.momentum
        self.running_mean.lerp_(mean, share)
        self.running_var.lerp_(unbiased, share)


def synchronise(module: nn.Module) -> None:
    """Let every batch normalisation in a module be a `SyncBatchNorm`, with the parameters and
    buffers that it has.
    """
    for each in module.modules():
        if type(each) in _KINDS:
            kind = _KINDS.index(type(each))
            each.__class__ = SyncBatchNorm
            each.kind = kind  # type: ignore[assignment]


def desynchronise(module: nn.Module) -> None:
    """Let them be what they were."""
    for each in module.modules():
        if isinstance(each, SyncBatchNorm):
            each.__class__ = _KINDS[each.kind]  # type: ignore[assignment]
            del each.kind


class _Sum(torch.autograd.Function):
    """The sum over all processes; each one's gradient by it is the sum of all, too."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        total = tensor.clone()
        distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.clone(memory_format=torch.contiguous_format)
        distributed.all_reduce(total)
        return total


def _summed(tensor: Tensor) -> Tensor:
    summed: Tensor = _Sum.apply(tensor)  # type: ignore[no-untyped-call]
    return summed
