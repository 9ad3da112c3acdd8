"""What an experiment says of its stages in a word, by resolvers of OmegaConf.

`configuration` registers them. `${stage:decision}` is the network of the stage `decision`, with its
weights: the experiment that trains a network is the only place that declares it. `decision:` says
which decision of that network is explained.
"""

from collections.abc import Mapping
from typing import Any

from hydra.utils import get_class
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from cfexp.errors import InputError
from cfexp.run.composing import composing
from cfexp.run.stage_names import stage_config

LOAD_NETWORK = "cfexp.models.loading.pretrained.load_network"


def stage_network(name: str, *, _parent_: DictConfig, _root_: DictConfig) -> DictConfig:
    """What builds the network of a required stage and loads `checkpoints.NAME` into it.

    The network is that of the stage's own config, with `requires.NAME.overrides`; its weights to
    train from are left out, as the checkpoint holds them, and it has an output for each label that
    the stage names, whichever the data here has. `prefixes.NAME` is that of the file's keys, if
    there is one.

    Raises InputError where no such stage is required, or it has no network.
    """
    stage = _stage(name, _root_)
    if stage is None:
        lacks = f"its experiment says which network checkpoints.{name} is of"
        raise InputError(f"requires.{name} is missing: {lacks}")
    if stage.get("network") is None:
        raise InputError(f"requires.{name}: {stage.name} has no network")
    labels = _labels_named_by(stage)
    # With the same labels it stays as it is written, by which stages are named.
    sizes = {}
    if labels is not None and labels != OmegaConf.select(_root_, "data.attributes"):
        sizes["${facts.num_classes}"] = len(labels)
    content = {
        "_target_": LOAD_NETWORK,
        "network": _without_weights(stage.network, sizes),
        "checkpoint": f"${{checkpoints.{name}}}",
    }
    if (prefix := OmegaConf.select(_root_, f"prefixes.{name}")) is not None:
        content["prefix"] = prefix
    return OmegaConf.create(content, parent=_parent_)


def leave_out_unused_stages(config: DictConfig) -> None:
    """Require no stage of which neither explainer nor data say a word: another explainer needs
    other networks.

    But for `explainer`, the training of the explainer itself: see `explainer_stage`. Raises
    InputError for a stage that names no experiment, as one that is misspelt does.
    """
    replaced = OmegaConf.select(config, "decision.model") is not None  # by a model of one's own
    for name, requirement in (config.requires or {}).items():
        known_as_none = name == "explainer" or (replaced and name in ("decision", "vqa_model"))
        if requirement is not None and not known_as_none and "experiment" not in requirement:
            known = ", ".join(str(each) for each in config.requires if each != name)
            raise InputError(
                f"requires.{name}: names no experiment; required here: {known or 'nothing'}"
            )
    written: Any = OmegaConf.to_container(config, resolve=False)
    said = str(
        [
            each
            for key, each in written.items()
            if key not in ("requires", "checkpoints", "prefixes")
        ]
    )
    for name in list(config.requires or {}):
        if name != "explainer" and not any(
            f"{by}{name}" in said for by in ("stage:", "checkpoints.")
        ):
            with open_dict(config):
                config.requires[name] = None
                config.checkpoints.pop(str(name), None)


def refuse_pieces_of_networks(config: DictConfig) -> None:
    """Raise InputError for what was set below `${stage:NAME}`, which is no group of settings.

    Of +explainer.decision_model.prefix=model. OmegaConf puts the prefix in the network's place.
    """
    written: Any = OmegaConf.to_container(config, resolve=False)
    for key, value in (written.get("explainer") or {}).items():
        if (
            isinstance(value, dict)
            and value
            and value.keys() <= {"network", "checkpoint", "prefix", "freeze"}
        ):
            given = f"explainer.{key}.{next(iter(value))}="
            overrides = "+requires.NAME.overrides=['network.SETTING=VALUE']"
            raise InputError(
                f"{given} is none of the settings: the network is that of a stage; give "
                f"{overrides}, checkpoints.NAME=PATH or +prefixes.NAME=PREFIX"
            )


def explained_output(*, _root_: DictConfig) -> int | None:
    """Which output of the decision model is explained, by the label's place among its stage's.

    None where `decision.label` names none. Raises InputError for a label that the stage is not
    trained on.
    """
    label = OmegaConf.select(_root_, "decision.label")
    if label is None:
        return None
    stage = _stage("decision", _root_)
    if stage is None:
        raise InputError(
            f"decision.label={label}: no stage `decision` is required; give decision.output=NUMBER"
        )
    data: Any = get_class(stage.data._target_)
    names = _labels_named_by(stage) or [*data.class_names]
    if label not in names:
        raise InputError(
            f"decision.label={label} is none of the outputs of {stage.name}: {', '.join(names)}"
        )
    return names.index(label)


def explained_sides(required: str | None = None, *, _parent_: DictConfig) -> ListConfig | None:
    """The names of the decision below and above 0; None where there are none.

    Raises InputError for one of the two, and for none where they are required.
    """
    below, above = _parent_.get("below"), _parent_.get("above")
    if required is not None and below is None and above is None:
        raise InputError("decision.class_names must be given: decision.class_names=VALUE")
    if (below is None) != (above is None):
        raise InputError(f"decision: give both below= and above=, got {below} and {above}")
    return None if below is None else OmegaConf.create([below, above], parent=_parent_)


def _stage(name: str, root: DictConfig) -> DictConfig | None:
    requirement = OmegaConf.select(root, f"requires.{name}")
    if requirement is None:
        return None
    with composing():
        return stage_config(requirement, root, complete=False)


def _labels_named_by(stage: DictConfig) -> list[str] | None:
    """The labels that a stage is trained on, one a head; None where its data set says which."""
    heads = OmegaConf.select(stage, "module.heads") or OmegaConf.select(stage, "data.attributes")
    return [*heads] if heads else None


def _without_weights(network: DictConfig, sizes: Mapping[str, int]) -> dict[str, Any]:
    """A network's settings as plain values; sizes of the data stay as they are written, but for
    those given, by how they are written.
    """
    written: Any = OmegaConf.to_container(network, resolve=False)
    return {
        key: None
        if key == "weights"
        else sizes.get(str(text), text)
        if str(text).startswith("${facts.")
        else _plain(network[key], sizes)
        for key, text in written.items()
    }


def _plain(value: Any, sizes: Mapping[str, int]) -> Any:
    if isinstance(value, DictConfig):
        return _without_weights(value, sizes)
    return OmegaConf.to_container(value, resolve=True) if OmegaConf.is_config(value) else value
