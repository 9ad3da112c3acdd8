"""Which output of a user's own classifier stands for what, and whether labelled images agree.

Names in the order of another training would make every caption false, and no figure would show it.
"""

import itertools
import logging
import math
import shlex
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

import numpy as np
import torch
from hydra.utils import get_class
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf, open_dict

from cfexp import losses
from cfexp.data.base import Part
from cfexp.data.label_maps.dataset import LabelMapRecord, read_sample
from cfexp.data.label_maps.module import LabelMapDataModule
from cfexp.declaration import Declaration
from cfexp.errors import InputError
from cfexp.evaluation.directions import (
    names_unlike_the_label,
    places_of_sides,
    true_class,
)
from cfexp.models.own.classifier import OwnClassifier
from cfexp.run.building import build
from cfexp.run.command_line import quoted
from cfexp.run.stages import check_given

_log = logging.getLogger(__name__)

ASKED, AT_ONCE = 64, 8  # images
SECONDS = 10.0  # for a large network on a CPU some images must do
SHOWN = 6  # outputs that are named
# Of the images about which two orders of names differ, so many standard deviations of a coin's
# tosses must speak for the other order, and so many images. A poor model has no order.
SURE, LEAST = 2.5, 5


def say_outputs(config: DictConfig, *, ask: bool = True) -> None:
    """Log what `told_of_outputs` says; raises as it, and as `check_given`."""
    if OmegaConf.select(config, "decision.model") is None:
        return
    check_given(config)
    for line in told_of_outputs(config, ask=ask):
        _log.log(logging.WARNING if line.startswith("warning") else logging.INFO, "%s", line)


def told_of_outputs(
    config: DictConfig, model: OwnClassifier | None = None, *, ask: bool = True
) -> list[str]:
    """Which output of the config's own classifier is which, in a line, and what labelled images say
    against it, in another; nothing of any other model.

    model: it, where it is built already. ask: look at labelled images. Raises InputError for a
    model that cannot be used.
    """
    model = _own_model(config) if model is None else model
    names = OmegaConf.select(config, "decision.class_names")
    if model is None or not model.num_outputs or not names:
        return []
    names = [str(name) for name in names]
    lines = [_which_is_which(names, model)]
    label = OmegaConf.select(config, "decision.label")
    if ask and label is not None and OmegaConf.select(config, "data._target_") is not None:
        with suppress(InputError):  # of the data set, which is met where it is needed
            data: Any = build(config.data, "data")
            if isinstance(data, LabelMapDataModule) and data.has_root:
                declared = Declaration(label=label, class_names=tuple(names))
                lines += _against(declared, model, data)
    return lines


def _own_model(config: DictConfig) -> OwnClassifier | None:
    """The config's own classifier of images; None where it has none, or nobody says how large its
    images are.
    """
    target = OmegaConf.select(config, "decision.model._target_")
    size = OmegaConf.select(config, "data.image_size")
    if target is None or size is None or not issubclass(get_class(target), OwnClassifier):
        return None
    asked, (height, width) = config.copy(), size if OmegaConf.is_list(size) else (size, size)
    with open_dict(asked):
        asked.facts = {"height": height, "width": width}
    model: OwnClassifier = build(asked.decision.model, "decision")
    return model


def _which_is_which(names: Sequence[str], model: OwnClassifier) -> str:
    if model.output is not None or model.num_outputs == 1:
        of = "the output" if model.output is None else f"output {model.output}"
        said = f"{of} below 0 is {names[0]!r}, above 0 {names[1]!r}"
    else:
        named = [f"{place} is {name!r}" for place, name in enumerate(names[:SHOWN])]
        more = ", ..." if len(names) > SHOWN else ""
        said = f"output {', '.join(named)}{more}"
    return f"decision: {said} (decision.class_names=[...] says otherwise)"


def _against(declared: Declaration, model: OwnClassifier, data: LabelMapDataModule) -> list[str]:
    """What labelled images say against the names, at most a line."""
    said, names = data.description, list(declared.class_names)
    known = [
        (record, {"query_logits": [0.0] * len(names), "labels": labels})
        for record in _some(data)
        if None not in (labels := _labels(record, data.class_names)).values()
    ]
    if other := names_unlike_the_label([each for _, each in known[:1]], declared, said):
        return [f"note: {other}; nothing can be said of right and wrong decisions"]
    counts = np.zeros((len(names), len(names)), dtype=np.int64)
    wanted = [
        (record, true)
        for record, each in known
        if (true := true_class(each, declared, said)) is not None
    ]
    for true, decided in _decided(wanted[:ASKED], model, data):
        counts[true, decided] += 1
    order = better_order(counts)
    if order is None:
        return []
    better = _named_so(declared, [names[place] for place in order], said)
    right, would = int(np.trace(counts)), int(counts[order, range(len(order))].sum())
    asked = shlex.quote(f"decision.class_names=[{','.join(map(_written, better))}]")
    return [
        f"warning: of {counts.sum()} labelled images {right} are decided as labelled, {would} would"
        f" be by {asked}: is that the order of the model's outputs?"
    ]


def better_order(counts: NDArray[np.int64]) -> list[int] | None:
    """Which class each of K outputs stands for, where that agrees clearly better than each for its
    own; None where it does not.

    counts: (K, K), how many images are of a class and decided as another. Classes change places in
    pairs as long as more images are right then: where the decisions are of one class each, that
    finds the best order.
    """
    places = range(len(counts))
    order, improved = [*places], True
    while improved:
        improved = False
        for one, two in itertools.combinations(places, 2):
            now = counts[order[one], one] + counts[order[two], two]
            if counts[order[two], one] + counts[order[one], two] > now:
                order[one], order[two], improved = order[two], order[one], True
    moved = [place for place in places if order[place] != place]
    gained = sum(int(counts[order[place], place]) for place in moved)
    lost = sum(int(counts[place, place]) for place in moved)
    is_clear = gained - lost >= max(LEAST, SURE * math.sqrt(gained + lost))
    return order if is_clear else None


def _some(data: LabelMapDataModule) -> Iterator[LabelMapRecord]:
    """Images that are validated on, and then of the part that is explained."""
    data.prepare_data()
    parts: list[Part] = ["val", *([] if data.predict_part == "val" else [data.predict_part])]
    for part in parts:
        yield from data.records(part)[: 2 * ASKED]


def _labels(record: LabelMapRecord, names: Sequence[str]) -> dict[str, int | None]:
    values = [None if math.isnan(value) else int(value) for value in record.labels]
    return dict(zip(names, values, strict=True))


@torch.no_grad()
def _decided(
    records: Sequence[tuple[LabelMapRecord, int]], model: OwnClassifier, data: LabelMapDataModule
) -> Iterator[tuple[int, int]]:
    """The true class and the decided one of each image, until the time is over."""
    until = time.monotonic() + SECONDS
    for start in range(0, len(records), AT_ONCE):
        if time.monotonic() > until:
            return
        some = records[start : start + AT_ONCE]
        images = [
            read_sample(record._replace(label_map=None), data.reader, data.image_size)[0]
            for record, _ in some
        ]
        pixels = torch.from_numpy(np.stack(images)).permute(0, 3, 1, 2)
        logits = losses.exclusive_logits(model(pixels / 127.5 - 1), model.output)
        yield from zip((true for _, true in some), logits.argmax(1).tolist(), strict=True)


def _named_so(
    declared: Declaration, better: Sequence[str], said: Mapping[str, Any]
) -> Sequence[str]:
    """Names by which the label is found in the other order: free words, such as stop and go, mean
    the same in any.
    """
    if len(better) > 2 or declared.label is None:
        return better
    other = declared._replace(class_names=tuple(better))
    if places_of_sides(other, said) != places_of_sides(declared, said):
        return better
    return [declared.label, f"not {declared.label}"]


def _written(name: str) -> str:
    """A name as Hydra reads it in a list."""
    return name if name.isidentifier() else quoted(name)
