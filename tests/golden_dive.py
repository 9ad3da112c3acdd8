"""What the published DiVE computed, and the networks, images and classifier that it computed it of.

Weights are a function of their names (`golden_weights`); so is the classifier, of its pixels.
"""

from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

from cfexp.models.released_dive import published_names, tcvae_from_released
from cfexp.models.tcvae import TCVAE
from tests.golden_weights import GOLDEN, fill, read_shapes

GAIN = 20.0
EXPLAINED = 31  # of 40 outputs


@cache
def golden() -> dict[str, Any]:
    """Every array: numbers as float64 tensors, names as they are."""
    with np.load(GOLDEN / "dive.npz") as arrays:
        return {
            name: array if array.dtype.kind == "U" else torch.from_numpy(array).double()
            for name, array in arrays.items()
        }


@cache
def _weights(name: str) -> dict[str, Tensor]:
    return fill(read_shapes(f"dive_{name}_keys.txt"))


class World(NamedTuple):
    """The faces or the streets."""

    name: str

    def arrays(self) -> dict[str, Any]:
        """The arrays of this world alone."""
        prefix = f"{self.name}_"
        return {key.removeprefix(prefix): value for key, value in golden().items()}

    def images(self) -> Tensor:
        """(B, 3, H, W) float64 in [-1, 1]."""
        images: Tensor = golden()[f"{self.name}_image"] / 127.5 - 1
        return images

    def weights(self) -> dict[str, Tensor]:
        """The published names."""
        return dict(_weights(self.name))

    def network(self) -> TCVAE:
        """In float64."""
        _, _, height, width = self.images().shape
        return tcvae_from_released(self.weights(), (height, width)).double()


FACES, STREETS = World("faces"), World("streets")


class Patterns(nn.Module):
    """logits_k = 20 * mean of pattern_k * (x + x^2 / 2), where pattern_k is of cosines."""

    def __init__(self, height: int, width: int, classes: int = 40) -> None:
        super().__init__()
        rows = (torch.arange(height, dtype=torch.float64) + 0.5) / height
        columns = (torch.arange(width, dtype=torch.float64) + 0.5) / width
        index = torch.arange(classes, dtype=torch.float64)[:, None]
        waves = (
            torch.cos(torch.pi * (index % 8) * rows)[:, :, None]
            * torch.cos(torch.pi * (index // 8) * columns)[:, None]
        )
        of_channel = torch.where(torch.arange(3) == torch.arange(classes)[:, None] % 3, 1.0, 0.5)
        self.register_buffer("pattern", waves[:, None] * of_channel[..., None, None].double())
        self.pattern: Tensor

    def forward(self, images: Tensor) -> Tensor:
        """Images (B, 3, H, W) in [-1, 1] to logits (B, K)."""
        bent = images + images.square() / 2
        pattern = self.pattern.to(images)
        return GAIN * torch.einsum("bchw,kchw->bk", bent, pattern) / pattern[0].numel()


def perceptual_network() -> dict[str, Tensor]:
    """The convolutions of VGG16, by torchvision's names."""
    channels, index, shapes = 3, 0, dict[str, tuple[int, ...]]()
    for count, more in ((2, 64), (2, 128), (3, 256), (3, 512)):
        for _ in range(count):
            shapes[f"features.{index}.weight"] = (more, channels, 3, 3)
            shapes[f"features.{index}.bias"] = (more,)
            channels, index = more, index + 2
        index += 1
    return fill(shapes)


def published_gradients(network: TCVAE, loss: Tensor) -> dict[str, float]:
    """The l2 norm of each parameter's gradient, by its published name."""
    ours = dict(network.named_parameters())
    named = {
        theirs: ours[name] for theirs, name in published_names(network).items() if name in ours
    }
    gradients = torch.autograd.grad(loss, list(named.values()))
    return {name: float(each.norm()) for name, each in zip(named, gradients, strict=True)}


def close(found: Tensor, expected: Tensor, tolerance: float = 1e-10) -> None:
    """Within a tolerance of the largest magnitude."""
    assert found.shape == expected.shape
    scale = float(expected.abs().max())
    assert float((found.detach() - expected).abs().max()) <= tolerance * scale
