"""What is measured of explanations that are told by direction, and, on the embedded streets, held against the truth of
their causes.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cfexp.declaration import Declaration
from cfexp.evaluation.run_folder import Record, to_pixels
from cfexp.metrics.functional import psnr
from cfexp.metrics.lamps import read_lamps

Values = NDArray[np.float64]
# What a traffic light shows when it says the opposite: the state of each of its lamps, and of no lamp more.
_OTHER_LIGHT = {
    "red": {"top": "dark", "middle": "dark", "bottom": "green"},
    "green": {"top": "red", "middle": "dark", "bottom": "dark"},
}
# More pairs of classes than that are a list nobody reads: of two classes there are 2, of four 12.
MAX_DIRECTIONS = 12


def direction_members(records: Sequence[Record], class_names: Sequence[str] = ()) -> dict[str, NDArray[np.bool_]]:
    """(N,) bool by direction, such as "stop -> go": the class decided, and the one asked for.

    Of two classes between which an edit went, both directions, though one may be empty; none at all where there would
    be more than `MAX_DIRECTIONS`. class_names: what the classes are called if no record says.
    """
    names = dict(enumerate(class_names))
    for record in records:
        names |= {record["query_class"]: record["answer_before"]} if "answer_before" in record else {}
        names |= {record["stored_class"]: record["answer_after"]} if "answer_after" in record else {}
    pairs = [(record["query_class"], record["counter_class"]) for record in records]
    found = {pair for pair in pairs if pair[0] != pair[1] and pair[1] >= 0}
    both = sorted({direction for first, second in found for direction in ((first, second), (second, first))})
    if len(both) > MAX_DIRECTIONS:
        return {}
    return {
        " -> ".join(str(names.get(index, index)) for index in direction): np.array(
            [pair == direction for pair in pairs]
        )
        for direction in both
    }


def is_kept(record: Record) -> bool:
    """Whether the reconstruction is decided as the query is; an edit that starts from the query has none to ask of."""
    return record.get("reconstruction_class") in (None, record["query_class"])


def has_something_to_explain(record: Record) -> bool:
    """Whether the reconstruction keeps the decision, and another class is asked for."""
    return is_kept(record) and record["query_class"] != record["counter_class"]


def direction_values(
    records: Sequence[Record],
    query: Tensor,
    reconstruction: Tensor,
    counterfactual: Tensor,
    region_names: Sequence[str],
    declaration: Declaration,
) -> dict[str, Values]:
    """The metrics of B explanations told by direction, each (B,), NaN where one means nothing.

    See `DIRECTION_METRICS` and those that follow in measurements.py; and of each column that the explainer declares
    with a summary. query, reconstruction, counterfactual: (B, 3, H, W) in [-1, 1]. region_names: of the layouts.
    """
    names = (
        *("decision_right", "reconstruction_psnr", "reconstruction_kept", "success_kept"),
        *("targeted_causal_flip", "targeted_partial_flip", "targeted_other_flip", "causal_region", "lamps_turned"),
    )
    values = {name: np.full(len(records), np.nan) for name in names}
    pixels, noise = to_pixels(counterfactual), psnr(query, reconstruction).tolist()
    moved = declaration.region_column
    for row, record in enumerate(records):
        values["decision_right"][row] = _right(record, declaration.label)
        values["reconstruction_psnr"][row] = noise[row]
        values["reconstruction_kept"][row] = 100 * is_kept(record)
        # A flip that the reconstruction brings explains nothing; nor is there anything to explain of what is of the
        # class asked for already.
        if not has_something_to_explain(record):
            continue
        succeeded, truth = record["stored_success"], record.get("truth")
        values["success_kept"][row] = 100 * succeeded
        if truth is None:
            continue
        if declaration.regions is not None:
            values[f"targeted_{_targeted(declaration.regions, truth)}_flip"][row] = 100 * succeeded
        if not succeeded or moved is None:
            continue
        region = region_names[int(np.argmax(record[moved.name]))]
        values["causal_region"][row] = 100 * (region in truth["causal_regions"])
        # Of a street that stops for a car, a green light explains nothing, whatever becomes of it.
        if region == "traffic_light" and region in truth["causal_regions"]:
            values["lamps_turned"][row] = 100 * _lamps_turned(pixels[row], truth)
    return values


def column_values(records: Sequence[Record], declaration: Declaration) -> dict[str, Values]:
    """Of each declared column that is one number a query and has a summary, its values (B,); NaN where it has none."""
    values = {}
    for column in declaration.columns:
        if column.summary == "none":
            continue
        found = np.array([np.nan if record.get(column.name) is None else record[column.name] for record in records])
        if column.known_from is not None:
            found = np.where(found < column.known_from, np.nan, found)
        if column.successes_only:
            successes = [has_something_to_explain(record) and record["stored_success"] for record in records]
            found = np.where(successes, found, np.nan)
        values[column.name] = 100 * found if column.summary == "rate" else found.astype(np.float64)
    return values


def _right(record: Record, label: str | None) -> float:
    """100 or 0, whether the decision is the data set's label, which is 0 or 1; NaN where none is known.

    Nor is it told of a decision between other than two classes, whose numbers mean other things.
    """
    of_two = len(record.get("query_logits") or (0, 1)) == 2 and "query_top_logits" not in record
    known = (record.get("labels") or {}).get(label) if label is not None and of_two else None
    return float("nan") if known is None else 100.0 * (record["query_class"] == known)


def _targeted(regions: Sequence[str], truth: Mapping[str, Any]) -> str:
    """What the regions that may change are to the decision by the truth of the causes: causal, partial or other.

    Of a go, each cause alone can forbid it. Of a stop, all that forbids to go must change: where that is more than the
    regions hold (`partial`), a flip would be as wrong as through no cause at all.
    """
    causes = set(truth["causal_regions"])
    if not causes & set(regions):
        return "other"
    return "causal" if truth["go"] or causes <= set(regions) else "partial"


def _lamps_turned(image: NDArray[np.uint8], truth: Mapping[str, Any]) -> bool:
    """Whether every traffic light of the street shows exactly the opposite: one lamp off, the other on, no third."""
    wanted = _OTHER_LIGHT[truth["light"]]
    lamps = [lamp for lamp in truth["lamps"] if lamp["of"] == "traffic_light"]
    masks = []
    for lamp in lamps:
        mask = np.zeros(image.shape[:2], dtype=bool)
        mask.ravel()[lamp["pixels"]] = True
        masks.append(mask)
    return read_lamps(image, masks) == [wanted[lamp["place"]] for lamp in lamps]
