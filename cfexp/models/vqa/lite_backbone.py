"""A backbone for photographs that knows things from ImageNet: what few photographs cannot teach."""

from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfexp.models.cells import check_sides, enlarged, layer, with_places
from cfexp.models.efficientnet_lite import EfficientNetLite0
from cfexp.models.loading.pretrained import freeze

STRIDE = 4
_COARSEST = 32


class LiteBackbone(nn.Module):
    """Images to maps of stride 4: those of EfficientNet-Lite0 joined from coarse to fine (Lin et
    al. 2017), and beside that each cell's place, mean colour and tints.

    Which garment a cell shows, the joined maps tell; which colour it has, the cell itself. Tints
    are learned soft bins of a pixel's colour, averaged over the cell: what attention gathers of
    them is a histogram of the garment, and of a garment of two colours no mixture that it does not
    have.
    """

    def __init__(
        self,
        width: int = 48,
        tints: int = 32,
        weights: str | None = None,
        tuned: bool = False,
    ) -> None:
        """width: of the joined maps. weights: see `EfficientNetLite0`; InputErrors are its. tuned:
        its blocks of strides 16 and 32 are trained on; the finer ones stay as they are.
        """
        super().__init__()
        self.lite = freeze(EfficientNetLite0(weights))
        self.lite.coarse().requires_grad_(tuned)
        fine, middle, coarse, coarsest = EfficientNetLite0.CHANNELS
        self.coarsest = layer(coarsest, width, kernel=1)
        self.coarse = layer(coarse + width, width)
        self.middle = layer(middle + width, width)
        self.fine = layer(fine + width, width)
        bins = nn.Conv2d(3, tints, 1)
        # The bins' borders begin all over the cube of colours; torch's start has them near grey.
        nn.init.normal_(bins.weight, std=2.0)
        nn.init.uniform_(cast(nn.Parameter, bins.bias), -1.5, 1.5)
        self.tints = nn.Sequential(
            bins,
            nn.ReLU(),
            nn.Conv2d(tints, tints, 1),
            nn.BatchNorm2d(tints),
            nn.ReLU(),
            nn.AvgPool2d(STRIDE),
        )
        self.feature_dim = width + 2 + 3 + tints

    def train(self, mode: bool = True) -> "LiteBackbone":
        """As usual; but EfficientNet's statistics stay ImageNet's."""
        super().train(mode)
        self.lite.eval()
        return self

    def forward(self, image: Tensor) -> Tensor:
        """Feature maps (B, feature_dim, H / 4, W / 4) of images (B, 3, H, W) in [-1, 1].

        The last channels are x, y in [-1, 1], red, green, blue in [-1, 1], and the tints. Raises
        InputError where H or W is no multiple of 32.
        """
        check_sides(image, _COARSEST, "LiteBackbone")
        # Channels last, as ConvBackbone: faster on a CPU.
        image = image.contiguous(memory_format=torch.channels_last)
        fine, middle, coarse, coarsest = self.lite(image)
        joined = self.coarse(
            torch.cat([enlarged(self.coarsest(coarsest), "bilinear"), coarse], dim=1)
        )
        joined = self.middle(torch.cat([enlarged(joined, "bilinear"), middle], dim=1))
        joined = self.fine(torch.cat([enlarged(joined, "bilinear"), fine], dim=1))
        mean = F.avg_pool2d(image, STRIDE)
        return torch.cat([with_places(joined), mean, self.tints(image)], dim=1)
