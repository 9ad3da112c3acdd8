"""Training one thing, after the stages that it requires.

An experiment names under `requires` the networks that it needs, each with the experiment that
trains it. A network whose checkpoint the user does not give (`checkpoints.NAME=PATH`) is trained
first and kept in the cache, in a folder whose name carries a hash of the stage's own resolved
config: a changed config never meets a stale network.
"""

import json
import logging
import os
import platform
import subprocess
import sys
import warnings
from collections.abc import Iterator, Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer, seed_everything
from lightning.fabric.plugins import TorchCheckpointIO
from lightning.pytorch.loggers import Logger
from lightning.pytorch.utilities import rank_zero_only
from lightning.pytorch.utilities.model_helpers import is_overridden
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

import cfexp
from cfexp.data.base import QueryDataModule
from cfexp.errors import InputError
from cfexp.models.loading.pretrained import file_hash
from cfexp.run.callbacks import batches_amid
from cfexp.run.command_line import typed
from cfexp.run.configuration import progress_of
from cfexp.run.folder_lock import claimed
from cfexp.run.label_maps import write_label_maps
from cfexp.run.loggers import keep_wandb_within
from cfexp.run.processes import SyncBatchNorms
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

_log = logging.getLogger(__name__)
if getattr(rank_zero_only, "rank", 0) > 0:  # the first of several processes says it for all
    logging.getLogger("cfexp").setLevel(logging.WARNING)
# Lightning advertises services and repeats its settings at every start; what it warns of is still
# shown.
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
logging.getLogger("lightning.fabric.utilities.distributed").setLevel(logging.WARNING)
warnings.filterwarnings(
    "ignore", message=".*isinstance\\(treespec, LeafSpec\\).*"
)  # Lightning's own, of torch
warnings.filterwarnings(
    "ignore", message="Found .* module.* in eval mode"
)  # the networks that are explained
warnings.filterwarnings(
    "ignore", message="Checkpoint directory .* exists and is not empty"
)  # of a run that goes on
# The discriminator's schedule goes on in the warm-up, in which its optimizer rests.
warnings.filterwarnings("ignore", message="Detected call of `lr_scheduler.step")
# The sampler begins where the run was stopped.
warnings.filterwarnings(
    "ignore", message="You're resuming from a checkpoint that ended before the epoch ended"
)
# A run that goes on without max_time.
warnings.filterwarnings(
    "ignore", message="Be aware that when using `ckpt_path`, callbacks used to create"
)
warnings.filterwarnings(
    "ignore", message=".*does not have many workers.*"
)  # cached images need none
# No harm; see trainer/ddp.yaml. What is to replace `broadcast_buffers` is newer than torch 2.6.
warnings.filterwarnings("ignore", message=".*find_unused_parameters=True was specified")
warnings.filterwarnings("ignore", message=".*broadcast_buffers. is deprecated")
warnings.filterwarnings(
    "ignore", message="It is recommended to use `self.log"
)  # of metrics that are gathered already
warnings.filterwarnings(
    "ignore", message="Total length of .* across ranks is zero"
)  # few queries, or all explained
warnings.filterwarnings(
    "ignore", message="Using `DistributedSampler` with the dataloaders"
)  # ours repeats none
warnings.filterwarnings(
    "ignore", message=".*number of training batches .* is smaller than the logging interval.*"
)

WEIGHTS = Path(cfexp.__file__).parent / "weights"  # of stages, shipped; see embedded_weights.py
LABEL_MAPS = "label_maps.json"  # a stage that predicts leaves it in place of model.ckpt


class Fitted(NamedTuple):
    """What a config describes, ready to run; after `fit`, a training that has come to its end."""

    trainer: Trainer
    module: LightningModule
    data: QueryDataModule


class WholeCheckpoints(TorchCheckpointIO):
    """Checkpoints that appear under their name when they are whole, whatever kills the process.

    Lightning writes into the system's temporary folder and moves the file; from another file system
    that is a copy.
    """

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None
    ) -> None:
        """As always, but beside `path` first."""
        partial = partial_path(Path(path))
        super().save_checkpoint(checkpoint, partial, storage_options)
        partial.replace(path)


def partial_path(path: Path) -> Path:
    """Where this process writes what shall appear at `path` at once, and whole."""
    return path.with_name(f"{path.name}.{os.getpid()}.partial")


def write_whole(path: Path, text: str) -> None:
    """Write a file that appears under its name, or takes the place of what is there, when it is
    whole.
    """
    partial = partial_path(path)
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


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
    trainer: Trainer = build(
        config.trainer,
        "trainer",
        callbacks=_build_each(config.get("callbacks"), "callbacks", Callback),
        logger=_build_each(config.get("logger"), "logger", Logger),
        plugins=[
            WholeCheckpoints(),
            *([SyncBatchNorms()] if config.trainer.get("sync_batchnorm") else []),
        ],
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
        _write_provenance(config, data, folder)
    return Fitted(trainer, module, data)


def _write_provenance(config: DictConfig, data: Any, folder: Path) -> None:
    """What made the results of this folder, beside them."""
    # A hash whether or not it is tagged, with -dirty where files differ from it.
    describe = ["git", "describe", "--always", "--abbrev=40", "--exclude=*", "--dirty"]
    revision = subprocess.run(
        describe,
        cwd=Path(cfexp.__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    packages = (
        "torch",
        "torchvision",
        "lightning",
        "torchmetrics",
        "hydra-core",
        "numpy",
        "pillow",
        "pyarrow",
    )
    content = {
        "command": sys.argv,
        "seed": config.seed,
        "git_revision": revision.stdout.strip() or None,
        "data_fingerprint": data.fingerprint,
        "checkpoints": {
            name: {"path": path, "sha256": file_hash(path)}
            for name, path in config.checkpoints.items()
        },
        "versions": {
            "cfexp": cfexp.__version__,
            **{package: version(package) for package in packages},
        },
        "machine": f"{_processor()}, {os.cpu_count()} cores, {torch.get_num_threads()} torch threads",
    }
    write_whole(folder / "data.json", json.dumps(data.description, indent=2))
    write_whole(folder / "provenance.json", json.dumps(content, indent=2))


def _processor() -> str:
    """What computes here: the graphics card if there is one, else the processor as Linux calls it."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text(encoding="utf-8").splitlines() if cpuinfo.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0]} ({platform.machine()})" if names else platform.machine()


def use_threads(count: int | None, processes: int = 1) -> None:
    """Let torch compute on so many threads; None = one for each core that one of so many processes
    may use.
    """
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
    for name, requirement in (config.requires or {}).items():
        given = config.checkpoints.get(name)
        if (
            requirement is None and given is None
        ):  # requires.NAME=null: what the config does without
            with open_dict(config):
                config.checkpoints.pop(name, None)
            continue
        if given is not None:
            continue
        with open_dict(config):
            config.checkpoints[name] = str(_trained_stage(str(name), requirement, config))


def check_given(config: DictConfig) -> None:
    """Raise InputError for a stage's checkpoint that is given and not there, for a classifier of a
    user's own (+decision=) that the experiment overrules, and for a piece of a network that its
    stage has.
    """
    overruled = any(
        (config.requires or {}).get(name) is not None for name in ("decision", "vqa_model")
    )
    if OmegaConf.select(config, "decision.model") is not None and overruled:
        raise InputError(
            "+decision=NAME must come after +experiment=NAME, whose decision model it replaces"
        )
    refuse_pieces_of_networks(config)
    for name in config.requires or {}:
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
            if (
                stage_folder(stage, folder) != folder
            ):  # another process has begun it with another data set
                return _trained_stage(name, requirement, config)
            if not checkpoint.is_file():
                write_whole(folder / DATA_SETS, json.dumps(describe_data_sets(stage), indent=2))
                made = "predicted" if stage.get("predicts") else "trained"
                _log.info("stage %s is %s first (once): %s", name, made, typed(folder))
                _make_stage(stage, folder)
                return checkpoint
    _log.info("stage %s: %s", name, typed(checkpoint))
    if stage.data.get("on_bad_sample") == "raise" and (count := skipped_in(folder)):
        left_out = (
            f"trained without {count} images that could not be read (data.on_bad_sample=skip)"
        )
        _log.warning("stage %s was %s; to train it again, remove %s", name, left_out, typed(folder))
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
    for name, requirement in (config.requires or {}).items():
        if requirement is not None and config.checkpoints.get(name) is None:
            stage, checkpoint = _stage_of(requirement, config)
            if not checkpoint.is_file():
                yield stage


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
    network = build(config.get("network"), "network")
    count = write_label_maps(
        network, data, folder / "label_maps", device="cuda" if on_gpu else "cpu"
    )
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
        partial = partial_path(checkpoint)
        torch.save(fitted.module.trained_state(), partial)  # type: ignore[operator]
        partial.replace(checkpoint)
    fitted.trainer.strategy.barrier()
    return dict(scores)


def last_checkpoint(folder: Path) -> Path | None:
    """Where an interrupted training in `folder` goes on, if it came so far."""
    path = folder / "checkpoints" / "last.ckpt"
    return path if path.is_file() else None


def build(config: DictConfig | None, name: str, **arguments: Any) -> Any:
    """Instantiate a config's `_target_`; InputError where that is missing, or where the object
    refuses its settings.
    """
    if config is None or "_target_" not in config:
        raise InputError(
            f"{name} has no _target_: choose an experiment, e.g. +experiment=vqa_color (--help lists them)"
        )
    try:
        return instantiate(config, **arguments)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, InputError | OmegaConfBaseException):
            cause = cause.__cause__
        if cause is not None:
            raise cause from None
        raise InputError(
            f"{name}: {' '.join(str(error).split())} (HYDRA_FULL_ERROR=1 shows more)"
        ) from error


def _build_each(config: Mapping[str, Any] | None, name: str, kind: type[Any]) -> list[Any]:
    built = [
        build(each, f"{name}.{key}") for key, each in (config or {}).items() if each is not None
    ]
    for key, each in zip(config or {}, built, strict=False):
        if not isinstance(each, kind):
            raise InputError(f"{name}.{key} must be a {kind.__name__}, got {type(each).__name__}")
    return built
