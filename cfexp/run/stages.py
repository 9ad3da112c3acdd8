"""Training one thing, after the stages that it requires.

An experiment names under `requires` the networks that it needs, each with the experiment that
trains it. A network whose checkpoint the user does not give (`checkpoints.NAME=PATH`) is trained
first and kept in the cache, in a folder whose name carries a hash of the stage's own resolved
config: a changed config never meets a stale network.
"""

import json
import logging
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning import Callback, LightningModule, Trainer, seed_everything
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities.model_helpers import is_overridden
from omegaconf import DictConfig, OmegaConf, open_dict

import cfexp
from cfexp.data.base import QueryDataModule
from cfexp.errors import InputError
from cfexp.evaluation.run_folder import RunFolder
from cfexp.models.loading.pretrained import file_hash
from cfexp.run.building import build, build_each
from cfexp.run.callbacks import batches_amid
from cfexp.run.command_line import typed
from cfexp.run.configuration import progress_of
from cfexp.run.folder_lock import claimed
from cfexp.run.label_maps import write_label_maps
from cfexp.run.loggers import keep_wandb_within
from cfexp.run.processes import SyncBatchNorms
from cfexp.run.provenance import write_provenance
from cfexp.run.quiet import hide_known_messages
from cfexp.run.stage_names import (
    DATA_SETS,
    SKIPPED,
    compose_stage,
    describe_data_sets,
    skipped_in,
    stage_folder,
)
from cfexp.run.stage_networks import refuse_pieces_of_networks
from cfexp.run.stopping import ended_between_batches
from cfexp.run.whole_checkpoints import WholeCheckpoints
from cfexp.whole_files import whole_file, write_whole

_log = logging.getLogger(__name__)
hide_known_messages()

WEIGHTS = Path(cfexp.__file__).parent / "weights"  # of stages, shipped; see embedded_weights.py
LABEL_MAPS = "label_maps.json"  # a stage that predicts leaves it in place of model.ckpt


class Fitted(NamedTuple):
    """What a config describes, ready to run; after `fit`, a training that has come to its end."""

    trainer: Trainer
    module: LightningModule
    data: QueryDataModule


def fit(config: DictConfig, folder: Path, *, resume: Path | None = None) -> Fitted:
    """Train what the config describes, with everything that it writes under `folder`; stages first.

    resume: a checkpoint to go on from. Raises InputError for a config that cannot be run.
    """
    if resume is not None:
        done = progress_of(resume)
        amid = f" and {done.batches} batches" if done.batches else ""
        _log.info("goes on after %d epochs%s: %s", done.epochs, amid, typed(resume))
    assembled = assemble(config, folder, "fit")
    trainer, module, data = assembled
    if resume is not None:
        # A schedule by step asks for the loader before Lightning reads the checkpoint, and worker
        # processes are given their first indices at once: those must be the ones that follow.
        trainer.fit_loop.epoch_progress.current.completed = done.epochs
        data.batches_seen = done.batches
    with ended_between_batches(trainer):
        trainer.fit(module, datamodule=data, ckpt_path=resume, weights_only=True)
    if trainer.received_sigterm:  # after its last batch
        sys.exit()
    if (batches := batches_amid(trainer)) and trainer.is_global_zero:
        amid = f"amid an epoch, after {batches} of its {trainer.num_training_batches} batches"
        _log.info("trainer.max_steps or max_time has ended the training %s", amid)
    return assembled


def assemble(config: DictConfig, folder: Path, stage: str) -> Fitted:
    """Trainer, module and data of a config, stages first, with what made them written to `folder`.

    stage: what the data is set up for, "fit" or "predict". Raises InputError for a config that
    cannot be run.
    """
    provide_stages(config)
    use_threads(config.num_threads)
    seed_everything(config.seed, workers=True, verbose=False)
    data: QueryDataModule = build(config.get("data"), "data")
    data.prepare_data()
    data.setup(stage)
    with open_dict(config):
        config.facts, config.folder = data.facts, str(folder)
    # The weights' start must not depend on how many numbers reading the data drew.
    seed_everything(config.seed, workers=True, verbose=False)
    module: LightningModule = build(config.get("explainer") or config.get("module"), "module")
    for note in getattr(getattr(module, "decision_model", None), "notes", ()):
        _log.info("note: %s", note)
    keep_wandb_within(folder)
    plugins: list[Any] = [WholeCheckpoints()]
    if config.trainer.get("sync_batchnorm"):
        plugins.append(SyncBatchNorms())
    trainer: Trainer = build(
        config.trainer,
        "trainer",
        callbacks=build_each(config.get("callbacks"), "callbacks", Callback),
        logger=build_each(config.get("logger"), "logger", Logger),
        plugins=plugins,
        default_root_dir=folder,
        _convert_="all",  # max_time={hours: 12} is no plain mapping to Lightning
    )
    if trainer.num_devices > 1:
        use_threads(config.num_threads, processes=trainer.num_devices)
        # Else Lightning lets each process have its share of the cores, whatever was asked for.
        os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))
    if trainer.is_global_zero:
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(folder / "config.yaml", OmegaConf.to_yaml(config, resolve=True))
        write_provenance(config, data, folder)
    return Fitted(trainer, module, data)


def use_threads(count: int | None, processes: int = 1) -> None:
    """Let torch compute on so many threads; None = on as many as OMP_NUM_THREADS says, or where it
    is not set, one for each core that one of so many processes may use.
    """
    if count is None and os.environ.get("OMP_NUM_THREADS"):
        return  # torch read it when it was loaded
    torch.set_num_threads(count or max(1, len(os.sched_getaffinity(0)) // processes))


def provide_stages(config: DictConfig) -> None:
    """Fill `checkpoints` with a file for every required stage, training those that are missing.

    Raises InputError as `check_given`.
    """
    check_given(config)
    if any(
        each is not None and not config.checkpoints.get(name)
        for name, each in (config.requires or {}).items()
    ):
        _try_decision_model(config)
    for name, requirement in _in_order(config):
        if config.checkpoints.get(name) is not None:
            continue
        if requirement is None:  # requires.NAME=null: what the config does without
            with open_dict(config):
                config.checkpoints.pop(name, None)
            continue
        with open_dict(config):
            config.checkpoints[name] = str(_trained_stage(str(name), requirement, config))


def _in_order(config: DictConfig) -> list[tuple[str, DictConfig | None]]:
    """The required stages by name, one that shares the checkpoint of another one after that."""
    stages = [(str(name), each) for name, each in (config.requires or {}).items()]

    def shares(stage: tuple[str, DictConfig | None]) -> bool:
        given: Any = [] if stage[1] is None else stage[1].get("share") or []
        return any(isinstance(each, str) and each.startswith("checkpoints.") for each in given)

    return sorted(stages, key=shares)


def check_given(config: DictConfig) -> None:
    """Raise InputError for a stage's checkpoint that is given and not there, for a classifier of a
    user's own (+decision=) that the experiment overrules, and for a piece of a network that its
    stage has.
    """
    required = config.requires or {}
    overruled = any(required.get(name) is not None for name in ("decision", "vqa_model"))
    if OmegaConf.select(config, "decision.model") is not None and overruled:
        raise InputError(
            "+decision=NAME must come after +experiment=NAME, whose decision model it replaces"
        )
    refuse_pieces_of_networks(config)
    for name in required:
        given = config.checkpoints.get(name)
        if given is not None and not Path(given).is_file():
            raise InputError(f"checkpoints.{name}={given}: no such file")


def _try_decision_model(config: DictConfig) -> None:
    """Raise InputError for a classifier of a user's own that cannot be used, before days of
    training.
    """
    size = OmegaConf.select(config, "data.image_size")
    if OmegaConf.select(config, "decision.model") is not None and size is not None:
        asked, (height, width) = config.copy(), size if OmegaConf.is_list(size) else (size, size)
        with open_dict(asked):
            asked.facts = {"height": height, "width": width}
        build(asked.decision.model, "decision")


def _trained_stage(name: str, requirement: DictConfig, config: DictConfig) -> Path:
    """The stage's checkpoint: shipped, or in the cache, trained now if it is not there; an
    interrupted one goes on.
    """
    stage, checkpoint = _stage_of(requirement, config)
    folder = checkpoint.parent
    if folder == WEIGHTS:
        _log.info("stage %s: shipped, %s", name, checkpoint.name)
        return checkpoint
    if not checkpoint.is_file():
        with claimed(folder, wait=True):
            # Another process has begun it with another data set.
            if stage_folder(stage, folder) != folder:
                return _trained_stage(name, requirement, config)
            if not checkpoint.is_file():
                write_whole(folder / DATA_SETS, json.dumps(describe_data_sets(stage), indent=2))
                made = "predicted" if stage.get("predicts") else "trained"
                _log.info("stage %s is %s first (once): %s", name, made, typed(folder))
                _make_stage(stage, folder)
                return checkpoint
    _log.info("stage %s: %s", name, typed(checkpoint))
    if stage.data.get("on_bad_sample") == "raise" and (count := skipped_in(folder)):
        skipped = f"{count} images that could not be read (data.on_bad_sample=skip)"
        problem = f"trained without {skipped}; to train it again, remove {typed(folder)}"
        _log.warning("stage %s was %s", name, problem)
    return checkpoint


def _stage_of(requirement: DictConfig, config: DictConfig) -> tuple[DictConfig, Path]:
    """The config of a stage, and where its checkpoint lies, or will: shipped, or in the cache."""
    stage, full_name = compose_stage(requirement, config)
    shipped = WEIGHTS / f"{full_name}.safetensors"
    if shipped.is_file() and config.use_shipped_weights:
        return stage, shipped
    folder = stage_folder(stage, Path(config.cache_dir).expanduser() / "stages" / full_name)
    return stage, folder / (LABEL_MAPS if stage.get("predicts") else "model.ckpt")


def missing_stages(config: DictConfig) -> Iterator[DictConfig]:
    """The configs of the stages that `provide_stages` would train, or predict, now."""
    config = config.copy()
    for name, requirement in _in_order(config):
        if requirement is not None and config.checkpoints.get(name) is None:
            stage, checkpoint = _stage_of(requirement, config)
            if not checkpoint.is_file():
                yield stage
                continue
            with open_dict(config):
                config.checkpoints[name] = str(checkpoint)


def _make_stage(stage: DictConfig, folder: Path) -> None:
    if stage.get("predicts"):
        predict_label_maps(stage, folder)
    else:
        finish_stage(fit(stage, folder, resume=last_checkpoint(folder)), folder)


def predict_label_maps(config: DictConfig, folder: Path) -> Path:
    """Predict the label map of every image of the data by the network into `folder`/label_maps,
    stages first.

    Returns `folder`/label_maps.json, which says what they are of, and is there when they all are.
    An interrupted call goes on. Raises InputError for a config that cannot be run.
    """
    provide_stages(config)
    use_threads(config.num_threads)
    data: Any = build(config.get("data"), "data")
    data.prepare_data()
    with open_dict(config):
        config.facts = data.facts
    on_gpu = torch.cuda.is_available() and config.trainer.accelerator != "cpu"
    device = "cuda" if on_gpu else "cpu"
    network = build(config.get("network"), "network")
    bf16 = str(config.trainer.precision).startswith("bf16")
    with torch.autocast(device, torch.bfloat16, enabled=bf16):
        count = write_label_maps(network, data, folder / "label_maps", device=device)
    hashes = {name: file_hash(path) for name, path in config.checkpoints.items()}
    content = {
        "images": count,
        "data_fingerprint": data.fingerprint,
        "checkpoints": hashes,
        **config.facts,
    }
    index = folder / LABEL_MAPS
    write_whole(index, json.dumps(content, indent=2))
    return index


def explain_what_is_left(fitted: Fitted, folder: Path) -> None:
    """Explain the queries of which the run folder has no explanation yet."""
    trainer, explainer, data = fitted
    done = RunFolder(folder).keys()
    if done and trainer.is_global_zero:
        print(f"goes on after {len(done)} explanations: {typed(folder)}")
    data.leave_out(done)
    trainer.predict(explainer, datamodule=data, return_predictions=False)


def finish_stage(fitted: Fitted, folder: Path) -> dict[str, float]:
    """Leave what a stage is for, for `checkpoints.NAME=`: `folder`/model.ckpt, and the vocabulary
    beside it.

    Its test figures are returned, and left in `folder`/metrics.json; of an explainer, whose figures
    are those of its run folders, the last validation's.
    """
    if is_overridden("test_step", fitted.module):
        (scores,) = fitted.trainer.test(fitted.module, datamodule=fitted.data, verbose=False)
    else:
        scores = {name: float(value) for name, value in fitted.trainer.logged_metrics.items()}
    if fitted.trainer.is_global_zero:
        write_whole(folder / "metrics.json", json.dumps(scores, indent=2))
        if skipped := fitted.data.dataset("train").bad_samples:
            write_whole(folder / SKIPPED, json.dumps({"train": skipped}))
        checkpoint = folder / "model.ckpt"
        fitted.data.save_vocabulary(folder)
        # The name that others look for appears last, and whole.
        with whole_file(checkpoint) as partial:
            torch.save(fitted.module.trained_state(), partial)  # type: ignore[operator]
    fitted.trainer.strategy.barrier()
    return dict(scores)


def last_checkpoint(folder: Path) -> Path | None:
    """Where an interrupted training in `folder` goes on, if it came so far."""
    path = folder / "checkpoints" / "last.ckpt"
    return path if path.is_file() else None
