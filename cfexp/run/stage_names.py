"""What a trained stage is called, and where it lies: by what makes its numbers, and by which data
set it was made.

A name is the experiment's and a hash of the settings that count (`same_run`), of the checkpoints
that are given and of the names of the stages that are needed. Where the data set lies is no part of
it, as a data set may be moved; two data sets in two places are told apart by folders.
"""

import hashlib
import json
from functools import cache
from pathlib import Path
from typing import Any

from hydra.errors import HydraException, MissingConfigException
from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from cfexp.errors import InputError
from cfexp.run.building import build
from cfexp.run.composing import compose, search_path
from cfexp.run.mistyped import what_is_wrong
from cfexp.run.same_run import PLACES, counted, data_set_places, is_path, moved, real_path

# Of how stages are trained. Raise it with a change of the code that changes a trained network's
# numbers: every stage is trained again then (`make embedded-weights` for those that are shipped). A
# release alone is no such change.
RECIPE = 1
# What a stage shares with the run that needs it wherever both read data of one kind.
_OF_ONE_DATA_SET = (
    *("data.root", "data.split", "data.first_test_id", "data.holdout_images"),
    *("data.on_bad_sample", "data.num_workers", "data.cache_images"),
)
_ABSENT = object()  # what a config that requires a stage does not have
DATA_SETS, SKIPPED = "data_sets.json", "skipped.json"  # in a stage's folder


def compose_stage(requirement: DictConfig, config: DictConfig) -> tuple[DictConfig, str]:
    """The config of a stage that `config` requires, and the name of its results: its experiment's
    and a hash.
    """
    stage = stage_config(requirement, config)
    return stage, f"{requirement.experiment}-{config_hash(stage)}"


def stage_config(
    requirement: DictConfig, config: DictConfig, *, complete: bool = True
) -> DictConfig:
    """The config of a stage that `config` requires.

    complete: raise InputError for a setting that the stage cannot do without and `config` does not
    have; False = leave it out, as what the stage's network looks like does not depend on where its
    data lie.
    """
    overrides = [
        f"+experiment={requirement.experiment}",
        "logger=csv",
        *requirement.get("always", []),
        *requirement.get("overrides", []),
    ]
    where = tuple(search_path())
    size, chosen = config.get("size"), any(each.startswith("size=") for each in overrides)
    if size and not chosen and "size" in _composed(tuple(overrides), where):
        overrides.append(f"size={size}")
    stage = _composed(tuple(overrides), where).copy()
    own = {override.lstrip("+").partition("=")[0] for override in overrides}
    of_one_kind = OmegaConf.select(config, "data._target_") == OmegaConf.select(
        stage, "data._target_"
    )
    always = (
        "cache_dir",
        "num_threads",
        "seed",
        "use_shipped_weights",
        *((*_OF_ONE_DATA_SET, *_shared_by(stage)) if of_one_kind else ()),
    )
    for shared in (*always, *requirement.get("share", [])):
        # A stage on another data set: {data.root: celebamask_hq_root}
        for key, source in {shared: shared}.items() if isinstance(shared, str) else shared.items():
            try:
                value = OmegaConf.select(config, source, default=_ABSENT)
                if value in (None, _ABSENT) and source != key:
                    raise InputError(f"{source} must be given: {source}=VALUE")
            except (InputError, OmegaConfBaseException):
                if complete:
                    raise
                continue
            if key not in own and value is not _ABSENT:
                OmegaConf.update(stage, key, value, force_add=True)
    return stage


def _shared_by(config: DictConfig) -> tuple[str, ...]:
    """What else the stages on the config's data share: what these have filled in."""
    target = OmegaConf.select(config, "data._target_")
    return () if target is None else getattr(get_class(target), "shared_settings", ())


@cache
def _composed(overrides: tuple[str, ...], search_path: tuple[str, ...]) -> DictConfig:
    """A stage's config as it is by itself; composed once, as `${stage:NAME}` is looked up many
    times. Raises InputError for overrides that do not fit it.
    """
    try:
        return compose("train", [*search_path, *overrides])
    except MissingConfigException:
        raise  # no such experiment
    except HydraException as error:
        stage, given = overrides[0].removeprefix("+experiment="), " ".join(overrides[2:])
        problem = what_is_wrong(error, "train", overrides)
        raise InputError(f"the stage {stage} does not take {given!r}: {problem}") from None


def config_hash(config: DictConfig) -> str:
    """12 hexadecimal digits over what makes a trained network: see this module's docstring."""
    settings = counted(config, "stage").items()
    kept = {
        name: value
        for name, value in settings
        if name not in PLACES and not name.startswith("data.world.")
    }
    kept = {name: _content(name, value) for name, value in kept.items()} | _world(config)
    for name, requirement in (config.requires or {}).items():
        given = config.checkpoints.get(name)
        if given is not None or requirement is not None:
            kept[f"requires.{name}"] = (
                compose_stage(requirement, config)[1] if given is None else _content("path", given)
            )
    return hashlib.sha256(
        json.dumps([RECIPE, kept], sort_keys=True, default=str).encode()
    ).hexdigest()[:12]


def _world(config: DictConfig) -> dict[str, Any]:
    """The key of the embedded world that is read, if one is; it also says how that is drawn: see
    worlds/cache.py.
    """
    world = (
        None if config.data is None or data_set_places(config.data) else config.data.get("world")
    )
    return {} if world is None else {"data.world": build(world, "data.world").key}


def _content(name: str, value: Any) -> Any:
    """Of a file what is in it; of a folder where it is; any other value as it is."""
    if not is_path(name) or not isinstance(value, str) or value in ("ground_truth", "none"):
        return value
    path = Path(value).expanduser()
    if not path.is_file():
        return real_path(value)
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def stage_folder(config: DictConfig, folder: Path) -> Path:
    """`folder`, the first place for a stage of this name; another one beside it where that has
    other data sets.

    A data set that was moved is the same, see `moved`.
    """
    path = folder / DATA_SETS
    if not path.is_file():
        return folder
    made, asked = json.loads(path.read_text(encoding="utf-8")), _data_sets(config)
    places = {name: data_set_places(data) for name, data in asked.items()}
    if made.keys() == asked.keys() and all(
        made[name]["places"] == places[name]
        or moved(made[name]["places"], data, made[name]["fingerprint"])
        for name, data in asked.items()
    ):
        return folder
    digest = hashlib.sha256(json.dumps(places, sort_keys=True).encode()).hexdigest()[:8]
    return folder.with_name(f"{folder.name}-{digest}")


def describe_data_sets(config: DictConfig) -> dict[str, Any]:
    """Where the data sets of a stage and of those that it needs lie, and their fingerprints; none
    of embedded worlds.

    Raises InputError for one that cannot be read.
    """
    return {
        name: {"places": data_set_places(data), "fingerprint": build(data, "data").fingerprint}
        for name, data in _data_sets(config).items()
    }


def skipped_in(folder: Path) -> int:
    """How many images a stage was trained without, as they could not be read."""
    path = folder / SKIPPED
    return int(json.loads(path.read_text(encoding="utf-8"))["train"]) if path.is_file() else 0


def _data_sets(config: DictConfig) -> dict[str, DictConfig]:
    found = (
        {"data": config.data} if config.data is not None and data_set_places(config.data) else {}
    )
    for name, requirement in (config.requires or {}).items():
        if requirement is not None and config.checkpoints.get(name) is None:
            needed = _data_sets(compose_stage(requirement, config)[0])
            found |= {f"requires.{name}.{key}": data for key, data in needed.items()}
    return found
