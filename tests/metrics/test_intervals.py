"""Intervals of rates and means: against their definitions, and where there are none."""

import math

import numpy as np
import pytest
import torch

from cfexp.errors import InputError
from cfexp.metrics.functional import bootstrap_interval, wilson_interval


@pytest.mark.parametrize(
    ("successes", "n", "confidence", "z"),
    [
        (8, 10, 0.95, 1.959964),
        (1, 30, 0.95, 1.959964),
        (250, 500, 0.99, 2.575829),
        (7, 9, 0.9, 1.644854),
    ],
)
def test_wilson_bounds_are_where_the_score_test_turns(
    successes: int, n: int, confidence: float, z: float
) -> None:
    for bound in wilson_interval(successes, n, confidence):
        # The definition: the rates p that lie z of *their own* standard errors from the observed
        # one.
        assert abs(successes / n - bound) == pytest.approx(
            z * math.sqrt(bound * (1 - bound) / n), rel=1e-5
        )


def test_wilson_published_and_edge_values() -> None:
    # 81 of 263: Newcombe (1998), Statistics in Medicine 17, table I, method 3.
    assert wilson_interval(81, 263) == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert wilson_interval(0, 20) == pytest.approx((0.0, 0.1611), abs=5e-5)
    for n in range(1, 100):
        assert wilson_interval(0, n)[0] == 0
        assert wilson_interval(n, n)[1] == 1
    assert all(math.isnan(bound) for bound in wilson_interval(0, 0))


def test_bootstrap_is_close_to_the_normal_interval() -> None:
    values = np.random.default_rng(0).exponential(size=2000)
    half = 1.959964 * values.std() / math.sqrt(2000)
    low, high = bootstrap_interval(values, n_resamples=4000)
    assert (low, high) == pytest.approx(
        (values.mean() - half, values.mean() + half), abs=0.1 * half
    )
    narrow_low, narrow_high = bootstrap_interval(torch.tensor(values), confidence=0.5)
    assert narrow_high - narrow_low == pytest.approx((high - low) * 0.674490 / 1.959964, rel=0.1)


def test_bootstrap_resamples_whole_groups() -> None:
    values = np.random.default_rng(0).normal(size=50)
    alone = bootstrap_interval(values)
    # Ten answers that say the same about each image are worth one.
    assert bootstrap_interval(
        np.repeat(values, 10), groups=np.repeat(np.arange(50), 10)
    ) == pytest.approx(alone)
    low, high = bootstrap_interval(np.repeat(values, 10))
    assert high - low == pytest.approx((alone[1] - alone[0]) / math.sqrt(10), rel=0.15)
    # The mean stays that over values: a group of three counts three times a group of one.
    low, high = bootstrap_interval([0, 0, 0, 1], groups=["a", "a", "a", "b"], confidence=0.2)
    assert low == high == 0.25  # both groups once is the commonest draw


def test_bootstrap_repeats_itself_and_knows_no_answer() -> None:
    values = [0.0, 1.0, 1.0, 0.0, 1.0]
    assert bootstrap_interval(values, seed=1) == bootstrap_interval(values, seed=1)
    spread = np.random.default_rng(0).normal(size=30)
    assert bootstrap_interval(spread, seed=1) != bootstrap_interval(spread, seed=2)
    for seed in range(20):  # also where the only resample happens to miss the NaN
        for undefined in ([], [1.0, math.nan], [1.0, math.inf]):
            assert all(
                math.isnan(bound)
                for bound in bootstrap_interval(undefined, n_resamples=1, seed=seed)
            )


@pytest.mark.parametrize(
    ("values", "groups"),
    [
        ([3.0], None),
        ([100.0], None),
        ([0.0, 0.0, 0.0, 1.0], "aaaa"),  # four answers about one image
        ([28.0] * 20, None),
        ([28.0, 28.0 * (1 + 1e-7)] * 10, None),  # equal but for float32
        ([90.0] * 20, None),
        ([0.0, 100.0, 0.0, 100.0, 100.0, 0.0], "aabbcc"),  # one right, one wrong, about each image
        ([0.0, 100.0, 50.0], "aab"),
    ],
)
def test_values_without_spread_have_no_interval(values: list[float], groups: str | None) -> None:
    labels = None if groups is None else list(groups)
    assert all(math.isnan(end) for end in bootstrap_interval(values, groups=labels))
    assert all(
        math.isnan(end) for end in bootstrap_interval(values, groups=labels, bounds=(0, 100))
    )


def test_of_values_that_are_all_at_a_bound_the_interval_is_wilsons() -> None:
    nothing, everything = (
        bootstrap_interval([value] * 20, bounds=(0, 100)) for value in (0.0, 100.0)
    )
    assert nothing == pytest.approx((0, 100 * wilson_interval(0, 20)[1]))
    assert everything == pytest.approx((100 * wilson_interval(20, 20)[0], 100))
    assert nothing[1] == pytest.approx(16.11, abs=0.01)
    # Of five images, though four questions were asked about each.
    about_five = bootstrap_interval(
        [100.0] * 20, groups=np.repeat(np.arange(5), 4), bounds=(0, 100)
    )
    assert about_five == bootstrap_interval([100.0] * 5, bounds=(0, 100))
    assert about_five[0] < everything[0]
    assert bootstrap_interval([1.0] * 20, bounds=(-1, 1))[0] == pytest.approx(
        2 * wilson_interval(20, 20)[0] - 1
    )
    # A single value that differs gives a spread.
    assert bootstrap_interval([100.0] * 19 + [0.0], bounds=(0, 100)) == bootstrap_interval(
        [100.0] * 19 + [0.0]
    )


def test_intervals_check_what_they_get() -> None:
    for confidence in (0, 1, 95):
        with pytest.raises(
            InputError, match=f"confidence must be between 0 and 1, got {confidence}"
        ):
            wilson_interval(1, 2, confidence)
        with pytest.raises(
            InputError, match=f"confidence must be between 0 and 1, got {confidence}"
        ):
            bootstrap_interval([1.0], confidence=confidence)
    with pytest.raises(InputError, match="n_resamples must be at least 1, got 0"):
        bootstrap_interval([1.0], n_resamples=0)
    with pytest.raises(ValueError, match=r"got \(2,\) and \(3,\)"):
        bootstrap_interval([1.0, 2.0], groups=[1, 2, 3])
    with pytest.raises(ValueError, match=r"successes must be in 0..n, got 3 of 2"):
        wilson_interval(3, 2)
