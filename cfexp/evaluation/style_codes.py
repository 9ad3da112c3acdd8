"""What is measured of searches in style codes, and, on the embedded streets, held against the truth of their causes."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from cfexp.evaluation.run_folder import Record, to_pixels
from cfexp.metrics.lamps import read_lamps

Values = NDArray[np.float64]
# What a traffic light shows when it says the opposite: at each place of a lamp, its state.
_OTHER_LIGHT = {"red": {"top": "dark", "bottom": "green"}, "green": {"top": "red", "bottom": "dark"}}


def style_code_values(
    records: Sequence[Record], counterfactual: Tensor, region_names: Sequence[str]
) -> dict[str, Values]:
    """The metrics of B searches, each (B,), NaN where one means nothing; see `METRICS` in measurements.py.

    counterfactual: (B, 3, H, W) in [-1, 1]. region_names: of the codes' rows.
    """
    names = ("reconstruction_kept", "success_kept", "code_distance", "flip_step", "causal_region", "lamps_turned")
    values = {name: np.full(len(records), np.nan) for name in names}
    pixels = to_pixels(counterfactual)
    for row, record in enumerate(records):
        if "reconstruction_class" not in record:
            continue
        kept = record["reconstruction_class"] == record["query_class"]
        values["reconstruction_kept"][row] = 100 * kept
        values["code_distance"][row] = record["code_distance"]
        if not kept:
            continue  # a flip that the reconstruction brings explains nothing
        if record["query_class"] == record["counter_class"]:
            continue  # nor is there anything to explain of what is of the class asked for already
        values["success_kept"][row] = 100 * record["stored_success"]
        if not record["stored_success"]:
            continue
        if record["flip_step"] >= 0:
            values["flip_step"][row] = record["flip_step"]
        truth = record.get("truth")
        if truth is None:
            continue
        region = region_names[int(np.argmax(record["region_change"]))]
        values["causal_region"][row] = 100 * (region in truth["causal_regions"])
        if region == "traffic_light" and truth["light"] in _OTHER_LIGHT:
            values["lamps_turned"][row] = 100 * _lamps_turned(pixels[row], truth)
    return values


def _lamps_turned(image: NDArray[np.uint8], truth: dict[str, Any]) -> bool:
    """Whether every traffic light of the street shows exactly the opposite: one lamp off, the other on."""
    wanted = _OTHER_LIGHT[truth["light"]]
    lamps = [lamp for lamp in truth["lamps"] if lamp["of"] == "traffic_light" and lamp["place"] in wanted]
    masks = []
    for lamp in lamps:
        mask = np.zeros(image.shape[:2], dtype=bool)
        mask.ravel()[lamp["pixels"]] = True
        masks.append(mask)
    return read_lamps(image, masks) == [wanted[lamp["place"]] for lamp in lamps]
