"""What is measured of explanations told by direction, and of edits that start from the
reconstruction.
"""

import numpy as np

from cfexp.declaration import Shown
from cfexp.evaluation.directions import (
    has_something_to_explain,
    is_kept,
    names_unlike_the_label,
    true_class,
)
from cfexp.evaluation.measure.base import Chunk, Facts, Measure, Members, Values, rate
from cfexp.metrics.functional import psnr


def by_direction(facts: Facts) -> bool:
    """Whether the tables tell each pair of classes apart."""
    return facts.declaration.by_direction


def from_reconstruction(facts: Facts) -> bool:
    """Whether the edits start from the reconstruction."""
    return facts.declaration.starts_from == "reconstruction"


def measures(facts: Facts | None = None) -> list[Measure]:
    """Whether the decisions are right, what the reconstruction loses, and how often what it keeps
    is turned.

    facts: of a run; where its labels have other names than its decision's classes, the first of
    these is not computed.
    """
    told = () if facts is None else (facts.records, facts.declaration, facts.data)
    otherwise = names_unlike_the_label(*told) if told else ""
    kept = Shown("% kept by\nreconstruction", sweep=False)
    success = Shown("% success\nof kept", panel="success, % of those that the reconstruction keeps")
    return [
        Measure(
            "decision_right",
            None if otherwise else _right,
            *("%", "searches whose label is known", "rate"),
            needs=by_direction,
            is_telling=True,
            missing=otherwise,
        ),
        Measure(
            *(
                "reconstruction_psnr",
                lambda chunk: psnr(chunk.query, chunk.reconstruction),
                "dB",
                "searches",
            ),
            needs=from_reconstruction,
            is_telling=True,
        ),
        Measure(
            "reconstruction_kept",
            _kept,
            "%",
            "searches",
            "rate",
            needs=from_reconstruction,
            shown=kept,
        ),
        Measure(
            *(
                "success_kept",
                success_of_kept,
                "%",
                "searches whose reconstruction keeps the decision",
                "rate",
            ),
            needs=by_direction,
            shown=success,
        ),
    ]


def explained(chunk: Chunk) -> Members:
    """Of each query, whether there is anything to explain: (B,) bool.

    A flip that the reconstruction brings explains nothing; nor is there anything to explain of what
    is of the class asked for already.
    """
    return np.array([has_something_to_explain(record) for record in chunk.records])


def success_of_kept(chunk: Chunk) -> Values:
    """Success of those that there is anything to explain of."""
    return rate(
        np.array([record["stored_success"] for record in chunk.records]), among=explained(chunk)
    )


def _kept(chunk: Chunk) -> Values:
    return rate(np.array([is_kept(record) for record in chunk.records]))


def _right(chunk: Chunk) -> Values:
    facts = chunk.facts
    truth = [true_class(record, facts.declaration, facts.data) for record in chunk.records]
    return np.array(
        [
            float("nan") if known is None else 100.0 * (record["query_class"] == known)
            for record, known in zip(chunk.records, truth, strict=True)
        ]
    )
