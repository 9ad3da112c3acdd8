import pytest
import torch

from tests.explainers.steex.test_steex import batch, steex
from tests.image_parts import EightImages


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EightImages:
    return EightImages(tmp_path_factory.mktemp("eight"))


def test_pixels_outside_of_targeted_regions_stay_where_that_is_asked_for(data: EightImages) -> None:
    queries = batch(data, 1, 3)
    beside = queries.label_map != EightImages.region_names.index("box")
    sweeps = []
    for keep in (False, True):
        explainer = steex(keep_outside=keep, optimizer="lbfgs", num_steps=3, sweep_regions=True)
        explainer.settle(data)
        explainer.let_change(["box"], EightImages.region_names)
        found = explainer.explain(queries)
        change = (found.counterfactual - found.reconstruction).abs().sum(1)
        assert (change[beside].max() > 0) != keep
        assert change[~beside].max() > 0
        logits = explainer.logits(found.counterfactual, queries)
        torch.testing.assert_close(found.counterfactual_logits, logits)
        sweeps.append(found.extras["sweep_distance"])
    assert not torch.equal(*sweeps)  # of other images, of the same regions
    assert torch.equal(sweeps[0] > 0, sweeps[1] > 0)
