"""FID across halves, against a plain reading of its definition; what adding a measure touches."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cfexp.evaluation.measure.sfid import sfid
from cfexp.evaluation.report.table import Absent, Row, score_run
from cfexp.evaluation.run_folder import RunFolder
from cfexp.metrics.distances import frechet_distance
from tests.evaluation.run_writer import picture, record, write_run

ROOT = Path(__file__).parents[3]
N = 12
COLORS = np.random.default_rng(0).integers(0, 256, size=(N, 2, 3))  # of query and counterfactual


OF_IMAGE = (
    torch.arange(4.0).repeat_interleave(N // 4)[:, None] ** 2
)  # what a network sees of queries by image


def colours(images: Tensor) -> Tensor:
    return (images.mean((2, 3)) + 1) / 2


def run_of(folder: Path, images: int, *, edited: bool = True) -> RunFolder:
    shown = [[picture((int(r), int(g), int(b))) for r, g, b in both] for both in COLORS]
    known = [record(key, "red", "blue", truth="red", image_id=key % images) for key in range(N)]
    return write_run(
        folder,
        [(each, both[0], both[edited], None) for each, both in zip(known, shown, strict=True)],
    )


def score(run: RunFolder, name: str = "sfid", splits: int = 10, seed: int = 0) -> Row:
    found = score_run(run, [sfid(colours, splits, seed)]).find("all", name)
    assert isinstance(found, Row), found
    return found


def test_each_half_is_compared_with_the_queries_of_the_other(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", images=N)
    query, made = (torch.from_numpy(COLORS[:, which] / 255).float().numpy() for which in (0, 1))
    rng, distances = np.random.default_rng(7), []
    for _ in range(3):
        order = rng.permutation(N)
        one, other = order[: N // 2], order[N // 2 :]
        distances += [
            frechet_distance(made[one], query[other]),
            frechet_distance(made[other], query[one]),
        ]
    found = score(run, splits=3, seed=7)
    assert found.value == pytest.approx(np.mean(distances), rel=1e-4)
    assert found.n == N
    assert found.low < found.value < found.high
    assert score(run, splits=3, seed=7) == found
    assert score(run, splits=3, seed=8).value != found.value


def test_its_own_query_does_not_count(tmp_path: Path) -> None:
    # What leaves every query as it is has an FID of 0, but not this: halves of a set are two sets.
    run = run_of(tmp_path / "run", images=N, edited=False)
    assert score(run).value == score(run, "sfid_reconstruction").value > 0.01


def test_queries_about_one_image_stay_together(tmp_path: Path) -> None:
    run = run_of(tmp_path / "run", images=4)
    kept = score_run(run, [sfid(lambda images: OF_IMAGE[: len(images)])]).find("all", "sfid")
    assert isinstance(kept, Row)
    # A half holds two images: three equal rows of each. Their Gaussians are those of the two images
    # themselves.
    rng, distances = np.random.default_rng(0), []
    for _ in range(10):
        one, other = np.array_split(rng.permutation(4), 2)
        rows = [np.repeat(half, 3)[:, None] ** 2.0 for half in (one, other)]
        distances.append(frechet_distance(*rows))
    assert kept.value == pytest.approx(np.mean(distances))


def test_too_few_images_give_none(tmp_path: Path) -> None:
    found = score_run(run_of(tmp_path / "run", images=3), [sfid(colours)]).find("all", "sfid")
    assert found == Absent("all", "sfid", "no queries of four images")
    assert not score(run_of(tmp_path / "four", images=4)).has_interval  # two in a half


def test_a_measure_is_a_function_a_config_and_a_test() -> None:
    files = [path for folder in ("cfexp", "conf", "tests") for path in (ROOT / folder).rglob("*.*")]
    files = [path for path in files if "benchmarks" not in path.parts]  # these time every measure
    text = (".py", ".yaml", ".html")
    named = [
        path
        for path in files
        if path.suffix in text and "sfid" in path.read_text(encoding="utf-8").lower()
    ]
    assert sorted(path.relative_to(ROOT).as_posix() for path in named) == [
        "cfexp/evaluation/measure/sfid.py",
        "conf/measure/sfid.yaml",
        "tests/evaluation/measure/test_sfid.py",
    ]
