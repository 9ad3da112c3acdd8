"""Real photographs at 64 pixels: the segmenter and the autoencoder beat what takes no network.

Each training takes a few minutes of one core. The images lie outside the repository, as they may
not be passed on.
"""

import json
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
import torch
from torch import Tensor
from torchmetrics.classification import MulticlassAccuracy, MulticlassJaccardIndex
from torchmetrics.functional.image import peak_signal_noise_ratio

from cfexp import reconstruct, train
from cfexp.data.batch import ImageBatch
from cfexp.data.faces.celebamask_hq import CelebAMaskHQDataModule
from tests.commands import InProcess

REAL = Path(__file__).parents[2] / "shared" / "real" / "celebamask_hq_600_256"
FIRST_TEST, HELD_OUT, REGIONS = 500, 20, 19
pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real is not here"),
]


class Faces(NamedTuple):
    """A root in CelebAMask-HQ's layout, and how it is split."""

    folder: Path

    @property
    def arguments(self) -> list[str]:
        given = [f"data.root={self.folder}", f"data.layouts={self.folder / 'layouts'}"]
        given += [f"data.first_test_id={FIRST_TEST}", f"data.holdout_images={HELD_OUT}"]
        return [*given, f"cache_dir={self.folder / 'cache'}", "num_threads=1"]

    def part(self, name: str) -> ImageBatch:
        data = CelebAMaskHQDataModule(
            str(self.folder),
            cache_dir=str(self.folder / "cache"),
            image_size=(64, 64),
            layouts=str(self.folder / "layouts"),
            first_test_id=FIRST_TEST,
            holdout_images=HELD_OUT,
        )
        dataset = data.dataset(name)  # type: ignore[arg-type]
        return dataset.__getitems__(range(len(dataset)))[0]


@pytest.fixture(scope="module")
def faces(tmp_path_factory: pytest.TempPathFactory) -> Faces:
    folder = tmp_path_factory.mktemp("real_faces")
    (folder / "CelebA-HQ-img").mkdir()
    (folder / "layouts").mkdir()
    # Links: nothing is copied. The order is that of the names, which are hashes.
    images = sorted((REAL / "images").iterdir())
    for number, image in enumerate(images):
        (folder / "CelebA-HQ-img" / f"{number}.jpg").symlink_to(image)
        (folder / "layouts" / f"{number}.png").symlink_to(REAL / "masks" / f"{image.stem}.png")
    rows = [
        f"{number}.jpg -1 -1 -1" for number in range(len(images))
    ]  # not known, and not asked for
    lines = [str(len(images)), "Male Smiling Young", *rows]
    (folder / "CelebAMask-HQ-attribute-anno.txt").write_text("\n".join(lines) + "\n")
    return Faces(folder)


def trained(in_process: InProcess, faces: Faces, folder: Path, *arguments: str) -> dict[str, float]:
    """Train a stage in `folder`; its test figures."""
    run = [
        f"hydra.run.dir={folder}",
        "logger=none",
        "callbacks.progress=null",
        "data.horizontal_flip=0.5",
    ]
    code, stdout, stderr = in_process(train.main, *arguments, *faces.arguments, *run)
    assert code == 0, "\n".join(stdout + stderr)
    return dict(json.loads((folder / "metrics.json").read_text()))


def test_the_segmenter_beats_each_pixels_most_frequent_region(
    in_process: InProcess, faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen, unseen = faces.part("train").label_map, faces.part("test").label_map
    counts = torch.stack([(seen == region).sum(0) for region in range(REGIONS)])
    guess = counts.argmax(0).expand_as(unseen)
    accuracy = 100 * float(MulticlassAccuracy(REGIONS, average="micro")(guess, unseen))
    mean_iou = 100 * float(MulticlassJaccardIndex(REGIONS)(guess, unseen))
    found = trained(
        in_process, faces, tmp_path / "run", "+experiment=face_segmenter", "trainer.max_epochs=20"
    )
    with capsys.disabled():
        beaten = f"accuracy {accuracy:.1f}, mean IoU {mean_iou:.1f}"
        print(f"\nsegmenter: {found}; most frequent region: {beaten}")
    assert accuracy == pytest.approx(65.7, abs=0.1)  # or it is another split
    assert found["test/pixel_accuracy"] >= accuracy + 10
    assert found["test/mean_iou"] >= mean_iou + 10


def region_means(image: Tensor, label_map: Tensor) -> Tensor:
    """(R, 3), the mean colour of each region of images (B, 3, H, W); 0 where there is none."""
    pixels, regions = image.permute(0, 2, 3, 1).reshape(-1, 3), label_map.flatten()
    sums = torch.zeros(REGIONS, 3).index_add(0, regions, pixels)
    return sums / torch.bincount(regions, minlength=REGIONS).clamp(min=1)[:, None]


def psnr(image: Tensor, shown: Tensor) -> float:
    return float(peak_signal_noise_ratio(shown, image, data_range=2.0, dim=(1, 2, 3)))


def test_the_autoencoder_beats_mean_colours(
    in_process: InProcess, faces: Faces, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    seen, unseen = faces.part("train"), faces.part("test")
    colors = region_means(seen.image, seen.label_map)[unseen.label_map].permute(0, 3, 1, 2)
    own = [
        region_means(image[None], label_map[None])[label_map].permute(2, 0, 1)
        for image, label_map in zip(unseen.image, unseen.label_map, strict=True)
    ]
    of_training, of_itself = psnr(unseen.image, colors), psnr(unseen.image, torch.stack(own))
    # Without a perceptual loss: the network that it sees with is trained on labels, of which there
    # are none here.
    alone = ["requires.features=null", "module.feature_network=null", "trainer.max_epochs=20"]
    found = trained(in_process, faces, tmp_path / "run", "+experiment=face_autoencoder", *alone)
    with capsys.disabled():
        beaten = f"mean colours {of_training:.1f} dB, of each image itself {of_itself:.1f} dB"
        print(f"\nautoencoder: {found}; {beaten}")
    assert found["test/psnr"] >= of_training + 4
    assert found["test/psnr"] >= of_itself + 0.25  # which no training image can give
    given = [f"checkpoints.autoencoder={tmp_path / 'run' / 'model.ckpt'}", "num_images=4"]
    code, stdout, stderr = in_process(
        reconstruct.main, "+experiment=steex_smile", *faces.arguments, *given
    )
    assert code == 0, stderr
    assert stdout[-1].startswith("4 images, PSNR ")
    assert np.isfinite(float(stdout[-1].split()[3]))
    assert (tmp_path / "reconstructions.png").is_file()
