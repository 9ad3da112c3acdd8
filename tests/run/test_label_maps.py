"""Predicted label maps: as files, by the stage that CelebA's autoencoder requires, and as a user
gives them.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_module
from PIL import Image
from torch import Tensor, nn

from cfexp.data.faces.celeba import CelebADataModule
from cfexp.models.segmenter import FramedSegmenter, ResizingSegmenter, SmallSegmenter
from cfexp.run.configuration import register_resolvers
from cfexp.run.label_maps import write_label_maps
from cfexp.run.stages import provide_stages
from cfexp.worlds.faces import FaceParameters, write_celeba


class ByBrightness(nn.Module):
    """Region 0 to 18 by the brightness of the pixel."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[int] = []

    def forward(self, images: Tensor) -> Tensor:
        self.seen += [len(images)]
        region = ((images.mean(1) + 1) * 9.4).long().clamp(0, 18)
        return F.one_hot(region, 19).permute(0, 3, 1, 2).float()


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("celeba")
    write_celeba(FaceParameters(faces=30, image_size=32), folder)
    return folder


def data(root: Path, **settings: Any) -> CelebADataModule:
    return CelebADataModule(
        str(root), image_size=(32, 32), horizontal_flip=0.0, eval_batch_size=8, **settings
    )


def test_label_maps_are_written_once_and_read_as_they_were_predicted(
    root: Path, tmp_path: Path
) -> None:
    segmenter = ByBrightness()
    assert write_label_maps(segmenter, data(root), tmp_path / "maps") == 30
    assert sum(segmenter.seen) == 30
    paths = sorted((tmp_path / "maps").iterdir())
    assert [path.stem for path in paths] == sorted(
        path.stem for path in (root / "img_align_celeba").iterdir()
    )
    given = data(root, layouts=str(tmp_path / "maps"))
    for part in ("train", "val", "test"):
        for row in range(len(given.dataset(part))):
            image = given.dataset(part)[row]
            assert torch.equal(image.label_map, segmenter(image.image).argmax(1))
    # An interrupted call goes on: what is missing is predicted, the rest is left alone.
    paths[3].unlink()
    paths[4].write_bytes(b"kept")
    segmenter.seen.clear()
    assert write_label_maps(segmenter, data(root), tmp_path / "maps") == 30
    assert segmenter.seen == [1]
    assert Image.open(paths[3]).mode == "L"
    assert paths[4].read_bytes() == b"kept"


def test_a_segmenter_of_another_size_and_order() -> None:
    torch.manual_seed(0)
    images, segmenter = torch.rand(2, 3, 16, 24) * 2 - 1, ByBrightness()
    assert torch.equal(ResizingSegmenter(segmenter)(images), segmenter(images))
    order = [*range(1, 19), 0]
    reordered = ResizingSegmenter(segmenter, regions=order)(images).argmax(1)
    assert torch.equal(torch.tensor(order)[reordered], segmenter(images).argmax(1))
    larger = ResizingSegmenter(segmenter, image_size=[32, 48])(images).argmax(1)
    upsampled = F.interpolate(images, (32, 48), mode="bicubic", antialias=True).clamp(-1, 1)
    whole = segmenter(upsampled).argmax(1).numpy().astype(np.uint8)
    # As Pillow takes the nearest pixel, by which label maps are resized everywhere.
    expected = [
        np.asarray(Image.fromarray(each).resize((24, 16), Image.Resampling.NEAREST))
        for each in whole
    ]
    assert np.array_equal(larger.numpy(), np.stack(expected))


def test_a_segmenter_of_another_framing_is_cut_to_the_images() -> None:
    torch.manual_seed(0)
    images, segmenter = torch.rand(2, 3, 20, 16) * 2 - 1, ByBrightness()
    # Its own framing at its own size, so that no pixel is mixed with another.
    in_its_own = segmenter(images[:, :, 6:18, 2:14]).argmax(1)
    framed = FramedSegmenter(segmenter, [12, 12], [20, 16], [2, 6, 14, 18], [4, 3, 12, 15])
    found = framed(images).argmax(1)
    assert found.shape == (2, 12, 8)
    assert torch.equal(found[:, 3:], in_its_own[:, :9, 2:10])
    # Above the frame nothing is known: its first row goes on.
    assert torch.equal(found[:, :3], in_its_own[:, :1, 2:10].expand(2, 3, 8))
    as_they_come = FramedSegmenter(segmenter, [12, 12], [20, 16], [2, 6, 14, 18])(images).argmax(1)
    assert torch.equal(as_they_come[:, 6:18, 2:14], in_its_own)


def test_the_stage_predicts_once_and_its_folder_is_read(root: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(SmallSegmenter(19, 16).state_dict(), tmp_path / "segmenter.ckpt")
    inner = [
        '+requires.segmenter.overrides=["network=small_segmenter","~network.weights"]',
        f"checkpoints.segmenter={tmp_path / 'segmenter.ckpt'}",
    ]
    inner += ["network.image_size=[64,64]", "data.image_size=[32,32]", "trainer.accelerator=cpu"]
    command = [
        "+experiment=paper/celeba_autoencoder",
        f"data.root={root}",
        "data.image_size=[32,32]",
    ]
    command += ["data.num_workers=0", f"cache_dir={tmp_path}", "num_threads=1"]
    quoted = ",".join(f"'{override}'" for override in inner)
    command += [f"+requires.layouts.overrides=[{quoted}]"]
    register_resolvers()
    written = set()
    for _ in range(2):
        with initialize_config_module("cfexp.conf", version_base="1.3"):
            config = compose("train", overrides=command)
            provide_stages(config)
        index = Path(config.checkpoints.layouts)
        assert config.data.layouts == str(index.parent / "label_maps")
        written.add((index, index.stat().st_mtime_ns))
    assert len(written) == 1
    described = json.loads(index.read_text())
    assert (described["images"], described["height"], described["num_regions"]) == (30, 32, 19)
    assert set(described["checkpoints"]) == {"segmenter"}
    assert len(list(Path(config.data.layouts).iterdir())) == 30
    # One's own take its place, and nothing is required for them.
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        config = compose(
            "train", overrides=[*command[:-1], f"data.layouts={tmp_path}", "requires.layouts=null"]
        )
        provide_stages(config)
    assert "layouts" not in config.checkpoints
    assert config.data.layouts == str(tmp_path)
