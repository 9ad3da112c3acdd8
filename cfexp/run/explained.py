"""The model that a run explained, by the run's own config, and one trained like it but
independently.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from hydra.errors import MissingConfigException
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor, nn

from cfexp.data.questions.vocabulary import Vocabulary
from cfexp.data.reading.records import read_json
from cfexp.errors import InputError
from cfexp.evaluation.measure.attack import Attack, Decide
from cfexp.evaluation.run_folder import Record, RunFolder
from cfexp.losses import exclusive_logits
from cfexp.models.loading.pretrained import file_hash, load_network
from cfexp.run.building import build
from cfexp.run.checkpoints import with_its_checkpoints
from cfexp.run.configuration import run_config
from cfexp.run.stages import provide_stages

_log = logging.getLogger(__name__)
# Where what loads a decision model says which file it reads; a classifier of a user's own holds a
# network that does.
_FILE_SETTINGS = ("checkpoint", "network.checkpoint", "network.path")
# Whether it is the model that was explained is asked of so many queries; another machine rounds
# some otherwise.
ASKED, AT_ONCE, MAX_DISAGREEMENT = 32, 8, 0.1
LEAST_AGREEMENT = 97  # % of test images, below which a student is said to be another model


class Explained(NamedTuple):
    """The model that a run explained, as the run built it."""

    folder: Path
    run: DictConfig  # the run's config
    loader: DictConfig  # what builds the model
    setting: str | None  # where in it a file is named; None = its class brings its weights
    path: Path | None  # that file


def attack_on(folder: str | Path, config: DictConfig) -> Attack:
    """What `config.attack` asks of the run in `folder`.

    config.checkpoints.explained: of the model that was explained; None = where the run's config
    says. config.student: see `student_of`; None = none. second_model: of another model for the same
    decision; None = the explained model's stage with the overrides attack.second_model, trained
    first where it is missing. Where there is neither, or it decides between other classes, what is
    asked of it is left out. Raises InputError for a run that does not say what it explained, for a
    setting that there is not, and for files that are missing, were changed since, or do not fit.
    """
    explained = find_explained(Path(folder), config)
    if not config.attack.get("epsilons", [1]) or not config.attack.get("max_queries", 1):
        raise InputError("attack: epsilons and max_queries must not be empty or 0")
    settings = {str(key): value for key, value in config.attack.items() if key != "second_model"}
    decide = decide_by(explained, explained.path)
    second, reason = _second_model(explained, decide, config)
    student = None if config.get("student") is None else student_of(folder, config)
    try:
        return Attack(decide, second, no_second=reason, student=student, **settings)
    except TypeError as error:  # a setting that there is not
        raise InputError(f"attack: {str(error).removeprefix('Attack.__new__() ')}") from None


def explained_model(folder: str | Path, config: DictConfig) -> Decide:
    """The model that the run in `folder` explained; config.checkpoints.explained and errors as in
    `attack_on`.

    Raises InputError, too, for a model that decides the run's queries otherwise.
    """
    explained = find_explained(Path(folder), config)
    decide = decide_by(explained, explained.path)
    run = RunFolder(folder)
    records = list(run.records())[:ASKED]
    differ = 0
    for start in range(0, len(records), AT_ONCE):
        images, asked = _queries(run, records[start : start + AT_ONCE])
        found = decide(images, asked).argmax(1).tolist()
        differ += sum(
            each != record["query_class"] for each, record in zip(found, asked, strict=True)
        )
    if differ > MAX_DISAGREEMENT * len(records):
        problem = f"decides {differ} of {len(records)} queries otherwise than the run says"
        remedy = "give the checkpoint of the model that the run explained"
        raise InputError(f"checkpoints.explained {problem}: {remedy}")
    return decide


def student_of(folder: str | Path, config: DictConfig) -> Decide:
    """The student of the model that the run in `folder` explained, taught by it first where it is
    missing.

    config.student: the experiment that trains it, on the explained model's own training images; or
    the model.ckpt of one that is trained. config.student_overrides: of that experiment. Says how
    often the two agree on test images. The rest and errors as in `explained_model`; also for a
    model of questions, and for an experiment that there is not.
    """
    explained = find_explained(Path(folder), config)
    data = data_of_run(explained.run)
    if data is not None and data.get("max_question_length") is not None:
        raise InputError("student: this run's model reads questions, and a student sees images")
    given = str(config.student)
    checkpoint = Path(given).expanduser()
    if not checkpoint.is_file():
        if "/" in given or checkpoint.suffix:
            raise InputError(f"student={given}: no such file")
        checkpoint = _taught(explained, given, config)
    metrics = checkpoint.parent / "metrics.json"
    figures = read_json(metrics, "it is written beside a stage") if metrics.is_file() else {}
    if (agreement := figures.get("test/agreement")) is not None:
        said = f"the student decides {agreement:.1f} % of the test images as its teacher does"
        if agreement < LEAST_AGREEMENT:
            remedy = "train it longer, student_overrides=['trainer.max_epochs=12']"
            reason = f"below {LEAST_AGREEMENT} % it may be another model: {remedy}"
            _log.warning("%s; %s", said, reason)
        else:
            _log.info(said)
    return decide_by(explained, checkpoint)


def _taught(explained: Explained, experiment: str, config: DictConfig) -> Path:
    """The student's checkpoint; it is trained now where it is missing."""
    run, loader = explained.run, explained.loader.copy()
    if explained.setting is not None:
        OmegaConf.update(loader, explained.setting, str(explained.path))
    store = RunFolder(explained.folder)
    image, _ = _queries(store, list(store.records())[:1])
    device = "cuda" if torch.cuda.is_available() else "cpu"
    outputs = _network(explained, explained.path)(image.to(device)).shape[1]
    exclusive = OmegaConf.select(run, "explainer.head") is None and outputs > 1
    # The explained model's own training images are those of its stage.
    of_stage: Any = training_stage(explained) or {}
    images = [each for each in of_stage.get("overrides", []) if each.startswith("data.")]
    requirement = {
        "experiment": experiment,
        "overrides": [
            *images,
            f"network.num_outputs={outputs}",
            f"module.exclusive={str(exclusive).lower()}",
            "requires.decision=null",
            *(config.get("student_overrides") or []),
        ],
        "share": [
            *of_stage.get("share", ("data.world", "data.image_size")),
            {"module.teacher": "taught_by"},
        ],
    }
    stages = with_stage(explained, config, "student", requirement)
    with open_dict(stages):
        stages.taught_by = loader
    try:
        provide_stages(stages)
    except MissingConfigException:
        known = "street_student, face_student, own_student"
        raise InputError(
            f"student={experiment}: no such experiment or file; there are {known}"
        ) from None
    return Path(stages.checkpoints.student)


def find_explained(folder: Path, config: DictConfig) -> Explained:
    """The model that the run in `folder` explained, by the run's own config; errors as in
    `explained_model`.
    """
    run = with_its_checkpoints(run_config(folder), folder)
    loader = OmegaConf.select(run, "explainer.decision_model")
    if not OmegaConf.is_dict(loader) or "_target_" not in loader:
        raise InputError(f"{folder}/config.yaml does not say which model was explained")
    named = [key for key in _FILE_SETTINGS if OmegaConf.select(loader, key) is not None]
    given = config.checkpoints.get("explained")
    if not named:
        if given is not None:
            raise InputError(
                f"checkpoints.explained: {folder} explained a model whose class brings its weights"
            )
        return Explained(folder, run, loader, None, None)
    path = Path(given or OmegaConf.select(loader, named[0]))
    if not path.is_file():
        raise InputError(
            f"{path}, which {folder} explained, is not there: give checkpoints.explained=PATH"
        )
    if given is None:
        _check_unchanged(folder, path)
    return Explained(folder, run, loader, named[0], path)


def _check_unchanged(folder: Path, path: Path) -> None:
    """Whether the file still is what the run read; raises InputError where it is not."""
    provenance = folder / "provenance.json"
    if not provenance.is_file():
        return
    weights = read_json(provenance, "it is written beside the run").get("checkpoints", {})
    was = {each["path"]: each["sha256"] for each in weights.values()}.get(str(path))
    if was is not None and was != (now := file_hash(path)):
        hashes = f"SHA-256 {now}... instead of {was}..."
        raise InputError(
            f"{path} has changed since {folder} explained it ({hashes}): give "
            "checkpoints.explained=PATH"
        )


def _queries(run: RunFolder, records: list[Record]) -> tuple[Tensor, list[Record]]:
    return run.images("query", [record["key"] for record in records]), records


def _second_model(
    explained: Explained, decide: Decide, config: DictConfig
) -> tuple[Decide | None, str]:
    """Another model for the same decision, trained first where it is missing; or None, and why
    there is none.
    """
    run, given = explained.run, config.checkpoints.get("second_model")
    requirement: Any = training_stage(explained)
    if given is None and requirement is None:
        return (
            None,
            "the run names no stage that trains a second model: give "
            "+checkpoints.second_model=PATH",
        )
    changed = [*(requirement or {}).get("overrides", []), *config.attack.second_model]
    stages = with_stage(
        explained, config, "second_model", {**(requirement or {}), "overrides": changed}
    )
    stages.checkpoints.second_model = given
    provide_stages(stages)
    second = decide_by(explained, Path(stages.checkpoints.second_model))
    store = RunFolder(explained.folder)
    one = _queries(store, list(store.records())[:1])
    try:
        ours, theirs = (each(*one).shape[1] for each in (decide, second))
    except IndexError:
        return (
            None,
            f"checkpoints.second_model has no output {run.explainer.head}, which the run explained",
        )
    if ours != theirs:
        numbers = f"{theirs} classes, the explained model between {ours}"
        return None, f"checkpoints.second_model decides between {numbers}"
    return second, ""


def training_stage(explained: Explained) -> DictConfig | None:
    """What the run required to train the model that it explained; None where it named no stage."""
    run = explained.run
    # By the path that the run names, wherever the file lies now.
    path = (
        None if explained.setting is None else OmegaConf.select(explained.loader, explained.setting)
    )
    names = [name for name, each in (run.get("checkpoints") or {}).items() if each == path]
    return (run.get("requires") or {}).get(names[0]) if names else None


def with_stage(
    explained: Explained, config: DictConfig, name: str, requirement: Mapping[str, Any]
) -> DictConfig:
    """The run's config with another stage in place of those that it required."""
    stages = explained.run.copy()
    with open_dict(stages):
        if (data := data_of_run(stages)) is not None:
            stages.data = data
        stages.update(
            {key: config[key] for key in ("cache_dir", "num_threads", "use_shipped_weights")}
        )
        # A stage may share another one's checkpoint.
        stages.checkpoints = {**(stages.get("checkpoints") or {}), name: None}
        stages.requires = {name: dict(requirement)}
    return stages


def data_of_run(run: DictConfig) -> DictConfig | None:
    """The run's data set; a run of a user's own queries has it within."""
    found: DictConfig | None = OmegaConf.select(run, "data.data_set")
    return OmegaConf.select(run, "data") if found is None else found


def _network(explained: Explained, checkpoint: Path | None) -> nn.Module:
    """A model's network, that of the stage whose folder it lies in, else the explained one's."""
    own = None if checkpoint is None else run_config(checkpoint.parent).get("network")
    network: nn.Module
    if own is not None:
        network = load_network(build(own, "network"), checkpoint)
    else:
        loader = explained.loader.copy()
        if checkpoint is not None:
            if explained.setting is None:
                raise InputError(
                    f"{checkpoint} has no config.yaml beside it that says which network it is of"
                )
            OmegaConf.update(loader, explained.setting, str(checkpoint))
        network = build(loader, "explainer.decision_model")
    for note in getattr(network, "notes", ()):
        _log.info("note: %s", note)
    return network.to("cuda" if torch.cuda.is_available() else "cpu")


def decide_by(explained: Explained, checkpoint: Path | None) -> Decide:
    """A model as a function, see `_network`."""
    network = _network(explained, checkpoint)
    device = "cuda" if torch.cuda.is_available() else "cpu"
    data = data_of_run(explained.run)
    if data is not None and data.get("max_question_length") is not None:
        return _of_questions(network, data, checkpoint, device)
    head = OmegaConf.select(explained.run, "explainer.head")

    def decide(images: Tensor, records: Sequence[Mapping[str, Any]]) -> Tensor:
        logits = network(images.to(device)).to(images.device)
        # A second model of one output decides what the explained head of several does.
        return exclusive_logits(logits, None if logits.shape[1] == 1 else head)

    return decide


def _of_questions(network: Any, data: DictConfig, checkpoint: Path | None, device: str) -> Decide:
    vocabulary = _vocabulary(network, data, checkpoint)

    def decide(images: Tensor, records: Sequence[Mapping[str, Any]]) -> Tensor:
        texts = [record["question"] for record in records]
        asked = (
            torch.from_numpy(each).to(device)
            for each in vocabulary.encode_all(texts, data.max_question_length)
        )
        if data.get("answers") is None:
            logits: Tensor = network(images.to(device), *asked)
        else:  # a model of a user's own reads the text
            logits = network.decide(images.to(device), network.ask(*asked, texts))
        return logits.to(images.device)

    return decide


def _vocabulary(network: Any, data: DictConfig, checkpoint: Path | None) -> Vocabulary:
    """Of the model; raises InputError for one that gives other answers than the one that was
    explained.
    """
    if data.get("answers") is not None:
        return Vocabulary.of_answers(network.answers)
    assert checkpoint is not None
    beside = checkpoint.parent / "vocabulary.json"
    explained = Vocabulary.load(Path(data.vocabulary_path))
    vocabulary = Vocabulary.load(beside) if beside.is_file() else explained
    if vocabulary.answers != explained.answers:
        raise InputError(f"{checkpoint} gives other answers than the model that was explained")
    return vocabulary
