from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.evaluation.report.table import Row, score_run
from cfexp.evaluation.run_folder import RunFolder
from cfexp.explainers.base import eight_bit
from cfexp.explainers.pgd import PGD
from cfexp.pixel_attack import LEVEL
from cfexp.run.callbacks import ExplanationWriter
from tests.explainers.steex.test_steex import batch, predict
from tests.image_parts import EightImages, batch_of


class Mean(nn.Module):
    """Is the mean of all values above a threshold? The closed form: each grey level of epsilon
    moves it by one.
    """

    def __init__(self, threshold: float) -> None:
        super().__init__()
        self.threshold = threshold

    def forward(self, images: Tensor) -> Tensor:
        return (images.mean((1, 2, 3)) - self.threshold)[:, None] / LEVEL


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EightImages:
    return EightImages(tmp_path_factory.mktemp("eight"))


def pgd(threshold: float, **settings: Any) -> PGD:
    return PGD(**{"decision_model": Mean(threshold), "class_names": ["dark", "light"], **settings})


@pytest.mark.parametrize(("levels", "epsilon"), [(0.5, 1), (1.5, 2), (2.5, 4), (-1.5, 2)])
def test_the_smallest_epsilon_that_suffices_is_taken(
    data: EightImages, levels: float, epsilon: int
) -> None:
    query = batch_of(data, 1)
    explainer = pgd(float(query.image.mean()) + levels * LEVEL)
    found = explainer.explain(query)
    assert found.extras["epsilon"].tolist() == [epsilon]
    assert (found.counterfactual - query.image).abs().max() <= epsilon * LEVEL + 1e-6
    assert found.counter_class.tolist() == [int(levels > 0)]
    assert explainer.logits(eight_bit(found.counterfactual), query).argmax(1).tolist() == [
        int(levels > 0)
    ]
    assert torch.equal(found.reconstruction, query.image)


def test_where_none_suffices_the_last_counts(data: EightImages) -> None:
    found = pgd(0.9, epsilons=[1, 2], num_steps=5).explain(batch_of(data, 0, 1))
    assert found.extras["epsilon"].tolist() == [2, 2]
    assert (found.counterfactual_logits.argmax(1) == 0).all()


def test_a_run_is_scored_by_what_it_declares(data: EightImages, tmp_path: Path) -> None:
    mean = float(batch(data).image.mean())
    predict(pgd(mean, label="go"), data, tmp_path, callbacks=[ExplanationWriter()])
    run = RunFolder(tmp_path)
    assert (run.declaration.explainer, run.declaration.starts_from) == ("PGD", "query")
    scores = score_run(run)
    for metric, n in (("success_kept", 8), ("decision_right", 8), ("epsilon", 6)):
        row = scores.find("all", metric)
        assert isinstance(row, Row)
        assert row.n == n
    assert "reconstruction_psnr" not in scores.measures
    assert list(scores.columns)[:2] == ["success_kept", "epsilon"]


def test_settings_out_of_range() -> None:
    wrong: list[dict[str, Any]] = [
        {"epsilons": []},
        {"epsilons": [2, 1]},
        {"epsilons": [0, 1]},
        {"num_steps": 0},
    ]
    for settings in wrong:
        with pytest.raises(InputError, match=r"explainer\.(epsilons|num_steps) must be"):
            pgd(0.0, **settings)
