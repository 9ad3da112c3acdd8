"""What an image may go through: a pixel-space attack, compression, blur."""

from io import BytesIO

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from cfexp.evaluation.run_folder import from_pixels, to_pixels


def jpeg(images: Tensor, quality: int) -> Tensor:
    """Images in [-1, 1] after JPEG of a quality in 1..95, as Pillow writes it."""
    pictures = []
    for pixels in to_pixels(images):
        file = BytesIO()
        Image.fromarray(pixels).save(file, format="JPEG", quality=quality)
        pictures.append(np.asarray(Image.open(file)))
    return from_pixels(np.stack(pictures))


def blur(images: Tensor, sigma: float) -> Tensor:
    """Images (B, C, H, W) under a Gaussian of `sigma` pixels, cut at three of them; borders are
    reflected.
    """
    radius = int(np.ceil(3 * sigma))
    weights = torch.exp(-((torch.arange(-radius, radius + 1) / sigma) ** 2) / 2)
    weights = (weights / weights.sum()).to(images)
    channels = images.shape[1]
    padded = F.pad(images, (radius,) * 4, mode="reflect")
    rows = F.conv2d(padded, weights.view(1, 1, -1, 1).expand(channels, -1, -1, -1), groups=channels)
    return F.conv2d(rows, weights.view(1, 1, 1, -1).expand(channels, -1, -1, -1), groups=channels)
