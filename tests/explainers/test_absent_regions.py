"""Queries that have none of the regions that may change: they take no step, and count apart."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import Tensor

from cfexp.evaluation.report.gallery import write_page
from cfexp.evaluation.report.sheet import outcome_of
from cfexp.evaluation.report.table import Absent, Row, print_table, score_run
from cfexp.evaluation.run_folder import RunFolder
from cfexp.explainers.steex.steex import STEEX
from cfexp.run.callbacks import ExplanationWriter
from tests.explainers.steex.test_steex import AboveTheDark, autoencoder, batch, predict, steex
from tests.image_parts import EightImages

WITHOUT, WITH = (0, 2, 4, 6), (1, 3, 5, 7)  # a post


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EightImages:
    return EightImages(tmp_path_factory.mktemp("eight"))


def in_posts(**settings: Any) -> STEEX:
    explainer = steex(regions=["post"], **settings)
    explainer.let_change(["post"], EightImages.region_names)
    return explainer


class Counted(AboveTheDark):
    asked = 0

    def forward(self, images: Tensor) -> Tensor:
        self.asked += 1
        return super().forward(images)


@pytest.mark.parametrize("settings", [{}, {"num_candidates": 2}, {"resample_noise": True}])
def test_a_batch_in_which_nothing_may_change_takes_no_step(
    data: EightImages, settings: dict[str, Any]
) -> None:
    model = Counted()
    found = in_posts(decision_model=model, **settings).explain(batch(data, *WITHOUT))
    assert model.asked == 2  # of the query and of its reconstruction
    assert found.extras["regions_absent"].tolist() == [True] * 4
    assert torch.equal(found.counterfactual, found.reconstruction)
    assert torch.equal(found.extras["style_codes"], found.extras["query_codes"])
    decided = found.extras["reconstruction_class"] == found.counter_class
    assert found.extras["flip_step"].tolist() == [0 if each else -1 for each in decided]
    assert found.extras["decision_curve"].shape == (4, 8)
    if "num_candidates" in settings:
        assert torch.equal(found.extras["candidates"][:, 0], found.reconstruction)


@pytest.mark.parametrize("settings", [{}, {"num_candidates": 2}, {"resample_noise": True}])
def test_others_in_the_batch_are_searched_as_ever(
    data: EightImages, settings: dict[str, Any]
) -> None:
    mixed, explainer = batch(data), in_posts(**settings)
    found = explainer.explain(mixed)
    assert found.extras["regions_absent"].tolist() == [row in WITHOUT for row in range(8)]
    explainer._regions_absent = lambda label_map: torch.zeros(len(label_map), dtype=torch.bool)  # type: ignore[method-assign]
    everything = explainer.explain(mixed)
    for name in set(found.extras) - {"regions_absent"}:
        assert torch.equal(found.extras[name][list(WITH)], everything.extras[name][list(WITH)]), (
            name
        )
    assert torch.equal(found.counterfactual[list(WITH)], everything.counterfactual[list(WITH)])
    assert torch.equal(found.counterfactual[list(WITHOUT)], found.reconstruction[list(WITHOUT)])
    assert (found.extras["code_distance"] > 0).tolist() == [row in WITH for row in range(8)]


def test_where_all_regions_may_change_nothing_is_said_of_them(data: EightImages) -> None:
    assert "regions_absent" not in steex().explain(batch(data)).extras


@pytest.fixture(scope="module")
def runs(data: EightImages, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    """The run of all images, and those of the images with and without a post."""
    made = {}
    for name, left_out in (("all", ()), ("with", WITHOUT), ("without", WITH)):
        folder = tmp_path_factory.mktemp(name)
        explainer = steex(
            regions=["post"], autoencoder=autoencoder(), decision_model=AboveTheDark()
        ).float()
        data.leave_out(left_out)
        predict(explainer, data, folder, callbacks=[ExplanationWriter()])
        (folder / "data.json").write_text(json.dumps({"region_names": EightImages.region_names}))
        made[name] = RunFolder(folder)
    data.leave_out(())
    return made


def test_they_are_counted_apart_and_in_no_other_figure(runs: dict[str, RunFolder]) -> None:
    scores, alone = (score_run(runs[name]) for name in ("all", "with"))
    row = scores.find("all", "regions_absent")
    assert isinstance(row, Row)
    assert (row.value, row.n, row.unit) == (50, 8, "%")
    of_all = {entry.metric: entry for entry in scores.rows if entry.group == "all"}
    for entry in alone.rows:
        if entry.group == "all" and entry.metric != "regions_absent":
            # Batches of other queries round otherwise.
            ours = of_all.pop(entry.metric)
            assert ours.n == entry.n, entry.metric
            assert ours.value == pytest.approx(entry.value, rel=1e-2, abs=1e-3), entry.metric
    assert set(of_all) == {"regions_absent"}


def test_it_is_said_below_the_table_and_on_the_cards(
    runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    for name, expected in (("all", (4, 8)), ("without", (4, 4)), ("with", None)):
        console = Console(width=100, record=True, quiet=False, file=(tmp_path / "out").open("w"))
        print_table(score_run(runs[name]), console)
        said = " ".join(console.export_text().split())
        line = "{} of the queries (n {}) are counted apart, as regions_absent: {}"
        why = "the query has none of the regions"
        assert expected is None or line.format(*expected, why) in said
        assert ("counted apart" in said) == (expected is not None)
        outcomes = [outcome_of(runs[name].declaration, record) for record in runs[name].records()]
        assert outcomes.count("nothing may change") == (expected or (0,))[0]
        assert write_page(runs[name], tmp_path / "page.html") == len(outcomes)
    assert isinstance(score_run(runs["without"]).find("all", "success_kept"), Absent)


def test_a_run_folder_from_before_is_scored_as_it_was(
    runs: dict[str, RunFolder], tmp_path: Path
) -> None:
    import shutil

    import pyarrow.parquet as pq

    shutil.copytree(runs["all"].path, tmp_path / "old")
    path = tmp_path / "old" / "explanations.parquet"
    pq.write_table(pq.read_table(path).drop(["regions_absent"]), path)
    scores = score_run(RunFolder(tmp_path / "old"))
    row = scores.find("all", "success_stored")
    assert isinstance(row, Row)
    assert row.n == 8
    assert "regions_absent" not in {entry.metric for entry in scores.rows}
    assert np.isfinite(row.value)
