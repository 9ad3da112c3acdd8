"""Networks that a perceptual loss compares images in: images -> feature maps."""

import torchvision
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.classifiers import SmoothClassifier


class ClassifierFeatures(nn.Module):
    """The maps of every block of a small classifier; one trained on the task sees what the task is about."""

    def __init__(self, classifier: SmoothClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> list[Tensor]:
        """One map a block, from full size down, of images (B, 3, H, W) in [-1, 1]."""
        return self.classifier.feature_maps(images)


class VGG19Features(nn.Module):
    """relu1_1 ... relu5_1 of torchvision's VGG19, as SEAN's training compares them (Zhu et al. 2020).

    Images go in as they come, in [-1, 1], without ImageNet's normalisation: as published.
    weights: torchvision's name ("IMAGENET1K_V1"; downloaded), or None for a random start or a file loaded later.
    """

    def __init__(self, weights: str | None = "IMAGENET1K_V1") -> None:
        """Raises InputError for weights that torchvision does not have."""
        super().__init__()
        try:
            layers = torchvision.models.vgg19(weights=weights).features
        except (ValueError, KeyError) as error:
            raise InputError(f"torchvision has no VGG19 with weights={weights}: {error}") from None
        # Up to and with relu1_1, relu2_1, relu3_1, relu4_1, relu5_1.
        ends = (2, 7, 12, 21, 30)
        self.parts = nn.ModuleList(layers[start:end] for start, end in zip((0, *ends), ends, strict=False))

    def forward(self, images: Tensor) -> list[Tensor]:
        """The five maps of images (B, 3, H, W) in [-1, 1]."""
        maps: list[Tensor] = []
        for part in self.parts:
            maps.append(part(maps[-1] if maps else images))
        return maps
