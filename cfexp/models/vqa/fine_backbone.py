"""A backbone for photographs in which what is asked about is small: it sees far, and keeps places
apart that lie four pixels from each other.
"""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.cells import check_sides, enlarged, layer, with_places

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
        self.fine = nn.Sequential(layer(3, first, stride=2), layer(first, second, stride=2))
        self.middle = nn.Sequential(layer(second, third, stride=2), layer(third, third))
        self.coarse = nn.Sequential(layer(third, last, stride=2), layer(last, last))
        self.joined = layer(last + third, third, kernel=1)
        self.out = layer(third + second, out, kernel=1)
        self.feature_dim = out + 2 + 3

    def forward(self, image: Tensor) -> Tensor:
        """Feature maps (B, feature_dim, H / 4, W / 4) of images (B, 3, H, W) in [-1, 1].

        The last five channels are x, y in [-1, 1] and red, green, blue in [-1, 1]. Raises
        InputError where H or W is no multiple of 16.
        """
        check_sides(image, _COARSEST, "FineBackbone")
        # Channels last, as ConvBackbone: faster on a CPU.
        image = image.contiguous(memory_format=torch.channels_last)
        fine = self.fine(image)
        middle = self.middle(fine)
        coarse = self.coarse(middle)
        middle = self.joined(torch.cat([enlarged(coarse, "nearest"), middle], dim=1))
        found = self.out(torch.cat([enlarged(middle, "nearest"), fine], dim=1))
        return torch.cat([with_places(found), F.avg_pool2d(image, STRIDE)], dim=1)
