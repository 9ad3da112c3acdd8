"""A student learns what its teacher says, and no label."""

import copy
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.classifiers import SmoothClassifier
from cfexp.training.student import StudentStage
from tests.image_parts import EightImages, batch_of, trainer, values_of


class Teacher(nn.Module):
    """Says how red an image is and how dark, whatever the labels say: two heads, or two classes."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(60.0))

    def forward(self, images: Tensor) -> Tensor:
        mean = images.mean((2, 3))
        return self.scale * torch.stack([mean[:, 0] + 0.22, -mean.mean(1) - 0.13], dim=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EightImages:
    return EightImages(tmp_path_factory.mktemp("eight"))


def stage(num_outputs: int = 2, **settings: object) -> StudentStage:
    torch.manual_seed(0)
    network = SmoothClassifier(num_outputs, widths=(8, 16, 16))
    given: dict[str, object] = {"optimizer": partial(torch.optim.Adam, lr=1e-2), **settings}
    return StudentStage(network, Teacher(), **given)  # type: ignore[arg-type]


@pytest.mark.parametrize("exclusive", [False, True])
def test_it_overfits_what_the_teacher_says_of_eight_images(
    data: EightImages, tmp_path: Path, exclusive: bool
) -> None:
    said = Teacher()(batch_of(data).image)
    assert 2 <= (said[:, 0] > 0).sum() <= 6
    module = stage(exclusive=exclusive, mixup=0.5)
    teacher = copy.deepcopy(module.feature_network)
    before = trainer(tmp_path).test(module, datamodule=data, verbose=False)[0]["test/agreement"]
    trainer(tmp_path, epochs=60).fit(module, datamodule=data)
    (found,) = trainer(tmp_path).test(module, datamodule=data, verbose=False)
    assert before < found["test/agreement"] == 100
    assert ("test/agreement/bright" in found) != exclusive
    assert module.feature_network is not None
    assert teacher is not None
    assert values_of(module.feature_network) == values_of(teacher)  # it learns nothing
    assert not module.feature_network.training


def test_the_checkpoint_is_the_students_alone(data: EightImages) -> None:
    module = stage()
    assert module.trained_state().keys() == module.network.state_dict().keys()
    checkpoint = {"state_dict": module.state_dict()}
    module.on_save_checkpoint(checkpoint)
    assert all(name.startswith("network.") for name in checkpoint["state_dict"])


def test_as_many_outputs_as_the_teacher(data: EightImages, tmp_path: Path) -> None:
    expected = "the student has 1 outputs, its teacher 2: give network.num_outputs=2"
    with pytest.raises(InputError, match=expected):
        trainer(tmp_path).fit(stage(1), datamodule=data)
