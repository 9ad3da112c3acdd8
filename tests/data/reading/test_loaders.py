from types import SimpleNamespace
from typing import Any

import pytest

from cfexp.data.reading.loaders import ShareOf


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
