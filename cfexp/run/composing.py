"""Configs of other commands and of stages, composed as the running command composed its own."""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import hydra
from hydra import initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig

from cfexp.run.hub import with_hub_files

_SEARCH_PATH = "hydra.searchpath="


def composing() -> AbstractContextManager[Any]:
    """Where configs are composed: within a command, its own."""
    if GlobalHydra.instance().is_initialized():
        return nullcontext()
    return initialize_config_module("cfexp.conf", version_base="1.3")


def search_path() -> list[str]:
    """The overrides that name the running command's further folders of configs."""
    if not HydraConfig.initialized():
        return []
    given = HydraConfig.get().overrides.hydra
    return [str(each) for each in given if each.startswith(_SEARCH_PATH)]


def compose(command: str, overrides: Sequence[str]) -> DictConfig:
    """The config of a command, found where the running one finds its own.

    Raises as Hydra does, and InputError for a file of the Hub that cannot be had.
    """
    if not any(each.startswith(_SEARCH_PATH) for each in overrides):
        overrides = [*search_path(), *overrides]
    return with_hub_files(hydra.compose(command, overrides=list(overrides)))
