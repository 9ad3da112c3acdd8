"""The memory of an explain run does not grow with its length: embedded streets, again and again,
under new keys.
"""

import os
import statistics
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import Callback

from cfexp.data.base import Part
from cfexp.data.label_maps.dataset import LabelMapRecord
from cfexp.data.streets.bdd100k import BDD100kDataModule
from cfexp.evaluation.run_folder import RunFolder
from cfexp.explainers.steex.steex import STEEX
from cfexp.models.classifiers import SmoothClassifier
from cfexp.run.callbacks import ExplanationWriter
from tests.image_parts import tiny_sean, trainer

SCENES = 40
STATM = Path("/proc/self/statm")


class LongStreets(BDD100kDataModule):
    """The scenes of a very small world over and over, each time under a key of its own."""

    queries: int

    def records(self, part: Part) -> list[LabelMapRecord]:
        scenes = super().records(part)
        return (
            (scenes * (self.queries // len(scenes) + 1))[: self.queries]
            if part == "test"
            else scenes
        )


class Resident(Callback):
    """Samples this process's resident memory, in MiB, after every so many batches."""

    def __init__(self, every: int) -> None:
        self.every = every
        self.samples: list[float] = []

    def on_predict_batch_end(
        self, trainer: Any, pl_module: Any, outputs: Any, batch: Any, *places: int
    ) -> None:
        """Places: of the batch, and of its loader."""
        if places[0] % self.every == 0:
            pages = int(STATM.read_text().split()[1])
            self.samples.append(pages * os.sysconf("SC_PAGE_SIZE") / 2**20)


def resident_memory(queries: int, folder: Path) -> list[float]:
    """A hundred samples over an explain run of so many queries, 8 a batch, of one step each."""
    torch.manual_seed(0)
    world = {"train_scenes": 3, "val_scenes": SCENES, "image_height": 48, "image_width": 96}
    settings: dict[str, Any] = {
        "cache_dir": str(folder),
        "image_size": (48, 96),
        "holdout_images": 1,
    }
    data = LongStreets(world=world, eval_batch_size=8, **settings)
    data.queries = queries
    data.setup("predict")
    explainer = STEEX(
        SmoothClassifier(1, widths=(4, 8)), tiny_sean(len(data.region_names)), num_steps=1
    )
    resident = Resident(every=max(1, queries // 800))
    run = trainer(folder, callbacks=[ExplanationWriter(), resident], inference_mode=False)
    run.predict(explainer, data, return_predictions=False)
    assert RunFolder(folder).keys() == set(range(queries))
    return resident.samples


def growth(samples: Sequence[float]) -> float:
    """MiB from the second quarter to the last: the first fills caches and the allocator's free
    lists.
    """
    quarter = len(samples) // 4
    return statistics.mean(samples[-quarter:]) - statistics.mean(samples[quarter : 2 * quarter])


@pytest.mark.slow
def test_twenty_thousand_queries_take_no_more_memory_than_a_few(tmp_path: Path) -> None:
    if not STATM.is_file():
        pytest.skip("needs Linux")
    samples = resident_memory(20_000, tmp_path)
    print(f"resident: {samples[0]:.0f} MiB after the first batch, {samples[-1]:.0f} after the last")
    # The writer's set of keys takes 2 of these; one image a query would take 500.
    assert growth(samples) < 10


if __name__ == "__main__":  # python -m tests.test_flat_memory QUERIES
    with tempfile.TemporaryDirectory() as folder:
        measured = resident_memory(int(sys.argv[1]), Path(folder))
    print(*(f"{sample:.0f}" for sample in measured), f"growth {growth(measured):.1f} MiB")
