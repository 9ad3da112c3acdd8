"""`image=`, `label_map=`, `question=`: an experiment whose queries are a user's own in place of its
data set's.
"""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

from hydra.utils import get_object
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from cfexp.errors import InputError
from cfexp.evaluation.run_folder import RunFolder
from cfexp.run.building import build
from cfexp.run.command_line import typed
from cfexp.run.composing import compose
from cfexp.run.explainer_stage import NAME as EXPLAINER
from cfexp.run.explainer_stage import explainer_class
from cfexp.run.feasibility import refuse_what_cannot_work
from cfexp.run.stages import provide_stages

SAID = 20  # of a user's queries, a line each
# What +layouts=predicted adds to an experiment.
_PREDICTED = (("requires", "segmenter"), ("explainer", "segmenter"))


def asks_own(config: DictConfig) -> bool:
    """Whether a config explains a user's own queries.

    Raises InputError for settings that say half of it.
    """
    image, question, table = (
        config.get(name) is not None for name in ("image", "question", "questions")
    )
    if config.get("label_map") is not None and not image:
        others = "a data set's own label maps are data.layouts="
        raise InputError(f"label_map= is the label map of image=: give both; {others}")
    if table and (image or question):
        raise InputError("questions= names images and questions: leave image= and question= out")
    if question and not image:
        raise InputError("question= is asked about image=: give both, or questions=FILE.csv")
    return image or table


def use_own_queries(config: DictConfig) -> None:
    """Let a config explain its `image`, or its `questions`, as its data set's kind wants it.

    Raises InputError as `use_own_images` and `use_own_questions`.
    """
    if config.get("data") is None:
        raise InputError(
            "image= needs an experiment: +experiment=steex_driving (--help lists them)"
        )
    if get_object(config.data._target_).asks_questions:
        use_own_questions(config)
    else:
        use_own_images(config)


def use_own_questions(config: DictConfig) -> None:
    """Let a config explain its `questions`, or each `question` about each `image`; provides the
    stages.

    Says what is done to the images, and which words the VQA model does not know. Raises InputError
    for what cannot be used; what is wrong with the files before anything is trained, and with the
    words before the explainer is.
    """
    if config.label_map is not None:
        here = "this one asks questions: leave it out"
        raise InputError(f"label_map= is for experiments that search in label maps; {here}")
    if config.questions is None and config.question is None:
        raise InputError("image= needs a question here: question='What color is the bus?'")
    own: dict[str, Any] = {
        "_target_": "cfexp.data.own.questions.OwnQuestions",
        "images": [] if config.image is None else _listed(config.image),
        "questions": [] if config.question is None else _listed(config.question),
        "table": config.questions,
    }
    _say(build(OmegaConf.create(own | {"data_set": _without_vocabulary(config)}), "image").check())
    refuse_what_cannot_work(config)
    later = {name: each for name, each in config.requires.items() if name == EXPLAINER}
    with open_dict(config):
        config.requires = {
            name: each for name, each in config.requires.items() if name != EXPLAINER
        }
    provide_stages(config)
    own["data_set"] = data_set_without_files(config)
    questions = build(OmegaConf.create(own), "question")
    _say(questions.check_words())
    with open_dict(config):
        config.requires.update(later)
    provide_stages(config)
    with open_dict(config):
        config.data = {**own, "fingerprint": questions.fingerprint}
        config.evaluate = []  # nobody knows the right answers


def say_answers(folder: Path) -> None:
    """Print what became of each of a user's own queries, of the first `SAID`."""
    records = RunFolder(folder).records()
    for record in records[:SAID]:
        asked = f", {record['question']}" if record.get("question") else ""
        failed = "" if record["stored_success"] else " (not what was asked for)"
        answers = f"{record['answer_before']} -> {record['answer_after']}"
        print(f"{record['image_id']}{asked}: {answers}{failed}")
    if len(records) > SAID:
        print(f"... and {len(records) - SAID} more, in {typed(folder / 'explanations.parquet')}")


def _without_vocabulary(config: DictConfig) -> Any:
    """The config's data set for its sizes alone, before there is a VQA model with a vocabulary."""
    data = config.copy()
    with open_dict(data):
        data.data.vocabulary_path = None
    return data_set_without_files(data)


def _say(lines: Iterable[str]) -> None:
    for line in lines:
        print(line)


def use_own_images(config: DictConfig) -> None:
    """Let a config explain its `image`; says what is done to the images, and provides the stages.

    Without `label_map` their label maps are predicted. Raises InputError for what cannot be used,
    before anything is trained.
    """
    own: dict[str, Any] = {
        "_target_": "cfexp.data.own.images.OwnImages",
        "images": _listed(config.image),
        "label_maps": None if config.label_map is None else _listed(config.label_map),
        "data_set": data_set_without_files(config),
    }
    if not has_root(config):
        own["has_root"] = False
    if config.get("question") is not None:
        here = "this one decides about images alone"
        raise InputError(f"question= is for experiments that ask questions (vqa_...); {here}")
    images = build(OmegaConf.create(own), "image")
    _say(images.check())
    if not explainer_class(config).needs_label_map:
        if config.label_map is not None:
            here = "this one takes the image alone"
            raise InputError(f"label_map= is for explainers that search in label maps; {here}")
    elif config.label_map is None:
        predict_label_maps(config)
    else:
        take_label_maps_as_given(config)
    refuse_what_cannot_work(config)
    provide_stages(config)
    with open_dict(config):
        # Images that are exchanged under the same name are another run.
        config.data = {**own, "fingerprint": images.fingerprint}
        config.evaluate = []  # who judges the data set's pictures was trained on its like alone


def data_set_without_files(config: DictConfig) -> Any:
    """The config's data set, as plain values, even where its `root` was not given: for its sizes
    and names alone.

    Raises InputError where there is none.
    """
    data = config.copy()
    if not has_root(data):
        data.data.root = None
    # A run of one's own images has them in place of its data set, and that within.
    return OmegaConf.to_container(data.data.get("data_set") or data.data, resolve=True)


def has_root(config: DictConfig) -> bool:
    """Whether it is known where a config's data set lies; an embedded world has its place."""
    try:
        _ = config.data.get("root")
    except OmegaConfBaseException:
        return False
    # A run of one's own images says it.
    return bool(OmegaConf.select(config, "data.has_root", default=True))


def predict_label_maps(config: DictConfig) -> None:
    """Have the label maps predicted by the experiment's segmenter, as +layouts=predicted; a no-op
    where they are anyway.

    Raises InputError for an experiment that knows none.
    """
    if config.explainer.get("segmenter") is not None:
        return
    if config.get("segmenter_experiment") is None:
        raise InputError(
            "image= needs a label map: give label_map=MASK.png, as this experiment has no segmenter"
        )
    # As it is written: what `${stage:segmenter}` stands for is of this config.
    overlay: Any = OmegaConf.to_container(compose("explain", ["+layouts=predicted"]), resolve=False)
    with open_dict(config):
        for group, key in _PREDICTED:
            OmegaConf.update(config, f"{group}.{key}", overlay[group][key], force_add=True)
        config.checkpoints.setdefault("segmenter", None)


def take_label_maps_as_given(config: DictConfig) -> None:
    """Have no label map predicted, and no network for it loaded."""
    with open_dict(config):
        config.explainer.segmenter = None
        if "segmenter" in config.requires:
            config.requires.segmenter = None
            config.checkpoints.pop("segmenter", None)


def _listed(given: Any) -> list[str]:
    return [str(each) for each in (given if isinstance(given, ListConfig) else [given])]
