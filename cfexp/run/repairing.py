"""A decision model trained on with the counterfactuals of a run, and with what they are compared
to.

The model that a run explained is trained on from its own weights by its own stage: on its own
training images and, as often in all, on the counterfactuals that turned it, with the labels that
they have by the truth of the world, by a person, or by their queries where only regions without a
cause could change. Of each label those that it gets wrong are drawn as often as those that it gets
right: an edit of a bias makes right what was wrong, too, and if that is more frequent, the
counterfactuals themselves go by the bias. Of several runs, rounds of explaining and repairing, the
last one's model is trained on, with the counterfactuals of all. The controls are trained alike: on
as many ordinary training images, as the data set labels them; and, where the truth is known, on the
queries of those counterfactuals with their true labels, which is what as much labelling gives
without any explanation.
"""

import csv
import io
import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from omegaconf import DictConfig, open_dict

from cfexp.data.label_maps.module import LabelMapDataModule
from cfexp.errors import InputError
from cfexp.evaluation.directions import is_success
from cfexp.evaluation.report.gain import Judged
from cfexp.evaluation.run_folder import Record, RunFolder, to_pixels
from cfexp.run.building import build
from cfexp.run.configuration import run_config
from cfexp.run.explained import (
    Explained,
    data_of_run,
    decide_by,
    find_explained,
    training_stage,
    with_stage,
)
from cfexp.run.same_run import refuse_other_run
from cfexp.run.stage_names import compose_stage
from cfexp.run.stage_networks import LOAD_NETWORK
from cfexp.run.stages import finish_stage, fit, last_checkpoint
from cfexp.run.verdicts import read_verdicts
from cfexp.whole_files import write_whole

BEFORE, REPAIRED, ORDINARY, QUERIES = "before", "repaired", "ordinary", "queries"
SAID = {  # what each model was trained on
    BEFORE: "its own images: before",
    REPAIRED: "... and counterfactuals",
    ORDINARY: "... and as many of them again",
    QUERIES: "... and the queries, truly labelled",
}
Labels = Literal["truth", "verdicts", "query"]  # who says what a counterfactual is
_NO_LABEL = {  # why none is known
    "truth": "the truth of the world says of none what it is: give verdicts=FILE (see --help)",
    "verdicts": "verdicts={verdicts} says of none what it is",
    "query": "of none that it gets wrong the query has a label",
}
SEED = 0  # of which ordinary images are drawn
_log = logging.getLogger(__name__)


class Example(NamedTuple):
    """A picture to train on beside the model's own training images."""

    picture: Path
    label_map: Path | None
    decision: int  # which class it is of


class Task(NamedTuple):
    """What is repaired, and with what."""

    explained: Explained  # by the last run
    stage: DictConfig  # that trains the model
    runs: tuple[RunFolder, ...]
    label: str | None  # of the data set that the decision is about; None = its classes are decided

    @property
    def run(self) -> RunFolder:
        """The last one, whose model is trained on."""
        return self.runs[-1]


def task_of(folders: Sequence[Path], config: DictConfig) -> Task:
    """What there is to repair of the runs in `folders`; raises InputError where nothing can be, and
    for runs about different decisions.
    """
    folder, runs = folders[-1], tuple(map(RunFolder, folders))
    explained = find_explained(folder, config)
    asked = {(run.declaration.label, run.declaration.class_names) for run in runs}
    if len(asked) > 1:
        raise InputError(f"run: {len(runs)} runs about different decisions: repair each by itself")
    requirement, data = training_stage(explained), data_of_run(explained.run)
    if data is None or data.get("max_question_length") is not None:
        raise InputError(f"{folder}: the model of a run about questions is not repaired here")
    if requirement is None or explained.path is None:
        problem = "names no stage that trains the model it explained, so it cannot be trained on"
        raise InputError(f"{folder} {problem}: explain one that cfexp trains, e.g. own_decision")
    stage, _ = compose_stage(requirement, with_stage(explained, config, "decision", requirement))
    return Task(explained, stage, runs, runs[-1].declaration.label)


def examples_of(task: Task, labels: Labels, verdicts: Path | None) -> dict[str, list[Example]]:
    """What each training has beside the model's own images, by its name; as many in each.

    labels: who says what a counterfactual is. verdicts: the file of "verdicts". Of the runs'
    explanations those are taken that turned the model and of which the label is known. By "query",
    those that it gets right are left out: it got their queries wrong. Raises InputError where there
    is none, for verdicts of several runs, and by "query" for a run in which all might change.
    """
    if labels == "verdicts" and len(task.runs) > 1:
        raise InputError("verdicts= are of the counterfactuals of one run: give run=PATH, one")
    known: list[_Known] = []
    queries: list[Example] = []
    turned = 0
    for run in task.runs:
        records = [record for record in run.records() if is_success(record)]
        turned += len(records)
        data = _explained_data(run)
        if labels == "verdicts":
            assert verdicts is not None
            said = read_verdicts(verdicts, run.declaration.class_names)
        elif labels == "query":
            said = dict(_by_query(task, run, data, records))
        else:
            said = dict(_by_truth(task, run, data, records, "counterfactual"))
        used = [record for record in records if record["key"] in said]
        known += [_Known(run, record, said[record["key"]]) for record in used]
        if labels == "truth":
            for key, value in _by_truth(task, run, data, used, "query"):
                queries.append(_example(run, "query", key, value))
    if labels == "query":
        known = [each for each in known if not each.right]
    if not known:
        where = ", ".join(str(run.path) for run in task.runs)
        reason = _NO_LABEL[labels].format(verdicts=verdicts)
        raise InputError(f"{where}: {turned} counterfactuals turned the model; {reason}")
    _log.info("%d of %d counterfactuals that turned the model are used", len(known), turned)
    groups: dict[tuple[bool, int], list[_Known]] = {}
    for each in known:
        groups.setdefault((each.right, each.label), []).append(each)
    wrong = sum(not each.right for each in known)
    _log.info("the model is wrong about %d of them, right about %d", wrong, len(known) - wrong)
    found = {
        REPAIRED: [
            _example(each.run, "counterfactual", each.record["key"], each.label)
            for each in _evenly(list(groups.values()))
        ],
        ORDINARY: _ordinary(task, len(known)),
        QUERIES: queries,
    }
    return {name: examples for name, examples in found.items() if examples}


def train_on(
    task: Task,
    name: str,
    examples: Sequence[Example],
    folder: Path,
    *,
    epochs: int,
    share: float,
    rate: float,
) -> Path:
    """Train the explained model on with further images; returns `folder`/model.ckpt.

    share: of the images of an epoch, those that are further ones. rate: of the stage's learning
    rate. A training that was stopped goes on, and one that has come to its end is left as it is.
    Raises InputError for a folder that holds another one.
    """
    stage, table = task.stage.copy(), folder / "more.csv"
    data: Any = build(stage.data, "data")
    text, own = _table(data, task.label, examples), len(data.records("train"))
    if table.is_file() and table.read_text(encoding="utf-8") != text:
        raise InputError(f"{folder} holds a training on other images: remove it, or give output=")
    with open_dict(stage):
        stage.name = f"{stage.name}_{name}"
        stage.data.more = str(table.resolve())
        stage.data.more_times = max(round(own * share / (1 - share) / len(examples)), 1)
        stage.data.max_test_images = None
        stage.module.network = {
            "_target_": LOAD_NETWORK,
            "network": "${network}",
            "checkpoint": str(task.explained.path),
            "freeze": False,
        }
        stage.module.optimizer.lr *= rate
        stage.trainer.max_epochs = epochs
    refuse_other_run(stage, folder, "training")
    checkpoint = folder / "model.ckpt"
    if not checkpoint.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        write_whole(table, text)
        finish_stage(fit(stage, folder, resume=last_checkpoint(folder)), folder)
    return checkpoint


class TestImages(NamedTuple):
    """The N test images that the run did not explain, of which the label is known."""

    data: LabelMapDataModule
    rows: list[int]  # (N)
    classes: NDArray[np.int64]  # (N,)
    factors: list[dict[str, str]]  # (N) what else is known of each, by name


def images_to_test_on(task: Task) -> TestImages:
    """The images on which a gain is measured; raises InputError where none is left."""
    stage = task.stage.copy()
    with open_dict(stage):
        stage.data.max_test_images, stage.data.predict_part = None, "test"
    data: LabelMapDataModule = build(stage.data, "data")
    data.prepare_data()
    data.setup("test")
    explained = {str(record["image_id"]) for run in task.runs for record in run.records()}
    dataset = data.dataset("test")
    classes = _classes(data, task.label, dataset.labels.numpy())
    rows = [
        row
        for row, record in enumerate(dataset.records)
        if record.image_id not in explained and classes[row] >= 0
    ]
    if not rows:
        raise InputError(f"{task.run.path} explained every test image: explain others, or fewer")
    factors = [_factors(data.describe(row), task.label) for row in rows]
    return TestImages(data, rows, classes[rows], factors)


def judged(task: Task, images: TestImages, checkpoints: Mapping[str, Path]) -> Judged:
    """How the explained model and others, by name, decide test images."""
    paths = {BEFORE: task.explained.path, **checkpoints}
    models = {name: decide_by(task.explained, path) for name, path in paths.items()}
    right: dict[str, list[NDArray[np.bool_]]] = {name: [] for name in models}
    size, dataset = images.data.eval_batch_size, images.data.dataset("test")
    for start in range(0, len(images.rows), size):
        (batch,) = dataset.__getitems__(images.rows[start : start + size])
        with torch.no_grad():
            for name, decide in models.items():
                said = decide(batch.image, []).argmax(1).numpy()
                right[name].append(said == images.classes[start : start + size])
    names = task.run.declaration.class_names
    return Judged(
        {name: np.concatenate(each) for name, each in right.items()},
        [names[value] if names else str(value) for value in images.classes],
        images.factors,
    )


class _Known(NamedTuple):
    """A counterfactual of which it is known what it is."""

    run: RunFolder
    record: Record
    label: int  # the class that it is of

    @property
    def right(self) -> bool:
        """Whether the model says so, too."""
        return bool(self.label == self.record["stored_class"])


def _evenly(groups: Sequence[Sequence[_Known]]) -> list[_Known]:
    """As many of each group, all of the largest, those of smaller ones several times."""
    length = max(map(len, groups))
    return [record for group in groups for record in islice(cycle(group), length)]


def _explained_data(run: RunFolder) -> Any:
    config = run_config(run.path).data.copy()
    with open_dict(config):
        config.cache_images = False  # what it knows of them is asked, not their pictures
    data: Any = build(config, "data")
    data.prepare_data()
    data.setup("predict")
    return data


def _by_truth(
    task: Task, run: RunFolder, data: Any, records: Sequence[Record], name: str
) -> Iterator[tuple[int, int]]:
    """The key and the class of each whose picture `name` has one by the truth of the world."""
    for record in records:
        (picture,) = to_pixels(run.images(name, [record["key"]]))
        value = data.labels_of_edit(record["key"], picture).get(task.label)
        if value is not None:
            yield record["key"], value


def _by_query(
    task: Task, run: RunFolder, data: Any, records: Sequence[Record]
) -> Iterator[tuple[int, int]]:
    """The key and the class of each whose query has a label in the data set."""
    if run.declaration.regions is None:
        problem = "every region could change, and so the cause"
        remedy = "explain with regions=[...], those that hold no cause"
        raise InputError(f"labels=query: in {run.path} {problem}: {remedy}")
    for record in records:
        labels = np.array([data.explained(record["key"]).labels], dtype=np.float32)
        if (value := int(_classes(data, task.label, labels)[0])) >= 0:
            yield record["key"], value


def _ordinary(task: Task, count: int) -> list[Example]:
    """As many of the model's own training images, labelled as they are; drawn by chance."""
    data: Any = build(task.stage.data, "data")
    data.prepare_data()
    records = data.records("train")
    labels = torch.tensor([record.labels for record in records], dtype=torch.float32).numpy()
    classes = _classes(data, task.label, labels)
    rows = np.random.default_rng(SEED).permutation(np.flatnonzero(classes >= 0))[:count]
    return [Example(records[row].image.absolute(), None, int(classes[row])) for row in rows]


def _example(run: RunFolder, picture: str, key: int, decision: int) -> Example:
    label_map = run.picture("label_map", key)
    there = label_map.resolve() if label_map.is_file() else None
    return Example(run.picture(picture, key).resolve(), there, decision)


def _table(data: Any, label: str | None, examples: Sequence[Example]) -> str:
    """The file that `data.more` names."""
    text = io.StringIO()
    names = [label] if label in data.class_names else list(data.class_names)
    rows = csv.writer(text, lineterminator="\n")
    rows.writerow(["image", "label_map", *names])
    for each in examples:
        one_hot = [int(each.decision == place) for place in range(len(names))]
        labels = [each.decision] if label in data.class_names else one_hot
        rows.writerow([each.picture, each.label_map or "", *labels])
    return text.getvalue()


def _classes(data: Any, label: str | None, labels: NDArray[np.float32]) -> NDArray[np.int64]:
    """(N,) the class of each image by its labels (N, K); -1 = not known."""
    if label in data.class_names:
        column = labels[:, data.class_names.index(label)]
        return np.where(np.isnan(column), -1, column > 0.5).astype(np.int64)
    return np.where(np.isnan(labels[:, 0]), -1, labels.argmax(1)).astype(np.int64)


def _factors(described: Mapping[str, Any], label: str | None) -> dict[str, str]:
    """What else is known of a test image, by name: its other labels, and what it was drawn from."""
    known = {**(described.get("labels") or {}), **(described.get("truth") or {})}
    return {
        name: str(value)
        for name, value in known.items()
        if name != label and isinstance(value, str | int)
    }
