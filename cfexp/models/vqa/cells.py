"""What backbones of small cells are made of."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfexp.errors import InputError


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


def enlarged(features: Tensor) -> Tensor:
    """Features (B, C, H, W) at twice the sides."""
    return F.interpolate(features, scale_factor=2.0, mode="bilinear", align_corners=False)


def with_places(features: Tensor) -> Tensor:
    """Features (B, C, H, W), and x and y of each cell in [-1, 1] as two more channels."""
    height, width = features.shape[2:]
    y = torch.linspace(-1, 1, height).to(features)[:, None].expand(height, width)
    x = torch.linspace(-1, 1, width).to(features).expand(height, width)
    return torch.cat([features, torch.stack([x, y]).expand(len(features), -1, -1, -1)], dim=1)
