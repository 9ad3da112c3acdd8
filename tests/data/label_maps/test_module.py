from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer

from cfexp.data.batch import ImageBatch
from cfexp.data.label_maps.dataset import Evenly, MirroringSampler
from tests.data.label_maps.test_dataset import Layouts, epoch


class Remembers(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)
        self.seen: list[ImageBatch] = []

    def training_step(self, batch: ImageBatch, batch_idx: int) -> torch.Tensor:
        self.seen.append(batch)
        loss: torch.Tensor = self.layer(batch.image.mean()[None]).sum()
        return loss

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.0)


def test_a_trainer_goes_through_epochs_as_the_sampler_says(tmp_path: Path) -> None:
    quiet: dict[str, Any] = {
        "logger": False,
        "enable_checkpointing": False,
        "enable_progress_bar": False,
    }
    trainer = Trainer(max_epochs=2, accelerator="cpu", enable_model_summary=False, **quiet)
    module = Remembers()
    trainer.fit(module, datamodule=Layouts(tmp_path))
    for number, seen in ((0, module.seen[:2]), (1, module.seen[2:])):
        expected = epoch(Layouts(tmp_path), number)
        assert [batch.image_id for batch in seen] == [batch.image_id for batch in expected]
        assert all(
            torch.equal(one.image, other.image) for one, other in zip(seen, expected, strict=True)
        )


def test_processes_share_an_epoch_and_its_mirrored_images(tmp_path: Path) -> None:
    dataset = Layouts(tmp_path).dataset("train")
    samplers = [
        MirroringSampler(dataset, count, rank, 7, 0.5) for count, rank in ((1, 0), (2, 0), (2, 1))
    ]
    for sampler in samplers:
        sampler.set_epoch(2)
    whole, first, second = ([int(item) for item in sampler] for sampler in samplers)
    assert sorted(first + second) == sorted(whole)
    assert sorted(item % 10 for item in whole) == list(range(10))
    assert any(item >= 10 for item in whole)


def test_a_training_draws_groups_evenly_in_every_process(tmp_path: Path) -> None:
    groups = [0] * 8 + [1] * 2
    with pytest.raises(ValueError, match="groups must be of the 10 training images, got 3"):
        Layouts(tmp_path).draw_evenly([0, 1, 2], 3)
    data = Layouts(tmp_path, batch_size=5)
    data.draw_evenly(groups, 2)
    drawn = [key for batch in data.train_dataloader() for key in batch.key.tolist()]
    assert sum(groups[key] for key in drawn) == 4
    assert len(drawn) == 10
    dataset, evenly = data.dataset("train"), Evenly(np.array(groups), 2)
    shares = [
        [item % 10 for item in MirroringSampler(dataset, 2, rank, 0, 0.5, evenly)]
        for rank in (0, 1)
    ]
    assert sorted(shares[0] + shares[1]) == sorted(drawn)


def test_a_part_comes_in_order(tmp_path: Path) -> None:
    keys = [key for batch in Layouts(tmp_path).in_order("train") for key in batch.key.tolist()]
    assert keys == list(range(10))
