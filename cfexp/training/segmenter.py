"""The stage that trains the segmenter, which predicts the label map of images that have none."""

from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex

from cfexp import losses
from cfexp.data.batch import ImageBatch
from cfexp.metrics.majority import MajorityShare
from cfexp.training.augmentation import jittered, tinted
from cfexp.training.ranges import check_lengths
from cfexp.training.schedule import whole_length
from cfexp.training.stage import ScoredStage


class SegmenterStage(ScoredStage):
    """Cross-entropy at each pixel (STEEX, Jacob et al. 2022, section 4.1: DeepLabV3).

    network: images (B, 3, H, W) in [-1, 1] -> logits (B, R, H, W). ignore_region: pixels of this
    region count for nothing; None = all count. (The published script ignores region 0, which for
    faces is the background: a mistake.) jitter: of training pairs, see `jittered` (published: 0).
    tint: of training images, see `tinted` (published: 0). dice: the weight of the Dice loss
    (Milletari et al. 2016), see `losses.dice`, beside the cross-entropy (published: 0): a necklace
    of ten pixels counts as much as the hair. balance: the cross-entropy of a pixel counts by the
    share of its region in the batch to the power of -`balance`, which falls to 0 by the end of the
    training (published: 0): rare regions are found first, and their outlines drawn last. warmup,
    cooldown: see `by_step`; published: 0.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        ignore_region: int | None = None,
        jitter: float = 0.0,
        tint: float = 0.0,
        dice: float = 0.0,
        balance: float = 0.0,
        warmup: float = 0.0,
        cooldown: float = 0.0,
    ) -> None:
        super().__init__(network, optimizer, warmup, cooldown)
        check_lengths("module.", balance=balance)
        self.balance = balance
        self.ignored = -100 if ignore_region is None else ignore_region  # torch's own default
        self.jitter, self.tint, self.dice = jitter, tint, dice
        self.scores: dict[str, Any] = {}

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Loss of a batch of images."""
        image, label_map = batch.image, batch.label_map
        if self.jitter > 0:
            image, label_map = jittered(image, label_map, self.jitter)
        if self.tint > 0:
            image = tinted(image, self.tint)
        logits = self.network(image)
        weights, counted = None, (label_map != self.ignored).sum()
        if self.balance > 0:
            done = self.trainer.global_step / whole_length(self.trainer)
            power = self.balance * (1 - done)
            weights = region_weights(label_map, logits.shape[1], power, self.ignored)
            counted = weights[label_map[label_map != self.ignored]].sum()
        each = F.cross_entropy(
            logits, label_map, weights, ignore_index=self.ignored, reduction="sum"
        )
        # torch's own mean is NaN for a batch of which nothing counts.
        loss = each / counted.clamp(min=1)
        if self.dice > 0:
            loss = loss + self.dice * losses.dice(logits, label_map, self.ignored)
        return self.log_loss(loss, len(batch.image))

    def looks(self, image: Tensor, label_map: Tensor) -> dict[str, Callable[[], object]]:
        """As in the base; the logits must be of the label map's size."""
        return {"network": lambda: F.cross_entropy(self.network(image), label_map)}

    def score(self, batch: ImageBatch) -> None:
        """Compare the label maps of a batch."""
        logits = self.network(batch.image)
        if not self.scores:
            count, ignored = logits.shape[1], None if self.ignored < 0 else self.ignored
            self.scores = {
                "pixel_accuracy": MulticlassAccuracy(
                    count, average="micro", ignore_index=ignored
                ).to(self.device),
                "mean_iou": MulticlassJaccardIndex(count, ignore_index=ignored).to(self.device),
            }
            self.majority = MajorityShare(count).to(self.device)
        for score in self.scores.values():
            score.update(logits.argmax(1), batch.label_map)
        self.majority.update(batch.label_map[batch.label_map != self.ignored])

    def log_scores(self, part: str) -> None:
        """In percent: pixel accuracy, mean intersection over union of the regions that occur, and
        beside them `pixel_majority`, the share of the most frequent region, which is the accuracy
        of a map that holds it alone.
        """
        for name, score in self.scores.items():
            self.log(f"{part}/{name}", 100 * score.compute(), prog_bar=True)
        self.log(f"{part}/pixel_majority", 100 * self.majority.compute()[-1])
        self.scores = {}


def region_weights(label_map: Tensor, num_regions: int, power: float, ignored: int) -> Tensor:
    """(R,): by how much a pixel of each region of label maps (B, H, W) counts: by the share of its
    region in the whole batch to the power of -`power`, so that for 0 all pixels count alike, and
    for 1 all regions do; 0 of a region that is not there, or is `ignored`.
    """
    pixels = label_map[label_map != ignored].bincount(minlength=num_regions).float()
    share = pixels / pixels.sum().clamp(min=1)
    return torch.where(pixels > 0, share**-power, 0.0)
