"""CaCE, necessity and sufficiency, and the agreement of claims with them, by cases made by hand."""

import numpy as np
import pytest
from scipy.stats import spearmanr

from cfexp.metrics.causation import (
    Frequency,
    concept_effects,
    probabilities_of_causation,
    rank_agreement,
)

NAN = float("nan")


def test_the_effect_of_a_concept_is_the_mean_difference() -> None:
    first, second = np.array([0.1, 0.4, 0.9]), np.array([0.9, 0.4, 0.8])
    assert concept_effects(first, second).mean() == pytest.approx((0.8 + 0.0 - 0.1) / 3)
    assert (concept_effects(first, first) == 0).all()
    with pytest.raises(ValueError, match="one shape"):
        concept_effects(first, second[:2])


def test_a_sole_cause_is_necessary_and_sufficient() -> None:
    own = np.array([0, 1, 0, 1])
    found = probabilities_of_causation(own, np.zeros(4, dtype=bool), np.ones(4, dtype=bool))
    assert found == (Frequency(2, 2), Frequency(2, 2), Frequency(4, 4), Frequency(0, 4))


def test_what_does_nothing_is_neither() -> None:
    own, same = np.array([0, 1, 0, 1]), np.array([True, True, False, False])
    found = probabilities_of_causation(own, same, same)
    assert found == (Frequency(0, 1), Frequency(0, 1), Frequency(0, 4), Frequency(0, 4))


def test_of_two_causes_one_is_necessary_and_seldom_sufficient() -> None:
    # go = green and no braking car; X: the light is green. The last car brakes, so do two.
    green, free = np.array([1, 1, 0, 0, 1, 0]), np.array([1, 1, 1, 0, 0, 0], dtype=bool)
    found = probabilities_of_causation(green, np.zeros(6, dtype=bool), free)
    assert found.necessity == Frequency(2, 2)
    assert found.sufficiency == Frequency(1, 3)
    assert found.both == Frequency(3, 6)


def test_a_scene_with_neither_value_counts_for_both_alone() -> None:
    own = np.array([-1, -1])
    found = probabilities_of_causation(own, np.array([False, True]), np.array([True, False]))
    assert found == (Frequency(0, 0), Frequency(0, 0), Frequency(1, 2), Frequency(1, 2))
    with pytest.raises(ValueError, match="one shape"):
        probabilities_of_causation(own, np.array([True]), np.array([True]))


def rates(*shares: float, count: int = 100) -> np.ndarray[tuple[int, int], np.dtype[np.float64]]:
    """(count, U) of 0 and 1, so many ones a unit, spread alike."""
    return (np.arange(count)[:, None] * 37 % count < np.array(shares) * count).astype(float)


def test_the_agreement_is_spearmans_over_the_shares() -> None:
    rng = np.random.default_rng(0)
    true = (rng.random((30, 6)) < np.linspace(0.1, 0.9, 6)).astype(float)
    claimed = (rng.random((30, 6)) < np.array([0.3, 0.1, 0.2, 0.9, 0.5, 0.6])).astype(float)
    true[3, 2] = claimed[7, 4] = NAN
    both = ~np.isnan(true) & ~np.isnan(claimed)
    means = [np.nanmean(np.where(both, each, NAN), 0) for each in (true, claimed)]
    found = rank_agreement(true, claimed, n_resamples=200)
    assert found.value == pytest.approx(spearmanr(*means).statistic)
    assert found.low <= found.value <= found.high
    assert found.units == 6
    assert found == rank_agreement(true, claimed, n_resamples=200)


def test_what_agrees_agrees_in_each_resample_and_its_reverse_does_not() -> None:
    true = rates(0, 0.2, 0.5, 1)
    assert rank_agreement(true, true, n_resamples=50)[:3] == pytest.approx((1, 1, 1))
    assert rank_agreement(true, 1 - true, n_resamples=50)[:3] == pytest.approx((-1, -1, -1))


def test_what_cannot_be_told_from_the_tolerated_is_tied_at_nothing_on_both_sides() -> None:
    shares = (0, 0, 0, 0, 0.6, 0.9), (0.04, 0.01, 0.02, 0.07, 0.5, 0.8)
    true, claimed = (rates(*each) for each in shares)
    loose = rank_agreement(true, claimed, n_resamples=10)
    assert loose.value == pytest.approx(spearmanr(*shares).statistic)
    assert loose.value < 0.9
    # 7 of 100 may be 5 %; 70 of 1,000 are more.
    assert rank_agreement(true, claimed, tolerated=0.05, n_resamples=10).value == pytest.approx(1)
    true, claimed = (rates(*each, count=1000) for each in shares)
    more = rank_agreement(true, claimed, tolerated=0.05, n_resamples=10)
    assert loose.value < more.value < 1


def test_there_is_no_agreement_of_what_is_all_equal() -> None:
    true = rates(0, 0.5)
    for claimed in (np.zeros((100, 2)), np.full((100, 2), NAN)):
        assert np.isnan(rank_agreement(true, claimed, n_resamples=10)[:3]).all()
    assert np.isnan(rank_agreement(true[:, :1], true[:, :1], n_resamples=10).value)
    with pytest.raises(ValueError, match="one shape"):
        rank_agreement(true, true[:, :1])
    with pytest.raises(ValueError, match="must be 0, 1 or NaN"):
        rank_agreement(true, 0.5 * true)
