from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from cfexp.data.reading.loaders import ShareOf, draw_evenly


def shares(count: int, processes: int, **settings: Any) -> list[list[int]]:
    rows = range(10, 10 + count)
    trainers = [
        SimpleNamespace(world_size=processes, global_rank=rank) for rank in range(processes)
    ]
    found = [ShareOf(rows, trainer, **settings) for trainer in trainers]
    assert [len(share) for share in found] == [len(list(share)) for share in found]
    return [list(share) for share in found]


@pytest.mark.parametrize("processes", [1, 2, 3, 8])
@pytest.mark.parametrize("count", [0, 1, 2, 5, 8, 17])
def test_each_row_once_and_alike_many_in_order(count: int, processes: int) -> None:
    found = shares(count, processes)
    assert sorted(row for share in found for row in share) == list(range(10, 10 + count))
    assert max(map(len, found)) - min(map(len, found)) <= 1
    assert all(share == sorted(share) for share in found)


def test_none_of_few_unless_each_must_have_one() -> None:
    assert shares(1, 3) == [[10], [], []]
    assert shares(2, 3, never_none=True) == [[10], [11], [10]]
    assert shares(5, 2, never_none=True) == shares(5, 2)
    assert list(ShareOf([3, 1], None)) == [3, 1]


@pytest.mark.parametrize("most", [1, 2, 100])
def test_groups_are_drawn_evenly_as_far_as_a_sample_may_be_repeated(most: int) -> None:
    groups = np.array([0] * 70 + [1] * 20 + [4] * 6 + [5] * 4)
    drawn = draw_evenly(groups, most, [3, 0])
    assert len(drawn) == 100
    repeats = np.bincount(drawn, minlength=100)
    assert repeats.max() <= most
    counts = np.bincount(groups[drawn], minlength=6)
    wanted = {1: [70, 20, 0, 0, 6, 4], 2: [40, 40, 0, 0, 12, 8], 100: [25, 25, 0, 0, 25, 25]}
    assert counts.tolist() == wanted[most]
    for group in set(groups.tolist()):  # within a group nobody is left out
        of_group = repeats[groups == group]
        assert of_group.max() - of_group.min() <= 1
    assert draw_evenly(groups, most, [3, 0]).tolist() == drawn.tolist()
    assert (most == 1) == (draw_evenly(groups, most, [3, 1]).tolist() == drawn.tolist())
