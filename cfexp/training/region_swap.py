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
        check_regions("region_swap", [*self.regions, *self.into], region_names)
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
        inside = with_rims(
            named(self.regions, batch.label_map, region_names),
            named(self.into, batch.label_map, region_names),
            self.rim,
        )
        inside = inside[:, None] * opacity.to(image)[:, None, None, None]
        return batch._replace(image=torch.lerp(image, moved, inside))


class CauseSwap:
    """Puts the regions that hold the cause of a label in from another image of the batch, and the
    label with them, where both images agree in all other labels: so nothing else is left to tell
    the label by, and nothing of it to tell other labels by.

    regions: names of those that hold the cause. label: whose cause it is. share: of the images.
    rim, into: as of `RegionSwap`; an edge that never says what the label is. The other image's
    regions come at their own place, so the data must be aligned, as faces are. Every draw is by
    torch's generator.
    """

    def __init__(
        self,
        regions: Sequence[str],
        label: str,
        share: float = 0.5,
        rim: float = 0.0,
        into: Sequence[str] = (),
    ) -> None:
        """Raises InputError for a setting out of range."""
        check_shares("cause_swap.", share=share)
        check_lengths("cause_swap.", rim=rim)
        self.regions, self.label, self.share = list(regions), label, share
        self.rim, self.into = rim, list(into)

    def __call__(
        self, batch: ImageBatch, region_names: Sequence[str], class_names: Sequence[str]
    ) -> ImageBatch:
        """The batch with other images (B, 3, H, W), label maps (B, H, W) and labels (B, K).

        Raises InputError for a region or a label that is none of the data's.
        """
        check_regions("cause_swap", [*self.regions, *self.into], region_names)
        if self.label not in class_names:
            known = ", ".join(class_names)
            raise InputError(f"cause_swap: {self.label!r} is none of the labels {known}")
        place = list(class_names).index(self.label)
        other = _alike(batch.labels, place)
        other = other.where(torch.rand(len(other), device=other.device) < self.share, -1)
        drawn = other >= 0
        other = other.where(drawn, torch.arange(len(other), device=other.device))
        maps, theirs = batch.label_map, batch.label_map[other]
        inside = named(self.regions, maps, region_names) | named(self.regions, theirs, region_names)
        neighbours = named(self.into, maps, region_names) & named(self.into, theirs, region_names)
        inside = with_rims(inside, neighbours, self.rim) & drawn[:, None, None]
        labels = batch.labels.clone()
        labels[:, place] = batch.labels[other, place]
        return batch._replace(
            image=batch.image[other].where(inside[:, None], batch.image),
            label_map=theirs.where(inside, maps),
            labels=labels,
        )


def check_regions(where: str, names: Sequence[str], region_names: Sequence[str]) -> None:
    """Raise InputError for the first of the names that is none of the data's regions."""
    for name in names:
        if name not in region_names:
            known = ", ".join(region_names)
            raise InputError(f"{where}: {name!r} is none of the regions {known}")


def named(names: Sequence[str], label_map: Tensor, region_names: Sequence[str]) -> Tensor:
    """(B, H, W) bool: where label maps (B, H, W) hold one of the named regions."""
    chosen = torch.tensor([name in names for name in region_names])
    return chosen.to(label_map.device)[label_map]


def with_rims(inside: Tensor, neighbours: Tensor, rim: float) -> Tensor:
    """(B, H, W) bool: what is inside, and the neighbours that are at most `rim` of the height away,
    of each image by a number of pixels that is drawn.
    """
    reach = torch.randint(round(rim * inside.shape[1]) + 1, (len(inside),))
    grown = inside
    for step in range(int(reach.max())):
        grown = F.max_pool2d(grown.float()[:, None], 3, 1, 1)[:, 0] > 0
        more = (reach > step).to(inside.device)[:, None, None]
        inside = inside | (grown & neighbours & more)
    return inside


def _alike(labels: Tensor, place: int) -> Tensor:
    """(B,): for each of labels (B, K) the number of another row, drawn from those that are the same
    in all columns but `place`; -1 where there is none, or where the column is not known of it.
    """
    rest = torch.cat([labels[:, :place], labels[:, place + 1 :]], dim=1)
    same = (rest[:, None] == rest[None]).all(2)  # what is not known is like nothing
    same &= ~labels[:, place].isnan()[None]
    same.fill_diagonal_(False)
    draws = torch.rand(same.shape, device=same.device).masked_fill(~same, -1)
    best, other = draws.max(1)
    return other.where(best >= 0, -1)
