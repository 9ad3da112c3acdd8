import re
from pathlib import Path
from urllib.error import URLError

import pytest
import torch
import torchvision
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.backbones import torchvision_network
from cfexp.models.classifiers import DecisionModel
from cfexp.models.segmenter import Segmenter
from cfexp.models.vqa.mlb import ResNetBackbone


def shipped(arch: str, path: Path) -> dict[str, Tensor]:
    """A file as torchvision ships it: before batches were counted, and before DenseNet's layers had
    today's names.
    """
    torch.manual_seed(0)
    state = torchvision.models.get_model(arch, weights=None).state_dict()
    old = {
        re.sub(r"(denselayer\d+\.(?:norm|conv))([12])", r"\1.\2", key): value
        for key, value in state.items()
        if "num_batches_tracked" not in key
    }
    torch.save(old, path)
    return dict(state)


def same(network: nn.Module, expected: dict[str, Tensor], *, but: str) -> None:
    """Every tensor of the network is that of the same name in the file, but those that begin with
    `but`.
    """
    state = {
        key: value
        for key, value in network.state_dict().items()
        if "num_batches_tracked" not in key
    }
    kept = {key: value for key, value in state.items() if not key.startswith(but)}
    assert len(kept) > 50
    for key, value in kept.items():
        assert torch.equal(value, expected[key]), key


def test_a_file_is_what_a_download_would_be(tmp_path: Path) -> None:
    path = tmp_path / "densenet121.pth"
    expected = shipped("densenet121", path)
    assert "features.denseblock1.denselayer1.norm.1.weight" in torch.load(path, weights_only=True)
    torch.manual_seed(1)
    network = DecisionModel("densenet121", 4, str(path)).network
    same(network, expected, but="classifier")
    assert network.get_parameter("classifier.weight").shape == (4, 1024)


def test_a_resnets_file_starts_a_segmenter_and_a_vqa_model(tmp_path: Path) -> None:
    path = tmp_path / "resnet50.pth"
    expected = shipped("resnet50", path)
    torch.manual_seed(1)
    same(Segmenter(5, "resnet50", str(path)).network.get_submodule("backbone"), expected, but="fc")
    same(ResNetBackbone("resnet50", str(path)), expected, but="fc")


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        ("nowhere.pth", "no checkpoint at nowhere.pth"),
        (
            "IMAGENET22K",
            r"no arch=resnet18 with weights=IMAGENET22K: .*give one of its names, or a file",
        ),
    ],
)
def test_weights_that_are_not_there_are_one_line(weights: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        torchvision_network("resnet18", weights)
    assert "\n" not in str(caught.value)


def test_another_networks_file_is_refused(tmp_path: Path) -> None:
    shipped("resnet18", tmp_path / "resnet18.pth")
    with pytest.raises(
        InputError, match=r"resnet18.pth does not fit SqueezeNet: .* missing .*, .* left over"
    ):
        torchvision_network("squeezenet1_1", str(tmp_path / "resnet18.pth"))


@pytest.mark.parametrize(
    "error", [URLError("no route\nto host"), RuntimeError("invalid hash value")]
)
def test_without_a_network_the_message_says_which_file_to_give(
    error: Exception, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr("torchvision.models._api.load_state_dict_from_url", refuse)
    problem = r"weights=IMAGENET1K_V1 of resnet18 cannot be downloaded \(.*\)"
    pattern = rf"{problem}: fetch https://.*resnet18.*\.pth and give"
    with pytest.raises(InputError, match=pattern) as caught:
        torchvision_network("resnet18", "IMAGENET1K_V1")
    assert "\n" not in str(caught.value)


def test_a_random_start_is_torchvisions_own() -> None:
    torch.manual_seed(0)
    ours = torchvision_network("resnet18").state_dict()
    torch.manual_seed(0)
    for key, value in torchvision.models.resnet18().state_dict().items():
        assert torch.equal(ours[key], value)
