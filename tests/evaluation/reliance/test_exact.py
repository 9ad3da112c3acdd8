"""The tests against independent references."""

from math import comb

import numpy as np
import pytest

from cfexp.evaluation.reliance.exact import at_least, more_often, within_strata


def test_the_binomial_tail() -> None:
    expected = sum(comb(20, k) * 0.05**k * 0.95 ** (20 - k) for k in range(3, 21))
    assert at_least(3, 20, 0.05) == pytest.approx(expected)
    assert at_least(0, 20, 0.05) == 1


def test_fishers_tea() -> None:
    assert more_often(3, 4, 1, 4) == pytest.approx(17 / 70)  # Fisher (1935)


def test_one_stratum_is_fishers_test() -> None:
    decision = np.array([1, 1, 1, 0, 1, 0, 0, 0], dtype=bool)
    attribute = np.array([1, 1, 1, 1, 0, 0, 0, 0], dtype=bool)
    result = within_strata(decision, attribute, [0] * 8)
    assert result.p_value == pytest.approx(2 * 17 / 70)
    assert result.difference.value == pytest.approx(50)
    assert result.difference.low < 0 < result.difference.high


def test_strata_agree_with_a_permutation_within_them() -> None:
    rng = np.random.default_rng(0)
    stratum = np.arange(60) % 3
    attribute = rng.random(60) < 0.4
    decision = rng.random(60) < np.where(attribute, 0.7, 0.4)
    result = within_strata(decision, attribute, stratum.tolist())
    sums = np.zeros(20_000)
    for each in range(3):
        rows = stratum == each
        shuffled = rng.permuted(np.tile(attribute[rows], (len(sums), 1)), axis=1)
        sums += (shuffled & decision[rows]).sum(1)
    observed = (attribute & decision).sum()
    tail = min((sums >= observed).mean(), (sums <= observed).mean())
    assert result.p_value == pytest.approx(2 * tail, abs=0.02)


def test_what_only_says_the_label_again_cannot_be_asked() -> None:
    label = np.arange(20) % 2 == 0
    result = within_strata(label, label, label.astype(int).tolist())
    assert (result.difference.n, result.p_value) == (0, 1)
