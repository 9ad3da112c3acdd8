"""A segmenter and a classifier for photographs, that begin from what ImageNet has taught."""

from collections.abc import Sequence
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.cells import enlarged, layer
from cfexp.models.classifiers import coordinates
from cfexp.models.efficientnet_lite import EfficientNetLite0

_COARSEST = 32  # the stride of EfficientNet-Lite0's last map


class LiteSegmenter(nn.Module):
    """A segmenter over EfficientNet-Lite0, whose maps are joined from coarse to fine (Lin et al.
    2017), then with convolutions of the image itself at half and at full size.

    A few hundred label maps teach a network that begins at random little of hats and glasses;
    one that knows ImageNet needs fewer. All of it is trained.

    num_regions: R. width: channels at full size; twice as many at half size and below. weights: see
    `EfficientNetLite0`; None for a random start or a file loaded later; InputErrors are its.
    """

    def __init__(self, num_regions: int, width: int = 16, weights: str | None = None) -> None:
        super().__init__()
        self.lite = EfficientNetLite0(weights)
        fine, middle, coarse, coarsest = EfficientNetLite0.CHANNELS
        joined = 2 * width
        self.coarse = layer(coarsest + coarse, 2 * joined)
        self.middle = layer(2 * joined + middle, joined)
        self.fine = layer(joined + fine, joined)
        # Left and right eye look alike: where a pixel is, is told beside its colour.
        self.full_size = layer(5, width)
        self.half_size = layer(width, joined, stride=2)
        self.decode_half = layer(2 * joined, joined)
        self.decode_full = layer(joined + width, width)
        self.classifier = nn.Conv2d(width, num_regions, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, R, H, W) of images (B, 3, H, W) in [-1, 1]. Raises InputError where H or W is
        no multiple of 32.
        """
        _check_sides(images, type(self).__name__)
        images = images.contiguous(memory_format=torch.channels_last)  # faster on a CPU
        fine, middle, coarse, coarsest = self.lite(images)
        full = self.full_size(torch.cat([images, coordinates(images)], dim=1))
        half = self.half_size(full)
        joined = self.coarse(torch.cat([enlarged(coarsest, "nearest"), coarse], dim=1))
        joined = self.middle(torch.cat([enlarged(joined, "nearest"), middle], dim=1))
        joined = self.fine(torch.cat([enlarged(joined, "nearest"), fine], dim=1))
        half = self.decode_half(torch.cat([enlarged(joined, "nearest"), half], dim=1))
        full = self.decode_full(torch.cat([enlarged(half, "nearest"), full], dim=1))
        logits: Tensor = self.classifier(full)
        return logits


class LiteClassifier(nn.Module):
    """A classifier over EfficientNet-Lite0, all of which is trained: linear in what its maps of
    strides 16 and 32 hold at each of `grid` x `grid` places, as faces are aligned.

    num_outputs: K heads, or classes. weights: see `EfficientNetLite0`; None for a random start or a
    file loaded later; InputErrors are its. image_size: (H, W), multiples of 32, at which it looks;
    images are resized bilinearly; None = as they come. dropout: of what the heads see, in training.
    crop: (top, left, bottom, right), shares of an image's height and width: what lies outside is
    not seen, and what lies inside is what is resized; of aligned faces the cheapest way to look at
    the face. None = all of the image.
    """

    def __init__(
        self,
        num_outputs: int = 1,
        weights: str | None = None,
        image_size: Sequence[int] | None = None,
        grid: int = 4,
        dropout: float = 0.2,
        crop: Sequence[float] | None = None,
    ) -> None:
        """Raises InputError for a crop that is none."""
        super().__init__()
        self.lite = EfficientNetLite0(weights)
        self.crop = None if crop is None else _checked_crop(crop)
        self.image_size = None if image_size is None else tuple(image_size)
        self.grid = grid
        _, _, coarse, coarsest = EfficientNetLite0.CHANNELS
        self.classifier = nn.Sequential(
            nn.Dropout(dropout), nn.Linear((coarse + coarsest) * grid**2, num_outputs)
        )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, K) of images (B, 3, H, W) in [-1, 1]. Raises InputError where H or W, as it
        looks at them, is no multiple of 32.
        """
        if self.crop is not None:
            height, width = images.shape[2:]
            top, left, bottom, right = self.crop
            rows = slice(round(top * height), round(bottom * height))
            images = images[:, :, rows, round(left * width) : round(right * width)]
        if self.image_size not in (None, images.shape[2:]):
            images = F.interpolate(images, self.image_size, mode="bilinear", align_corners=False)
        _check_sides(images, type(self).__name__)
        maps = self.lite(images.contiguous(memory_format=torch.channels_last))[2:]
        seen = [F.adaptive_avg_pool2d(each, self.grid).flatten(1) for each in maps]
        logits: Tensor = self.classifier(torch.cat(seen, dim=1))
        return logits

    def shift(self, by: Tensor) -> None:
        """Add (K,) to all logits from now on."""
        with torch.no_grad():
            cast(Tensor, self.classifier[1].bias).add_(by)


def _checked_crop(crop: Sequence[float]) -> tuple[float, float, float, float]:
    sides = tuple(crop)
    if len(sides) == 4:
        top, left, bottom, right = sides
        if 0 <= top < bottom <= 1 and 0 <= left < right <= 1:
            return top, left, bottom, right
    problem = "crop must be top, left, bottom, right in 0..1, with top < bottom and left < right"
    raise InputError(f"{problem}, got {list(sides)}")


def _check_sides(images: Tensor, name: str) -> None:
    height, width = images.shape[2:]
    if height % _COARSEST or width % _COARSEST:
        problem = f"images must have sides that are multiples of {_COARSEST}"
        raise InputError(f"{name}: {problem}, got {height}x{width}")
