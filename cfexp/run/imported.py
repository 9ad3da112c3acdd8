"""Somebody else's counterfactuals in place of an experiment's: who decides, and what is read."""

from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from cfexp.data.imported.module import LABEL
from cfexp.errors import InputError
from cfexp.evaluation.run_folder import RunFolder
from cfexp.run.building import build
from cfexp.run.own_queries import data_set_without_files
from cfexp.run.stage_networks import leave_out_unused_stages
from cfexp.run.stages import provide_stages

_FILES = ("query", "counterfactual", "reconstruction", "further", "ace", "labels")
_SAID_OF = ("results", "batch_size", "on_bad_sample")


def use_imported(config: DictConfig) -> None:
    """Let a config decide about imported images; says what is odd about them, and provides the
    decision model.

    Raises InputError where nobody decides, and for files that cannot be used, before anything is
    trained.
    """
    written: Any = OmegaConf.to_container(config, resolve=False)
    explainer = written.get("explainer") or {}
    if not explainer.get("decision_model"):
        which = "+experiment=steex_smile (its decision model), or +decision=torchscript (--help)"
        raise InputError(f"nobody decides: say who does by {which}")
    if written.get("data") and get_object(config.data._target_).asks_questions:
        raise InputError(
            "imported images are decided by a classifier: this experiment asks questions"
        )
    data_set = data_set_without_files(config) if written.get("data") else None
    for name in _FILES:  # however a path is spelled, the run is the same
        if config[name] is not None:
            config[name] = _resolved(config[name])
    own: dict[str, Any] = {
        "_target_": "cfexp.data.imported.module.ImportedImages",
        **{name: config[name] for name in (*_FILES, *_SAID_OF)},
        "class_names": config.decision.class_names,
        "label": config.label,
        "data_set": data_set,
    }
    images = build(OmegaConf.create(own), "import")
    for line in images.check():
        print(f"note: {line}")
    with open_dict(config):
        if config.label is None and any(
            each.reported is not None and each.reported.label is not None
            for each in images.imported
        ):
            config.label = LABEL
        config.explainer = {
            "_target_": "cfexp.explainers.imported.Imported",
            "decision_model": explainer["decision_model"],
            "head": "${decision.output}",
            "class_names": "${decision.class_names}",
            "label": "${label}",
            "counter_class": "${counter_class}",
            "method": "${method}",
            "starts_from": "${starts_from}",
        }
        config.requires.pop("explainer", None)
        config.evaluate = []  # who judges the experiment's pictures may not know such
    leave_out_unused_stages(config)
    with open_dict(config):
        config.facts = images.facts
    provide_stages(config)
    with open_dict(config):
        config.data = {**own, "fingerprint": images.fingerprint}


def _resolved(given: Any) -> Any:
    if isinstance(given, ListConfig):
        return [_resolved(each) for each in given]
    return str(Path(given).expanduser().resolve())


def say_agreement(folder: Path) -> None:
    """Print how far the decision model sees what was reported otherwise; nothing where nothing was.

    A counterfactual that another model counts as a success is none of ours.
    """
    records = RunFolder(folder).records()
    told = [record for record in records if record.get("reported_success", -1) >= 0]
    for success, called in ((1, "successes (CCF)"), (0, "failures (ICF)")):
        of = [record for record in told if record["reported_success"] == success]
        differ = sum(record["outcome_agrees"] == 0 for record in of)
        if of:
            print(
                f"reported {called}: the decision model here sees {differ} of {len(of)} otherwise"
            )
    decided = [record for record in records if record.get("decision_agrees", -1) >= 0]
    if decided:
        differ = sum(record["decision_agrees"] == 0 for record in decided)
        print(f"reported decisions about queries: {differ} of {len(decided)} are otherwise here")
