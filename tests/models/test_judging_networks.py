"""The networks that only metrics use, of files that users give, against other implementations."""

import pytest
import torch
import torchvision
from torch import nn
from torchmetrics.functional.image.lpips import _LPIPS

from cfexp.errors import InputError
from cfexp.models.classifiers import Oracle, SmallResNet
from cfexp.models.judges.face_verification import FaceVerification, face_verification_from_released
from cfexp.models.judges.lpips import lpips_from_released
from cfexp.models.judges.self_supervised import DIMENSION, simsiam_from_released


def test_lpips_is_torchmetrics() -> None:
    torch.manual_seed(0)
    theirs = _LPIPS(pretrained=True, net="alex", pnet_rand=True, eval_mode=True)
    alexnet = torchvision.models.alexnet()
    slices = [getattr(theirs.net, f"slice{number}") for number in range(1, 6)]
    for name, tensor in nn.ModuleList(slices).state_dict().items():
        alexnet.features.state_dict()[name.partition(".")[2]].copy_(tensor)
    heads = {
        name: tensor
        for name, tensor in theirs.state_dict().items()
        if name.startswith("lin") and "lins" not in name
    }
    ours = lpips_from_released(alexnet.state_dict(), heads)
    first, second = 2 * torch.rand(2, 3, 3, 72, 64) - 1
    with torch.no_grad():
        assert torch.allclose(ours(first, second), theirs(first, second).flatten(), rtol=1e-4)
        assert ours(first, first).tolist() == [0, 0, 0]
    del heads["lin0.model.1.weight"]
    with pytest.raises(InputError, match="does not fit the heads of LPIPS: 1 missing"):
        lpips_from_released(alexnet.state_dict(), heads)


class Seen(Oracle):
    """Keeps what comes in."""

    def __init__(self) -> None:
        nn.Module.__init__(self)

    def features(self, images: torch.Tensor) -> torch.Tensor:
        self.images = images
        return images.flatten(1)


@pytest.mark.parametrize("bgr", [False, True])
def test_faces_come_to_vggface2_as_it_was_trained(bgr: bool) -> None:
    backbone = Seen()
    colour = torch.tensor([1.0, 0.0, -1.0])[None, :, None, None].expand(1, 3, 64, 48)
    FaceVerification(backbone, bgr).features(colour)
    expected = torch.tensor([255 - 131.0912, 127.5 - 103.8827, 0 - 91.4953])
    assert backbone.images.shape == (1, 3, 224, 224)
    assert torch.allclose(
        backbone.images[0, :, 100, 100], expected.flip(0) if bgr else expected, atol=1e-3
    )


def test_a_file_that_is_not_vggface2() -> None:
    with pytest.raises(InputError, match="does not fit VGGFace2's ResNet50"):
        face_verification_from_released({"conv1.weight": torch.zeros(1)})


@pytest.mark.slow
def test_simsiams_encoder_is_torchvisions_with_its_projector() -> None:
    torch.manual_seed(0)
    theirs = torchvision.models.resnet50()
    layers: list[nn.Module] = []
    for _ in range(2):
        layers += [
            nn.Linear(DIMENSION, DIMENSION, bias=False),
            nn.BatchNorm1d(DIMENSION),
            nn.ReLU(),
        ]
    theirs.fc = nn.Sequential(
        *layers, nn.Linear(DIMENSION, DIMENSION), nn.BatchNorm1d(DIMENSION, affine=False)
    )
    theirs.eval()
    released = {f"module.encoder.{name}": tensor for name, tensor in theirs.state_dict().items()}
    released["module.predictor.0.weight"] = torch.zeros(1)
    ours = simsiam_from_released(released)
    levels = torch.rand(2, 3, 64, 64)
    normalised = torchvision.transforms.functional.normalize(
        levels, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
    )
    with torch.no_grad():
        assert torch.allclose(ours.features(2 * levels - 1), theirs(normalised), atol=1e-4)
    del released["module.encoder.fc.0.weight"]
    with pytest.raises(InputError, match="does not fit SimSiam's encoder: 1 missing"):
        simsiam_from_released(released)


def test_the_small_oracle_has_features() -> None:
    network = SmallResNet(5).eval()
    assert network.features(torch.rand(2, 3, 32, 32)).shape == (2, 128)
