import copy

import torch
from torch import nn
from torch.nn.utils import parametrizations

from cfexp.models.spectral_norm import spectral_norm


def test_it_is_torchs_with_the_same_numbers_names_and_gradient() -> None:
    ours = nn.Conv2d(5, 7, 3).double()
    theirs = copy.deepcopy(ours)
    for normalise, convolution in (
        (spectral_norm, ours),
        (parametrizations.spectral_norm, theirs),
    ):
        torch.manual_seed(1)
        normalise(convolution)
    images, weights = torch.randn(2, 5, 8, 8).double(), torch.randn(2, 7, 6, 6).double()
    images = images.contiguous(memory_format=torch.channels_last)
    gradients = []
    for convolution in (ours, theirs):
        for _ in range(3):  # steps of the power method
            loss = (convolution(images) * weights).sum()
        gradients.append(torch.autograd.grad(loss, list(convolution.parameters())))
    torch.testing.assert_close(*gradients)
    torch.testing.assert_close(ours.state_dict(), theirs.state_dict())
    assert torch.equal(ours.eval()(images), theirs.eval()(images))
