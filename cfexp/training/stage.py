"""What every stage is beside its loss and its scores."""

from collections.abc import Callable, Iterable
from typing import Any

from lightning import LightningModule
from torch import Tensor, nn
from torch.optim import Optimizer

from cfexp.models.loading.pretrained import freeze
from cfexp.training.schedule import by_step, whole_length


class ScoredStage(LightningModule):
    """Trains one network, `network`, which is validated and tested alike.

    A subclass implements `training_step`, `score` and `log_scores`.

    optimizer: a constructor that lacks the parameters. warmup, cooldown: see `by_step`.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        warmup: float = 0.0,
        cooldown: float = 0.0,
    ) -> None:
        super().__init__()
        self.network = network
        self.optimizer, self.warmup, self.cooldown = optimizer, warmup, cooldown

    def score(self, batch: Any) -> None:
        """Collect what `log_scores` needs of a batch."""
        raise NotImplementedError

    def log_scores(self, part: str) -> None:
        """Log the figures of all batches since the last time as `part`/..., and forget those
        batches.
        """
        raise NotImplementedError

    def looks(self, image: Tensor, label_map: Tensor) -> dict[str, Callable[[], object]]:
        """Of each network that sees images in training, by its attribute: what it does with these.

        Whether it can take their size is tried so before the training, on images without content.
        """
        return {"network": lambda: self.network(image)}

    def trained_state(self) -> dict[str, Tensor]:
        """The network alone, under its own names: whoever uses it needs nothing of how it was
        trained.
        """
        return self.network.state_dict()

    def log_loss(self, loss: Tensor, count: int) -> Tensor:
        """Log the loss of a training batch of `count`, and show it; returns it."""
        self.log("train/loss", loss, batch_size=count)
        self.log("loss", loss, prog_bar=True, logger=False)
        return loss

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Collect the scores of a batch."""
        self.score(batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Collect the scores of a batch."""
        self.score(batch)

    def on_validation_epoch_end(self) -> None:
        """Log the scores."""
        self.log_scores("val")

    def on_test_epoch_end(self) -> None:
        """Log the scores."""
        self.log_scores("test")

    def configure_optimizers(self) -> Any:
        """The injected optimizer over what is not frozen, with the schedule by step."""
        optimizer = self.optimizer(
            parameter for parameter in self.parameters() if parameter.requires_grad
        )
        return by_step(optimizer, whole_length(self.trainer), self.warmup, self.cooldown)


class LookedOnStage(ScoredStage):
    """A stage whose loss also sees by a network that is not trained, `feature_network`: frozen
    here, and in no checkpoint.

    feature_network: images -> feature maps, for `losses.perceptual`; None = none. It must not be
        the network that is explained later: what the explained one sees would be reconstructed for
        it.
    """

    def __init__(
        self,
        network: nn.Module,
        optimizer: Callable[[Iterable[nn.Parameter]], Optimizer],
        feature_network: nn.Module | None = None,
        warmup: float = 0.0,
        cooldown: float = 0.0,
    ) -> None:
        super().__init__(network, optimizer, warmup, cooldown)
        self.strict_loading = False  # a checkpoint lacks the network that only looks on
        self.feature_network = None if feature_network is None else freeze(feature_network)

    def looks(self, image: Tensor, label_map: Tensor) -> dict[str, Callable[[], object]]:
        """As in the base, and of the network that looks on."""
        seen = super().looks(image, label_map)
        if self.feature_network is not None:
            features = self.feature_network
            seen["feature_network"] = lambda: features(image)
        return seen

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave out the network that only looks on: whoever resumes has it from its own stage."""
        state: dict[str, Tensor] = checkpoint["state_dict"]
        kept = {
            name: value for name, value in state.items() if not name.startswith("feature_network.")
        }
        checkpoint["state_dict"] = kept

    def train(self, mode: bool = True) -> "LookedOnStage":
        """As always, but the network that only looks on stays in evaluation mode."""
        super().train(mode)
        if self.feature_network is not None:
            self.feature_network.eval()
        return self
