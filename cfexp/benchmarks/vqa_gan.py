"""Measure what a training step of the VQA GAN costs beside its parts: each network that it trains
or asks, forward and backward, and each optimizer's step, on the same batch.

Parts and step alternate, so that what else the machine does counts for both alike. CPU seconds are
medians. Exit code 1 where the step costs more than the parts by more than the wanted ratio.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import torch
from lightning import Callback, LightningModule, Trainer
from omegaconf import DictConfig
from torch import Tensor

from cfexp import losses
from cfexp.benchmarks.command import exit_code
from cfexp.benchmarks.experiment import parsed, parser_of, prepared
from cfexp.data.batch import VQABatch
from cfexp.errors import InputError
from cfexp.explainers.vqa_gan import VQACounterfactualGAN
from cfexp.run.memory import keep_freed_memory


class Clock(Callback):
    """Times the steps of a training after its warm-up, and after each the parts, on its batch."""

    def __init__(self) -> None:
        self.step: list[float] = []  # CPU seconds
        self.parts: dict[str, list[float]] = {}
        self._start = 0.0

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: VQABatch, batch_idx: int
    ) -> None:
        """Start the clock."""
        self._start = time.process_time()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: VQABatch,
        batch_idx: int,
    ) -> None:
        """Stop it, and time the parts."""
        self.step.append(time.process_time() - self._start)
        assert isinstance(pl_module, VQACounterfactualGAN)
        for name, part in parts_of(pl_module, batch).items():
            start = time.process_time()
            part()
            self.parts.setdefault(name, []).append(time.process_time() - start)
        pl_module.zero_grad()


def parts_of(explainer: VQACounterfactualGAN, batch: VQABatch) -> dict[str, Callable[[], object]]:
    """What a step cannot do without, by name; each by itself, as often as a step does it."""
    model, answer = explainer.decision_model, batch.answer
    with torch.no_grad():
        question = model.ask(batch.question, batch.question_length, batch.text)
        edited = explainer.generator(batch.image, question.vector, model.answer_embeddings[answer])
    optimizers = explainer.optimizers()
    found: dict[str, Callable[[], object]] = {
        "VQA model, question": lambda: model.ask(batch.question, batch.question_length, batch.text),
        "VQA model, forward and backward": lambda: _backward(
            explainer.counterfactual_loss(
                model.decide(edited.image.clone().requires_grad_(), question), answer
            )
        ),
        "generator, forward and backward": lambda: _backward(
            explainer.generator(batch.image, question.vector, model.answer_embeddings[answer])
            .image.square()
            .mean()
        ),
    }
    both: list[Any] = optimizers if isinstance(optimizers, list) else [optimizers]
    found["generator's optimizer"] = lambda: both[0].optimizer.step()
    if (discriminator := explainer.discriminator) is not None:

        def asked() -> None:
            for parameter in discriminator.parameters():
                parameter.requires_grad_(False)
            image = edited.image.clone().requires_grad_()
            _backward(losses.generator_adversarial(discriminator(image)))
            for parameter in discriminator.parameters():
                parameter.requires_grad_(True)

        found["discriminator, asked by the generator"] = asked
        found["discriminator, trained"] = lambda: _backward(
            losses.discriminator_adversarial(
                discriminator(batch.image), discriminator(edited.image)
            )
        )
        found["discriminator's optimizer"] = lambda: both[1].optimizer.step()
    return found


def _backward(loss: Tensor) -> None:
    loss.backward()  # type: ignore[no-untyped-call]  # torch does not type it


def report(given: argparse.Namespace) -> bool:
    """Measure and print; returns whether the ratio is reached. Raises InputError as `parse`."""
    torch.set_num_threads(given.threads)
    explainer, data = prepared(
        given, VQACounterfactualGAN, "trains no VQA GAN", "fit", _without_warm_up
    )
    clock = Clock()
    trainer = Trainer(
        max_steps=-1,
        max_epochs=1,
        limit_train_batches=given.warm_up + given.steps,
        limit_val_batches=0,
        accelerator=given.device,
        devices=1,
        logger=False,
        callbacks=[clock],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    trainer.fit(explainer, datamodule=data)
    step = median(clock.step[given.warm_up :])
    parts = {name: median(times[given.warm_up :]) for name, times in clock.parts.items()}
    whole = sum(parts.values())
    threads = f"{given.threads} thread{'s' * (given.threads > 1)}"
    print(
        f"{given.experiment}, batch {data.batch_size}, median of {given.steps}, {threads}, ", end=""
    )
    print(f"{given.device}, torch {torch.__version__}")
    for name, seconds in parts.items():
        print(f"  {name:40} {1000 * seconds:7.1f} CPU ms")
    print(f"  {'all parts':40} {1000 * whole:7.1f} CPU ms")
    print(f"  {'a training step':40} {1000 * step:7.1f} CPU ms")
    reached: bool = step <= given.ratio * whole
    print(f"{step / whole:.3f} times its parts; wanted at most {given.ratio}: ", end="")
    print("yes" if reached else "no")
    return reached


def _without_warm_up(config: DictConfig) -> None:
    config.explainer.warmup_epochs = 0


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; raises InputError for numbers out of range."""
    parser = parser_of(
        *("vqa_gan", __doc__, "vqa_color"),
        "+experiment=vqa_color --steps 10 --warm-up 2",
        "+experiment=vqa_all",
    )
    add = parser.add_argument
    add("--steps", type=int, default=30, help="to measure")
    add("--warm-up", type=int, default=5, help="steps before")
    add("--threads", type=int, default=1, help="of torch")
    add("--device", default="cpu", help="cpu or cuda")
    add(
        "--ratio",
        type=float,
        default=1.15,
        help="the most that a step may cost of its parts",
    )
    given = parsed(parser, arguments, "steps", "threads")
    if given.warm_up < 0:
        raise InputError("--warm-up must be at least 0")
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 1 where the ratio is not reached, 2 where the
    command line is wrong.
    """
    keep_freed_memory()
    return exit_code(lambda: report(parse(arguments)))


if __name__ == "__main__":
    sys.exit(main())
