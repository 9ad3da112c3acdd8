import math
from typing import Literal

import pytest
import torch
import torchvision
from torch import Tensor

from cfexp.errors import InputError
from cfexp.models.classifiers import DecisionModel, SmoothClassifier

SMALL = "shufflenet_v2_x0_5"  # of torchvision, 1.4 M parameters


def images(count: int = 2, height: int = 16, width: int = 24) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def classifier(pooling: Literal["mean", "logsumexp"] = "logsumexp", sharpness: float = 2.0) -> SmoothClassifier:
    torch.manual_seed(0)
    return SmoothClassifier(3, widths=(4, 6, 8), pooling=pooling, sharpness=sharpness).eval()


def test_feature_maps_halve_from_full_size_down() -> None:
    network = classifier()
    maps = network.feature_maps(images())
    assert [tuple(each.shape) for each in maps] == [(2, 4, 16, 24), (2, 6, 8, 12), (2, 8, 4, 6)]
    value = images()
    for block, found in zip(network.blocks, maps, strict=True):
        value = block(value)
        torch.testing.assert_close(found, value)


def test_the_pooling_is_what_it_says() -> None:
    for sharpness in (2.0, 0.5):
        network = classifier("logsumexp", sharpness)
        evidence = network.head(network.feature_maps(images())[-1]).flatten(2)
        pooled = (sharpness * evidence).exp().mean(2).log() / sharpness
        torch.testing.assert_close(network(images()), pooled)
    network = classifier("mean")
    evidence = network.head(network.feature_maps(images())[-1])
    torch.testing.assert_close(network(images()), evidence.mean((2, 3)))


def test_evidence_at_one_place_counts_for_more_than_its_share() -> None:
    # One position in 24 of 10, the others of 0: the mean is 0.42, the smooth maximum 10 - log(24) / 2 = 8.41.
    for pooling, expected in (("mean", 10 / 24), ("logsumexp", 10 - math.log(24) / 2)):
        network = classifier(pooling)  # type: ignore[arg-type]
        spot = torch.zeros(1, 3, 4, 6)
        spot[:, :, 1, 2] = 10
        network.head = torch.nn.Identity()  # type: ignore[assignment]
        network.feature_maps = lambda _, spot=spot: [spot]  # type: ignore[method-assign,misc]
        torch.testing.assert_close(network(spot), torch.full((1, 3), expected), atol=1e-4, rtol=0)


def test_there_is_a_gradient_everywhere_even_from_a_blank_image() -> None:
    blank = torch.full((1, 3, 16, 24), -1.0, requires_grad=True)
    classifier()(blank)[:, 0].sum().backward()
    assert blank.grad is not None
    assert (blank.grad != 0).all()


def test_another_pooling_is_refused() -> None:
    with pytest.raises(InputError, match="pooling must be mean or logsumexp, got max"):
        SmoothClassifier(pooling="max")  # type: ignore[arg-type]


def test_a_decision_model_is_torchvisions_with_another_last_layer() -> None:
    torch.manual_seed(0)
    model = DecisionModel(SMALL, num_outputs=4).eval()
    reference = torchvision.models.get_model(SMALL, num_classes=4).eval()
    reference.load_state_dict(model.network.state_dict())
    seen = images(2, 64, 64)
    torch.testing.assert_close(model(seen), reference(seen))  # as they come, in [-1, 1]
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    usual = DecisionModel(SMALL, num_outputs=4, mean=mean, std=std).eval()
    usual.load_state_dict(model.state_dict())
    normalised = torchvision.transforms.functional.normalize((seen + 1) / 2, list(mean), list(std))
    torch.testing.assert_close(usual(seen), reference(normalised), atol=1e-5, rtol=1e-4)


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ({"arch": "densenet12"}, "torchvision.models has no arch=densenet12 with weights=None"),
        ({"arch": SMALL, "weights": "BEST"}, f"torchvision.models has no arch={SMALL} with weights=BEST"),
        ({"arch": "squeezenet1_1"}, "arch must be a classifier that ends in a linear layer, got squeezenet1_1"),
    ],
)
def test_what_torchvision_does_not_have_is_named(settings: dict[str, str], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        DecisionModel(**settings)  # type: ignore[arg-type]
