"""What is measured of each explanation of a run folder, in one pass over its pictures."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from rich.progress import track
from torch import Tensor

from cfexp.declaration import Declaration, Shown
from cfexp.evaluation.attack import Attack, attack_figures
from cfexp.evaluation.checkerboard import FOLDS, PooledCheckerboard
from cfexp.evaluation.directions import column_values, direction_members, direction_values
from cfexp.evaluation.judges import Judge, SetMeasure, Verdicts
from cfexp.evaluation.metric import Metric, Values, metrics_of_column
from cfexp.evaluation.region_sweep import DISTANCE, FLIP, NEEDED, SET_FOUND, SET_SIZE, STEP, sweep_values
from cfexp.evaluation.regions import region_metrics, region_values
from cfexp.evaluation.run_folder import Palette, Record, RunFolder
from cfexp.metrics.functional import (
    MIN_SPECTRUM,
    edit_locality,
    language_sensitivity,
    nearest_color,
    vqa_accuracy,
)
from cfexp.metrics.vqa_text import Era

# The answers (B,) of another model to the questions of B records, about images (B, 3, H, W) in [-1, 1].
Predictor = Callable[[Tensor, Sequence[Record]], Sequence[str]]

COLORS = "what color"  # the headline group: every question type with this prefix
EVERYTHING = "all"
# Values of a float32 image tensor that are held at a time, 32 MB: some 700 queries of 64 pixels, a dozen of 448.
CHUNK_VALUES = 2**23


_MASKED, _SPECTRUM = "edits with a truth mask", f"edits of pictures of at least {MIN_SPECTRUM} pixels a side"
METRICS: dict[str, Metric] = {
    "flip_rate": Metric("%", "queries", is_rate=True),
    "success_float": Metric("%", "queries", is_rate=True, is_telling=True),
    "success_stored": Metric("%", "queries", is_rate=True, is_telling=True),
    "edit_locality": Metric(
        "%", _MASKED, shown=Shown("% edit\ninside", panel="of the edit inside the object, %"), is_telling=True
    ),
    "mask_area": Metric("%", _MASKED, is_telling=True),
    "locality_lift": Metric("times", _MASKED, is_telling=True),
    "checkerboard_2": Metric("", _SPECTRUM, is_telling=True),
    "checkerboard_4": Metric("", _SPECTRUM, is_telling=True),
}
# Of a VQA model's explanations, further:
_RIGHT = "questions answered right before"
_COLOR_FLIPS = "flipped colour questions, right before, with truth mask and palette"
VQA_METRICS: dict[str, Metric] = {
    "accuracy_before": Metric("%", "questions with human answers", shown=Shown("accuracy\nbefore")),
    "accuracy_after": Metric("%", "questions with human answers", shown=Shown("%\nafter")),
    "flip_rate_right": Metric(
        "%", _RIGHT, is_rate=True, shown=Shown("right,\nflipped", panel="right answers that flip, %")
    ),
    "language_sensitivity": Metric("", "pairs of different questions about one image", is_telling=True),
    "color_readable": Metric("%", _COLOR_FLIPS, is_rate=True, is_telling=True),
    "color_changed": Metric("%", _COLOR_FLIPS, is_rate=True, is_telling=True),
    "color_is_new_answer": Metric("%", _COLOR_FLIPS, is_rate=True, is_telling=True),
}
# Of explanations that are told by direction:
DIRECTION_METRICS: dict[str, Metric] = {
    "decision_right": Metric("%", "searches whose label is known", is_rate=True, is_telling=True),
}
# Of edits that start from the reconstruction:
RECONSTRUCTION_METRICS: dict[str, Metric] = {
    "reconstruction_psnr": Metric("dB", "searches", is_telling=True),
    "reconstruction_kept": Metric("%", "searches", is_rate=True, shown=Shown("% kept by\nreconstruction", sweep=False)),
}
KEPT_METRICS: dict[str, Metric] = {
    "success_kept": Metric(
        "%",
        "searches whose reconstruction keeps the decision",
        is_rate=True,
        shown=Shown("% success\nof kept", panel="success, % of those that the reconstruction keeps"),
    ),
}
# Where the truth of the causes is known:
CAUSE_METRICS: dict[str, Metric] = {
    "causal_region": Metric("%", "successful searches with known causes", is_rate=True, is_telling=True),
    "lamps_turned": Metric(
        "%", "successful searches that changed lights most which are a cause", is_rate=True, is_telling=True
    ),
}
# And where only some regions may change:
TARGETED_METRICS: dict[str, Metric] = {
    f"targeted_{kind}_flip": Metric("%", f"searches in regions that hold {what}", is_rate=True, is_telling=True)
    for kind, what in {
        "causal": "what turns the decision",
        "partial": "one of two causes of a stop",
        "other": "no cause",
    }.items()
}
# Of a sweep over regions, by how their names begin; see `sweep_values`.
_SWEPT = "searches whose reconstruction keeps the decision"
SWEEP_METRICS: dict[str, Metric] = {
    FLIP: Metric("%", f"{_SWEPT}, of pictures with it", is_rate=True),
    DISTANCE: Metric("", "flips through it alone", of_region=True),
    STEP: Metric("steps", "flips through it alone", of_region=True),
    SET_FOUND: Metric("%", _SWEPT, is_rate=True),
    SET_SIZE: Metric("regions", "searches that some set of regions flips"),
    NEEDED: Metric("%", _SWEPT, is_rate=True),
}
PREDICTOR_METRICS: dict[str, Metric] = {
    "accuracy_before_{}": Metric("%", "questions with human answers"),
    "accuracy_after_{}": Metric("%", "questions with human answers"),
    "transfer_{}": Metric(
        "%", "flipped questions that both models answered right before", is_rate=True, is_telling=True
    ),
}


class Pairs(NamedTuple):
    """A metric of pairs of queries about one image."""

    values: list[float]
    image_ids: list[int]


class Measurements(NamedTuple):
    """All that was measured of a run's N explanations, in the order of (image_id, key)."""

    declaration: Declaration
    records: list[Record]  # (N)
    image_ids: NDArray[np.int64]  # (N,)
    everyone: dict[str, NDArray[np.bool_]]  # (N,) by group, the headline first
    members: dict[str, NDArray[np.bool_]]  # the same, but for queries that have none of the regions that may change
    metrics: dict[str, Metric]  # those that mean something for this run
    values: dict[str, Values]  # by metric
    sets: dict[str, SetMeasure]  # by metric of sets
    sensitivity: dict[str, Pairs]  # by group
    checkerboard: PooledCheckerboard  # its groups in the order of `members`


def metrics_of(records: Sequence[Record], declaration: Declaration, region_names: Sequence[str]) -> dict[str, Metric]:
    """The metrics that mean something for a run, but for those of judges and of regions' pixels."""
    metrics: dict[str, Metric] = {}
    if any("question" in record for record in records):
        metrics |= VQA_METRICS
    if declaration.by_direction:
        metrics |= DIRECTION_METRICS
    if declaration.starts_from == "reconstruction":
        metrics |= RECONSTRUCTION_METRICS
    if declaration.by_direction:
        metrics |= KEPT_METRICS
    for column in declaration.columns:
        metrics |= {} if column.by_region else metrics_of_column(column, region_names)
    if declaration.by_direction and any(record.get("truth") is not None for record in records):
        metrics |= CAUSE_METRICS | (TARGETED_METRICS if declaration.regions is not None else {})
    # From the query it is mostly what the reconstruction loses: not among what people look at first.
    hidden = declaration.starts_from == "reconstruction"
    locality = METRICS["edit_locality"]
    return metrics | METRICS | ({"edit_locality": locality._replace(shown=None)} if hidden else {})


class Chunk(NamedTuple):
    """B explanations, with their pictures as they are on disk."""

    records: list[Record]
    query: Tensor  # (B, 3, H, W) in [-1, 1]
    reconstruction: Tensor  # (B, 3, H, W)
    counterfactual: Tensor  # (B, 3, H, W)
    mask: Tensor  # (B, 1, H, W) bool, nowhere true where there is none


def measure(
    run: RunFolder,
    era: Era,
    predictors: Mapping[str, Predictor],
    judges: Sequence[Judge] = (),
    count: int | None = None,
    attack: Attack | None = None,
) -> Measurements:
    """Measure a run, or its first `count` explanations by image and key, a chunk of whole images at a time.

    judges: who judges beside the pixels. attack: what else is asked of the headline group, see `attack_figures`.

    Raises InputError for whatever is missing or damaged in it.
    """
    records = sorted(run.records(), key=lambda record: (record["image_id"], record["key"]))[:count]
    palette, regions, declaration = run.palette, run.data.get("region_names", []), run.declaration
    # Numbered by their order: a data set's own may be names.
    image_ids = np.unique([record["image_id"] for record in records], return_inverse=True)[1]
    everyone = group_members(records, declaration)
    nowhere = np.array([is_counted_apart(declaration, record) for record in records])
    members = {group: member & ~nowhere for group, member in everyone.items()}
    metrics, verdicts = metrics_of(records, declaration, regions), Verdicts(judges)
    has_layouts = bool(regions) and any(run.picture("layout", record["key"]).is_file() for record in records)
    fold = torch.from_numpy(np.unique(image_ids, return_inverse=True)[1] % FOLDS)
    parts: list[dict[str, Values]] = []
    sensitivity = {group: Pairs([], []) for group in members}
    checkerboard = PooledCheckerboard(len(members))
    size = max(1, CHUNK_VALUES // run.images("query", [records[0]["key"]]).numel())
    for rows in track(list(_chunks(image_ids, size)), description="scoring", transient=True):
        chunk = _read(run, records[rows])
        verdicts.update(chunk.query, chunk.reconstruction, chunk.counterfactual, chunk.records)
        values = _values(chunk, era, palette, predictors)
        if declaration.by_direction:
            pictures = chunk.query, chunk.reconstruction, chunk.counterfactual
            values |= direction_values(chunk.records, *pictures, regions, declaration)
        values |= column_values(chunk.records, declaration)
        if has_layouts:
            start = chunk.query if declaration.starts_from == "query" else chunk.reconstruction
            values |= region_values(run, chunk.records, start, chunk.counterfactual, regions, declaration.region_column)
        parts.append(values)
        edits = chunk.counterfactual - chunk.query
        for group, member in members.items():
            pairs = _pairs(chunk.records, member[rows])
            sensitivity[group].values.extend(_sensitivity(edits, pairs))
            sensitivity[group].image_ids.extend(chunk.records[second]["image_id"] for _, second in pairs)
        checkerboard.update(
            edits, torch.from_numpy(np.stack([member[rows] for member in members.values()])), fold[rows]
        )
    values = {metric: np.concatenate([part[metric] for part in parts]) for metric in parts[0]}
    success = np.array([record["stored_success"] for record in records])
    judged_metrics, judged, sets = verdicts.finish(success)
    values |= judged
    metrics |= judged_metrics | (region_metrics(regions, declaration.region_column) if has_layouts else {})
    swept = sweep_values(records, regions, declaration)
    values |= swept
    metrics |= {name: metric for name in swept for start, metric in SWEEP_METRICS.items() if name.startswith(start)}
    if attack is not None:
        for name, figure in attack_figures(run, records, next(iter(members.values())), attack).items():
            values[name], metrics[name] = figure.values, Metric(figure.unit, figure.counted, figure.is_rate)
    return Measurements(
        declaration, records, image_ids, everyone, members, metrics, values, sets, sensitivity, checkerboard
    )


def is_counted_apart(declaration: Declaration, record: Record) -> bool:
    """Whether there is nothing to measure of an explanation, by a column that its explainer declares for that."""
    return any(column.counted_apart and bool(record.get(column.name)) for column in declaration.columns)


def group_members(records: Sequence[Record], declaration: Declaration) -> dict[str, NDArray[np.bool_]]:
    """(N,) bool by group: the union "what color", each question type, each answer type, "all".

    Of explanations that are told by direction: "all", and each direction; see `direction_members`.
    A question type that is called as a union is, like VQA's own "what color", gets " (type)" to its name.
    """
    everything = {EVERYTHING: np.ones(len(records), dtype=bool)}
    if declaration.by_direction and (directions := direction_members(records, declaration.class_names)):
        return everything | directions
    types = [record.get("question_type") or "" for record in records]
    answer_types = [record.get("answer_type") or "" for record in records]
    is_color = np.array([name.startswith(COLORS) for name in types])
    unions = {COLORS, EVERYTHING, *answer_types}
    groups = {COLORS: is_color} if is_color.any() else {}
    for name in sorted(set(types) - {""}, key=lambda name: (not name.startswith(COLORS), name)):
        groups[f"{name} (type)" if name in unions else name] = np.array([each == name for each in types])
    for name in sorted(set(answer_types) - {""}):
        groups[name] = np.array([each == name for each in answer_types])
    return groups | everything


def _chunks(image_ids: NDArray[np.int64], size: int) -> Iterator[slice]:
    """Slices of at least `size` rows, but for the last, that keep the rows of an image together."""
    starts = np.flatnonzero(np.diff(image_ids, prepend=image_ids[0] - 1))
    first = 0
    for start in starts:
        if start - first >= size:
            yield slice(first, int(start))
            first = int(start)
    yield slice(first, len(image_ids))


def _read(run: RunFolder, records: list[Record]) -> Chunk:
    keys = [record["key"] for record in records]
    query, reconstruction, counterfactual = (
        run.images(name, keys) for name in ("query", "reconstruction", "counterfactual")
    )
    mask = torch.zeros_like(query[:, :1], dtype=torch.bool)
    masked = [row for row, record in enumerate(records) if record.get("has_truth_mask")]
    if masked:
        mask[masked] = run.masks([keys[row] for row in masked])
    return Chunk(records, query, reconstruction, counterfactual, mask)


def _values(chunk: Chunk, era: Era, palette: Palette | None, predictors: Mapping[str, Predictor]) -> dict[str, Values]:
    """The metrics of each query of a chunk, each (B,), by name and in their units."""
    records, query, counterfactual = chunk.records, chunk.query, chunk.counterfactual
    before, after = ([record.get(name) for record in records] for name in ("answer_before", "answer_after"))
    right, flipped = _right(records, before), _flipped(records)
    locality = 100 * _numpy(edit_locality(query, counterfactual, chunk.mask))
    values = {
        "accuracy_before": _accuracy(records, before, era),
        "accuracy_after": _accuracy(records, after, era),
        "flip_rate_right": _rate(flipped, among=right),
        "flip_rate": _rate(flipped),
        "success_float": _rate(np.array([record["success"] for record in records])),
        "success_stored": _rate(np.array([record["stored_success"] for record in records])),
        "edit_locality": locality,
        "mask_area": np.where(np.isnan(locality), np.nan, 100 * _numpy(chunk.mask.float().mean((1, 2, 3)))),
        **_colors(chunk, right & flipped, palette or {}),
    }
    for name, predictor in predictors.items():
        their_before, their_after = predictor(query, records), predictor(counterfactual, records)
        both_right = right & flipped & _right(records, their_before)
        values[f"accuracy_before_{name}"] = _accuracy(records, their_before, era)
        values[f"accuracy_after_{name}"] = _accuracy(records, their_after, era)
        values[f"transfer_{name}"] = _rate(~_right(records, their_after), among=both_right)
    return values


def _colors(chunk: Chunk, flipped: NDArray[np.bool_], palette: Palette) -> dict[str, Values]:
    """What a plain reading of the colour of the object(s) asked about says, of the `flipped` colour questions.

    `color_readable`: of the query it is the answer, so that another reading of the counterfactual is due to the edit.
    """
    names = "color_readable", "color_changed", "color_is_new_answer"
    values = {name: np.full(len(chunk.records), np.nan) for name in names}
    for row, record in enumerate(chunk.records):
        asked = record.get("multiple_choice_answer")
        is_color = (record.get("question_type") or "").startswith(COLORS) and asked in palette
        mask = chunk.mask[row, 0]
        if not (flipped[row] and is_color and mask.any()):
            continue
        old, new = (
            nearest_color((image[row][:, mask].T + 1) / 2, palette) for image in (chunk.query, chunk.counterfactual)
        )
        values["color_readable"][row] = 100 * (old == asked)
        values["color_changed"][row] = 100 * (new != asked)
        values["color_is_new_answer"][row] = 100 * (new == record["answer_after"])
    return values


def _flipped(records: Sequence[Record]) -> NDArray[np.bool_]:
    return np.array([record["stored_class"] != record["query_class"] for record in records])


def _right(records: Sequence[Record], answers: Sequence[str | None]) -> NDArray[np.bool_]:
    """Whether each answer is the people's consensus; nothing is where there is none."""
    consensus = [record.get("multiple_choice_answer") for record in records]
    pairs = zip(answers, consensus, strict=True)
    return np.array([answer is not None and answer == expected for answer, expected in pairs])


def _accuracy(records: Sequence[Record], answers: Sequence[str | None], era: Era) -> Values:
    """The official accuracy of each answer in percent."""
    pairs = zip(answers, records, strict=True)
    return np.array(
        [
            vqa_accuracy(answer, record["answers"], era=era) if answer is not None and record.get("answers") else np.nan
            for answer, record in pairs
        ]
    )


def _rate(happened: NDArray[np.bool_], among: NDArray[np.bool_] | None = None) -> Values:
    return np.where(True if among is None else among, 100.0 * happened, np.nan)


def _pairs(records: Sequence[Record], member: NDArray[np.bool_]) -> list[tuple[int, int]]:
    """Rows of consecutive members that ask different things about one image."""
    rows = np.flatnonzero(member).tolist()
    return [
        (first, second)
        for first, second in pairwise(rows)
        if records[first]["image_id"] == records[second]["image_id"]
        and records[first].get("question") != records[second].get("question")
    ]


def _sensitivity(edits: Tensor, pairs: list[tuple[int, int]]) -> list[float]:
    if not pairs:
        return []
    first, second = torch.tensor(pairs).T
    values: list[float] = language_sensitivity(edits[first], edits[second]).tolist()
    return values


def _numpy(values: Tensor) -> Values:
    return values.double().numpy()
