"""What is held against the truth of the causes, which the embedded streets know."""

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfexp.evaluation.directions import is_success
from cfexp.evaluation.measure.base import Chunk, Facts, Measure, Values
from cfexp.evaluation.measure.directions import by_direction, explained
from cfexp.evaluation.run_folder import Record, to_pixels
from cfexp.metrics.lamps import read_lamps

# What a traffic light shows when it says the opposite: the state of each of its lamps, and of no
# lamp more.
_OTHER_LIGHT = {
    "red": {"top": "dark", "middle": "dark", "bottom": "green"},
    "green": {"top": "red", "middle": "dark", "bottom": "dark"},
}


def has_causes(facts: Facts) -> bool:
    """Whether the causes of the decision are known."""
    return by_direction(facts) and facts.some_have("truth")


def _has_regions(facts: Facts) -> bool:
    return has_causes(facts) and facts.declaration.regions is not None


def measures() -> list[Measure]:
    """Whether the region that an edit changed most is a cause, and whether its lights turned
    wholly.
    """
    region, lights = (
        "successful searches with known causes",
        "successful searches that changed lights most which are",
    )
    return [
        Measure("causal_region", _causal, "%", region, "rate", needs=has_causes, is_telling=True),
        Measure(
            "lamps_turned",
            _turned,
            "%",
            f"{lights} a cause",
            "rate",
            needs=has_causes,
            is_telling=True,
        ),
    ]


def targeted() -> list[Measure]:
    """Where only some regions may change: success by what they are to the decision, see
    `_targeted`.
    """
    kinds = {
        "causal": "what turns the decision",
        "partial": "one of two causes of a stop",
        "other": "no cause",
    }
    return [
        Measure(
            *(
                f"targeted_{kind}_flip",
                partial(_flips, kind=kind),
                "%",
                f"searches in regions that hold {what}",
                "rate",
            ),
            needs=_has_regions,
            is_telling=True,
        )
        for kind, what in kinds.items()
    ]


def _most_changed(chunk: Chunk) -> list[str | None]:
    """Of each success with known causes, the region that the edit changed most."""
    moved, names = chunk.facts.declaration.region_column, chunk.facts.region_names
    return [
        names[int(np.argmax(record[moved.name]))]
        if moved is not None and is_success(record) and record.get("truth") is not None
        else None
        for record in chunk.records
    ]


def _causal(chunk: Chunk) -> Values:
    regions = zip(chunk.records, _most_changed(chunk), strict=True)
    return np.array(
        [np.nan if each is None else 100.0 * _is_cause(record, each) for record, each in regions]
    )


def _turned(chunk: Chunk) -> Values:
    values = np.full(len(chunk.records), np.nan)
    for row, (record, region) in enumerate(zip(chunk.records, _most_changed(chunk), strict=True)):
        # Of a street that stops for a car, a green light explains nothing, whatever becomes of it.
        if region == "traffic_light" and _is_cause(record, region):
            values[row] = 100 * _lamps_turned(to_pixels(chunk.counterfactual[row]), record["truth"])
    return values


def _is_cause(record: Record, region: str) -> bool:
    return region in record["truth"]["causal_regions"]


def _flips(chunk: Chunk, kind: str) -> Values:
    regions = chunk.facts.declaration.regions or ()
    return np.array(
        [
            100.0 * record["stored_success"]
            if counts
            and record.get("truth") is not None
            and _targeted(regions, record["truth"]) == kind
            else np.nan
            for record, counts in zip(chunk.records, explained(chunk), strict=True)
        ]
    )


def _targeted(regions: Sequence[str], truth: Mapping[str, Any]) -> str:
    """What the regions that may change are to the decision by the truth of the causes: causal,
    partial or other.

    Of a go, each cause alone can forbid it. Of a stop, all that forbids to go must change: where
    that is more than the regions hold (`partial`), a flip would be as wrong as through no cause at
    all.
    """
    causes = set(truth["causal_regions"])
    if not causes & set(regions):
        return "other"
    return "causal" if truth["go"] or causes <= set(regions) else "partial"


def _lamps_turned(image: NDArray[np.uint8], truth: Mapping[str, Any]) -> bool:
    """Whether every traffic light of the street shows exactly the opposite: one lamp off, the other
    on, no third.
    """
    wanted = _OTHER_LIGHT[truth["light"]]
    lamps = [lamp for lamp in truth["lamps"] if lamp["of"] == "traffic_light"]
    masks = []
    for lamp in lamps:
        mask = np.zeros(image.shape[:2], dtype=bool)
        mask.ravel()[lamp["pixels"]] = True
        masks.append(mask)
    return read_lamps(image, masks) == [wanted[lamp["place"]] for lamp in lamps]
