"""The stage that trains the identity network, in which face verification is measured."""

from collections.abc import Callable, Iterable

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import CatMetric
from torchmetrics.functional.classification import binary_auroc

from cfexp.data.base import data_of
from cfexp.data.batch import ImageBatch
from cfexp.errors import InputError
from cfexp.models.classifiers import IdentityNetwork
from cfexp.training.stage import ScoredStage


class IdentityStage(ScoredStage):
    """Tells the persons of the training part from each other by a cosine softmax with a margin
    (CosFace, Wang et al. 2018, equation 4), and is tested on pairs of faces of other persons.

        loss = cross-entropy of scale * (cos(feature, centre of each person) - margin for the face's
        own person)

    The persons' centres are the stage's: its network is what remains, a direction for any face.
    Images whose person is not known (-1) count for nothing.

    scale, margin: the paper's 64 and 0.35 are for millions of faces; fewer want less. perturbation:
    what training images go through first; None = nothing. warmup, cooldown: see `by_step`.
    """

    network: IdentityNetwork
    centres: nn.Parameter | None

    def __init__(
        self,
        network: IdentityNetwork,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        perturbation: nn.Module | None = None,
        scale: float = 16.0,
        margin: float = 0.2,
        threshold: float = 0.5,
        warmup: float = 0.0,
        cooldown: float = 0.0,
    ) -> None:
        """threshold: the cosine above which two faces are said to be of one person; face
        verification's 0.5.
        """
        super().__init__(network, optimizer, warmup, cooldown)
        self.perturbation = perturbation if perturbation is not None else nn.Identity()
        self.scale, self.margin, self.threshold = scale, margin, threshold
        self.persons: Tensor | None = None  # (P,), sorted
        self.register_parameter("centres", None)  # (P, D)
        self.features, self.identities = (
            CatMetric(),
            CatMetric(),
        )  # of the faces seen, gathered over all processes

    def setup(self, stage: str) -> None:
        """Give each person of the training part a centre; raises InputError where fewer than two
        are known.
        """
        if stage != "fit" or self.centres is not None:
            return
        data = data_of(self)
        known = data.dataset("train").identity.unique()
        known = known[known >= 0]
        if len(known) < 2:
            problem = f"the training part names {len(known)} persons"
            raise InputError(f"{problem}; an identity network needs at least 2")
        self.persons = known
        with torch.no_grad():
            image = torch.zeros(1, 3, data.facts["height"], data.facts["width"])
            dimension = self.network.eval().features(image).shape[1]
        self.network.train()
        self.centres = nn.Parameter(torch.randn(len(known), dimension))

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """Loss of a batch of faces."""
        assert self.centres is not None
        assert self.persons is not None
        known = batch.identity >= 0
        person = torch.searchsorted(self.persons.to(batch.identity.device), batch.identity).where(
            known, -1
        )
        cosines = (
            self.network.features(self.perturbation(batch.image))
            @ F.normalize(self.centres, dim=1).T
        )
        own = F.one_hot(person.clamp(min=0), len(self.persons))
        logits = self.scale * (cosines - self.margin * own)
        losses = F.cross_entropy(logits, person, ignore_index=-1, reduction="sum")
        return self.log_loss(losses / known.sum().clamp(min=1), len(person))

    def score(self, batch: ImageBatch) -> None:
        """Collect the features of a batch."""
        known = batch.identity >= 0
        self.features.update(self.network.features(batch.image)[known])
        # The metric keeps floats, which hold whole numbers up to 2 ** 24; CelebA has 10,177
        # persons.
        self.identities.update(batch.identity[known].float())

    def log_scores(self, part: str) -> None:
        """Over all pairs of faces, in percent: the area under the curve, which is how often a pair
        of one person is more alike than one of two; of the pairs of one person those above the
        threshold; of the others those not.
        """
        cosine, same = pairs(self.features.compute(), self.identities.compute())
        self.features.reset()
        self.identities.reset()
        if not same.any() or same.all():
            return  # no pair of one of the two kinds
        self.log(f"{part}/verification_auc", 100 * binary_auroc(cosine, same.long()), prog_bar=True)
        self.log(
            f"{part}/same_recognised",
            100 * (cosine[same] > self.threshold).float().mean(),
            prog_bar=True,
        )
        self.log(
            f"{part}/others_refused",
            100 * (cosine[~same] <= self.threshold).float().mean(),
            prog_bar=True,
        )


def pairs(features: Tensor, identity: Tensor) -> tuple[Tensor, Tensor]:
    """Of every two of N faces the cosine of their features (N, D) of length 1, and whether they are
    of one person.
    """
    first, second = torch.triu_indices(
        len(features), len(features), offset=1, device=features.device
    )
    return (features @ features.T)[first, second], identity[first] == identity[second]
