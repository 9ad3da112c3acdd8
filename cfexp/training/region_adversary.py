"""Training images of which some regions are moved against the decision through an autoencoder's
codes, as a search in them would move them.
"""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from cfexp.data.batch import ImageBatch
from cfexp.errors import InputError
from cfexp.models.sean.fast import FastSEAN
from cfexp.models.sean.sean import SEAN


class RegionAdversary:
    """Moves the codes of regions that hold no cause, so that their labels stay; adversarial
    training (Madry et al. 2018) in the codes that STEEX searches, in place of pixels.

    Of an image the codes of these regions, or those of another image in their place, take `steps`
    steps along the gradient of the loss; each image goes as far as is drawn for it, at most
    `reach`.

    autoencoder: frozen; it must not have seen the model that is trained. regions: names of those
    that hold no cause. share: of the images of a batch, which are moved. reach: the l2 norm of the
    whole way. swapped: of these, which start from the codes of another image.
    """

    def __init__(
        self,
        autoencoder: SEAN,
        regions: Sequence[str],
        share: float = 0.5,
        steps: int = 4,
        reach: float = 8.0,
        swapped: float = 0.5,
    ) -> None:
        """Raises InputError for a setting out of range."""
        for name, value in {"share": share, "swapped": swapped}.items():
            if not 0 <= value <= 1:
                raise InputError(f"region_adversary.{name} must be in 0..1, got {value}")
        if type(steps) is not int or steps < 0:
            problem = "must be a whole number of at least 0"
            raise InputError(f"region_adversary.steps {problem}, got {steps!r}")
        if not reach >= 0:
            raise InputError(f"region_adversary.reach must be at least 0, got {reach}")
        self.autoencoder, self.regions = autoencoder, list(regions)
        self.share, self.steps, self.reach, self.swapped = share, steps, reach, swapped
        self.generator: FastSEAN | None = None

    def count(self, batch: ImageBatch) -> int:
        """How many images of a batch are moved: its first ones."""
        return round(self.share * len(batch.image))

    def __call__(
        self,
        loss: Callable[[Tensor], Tensor],
        batch: ImageBatch,
        region_names: Sequence[str],
        strength: float = 1.0,
    ) -> Tensor:
        """The first `count` images (N, 3, H, W) of a batch, moved.

        loss: images (N, 3, H, W) -> a loss, the sum or mean of those of the images. strength: in
        0..1, what they go of `reach`. Raises InputError for a region that is none of the data's.
        """
        if unknown := [name for name in self.regions if name not in region_names]:
            known = ", ".join(region_names)
            raise InputError(f"region_adversary: {unknown[0]!r} is none of the regions {known}")
        count, device = self.count(batch), batch.image.device
        if self.generator is None:
            self.autoencoder.to(device)
            self.generator = FastSEAN(self.autoencoder)
        label_map = batch.label_map[:count]
        with torch.no_grad():
            codes = self.autoencoder.encode(batch.image, batch.label_map)
        named = torch.tensor([name in self.regions for name in region_names], device=device)
        present = (codes != 0).any(2, keepdim=True)  # an absent region has no influence
        movable = self.autoencoder.codes_of(named)[None, :, None] & present[:count]
        other = torch.randint(1, len(codes), (count,), device=device)
        other = (other + torch.arange(count, device=device)) % len(codes)
        swap = (torch.rand(count, 1, 1, device=device) < self.swapped) & present[other]
        codes = torch.where(movable & swap, codes[other], codes[:count])
        seeds = torch.randint(2**31, (count,)).tolist()
        prepared = self.generator.prepare(label_map, seeds)
        steps = self.steps if strength > 0 else 0
        step = strength * self.reach * torch.rand(count, 1, 1, device=device) / max(steps, 1)
        for _ in range(steps):
            codes.requires_grad_()
            (gradient,) = torch.autograd.grad(loss(self.generator.decode(codes, prepared)), [codes])
            gradient = torch.where(movable, gradient, 0)
            length = gradient.flatten(1).norm(dim=1)[:, None, None].clamp(min=1e-12)
            codes = codes.detach() + step * gradient / length
        with torch.no_grad():
            return self.generator.decode(codes, prepared)
