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


def test_the_agreement_is_spearmans_over_the_means() -> None:
    rng = np.random.default_rng(0)
    true, claimed = (rng.random((30, 6)) for _ in range(2))
    claimed += 0.5 * true
    true[3, 2] = claimed[7, 4] = NAN
    both = ~np.isnan(true) & ~np.isnan(claimed)
    means = [np.nanmean(np.where(both, each, NAN), 0) for each in (true, claimed)]
    found = rank_agreement(true, claimed, n_resamples=200)
    assert found.value == pytest.approx(spearmanr(*means).statistic)
    assert found.low <= found.value <= found.high
    assert found.units == 6
    assert found == rank_agreement(true, claimed, n_resamples=200)


def test_what_agrees_agrees_in_each_resample_and_its_reverse_does_not() -> None:
    true = np.tile([0.0, 0.2, 0.5, 1.0], (20, 1))
    assert rank_agreement(true, true**2, n_resamples=50)[:3] == pytest.approx((1, 1, 1))
    assert rank_agreement(true, 1 - true, n_resamples=50)[:3] == pytest.approx((-1, -1, -1))


def test_what_is_tolerated_is_tied_at_nothing_on_both_sides() -> None:
    true = np.tile([0.0, 0.0, 0.0, 0.0, 0.6, 0.9], (10, 1))
    claimed = np.tile([0.04, 0.01, 0.02, 0.03, 0.5, 0.8], (10, 1))
    assert rank_agreement(true, claimed, n_resamples=10).value == pytest.approx(
        spearmanr(true[0], claimed[0]).statistic
    )
    assert rank_agreement(true, claimed, n_resamples=10).value < 0.9
    assert rank_agreement(true, claimed, tolerated=0.05, n_resamples=10).value == pytest.approx(1)


def test_there_is_no_agreement_of_what_is_all_equal() -> None:
    true = np.tile([0.0, 0.5], (5, 1))
    for claimed in (np.zeros((5, 2)), np.full((5, 2), NAN)):
        assert np.isnan(rank_agreement(true, claimed, n_resamples=10)[:3]).all()
    assert np.isnan(rank_agreement(true[:, :1], true[:, :1], n_resamples=10).value)
    with pytest.raises(ValueError, match="one shape"):
        rank_agreement(true, true[:, :1])
