"""What an edit did to each region of the layout: in its style codes, and in its pixels."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cfexp.evaluation.metric import Metric, Values
from cfexp.evaluation.run_folder import Record, RunFolder
from cfexp.metrics.functional import CHANGED_LEVELS, region_rms

CODES, PIXELS = "region_codes_", "region_pixels_"  # what the metrics of one region begin with
CHANGED = "regions_changed"


def region_metrics(names: Sequence[str]) -> dict[str, Metric]:
    """The metrics of a run whose layouts have these regions.

    regions_changed: the share of a picture's regions whose pixels moved by more than 10 grey levels, RMS.
    """
    metrics = {CHANGED: Metric("%", "queries with a layout")}
    for name in names:
        metrics[CODES + name] = Metric("", f"queries with {name}")
        metrics[PIXELS + name] = Metric("of 255", f"queries with {name}")
    return metrics


def region_values(
    run: RunFolder, records: Sequence[Record], start: Tensor, counterfactual: Tensor, names: Sequence[str]
) -> dict[str, Values]:
    """The values (B,) of `region_metrics` of B explanations, NaN where a picture lacks the region or a layout.

    start: what the edit began from, (B, 3, H, W) in [-1, 1]: of a search the reconstruction.
    """
    layouts = [run.layout(record["key"]) for record in records]
    none = np.full(start.shape[2:], len(names), dtype=np.uint8)
    layout = torch.from_numpy(np.stack([none if each is None else each for each in layouts]))
    moved = region_rms(start, counterfactual, layout, len(names)).double().numpy()
    codes = np.array([record.get("region_change") or [np.nan] * len(names) for record in records])
    present = ~np.isnan(moved)
    with np.errstate(invalid="ignore"):  # 0 / 0: no layout
        values = {CHANGED: 100 * (present & (moved > CHANGED_LEVELS)).sum(1) / present.sum(1)}
    for region, name in enumerate(names):
        values[CODES + name] = np.where(present[:, region], codes[:, region], np.nan)
        values[PIXELS + name] = moved[:, region]
    return values
