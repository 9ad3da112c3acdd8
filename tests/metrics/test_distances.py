import math
from collections.abc import Callable

import numpy as np
import pytest
import scipy.linalg
import torch
from numpy.typing import NDArray
from torch_fidelity.metric_fid import fid_features_to_statistics, fid_statistics_to_metric
from torch_fidelity.metric_kid import kernel_poly, mmd2

from cfexp.errors import InputError
from cfexp.metrics import distances
from cfexp.metrics.distances import (
    Distance,
    bootstrap_error,
    frechet_distance,
    frechet_interval,
    kernel_distance,
    kernel_interval,
)

Matrix = NDArray[np.float64]


def features(seed: int, n: int = 60, d: int = 8) -> Matrix:
    """Correlated, of different spreads and far from 0, as a network's are."""
    rng = np.random.default_rng(seed)
    return 3 + rng.normal(size=(n, d)) @ rng.normal(size=(d, d)) * np.linspace(0.1, 2, d)


def by_matrix_root(first: Matrix, second: Matrix) -> float:
    root = scipy.linalg.sqrtm(np.cov(first.T) @ np.cov(second.T)).real
    traces = np.trace(np.cov(first.T)) + np.trace(np.cov(second.T)) - 2 * np.trace(root)
    return float(np.sum((first.mean(0) - second.mean(0)) ** 2) + traces)


@pytest.mark.parametrize("sizes", [(60, 60), (60, 35), (9, 60)])
def test_frechet_distance_is_that_of_a_matrix_root_and_of_torch_fidelity(
    sizes: tuple[int, int],
) -> None:
    first, second = features(1, sizes[0]), features(2, sizes[1])
    expected = by_matrix_root(first, second)
    theirs = fid_statistics_to_metric(
        *(fid_features_to_statistics(torch.from_numpy(x)) for x in (first, second)), False
    )
    assert frechet_distance(first, second) == pytest.approx(expected, rel=1e-9)
    assert frechet_distance(first, second) == pytest.approx(
        theirs["frechet_inception_distance"], rel=1e-9
    )
    assert frechet_distance(second, first) == pytest.approx(expected, rel=1e-9)


def test_frechet_distance_of_fewer_images_than_features() -> None:
    # Both covariances are singular; of these, with few directions, the root can be taken where they
    # are not.
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(12, 4)), rng.normal(size=(15, 4)) * 2 + 1
    embed, _ = np.linalg.qr(rng.normal(size=(300, 4)))
    assert frechet_distance(first @ embed.T, second @ embed.T) == pytest.approx(
        by_matrix_root(first, second), rel=1e-9
    )


def test_frechet_distance_of_known_gaussians() -> None:
    first = np.array([[-1.0], [1.0]])  # variance 2
    assert frechet_distance(first, 3 * first + 5) == pytest.approx(25 + 2 * (3 - 1) ** 2)


def test_the_distance_of_a_set_to_itself_is_0_and_grows_with_noise() -> None:
    same = features(3).astype(np.float32)
    for measure in (frechet_interval, kernel_interval):
        assert measure(same, same) == pytest.approx((0, math.nan, math.nan), abs=1e-9, nan_ok=True)
    noise = np.random.default_rng(4).normal(size=same.shape)
    for measure in (frechet_interval, kernel_interval):
        grown = [measure(same, same + scale * noise).value for scale in (0.0, 2.0, 4.0)]
        assert grown == sorted(grown)


def test_kernel_distance_is_that_of_torch_fidelity() -> None:
    first, second = features(1), features(2)
    cubes = [kernel_poly(x, y) for x, y in ((first, first), (first, second), (second, second))]
    assert kernel_distance(first, second) == pytest.approx(mmd2(*cubes), rel=1e-9)
    paired = kernel_distance(first, second, paired=True)
    assert paired == pytest.approx(mmd2(*cubes, mmd_est="u-statistic"), rel=1e-9)
    # What leaving the pairs out is for: without it a set seems to be nearer to itself than to
    # anything.
    assert kernel_distance(first, first) < -1
    assert kernel_distance(first, first, paired=True) == 0
    across = ((1 * 3 + 0 * 1) / 2 + 1) ** 3, ((0 * 3 + 2 * 1) / 2 + 1) ** 3
    by_hand = ((1 * 0 + 0 * 2) / 2 + 1) ** 3 + ((3 * 3 + 1 * 1) / 2 + 1) ** 3 - sum(across)
    assert kernel_distance([[1, 0], [0, 2]], [[3, 1], [3, 1]]) == pytest.approx(by_hand)


@pytest.mark.parametrize("d", [5, 200])
def test_resamples_are_those_of_the_rows(d: int) -> None:
    first, second = features(5, 40, d), features(6, 40, d)
    for distance, interval in (
        (frechet_distance, frechet_interval),
        (kernel_distance, kernel_interval),
    ):
        found = interval(first, second, seed=7)
        assert found == interval(first, second, seed=7)
        assert found != interval(first, second, seed=8)
        assert found.low < found.value < found.high
        if distance is kernel_distance:
            continue
        by_rows = bootstrap_error(
            lambda counts: frechet_distance(
                np.repeat(first, counts, 0), np.repeat(second, counts, 0)
            ),
            40,
            seed=7,
        )
        assert (found.high - found.value) / 1.96 == pytest.approx(by_rows, rel=1e-8)


def test_the_error_is_that_of_new_samples() -> None:
    values = np.random.default_rng(9).normal(size=200)
    error = bootstrap_error(
        lambda counts: float(np.repeat(values, counts).mean()), 200, n_resamples=2000
    )
    assert error == pytest.approx(values.std() / math.sqrt(200), rel=0.1)
    stretch = np.diag([1, 1.2, 1, 0.7])
    for distance, interval in (
        (frechet_distance, frechet_interval),
        (kernel_distance, kernel_interval),
    ):
        sets = [1 + np.random.default_rng(seed).normal(size=(200, 4)) for seed in range(60)]
        spread = np.std([distance(drawn, drawn @ stretch) for drawn in sets])
        found = interval(sets[0], sets[0] @ stretch)
        assert 0.5 < (found.high - found.value) / 1.96 / spread < 2


def test_whole_groups_are_drawn() -> None:
    once, groups = features(1, 30), np.repeat(np.arange(30), 4)
    twice = np.repeat(once, 4, axis=0)
    other = twice + 1 + np.repeat(np.random.default_rng(2).normal(size=once.shape), 4, axis=0)
    by_group, by_row = frechet_interval(twice, other, groups), frechet_interval(twice, other)
    assert by_group.high - by_group.value > 1.5 * (
        by_row.high - by_row.value
    )  # sqrt(4), but for chance


def test_blocks_of_many_pairs_are_averaged(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = features(1, 90), features(2, 90)
    whole = kernel_interval(first, second)
    monkeypatch.setattr(distances, "MAX_PAIRS", 40)
    blocks = kernel_interval(first, second)
    assert blocks == kernel_interval(first, second)
    assert blocks.value != whole.value
    assert whole.low < blocks.value < whole.high
    assert 0.3 < (blocks.high - blocks.low) / (whole.high - whole.low) < 3
    assert kernel_interval(first, first).value == pytest.approx(0, abs=1e-9)


def test_few_rows() -> None:
    with pytest.raises(ValueError, match=r"\(N, D\) with N >= 2, got \(1, 8\)"):
        frechet_distance(features(0)[:1], features(0))
    with pytest.raises(ValueError, match="as many features, got 8 and 7"):
        frechet_distance(features(0), features(0)[:, :7])
    with pytest.raises(ValueError, match="as many features, got 8 and 7"):
        kernel_distance(features(0), features(0)[:, :7])
    with pytest.raises(ValueError, match="pairs need as many rows, got 60 and 9"):
        kernel_distance(features(0), features(0)[:9], paired=True)
    with pytest.raises(ValueError, match="finite"):
        frechet_distance(np.full((3, 2), np.nan), features(0, 3, 2))
    with pytest.raises(ValueError, match=r"groups must have shape \(3,\)"):
        bootstrap_error(lambda counts: 0.0, 3, [1, 2])
    with pytest.raises(InputError, match="n_resamples must be at least 2, got 1"):
        bootstrap_error(lambda counts: 0.0, 3, n_resamples=1)
    assert math.isnan(bootstrap_error(lambda counts: 0.0, 3, [1, 1, 1]))


@pytest.mark.parametrize("d", [1, 8, 2048])
@pytest.mark.parametrize("measure", [frechet_interval, kernel_interval])
def test_there_is_no_interval_where_resamples_are_all_alike(
    measure: Callable[..., Distance], d: int
) -> None:
    first, second = features(0, 6, d), features(1, 6, d)
    with_one = measure(first[:3], second[:3])
    assert with_one.low < with_one.value < with_one.high
    alone = [
        measure(first[:2], second[:2]),
        measure(first, second, groups=[1, 1, 1, 2, 2, 2]),
        measure(first, second, groups=["a"] * 6),
        measure(first, first.copy()),
    ]
    if measure is frechet_interval:
        alone.append(measure(first, first + 3))  # which is as far in every resample
    for found in alone:
        assert math.isfinite(found.value)
        assert math.isnan(found.low)
        assert math.isnan(found.high)


def test_a_group_lies_in_one_block(monkeypatch: pytest.MonkeyPatch) -> None:
    first, second = (np.repeat(features(number, 12), 5, axis=0) for number in (1, 2))
    groups = np.repeat(np.arange(12), 5)
    order = np.random.default_rng(0).permutation(60)
    shuffled = (
        first[order],
        second[order] + np.random.default_rng(3).normal(size=(60, 8)),
        groups[order],
    )
    seen: list[set[int]] = []
    error = distances.bootstrap_error

    def watched(statistic: distances.Statistic, n: int, labels: list[int], **more: int) -> float:
        seen.append({*labels})
        return error(statistic, n, labels, **more)

    monkeypatch.setattr(distances, "MAX_PAIRS", 30)
    monkeypatch.setattr(distances, "bootstrap_error", watched)
    kernel_interval(*shuffled)
    assert len(seen) == 2
    assert seen[0].isdisjoint(seen[1])
