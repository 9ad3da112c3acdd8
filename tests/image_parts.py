"""Small parts for tests of what works on images with label maps: eight drawn images in files, and
networks for them.
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning import Trainer
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor, nn

from cfexp.data.base import Part
from cfexp.data.batch import ImageBatch
from cfexp.data.label_maps.dataset import NO_REGION, LabelMapRecord, PngLabelMaps
from cfexp.data.label_maps.module import LabelMapDataModule
from cfexp.models.sean.sean import SEAN

REGIONS = np.full(256, NO_REGION, dtype=np.uint8)
REGIONS[:4] = range(4)
SIZE = (16, 32)


class EightImages(LabelMapDataModule):
    """Eight images, the same in every part: a sky, a road, a box on it, and in each second image a
    post.

    A green box says go, a red one does not; a light sky says bright. Image 5's brightness is not
    known.
    """

    region_names = ("sky", "road", "box", "post")
    class_names = ("go", "bright")
    fingerprint = "eight"
    reader = PngLabelMaps(REGIONS, unlabeled=1)

    def __init__(self, folder: Path, **settings: Any) -> None:
        given = {
            "image_size": SIZE,
            "batch_size": 8,
            "eval_batch_size": 3,
            "horizontal_flip": 0.0,
            **settings,
        }
        super().__init__(**given)
        self.place = folder

    def records(self, part: Part) -> list[LabelMapRecord]:
        return [self._write(index) for index in range(8)]

    def truth_mask(self, key: int) -> NDArray[np.bool_] | None:
        return None if key == 3 else self.box(key)

    def box(self, index: int) -> NDArray[np.bool_]:
        mask = np.zeros(SIZE, dtype=bool)
        mask[6:12, 2 + 3 * index : 8 + 3 * index] = True
        return mask

    def _write(self, index: int) -> LabelMapRecord:
        go, bright = index % 2 == 0, index // 2 % 2 == 0
        label_map = np.zeros(SIZE, dtype=np.uint8)
        label_map[8:] = 1
        label_map[self.box(index)] = 2
        if index % 2:
            label_map[:4, :4] = 3
        colors = [(170, 190, 230) if bright else (40, 50, 90), (90, 90, 90)]
        colors += [(20, 220, 60) if go else (230, 30, 20), (120, 80, 30)]
        noise = np.random.default_rng(index).integers(-12, 13, (*SIZE, 3))
        image = (np.array(colors)[label_map] + noise).clip(0, 255).astype(np.uint8)
        paths = self.place / f"image{index}.png", self.place / f"layout{index}.png"
        for pixels, path in zip((image, label_map), paths, strict=True):
            Image.fromarray(pixels).save(path)
        return LabelMapRecord(
            f"image{index}", *paths, (float(go), float("nan") if index == 5 else float(bright))
        )


def batch_of(data: EightImages, *rows: int, dtype: torch.dtype = torch.float32) -> ImageBatch:
    """Some of the eight images; without rows, all."""
    (batch,) = data.dataset("test").__getitems__(rows or range(8))
    return batch._replace(image=batch.image.to(dtype))


def tiny_sean(num_regions: int = 4) -> SEAN:
    return SEAN(
        num_regions,
        base_channels=4,
        style_dim=8,
        encoder_channels=4,
        encoder_downsamplings=1,
        up_blocks=2,
        spade_channels=8,
        last_block_styled=True,
    )


def trainer(folder: Path, epochs: int = 1, **settings: Any) -> Trainer:
    quiet: dict[str, Any] = {
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "logger": False,
    }
    options: dict[str, Any] = {
        "enable_checkpointing": False,
        "accelerator": "cpu",
        "num_sanity_val_steps": 0,
    }
    return Trainer(
        max_epochs=epochs,
        default_root_dir=folder,
        **{**quiet, "limit_val_batches": 0, **options, **settings},
    )


def values_of(network: nn.Module) -> dict[str, Tensor]:
    """A copy of all that the network holds."""
    return {name: value.clone() for name, value in network.state_dict().items()}


def unchanged(network: nn.Module, before: dict[str, Tensor]) -> bool:
    """Whether it is as it was, and no parameter has a gradient or takes one."""
    takes_gradient = any(
        each.requires_grad or each.grad is not None for each in network.parameters()
    )
    return not takes_gradient and all(
        torch.equal(value, before[name]) for name, value in network.state_dict().items()
    )
