"""What may be odd about labels as a whole: one value only, a rare one, or another share in another
part.
"""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from cfexp.data.base import Part
from cfexp.data.checks.findings import Findings
from cfexp.data.label_maps.dataset import LabelMapRecord
from cfexp.data.label_maps.module import LabelMapDataModule

RARE = 0.05  # the share of the rarer value, below which an accuracy says little
# Parts differ if their shares do by more than this, and by so many standard errors.
DIFFERENCE, STANDARD_ERRORS = 0.1, 4.0
CHANCE = 20  # of fewer images shares are chance


def check_labels(
    data: LabelMapDataModule, records: Mapping[Part, Sequence[LabelMapRecord]], findings: Findings
) -> None:
    """Add to the findings what is odd about the labels of the data in `root`, by parts."""
    for column, name in enumerate(data.class_names):
        known = {part: _known(records[part], column) for part in records}
        for part, values in known.items():
            # Where it is trained on, a label of one value is refused however few there are.
            if len(values) >= (2 if part == "train" and data.trains_all_labels else CHANCE):
                _check_share(data, f"{data.root}: {name!r} is", part, values, findings)
        _compare(f"{data.root}: {name!r} is", known, findings)


def _known(records: Sequence[LabelMapRecord], column: int) -> NDArray[np.float64]:
    values: NDArray[np.float64] = np.array(
        [record.labels[column] for record in records if record.labels], dtype=float
    )
    known: NDArray[np.float64] = values[~np.isnan(values)]
    return known


def _check_share(
    data: LabelMapDataModule,
    where: str,
    part: Part,
    values: NDArray[np.float64],
    findings: Findings,
) -> None:
    share = float(values.mean())
    of = f"{len(values):,} images of the {part} part"
    if share in (0, 1):
        word = "yes" if share else "no"
        # What is trained on it has nothing to learn, and is refused; of a few images it may be
        # chance.
        refused = part == "train" and data.trains_all_labels and len(values) >= CHANCE
        add = findings.error if refused else findings.note
        add(f"{where} {word} in all {of}")
    elif min(share, 1 - share) < RARE:
        word = "yes" if share < 0.5 else "no"
        rare = f"{word} in {100 * min(share, 1 - share):.1f} % of {of}"
        findings.note(
            f"{where} {rare}: who never says so is right in {100 * max(share, 1 - share):.1f} %"
        )


def _compare(where: str, known: Mapping[Part, NDArray[np.float64]], findings: Findings) -> None:
    train = known["train"]
    for part in ("val", "test"):
        other = known[part]
        if len(train) < CHANCE or len(other) < CHANCE:
            continue
        joint = float(np.concatenate([train, other]).mean())
        error = math.sqrt(joint * (1 - joint) * (1 / len(train) + 1 / len(other)))
        difference = abs(float(train.mean() - other.mean()))
        if difference > max(DIFFERENCE, STANDARD_ERRORS * error):
            of_train, of_other = (f"{100 * each.mean():.0f} %" for each in (train, other))
            shares = f"{of_train} of the train part and in {of_other} of the {part} part"
            findings.note(f"{where} yes in {shares}: is the split meant to be so?")
