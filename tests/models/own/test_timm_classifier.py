"""A classifier of timm: its mean, deviation and size are read from the model."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F

from cfexp.errors import InputError
from cfexp.models.own.classifier import OwnClassifier
from cfexp.models.own.timm_classifier import NormalisedAsTimm, timm_network

timm: Any = pytest.importorskip("timm")


@pytest.mark.parametrize("arch", ["resnet10t", "test_vit"])
def test_images_are_prepared_as_the_model_says(arch: str) -> None:
    torch.manual_seed(0)
    network = timm_network(arch, 2)
    settings = timm.data.resolve_model_data_config(network)
    model = OwnClassifier(NormalisedAsTimm(network), value_range=[0, 1], image_size=[64, 128])
    assert model.notes == []
    images = torch.rand(2, 3, 64, 128) * 2 - 1
    resized = F.interpolate(
        (images + 1) / 2, settings["input_size"][1:], mode=settings["interpolation"], antialias=True
    )
    mean, std = (torch.tensor(settings[name])[:, None, None] for name in ("mean", "std"))
    torch.testing.assert_close(model(images), network((resized - mean) / std))


def test_another_arch_is_one_line() -> None:
    with pytest.raises(
        InputError, match=r"^decision\.arch=resnet5 is none of timm's models, such as "
    ):
        timm_network("resnet5", 2)
