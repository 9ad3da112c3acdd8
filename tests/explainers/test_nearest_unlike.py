from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.evaluation.report.table import Row, score_run
from cfexp.evaluation.run_folder import RunFolder
from cfexp.explainers import nearest_unlike
from cfexp.explainers.nearest_unlike import NearestUnlike
from cfexp.run.callbacks import ExplanationWriter
from tests.explainers.steex.test_steex import predict
from tests.image_parts import EightImages, batch_of


class Green(nn.Module):
    """Is the box green, as in each second image?"""

    def forward(self, images: Tensor) -> Tensor:
        return (images[:, 1] - images[:, 0]).clamp(min=0).amax((1, 2))[:, None] - 1


class TopLeft(nn.Module):
    """An embedding of one number: how light the sky is."""

    def forward(self, images: Tensor) -> Tensor:
        return images[:, :, 0, 10:].mean((1, 2))[:, None]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EightImages:
    return EightImages(tmp_path_factory.mktemp("eight"))


def records(data: EightImages, folder: Path, **settings: Any) -> dict[int, dict[str, Any]]:
    explainer = NearestUnlike(decision_model=Green(), class_names=["stop", "go"], **settings)
    predict(explainer, data, folder, callbacks=[ExplanationWriter()])
    return {record["key"]: record for record in RunFolder(folder).records()}


@pytest.mark.parametrize("at_once", [3, 64])
def test_it_is_the_nearest_of_those_that_are_decided_otherwise(
    data: EightImages, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, at_once: int
) -> None:
    monkeypatch.setattr(nearest_unlike, "AT_ONCE", at_once)
    images = batch_of(data).image
    apart = torch.cdist(images.flatten(1), images.flatten(1))
    found = records(data, tmp_path)
    for key, record in found.items():
        others = [other for other in range(8) if other % 2 != key % 2]
        assert record["neighbor"] == min(others, key=lambda other: float(apart[key, other]))
        assert record["neighbor_distance"] == pytest.approx(
            float(apart[key, record["neighbor"]]), rel=1e-5
        )
        assert record["stored_success"]
        stored = RunFolder(tmp_path).images("counterfactual", [key])
        assert torch.equal(stored, images[[record["neighbor"]]])


def test_an_embedding_says_what_is_near(data: EightImages, tmp_path: Path) -> None:
    sky = TopLeft()(batch_of(data).image)[:, 0]
    for key, record in records(data, tmp_path, embedding=TopLeft()).items():
        others = [other for other in range(8) if other % 2 != key % 2]
        assert record["neighbor"] == min(
            others, key=lambda other: float((sky[key] - sky[other]).abs())
        )


def test_a_run_is_scored_by_what_it_declares(data: EightImages, tmp_path: Path) -> None:
    records(data, tmp_path)
    scores = score_run(RunFolder(tmp_path))
    row = scores.find("all", "neighbor_distance")
    assert isinstance(row, Row)
    assert row.n == 8
    assert scores.groups == ("all", "stop -> go", "go -> stop")
    assert list(scores.columns)[:2] == ["success_kept", "neighbor_distance"]


def test_where_no_image_is_decided_otherwise(data: EightImages, tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match="none of the 1 training images is decided 'stop', which is asked for"
    ):
        records(data, tmp_path, max_train_images=1)
    with pytest.raises(InputError, match="max_train_images must be at least 1"):
        NearestUnlike(decision_model=Green(), max_train_images=0)
