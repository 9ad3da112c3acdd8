"""Networks that a perceptual loss compares images in: images -> feature maps."""

from itertools import pairwise

from torch import Tensor, nn

from cfexp.models.backbones import torchvision_network
from cfexp.models.classifiers import SmoothClassifier
from cfexp.models.judges.self_supervised import IMAGENET_MEAN, IMAGENET_STD


class ClassifierFeatures(nn.Module):
    """The maps of every block of a small classifier; one trained on the task sees what the task is
    about.
    """

    def __init__(self, classifier: SmoothClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> list[Tensor]:
        """One map a block, from full size down, of images (B, 3, H, W) in [-1, 1]."""
        return self.classifier.feature_maps(images)


class VGG19Features(nn.Module):
    """VGG19's feature maps at relu1_1, relu2_1, relu3_1, relu4_1 and relu5_1, as SEAN's training
    compares them (Zhu et al. 2020).

    As published, images are fed as they come, in [-1, 1], without ImageNet's normalisation.

    weights: see `torchvision_network`; None for a random start or a file loaded later.
    """

    LAYERS = (0, 2, 7, 12, 21, 30)  # between two of these lies what leads to one of the five maps
    WEIGHTS = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1.0)  # of the maps in the loss, as published

    def __init__(self, weights: str | None = None) -> None:
        """Raises InputError as `torchvision_network`."""
        super().__init__()
        layers = list(torchvision_network("vgg19", weights).get_submodule("features").children())
        self.parts = nn.ModuleList(
            nn.Sequential(*layers[first:last]) for first, last in pairwise(self.LAYERS)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Five feature maps of images (B, 3, H, W) in [-1, 1], the first of their size."""
        maps: list[Tensor] = []
        for part in self.parts:
            images = part(
                images
            )  # begins with a convolution, so that its ReLU in place spares what was returned
            maps.append(images)
        return maps


class VGG16Features(nn.Module):
    """VGG16's feature maps at relu1_2, relu2_2, relu3_3 and relu4_3, as DiVE's training compares
    them (Rodriguez et al. 2021), each with weight 1.

    Images are normalised by ImageNet's mean and standard deviation.

    weights: see `torchvision_network`; None for a random start or a file loaded later.
    """

    LAYERS = (0, 4, 9, 16, 23)

    def __init__(self, weights: str | None = None) -> None:
        """Raises InputError as `torchvision_network`."""
        super().__init__()
        layers = list(torchvision_network("vgg16", weights).get_submodule("features").children())
        self.parts = nn.ModuleList(
            nn.Sequential(*layers[first:last]) for first, last in pairwise(self.LAYERS)
        )

    def forward(self, images: Tensor) -> list[Tensor]:
        """Four feature maps of images (B, 3, H, W) in [-1, 1], the first of their size."""
        mean, std = (
            images.new_tensor(each)[:, None, None] for each in (IMAGENET_MEAN, IMAGENET_STD)
        )
        images = ((images + 1) / 2 - mean) / std
        maps: list[Tensor] = []
        for part in self.parts:
            images = part(images)  # begins with a convolution, or a pooling: see VGG19Features
            maps.append(images)
        return maps
