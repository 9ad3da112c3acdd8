"""What a search decodes its codes by."""

from collections.abc import Iterator, Sequence
from itertools import count, repeat
from typing import NamedTuple

import torch
from torch import Tensor

from cfexp.models.sean.fast import FastSEAN, PreparedLabelMaps

# Between the noise seeds of a query's steps. torch's CPU generator takes 32 bits of a seed;
# multiples of 2 ** 32 over the golden ratio lie so far apart that of a million queries none meets
# another's seed within a thousand steps.
NOISE_STRIDE = 0x9E3779B1


class Frame(NamedTuple):
    """Pixels that stay as they are, of B queries."""

    inside: Tensor  # (B, 1, H, W) bool: these may change
    image: Tensor  # (B, 3, H, W) in [-1, 1]: what the others show


def frame_of(label_map: Tensor, region_mask: Tensor, image: Tensor) -> Frame:
    """Where the regions of a mask (R,) or (B, R) are in label maps (B, H, W), around them an image
    (B, 3, H, W).
    """
    masks = region_mask.to(label_map.device).expand(len(label_map), -1)
    inside = masks.gather(1, label_map.flatten(1)).view_as(label_map)
    return Frame(inside[:, None], image)


class Decoder:
    """Decodes codes (B, R, D) of a batch by its prepared label maps, one a step.

    frame: of the images that is kept; None = nothing.
    """

    def __init__(
        self, generator: FastSEAN, prepared: Iterator[PreparedLabelMaps], frame: Frame | None = None
    ) -> None:
        self.generator, self.prepared, self.frame = generator, prepared, frame

    def __call__(self, codes: Tensor) -> Tensor:
        """The images (B, 3, H, W) of this step."""
        image = self.generator.decode(codes, next(self.prepared))
        if self.frame is None:
            return image
        return torch.where(self.frame.inside, image, self.frame.image)

    def of(self, rows: Tensor) -> "Decoder":
        """Of some queries of the batch alone, where all steps have the same."""
        frame = None if self.frame is None else Frame(*(part[rows] for part in self.frame))
        return Decoder(self.generator, repeat(self.generator.of(next(self.prepared), rows)), frame)


def redrawn(
    generator: FastSEAN, prepared: PreparedLabelMaps, keys: Sequence[int]
) -> Iterator[PreparedLabelMaps]:
    """The prepared label map of each step, with its noise: that of the reconstruction first."""
    yield prepared
    for step in count(1):
        seeds = [(key + step * NOISE_STRIDE) % 2**32 for key in keys]
        yield generator.redraw(prepared, seeds)
