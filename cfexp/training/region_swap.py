"""Training images in which some regions show what those of other images hold."""

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from cfexp.data.batch import ImageBatch
from cfexp.errors import InputError
from cfexp.training.augmentation import moved_grid
from cfexp.training.ranges import check_lengths, check_shares


class RegionSwap:
    """Puts another image of the batch, moved, where an image has regions that hold no cause; the
    label stays. What a cause looks like is then seen there as well, and counts for nothing: other
    lights beside the one that is meant. As CutMix (Yun et al. 2019), but along the label map, and
    with the label known.

    regions: names of those that hold no cause. share: of the images. shift: how far the other image
    is moved at most, along either side, as a share of that side; what is then missing is mirrored.
    scale: by how much it is enlarged or made smaller at most, as a logarithm. It is mirrored half
    of the time. fade: of the images that are changed, the share of which the other image is seen
    through: it covers its own by a share that is drawn from 0..1. contrast: by how much the
    contrast of each of its channels grows at most, as a logarithm, around a grey of its own: a
    search draws glaring colours. rim, into: how far it reaches at most into the neighbours that
    `into` names, as a share of the image's height: what decodes one region touches the rims of
    others. Every draw is by torch's generator.
    """

    def __init__(
        self,
        regions: Sequence[str],
        share: float = 0.75,
        shift: float = 0.5,
        scale: float = 0.5,
        fade: float = 0.25,
        contrast: float = 0.0,
        rim: float = 0.0,
        into: Sequence[str] = (),
    ) -> None:
        """Raises InputError for a setting out of range."""
        check_shares("region_swap.", share=share, fade=fade)
        check_lengths("region_swap.", shift=shift, scale=scale, contrast=contrast, rim=rim)
        self.regions, self.share, self.fade = list(regions), share, fade
        self.shift, self.scale, self.contrast = shift, scale, contrast
        self.rim, self.into = rim, list(into)

    def __call__(self, batch: ImageBatch, region_names: Sequence[str]) -> ImageBatch:
        """The batch with other images (B, 3, H, W).

        Raises InputError for a region that is none of the data's.
        """
        for name in (*self.regions, *self.into):
            if name not in region_names:
                known = ", ".join(region_names)
                raise InputError(f"region_swap: {name!r} is none of the regions {known}")
        image, count = batch.image, len(batch.image)
        if count < 2:
            return batch
        other = (torch.arange(count) + torch.randint(1, count, (count,))) % count
        moved = F.grid_sample(
            image[other.to(image.device)],
            moved_grid(image, self.shift, self.scale),
            padding_mode="reflection",
            align_corners=False,
        )
        if self.contrast > 0:
            gain = (self.contrast * torch.rand(count, 3, 1, 1)).exp().to(image)
            grey = (2 * torch.rand(count, 3, 1, 1) - 1).to(image)
            moved = (grey + gain * (moved - grey)).clamp(-1, 1)
        faded = torch.rand(count) < self.fade
        opacity = torch.where(faded, torch.rand(count), 1.0) * (torch.rand(count) < self.share)
        inside = self._inside(batch.label_map, region_names)
        inside = inside[:, None] * opacity.to(image)[:, None, None, None]
        return batch._replace(image=torch.lerp(image, moved, inside))

    def _inside(self, label_map: Tensor, region_names: Sequence[str]) -> Tensor:
        """(B, H, W) bool: where the other image is seen."""

        def named(names: Sequence[str]) -> Tensor:
            chosen = torch.tensor([name in names for name in region_names])
            return chosen.to(label_map.device)[label_map]

        inside, neighbours = named(self.regions), named(self.into)
        reach = torch.randint(round(self.rim * label_map.shape[1]) + 1, (len(label_map),))
        grown = inside
        for step in range(int(reach.max())):
            grown = F.max_pool2d(grown.float()[:, None], 3, 1, 1)[:, 0] > 0
            more = (reach > step).to(label_map.device)[:, None, None]
            inside = inside | (grown & neighbours & more)
        return inside
