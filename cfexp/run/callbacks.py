"""What watches a run: the writer of its run folder, and the grid of pictures that a training leaves
each epoch.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import torch
from lightning import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import BasePredictionWriter, ModelCheckpoint
from lightning.pytorch.trainer.states import TrainerFn
from torch import Tensor

from cfexp.data.base import data_of
from cfexp.evaluation.report.sheet import explanation_grid, one_an_image
from cfexp.evaluation.run_folder import ExplanationStore, Record, RunFolder, to_pixels
from cfexp.explainers.base import Explainer, Explanation, queries_of

# Heads of attributes have a few logits, answer vocabularies thousands: those would be most of a run
# folder, so that of more than so many only the highest are stored.
MAX_LOGITS, TOP_LOGITS = 16, 5


class ExplanationWriter(BasePredictionWriter):
    """Stores what `trainer.predict` explains in a run folder, each query once: what is there
    already is left alone.

    path: the run folder; None = the trainer's `default_root_dir`.
    At the end the first process merges the records of all. Raises InputError as `RunFolder`.
    """

    def __init__(self, path: str | None = None) -> None:
        super().__init__(write_interval="batch")
        self.path = path
        self.store: ExplanationStore | None = None

    def on_predict_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open the run folder, and say in it what holds for all explanations."""
        run = self._run(trainer)
        self.store = run.writer(trainer.global_rank)
        if trainer.is_global_zero:
            run.declare(cast(Explainer, pl_module).declaration)

    def write_on_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        prediction: Explanation,
        batch_indices: Sequence[int] | None,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int,
    ) -> None:
        """Store the explanations of a batch."""
        assert self.store is not None
        data = data_of(trainer)
        explainer = cast(Explainer, pl_module)
        images = {
            name: to_pixels(getattr(prediction, name))
            for name in ("query", "reconstruction", "counterfactual")
            if name not in explainer.declaration.without
        }
        if "label_map" in prediction.extras:
            images["label_map"] = prediction.extras["label_map"].to(torch.uint8).cpu().numpy()
        if "candidates" in prediction.extras:
            further = to_pixels(prediction.extras["candidates"]).swapaxes(0, 1)
            images |= {f"candidate_{number}": pixels for number, pixels in enumerate(further, 1)}
        for row, decision in enumerate(decisions(prediction)):
            key = decision["key"]
            if key in self.store.keys:
                continue
            pictures = {name: pixels[row] for name, pixels in images.items()}
            mask = data.truth_mask(key)
            if mask is not None:
                pictures["truth_mask"] = mask
            record = {
                **data.describe(key),
                **decision,
                "answer_before": explainer.class_name(decision["query_class"]),
                "answer_after": explainer.class_name(decision["stored_class"]),
                "has_truth_mask": mask is not None,
            }
            if "candidate_stored_class" in decision:
                names = map(explainer.class_name, decision["candidate_stored_class"])
                record["candidate_answers"] = list(names)
            self.store.add(record, pictures)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Merge the records of all processes: here, as predicting calls no hook in one that has no
        query.
        """
        if stage == "predict":
            self._close()
            trainer.strategy.barrier()
            if trainer.is_global_zero:
                self._run(trainer).finish()

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Close the run folder; the same command goes on with it."""
        self._close()

    def _close(self) -> None:
        if self.store is not None:
            self.store.close()

    def _run(self, trainer: Trainer) -> RunFolder:
        return RunFolder(trainer.default_root_dir if self.path is None else self.path)


class SeedEachEpoch(Callback):
    """Seed torch anew at each epoch, by (seed, epoch): a run resumed at epoch k draws what an
    undisturbed one does.

    So does one that is resumed amid an epoch; of several processes, the first.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed
        # what torch's generators held when the run was stopped
        self._amid: dict[str, Tensor] | None = None

    def state_dict(self) -> dict[str, Tensor]:
        """What torch's generators hold."""
        return {
            "cpu": torch.get_rng_state(),
            **({"cuda": torch.cuda.get_rng_state()} if _on_gpu() else {}),
        }

    def load_state_dict(self, state_dict: dict[str, Tensor]) -> None:
        """Let the generators hold that again, before the next batch unless that is an epoch's
        first.
        """
        self._amid = state_dict

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Seed for this epoch, each process for itself: other seeds, epochs and processes draw
        other numbers.

        Within the 32 bits that torch's generator on a CPU looks at.

        At its first batch, since the loader draws a number of its own, before or after the epoch's
        start hook.
        """
        amid, self._amid = self._amid, None
        if batch_idx == 0 or (amid is not None and trainer.global_rank > 0):
            place = (trainer.current_epoch << 12) + trainer.global_rank
            torch.manual_seed((self.seed * 0x9E3779B1 + place) % 2**32)
        elif amid is not None:
            torch.set_rng_state(amid["cpu"])
            if "cuda" in amid and _on_gpu():
                torch.cuda.set_rng_state(amid["cuda"])


class SaveWhenStopped(Callback):
    """Saves a training that ends amid an epoch, as a checkpoint that goes on with the very next
    batch.

    It ends so by `max_steps` or `max_time`; by a signal, between two batches; or by an error there,
    of the disk or a data worker. An error amid a batch leaves weights that no whole step has made:
    the epoch's start is what is left.

    path: of the checkpoint. One that is stopped in a validation does all of that again. No process
    waits for another here: the first writes what is alike in all of them.
    """

    def __init__(self, path: str) -> None:
        self.path = path
        self._gradients: dict[
            str, Tensor
        ] = {}  # that were accumulated when the training was stopped
        self._saved_at = -1  # the step

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Save, unless nothing was learned since the end of an epoch, which has its checkpoint."""
        if trainer.state.fn != TrainerFn.FITTING or not trainer.is_global_zero:
            return
        batches = trainer.fit_loop.epoch_loop.batch_progress.current
        if batches.ready == batches.completed and (trainer.validating or batches_amid(trainer)):
            with suppress(
                OSError, RuntimeError
            ):  # of a full disk, which is what ended the training
                self._save(trainer, in_validation=trainer.validating)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what is over amid an epoch before the validation that ends it, which draws random
        numbers.
        """
        if trainer.state.fn == TrainerFn.FITTING and _is_over(trainer) and batches_amid(trainer):
            self._save(trainer)
            self._saved_at = trainer.global_step

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Save what is over amid an epoch in place of the checkpoint of a whole one."""
        if not (_is_over(trainer) and batches_amid(trainer)):
            return
        path = Path(self.path)
        for each in trainer.checkpoint_callbacks:
            if (
                isinstance(each, ModelCheckpoint)
                and each.dirpath is not None
                and path.parent == Path(each.dirpath)
            ):
                each._last_global_step_saved = trainer.global_step  # so it has nothing to save
        if self._saved_at != trainer.global_step:
            self._save(trainer, epoch_is_over=True)

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Keep the gradients that were being accumulated."""
        self._gradients = checkpoint.get("gradients", {})

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the parameters have those again."""
        for name, gradient in self._gradients.items():
            parameter = pl_module.get_parameter(name)
            parameter.grad = gradient.to(parameter)
        self._gradients = {}

    def _save(
        self, trainer: Trainer, *, in_validation: bool = False, epoch_is_over: bool = False
    ) -> None:
        if not trainer.is_global_zero:
            return
        batches = trainer.fit_loop.epoch_loop.batch_progress.current.completed
        checkpoint = trainer._checkpoint_connector.dump_checkpoint(weights_only=False)
        checkpoint["epoch"] -= 1  # as at the end of an epoch: the last that is whole
        checkpoint["batches_done"] = batches
        loops = checkpoint["loops"]["fit_loop"]
        if batches % trainer.accumulate_grad_batches:
            of_module = trainer.lightning_module.named_parameters()
            checkpoint["gradients"] = {
                name: each.grad for name, each in of_module if each.grad is not None
            }
        if epoch_is_over:  # as if it were not: its hooks are still to come
            for count in ("total", "current"):
                loops["epoch_progress"][count]["processed"] -= 1
        if trainer.validating:
            # As Lightning reads it: stopped in the first batch, or not begun.
            begun = dict.fromkeys(("ready", "started"), int(in_validation)) | {
                "processed": 0,
                "completed": 0,
            }
            of_validation = loops["epoch_loop.val_loop.batch_progress"]
            of_validation |= {"total": dict(begun), "current": dict(begun), "is_last_batch": False}
        trainer.strategy.checkpoint_io.save_checkpoint(checkpoint, self.path)


def batches_amid(trainer: Trainer) -> int:
    """How many batches of an epoch that is not whole a trainer has behind it."""
    batches = trainer.fit_loop.epoch_loop.batch_progress.current.completed
    return batches if batches < trainer.num_training_batches else 0


def _is_over(trainer: Trainer) -> bool:
    """Whether a training takes no step more, by `max_steps`, `max_time` or an early stopping."""
    return trainer.should_stop or -1 < trainer.max_steps <= trainer.global_step


def _on_gpu() -> bool:
    return torch.cuda.is_available()


class ImageGrid(Callback):
    """Shows what the explainer does to `num_images` queries of the first validation batch, every so
    many epochs.

    The grid goes to grids/epoch_{epoch}.png under the trainer's `default_root_dir`, and to loggers
    that take images. The batches must be named tuples, with `image_id` among their columns.
    """

    def __init__(self, every_n_epochs: int = 1, num_images: int = 8) -> None:
        self.every_n_epochs, self.num_images = every_n_epochs, num_images
        self.batch: Any = None

    def on_validation_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,
        batch: Any,
        batch_idx: int,
        dataloader_idx: int = 0,
    ) -> None:
        """Keep the first batch's queries, of different images first."""
        if batch_idx == 0 and dataloader_idx == 0 and self._is_due(trainer):
            ids = batch.image_id
            ids = ids.tolist() if isinstance(ids, Tensor) else list(ids)
            rows = one_an_image(ids, self.num_images)
            self.batch = queries_of(batch, rows)

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Explain them, and show it."""
        if self.batch is None:
            return
        explanation = cast(Explainer, pl_module).explain(self.batch)
        self.batch = None
        grid = explanation_grid(explanation.query, explanation.counterfactual)
        RunFolder(trainer.default_root_dir).save_grid(trainer.current_epoch, grid)
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image(key="val/counterfactuals", images=[grid], step=trainer.global_step)

    def _is_due(self, trainer: Trainer) -> bool:
        return (
            trainer.is_global_zero
            and not trainer.sanity_checking
            and trainer.current_epoch % self.every_n_epochs == 0
        )


def decisions(explanation: Explanation) -> list[Record]:
    """What the explained model said of each of B queries, before, after, and after rounding to 8
    bit.

    The probabilities are the softmax's for the original class. A success is another class than
    that, or the class that was asked for; `stored_success` is what survives being written to disk,
    and `candidate_stored_success` likewise of each candidate, where there are any;
    `candidate_stored_probability` is of its own class, `candidate_stored_class`.
    """
    logits = {
        "query": explanation.query_logits,
        "counterfactual": explanation.counterfactual_logits,
        "stored": explanation.extras["stored_logits"],
    }
    logits = {name: values.detach().float().cpu() for name, values in logits.items()}
    classes = {name: values.argmax(1) for name, values in logits.items()}
    query_class, counter_class = classes["query"], explanation.counter_class.cpu()
    columns = {"key": explanation.extras["key"], "counter_class": counter_class}
    for name, values in logits.items():
        columns[f"{name}_class"] = classes[name]
        columns[f"{name}_probability"] = values.softmax(1).gather(1, query_class[:, None])[:, 0]
        if values.shape[1] <= MAX_LOGITS:
            columns[f"{name}_logits"] = values
        else:
            columns[f"{name}_top_logits"], columns[f"{name}_top_classes"] = values.topk(
                TOP_LOGITS, dim=1
            )
    edit = (
        explanation.counterfactual - explanation.query
    ).detach().float().cpu() / 2  # of images in [0, 1]
    columns["pixel_distance"] = edit.flatten(1).norm(dim=1)
    columns["success"] = succeeded(classes["counterfactual"], query_class, counter_class)
    columns["stored_success"] = succeeded(classes["stored"], query_class, counter_class)
    if "candidate_stored_logits" in explanation.extras:
        of_candidates = explanation.extras["candidate_stored_logits"].detach().float().cpu()
        asked = query_class[:, None], counter_class[:, None]
        columns["candidate_stored_class"] = found = of_candidates.argmax(2)
        columns["candidate_stored_success"] = succeeded(found, *asked)
        probability = of_candidates.softmax(2).gather(2, found[:, :, None])[:, :, 0]
        columns["candidate_stored_probability"] = probability
    # What an explainer tells beyond the contract, as far as it is numbers and no pictures.
    columns |= {
        name: values.detach().cpu()
        for name, values in explanation.extras.items()
        if values.ndim <= 2 and name not in ("key", "stored_logits")
    }
    lists = {name: column.tolist() for name, column in columns.items()}
    return [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]


def succeeded(found: Tensor, query_class: Tensor, counter_class: Tensor) -> Tensor:
    """Whether a decision is the class that was asked for; where that is -1, any but the query's."""
    return torch.where(counter_class < 0, found != query_class, found == counter_class)
