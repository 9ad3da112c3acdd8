"""Training images of which some regions are moved against the decision through an autoencoder's
codes, as a search in them would move them.
"""

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from cfexp.data.batch import ImageBatch
from cfexp.errors import InputError
from cfexp.models.sean.fast import FastSEAN
from cfexp.models.sean.sean import SEAN
from cfexp.training.ranges import check_lengths, check_shares

# Of its way an image goes at least this share: a search stops where the decision turns.
LEAST_OF_REACH = 0.5
# From where to where in the training the reach grows: an adversary from the start on leaves nothing
# to be learnt.
GROWS = (0.1, 0.35)


class RegionAdversary:
    """Moves the codes of regions that hold no cause, so that their labels stay; adversarial
    training (Madry et al. 2018) in the codes that STEEX searches, in place of pixels.

    Of an image the codes of these regions take some steps along the gradient of the loss, and go on
    in the next epoch where they then stood (ATTA, Zheng et al. 2020: few steps a time find what
    many would); or they are those of another image, and take these steps from there.

    autoencoder: frozen; it must not have seen the model that is trained. regions: names of those
    that hold no cause. share: of the images of a batch, which are moved. steps, step: how many, and
    the l2 norm of each. reach: the l2 norm of the whole way, at most. swapped: of these images,
    which start from the codes of another one. anew: of the others, which start from their own.
    """

    def __init__(
        self,
        autoencoder: SEAN,
        regions: Sequence[str],
        share: float = 0.75,
        steps: int = 2,
        step: float = 2.5,
        reach: float = 12.0,
        swapped: float = 0.25,
        anew: float = 0.1,
    ) -> None:
        """Raises InputError for a setting out of range."""
        if not 0 < share <= 1:
            raise InputError(f"region_adversary.share must be above 0 and at most 1, got {share}")
        check_shares("region_adversary.", swapped=swapped, anew=anew)
        if type(steps) is not int or steps < 0:
            problem = "must be a whole number of at least 0"
            raise InputError(f"region_adversary.steps {problem}, got {steps!r}")
        check_lengths("region_adversary.", step=step, reach=reach)
        self.autoencoder, self.regions = autoencoder, list(regions)
        self.share, self.steps, self.step, self.reach = share, steps, step, reach
        self.swapped, self.anew = swapped, anew
        self.generator: FastSEAN | None = None
        # How far the codes that may move (N, D) of an image went, by its key and side.
        self.ways: dict[tuple[int, bool], Tensor] = {}

    def count(self, batch: ImageBatch) -> int:
        """How many images of a batch are moved: its first ones."""
        return math.ceil(self.share * len(batch.image))

    def __call__(
        self,
        loss: Callable[[Tensor], Tensor],
        batch: ImageBatch,
        region_names: Sequence[str],
        done: float = 1.0,
    ) -> Tensor:
        """The first `count` images (N, 3, H, W) of a batch, moved.

        loss: images (N, 3, H, W) -> a loss, the sum or mean of those of the images. done: the
        share of the training that is. Raises InputError for a region that is none of the data's.
        """
        if unknown := [name for name in self.regions if name not in region_names]:
            known = ", ".join(region_names)
            raise InputError(f"region_adversary: {unknown[0]!r} is none of the regions {known}")
        count, device = self.count(batch), batch.image.device
        if self.generator is None:
            self.autoencoder.to(device)
            self.generator = FastSEAN(self.autoencoder)
        named = torch.tensor([name in self.regions for name in region_names], device=device)
        movable = self.autoencoder.codes_of(named)
        with torch.no_grad():
            codes = self.autoencoder.encode(batch.image, batch.label_map)
        present = (codes != 0).any(2, keepdim=True)  # an absent region has no influence
        other = torch.randint(1, max(len(codes), 2), (count,), device=device)
        other = (other + torch.arange(count, device=device)) % len(codes)
        swap = torch.rand(count, 1, 1, device=device) < self.swapped
        taken = swap & present[other] & present[:count] & movable[:, None]
        start = torch.where(taken, codes[other], codes[:count])
        may_move = movable[:, None] & present[:count]
        places = _places(batch)[:count]
        way = torch.zeros_like(start)
        again = ~swap[:, 0, 0] & (torch.rand(count, device=device) >= self.anew)
        for row in again.nonzero()[:, 0].tolist():
            if (kept := self.ways.get(places[row])) is not None:
                way[row, movable] = kept.to(way)
        first, last = GROWS
        reach = self.reach * min(max((done - first) / (last - first), 0.0), 1.0)
        way = _within(torch.where(may_move, way, 0), reach)
        prepared = self.generator.prepare(
            batch.label_map[:count], torch.randint(2**31, (count,)).tolist()
        )
        for _ in range(self.steps if reach > 0 else 0):
            moving = (start + way).requires_grad_()
            (gradient,) = torch.autograd.grad(
                loss(self.generator.decode(moving, prepared)), [moving]
            )
            gradient = torch.where(may_move, gradient, 0)
            way = way + self.step * gradient / _norm(gradient).clamp(min=1e-12)
            way = _within(way, reach)
        for row in (~swap[:, 0, 0]).nonzero()[:, 0].tolist():
            self.ways[places[row]] = way[row, movable].cpu()
        gone = torch.empty(count, 1, 1, device=device).uniform_(LEAST_OF_REACH, 1)
        with torch.no_grad():
            return self.generator.decode(start + gone * way, prepared)

    def state(self) -> dict[str, Any]:
        """What a training that goes on needs: where the images stood."""
        return {
            "places": [[key, int(side)] for key, side in self.ways],
            "ways": [*self.ways.values()],
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from there."""
        pairs = zip(state["places"], state["ways"], strict=True)
        self.ways = {(key, bool(side)): way for (key, side), way in pairs}


def _places(batch: ImageBatch) -> list[tuple[int, bool]]:
    """Of each image its key, and which of its sides is the brighter one: that of a mirrored image
    is the other.
    """
    half = batch.image.shape[3] // 2
    left, right = batch.image[..., :half], batch.image[..., -half:]
    side = (left.sum((1, 2, 3)) > right.sum((1, 2, 3))).tolist()
    return list(zip(batch.key.tolist(), side, strict=True))


def _within(way: Tensor, reach: float) -> Tensor:
    """Ways (N, R, D), shortened to an l2 norm of at most `reach`."""
    return way * (reach / _norm(way).clamp(min=1e-12)).clamp(max=1)


def _norm(way: Tensor) -> Tensor:
    norm: Tensor = way.flatten(1).norm(dim=1)
    return norm[:, None, None]
