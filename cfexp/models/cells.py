"""What networks that join maps from coarse to fine are made of."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.classifiers import coordinates


def check_sides(image: Tensor, divisor: int, name: str) -> None:
    """Raise InputError for images (B, 3, H, W) of which H or W is no multiple of the divisor."""
    if any(side % divisor for side in image.shape[2:]):
        size = "x".join(map(str, image.shape[2:]))
        raise InputError(f"{name} needs sides divisible by {divisor}, got {size}")


def layer(before: int, after: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    """A convolution that keeps sides but for its stride, normalised over the batch, and ReLU."""
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )


def enlarged(features: Tensor, mode: Literal["nearest", "bilinear"]) -> Tensor:
    """Features (B, C, H, W) at twice the sides."""
    align_corners = False if mode == "bilinear" else None
    return F.interpolate(features, scale_factor=2.0, mode=mode, align_corners=align_corners)


def with_places(features: Tensor) -> Tensor:
    """Features (B, C, H, W), and x and y of each cell in [-1, 1] as two more channels."""
    return torch.cat([features, coordinates(features).flip(1)], dim=1)
