"""A user's own segmenter, from a file: what its numbers mean, and what it gives."""

from collections.abc import Sequence
from typing import Any

import torch.nn.functional as F
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.loading.pretrained import freeze
from cfexp.models.own.classifier import normalisation, size_of


class OwnSegmenter(nn.Module):
    """Any network of images that says a class for each pixel, as segmenters here are: images (B, 3,
    H, W) in [-1, 1] -> logits (B, R, H, W).

    network: RGB images, normalised -> (B, R, h, w) of logits or probabilities, or a dictionary with
    it under `out`, as torchvision's give. mean, std: of RGB in [0, 1], by which its images are
    normalised; or value_range: what black and white are to it. input_size: (H, W) to which images
    are resized for it; None = as they come. It is frozen.
    """

    scale: Tensor
    shift: Tensor

    def __init__(
        self,
        network: nn.Module,
        mean: Sequence[float] | None = None,
        std: Sequence[float] | None = None,
        value_range: Sequence[float] | None = None,
        input_size: Sequence[int] | None = None,
    ) -> None:
        """Raises InputError for a normalisation that is not said, or twice."""
        super().__init__()
        self.network = freeze(network)
        scale, shift = normalisation(mean, std, value_range, "segmenter")
        self.register_buffer("scale", scale, persistent=False)
        self.register_buffer("shift", shift, persistent=False)
        self.input_size = None if input_size is None else size_of(input_size)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (B, R, H, W); raises InputError where the network gives something else."""
        size = images.shape[2:]
        if self.input_size not in (None, tuple(size)):
            images = F.interpolate(images, self.input_size, mode="bilinear", antialias=True)
        try:
            given: Any = self.network(images * self.scale + self.shift)
        except Exception as error:  # whatever a network of others raises
            reason = (str(error).strip() or type(error).__name__).splitlines()[-1]
            asked = "x".join(map(str, images.shape[1:]))
            remedy = "does segmenter.input_size=[height,width] say what it takes?"
            problem = f"the network cannot take images of {asked} ({reason})"
            raise InputError(f"segmenter: {problem}; {remedy}") from None
        logits = given.get("out") if isinstance(given, dict) else given
        if not isinstance(logits, Tensor) or logits.ndim != 4 or logits.shape[1] < 2:
            found = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
            expected = "(images, regions, height, width), or it under 'out'"
            raise InputError(f"segmenter: the network must give {expected}, got {found}")
        if logits.shape[2:] == size:
            return logits
        return F.interpolate(logits, size, mode="bilinear", antialias=True)
