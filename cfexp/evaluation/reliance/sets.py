"""Sets of regions: which were enough to turn a decision, and which were needed for it."""

from collections import Counter
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cfexp.evaluation.measure.base import Members, Score, Values
from cfexp.evaluation.measure.estimate import mean, share_among
from cfexp.evaluation.reliance.edits import Edits

HELD = 0.9  # the share of an edit that its set holds
SHOWN = 8  # sets by name


class Region(NamedTuple):
    """What a region is to the explanations of one direction."""

    name: str
    leads: Score  # of all explanations: the share in which it holds most of the edit
    edit: Score  # the mean share of the edit, of pictures that have it
    in_set: Score  # the share of pictures with it whose set needs it
    is_set: Score  # ... whose set it is, alone
    alone: Score | None  # of searches in it alone, the share that turn; None = not swept


class Sets(NamedTuple):
    """One direction: its regions, those that lead most first, and its most frequent sets."""

    direction: str
    n: int  # explanations
    searches: int
    success: Score
    regions: list[Region]
    sets: list[tuple[str, Score]]
    smallest: list[tuple[str, Score]]  # the smallest that a sweep found; empty = not swept


def members(shares: Values, held: float = HELD) -> NDArray[np.bool_]:
    """(N, R) the fewest regions that hold so much of each edit; none of an edit of nothing."""
    order = np.argsort(-shares, axis=1, kind="stable")
    ordered = np.take_along_axis(shares, order, axis=1)
    before = np.cumsum(ordered, axis=1) - ordered
    # By a hair less: the shares of an edit within one region sum to 1 but for rounding.
    needed = (before < held - 1e-9) & (ordered > 0)
    chosen = np.zeros_like(needed)
    np.put_along_axis(chosen, order, needed, axis=1)
    return chosen


def of_directions(edits: Edits) -> list[Sets]:
    """All explanations, and those of each direction that has some."""
    chosen = members(edits.shares)
    found = [_sets(edits, name, rows, chosen) for name, rows in edits.directions.items()]
    return [each for each in found if each.searches]


def _sets(edits: Edits, direction: str, rows: Members, chosen: NDArray[np.bool_]) -> Sets:
    turned = rows & edits.turned
    regions = []
    for column, name in enumerate(edits.regions):
        present = turned & edits.present[:, column]
        if not (edits.present[:, column] & rows).any():
            continue
        leads = share_among(edits.leading == column, turned)
        edit = mean(np.where(present, 100 * edits.shares[:, column], np.nan), edits.image_ids, "%")
        in_set = share_among(chosen[:, column], present)
        is_set = share_among(chosen[:, column] & (chosen.sum(1) == 1), present)
        regions.append(Region(name, leads, edit, in_set, is_set, _alone(edits, rows, column)))
    regions.sort(key=lambda region: (-region.leads.value, -region.edit.value))
    names = [_named(edits.regions, row) for row in chosen]
    return Sets(
        direction,
        int(turned.sum()),
        int(rows.sum()),
        share_among(edits.turned, rows),
        regions,
        _frequent(names, turned),
        _smallest(edits, rows),
    )


def _alone(edits: Edits, rows: Members, column: int) -> Score | None:
    outcomes = [record.get("sweep_success") for record in edits.records]
    known = np.array([-1 if each is None else each[column] for each in outcomes])
    return share_among(known == 1, rows & (known >= 0)) if (known[rows] >= 0).any() else None


def _smallest(edits: Edits, rows: Members) -> list[tuple[str, Score]]:
    found = [record.get("sweep_smallest_set") for record in edits.records]
    swept = rows & np.array([each is not None for each in found])
    names = ["" if each is None else _named(edits.regions, each) for each in found]
    return _frequent(names, swept) if swept.any() else []


def _frequent(names: list[str], among: Members) -> list[tuple[str, Score]]:
    counts = Counter(name for name, counts in zip(names, among, strict=True) if counts)
    frequent = [name for name, _ in counts.most_common(SHOWN)]
    return [
        (name or "no set was found", share_among(np.array([each == name for each in names]), among))
        for name in frequent
    ]


def _named(regions: list[str], chosen: NDArray[np.bool_] | list[bool]) -> str:
    return " + ".join(name for name, is_in in zip(regions, chosen, strict=False) if is_in)
