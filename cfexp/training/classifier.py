"""The stage that trains a classifier: the decision model, a second to judge it, or the oracle."""

import logging
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric

from cfexp.data.base import data_of
from cfexp.data.batch import ImageBatch
from cfexp.errors import InputError
from cfexp.training.augmentation import jittered
from cfexp.training.region_adversary import RegionAdversary
from cfexp.training.region_swap import CauseSwap, RegionSwap
from cfexp.training.schedule import whole_length
from cfexp.training.stage import ScoredStage

RECOLORED_SHARE, DIMMED_SHARE, LEAST_LIGHT = 0.25, 0.5, 0.15
FADES = 0.3  # of a yes, where no light were left
# From where to where in the training an adversary grows: one from the start on leaves nothing to
# be learnt.
ADVERSARY_GROWS = (0.25, 0.65)
# The share of a label's rarer value that is worth a word: a model that never says it looks right.
RARE = 0.03
MANY = 5  # heads, of which a progress bar has no room for each one's accuracy
NETWORK = "cfexp.models.lite.LiteClassifier"  # which has logits that can be shifted
_log = logging.getLogger(__name__)


class ClassifierStage(ScoredStage):
    """Binary cross-entropy of each head (STEEX, Jacob et al. 2022, section 4.1); labels that are
    not known count for nothing. Where the data's labels are classes of which an image has one, the
    cross-entropy over them.

    network: images (B, 3, H, W) in [-1, 1] -> logits (B, K). heads: which labels of the data it is
    trained on, by name; None = all. Its head k is the k-th of these. label_smoothing: labels are
    this far from 0 and 1 (published: 0); on a world that is learnt without a mistake it keeps the
    logits within bounds, from which a search can turn them. mixup: alpha of Zhang et al. 2018
    (published: 0, without): an image is mixed with another one of its batch, and the labels in the
    same ratio, so that a change half made is a decision half made, and a search does not stop
    there. recolored: names of regions that the decision must not hang on (published: none). A
    quarter of them, drawn anew for each image, are tinted in a random colour; and all their pixels
    move against the decision, by up to recolored_adversary of the range [-1, 1], by one step of its
    gradient's sign from a random start (Wong et al. 2020), as a search finds what no tint shows.
    dimmed: the share of the other regions that are then dimmed, by default half: a model that tells
    the faintest lamp has a gradient where a lamp is off. faded: names of those others whose light
    stands for a yes (a green lamp): the more they are dimmed, the less of a yes is left, so that a
    search from a green lamp turns it down first, and finds red there. adversary: how far, of the
    range [-1, 1], every pixel of a training image moves against the decision, likewise (published:
    0): what still decides then is seen by others, too. region_adversary: moves regions that the
    decision must not hang on through the codes of an autoencoder (published: None); such images are
    trained on beside the others. region_swap: puts other images where an image has regions that
    hold no cause (published: None), before all else but jitter and that adversary. cause_swap: puts
    the regions that hold a label's cause in from another image, and its label with them (published:
    None), before that. jitter: training images are moved and scaled by up to this share, see
    `jittered` (published: 0). centred: after the training each head's logits are moved so that on
    the validation images it says yes as often as their labels do (published: false): a model that
    is trained against an adversary leans towards the more frequent answer; the network needs a
    method `shift`. perturbation: what training images go through first; None = nothing. warmup,
    cooldown: see `by_step`; published: 0.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        heads: list[str] | None = None,
        perturbation: nn.Module | None = None,
        jitter: float = 0.0,
        centred: bool = False,
        label_smoothing: float = 0.0,
        mixup: float = 0.0,
        recolored: Sequence[str] = (),
        recolored_adversary: float = 0.06,
        dimmed: float = DIMMED_SHARE,
        faded: Sequence[str] = (),
        adversary: float = 0.0,
        region_adversary: RegionAdversary | None = None,
        region_swap: RegionSwap | None = None,
        cause_swap: CauseSwap | None = None,
        warmup: float = 0.0,
        cooldown: float = 0.0,
    ) -> None:
        super().__init__(network, optimizer, warmup, cooldown)
        self.heads = heads
        self.perturbation = perturbation if perturbation is not None else nn.Identity()
        self.label_smoothing, self.mixup = label_smoothing, mixup
        self.recolored, self.faded, self.dimmed = list(recolored), list(faded), dimmed
        self.recolored_adversary = recolored_adversary
        self.jitter, self.centred = jitter, centred
        if centred and not hasattr(network, "shift"):
            problem = f"module.centred=true needs a network with a method shift, such as {NETWORK}"
            raise InputError(f"{problem}; {type(network).__name__} has none")
        self.adversary, self.region_adversary = adversary, region_adversary
        self.region_swap, self.cause_swap = region_swap, cause_swap
        self.scores: list[HeadScores] = []
        self.exclusive = False  # whether the labels are classes of which an image has one
        self.whole = MeanMetric()  # of classes that exclude each other: whether the class is right

    def setup(self, stage: str) -> None:
        """Look the heads up; raises InputError for one that is no label of the data, of which no
        training image has a label, or that has one value only in all of them.
        """
        columns = self._columns()
        data = data_of(self)
        self.exclusive = self.heads is None and bool(getattr(data, "exclusive", False))
        if stage == "fit":
            labels = data_of(self).dataset("train").labels[:, columns]
            names = data_of(self).class_names
            for column, values in zip(columns, labels.T, strict=True):
                known = values[~values.isnan()]
                if len(known) == 0:
                    problem = f"no image to train on has a known label {names[column]!r}"
                    places = "docs/data_sets.md; BDD-OIA's: data.oia_root"
                    raise InputError(f"{problem}; where are the labels? ({places})")
                if len(known) > 1 and (known == known[0]).all():
                    raise InputError(_one_value(names[column], bool(known[0] > 0.5), len(known)))
                rarer = min(float(known.mean()), 1 - float(known.mean()))
                if rarer < RARE:
                    share = f"{100 * rarer:.1f} % of the images to train on"
                    line = "label %r: its rarer value is in %s; see test/balanced"
                    _log.warning(line, names[column], share)

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Loss of a batch of images."""
        if self.jitter > 0:
            image, label_map = jittered(batch.image, batch.label_map, self.jitter)
            batch = batch._replace(image=image, label_map=label_map)
        if self.cause_swap is not None:
            data = data_of(self)
            batch = self.cause_swap(batch, data.region_names, data.class_names)
        not_swapped = batch
        if self.region_swap is not None:
            batch = self.region_swap(batch, data_of(self).region_names)
        image, labels, recolored = batch.image, self._labels(batch), None
        if self.recolored:
            image, recolored, left = self._recolor(batch)
            labels = labels * left
        image = self.perturbation(image)
        if self.mixup > 0:
            alpha = torch.tensor(
                self.mixup, dtype=torch.float32
            )  # of bf16-true there are no such draws
            share = torch.distributions.Beta(alpha, alpha).sample((len(image), 1)).to(image)
            image = torch.lerp(image.roll(1, 0), image, share[..., None, None])
            labels = torch.lerp(labels.roll(1, 0), labels, share)  # unknown where either is
            recolored = None if recolored is None else recolored & recolored.roll(1, 0)
        loss = partial(self._loss, labels=labels)
        reach = torch.full_like(image[:, :1], self.adversary)
        if recolored is not None:
            reach = torch.where(recolored, reach.clamp(min=self.recolored_adversary), reach)
        if (recolored is not None or self.adversary > 0) and self._grown > 0:
            image = _against(loss, image, self._grown * reach)
        if self.region_adversary is not None:
            moved, own = self._moved(self.region_adversary, not_swapped)
            image, labels = torch.cat([image, moved]), torch.cat([labels, own])
        return self.log_loss(self._loss(image, labels), len(batch.image))

    def on_fit_end(self) -> None:
        """Centre the heads, if they are to be: see `centred`."""
        if self.centred:
            self.network.eval()
            logits, labels = [], []
            with torch.no_grad():
                for batch in data_of(self).val_dataloader():
                    logits.append(self.network(batch.image.to(self.device)))
                    labels.append(self._labels(batch).to(self.device))
            self.network.shift(-threshold(torch.cat(logits), torch.cat(labels)))  # type: ignore[operator]

    def score(self, batch: ImageBatch) -> None:
        """Whether each decision is right."""
        labels, logits = self._labels(batch), self.network(batch.image)
        said = F.one_hot(logits.argmax(1), logits.shape[1]) > 0 if self.exclusive else logits > 0
        right = (said == (labels > 0.5)).float().where(~labels.isnan(), torch.nan)
        if self.exclusive:
            known = ~labels[:, 0].isnan()
            whole = (said & (labels > 0.5)).any(1).float()
            self.whole.update(whole[known])
        if not self.scores:
            self.scores = [HeadScores().to(self.device) for _ in range(labels.shape[1])]
        for scores, column, label in zip(self.scores, right.T, labels.T, strict=True):
            scores.update(column, label)

    def log_scores(self, part: str) -> None:
        """Of each head, and of several the mean, in percent: the accuracy; `majority`, the share of
        the label's more frequent value, which is the accuracy of a model that always says it; and
        `balanced`, the mean of the accuracies on either value, where images of both were seen.
        """
        names = data_of(self).class_names
        heads = [100 * scores.compute() for scores in self.scores]
        for column, (accuracy, majority, balanced) in zip(self._columns(), heads, strict=True):
            self.log(f"{part}/accuracy/{names[column]}", accuracy, prog_bar=len(heads) < MANY)
            self.log(f"{part}/majority/{names[column]}", majority)
            if not balanced.isnan():
                self.log(f"{part}/balanced/{names[column]}", balanced)
        if self.exclusive:
            self.log(f"{part}/accuracy", 100 * self.whole.compute(), prog_bar=True)
            self.log(f"{part}/majority", 100 * max(scores.yes.compute() for scores in self.scores))
            self.whole.reset()
        elif len(heads) > 1:
            accuracies, majorities, _ = torch.stack(heads).T
            self.log(f"{part}/accuracy", accuracies.nanmean(), prog_bar=True)
            self.log(f"{part}/majority", majorities.nanmean())
        self.scores = []

    def _loss(self, image: Tensor, labels: Tensor) -> Tensor:
        """The mean over what is known of images (B, 3, H, W) with labels (B, K) in [0, 1]."""
        known = ~labels.isnan()
        aim = self.label_smoothing + (1 - 2 * self.label_smoothing) * labels.nan_to_num()
        if self.exclusive:  # the classes of an image add up to 1, mixed or smoothed
            share = aim / aim.sum(1, keepdim=True).clamp(min=1e-6)
            each = F.cross_entropy(self.network(image), share, reduction="none")
            return (each * known[:, 0]).sum() / known[:, 0].sum().clamp(min=1)
        logits = self.network(image)
        if logits.shape != aim.shape:
            problem = f"the network has {logits.shape[1]} outputs for {aim.shape[1]} labels"
            raise InputError(f"{problem}: network.num_outputs={aim.shape[1]} (see module.heads)")
        losses = F.binary_cross_entropy_with_logits(logits, aim, reduction="none")
        return (losses * known).sum() / known.sum().clamp(min=1)

    def _moved(self, adversary: RegionAdversary, batch: ImageBatch) -> tuple[Tensor, Tensor]:
        """Some images of a batch, of which regions were moved against the decision, and their
        labels.
        """
        own = self._labels(batch)[: adversary.count(batch)]
        self.network.eval()  # as a search finds it
        names, done = data_of(self).region_names, self._done
        moved = adversary(partial(self._loss, labels=own), batch, names, done)
        self.network.train()
        return moved, own

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep where the region adversary stood, too."""
        if self.region_adversary is not None:
            checkpoint["region_adversary"] = self.region_adversary.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Let the region adversary go on from there."""
        if self.region_adversary is not None and "region_adversary" in checkpoint:
            self.region_adversary.load_state(checkpoint["region_adversary"])

    @property
    def _done(self) -> float:
        """The share of the training that is done."""
        return self.trainer.global_step / whole_length(self.trainer)

    @property
    def _grown(self) -> float:
        """The adversary's share of its strength, at this step."""
        first, last = ADVERSARY_GROWS
        return min(max((self._done - first) / (last - first), 0.0), 1.0)

    def _recolor(self, batch: ImageBatch) -> tuple[Tensor, Tensor, Tensor]:
        """The images, some of the regions in `recolored` covered with a colour, and some of the
        others dimmed.

        Also (B, 1, H, W) bool, which pixels are of a region in `recolored`; and (B, 1), what is
        left of a yes.
        """
        count, device = len(batch.image), batch.image.device
        named, faded = (
            self._regions(self.recolored).to(device),
            self._regions(self.faded).to(device),
        )
        drawn = named & (torch.rand(count, len(named), device=device) < RECOLORED_SHARE)
        inside = drawn.gather(1, batch.label_map.flatten(1)).view_as(batch.label_map)
        color = torch.empty(count, batch.image.shape[1], 1, 1, device=device).uniform_(-1, 1)
        opacity = torch.rand(count, 1, 1, 1, device=device)
        dimmed = ~named & (torch.rand(count, len(named), device=device) < self.dimmed)
        light = (
            torch.empty(count, len(named), device=device)
            .uniform_(LEAST_LIGHT, 1)
            .where(dimmed, 1.0)
        )
        light = light.gather(1, batch.label_map.flatten(1)).view_as(batch.label_map)[:, None]
        image = torch.lerp((batch.image + 1) * light - 1, color, opacity * inside[:, None])
        dark = (1 - light) * faded[batch.label_map][:, None]
        return (
            image,
            named[batch.label_map][:, None],
            1 - FADES * dark.flatten(1).amax(1, keepdim=True),
        )

    def _regions(self, names: list[str]) -> Tensor:
        """Which regions of the data are named, (R,) bool; raises InputError for a name that is none
        of them.
        """
        regions = data_of(self).region_names
        if unknown := [name for name in names if name not in regions]:
            raise InputError(
                f"recolored, faded: {unknown[0]!r} is none of the regions {', '.join(regions)}"
            )
        return torch.tensor([region in names for region in regions])

    def _labels(self, batch: ImageBatch) -> Tensor:
        return batch.labels if self.heads is None else batch.labels[:, self._columns()]

    def _columns(self) -> list[int]:
        names = data_of(self).class_names
        if unknown := [head for head in self.heads or [] if head not in names]:
            raise InputError(f"heads: {unknown[0]!r} is none of the labels {', '.join(names)}")
        return (
            list(range(len(names)))
            if self.heads is None
            else [names.index(head) for head in self.heads]
        )


def threshold(logits: Tensor, labels: Tensor) -> Tensor:
    """(K,): above which as many of the logits (B, K) lie as labels (B, K) are yes, of those known;
    0 where none is known.
    """
    found = torch.zeros_like(logits[0])
    for head, (column, label) in enumerate(zip(logits.T, labels.T, strict=True)):
        known = ~label.isnan()
        if known.any():
            found[head] = column[known].quantile(1 - label[known].mean())
    return found


class HeadScores(nn.Module):
    """How often a head is right, over all batches and processes; labels that are not known count
    for nothing.
    """

    def __init__(self) -> None:
        super().__init__()
        # torchmetrics' own multilabel accuracy refuses a single label. Right where the label is
        # yes, where no, and all.
        self.right, self.right_yes, self.right_no, self.yes = (
            MeanMetric(nan_strategy="ignore") for _ in range(4)
        )

    def update(self, right: Tensor, label: Tensor) -> None:
        """(B,) of a batch, 0 or 1 and NaN where the label is not known."""
        self.right.update(right)
        self.yes.update(label)
        self.right_yes.update(right.where(label > 0.5, torch.nan))
        self.right_no.update(right.where(label < 0.5, torch.nan))

    def compute(self) -> Tensor:
        """(3,) shares: right; of the label's more frequent value; right on either value, on average
        (NaN: one only).
        """
        yes = self.yes.compute()
        balanced = (self.right_yes.compute() + self.right_no.compute()) / 2
        return torch.stack([self.right.compute(), torch.maximum(yes, 1 - yes), balanced])


def _one_value(label: str, value: bool, count: int) -> str:
    """What to say of a label that is the same in all of `count` training images."""
    problem = f"label {label!r} is {'yes' if value else 'no'} in all {count:,} images to train on"
    remedy = "leave it out of data.attributes, or name the other labels in module.heads"
    return f"{problem}: a head that always says so looks right and has learnt nothing; {remedy}"


def _against(loss: Callable[[Tensor], Tensor], image: Tensor, reach: Tensor) -> Tensor:
    """Images (B, 3, H, W) after a step against the loss, each pixel at most `reach` (B, 1, H, W)
    from where it was.
    """
    start = reach * torch.empty_like(image).uniform_(-1, 1)
    moved = (image + start).detach().requires_grad_()
    (gradient,) = torch.autograd.grad(loss(moved), moved)
    step = 1.25 * reach * gradient.sign()  # longer than `reach`, as Wong et al. recommend
    return image + torch.clamp(start + step, -reach, reach)
