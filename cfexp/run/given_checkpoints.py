"""Checkpoints that a user gives, held against their networks before any stage is trained.

The networks are built on torch's `meta` device, where tensors have a shape and no content.
"""

import logging
import warnings
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import torch
from lightning import LightningModule
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn

from cfexp.errors import InputError
from cfexp.explainers.base import Explainer
from cfexp.models.loading.pretrained import load_network
from cfexp.run.building import build
from cfexp.run.explainer_stage import NAME as EXPLAINER
from cfexp.run.explainer_stage import trained_weights
from cfexp.run.stage_networks import LOAD_NETWORK

_log = logging.getLogger(__name__)
# The parts of a config that have networks of stages.
_PARTS = ("explainer", "module", "network")


def with_facts(config: DictConfig) -> DictConfig | None:
    """A copy of the config with what its data say of its networks' sizes; None where no checkpoint
    is given, or the data cannot be read, of which others tell.
    """
    if all(path is None for path in (config.get("checkpoints") or {}).values()):
        return None
    copy = config.copy()
    with suppress(InputError, OSError):
        facts = build(config.get("data"), "data").facts
        with open_dict(copy):
            copy.facts = {**config.facts, **facts}
        return copy
    return None


def refuse_what_does_not_fit(config: DictConfig, module: LightningModule | None) -> None:
    """Raise InputError for a given checkpoint whose weights are of another network than its stage
    has, such as one of another number of classes.

    config: as `with_facts` made it. module: what it describes, without content; None = it cannot be
    made so.
    """
    names = {str(path): str(name) for name, path in config.checkpoints.items() if path is not None}
    for part in _PARTS:
        if config.get(part) is None:
            continue
        for loaded in _loaded(OmegaConf.to_container(config[part], resolve=True)):
            if (path := loaded.get("checkpoint")) in names:
                _try(loaded, names[path])
    path = config.checkpoints.get(EXPLAINER)
    if path is not None and isinstance(module, Explainer):
        trained_weights(module, path)


def _try(loaded: dict[str, Any], name: str) -> None:
    """Load a checkpoint into its network."""
    with torch.random.fork_rng(devices=[]), torch.device("meta"):
        try:
            network: nn.Module = build(OmegaConf.create(loaded["network"]), name)
        except Exception as error:  # a network that cannot be built so is left to the run
            _log.debug("checkpoints.%s cannot be tried: %s", name, error)
            return
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)  # that nothing is copied to `meta`
            load_network(network, loaded["checkpoint"], prefix=loaded.get("prefix") or "")
    except InputError as error:
        remedy = f"leave checkpoints.{name}= out, and it is trained"
        raise InputError(f"checkpoints.{name}={error}; {remedy}") from None


def _loaded(content: Any) -> Iterator[dict[str, Any]]:
    """Whatever a plain config loads a network by."""
    if isinstance(content, dict):
        if content.get("_target_") == LOAD_NETWORK:
            yield content
        for each in content.values():
            yield from _loaded(each)
    elif isinstance(content, list):
        for each in content:
            yield from _loaded(each)
