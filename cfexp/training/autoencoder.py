"""The stage that trains SEAN: style encoder and generator together, to reconstruct images."""

from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torchmetrics.image import PeakSignalNoiseRatio

from cfexp import losses
from cfexp.data.batch import ImageBatch
from cfexp.models.sean.sean import SEAN
from cfexp.training.schedule import by_step, whole_length
from cfexp.training.stage import LookedOnStage

Features = list[list[Tensor]]  # of each scale the maps of every layer, the last the scores


class AutoencoderStage(LookedOnStage):
    """SEAN (Zhu et al. 2020, section 3.4), trained as STEEX has it: the style always comes from the
    same image.

        L_G = adversarial_weight * hinge + matching_weight * feature matching
              + perceptual_weight * perceptual + l1_weight * area-weighted L1    the last one ours
        L_D = hinge

    network: the autoencoder. discriminator: as `MultiscaleDiscriminator`; None trains without one.
    feature_network: images -> feature maps, frozen here, for the perceptual loss; None leaves that
    out. It must not be the network that is explained later: what the explained one sees would be
    reconstructed for it. perceptual_layers: the weight of each map (the defaults are VGG19's); None
    = 1 each. l1_weight: of the L1 distance, in which each region of an image counts by the square
    root of its area: else a lamp of twenty pixels is lost. generator_optimizer,
    discriminator_optimizer: constructors that lack the parameters (published: Adam, betas 0 and
    0.9, rates 1e-4 and 4e-4). warmup, cooldown: of both, see `by_step` (published: 0 and 0.5,
    lowered each epoch).
    """

    network: SEAN

    def __init__(
        self,
        network: SEAN,
        generator_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        discriminator: nn.Module | None = None,
        discriminator_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer] | None = None,
        feature_network: nn.Module | None = None,
        adversarial_weight: float = 1.0,
        matching_weight: float = 10.0,
        perceptual_weight: float = 10.0,
        perceptual_layers: Sequence[float] | None = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1),
        l1_weight: float = 0.0,
        clip_norm: float | None = None,
        warmup: float = 0.0,
        cooldown: float = 0.0,
    ) -> None:
        super().__init__(network, generator_optimizer, feature_network, warmup, cooldown)
        self.automatic_optimization = False
        self.discriminator = discriminator
        self.discriminator_optimizer = discriminator_optimizer
        self.adversarial_weight, self.matching_weight = adversarial_weight, matching_weight
        self.perceptual_weight = perceptual_weight
        self.perceptual_layers = None if perceptual_layers is None else list(perceptual_layers)
        self.l1_weight, self.clip_norm = l1_weight, clip_norm
        self.psnr = PeakSignalNoiseRatio(data_range=2.0, dim=(1, 2, 3))  # the mean over images

    def training_step(self, batch: ImageBatch, batch_idx: int) -> None:
        """One step of the generator, then one of the discriminator (1:1)."""
        optimizers = self.optimizers()
        generator_optimizer, *others = optimizers if isinstance(optimizers, list) else [optimizers]
        # From before the forward pass on: else the discriminator's weights take gradients that
        # nobody uses.
        self.toggle_optimizer(generator_optimizer)
        image = self.network(batch.image, batch.label_map)
        terms = self._generator_terms(batch, image)
        loss = torch.stack(list(terms.values())).sum()
        self._step(generator_optimizer, loss)
        if self.discriminator is not None:
            self.toggle_optimizer(others[0])
            real, fake = self._discriminate(batch.image, image.detach(), batch.label_map)
            terms["discriminator"] = losses.hinge_discriminator(_scores(real), _scores(fake))
            self._step(others[0], terms["discriminator"])
        schedulers = self.lr_schedulers()  # under manual optimisation nobody else steps them
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            scheduler.step()  # type: ignore[union-attr]
        self.log_dict(
            {f"train/{name}": term.detach() for name, term in terms.items()}, batch_size=len(image)
        )
        self.log("loss", loss.detach(), prog_bar=True, logger=False)

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the gradients: by now mixed precision has taken its scale off them."""
        if self.clip_norm is not None:
            self.clip_gradients(
                optimizer, gradient_clip_val=self.clip_norm, gradient_clip_algorithm="norm"
            )

    def looks(self, image: Tensor, label_map: Tensor) -> dict[str, Callable[[], object]]:
        """As in the base: of all three networks."""
        seen = super().looks(image, label_map)
        seen["network"] = lambda: self.network(image, label_map)
        if self.discriminator is not None:
            seen["discriminator"] = lambda: self._discriminate(image, image, label_map)
        return seen

    def score(self, batch: ImageBatch) -> None:
        """PSNR."""
        self.psnr.update(self.network(batch.image, batch.label_map), batch.image)

    def log_scores(self, part: str) -> None:
        """PSNR in dB, the mean over the images."""
        self.log(f"{part}/psnr", self.psnr.compute(), prog_bar=True)
        self.psnr.reset()

    def configure_optimizers(self) -> Any:
        """One optimizer a network, each with the schedule by step."""
        optimizers = [self.optimizer(self.network.parameters())]
        if self.discriminator is not None:
            assert self.discriminator_optimizer is not None
            optimizers.append(self.discriminator_optimizer(self.discriminator.parameters()))
        steps = whole_length(self.trainer)
        return [by_step(each, steps, self.warmup, self.cooldown) for each in optimizers]

    def _generator_terms(self, batch: ImageBatch, image: Tensor) -> dict[str, Tensor]:
        terms = {}
        if self.discriminator is not None:
            real, fake = self._discriminate(batch.image, image, batch.label_map)
            terms["adversarial"] = self.adversarial_weight * losses.hinge_generator(_scores(fake))
            terms["matching"] = self.matching_weight * losses.feature_matching(real, fake)
        if self.feature_network is not None:
            perceptual = losses.perceptual(
                self.feature_network, image, batch.image, self.perceptual_layers
            )
            terms["perceptual"] = self.perceptual_weight * perceptual
        if self.l1_weight > 0:
            l1 = losses.region_weighted_l1(
                batch.image, image, batch.label_map, self.network.num_regions
            )
            terms["l1"] = self.l1_weight * l1
        return terms

    def _discriminate(
        self, query: Tensor, image: Tensor, label_map: Tensor
    ) -> tuple[Features, Features]:
        """The discriminator's features of the real images and of the generated ones, seen as one
        batch.
        """
        assert self.discriminator is not None
        features = self.discriminator(torch.cat([query, image]), label_map.repeat(2, 1, 1))
        halves = [[layer.chunk(2) for layer in scale] for scale in features]
        real, fake = ([[layer[half] for layer in scale] for scale in halves] for half in (0, 1))
        return real, fake

    def _step(self, optimizer: Any, loss: Tensor) -> None:
        """A step of an optimizer that was toggled before the forward pass."""
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.untoggle_optimizer(optimizer)


def _scores(features: Features) -> list[Tensor]:
    return [scale[-1] for scale in features]
