"""Whether decisions turned, and where in the picture that was brought about."""

import numpy as np
from torch import Tensor

from cfexp.declaration import Declaration, Shown
from cfexp.evaluation.measure.base import Chunk, Family, Measure, Members, Values, rate
from cfexp.metrics.functional import edit_locality

MASKED = "edits with a truth mask"


def flipped(chunk: Chunk) -> Members:
    """Of each query, whether the decision about the stored picture is another one: (B,) bool."""
    return np.array([record["stored_class"] != record["query_class"] for record in chunk.records])


def measures() -> Family:
    """Of every explanation: flips and successes; of those with a truth mask, how much of the edit
    is inside.
    """
    return lambda facts: of_declared(facts.declaration)


def of_declared(declaration: Declaration) -> list[Measure]:
    """The same, of a run whose explainer declares that."""
    # The edit of a reconstruction is mostly what that loses of the query: not among what people
    # look at first.
    starts_from_query = declaration.starts_from == "query"
    inside = (
        Shown("% edit\ninside", panel="of the edit inside the object, %")
        if starts_from_query
        else None
    )
    return [
        Measure("flip_rate", lambda chunk: rate(flipped(chunk)), "%", kind="rate"),
        Measure(
            "success_float",
            lambda chunk: _recorded(chunk, "success"),
            "%",
            kind="rate",
            is_telling=True,
        ),
        Measure(
            "success_stored",
            lambda chunk: _recorded(chunk, "stored_success"),
            "%",
            kind="rate",
            is_telling=True,
        ),
        Measure(
            "edit_locality",
            lambda chunk: chunk.once(_locality),
            "%",
            MASKED,
            shown=inside,
            is_telling=True,
        ),
        Measure("mask_area", lambda chunk: chunk.once(_area), "%", MASKED, is_telling=True),
        Measure("locality_lift", _lift, "times", MASKED, kind="ratio", is_telling=True),
    ]


def _recorded(chunk: Chunk, name: str) -> Values:
    return rate(np.array([record[name] for record in chunk.records]))


def _locality(chunk: Chunk) -> Values:
    return 100 * _numpy(edit_locality(chunk.query, chunk.made, chunk.mask))


def _area(chunk: Chunk) -> Values:
    """The share of the picture that the mask takes, which is what an edit anywhere would have
    inside.
    """
    share = 100 * _numpy(chunk.mask.float().mean((1, 2, 3)))
    return np.where(np.isnan(chunk.once(_locality)), np.nan, share)


def _lift(chunk: Chunk) -> Values:
    return np.stack([chunk.once(_locality), chunk.once(_area)], axis=1)


def _numpy(values: Tensor) -> Values:
    found: Values = values.double().numpy()
    return found
