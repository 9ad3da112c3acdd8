"""What the decision model says of each scene under each intervention, asked once and kept.

    interventions.jsonl     first line: of what; then one line a scene, appended when it is whole

Whatever kills the process leaves at most one torn last line, which is asked again.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track

from cfexp.errors import InputError
from cfexp.evaluation.measure.attack import Decide
from cfexp.evaluation.run_folder import Record, from_pixels
from cfexp.whole_files import write_whole
from cfexp.worlds.factors import Factor, Scene

ANSWERS = "interventions.jsonl"
AT_ONCE = 64  # pictures
Draw = Callable[[str, Collection[str]], Scene]  # an image_id and factors' names
# What the model says of a scene, as JSON takes it; each p is the probability of the second class.
# key; as_it_is: p; own: {factor: 0, 1 or -1}; drawn: {factor: [p, p]};
# units: {unit: [p, ...]}, of those in the picture, with both values of each factor that shows in
# the unit, in it alone
Answer = dict[str, Any]


class Asked(NamedTuple):
    """What is asked of each scene."""

    factors: tuple[Factor, ...]
    units: Mapping[str, tuple[str, ...]]  # regions, or sets of them, in which alone is intervened
    region_names: Sequence[str]
    made_by: Any  # which model and which world, as JSON takes it: others' answers are not used


def units_of(
    factors: Sequence[Factor], groups: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """Each region in which something can be drawn otherwise, then each set of several in which one
    factor shows.

    groups: named sets of regions; a set that is none of them has its factor's name.
    """
    single = dict.fromkeys(region for factor in factors for region in factor.regions)
    units: dict[str, tuple[str, ...]] = {region: (region,) for region in single}
    known = {frozenset(regions): name for name, regions in groups.items()}
    for factor in factors:
        several = frozenset(factor.regions)
        if len(several) > 1 and several not in map(frozenset, units.values()):
            units[known.get(several, factor.name)] = factor.regions
    return units


def ask(
    records: Sequence[Record], asked: Asked, draw: Draw, decide: Decide, folder: Path
) -> list[Answer]:
    """The answers for the scenes of N records, in their order; those that `folder` has are not
    asked again.

    Raises InputError for a model that does not decide between two classes.
    """
    path = folder / ANSWERS
    first = json.dumps([asked.made_by, asked.factors, asked.units, list(asked.region_names)])
    known = {answer["key"]: answer for answer in _kept(path, first)}
    # What is kept is written once more: a torn line is gone then, and so is what others were asked.
    write_whole(path, "".join(f"{line}\n" for line in (first, *map(json.dumps, known.values()))))
    with path.open("a", encoding="utf-8") as file:
        left = [record for record in records if record["key"] not in known]
        for record in track(left, description="interventions", transient=True):
            answer = _answer(record, asked, draw, decide)
            file.write(json.dumps(answer) + "\n")
            file.flush()
            known[record["key"]] = answer
    return [known[record["key"]] for record in records]


def _kept(path: Path, first: str) -> Iterator[Answer]:
    """The whole lines of a file that begins with the line `first`."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.is_file() else []
    if lines and lines[0] == first:
        yield from map(json.loads, lines[1:])


def _answer(record: Record, asked: Asked, draw: Draw, decide: Decide) -> Answer:
    scene = draw(record["image_id"], [factor.name for factor in asked.factors])
    pictures, places = [scene.image], [("as_it_is", "")]
    for name, pair in scene.drawn.items():
        pictures += [*pair]
        places += 2 * [("drawn", name)]
    for unit, regions in asked.units.items():
        numbers = [asked.region_names.index(name) for name in regions]
        inside = np.isin(scene.label_map, numbers)[..., None]
        if not inside.any():  # a face without glasses shows no skin in them
            continue
        for factor in asked.factors:
            if factor.name not in scene.drawn or not set(regions) & set(factor.regions):
                continue
            pair = np.where(inside, scene.drawn[factor.name], scene.image)
            pictures += [*pair]
            places += 2 * [("units", unit)]
    answer: Answer = {"key": record["key"], "own": dict(scene.own), "drawn": {}, "units": {}}
    for (kind, name), said in zip(places, _said(pictures, record, decide), strict=True):
        if kind == "as_it_is":
            answer[kind] = said
        else:
            answer[kind].setdefault(name, []).append(said)
    return answer


def _said(pictures: Sequence[NDArray[np.uint8]], record: Record, decide: Decide) -> Iterator[float]:
    """The probability of the second class, of each picture."""
    for start in range(0, len(pictures), AT_ONCE):
        images = from_pixels(np.stack(pictures[start : start + AT_ONCE]))
        with torch.inference_mode():
            logits = decide(images, len(images) * [record])
        if logits.shape[1] != 2:
            problem = f"the model that the run explained decides between {logits.shape[1]} classes"
            raise InputError(f"{problem}; effects of causes are of decisions between two")
        yield from logits.double().softmax(1)[:, 1].tolist()
