import math

import numpy as np
import pytest
import torch
from torch import Tensor

from cfexp.evaluation.checkerboard import FOLDS, PooledCheckerboard
from cfexp.metrics.functional import checkerboard_score


def noise(count: int, height: int = 36, width: int = 34) -> Tensor:
    return torch.randn(count, 3, height, width, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("period", [2, 4])
def test_pooling_over_chunks_is_pooling_at_once(period: int) -> None:
    edits = noise(30)
    edits[..., ::period, ::period] += 1
    members = torch.stack(
        [torch.ones(30, dtype=torch.bool), torch.arange(30) < 7, torch.zeros(30, dtype=torch.bool)]
    )
    fold = torch.arange(30) % FOLDS
    board = PooledCheckerboard(3)
    for rows in (slice(0, 4), slice(4, 30)):
        board.update(edits[rows], members[:, rows], fold[rows])
    cropped = edits[..., :36, :32]
    for group, count in ((0, 30), (1, 7)):
        expected = checkerboard_score(
            torch.zeros_like(cropped[:count]), cropped[:count], period=period, pooled=True
        )
        value, low, high, n = board.score(group, period)
        assert value == pytest.approx(float(expected), rel=1e-4)
        assert low < value < high
        assert n == count
    assert board.score(2, period)[3] == 0


def test_jackknife() -> None:
    edits, fold = noise(20, 32, 32), torch.arange(20) % FOLDS
    board = PooledCheckerboard(1)
    board.update(edits, torch.ones(1, 20, dtype=torch.bool), fold)
    zero = torch.zeros_like(edits)
    left = [
        float(checkerboard_score(zero[fold != each], edits[fold != each], pooled=True))
        for each in range(FOLDS)
    ]
    half = 1.96 * math.sqrt((FOLDS - 1) / FOLDS * sum((each - np.mean(left)) ** 2 for each in left))
    value, low, high, _ = board.score(0, 2)
    assert (high - value, value - low) == pytest.approx((half, half), rel=1e-3)


def test_edits_of_one_fold_have_no_interval() -> None:
    board = PooledCheckerboard(1)
    board.update(noise(2), torch.ones(1, 2, dtype=torch.bool), torch.tensor([3, 3]))
    value, low, high, n = board.score(0, 2)
    assert value > 0
    assert math.isnan(low)
    assert math.isnan(high)
    assert n == 2
