"""The networks that judge, from files."""

import copy
from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf
from torch import nn
from torch_fidelity import feature_extractor_inceptionv3 as theirs

from cfexp.errors import InputError
from cfexp.evaluation.run_folder import to_pixels
from cfexp.models.classifiers import Oracle
from cfexp.models.loading.pretrained import load_network
from cfexp.run.judges import BATCH, identity, inception, with_batch_statistics
from tests.models.malicious import Malicious

NETWORK = {"_target_": f"{__name__}.Colours", "width": 3}


class Colours(nn.Module):
    """Tells images apart by their mean colour."""

    def __init__(self, width: int = 3) -> None:
        super().__init__()
        self.linear = nn.Linear(3, width, bias=False)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        assert len(images) <= BATCH
        features: torch.Tensor = self.linear((images.mean((2, 3)) + 1) / 2)
        return features


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    """A network whose features are the mean colours, with no config beside it, as a shipped one."""
    path = tmp_path / "identity.ckpt"
    torch.save({"linear.weight": torch.eye(3)}, path)
    return path


def test_features_of_a_network_that_the_config_gives(checkpoint: Path) -> None:
    features = identity(str(checkpoint), load_network(Colours(), checkpoint))
    images = torch.rand(2 * BATCH + 1, 3, 4, 4)
    assert torch.allclose(features(images), (images.mean((2, 3)) + 1) / 2)
    assert not features(images).requires_grad


def test_features_of_a_stage_that_has_its_config_beside_it(checkpoint: Path) -> None:
    with pytest.raises(
        InputError, match=r"identity\.ckpt has no config\.yaml beside it: give the model\.ckpt of"
    ):
        identity(str(checkpoint))
    OmegaConf.save(OmegaConf.create({"network": NETWORK}), checkpoint.parent / "config.yaml")
    features = identity(str(checkpoint))
    assert features(torch.ones(1, 3, 2, 2)).tolist() == [[1, 1, 1]]
    OmegaConf.save(
        OmegaConf.create({"network": {**NETWORK, "width": 5}}), checkpoint.parent / "config.yaml"
    )
    with pytest.raises(InputError, match=r"identity\.ckpt does not fit Colours: 1 misshaped"):
        identity(str(checkpoint))


def test_a_network_that_cannot_tell_people_apart(checkpoint: Path) -> None:
    with pytest.raises(
        InputError, match=r"checkpoints\.identity: a Linear has no features\(images\)"
    ):
        identity(str(checkpoint), nn.Linear(1, 1))


def test_the_oracle_is_such_a_network() -> None:
    assert callable(Oracle.features)


def test_batch_statistics_are_those_of_training_mode() -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Dropout(0.5)).eval()
    images = torch.rand(2, 3, 8, 8)
    in_training = copy.deepcopy(network)
    in_training[1].train()
    before = {name: tensor.clone() for name, tensor in network.state_dict().items()}
    assert torch.allclose(with_batch_statistics(network)(images), in_training(images), atol=1e-6)
    assert not torch.allclose(network(images), in_training(images), atol=1e-2)
    assert all(torch.equal(tensor, before[name]) for name, tensor in network.state_dict().items())


def test_inceptions_file_is_no_program(tmp_path: Path) -> None:
    torch.save({"weight": Malicious(tmp_path / "ran")}, tmp_path / "weights.pth")
    with pytest.raises(InputError, match="could run code"):
        inception(tmp_path / "weights.pth")
    torch.save({"weight": torch.zeros(1)}, tmp_path / "other.pth")
    with pytest.raises(InputError, match=r"other\.pth does not fit torch-fidelity's Inception"):
        inception(tmp_path / "other.pth")


class Convolution(torch.nn.Module):
    """One of the TorchScript's: its four tensors by their names there."""

    def __init__(self, tensors: dict[str, torch.Tensor]) -> None:
        super().__init__()
        for name, tensor in tensors.items():
            self.register_buffer(name, tensor)

    def forward(self, features: torch.Tensor) -> torch.Tensor:
        return features


def test_another_torchscript_is_refused(tmp_path: Path) -> None:
    other = torch.nn.Sequential(Convolution({"weight": torch.zeros(1), "beta": torch.zeros(1)}))
    torch.jit.script(other).save(tmp_path / "other.pt")  # type: ignore[no-untyped-call]
    with pytest.raises(InputError, match=r"other\.pt does not fit torch-fidelity's Inception"):
        inception(tmp_path / "other.pt")


@pytest.mark.slow
def test_inception_from_torchscript_sees_the_same(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *arguments, **settings: {})
    with monkeypatch.context() as patch:
        patch.setattr(
            theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state_dict: None
        )
        network = theirs.FeatureExtractorInceptionV3("random", ["2048"])
    units = [each for each in network.modules() if isinstance(each, theirs.BasicConv2d)]
    for unit in units:
        torch.nn.init.normal_(unit.bn.bias)
        unit.bn.running_mean.normal_()
        unit.bn.running_var.uniform_(0.5, 2)
    convolutions = torch.nn.Sequential(
        *(
            Convolution(
                {
                    "weight": unit.conv.weight.detach(),
                    "beta": unit.bn.bias.detach(),
                    "mean": unit.bn.running_mean,
                    "var": unit.bn.running_var,
                }
            )
            for unit in units
        )
    )
    torch.jit.script(convolutions).save(tmp_path / "inception.pt")  # type: ignore[no-untyped-call]
    images = 2 * torch.rand(2, 3, 40, 32) - 1
    (expected,) = network(torch.from_numpy(to_pixels(images)).movedim(-1, -3))
    assert torch.allclose(inception(tmp_path / "inception.pt")(images), expected, atol=1e-5)


@pytest.mark.slow
def test_features_are_torch_fidelitys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = theirs.FeatureExtractorInceptionV3.load_state_dict
    monkeypatch.setattr(theirs, "load_state_dict_from_url", lambda *arguments, **settings: {})
    monkeypatch.setattr(
        theirs.FeatureExtractorInceptionV3, "load_state_dict", lambda self, state_dict: None
    )
    network = theirs.FeatureExtractorInceptionV3("random", ["2048"])
    monkeypatch.setattr(theirs.FeatureExtractorInceptionV3, "load_state_dict", kept)
    torch.save(network.state_dict(), tmp_path / "weights.pth")
    images = 2 * torch.rand(3, 3, 40, 32) - 1
    (expected,) = network(torch.from_numpy(to_pixels(images)).movedim(-1, -3))
    found = inception(tmp_path / "weights.pth")(images)
    assert found.shape == (3, 2048)
    assert torch.allclose(found, expected, atol=1e-5)
