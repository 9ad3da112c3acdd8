"""What an edit did to each region of the layout: in its style codes, and in its pixels."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cfexp.declaration import Column
from cfexp.evaluation.metric import Metric, Values, metrics_of_column
from cfexp.evaluation.run_folder import Record, RunFolder
from cfexp.metrics.functional import CHANGED_LEVELS, region_rms

CODES, PIXELS = "region_codes_", "region_pixels_"  # what the metrics of one region begin with
CHANGED = "regions_changed"


def region_metrics(names: Sequence[str], moved: Column | None) -> dict[str, Metric]:
    """The metrics of a run whose layouts have these regions.

    moved: the explainer's column of how far each region was moved, if it has one.
    regions_changed: the share of a picture's regions whose pixels moved by more than 10 grey levels, RMS.
    """
    metrics = {CHANGED: Metric("%", "queries with a layout", is_telling=True)}
    of_codes = {} if moved is None else metrics_of_column(moved, names)
    for name in names:
        if moved is not None:
            metrics[moved.by_region + name] = of_codes[moved.by_region + name]
        metrics[PIXELS + name] = Metric("of 255", f"queries with {name}", of_region=True)
    return metrics


def region_values(
    run: RunFolder,
    records: Sequence[Record],
    start: Tensor,
    counterfactual: Tensor,
    names: Sequence[str],
    column: Column | None,
) -> dict[str, Values]:
    """The values (B,) of `region_metrics` of B explanations, NaN where a picture lacks the region or a layout.

    start: what the edit began from, (B, 3, H, W) in [-1, 1]: the query or the reconstruction. column: as `moved` of
    `region_metrics`.
    """
    layouts = [run.layout(record["key"]) for record in records]
    none = np.full(start.shape[2:], len(names), dtype=np.uint8)
    layout = torch.from_numpy(np.stack([none if each is None else each for each in layouts]))
    moved = region_rms(start, counterfactual, layout, len(names)).double().numpy()
    present = ~np.isnan(moved)
    with np.errstate(invalid="ignore"):  # 0 / 0: no layout
        values = {CHANGED: 100 * (present & (moved > CHANGED_LEVELS)).sum(1) / present.sum(1)}
    for region, name in enumerate(names):
        values[PIXELS + name] = moved[:, region]
    if column is not None:
        codes = np.array([record.get(column.name) or [np.nan] * len(names) for record in records])
        for region, name in enumerate(names):
            values[column.by_region + name] = np.where(present[:, region], codes[:, region], np.nan)
    return values
