"""SimSiam (Chen & He 2021), in whose features S3 (Jeanneret et al. 2023) compares a counterfactual
with its query.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from cfexp.models.backbones import torchvision_network
from cfexp.models.loading.pretrained import unwrapped
from cfexp.models.loading.state_dicts import fill_places

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
DIMENSION = 2048


class SimSiamEncoder(nn.Module):
    """SimSiam's ResNet50 with its projector of three layers; the predictor behind it is unused."""

    mean: Tensor
    std: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.encoder = torchvision_network("resnet50", None)
        self.encoder.fc = nn.Sequential(
            *(nn.Linear(DIMENSION, DIMENSION, bias=False), nn.BatchNorm1d(DIMENSION), nn.ReLU()),
            *(nn.Linear(DIMENSION, DIMENSION, bias=False), nn.BatchNorm1d(DIMENSION), nn.ReLU()),
            *(nn.Linear(DIMENSION, DIMENSION), nn.BatchNorm1d(DIMENSION, affine=False)),
        )
        self.register_buffer("mean", torch.tensor(IMAGENET_MEAN)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(IMAGENET_STD)[:, None, None], persistent=False)

    def features(self, images: Tensor) -> Tensor:
        """(B, 2048) of images (B, 3, H, W) in [-1, 1], of their own size, as published."""
        features: Tensor = self.encoder(((images + 1) / 2 - self.mean) / self.std)
        return features

    def forward(self, images: Tensor) -> Tensor:
        """As `features`."""
        return self.features(images)


def simsiam_from_released(state_dict: Mapping[str, Tensor]) -> SimSiamEncoder:
    """The encoder of SimSiam's `checkpoint_0099.pth.tar`, in evaluation mode.

    Raises InputError naming the keys that are missing, left over or misshaped.
    """
    network = SimSiamEncoder()
    kept = {
        key: tensor
        for key, tensor in unwrapped(state_dict).items()
        if not key.startswith("predictor.")
    }
    fill_places(network.state_dict(), kept, "SimSiam's encoder")
    return network.eval()
