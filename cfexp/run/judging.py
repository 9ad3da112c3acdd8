"""The measures of a run, with the networks that they ask, built from what the config of
`cfexp.evaluate` gives.
"""

import json
from functools import partial
from pathlib import Path
from typing import Any

from omegaconf import DictConfig, OmegaConf, open_dict

from cfexp.errors import InputError
from cfexp.evaluation.measure.base import BOTH, Facts, Measure, Measures
from cfexp.evaluation.measure.known import Known, in_order, known_files, make
from cfexp.run.building import build
from cfexp.run.command_line import quoted
from cfexp.run.composing import compose
from cfexp.run.stage_names import compose_stage
from cfexp.run.stages import provide_stages

FILE = "checkpoints."  # what a need begins with that is a file


def measures_on(folder: Path, config: DictConfig, built: dict[str, Any]) -> list[Measures]:
    """The measures of conf/measure/ and of `config.measure`, for the run in `folder`.

    Those that lack something say what. config.measure.NAME: settings of one, or of one's own; null
    = without it.
    built: the networks that were built before, by what describes them; those of this run are added.
    Raises InputError for a checkpoint that is missing or does not fit, for a network without its
    checkpoint, and for a measure that there is not.
    """
    config = config.copy()
    with open_dict(config):
        config.run = str(folder)
        own = {str(name): content for name, content in (config.pop("measure", None) or {}).items()}
        without = {name for name, content in own.items() if content is None}
        names = [name for name in {**known_files(), **own} if name not in without]
        config.measure = {
            name: OmegaConf.merge(known_files().get(name, {}), own.get(name, {})) for name in names
        }
        known = in_order({name: _plain(config.measure[name]) for name in names})
        config.judging = sorted(
            {need.removeprefix(FILE) for each in known for need in each.needs if _is_file(need)}
        )
        _find_networks(config)
    return [_measure(each, config, built) for each in known]


def judges_asked_for(folder: Path, config: DictConfig) -> dict[str, Any]:
    """What `score_and_show` is to be given of the run in `folder` for `config.evaluate`, overrides
    of `cfexp.evaluate`.

    Raises as `measures_on`.
    """
    if not config.evaluate:
        return {}
    asked = compose("evaluate", [*config.evaluate, f"run={quoted(folder)}"])
    for shared in ("cache_dir", "num_threads", "use_shipped_weights"):
        asked[shared] = config[shared]
    provide_stages(asked)
    return {"era": asked.era, "measures": measures_on(folder, asked, {})}


def _measure(known: Known, config: DictConfig, built: dict[str, Any]) -> Measures:
    lacking = next((need for need in known.needs if not OmegaConf.select(config, need)), None)
    if lacking is not None:
        reason = f"no +{lacking}=PATH" if _is_file(lacking) else f"needs {lacking}=true"
        return Measure(
            known.name,
            None,
            needs=partial(_is_said, mention=known.mention),
            also=BOTH,
            missing=reason,
        )
    settings = {}
    for name in known.settings:
        value = _plain(config.measure[known.name], resolve=True)[name]
        if isinstance(value, dict) and "_target_" in value:  # a network
            described = json.dumps(value, sort_keys=True, default=str)
            if described not in built:
                built[described] = build(OmegaConf.create(value), f"measure.{known.name}.{name}")
            value = built[described]
        settings[name] = value
    return make(known, settings)


def _is_said(facts: Facts, mention: bool | str) -> bool:
    """Whether people who look at such pictures are told that a measure was not computed."""
    if isinstance(mention, bool):
        return mention
    return mention in facts.region_names or facts.some_show(mention)


def _find_networks(config: DictConfig) -> None:
    """Of each `NAME_network` that loads checkpoints.NAME, but is not said: the stage's, if a stage
    was trained for it.

    Raises InputError for a network that is said without its checkpoint.
    """
    for name in config.judging:
        checkpoint, setting = config.checkpoints.get(name), f"{name}_network"
        if setting not in config:
            continue
        if config[setting] is not None and checkpoint is None:
            raise InputError(f"{setting} is given, its weights are not: checkpoints.{name}=PATH")
        requirement = (config.requires or {}).get(name)
        beside = checkpoint is not None and (Path(checkpoint).parent / "config.yaml").is_file()
        if config[setting] is None and requirement is not None and not beside:
            network = _plain(compose_stage(requirement, config)[0].network, resolve=True)
            loader = {
                "_target_": "cfexp.models.loading.pretrained.load_network",
                "checkpoint": checkpoint,
            }
            config[setting] = {**loader, "network": network}


def _is_file(need: str) -> bool:
    return need.startswith(FILE)


def _plain(node: Any, *, resolve: bool = False) -> dict[str, Any]:
    content = OmegaConf.to_container(node, resolve=resolve)
    assert isinstance(content, dict)
    return {str(name): value for name, value in content.items()}
