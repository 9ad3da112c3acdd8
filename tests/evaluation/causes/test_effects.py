"""Effects and claims of scenes made by hand."""

import math
from typing import Any

import numpy as np
import pytest

from cfexp.declaration import Declaration
from cfexp.evaluation.causes.curve import CurvePoint, rises
from cfexp.evaluation.causes.effects import claims_of, effects_of
from cfexp.evaluation.causes.interventions import units_of
from cfexp.evaluation.measure.base import Score
from cfexp.worlds.factors import Factor

SMILE = Factor("smile", ("no", "yes"), ("mouth", "lips"))
GLOSS = Factor("gloss", ("no", "yes"), ("lips",))
HAT = Factor("hat", ("no", "yes"), ())
REGIONS = ("mouth", "lips", "hair")
UNITS = {"mouth": ("mouth",), "lips": ("lips",), "smile": ("mouth", "lips")}


def record(key: int, query_class: int, **known: Any) -> dict[str, Any]:
    return {
        "key": key,
        "query_class": query_class,
        "counter_class": 1 - query_class,
        "reconstruction_class": query_class,
        "stored_success": True,
        **known,
    }


def answer(as_it_is: float, first: float, second: float, own: int) -> dict[str, Any]:
    """Of a mouth that decides by itself."""
    other = first if own else second
    return {
        "as_it_is": as_it_is,
        "own": {"smile": own},
        "drawn": {"smile": [first, second]},
        "units": {"mouth": [as_it_is, other], "smile": [as_it_is, other], "lips": [as_it_is] * 2},
    }


def test_each_region_and_each_set_of_a_factor_is_a_unit_once() -> None:
    assert units_of((SMILE, GLOSS, HAT), {}) == UNITS
    named = units_of((SMILE, SMILE._replace(name="grin"), HAT), {"whole": ["lips", "mouth"]})
    assert list(named) == ["mouth", "lips", "whole"]


def test_what_a_sweep_claims_is_read_by_region_and_by_set() -> None:
    declaration = Declaration(region_groups=("whole",))
    records = [
        record(0, 0, sweep_success=[1, 0, -1, 1]),
        record(1, 1, sweep_success=[0, -1, 0, 0]),
        record(2, 1, sweep_success=[1, 1, 1, 1], reconstruction_class=0),  # claims nothing
    ]
    found = claims_of(records, UNITS, REGIONS, declaration, {"whole": ["lips", "mouth"]})
    np.testing.assert_equal(found["mouth"], [100, 0, math.nan])
    np.testing.assert_equal(found["lips"], [0, math.nan, math.nan])
    np.testing.assert_equal(found["smile"], [100, 0, math.nan])


def test_a_run_in_some_regions_claims_of_these_alone() -> None:
    records = [record(0, 0), record(1, 1, stored_success=False)]
    declaration = Declaration(regions=("lips", "mouth"))
    found = claims_of(records, UNITS, REGIONS, declaration, {})
    assert found.keys() == {"smile"}
    assert found["smile"].tolist() == [100, 0]
    assert claims_of(records, UNITS, REGIONS, Declaration(), {}) == {}


def test_effects_and_claims_are_of_the_same_scenes() -> None:
    records = [record(key, key % 2) for key in range(12)]
    answers = [answer(0.9 if key % 2 else 0.1, 0.1, 0.9, key % 2) for key in range(12)]
    nothing = np.zeros(12)
    claims = {"mouth": np.full(12, 100.0), "lips": nothing, "smile": np.full(12, 100.0)}
    claims["mouth"][0] = math.nan
    effects = effects_of(records, answers, (SMILE, HAT), UNITS, claims, ("no", "yes"), 5)
    smile, hat = effects.factors
    assert smile.cace.value == pytest.approx(80)
    assert [each.value for each in (smile.necessity, smile.sufficiency, smile.both)] == [100] * 3
    assert [each.n for each in (smile.necessity, smile.sufficiency, smile.both)] == [6, 6, 12]
    assert smile.claimed.value == 100
    assert hat.turned.n == hat.cace.n == 0
    assert effects.alike[:1] + effects.alike[3:] == (100, 12)
    rows = {(unit.name, unit.direction): unit for unit in effects.units}
    assert rows["mouth", "all"].true.n == rows["mouth", "all"].claimed.n == 11
    assert rows["lips", "no -> yes"].true.value == 0
    assert not rows["mouth", "all"].ranked
    assert effects.agreement.units == 6
    assert effects.agreement.value == effects.untied.value == pytest.approx(1)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((0, 1, 2), "rises from point to point"),
        ((0, 0, 2), "never falls"),
        ((0, 2, 1), "does not rise throughout"),
    ],
)
def test_a_curve_says_whether_it_rises(values: tuple[float, ...], said: str) -> None:
    scores = [Score(value, value, value, 1) for value in values]
    points = [CurvePoint(at, score, score, score) for at, score in enumerate(scores)]
    assert rises(points, "cace") == said
