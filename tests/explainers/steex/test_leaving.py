"""Queries that are done leave the batch, and nobody else notices."""

import pytest
import torch

from cfexp.errors import InputError
from tests.explainers.steex.test_steex import batch, steex
from tests.image_parts import EightImages


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EightImages:
    return EightImages(tmp_path_factory.mktemp("eight"))


@pytest.mark.parametrize("early_stop", [False, True])
@pytest.mark.parametrize("optimizer", ["adam", "lbfgs"])
def test_a_query_is_explained_alike_alone_and_among_others_that_leave(
    data: EightImages, optimizer: str, early_stop: bool
) -> None:
    explainer = steex(optimizer=optimizer, early_stop=early_stop, num_steps=30)
    together = explainer.explain(batch(data))
    assert len(set(together.extras["evaluations"].tolist())) > 1 or not early_stop
    for row in (0, 3, 6):
        alone = explainer.explain(batch(data, row))
        for name in ("style_codes", "decision_curve", "flip_step", "evaluations"):
            theirs = together.extras[name][row : row + 1]
            torch.testing.assert_close(alone.extras[name], theirs, atol=1e-8, rtol=0)


def test_of_noise_that_is_redrawn_a_querys_image_is_that_of_the_last_step(
    data: EightImages,
) -> None:
    settings = {"resample_noise": True, "early_stop": True, "num_steps": 30}
    together = steex(**settings).explain(batch(data))
    for row in (1, 5):
        alone = steex(**settings).explain(batch(data, row))
        codes = together.extras["style_codes"][row : row + 1]
        torch.testing.assert_close(alone.extras["style_codes"], codes, atol=1e-8, rtol=0)
        image = together.counterfactual[row : row + 1]
        torch.testing.assert_close(alone.counterfactual, image, atol=1e-8, rtol=0)
    with pytest.raises(InputError, match="resample_noise=true needs optimizer=adam: lbfgs"):
        steex(optimizer="lbfgs", resample_noise=True)
    with pytest.raises(InputError, match="must be adam or lbfgs, got 'sgd'"):
        steex(optimizer="sgd")
