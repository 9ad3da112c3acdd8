"""What explainers share that train a generator against the frozen decision model and a
discriminator.
"""

from collections.abc import Callable, Iterable
from typing import Any, Self

from torch import Tensor, nn
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler

from cfexp.explainers.base import Explainer


class AdversarialExplainer(Explainer):
    """Trains `generator` and `discriminator` in turns, by an optimizer each; a subclass implements
    `training_step`, and what every explainer does.

    decision_model: frozen; its weights are in no checkpoint of this, as they have one of their own.
    discriminator: None trains without one. generator_optimizer, discriminator_optimizer:
    constructors that lack the parameters. scheduler: of both, stepped by the epoch; None = constant
    rates. clip_norm: of the gradients of each network; None = they are as they come.
    """

    decision_model: nn.Module
    generator: nn.Module
    discriminator: nn.Module | None
    generator_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    discriminator_optimizer: Callable[[Iterable[nn.Parameter]], Optimizer]
    scheduler: Callable[[Optimizer], LRScheduler] | None
    clip_norm: float | None

    def configure_optimizers(self) -> Any:
        """One optimizer a network, with a schedule each if there is one."""
        optimizers = [self.generator_optimizer(self.generator.parameters())]
        if self.discriminator is not None:
            optimizers.append(self.discriminator_optimizer(self.discriminator.parameters()))
        return (
            optimizers
            if self.scheduler is None
            else (optimizers, [self.scheduler(each) for each in optimizers])
        )

    def on_before_optimizer_step(self, optimizer: Optimizer) -> None:
        """Clip the gradients: by now mixed precision has taken its scale off them."""
        self.clip_gradients(
            optimizer, gradient_clip_val=self.clip_norm, gradient_clip_algorithm="norm"
        )

    def on_train_epoch_end(self) -> None:
        """Step the learning rates: under manual optimisation nobody else does."""
        schedulers = self.lr_schedulers() or []
        for scheduler in schedulers if isinstance(schedulers, list) else [schedulers]:
            scheduler.step()  # type: ignore[call-arg]

    def train(self, mode: bool = True) -> Self:
        """As always, but the decision model stays in evaluation mode."""
        super().train(mode)
        self.decision_model.eval()
        return self

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Leave the decision model out: it has a checkpoint of its own."""
        state = checkpoint["state_dict"]
        checkpoint["state_dict"] = {
            key: state[key] for key in state if not key.startswith("decision_model.")
        }

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Put the decision model back in, so that everything else is still loaded strictly."""
        frozen = self.decision_model.state_dict(prefix="decision_model.")
        checkpoint["state_dict"] = {**checkpoint["state_dict"], **frozen}

    def step(self, optimizer: Any, loss: Tensor) -> None:
        """A step of an optimizer that was toggled before the forward pass."""
        optimizer.zero_grad()
        self.manual_backward(loss)
        optimizer.step()
        self.untoggle_optimizer(optimizer)
