"""Segmenters: the label map of an image, where no ground truth is given."""

from collections.abc import Sequence
from typing import Literal

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.backbones import torchvision_network
from cfexp.models.classifiers import coordinates


class Segmenter(nn.Module):
    """torchvision's DeepLabV3 (Chen et al. 2017), the E_seg of STEEX (Jacob et al. 2022, section
    4.1).

    backbone: "resnet50" or "resnet101". weights: the backbone's, see `torchvision_network`; None
        for a random start or a file loaded later.
    """

    def __init__(
        self,
        num_regions: int,
        backbone: Literal["resnet50", "resnet101"] = "resnet101",
        weights: str | None = None,
    ) -> None:
        """Raises InputError for another backbone, and as `torchvision_network`."""
        super().__init__()
        if backbone not in ("resnet50", "resnet101"):
            raise InputError(f"backbone must be resnet50 or resnet101, got {backbone}")
        build = getattr(torchvision.models.segmentation, f"deeplabv3_{backbone}")
        self.network = build(
            weights=None, weights_backbone=None, num_classes=num_regions, aux_loss=False
        )
        if weights is not None:
            body = torchvision_network(backbone, weights).state_dict()
            self.network.backbone.load_state_dict(
                {key: body[key] for key in self.network.backbone.state_dict()}
            )

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, R, H, W) of images (B, 3, H, W) in [-1, 1]."""
        logits: Tensor = self.network(images)["out"]
        return logits


class ResizingSegmenter(nn.Module):
    """A segmenter of images of another size, or with its regions in another order.

    image_size: (H, W) at which it segments; its images are resized bicubically, its logits back by
    the nearest pixel, as label maps are. STEEX's label maps of CelebA, 128 pixels, are predicted at
    256 by CelebAMask-HQ's; None = as they come. regions: for each of our regions the segmenter's
    output that means it; None = the same. (The released one for streets begins with what is
    unlabeled, our last.)
    """

    def __init__(
        self,
        segmenter: nn.Module,
        image_size: Sequence[int] | None = None,
        regions: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.segmenter = segmenter
        self.image_size = None if image_size is None else tuple(image_size)
        self.regions = None if regions is None else list(regions)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, R, H, W) of images (B, 3, H, W) in [-1, 1]."""
        size = images.shape[2:]
        if self.image_size not in (None, size):
            images = F.interpolate(images, self.image_size, mode="bicubic", antialias=True).clamp(
                -1, 1
            )
        logits: Tensor = self.segmenter(images)
        if self.regions is not None:
            logits = logits[:, self.regions]
        return (
            logits
            if logits.shape[2:] == size
            else F.interpolate(logits, size, mode="nearest-exact")
        )


class FramedSegmenter(nn.Module):
    """A segmenter of images that show another part of the same picture than those it was trained
    on: it segments in its own framing, and the label map is cut to the other.

    image_size: (H, W) at which it segments. of: (H, W) in whose pixels the boxes are given; what
    the images that come stand for, whatever their size. frame: the box (left, top, right, bottom)
    that it was trained to see. shown: the box that label maps are wanted of, at its size in these
    pixels; None = of the images as they come, at their size. regions: see `ResizingSegmenter`.
    Where a box reaches beyond, what lies at the edge goes on.
    """

    def __init__(
        self,
        segmenter: nn.Module,
        image_size: Sequence[int],
        of: Sequence[int],
        frame: Sequence[float],
        shown: Sequence[float] | None = None,
        regions: Sequence[int] | None = None,
    ) -> None:
        super().__init__()
        self.segmenter = ResizingSegmenter(segmenter, regions=regions)
        self.image_size, self.of = tuple(image_size), tuple(of)
        self.frame, self.shown = tuple(frame), None if shown is None else tuple(shown)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, R, H, W) of `shown`, of images (B, 3, H, W) in [-1, 1]."""
        (height, width), (left, top, right, bottom) = self.of, self.frame
        inside = _cut(images, self.frame, self.of, self.image_size, "bicubic").clamp(-1, 1)
        logits = self.segmenter(inside)
        size: Sequence[int] = images.shape[2:]
        wanted: Sequence[float] = (0, 0, width, height)
        if self.shown is not None:
            wanted = self.shown
            size = (round(wanted[3] - wanted[1]), round(wanted[2] - wanted[0]))
        # The same box in the frame's own pixels.
        moved = (wanted[0] - left, wanted[1] - top, wanted[2] - left, wanted[3] - top)
        return _cut(logits, moved, (bottom - top, right - left), size, "nearest")


def _cut(
    images: Tensor,
    box: Sequence[float],
    of: Sequence[float],
    size: Sequence[int],
    mode: Literal["bicubic", "nearest"],
) -> Tensor:
    """The box of images (B, C, H, W) that stand for `of` = (H, W) pixels, resized to `size`."""
    (height, width), (left, top, right, bottom) = of, box
    theta = images.new_tensor(
        [
            [(right - left) / width, 0, (left + right) / width - 1],
            [0, (bottom - top) / height, (top + bottom) / height - 1],
        ]
    ).expand(len(images), 2, 3)
    grid = F.affine_grid(theta, [*images.shape[:2], *size], align_corners=False)
    return F.grid_sample(images, grid, mode, "border", align_corners=False)


class SmallSegmenter(nn.Module):
    """The same idea for the embedded worlds' small images, on a backbone of four convolutions.

    Parallel dilated convolutions at a quarter of the size, as in DeepLabV3, then up again past the
    features of the half and the full size: in images this small a region may be two pixels wide.
    """

    def __init__(
        self,
        num_regions: int,
        width: int = 24,
        dilations: tuple[int, ...] = (1, 2, 4),
        with_coordinates: bool = True,
    ) -> None:
        """width: channels at full size; twice as many at each halving.

        with_coordinates: the network is also given where each pixel is: left and right eye look
        alike.
        """
        super().__init__()
        self.with_coordinates = with_coordinates
        self.full_size = _convolution(5 if with_coordinates else 3, width)
        self.half_size = nn.Sequential(
            _convolution(width, 2 * width, stride=2), _convolution(2 * width, 2 * width)
        )
        self.quarter_size = _convolution(2 * width, 4 * width, stride=2)
        self.parallel = nn.ModuleList(
            _convolution(4 * width, 2 * width, dilation=dilation) for dilation in dilations
        )
        self.decode_half = _convolution((2 * len(dilations) + 2) * width, 2 * width)
        self.decode_full = _convolution(3 * width, width)
        self.classifier = nn.Conv2d(width, num_regions, 1)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, R, H, W) of images (B, 3, H, W) in [-1, 1], H and W divisible by 4."""
        if self.with_coordinates:
            images = torch.cat([images, coordinates(images)], dim=1)
        full = self.full_size(
            images.contiguous(memory_format=torch.channels_last)
        )  # faster on a CPU
        half = self.half_size(full)
        quarter = self.quarter_size(half)
        context = torch.cat([branch(quarter) for branch in self.parallel], dim=1)
        half = self.decode_half(torch.cat([F.interpolate(context, scale_factor=2.0), half], dim=1))
        full = self.decode_full(torch.cat([F.interpolate(half, scale_factor=2.0), full], dim=1))
        logits: Tensor = self.classifier(full)
        return logits


def _convolution(before: int, after: int, stride: int = 1, dilation: int = 1) -> nn.Sequential:
    convolution = nn.Conv2d(
        before, after, 3, stride, padding=dilation, dilation=dilation, bias=False
    )
    return nn.Sequential(convolution, nn.BatchNorm2d(after), nn.ReLU())
