"""A backbone for photographs in which what is asked about is small: it sees far, and keeps places
apart that lie four pixels from each other.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfexp.errors import InputError

STRIDE = 4
_COARSEST = 16


class FineBackbone(nn.Module):
    """64-pixel images to 16x16 maps: a small U-Net down to 4x4, and beside what it finds each
    cell's mean colour and its place.

    Which garment a cell shows, its surroundings tell; which colour it has, the cell itself. With
    the mean colour among the features a name is a linear reading of what attention gathers.
    """

    def __init__(self, widths: Sequence[int] = (24, 48, 64, 96, 48)) -> None:
        """widths: of the levels of stride 2, 4, 8 and 16, and of what leaves. Raises InputError for
        another number of them.
        """
        super().__init__()
        if len(widths) != 5:
            raise InputError(f"widths must name 5 layers, got {list(widths)}")
        first, second, third, last, out = widths
        self.fine = nn.Sequential(_layer(3, first, stride=2), _layer(first, second, stride=2))
        self.middle = nn.Sequential(_layer(second, third, stride=2), _layer(third, third))
        self.coarse = nn.Sequential(_layer(third, last, stride=2), _layer(last, last))
        self.joined = _layer(last + third, third, kernel=1)
        self.out = _layer(third + second, out, kernel=1)
        self.feature_dim = out + 2 + 3

    def forward(self, image: Tensor) -> Tensor:
        """Feature maps (B, feature_dim, H / 4, W / 4) of images (B, 3, H, W) in [-1, 1].

        The last five channels are x, y in [-1, 1] and red, green, blue in [-1, 1]. Raises
        InputError where H or W is no multiple of 16.
        """
        if any(side % _COARSEST for side in image.shape[2:]):
            size = "x".join(map(str, image.shape[2:]))
            raise InputError(f"FineBackbone needs sides divisible by {_COARSEST}, got {size}")
        # Channels last, as ConvBackbone: faster on a CPU.
        image = image.contiguous(memory_format=torch.channels_last)
        fine = self.fine(image)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = self.joined(torch.cat([_enlarged(coarse), middle], dim=1))
        found = self.out(torch.cat([_enlarged(middle), fine], dim=1))
        height, width = found.shape[2:]
        y = torch.linspace(-1, 1, height).to(found)[:, None].expand(height, width)
        x = torch.linspace(-1, 1, width).to(found).expand(height, width)
        places = torch.stack([x, y]).expand(len(found), -1, -1, -1)
        return torch.cat([found, places, F.avg_pool2d(image, STRIDE)], dim=1)


def _layer(before: int, after: int, stride: int = 1, kernel: int = 3) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(before, after, kernel, stride=stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(after),
        nn.ReLU(),
    )


def _enlarged(features: Tensor) -> Tensor:
    return F.interpolate(features, scale_factor=2.0, mode="nearest")
