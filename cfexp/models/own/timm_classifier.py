"""Classifiers of timm, normalised as they say themselves."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.loading.pretrained import freeze


def timm_network(arch: str, num_outputs: int) -> nn.Module:
    """A network of timm with so many outputs, untrained; raises InputError for another arch, and
    without timm.
    """
    try:
        import timm
    except ImportError:
        raise InputError(
            "+decision=timm needs timm: pip install 'cfexp[timm]', or timm itself"
        ) from None
    if not timm.is_model(arch):
        near = ", ".join(timm.list_models(f"*{arch[:6]}*")[:5]) or "resnet50, vit_tiny_patch16_224"
        raise InputError(f"decision.arch={arch} is none of timm's models, such as {near}")
    network: nn.Module = timm.create_model(arch, pretrained=False, num_classes=num_outputs)
    return freeze(network)


class NormalisedAsTimm(nn.Module):
    """A network of timm for RGB images (B, 3, H, W) in [0, 1]: resized and normalised by the
    model's own settings.

    network: whose `pretrained_cfg` has mean, std, input_size and interpolation.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        settings: Any = network.pretrained_cfg
        self.size = (int(settings["input_size"][1]), int(settings["input_size"][2]))
        self.mode = "bicubic" if settings.get("interpolation") == "bicubic" else "bilinear"
        self.register_buffer(
            "mean", torch.tensor(settings["mean"])[:, None, None], persistent=False
        )
        self.register_buffer("std", torch.tensor(settings["std"])[:, None, None], persistent=False)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K)."""
        if tuple(images.shape[2:]) != self.size:
            images = F.interpolate(images, self.size, mode=self.mode, antialias=True)
        logits: Tensor = self.network((images - self.mean) / self.std)
        return logits
