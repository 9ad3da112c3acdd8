"""A trained stage as a folder that others can load: weights, config, and a model card made of what
the stage says of itself.
"""

import importlib.resources
import json
import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import safetensors
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from torch import Tensor

from cfexp.errors import InputError
from cfexp.models.loading.pretrained import read_state_dict
from cfexp.models.loading.weights import save_weights
from cfexp.run.building import build
from cfexp.run.composing import composing
from cfexp.run.configuration import run_config
from cfexp.run.own_queries import data_set_without_files
from cfexp.run.stages import WEIGHTS

FILE, VOCABULARY = "model.safetensors", "vocabulary.json"
_LEFT = ("model.ckpt", "checkpoints/last.ckpt")  # of a stage; of an explainer's training
_TOLD = ("config.yaml", "provenance.json", "metrics.json")  # and what must lie beside them
_LICENSE = re.compile(r"[a-z0-9][a-z0-9.-]*")
_REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")
# The folders of a path from the root or from home, wherever it stands; of an address none.
_FOLDERS = re.compile(r"(?:file://|~|(?<![\w.~:)/-]))/(?:[^/,'\"\]\s]+/)*")
_CACHE = "~/.cache/cfexp"  # whose it was is nobody's affair; readers of the config have their own
_SHIPPED = "the weights that cfexp ships, in half precision"


class Stage(NamedTuple):
    """A trained stage, and what it says of itself."""

    name: str  # its experiment, and the hash of its settings
    state_dict: dict[str, Tensor]
    config: DictConfig
    vocabulary: Path | None  # of a VQA model
    figures: Mapping[str, Any]  # of its test: numbers, or results with value, n and interval
    made: Mapping[str, Any]  # what made it: seed, data fingerprint, command, versions ...


class Card(NamedTuple):
    """What a model card is to say beside that; license: as the Hub calls it, None = unknown."""

    license: str | None
    repository: str


def find_stage(stage: str, cache: Path) -> Path:
    """The folder of a stage or of a run, or a file of the shipped weights.

    stage: the name of one in `cache`/stages or among the shipped ones, an experiment of which one
    is there, or a folder. Raises InputError where there is none, or several.
    """
    given, stages = Path(stage).expanduser(), cache / "stages"
    if given.is_dir():
        return given
    by_name = (stages / stage, WEIGHTS / f"{stage}.safetensors")
    if found := [path for path in by_name if _is_stage(path)]:
        return found[0]  # what is shipped is the same in half precision
    ours = {path.stem: path for path in WEIGHTS.glob("*.safetensors")}
    theirs = {str(path.parent.relative_to(stages)): path.parent for path in _trained_in(stages)}
    there = {**ours, **theirs}
    if several := sorted(name for name in there if name.rpartition("-")[0] == stage):
        if len(several) > 1:
            names = ", ".join(several)
            raise InputError(f"stage={stage}: there are several, name one of them: {names}")
        return there[several[0]]
    places = f"{stages} or among the shipped ones"
    remedy = "give the folder of a run of cfexp.train, or one of"
    raise InputError(f"stage={stage}: no such stage in {places}; {remedy} {', '.join(there)}")


def read_stage(path: Path, shipped: Callable[[], Mapping[str, DictConfig]]) -> Stage:
    """What `find_stage` has found; shipped: the configs of the shipped stages, by name.

    Raises InputError for a folder of another kind, or of a training that has not ended.
    """
    return _of_shipped(path, shipped()) if path.is_file() else _of_folder(path)


def write_stage(stage: Stage, card: Card, folder: Path) -> None:
    """Write the files into a folder that is there: weights in their own precision, config, card,
    vocabulary.

    Paths of the machine are shortened to their last part. Raises InputError for what the card
    cannot say.
    """
    if card.license is not None and not _LICENSE.fullmatch(str(card.license)):
        form = "a name of the Hugging Face Hub's, such as apache-2.0, cc-by-4.0 or other"
        raise InputError(f"license={card.license}: expected {form}")
    if not _REPOSITORY.fullmatch(card.repository):
        raise InputError(f"repository={card.repository}: expected OWNER/NAME")
    metadata = {"stage": stage.name, "test_figures": json.dumps(stage.figures)}
    metadata |= {key: value for key, value in stage.made.items() if value}
    save_weights(stage.state_dict, folder / FILE, metadata)
    config = OmegaConf.to_yaml(OmegaConf.create(_placeless(_plain(stage.config))))
    (folder / "config.yaml").write_text(config, encoding="utf-8")
    if stage.vocabulary is not None:
        shutil.copyfile(stage.vocabulary, folder / VOCABULARY)
    (folder / "README.md").write_text(model_card(stage, card), encoding="utf-8")


def model_card(stage: Stage, card: Card) -> str:
    """The card in the Hub's form: its facts in YAML, then what a person reads."""
    experiment, _ = _parts(stage.name)
    name, asked = _used_as(experiment, stage.config)
    license_ = card.license or "unknown"
    said = (
        f"`{license_}`."
        if card.license
        else "Nobody has said the licence of these weights: ask who published them."
    )
    tags = ["cfexp", "counterfactual-explanations", "explainable-ai"]
    tags += ["visual-question-answering"] if stage.vocabulary is not None else []
    command = f"python -m cfexp.explain +experiment={asked or 'EXPERIMENT'}"
    file = f"checkpoints.{name or 'NAME'}=hf://{card.repository}/{FILE}"
    facts = ["---", f"license: {license_}", "library_name: cfexp", "tags:"]
    beside = f"The network and its training are in config.yaml{_words(stage)}."
    lines = [
        *(*facts, *(f"- {tag}" for tag in tags), "---", "", f"# {experiment}", ""),
        *(f"{_about(experiment)}A network of cfexp, stage `{stage.name}`. {beside}", ""),
        *("## How to load it", "", "```", "pip install 'cfexp[hub]'", f"{command} {file}", "```"),
        *("", f"A copy on a disk: `checkpoints.{name or 'NAME'}=FOLDER/{FILE}`.", ""),
        *("## Figures of its own test", "", "| figure | value |", "|---|---|"),
        *(f"| {figure} | {value} |" for figure, value in _rows(stage.figures)),
        *("", "## What made it", "", "| | |", "|---|---|"),
        *(f"| {key.replace('_', ' ')} | {value} |" for key, value in stage.made.items() if value),
        *("", "## Licence", "", said, ""),
    ]
    return "\n".join(lines)


def _is_stage(path: Path) -> bool:
    return path.is_file() or any((path / name).is_file() for name in _LEFT)


def _trained_in(stages: Path) -> list[Path]:
    return sorted(stages.glob("**/model.ckpt"))


def _of_folder(folder: Path) -> Stage:
    weights = next((folder / name for name in _LEFT if (folder / name).is_file()), None)
    if weights is None:
        lacks = f"there is no {' or '.join(_LEFT)}, as a training leaves them"
        raise InputError(f"stage={folder}: {lacks}")
    config = run_config(folder)
    if lacking := [name for name in _TOLD if not (folder / name).is_file()]:
        raise InputError(f"stage={folder}: no {lacking[0]}: the training has not come to its end")
    if weights.name == "last.ckpt" and config.get("explainer") is None:
        problem = "no model.ckpt: the training has not come to its end"
        raise InputError(f"stage={folder}: {problem}; the same command with ckpt_path=last goes on")
    try:
        told, figures = (
            json.loads((folder / name).read_text(encoding="utf-8")) for name in _TOLD[1:]
        )
        made = {
            "command": " ".join(_command(told["command"])),
            "seed": str(told["seed"]),
            "data_fingerprint": told["data_fingerprint"],
            "cfexp_revision": told.get("git_revision"),
            "checkpoints": _listed({k: v["sha256"] for k, v in told["checkpoints"].items()}),
            "versions": _listed(told["versions"]),
            "machine": told["machine"],
        }
    except (ValueError, KeyError, AttributeError, TypeError) as error:
        problem = f"provenance.json or metrics.json is damaged ({type(error).__name__})"
        raise InputError(f"stage={folder}: {problem}") from None
    # A stage's folder has its name, of paper/NAME the last part; a run's is a time, or anything.
    experiment, digest = _parts(folder.resolve().name)
    name = f"{config.get('name') or experiment}{digest}"
    beside = folder / VOCABULARY
    vocabulary = beside if beside.is_file() else None
    return Stage(name, read_state_dict(weights), config, vocabulary, figures, made)


def _of_shipped(path: Path, configs: Mapping[str, DictConfig]) -> Stage:
    with safetensors.safe_open(path, "pt") as file:
        told = file.metadata()
    config = configs[path.stem]
    # What a run fills in: the sizes that follow from the data.
    with composing(), suppress(InputError, OmegaConfBaseException), open_dict(config):
        config.facts = build(OmegaConf.create(data_set_without_files(config)), "data").facts
    made = {
        "weights": _SHIPPED,
        **{key: told[key] for key in ("command", "seed", "data_fingerprint")},
        "versions": _listed(json.loads(told["versions"])),
        "machine": told["machine"],
    }
    beside = path.with_suffix(f".{VOCABULARY}")
    vocabulary = beside if beside.is_file() else None
    figures = json.loads(told["test_figures"])
    return Stage(path.stem, read_state_dict(path), config, vocabulary, figures, made)


def _command(arguments: list[str]) -> Iterator[str]:
    """A command as it can be typed elsewhere; where it wrote, and kept files, is left out."""
    module = Path(arguments[0]).stem
    yield f"python -m cfexp.{module}"
    for each in arguments[1:]:
        key, equals, value = each.partition("=")
        if key not in ("hydra.run.dir", "cache_dir"):
            yield f"{key}{equals}{_placeless(value)}" if equals else _placeless(each)


def _placeless(content: Any) -> Any:
    """Plain values without the folders of this machine: of each path there is the last part."""
    if isinstance(content, dict):
        return {
            key: _CACHE if key == "cache_dir" else _placeless(value)
            for key, value in content.items()
        }
    if isinstance(content, list):
        return [_placeless(value) for value in content]
    if not isinstance(content, str):
        return content
    whole = content.startswith(("/", "~/")) and "=" not in content and "," not in content
    return Path(content).name if whole else _FOLDERS.sub("", content)


def _plain(config: DictConfig) -> Any:
    """The config resolved, but for what cannot be: checkpoints of stages that it needs."""
    with suppress(OmegaConfBaseException, InputError), composing():
        return OmegaConf.to_container(config, resolve=True)
    content: Any = OmegaConf.to_container(config, resolve=False)
    for key in content:
        with suppress(OmegaConfBaseException, InputError), composing():
            value = config[key]
            resolved = OmegaConf.is_config(value)
            content[key] = OmegaConf.to_container(value, resolve=True) if resolved else value
    return content


def _rows(figures: Mapping[str, Any], before: str = "") -> Iterator[tuple[str, str]]:
    """Names and values of figures, also of groups of them, with n and interval where they have."""
    for name, value in figures.items():
        if isinstance(value, int | float):
            yield f"{before}{name}", f"{value:.4g}"
        elif isinstance(value, Mapping) and isinstance(value.get("value"), int | float):
            bounds = (value.get("low"), value.get("high"))
            interval = "" if None in bounds else ", 95 % interval {:.4g} to {:.4g}".format(*bounds)
            unit = f" {value['unit']}" if value.get("unit") else ""
            yield f"{before}{name}", f"{value['value']:.4g}{unit} (n {value.get('n')}{interval})"
        elif isinstance(value, Mapping):
            inner = "" if name == "groups" and not before else f"{before}{name}: "
            yield from _rows(value, inner)


def _listed(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in values.items())


def _words(stage: Stage) -> str:
    return "" if stage.vocabulary is None else f", its words and answers in {VOCABULARY}"


def _parts(name: str) -> tuple[str, str]:
    """A stage's experiment, and the hashes that follow it: of the settings, and of the data sets
    where these are further ones.
    """
    experiment = re.sub(r"(-[0-9a-f]{12})(-[0-9a-f]{8})?$", "", name)
    return experiment, name.removeprefix(experiment)


def _experiments() -> Iterator[tuple[str, str]]:
    """Every experiment of cfexp's, and its file's text."""
    root = Path(str(importlib.resources.files("cfexp.conf") / "experiment"))
    for path in sorted(root.rglob("*.yaml")):
        yield (
            path.relative_to(root).with_suffix("").as_posix(),
            path.read_text(encoding="utf-8"),
        )


def _about(experiment: str) -> str:
    """The line that an experiment's file says what it is with; nothing of one's own."""
    text = dict(_experiments()).get(experiment, "")
    comments = [line[2:].strip() for line in text.splitlines() if line.startswith("# ")]
    return f"{comments[2].rstrip('.')}. " if len(comments) > 2 else ""


def _used_as(experiment: str, config: DictConfig) -> tuple[str | None, str | None]:
    """What a stage is among the `checkpoints` of an experiment, and that experiment; None where no
    experiment of cfexp's needs it.
    """
    if config.get("explainer") is not None:
        return "explainer", experiment
    # Of STEEX's first: the networks that they need beside this one are shipped.
    for name, text in sorted(_experiments(), key=lambda each: not each[0].startswith("steex")):
        content: Any = OmegaConf.to_container(OmegaConf.create(text))
        if not isinstance(content, dict):
            continue
        if content.get("segmenter_experiment") == experiment:
            return "segmenter", f"{name} +layouts=predicted"
        for stage, needed in (content.get("requires") or {}).items():
            if (needed or {}).get("experiment") == experiment and stage != "features":
                return stage, name
    return None, None
