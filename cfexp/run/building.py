"""The objects that a config describes."""

import re
from collections.abc import Mapping
from typing import Any

from hydra.errors import InstantiationException
from hydra.utils import instantiate
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from cfexp.errors import InputError
from cfexp.run.mistyped import nearest

_UNKNOWN = re.compile(r"got an unexpected keyword argument '(\w+)'")


def build(config: DictConfig | None, name: str, **arguments: Any) -> Any:
    """Instantiate a config's `_target_`; InputError where that is missing, or where the object
    refuses its settings.
    """
    if config is None or "_target_" not in config:
        remedy = "choose an experiment, e.g. +experiment=vqa_color (--help lists them)"
        raise InputError(f"{name} has no _target_: {remedy}")
    try:
        return instantiate(config, **arguments)
    except InstantiationException as error:
        cause: BaseException | None = error
        while cause is not None and not isinstance(cause, InputError | OmegaConfBaseException):
            cause = cause.__cause__
        if cause is not None:
            raise cause from None
        reason = " ".join(str(error).split())
        unknown = _UNKNOWN.search(reason)
        if unknown is not None and (key := unknown[1]) in config:
            names = [str(each) for each in config if each not in (key, "_target_")]
            near = nearest(key, names)
            meant = f"is {name}.{near} meant?" if near else f"it has {', '.join(names)}"
            owner = str(config["_target_"]).rpartition(".")[2]
            raise InputError(
                f"{name}.{key}=: {owner} has no setting of this name; {meant}"
            ) from None
        raise InputError(f"{name}: {reason} (HYDRA_FULL_ERROR=1 shows more)") from error


def build_each(config: Mapping[str, Any] | None, name: str, kind: type[Any]) -> list[Any]:
    """Instantiate each of a group's configs that is not null; InputError also for one that is no
    `kind`.
    """
    built = [
        build(each, f"{name}.{key}") for key, each in (config or {}).items() if each is not None
    ]
    for key, each in zip(config or {}, built, strict=False):
        if not isinstance(each, kind):
            raise InputError(f"{name}.{key} must be a {kind.__name__}, got {type(each).__name__}")
    return built
