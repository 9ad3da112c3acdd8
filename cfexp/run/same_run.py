"""Which settings change no number, in one table, and whether what a folder holds was made by the
same settings.

Four questions ask it: is a trained stage the one that a config describes (its name), may a training
go on in a folder, may explanations go on there, and what is a run's folder called by?
"""

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, NamedTuple

from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from cfexp.errors import InputError
from cfexp.run.building import build

Asked = Literal["stage", "training", "explanations", "folder"]


# What is compared otherwise, or looked at again, must still find the folder of its own command.
_NUMBERS: tuple[Asked, ...] = ("stage", "training", "explanations")
_ALWAYS: tuple[Asked, ...] = (*_NUMBERS, "folder")


class Neutral(NamedTuple):
    """Settings that change no number, by full name or pattern, why, and for which questions."""

    settings: tuple[str, ...]
    reason: str
    asked: tuple[Asked, ...] = _NUMBERS


_LENGTHS = (
    *("steps", "trainer.max_epochs", "trainer.max_steps"),
    *("trainer.max_time", "trainer.max_time.*"),
)
NEUTRAL = (
    Neutral(("name", "folder", "output"), "what a run is called and where it lies", _ALWAYS),
    Neutral(("cache_dir", "*.cache_dir"), "where files are kept", _ALWAYS),
    Neutral(("num_threads",), "how fast: the machine's affair", _ALWAYS),
    Neutral(("logger", "logger.*"), "who is told"),
    Neutral(("facts", "facts.*"), "follow from the data"),
    Neutral(("checkpoints", "checkpoints.*"), "compared by what is in them"),
    Neutral(("prefixes", "prefixes.*"), "counts where a network is loaded by it"),
    Neutral(("use_shipped_weights",), "what is shipped was trained by the same settings"),
    Neutral(("ckpt_path",), "where a training goes on; it ends with the same numbers"),
    Neutral(("data.cache_images", "data.num_workers"), "how fast images are read"),
    Neutral(
        ("data.eval_batch_size",), "how many images are looked at at once; none learns from another"
    ),
    Neutral(
        ("data.on_bad_sample",),
        "what can be read is the same; stages say what they skipped (SKIPPED)",
    ),
    Neutral(("*_optimizer.fused", "*.optimizer.fused"), "how fast a step of an optimizer is"),
    Neutral(("explainer.memory_budget", "*.checkpointing"), "memory for time", _ALWAYS),
    Neutral(
        (
            "trainer.accelerator",
            "trainer.devices",
            "trainer.num_nodes",
            "trainer.strategy",
            "trainer.strategy.*",
        ),
        "the machine's affair: a network's name is that of one process",
    ),
    Neutral(
        ("explainer.choose", "explainer.batch_statistics"),
        "how an explainer that is trained is used",
        ("stage", "training"),
    ),
    Neutral(("trainer.sync_batchnorm",), "of several processes, as these"),
    Neutral(("trainer.benchmark", "trainer.profiler", "trainer.detect_anomaly"), "how fast"),
    Neutral(
        (
            "trainer.enable_*",
            "trainer.log_every_n_steps",
            "trainer.barebones",
            "trainer.model_registry",
        ),
        "what is shown and written",
    ),
    Neutral(
        (
            "trainer.num_sanity_val_steps",
            "trainer.limit_val_batches",
            "trainer.check_val_every_n_epoch",
        ),
        "a validation learns nothing, and each epoch seeds its random numbers anew (SeedEachEpoch)",
    ),
    Neutral(
        ("trainer.limit_test_batches", "trainer.inference_mode"),
        "the network is as it is when it is tested",
    ),
    Neutral(("*_weights", "*_root", "counter_answer"), "counts where a setting refers to it"),
    Neutral(
        tuple(f"decision.{name}" for name in ("label", "below", "above", "output", "class_names")),
        "counts where the explainer refers to it",
    ),
    Neutral(
        ("network.*", "decision_network.*", "autoencoder_network.*", "segmenter_network.*"),
        "counts where modules or explainers refer to it; runs before cfexp 0.2 name networks apart",
        ("training", "explanations"),
    ),
    Neutral(("size", "networks.*"), "count where a network or a stage refers to them"),
    Neutral(
        ("train_images", "mapped_images"),
        "counts where a length does; the data's fingerprint says it",
    ),
    Neutral(("regions", "counter_class"), "count where the explainer refers to them"),
    Neutral(("experiment", "sweep"), "say what is set, in the folder above", ("folder",)),
    Neutral(
        ("label", "explainer.label", "evaluate", "objective", "objective.*"),
        "how the result is scored",
    ),
    Neutral(
        (
            "data.max_test_images",
            "data.max_test_questions",
            "data.predict_part",
            "trainer.limit_predict_batches",
        ),
        "the network is as it is when it is tested, and a stage explains nothing",
        ("stage",),
    ),
    Neutral(("requires", "requires.*"), "a stage that is needed counts by its name", ("stage",)),
    Neutral(
        ("requires", "requires.*", "decision.path"),
        "which networks are needed: their checkpoints are compared",
        ("training", "explanations"),
    ),
    Neutral(_LENGTHS, "a longer training begins as a shorter one", ("training",)),
    Neutral(
        (*_LENGTHS, "trainer.limit_train_batches", "data.batch_size"),
        "nothing is trained",
        ("explanations",),
    ),
)
# Callbacks that only look on; any other counts.
ONLOOKERS = {
    *(
        "cfexp.run.callbacks.ExplanationWriter",
        "cfexp.run.callbacks.ImageGrid",
        "cfexp.run.callbacks.SaveWhenStopped",
        "cfexp.run.cost.SayCost",
    ),
    *("lightning.pytorch.callbacks.RichProgressBar", "lightning.pytorch.callbacks.TQDMProgressBar"),
    *("lightning.pytorch.callbacks.RichModelSummary", "lightning.pytorch.callbacks.ModelSummary"),
    *(
        "lightning.pytorch.callbacks.ModelCheckpoint",
        "lightning.pytorch.callbacks.LearningRateMonitor",
    ),
    "lightning.pytorch.callbacks.DeviceStatsMonitor",
}
# Settings that name files or folders by their last part: how a path is spelled makes no difference.
_PATHS = (
    *("root", "*_root", "layouts", "image", "images", "label_map", "label_maps"),
    *("questions", "table", "path", "*_path", "weights", "*_weights", "checkpoint"),
)
PLACES = ("data.root", "data.oia_root")  # of data sets
# What a run has made, when it was begun to any effect:
_MADE = ("checkpoints", "model.ckpt", "explanations", "metrics.json")


def why_neutral(setting: str, asked: Asked) -> str | None:
    """Why a setting, by its full name, makes no difference; None where it does."""
    name = setting.replace("data.data_set.", "data.", 1)  # a user's own images have theirs within
    if setting != name and name in PLACES:
        return "no file of the data set is read in place of which a user's own images are"
    for row in NEUTRAL:
        if asked in row.asked and any(_matches(name, pattern) for pattern in row.settings):
            return row.reason
    return None


def counted(config: DictConfig, asked: Asked) -> dict[str, Any]:
    """The settings of a config that make a difference, by full name; one that is null is as if it
    were not there.

    A class of cfexp's counts by its name alone: where in cfexp it lies changes no number.
    """
    kept = {
        name: value for name, value in _leaves(config, asked) if why_neutral(name, asked) is None
    }
    onlookers = tuple(
        name.removesuffix("_target_") for name, value in kept.items() if str(value) in ONLOOKERS
    )
    return {
        name: f"cfexp.{value.rpartition('.')[2]}"
        if name.endswith("_target_") and value.startswith("cfexp.")
        else value
        for name, value in kept.items()
        if value is not None and not name.startswith(onlookers)
    }


def is_path(setting: str) -> bool:
    """Whether a setting names files or folders."""
    return any(fnmatchcase(setting.rpartition(".")[2], pattern) for pattern in _PATHS)


def real_path(value: Any) -> Any:
    """A path, or a list of them, in the one spelling of what is there; anything else as it is."""
    if isinstance(value, list):
        return [real_path(each) for each in value]
    path = Path(value).expanduser() if isinstance(value, str) else None
    return str(path.resolve()) if path is not None and path.exists() else value


def refuse_other_run(config: DictConfig, folder: Path, asked: Asked = "explanations") -> None:
    """Raise InputError if the run in `folder` was made by another config, with the first
    differences.

    To be called when the stages are provided. What is in no way part of an explanation or a
    training may differ, and so may the path of a checkpoint, but not its content; a data set may
    have been moved.
    """
    path, provenance = folder / "config.yaml", folder / "provenance.json"
    if not (
        path.is_file() and provenance.is_file() and any((folder / name).exists() for name in _MADE)
    ):
        return
    from cfexp.models.loading.pretrained import file_hash  # late: see train.py

    before, asked_for, made = (
        OmegaConf.load(path),
        config.copy(),
        json.loads(provenance.read_text(encoding="utf-8")),
    )
    assert isinstance(before, DictConfig)
    with open_dict(asked_for):
        # Filled in as it was: facts follow from the data, and checkpoints are compared by what is
        # in them.
        asked_for.facts, asked_for.checkpoints = before.get("facts"), before.get("checkpoints")
    old, new = counted(before, asked), counted(asked_for, asked)
    keys = [key for key in dict.fromkeys([*new, *old]) if _differ(key, old.get(key), new.get(key))]
    if not {*PLACES}.isdisjoint(keys) and moved(
        data_set_places(before.data), config.data, made.get("data_fingerprint")
    ):
        keys = [key for key in keys if key not in PLACES]
    differences = [f"{key}={new.get(key)} instead of {old.get(key)}" for key in keys]
    for name, checkpoint in config.checkpoints.items():
        digest, was = file_hash(checkpoint), made["checkpoints"].get(name, {}).get("sha256")
        if digest != was:
            differences.append(f"checkpoints.{name} of SHA-256 {digest}... instead of {was}...")
    if differences:
        shown = "; ".join(differences[:3]) + ("; ..." if len(differences) > 3 else "")
        remedy = "Remove it, or choose another hydra.run.dir"
        raise InputError(f"{folder} holds a run of another config: {shown}. {remedy}")


def data_set_places(data: DictConfig) -> dict[str, str]:
    """Where the files of a data set lie; nothing of an embedded world."""
    found = {name: data.get(name.partition(".")[2]) for name in PLACES}
    return {
        name: str(Path(place).expanduser().resolve())
        for name, place in found.items()
        if place is not None
    }


def moved(places: Mapping[str, str], data: DictConfig, fingerprint: str | None) -> bool:
    """Whether a data set is the one that lay in other places: those are gone, and the fingerprint
    is the same.

    Where they are still there the two may differ in what no fingerprint looks at: an image, a mask.
    """
    now = data_set_places(data)
    left = [place for name, place in places.items() if place != now.get(name)]
    if places.keys() != now.keys() or any(Path(place).exists() for place in left):
        return False
    try:
        return bool(build(data, "data").fingerprint == fingerprint)
    except InputError:  # it cannot be read; who reads it says so
        return False


def _matches(setting: str, pattern: str) -> bool:
    """A pattern without a dot is of settings that are in no group."""
    return fnmatchcase(setting, pattern) and ("." in pattern or "." not in setting)


def _differ(name: str, old: Any, new: Any) -> bool:
    return bool(real_path(old) != real_path(new) if is_path(name) else old != new)


def _leaves(config: DictConfig, asked: Asked, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Every setting by its full name, with its value, or as it is written where that is not known
    yet.
    """
    content = OmegaConf.to_container(config, resolve=False)
    assert isinstance(content, dict)
    for key, written in content.items():
        name, value = f"{prefix}{key!s}", written
        # What a checkpoint's path leads to counts by the checkpoint: a stage's name has its
        # content.
        by_checkpoint = asked == "stage" and "checkpoints." in str(written)
        if isinstance(written, dict) or ("${" in str(written) and not by_checkpoint):
            with suppress(OmegaConfBaseException, InputError):
                value = config[key]
        if isinstance(value, DictConfig):
            yield from _leaves(value, asked, f"{name}.")
        else:
            yield name, _plain(value)


def _plain(value: Any) -> Any:
    if OmegaConf.is_config(value):
        value = OmegaConf.to_container(value, resolve=True)
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_plain(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
