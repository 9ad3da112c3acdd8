"""How far a counterfactual is from its query, in pixels."""

from cfexp.declaration import Shown
from cfexp.evaluation.measure.base import BOTH, Measure
from cfexp.metrics.functional import changed_fraction, l1_change, l2_distance, rms_change, ssim


def measures() -> list[Measure]:
    """See `cfexp.metrics.functional` for each."""
    shown = Shown("RMS\nof 255", panel="RMS change, of 255")
    return [
        Measure("l1", lambda chunk: l1_change(chunk.query, chunk.made), "of 255", also=BOTH),
        Measure("l2", lambda chunk: l2_distance(chunk.query, chunk.made), "of [0, 1]", also=BOTH),
        Measure(
            "rms_change",
            lambda chunk: rms_change(chunk.query, chunk.made),
            "of 255",
            also=BOTH,
            shown=shown,
        ),
        Measure(
            "ssim",
            lambda chunk: ssim(chunk.query, chunk.made),
            also=BOTH,
            shown=Shown("\nSSIM", 3, sweep=False),
        ),
        Measure(
            "changed_fraction",
            lambda chunk: 100 * changed_fraction(chunk.query, chunk.made),
            "%",
            also=BOTH,
        ),
    ]
