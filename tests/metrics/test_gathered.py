import json
import math
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, distributed
from torch.multiprocessing.spawn import spawn

from cfexp.metrics.attributes import attributes_changed, correlation_difference
from cfexp.metrics.distances import frechet_distance, kernel_distance
from cfexp.metrics.functional import bootstrap_interval, ssim, wilson_interval
from cfexp.metrics.gathered import (
    CorrelationDifference,
    FeatureDistance,
    MeanOverQueries,
    QueryRows,
)

N, D = 23, 6


def same_person(query: Tensor, other: Tensor) -> Tensor:
    return torch.cosine_similarity(query, other) > 0.5


def data() -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    query = torch.randn(N, D, generator=generator)
    return query, query + 0.8 * torch.randn(N, D, generator=generator)


def metrics() -> dict[str, QueryRows]:
    return {
        "mnac": MeanOverQueries(attributes_changed),
        "fva": MeanOverQueries(same_person, is_rate=True),
        "frechet": FeatureDistance(D),
        "kernel": FeatureDistance(D, kernel=True),
        "cd": CorrelationDifference(D, attribute=2),
    }


def computed(shard: list[int]) -> dict[str, Any]:
    """Each metric of some queries, in batches of 4."""
    query, other = data()
    results: dict[str, Any] = {}
    for name, metric in metrics().items():
        for start in range(0, len(shard), 4):
            rows = shard[start : start + 4]
            metric.update(rows, query[rows], other[rows])
        results[name] = metric.compute()
    return results


def test_they_are_the_functions() -> None:
    query, other = data()
    found = computed(list(range(N)))
    changes = attributes_changed(query, other)
    assert found["mnac"] == pytest.approx((changes.mean().item(), *bootstrap_interval(changes), N))
    same = int(same_person(query, other).sum())
    assert found["fva"] == pytest.approx(
        (100 * same / N, *(100 * bound for bound in wilson_interval(same, N)), N)
    )
    assert found["frechet"] == pytest.approx(frechet_distance(query, other))
    assert found["kernel"] == pytest.approx(kernel_distance(query, other, paired=True))
    assert found["cd"] == pytest.approx(correlation_difference(query > 0, query > 0, other > 0, 2))


def test_queries_count_once_and_the_unchanged_ones_are_perfect() -> None:
    assert computed([*range(N), 3, 4, 5]) == computed(list(range(N)))
    query, _ = data()
    unchanged = metrics()
    for metric in unchanged.values():
        metric.update(torch.arange(N), query, query)
    assert unchanged["mnac"].compute() == pytest.approx((0, math.nan, math.nan, N), nan_ok=True)
    assert unchanged["fva"].compute()[0] == 100
    assert [unchanged[name].compute() for name in ("frechet", "kernel")] == pytest.approx(
        [0, 0], abs=1e-9
    )
    images = MeanOverQueries(ssim)
    images.update([1, 2], *2 * [torch.rand(2, 3, 32, 32)])
    assert images.compute().value == pytest.approx(1)


@pytest.mark.filterwarnings("ignore:The ``compute`` method")
def test_none_and_other_shapes() -> None:
    found = {name: metric.compute() for name, metric in metrics().items()}
    assert found["mnac"].n == found["fva"].n == 0
    assert all(math.isnan(found[name]) for name in ("frechet", "kernel", "cd"))
    assert math.isnan(found["mnac"].value)
    with pytest.raises(
        ValueError, match=r"FeatureDistance needs rows of shape \(2, 12\), got \(2, 10\)"
    ):
        FeatureDistance(D).update([0, 1], torch.zeros(2, 5), torch.zeros(2, 5))
    nothing = MeanOverQueries(lambda values: values)
    nothing.update([0, 1, 2], torch.tensor([math.nan, 1.0, 3.0]))
    assert nothing.compute()[::3] == (2, 2)  # where it means something


def process(rank: int, folder: str, shards: list[list[list[int]]]) -> None:
    """One of two processes: its results go to `folder` as JSON."""
    distributed.init_process_group(
        "gloo", init_method=f"file://{folder}/store", rank=rank, world_size=2
    )
    results = [computed(shard[rank]) for shard in shards]
    (Path(folder) / f"{rank}.json").write_text(json.dumps(results))
    distributed.destroy_process_group()


def test_two_processes_with_repeated_uneven_and_missing_shards(tmp_path: Path) -> None:
    everything = list(range(N))
    shards = [
        [everything[::2], [*everything[1::2], 0]],  # as a distributed sampler evens them
        [everything[:17], everything[14:]],
        [[], everything],
    ]
    spawn(partial(process), (str(tmp_path), shards), nprocs=2)  # type: ignore[no-untyped-call]
    expected = json.loads(json.dumps(computed(everything)))
    for rank in (0, 1):
        for results in json.loads((tmp_path / f"{rank}.json").read_text()):
            assert results == expected
