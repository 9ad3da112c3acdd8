"""Label maps that a segmenter predicts, as files for a data module (`data.layouts=FOLDER`)."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from rich.progress import track
from torch import nn

from cfexp.data.base import Part
from cfexp.data.label_maps.dataset import make_label_map_loader
from cfexp.data.label_maps.module import LabelMapDataModule
from cfexp.whole_files import whole_file

_PARTS: tuple[Part, ...] = ("train", "val", "test")


@torch.inference_mode()
def write_label_maps(
    segmenter: nn.Module,
    data: LabelMapDataModule,
    folder: Path,
    parts: Sequence[Part] = _PARTS,
    device: str = "cpu",
) -> int:
    """Write `folder`/{image}.png, 8-bit grey, a region a pixel, for every image of the parts;
    returns their number.

    segmenter: images (B, 3, H, W) in [-1, 1] -> logits (B, R, H, W), R at most 256. What is there
    already is left alone, so an interrupted call goes on; a file appears whole. Images that are
    skipped (`data.on_bad_sample`) get no file. Raises InputError for images that cannot be read.
    """
    folder.mkdir(parents=True, exist_ok=True)
    segmenter = segmenter.eval().to(device)
    for part in parts:
        dataset = data.dataset(part)
        left = [
            row
            for row, record in enumerate(dataset.records)
            if not _path(folder, record.image_id).exists()
        ]
        if not left:
            continue
        loader = make_label_map_loader(
            dataset, data.num_workers, batch_size=data.eval_batch_size, sampler=left
        )
        for batch in track(
            loader, f"predicting label maps, {part}", -(-len(left) // data.eval_batch_size)
        ):
            label_maps = segmenter(batch.image.to(device)).argmax(1).byte().cpu().numpy()
            for image_id, label_map in zip(batch.image_id, label_maps, strict=True):
                path = _path(folder, image_id)
                with whole_file(path) as partial:
                    Image.fromarray(np.asarray(label_map)).save(partial, format="PNG")
    return sum(1 for path in folder.iterdir() if path.suffix == ".png")


def _path(folder: Path, image_id: str) -> Path:
    return folder / f"{image_id}.png"
