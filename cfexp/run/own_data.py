"""What a data set of one's own says of a config: sizes, classes and counts, filled in before
anything is built.

A data module that has `settings` is asked for them once, by the command; its stages share what was
filled in, so that nothing is found twice and a changed data set never meets a stale network.
"""

import logging
from typing import Any

from hydra.utils import get_class
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from cfexp.data.own.made_maps import made_by
from cfexp.errors import InputError
from cfexp.run.building import build
from cfexp.run.command_line import quoted
from cfexp.run.stage_names import stage_config

_log = logging.getLogger(__name__)


def fill_in_from_data(config: DictConfig, *, say: bool = True) -> None:
    """Let a data set of one's own fill in what the config leaves open; a no-op for any other.

    `regions=grid:4x4` and the like become `data.label_maps`. say: print what was found. Raises
    InputError for what is wrong with the data.
    """
    target = OmegaConf.select(config, "data._target_")
    if target is None or not hasattr(get_class(target), "settings"):
        return
    take_regions_to_make(config)
    data: Any = build(config.data, "data")
    has_own_model = OmegaConf.select(config, "decision.model") is not None
    asks_for_label = OmegaConf.select(config, "explainer._target_") is not None
    if asks_for_label and not has_own_model and data.column is None:
        data.contents.label(None)  # which raises
    left_open = {
        setting: value
        for setting, value in data.settings().items()
        if _takes(config, setting, has_own_model)
    }
    with open_dict(config):
        for setting, value in left_open.items():
            OmegaConf.update(config, setting, value)
    if data.column is None:
        _without(config, "features", "module.feature_network")
    if not data.unmapped or not _needs_label_maps(config):
        _without(config, "layouts", "data.layouts")
    _share_with_stages(config)
    if say:
        for line in data.told():
            _log.info("%s", line)


def take_regions_to_make(config: DictConfig) -> None:
    """Let `regions=grid:4x4`, `regions=superpixels` and `regions=whole` say what label maps are
    made of; all of them may change then.
    """
    asked = config.get("regions")
    if OmegaConf.select(config, "data.label_maps", throw_on_missing=False) is None:
        return
    if not isinstance(asked, str) or (asked != "whole" and made_by(asked) is None):
        return
    given = config.data.get("label_maps")
    if given not in ("auto", asked):
        raise InputError(f"regions={asked} and data.label_maps={given}: give one of the two")
    with open_dict(config):
        config.data.label_maps, config.regions = asked, None


def _takes(config: DictConfig, setting: str, has_own_model: bool) -> bool:
    """Whether a setting is there and left open; a classifier of one's own says itself what it
    decides, but for names.
    """
    group, _, name = setting.rpartition(".")
    node = OmegaConf.select(config, group) if group else config
    if node is None or (not group and name not in node):
        return False
    if group == "decision" and has_own_model:
        sides = ("below", "above")
        said = any(config.decision.get(each) is not None for each in sides)
        if said or name not in (*sides, "class_names"):
            return False
    try:
        return OmegaConf.select(config, setting) is None
    except (InputError, OmegaConfBaseException):  # what nobody can say
        return True


def _needs_label_maps(config: DictConfig) -> bool:
    """Whether what the config builds looks at label maps: STEEX, and SEAN's training."""
    if "segmenter" in (config.get("explainer") or {}):
        return config.explainer.segmenter is None
    return str(OmegaConf.select(config, "module._target_")).endswith("AutoencoderStage")


def _without(config: DictConfig, stage: str, setting: str) -> None:
    """Let this config, and the stages that it requires, do without a stage and what it is for."""
    with open_dict(config):
        if stage in (config.get("requires") or {}):
            config.requires[stage] = None
            config.checkpoints.pop(stage, None)
            OmegaConf.update(config, setting, None)
        for requirement in (config.get("requires") or {}).values():
            if requirement is None or "experiment" not in requirement:
                continue
            if stage in (stage_config(requirement, config, complete=False).get("requires") or {}):
                left = [f"requires.{stage}=null", f"{setting}=null"]
                requirement.overrides = [*requirement.get("overrides", []), *left]


def _share_with_stages(config: DictConfig) -> None:
    """Let a stage that another stage requires, too, be the same there: `requires.layouts.overrides`
    and `checkpoints.layouts` of this config are of the autoencoder's label maps as well.
    """
    required = {name: each for name, each in (config.get("requires") or {}).items() if each}
    for name, own in required.items():
        checkpoint, overrides = config.checkpoints.get(name), own.get("overrides")
        if (checkpoint is None and not overrides) or "experiment" not in own:
            continue
        for requirement in required.values():
            if requirement is own or "experiment" not in requirement:
                continue
            stage = stage_config(requirement, config, complete=False)
            same = (stage.get("requires") or {}).get(name) or {}
            said = [each.lstrip("+") for each in requirement.get("overrides", [])]
            itself = (f"requires.{name}.", f"checkpoints.{name}=")
            if same.get("experiment") != own.experiment or any(
                each.startswith(itself) for each in said
            ):
                continue
            shared = f"++requires.{name}.overrides=[{','.join(map(quoted, overrides or []))}]"
            if checkpoint is not None:
                shared = f"checkpoints.{name}={quoted(checkpoint)}"
            with open_dict(config):
                requirement.overrides = [*requirement.get("overrides", []), shared]
