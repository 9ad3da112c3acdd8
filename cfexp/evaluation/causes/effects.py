"""The true effect of each factor and region, by intervention, beside what explanations claim of it.

A **factor** is a thing that the world draws, with two values. A **unit** is a region, or a set of
regions in which one factor shows; of it both sides can be asked the same: does the decision turn if
this alone is made otherwise? The drawing tries each value of each factor that shows there, an
explainer searches there.
"""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from cfexp.declaration import Declaration
from cfexp.evaluation.causes.interventions import Answer
from cfexp.evaluation.directions import has_something_to_explain
from cfexp.evaluation.measure.base import Members, Score, Values
from cfexp.evaluation.measure.estimate import mean, share
from cfexp.evaluation.run_folder import Record
from cfexp.metrics.causation import (
    Agreement,
    Frequency,
    concept_effects,
    probabilities_of_causation,
    rank_agreement,
)
from cfexp.worlds.factors import Factor

# Of fewer scenes a share says next to nothing: such units are shown, and not ranked.
MIN_SCENES = 5
ALL = "all"


class FactorEffect(NamedTuple):
    """What one factor does to the decision; all in percent, of the scenes that have it."""

    factor: Factor
    cace: Score  # points of the probability of the second class, second value less first
    necessity: Score  # PN
    sufficiency: Score  # PS
    both: Score  # PNS
    reverse: Score  # the share that the factor turns the other way
    turned: Score  # either way
    claimed: Score  # of explanations in all of its regions, and in them alone


class UnitEffect(NamedTuple):
    """How often a region, or a set of them, turns the decision by itself, in percent."""

    name: str
    regions: tuple[str, ...]
    direction: str
    true: Score  # by drawing it otherwise
    claimed: Score  # by explanations in it alone, of the same scenes
    ranked: bool  # whether it counts for the agreement


class Effects(NamedTuple):
    """All of a run."""

    scenes: int
    alike: Score  # percent of the scenes that are decided alike, drawn anew and as the run has them
    factors: list[FactorEffect]
    units: list[UnitEffect]
    tolerated: float  # percent
    agreement: Agreement  # shares that cannot be told from `tolerated` tied at nothing
    untied: Agreement  # the same of all shares as they are


def effects_of(
    records: Sequence[Record],
    answers: Sequence[Answer],
    factors: Sequence[Factor],
    units: Mapping[str, tuple[str, ...]],
    claims: Mapping[str, Values],
    class_names: Sequence[str],
    tolerated: float,
) -> Effects:
    """Effects of N scenes.

    claims: by unit, (N,) see `claims_of`. class_names: of both classes. tolerated: percent, see
    `rank_agreement`.
    """
    sets = {frozenset(regions): name for name, regions in units.items()}
    nothing = np.full(len(records), np.nan)
    by_factor = [
        _factor_effect(
            factor, answers, claims.get(sets.get(frozenset(factor.regions), ""), nothing)
        )
        for factor in factors
    ]
    query = np.array([record["query_class"] for record in records])
    drawn = np.array([answer["as_it_is"] > 0.5 for answer in answers], dtype=np.int64)
    alike = 100.0 * (drawn == query)
    directions = {
        ALL: np.ones(len(records), dtype=bool),
        " -> ".join(class_names): query == 0,
        " -> ".join(reversed(class_names)): query == 1,
    }
    rows, true, claimed = [], [], []
    for name, regions in units.items():
        turned, claim = _turned(answers, name), claims.get(name, nothing)
        for direction, members in directions.items():
            known = members & ~np.isnan(turned)
            both = known & ~np.isnan(claim)
            ranked = direction != ALL and int(both.sum()) >= MIN_SCENES
            # Beside a claim, the true effect is of the same scenes.
            of_true = _among(turned, both if both.any() else known)
            of_claim = _among(claim, both)
            rows.append(
                UnitEffect(name, regions, direction, share(of_true), share(of_claim), ranked)
            )
            if ranked:
                true.append(of_true)
                claimed.append(of_claim)
    shape = (len(records), len(true))
    first, second = (np.array(each).T.reshape(shape) / 100 for each in (true, claimed))
    return Effects(
        *(len(records), share(alike), by_factor, rows, tolerated),
        rank_agreement(first, second, tolerated=tolerated / 100),
        rank_agreement(first, second),
    )


def claims_of(
    records: Sequence[Record],
    units: Mapping[str, tuple[str, ...]],
    region_names: Sequence[str],
    declaration: Declaration,
    groups: Mapping[str, Sequence[str]],
) -> dict[str, Values]:
    """By unit (N,): 100 where an explanation that may change nothing but the unit turns the
    decision, 0 where none does, NaN where none was looked for.

    Of a run that swept the regions, each unit that it tried alone; of one whose `regions` are a
    unit, that. A search whose reconstruction does not keep the decision claims nothing.

    groups: the sets of regions that the run swept together, by name.
    """
    counts = np.array([has_something_to_explain(record) for record in records], dtype=bool)
    found = {}
    tried = {
        **{frozenset({name}): index for index, name in enumerate(region_names)},
        **{
            frozenset(groups[name]): len(region_names) + index
            for index, name in enumerate(declaration.region_groups)
            if name in groups
        },
    }
    for unit, regions in units.items():
        if declaration.regions is not None and set(declaration.regions) == set(regions):
            success = np.array([float(record["stored_success"]) for record in records])
        elif frozenset(regions) in tried:
            column = tried[frozenset(regions)]
            success = np.array([_swept(record, column) for record in records])
        else:
            continue
        if not np.isnan(success).all():
            found[unit] = np.where(counts, 100 * success, np.nan)
    return found


def _swept(record: Record, column: int) -> float:
    """Whether a search in this column's unit alone turned the decision; NaN = there was none."""
    sweep = record.get("sweep_success")
    return np.nan if sweep is None or sweep[column] < 0 else float(sweep[column])


def _factor_effect(factor: Factor, answers: Sequence[Answer], claim: Values) -> FactorEffect:
    has_it = np.array([factor.name in answer["drawn"] for answer in answers], dtype=bool)
    said = np.array(
        [each["drawn"][factor.name] for each in answers if factor.name in each["drawn"]]
    )
    first, second = said.reshape(-1, 2).T
    own = np.array(
        [each["own"][factor.name] for each in answers if factor.name in each["drawn"]],
        dtype=np.int64,
    )
    decided = first > 0.5, second > 0.5
    probabilities = probabilities_of_causation(own, *decided)
    necessity, sufficiency, both, reverse = map(_frequency, probabilities)
    turned = 100.0 * (decided[0] != decided[1])
    cace = mean(100 * concept_effects(first, second), np.arange(len(first)), "points")
    return FactorEffect(
        *(factor, cace, necessity, sufficiency, both, reverse),
        *(share(turned), share(claim[has_it])),
    )


def _frequency(frequency: Frequency) -> Score:
    values = np.zeros(frequency.n)
    values[: frequency.happened] = 100.0
    return share(values)


def _turned(answers: Sequence[Answer], unit: str) -> Values:
    """(N,) 100 where any intervention in the unit alone turns the decision, 0 where none does, NaN
    where there is nothing to intervene on.
    """

    def turned(answer: Answer) -> float:
        said: Any = answer["units"].get(unit)
        if said is None:
            return np.nan
        return 100.0 * any((each > 0.5) != (answer["as_it_is"] > 0.5) for each in said)

    return np.array([turned(answer) for answer in answers])


def _among(values: Values, members: Members) -> Values:
    """The values of some; NaN of the others."""
    return np.where(members, values, np.nan)
