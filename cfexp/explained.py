"""The model that a run explained, by the run's own config, and one trained like it but independently."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor, nn

from cfexp.configuration import run_config
from cfexp.data.vqa_vocabulary import Vocabulary
from cfexp.errors import InputError
from cfexp.evaluation.attack import Attack, Decide
from cfexp.losses import exclusive_logits
from cfexp.models.pretrained import load_network
from cfexp.run_checkpoints import with_its_checkpoints
from cfexp.stages import build, provide_stages


def attack_on(folder: Path, config: DictConfig) -> Attack | None:
    """What `config.attack` asks of the run in `folder`; None where it asks nothing.

    config.checkpoints.explained: of the model that was explained; None = where the run's config says. second_model: of
    another model for the same decision; None = the explained model's stage with the overrides attack.second_model,
    trained first where it is missing. Raises InputError for a run that does not say what it explained, for a setting
    that there is not, and for files that are missing or do not fit.
    """
    if config.get("attack") is None:
        return None
    run, loader, explained = _explained(folder, config)
    if not config.attack.get("epsilons", [1]) or not config.attack.get("max_queries", 1):
        raise InputError("attack: epsilons and max_queries must not be empty or 0")
    second = _second_model(run, str(loader.checkpoint), config)
    settings = {str(key): value for key, value in config.attack.items() if key != "second_model"}
    try:
        return Attack(_decide(run, loader, explained), _decide(run, loader, second), **settings)
    except TypeError as error:  # a setting that there is not
        raise InputError(f"attack: {str(error).removeprefix('Attack.__new__() ')}") from None


def explained_model(folder: Path, config: DictConfig) -> Decide:
    """The model that the run in `folder` explained; config.checkpoints.explained and errors as in `attack_on`."""
    return _decide(*_explained(folder, config))


def _explained(folder: Path, config: DictConfig) -> tuple[DictConfig, DictConfig, Path]:
    """A run's config, what loads the model that it explained, and that model's checkpoint."""
    run = with_its_checkpoints(run_config(folder), folder)
    loader = OmegaConf.select(run, "explainer.decision_model")
    if loader is None or "checkpoint" not in loader:
        raise InputError(f"{folder}/config.yaml does not say which model was explained")
    explained = Path(config.checkpoints.get("explained") or loader.checkpoint)
    if not explained.is_file():
        raise InputError(f"{explained}, which {folder} explained, is not there: give checkpoints.explained=PATH")
    return run, loader, explained


def _second_model(run: DictConfig, explained: str, config: DictConfig) -> Path:
    """The second model's checkpoint, trained first where it is missing."""
    given = config.checkpoints.get("second_model")
    names = [name for name, path in run.checkpoints.items() if path == explained]
    requirement = run.requires.get(names[0]) if names else None
    if given is None and requirement is None:
        raise InputError(
            "attack: the run names no stage that trains a second model: give checkpoints.second_model=PATH"
        )
    stages = run.copy()
    with open_dict(stages):
        stages.update({key: config[key] for key in ("cache_dir", "num_threads", "use_shipped_weights")})
        stages.checkpoints = {"second_model": given}
        stages.requires = {"second_model": requirement or {}}
        changed = [*stages.requires.second_model.get("overrides", []), *config.attack.second_model]
        stages.requires.second_model.overrides = changed
    provide_stages(stages)
    return Path(stages.checkpoints.second_model)


def _decide(run: DictConfig, loader: DictConfig, checkpoint: Path) -> Decide:
    """A model as a function; its network is that of the stage whose folder it lies in, else the explained one's."""
    own = run_config(checkpoint.parent).get("network")
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network: nn.Module
    if own is None:
        network = build(loader, "explainer.decision_model", checkpoint=str(checkpoint))
    else:
        network = load_network(build(own, "network"), checkpoint)
    network = network.to(device)
    if OmegaConf.select(run, "data.max_question_length") is not None:
        return _of_questions(network, run, checkpoint, device)
    head = OmegaConf.select(run, "explainer.head")

    def decide(images: Tensor, records: Sequence[Mapping[str, Any]]) -> Tensor:
        return exclusive_logits(network(images.to(device)).to(images.device), head)

    return decide


def _of_questions(network: nn.Module, run: DictConfig, checkpoint: Path, device: str) -> Decide:
    beside = checkpoint.parent / "vocabulary.json"
    vocabulary = Vocabulary.load(beside if beside.is_file() else Path(run.data.vocabulary_path))
    if vocabulary.answers != Vocabulary.load(Path(run.data.vocabulary_path)).answers:
        raise InputError(f"{checkpoint} gives other answers than the model that was explained")

    def decide(images: Tensor, records: Sequence[Mapping[str, Any]]) -> Tensor:
        asked = vocabulary.encode_all([record["question"] for record in records], run.data.max_question_length)
        words, lengths = (torch.from_numpy(each).to(device) for each in asked)
        logits: Tensor = network(images.to(device), words, lengths)
        return logits.to(images.device)

    return decide
