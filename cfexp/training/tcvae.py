"""The stage that trains DiVE's autoencoder, a beta-TCVAE; also a plain VAE, as xGEM+ has it."""

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics import MeanMetric
from torchmetrics.image import PeakSignalNoiseRatio

from cfexp import losses
from cfexp.data.base import data_of
from cfexp.data.batch import ImageBatch
from cfexp.errors import InputError
from cfexp.models.tcvae import TCVAE
from cfexp.training.stage import LookedOnStage
from cfexp.training.tcvae_losses import annealed, kl_divergence, kl_parts


class TCVAEStage(LookedOnStage):
    """DiVE's autoencoder (Rodriguez et al. 2021, equations 2 and 3), by no label and not by the
    model that is explained.

        L = reconstruction + beta * MI + tc_weight * beta * TC + beta(epoch) * dimension-wise KL

    The reconstruction is compared by features, as an L1 distance (published; the paper writes a
    Gaussian), or in pixels where there is no feature network: that is DiVE--. Where tc_weight is 0,
    L = reconstruction + beta(epoch) * KL, a VAE: that, in pixels, is xGEM+.

    feature_network: see `LookedOnStage`, with `perceptual_layers` the weight of each map (None
    = 1 each, as of VGG16's). pixel_weight: of the mean absolute difference of pixels beside the
    features (published: 0); where there are none, 0 counts as 1. by_region: of the squared
    difference in its place, in which all regions of a label map count alike: else a lamp of twenty
    pixels is lost. beta, cycles: see `annealed`. tc_weight: published 1, though the paper wants it
    above. published_kl: estimate the parts of the KL as the published code does, see `kl_parts`.
    """

    network: TCVAE

    def __init__(
        self,
        network: TCVAE,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        feature_network: nn.Module | None = None,
        perceptual_layers: Sequence[float] | None = None,
        pixel_weight: float = 0.0,
        by_region: bool = False,
        beta: float = 0.001,
        tc_weight: float = 1.0,
        cycles: int = 4,
        published_kl: bool = False,
        warmup: float = 0.0,
        cooldown: float = 0.0,
    ) -> None:
        """Raises InputError for no cycle."""
        super().__init__(network, optimizer, feature_network, warmup, cooldown)
        if cycles < 1:
            raise InputError(f"module.cycles must be at least 1, got {cycles}")
        self.perceptual_layers = None if perceptual_layers is None else list(perceptual_layers)
        self.pixel_weight, self.by_region = pixel_weight, by_region
        self.beta, self.tc_weight, self.cycles = beta, tc_weight, cycles
        self.published_kl = published_kl
        self.psnr = PeakSignalNoiseRatio(data_range=2.0, dim=(1, 2, 3))  # the mean over images
        self.kl = MeanMetric()

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        """The loss of a batch, whose codes are drawn from q(z | x)."""
        mean, log_variance = self.network.encode(batch.image)
        codes = mean + (log_variance / 2).exp() * torch.randn_like(mean)
        epochs = self.trainer.max_epochs
        beta = annealed(self.beta, self.current_epoch, max(epochs or 1, 1), self.cycles)
        size = len(data_of(self).dataset("train"))
        regions = batch.label_map if self.by_region else None
        terms = self.terms(batch.image, codes, mean, log_variance, beta, size, regions)
        self.log_dict(
            {f"train/{name}": term.detach() for name, term in terms.items()}, batch_size=len(codes)
        )
        return self.log_loss(torch.stack(list(terms.values())).sum(), len(codes))

    def terms(
        self,
        images: Tensor,
        codes: Tensor,
        mean: Tensor,
        log_variance: Tensor,
        beta: float,
        dataset_size: int,
        label_map: Tensor | None = None,
    ) -> dict[str, Tensor]:
        """What is added up to the loss, with its weights.

        images: (B, 3, H, W) in [-1, 1]. codes: (B, D), of their q(z | x), whose mean and
        log_variance (B, D) are. beta: of this epoch. dataset_size: of the images to train on.
        label_map: (B, H, W) int64, by whose regions pixels are weighed; None: all count
        alike.
        """
        found = self._reconstruction_terms(images, self.network.decode(codes), label_map)
        if self.tc_weight == 0 or self.beta == 0:
            return {**found, "kl": beta * kl_divergence(mean, log_variance)}
        information, correlation, dimension_wise = kl_parts(
            codes, mean, log_variance, dataset_size, published=self.published_kl
        )
        return {
            **found,
            "mutual_information": self.beta * information,
            "total_correlation": self.tc_weight * self.beta * correlation,
            "dimension_wise_kl": beta * dimension_wise,
        }

    def score(self, batch: ImageBatch) -> None:
        """PSNR of the images decoded from the mean codes, and the KL divergence."""
        mean, log_variance = self.network.encode(batch.image)
        self.psnr.update(self.network.decode(mean), batch.image)
        self.kl.update(kl_divergence(mean, log_variance), weight=len(mean))

    def log_scores(self, part: str) -> None:
        """PSNR in dB and KL in nats, the means over the images."""
        for name, metric in (("psnr", self.psnr), ("kl", self.kl)):
            self.log(f"{part}/{name}", metric.compute(), prog_bar=True)
            metric.reset()

    def _reconstruction_terms(
        self, images: Tensor, found: Tensor, label_map: Tensor | None
    ) -> dict[str, Tensor]:
        terms = {}
        alone = self.feature_network is None and self.pixel_weight == 0
        weight = 1.0 if alone else self.pixel_weight
        if self.feature_network is not None:
            terms["perceptual"] = losses.perceptual(
                self.feature_network, found, images, self.perceptual_layers
            )
        if weight > 0 and label_map is not None:
            weights = losses.region_weights(label_map, int(label_map.max()) + 1, power=1)
            terms["pixel_l2"] = weight * ((found - images).square() * weights).mean()
        elif weight > 0:
            terms["pixel_l1"] = weight * (found - images).abs().mean()
        return terms
