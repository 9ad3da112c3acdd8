"""LPIPS (Zhang et al. 2018), with AlexNet: how far apart people find two pictures."""

from collections.abc import Mapping
from itertools import pairwise

import torch
from torch import Tensor, nn

from cfexp.models.backbones import torchvision_network
from cfexp.models.loading.state_dicts import fill_places

# Of images in [-1, 1]: ImageNet's mean and deviation on that scale.
SHIFT, SCALE = (-0.030, -0.088, -0.188), (0.458, 0.448, 0.450)


class LPIPS(nn.Module):
    """Squared differences of AlexNet's five maps, each position's features made of length 1,
    weighted by channel.
    """

    LAYERS = (0, 2, 5, 8, 10, 12)  # between two of these lies what leads to one of the five maps
    CHANNELS = (64, 192, 384, 256, 256)
    shift: Tensor
    scale: Tensor

    def __init__(self) -> None:
        super().__init__()
        layers = list(torchvision_network("alexnet", None).get_submodule("features").children())
        # Not in place, which would change the map before it.
        layers = [nn.ReLU() if isinstance(layer, nn.ReLU) else layer for layer in layers]
        self.parts = nn.ModuleList(
            nn.Sequential(*layers[first:last]) for first, last in pairwise(self.LAYERS)
        )
        self.heads = nn.ModuleList(
            nn.Conv2d(channels, 1, 1, bias=False) for channels in self.CHANNELS
        )
        self.register_buffer("shift", torch.tensor(SHIFT)[:, None, None], persistent=False)
        self.register_buffer("scale", torch.tensor(SCALE)[:, None, None], persistent=False)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """(B,) from 0, of two batches of images (B, 3, H, W) in [-1, 1]."""
        maps = [(images - self.shift) / self.scale for images in (first, second)]
        distance = torch.zeros(len(first), device=first.device)
        for part, head in zip(self.parts, self.heads, strict=True):
            maps = [part(each) for each in maps]
            first_unit, second_unit = (
                each / (each.square().sum(1, keepdim=True) + 1e-8).sqrt() for each in maps
            )
            distance = distance + head((first_unit - second_unit).square()).mean((1, 2, 3))
        return distance


def lpips_from_released(alexnet: Mapping[str, Tensor], heads: Mapping[str, Tensor]) -> LPIPS:
    """LPIPS of torchvision's AlexNet and of the released weights of the channels, in evaluation
    mode.

    Raises InputError naming the keys that are missing, left over or misshaped.
    """
    network = LPIPS()
    places = {
        f"features.{first + int(number)}.{kind}": place
        for first, part in zip(network.LAYERS, network.parts, strict=False)
        for (number, kind), place in (
            (key.split("."), value) for key, value in part.state_dict().items()
        )
    }
    convolutions = {
        key: tensor for key, tensor in alexnet.items() if not key.startswith("classifier.")
    }
    fill_places(places, convolutions, "AlexNet's features")
    of_heads = {
        f"lin{number}.model.1.weight": head.state_dict()["weight"]
        for number, head in enumerate(network.heads)
    }
    fill_places(of_heads, heads, "the heads of LPIPS")
    return network.eval()
