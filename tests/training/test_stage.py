from functools import partial
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cfexp.data.batch import ImageBatch
from cfexp.training.stage import ScoredStage
from tests.image_parts import EightImages, batch_of, trainer


class Counting(ScoredStage):
    """Its score is how many images it saw since the last time."""

    images = 0

    def training_step(self, batch: ImageBatch, batch_idx: int) -> Tensor:
        return self.log_loss(self.network(batch.image).square().mean(), len(batch.image))

    def score(self, batch: ImageBatch) -> None:
        self.images += len(batch.image)

    def log_scores(self, part: str) -> None:
        self.log(f"{part}/images", float(self.images))
        self.images = 0


def test_a_stage_is_validated_and_tested_by_the_same_two_methods(tmp_path: Path) -> None:
    data = EightImages(tmp_path)
    module = Counting(nn.Conv2d(3, 1, 3), partial(torch.optim.SGD, lr=0.1))
    few = {"limit_val_batches": 2, "limit_test_batches": 1}  # of three images each
    fitted = trainer(tmp_path, epochs=2, **few)
    fitted.fit(module, datamodule=data)
    assert fitted.callback_metrics["val/images"] == 6
    assert fitted.callback_metrics["train/loss"] == fitted.callback_metrics["loss"]
    (found,) = fitted.test(module, datamodule=data, verbose=False)
    assert found == {"test/images": 3.0}


def test_without_a_score_of_its_own_a_stage_is_none(tmp_path: Path) -> None:
    bare = ScoredStage(nn.Conv2d(3, 1, 3), partial(torch.optim.SGD, lr=0.1))
    with pytest.raises(NotImplementedError):
        bare.validation_step(batch_of(EightImages(tmp_path)), 0)
    with pytest.raises(NotImplementedError):
        bare.on_test_epoch_end()
