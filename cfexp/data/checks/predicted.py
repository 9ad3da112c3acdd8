"""Predicted label maps held against the data set's own masks, where it has them."""

from functools import partial

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cfexp.data.checks.findings import Findings
from cfexp.data.label_maps.dataset import LabelMapRecord
from cfexp.data.label_maps.module import LabelMapDataModule
from cfexp.data.reading.records import PREDICTED_REMEDY

COMPARED = 64  # label maps, which tell what is wrong with all
# Segmenters reach 85 % of faces and more of streets; the label maps of other images about 65.
LEAST_AGREEMENT = 0.7
LEAST_PIXELS = 0.0005  # of all: a region that is seldomer says nothing


def check_predicted(
    data: LabelMapDataModule, records: list[LabelMapRecord], findings: Findings
) -> bool:
    """Add to the findings where predicted regions lie on others, or agree with the masks much less
    than they should.

    Returns whether they lie on others.
    """
    if not records:
        return False
    chosen = [
        records[place]
        for place in np.unique(np.linspace(0, len(records) - 1, COMPARED).astype(int))
    ]
    count = len(data.region_names)
    pixels = np.zeros((count, count))  # of each region of the masks that a region is predicted for
    compared = 0
    for record in chosen:
        quiet = Findings()  # files that cannot be read are named where all are opened
        predicted = quiet.attempt(partial(data.reader.label_map, record))
        own = quiet.attempt(partial(data.own_label_map, record))
        if predicted is not None and own is not None:
            own = own.resize(predicted.size, Image.Resampling.NEAREST)
            pair = np.asarray(own).astype(int) * count + np.asarray(predicted)
            pixels += (
                np.bincount(pair.ravel(), minlength=count**2).reshape(count, count) / pair.size
            )
            compared += 1
    if not compared:
        return False
    pixels /= compared
    agreement = f"{100 * np.trace(pixels):.0f} % of the pixels agree with the data set's own masks"
    where = f"{chosen[0].label_map}: of this label map and {compared - 1} others {agreement}"
    moved = _moved(pixels)
    if moved:
        words = ", ".join(
            f"{data.region_names[name]} lies on {data.region_names[of]}"
            for name, of in moved.items()
        )
        orders = {} if data.looks is None else dict(data.looks.orders)
        if data.mirrored_regions is not None:
            orders["left and right exchanged"] = data.mirrored_regions
        order = next(
            (
                name
                for name, of in orders.items()
                if all(dict(enumerate(of)).get(k) == moved[k] for k in moved)
            ),
            None,
        )
        findings.error(
            f"{where}; what they call {words}" + (f": {order}" if order is not None else "")
        )
    elif np.trace(pixels) < LEAST_AGREEMENT:
        doubt = f"are they of these images? Or {PREDICTED_REMEDY}"
        findings.note(f"{where}, fewer than a segmenter reaches: {doubt}")
    return bool(moved)


def _moved(pixels: NDArray[np.float64]) -> dict[int, int]:
    """Which region each predicted one lies on instead: most of its pixels are there, and most of
    those are called so.

    Both, as a weak segmenter calls a hat hair, but not the hair a hat.
    """
    predicted, own = pixels.sum(0), pixels.sum(1)
    on = pixels.argmax(0)
    return {
        name: int(of)
        for name, of in enumerate(on)
        if of != name
        and predicted[name] >= LEAST_PIXELS
        and pixels[of, name] > 0.5 * predicted[name]
        and pixels[of, name] > 0.5 * own[of]
    }
