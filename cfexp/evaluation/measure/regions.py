"""What an edit did to each region of the label map: in its style codes, and in its pixels."""

from collections.abc import Iterator
from functools import partial

import numpy as np
import torch

from cfexp.declaration import Column
from cfexp.evaluation.measure.base import Cell, Chunk, Facts, Measure, Values
from cfexp.metrics.functional import CHANGED_LEVELS, region_rms

CODES, PIXELS = "codes", "pixels"  # the columns of their table
TABLE = "regions"
# What data/own/made_maps.py calls the one region of a whole image: it says nothing of its own.
WHOLE = "image"


def measures(facts: Facts) -> Iterator[Measure]:
    """Of label maps with these regions, what changed in each.

    regions_changed: the share of a picture's regions whose pixels moved by more than 10 grey
    levels, RMS.
    region_pixels_NAME: from what the edit began with. region_codes_NAME, as the explainer calls it:
    its own column of how far each region was moved, if it has one. Nothing of a picture that lacks
    the region, or a label map; nothing at all where the only region is the whole image.
    """
    if list(facts.region_names) in ([], [WHOLE]) or not facts.some_show("label_map"):
        return
    yield Measure(
        "regions_changed", _share_changed, "%", "queries with a label map", is_telling=True
    )
    moved = facts.declaration.region_column
    for region, name in enumerate(facts.region_names):
        counted = f"queries with {name}"
        if moved is not None:
            of_codes = partial(_codes, region=region, column=moved)
            cell = Cell(TABLE, name, CODES)
            yield Measure(
                moved.by_region + name, of_codes, moved.unit, counted, of_region=True, cell=cell
            )
        of_pixels, cell = partial(_pixels, region=region), Cell(TABLE, name, PIXELS)
        yield Measure(
            f"region_pixels_{name}", of_pixels, "of 255", counted, of_region=True, cell=cell
        )


def _moved(chunk: Chunk) -> Values:
    """(B, R) how far the pixels of each region moved, RMS; NaN where there is none."""
    count = len(chunk.facts.region_names)
    label_maps = [chunk.facts.run.label_map(record["key"]) for record in chunk.records]
    none = np.full(chunk.query.shape[2:], count, dtype=np.uint8)
    label_map = torch.from_numpy(np.stack([none if each is None else each for each in label_maps]))
    moved: Values = region_rms(chunk.start, chunk.counterfactual, label_map, count).double().numpy()
    return moved


def _share_changed(chunk: Chunk) -> Values:
    moved = chunk.once(_moved)
    present = ~np.isnan(moved)
    with np.errstate(invalid="ignore"):  # 0 / 0: no label map
        share: Values = 100 * (present & (moved > CHANGED_LEVELS)).sum(1) / present.sum(1)
    return share


def _pixels(chunk: Chunk, region: int) -> Values:
    return chunk.once(_moved)[:, region]


def _codes(chunk: Chunk, region: int, column: Column) -> Values:
    codes = [
        (record.get(column.name) or [np.nan] * (region + 1))[region] for record in chunk.records
    ]
    return np.where(
        np.isnan(chunk.once(_moved)[:, region]), np.nan, np.array(codes, dtype=np.float64)
    )
