import logging
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cfexp.explainers.pe.bins import say_few, train_odds
from tests.explainers.pe.test_pe import Light
from tests.image_parts import EightImages, batch_of


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EightImages:
    return EightImages(tmp_path_factory.mktemp("eight"))


class Counted:
    """Asks the model, and counts the images."""

    def __init__(self, model: nn.Module) -> None:
        self.model, self.count = model, 0

    def __call__(self, images: Tensor) -> Tensor:
        self.count += len(images)
        found: Tensor = self.model(images)[:, 0]
        return found


def asked(data: EightImages, model: nn.Module, folder: Path, which: str = "") -> tuple[Tensor, int]:
    odds_of = Counted(model)
    return train_odds(data, odds_of, model, which, folder), odds_of.count


def test_the_model_is_asked_once_and_again_if_anything_is_another(
    data: EightImages, tmp_path: Path
) -> None:
    model = Light().requires_grad_(False)
    odds, count = asked(data, model, tmp_path)
    assert count == 8
    torch.testing.assert_close(odds, model(batch_of(data).image)[:, 0])
    again, count = asked(data, model, tmp_path)
    assert count == 0
    assert torch.equal(again, odds)
    (path,) = (tmp_path / "pe_bins").iterdir()
    path.write_bytes(path.read_bytes()[:-3])  # damaged
    assert asked(data, model, tmp_path)[1] == 8
    assert asked(data, model, tmp_path, "another class")[1] == 8
    model.threshold.data += 0.1
    assert asked(data, model, tmp_path)[1] == 8
    assert len(list((tmp_path / "pe_bins").iterdir())) == 3


def test_an_image_that_cannot_be_read_has_no_odds(tmp_path: Path) -> None:
    data = EightImages(tmp_path, on_bad_sample="skip")
    records = data.dataset("train").records
    (tmp_path / "image3.png").write_bytes(b"damaged")
    odds, count = asked(data, Light().requires_grad_(False), tmp_path)
    assert count == 7
    assert len(records) == 8
    assert odds.isinf().nonzero()[:, 0].tolist() == [3]


def test_bins_of_few_images_are_named(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    say_few(torch.tensor([0] * 30 + [2] * 5), 3)
    assert "bins 1, 2 have fewer than 20 training images (of all bins: 30, 0, 5)" in caplog.text
    caplog.clear()
    say_few(torch.arange(3).repeat(20), 3)
    assert not caplog.text
