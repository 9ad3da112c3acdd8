"""Measure how many samples a second each data module reads, beside torchvision's ImageFolder on the
same images.

Both decode the same files and resize them to the same size, by as many worker processes, in batches
of one size; ours reads the masks and labels, too. Embedded worlds are drawn at the real sets'
sizes, in their layouts, into a folder that is removed at the end. Epochs of the two alternate, as
many at once as last a second, and the ratio is the median over these pairs, so that what else the
machine does counts for both alike. The epoch before them, in which masks are composed for the first
time, has a column of its own.

CPU milliseconds a sample are those of one process that reads by itself, measured in turn as well:
what else the machine does hardly counts there.
"""

import argparse
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import ImageFolder

from cfexp.benchmarks.command import exit_code
from cfexp.command_parser import command_parser
from cfexp.data.faces.celeba import CelebADataModule
from cfexp.data.faces.celebamask_hq import CelebAMaskHQDataModule
from cfexp.data.questions.files import image_name
from cfexp.data.questions.vqa import VQADataModule
from cfexp.data.streets.bdd100k import BDD100kDataModule
from cfexp.errors import InputError
from cfexp.run.memory import keep_freed_memory
from cfexp.worlds.faces import IMAGES, MASKS, FaceParameters, write_celeba, write_celebamask_hq
from cfexp.worlds.scenes import SceneParameters, write_scenes
from cfexp.worlds.streets import StreetParameters, write_streets

TO_REACH = 0.9
LEAST_SECONDS = 1.0  # of a measurement
BICUBIC = transforms.InterpolationMode.BICUBIC


class Case(NamedTuple):
    """One data set: its module, its training images, and what the plain loader does to each."""

    data: Any
    images: list[Path]
    transform: list[Any]

    def ours(self, workers: int) -> DataLoader[Any]:
        """The module's training images."""
        self.data.num_workers = workers
        loader: DataLoader[Any] = self.data.train_dataloader()
        return loader

    def plain(self, folder: Path, workers: int) -> DataLoader[Any]:
        """An ImageFolder of one class that holds links to the same images, shuffled."""
        (folder / "all").mkdir(parents=True, exist_ok=True)
        for path in self.images:
            link = folder / "all" / path.name
            if not link.is_symlink():
                link.symlink_to(path.resolve())
        scale = [transforms.ToTensor(), transforms.Normalize((0.5,) * 3, (0.5,) * 3)]
        return DataLoader(
            ImageFolder(str(folder), transforms.Compose([*self.transform, *scale])),
            batch_size=self.data.batch_size,
            shuffle=True,
            num_workers=workers,
            drop_last=True,
            persistent_workers=workers > 0,
            pin_memory=torch.cuda.is_available(),
        )


class Pairs(NamedTuple):
    """Samples a second, of the clock or of the processor, epoch by epoch; the first epoch of ours
    apart.
    """

    first: float
    plain: list[float]
    ours: list[float]

    @property
    def ratio(self) -> float:
        """The median over the pairs of epochs."""
        return statistics.median(self.ratios)

    @property
    def ratios(self) -> list[float]:
        """Ours by plain, of each pair."""
        return [ours / plain for ours, plain in zip(self.ours, self.plain, strict=True)]


def celebamask_hq(folder: Path, count: int, **loading: Any) -> Case:
    """CelebAMask-HQ as shipped: photographs of 1024 pixels, part masks of 512; shown at 256."""
    root = folder / "celebamask_hq"
    # Drawn smaller and enlarged: at full size a face takes seconds to draw.
    write_celebamask_hq(FaceParameters(faces=count, image_size=256), root)
    for path in (root / IMAGES).iterdir():
        with Image.open(path) as image:
            image.resize((1024, 1024), Image.Resampling.BICUBIC).save(path, quality=90)
    for path in (root / MASKS).glob("*/*.png"):
        with Image.open(path) as mask:
            mask.resize((512, 512), Image.Resampling.NEAREST).save(path)
    loading = {"first_test_id": count, "holdout_images": 1, "horizontal_flip": 0.0, **loading}
    data = CelebAMaskHQDataModule(str(root), None, str(folder / "cache"), **loading)
    images = [record.image for record in data.records("train")]
    return Case(data, images, [transforms.Resize((256, 256), BICUBIC)])


def celeba(folder: Path, count: int, **loading: Any) -> Case:
    """CelebA: aligned images of 178x218, the centred 150 shown at 128, with label maps of 128 as if
    predicted.
    """
    root, label_maps, masked = (
        folder / "celeba",
        folder / "celeba_layouts",
        folder / "celeba_masked",
    )
    parameters = FaceParameters(faces=count, image_size=128)
    write_celeba(parameters, root)
    write_celebamask_hq(parameters, masked)
    label_maps.mkdir()
    with_masks = CelebAMaskHQDataModule(str(masked), None, str(folder / "cache"), holdout_images=0)
    names = [
        face["file"]
        for face in json.loads((root / "faces_truth.json").read_text(encoding="utf-8"))["faces"]
    ]
    for record in with_masks.records("train"):
        label_map = with_masks.reader.label_map(record)
        assert label_map is not None
        label_map.save(label_maps / f"{Path(names[int(record.image_id)]).stem}.png")
    loading = {"layouts": str(label_maps), "horizontal_flip": 0.0, **loading}
    data = CelebADataModule(str(root), None, str(folder / "cache"), **loading)
    images = [record.image for record in data.records("train")]
    crop = [transforms.CenterCrop(150), transforms.Resize((128, 128), BICUBIC)]
    return Case(data, images, crop)


def bdd100k(folder: Path, count: int, **loading: Any) -> Case:
    """BDD100k: frames and masks of 1280x720, shown at 256x512."""
    root = folder / "bdd100k"
    write_streets(
        StreetParameters(train_scenes=count, val_scenes=1, image_height=720, image_width=1280), root
    )
    data = BDD100kDataModule(
        str(root), image_size=(256, 512), holdout_images=1, horizontal_flip=0.0, **loading
    )
    images = [record.image for record in data.records("train")]
    return Case(data, images, [transforms.Resize((256, 512), BICUBIC)])


def vqav1(folder: Path, count: int, **loading: Any) -> Case:
    """VQAv1: pictures of 640x480, one question each, shown at 448; there are no masks."""
    root = folder / "vqav1"
    write_scenes(SceneParameters(train_scenes=count, val_scenes=1, image_size=480), root)
    for kind, name in (("OpenEnded_", "questions"), ("", "annotations")):
        path = root / f"{kind}mscoco_train2014_{name}.json"
        content = json.loads(path.read_text(encoding="utf-8"))
        # Of one image there is one question, so that a sample of theirs is one of ours.
        content[name] = list({record["image_id"]: record for record in content[name]}.values())
        path.write_text(json.dumps(content), encoding="utf-8")
    data = VQADataModule(str(root), image_size=448, holdout_images=0, **loading)
    images = [
        root / "train2014" / image_name("train2014", number)
        for number in data.dataset("train").image_id.tolist()
    ]
    for path in images:
        with Image.open(path) as image:
            image.resize((640, 480), Image.Resampling.BICUBIC).save(path, quality=90)
    square = [transforms.Resize(448, BICUBIC), transforms.CenterCrop(448)]
    return Case(data, images, square)


CASES: dict[str, Callable[..., Case]] = {
    "celeba": celeba,
    "celebamask_hq": celebamask_hq,
    "bdd100k": bdd100k,
    "vqav1": vqav1,
}


def compare(
    plain: Iterable[Any],
    ours: Iterable[Any],
    repeats: int,
    clock: Callable[[], float] = time.perf_counter,
) -> Pairs:
    """Epochs of both in turn, the one that is first changing each time, after one of each that is
    not counted.
    """

    def rate(loader: Iterable[Any], least: float = LEAST_SECONDS) -> float:
        begun, count = clock(), 0
        while True:
            count += sum(len(batch[0]) for batch in loader)
            taken = clock() - begun
            if taken >= least:
                return count / taken

    rate(plain, least=0)
    pairs = Pairs(rate(ours, least=0), [], [])
    for repeat in range(repeats):
        order = [(plain, pairs.plain), (ours, pairs.ours)]
        for loader, rates in order if repeat % 2 == 0 else reversed(order):
            rates.append(rate(loader))
    return pairs


def report(given: argparse.Namespace) -> bool:
    """Measure and print, row by row; returns whether every ratio is at least `TO_REACH`."""
    keep_freed_memory()  # as every command does; it holds for both
    loading = {
        "batch_size": given.batch,
        "num_workers": given.workers,
        "cache_images": False,
        "seed": 0,
    }
    print(
        f"{given.images} images a set, batches of {given.batch}, {given.workers} workers, ", end=""
    )
    print(f"medians of {given.repeats} measurements in turn; samples a second, masks included")
    print(f"{'':<16}ImageFolder      ours    ours, first epoch    ", end="")
    print("ours / ImageFolder (least to most)    CPU ms a sample: ImageFolder, ours (ratio)")
    reached = True
    with tempfile.TemporaryDirectory(prefix="cfexp_benchmark_") as temporary:
        for name in given.sets:
            folder = Path(temporary) / name
            folder.mkdir()
            case = CASES[name](folder, given.images, **loading)
            pairs = compare(
                case.plain(folder / "plain", given.workers), case.ours(given.workers), given.repeats
            )
            threads = torch.get_num_threads()
            torch.set_num_threads(1)  # as in a worker
            cpu = compare(
                case.plain(folder / "plain", 0), case.ours(0), given.repeats, time.process_time
            )
            torch.set_num_threads(threads)
            plain, ours = (statistics.median(rates) for rates in (pairs.plain, pairs.ours))
            print(f"{name:<16}{plain:11.1f}  {ours:8.1f}  {pairs.first:19.1f}    ", end="")
            spread = f"({min(pairs.ratios):.2f} to {max(pairs.ratios):.2f})"
            print(f"{pairs.ratio:.2f} {spread}    ", end="")
            plain, ours = (1000 / statistics.median(rates) for rates in (cpu.plain, cpu.ours))
            print(f"{plain:.2f}, {ours:.2f} ({cpu.ratio:.2f})", flush=True)
            reached = reached and pairs.ratio >= TO_REACH
    print(f"every ratio is at least {TO_REACH}: {'yes' if reached else 'no'}")
    return reached


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line; raises InputError for numbers out of range."""
    parser = command_parser(
        *("benchmarks.data", __doc__),
        "",
        "--sets celebamask_hq bdd100k",
        "--images 100 --repeats 1 --workers 0",
    )
    parser.add_argument(
        "--sets", nargs="+", choices=tuple(CASES), default=tuple(CASES), help="which to measure"
    )
    parser.add_argument(
        "--images",
        type=int,
        default=400,
        help="drawn of each set; CelebA trains on four fifths of them",
    )
    parser.add_argument("--batch", type=int, default=16, help="samples a batch")
    parser.add_argument("--workers", type=int, default=2, help="processes that read")
    parser.add_argument("--repeats", type=int, default=5, help="measurements of each")
    given = parser.parse_args(arguments)
    if (
        min(given.batch, given.repeats) < 1
        or given.workers < 0
        or given.images < max(20, 2 * given.batch)
    ):
        raise InputError(
            "--batch and --repeats must be above 0, --images at least 20 and two batches"
        )
    return given


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the benchmark; returns the exit code: 1 where a ratio is too low, 2 where the command
    line is wrong.
    """
    return exit_code(lambda: report(parse(arguments)))


if __name__ == "__main__":
    sys.exit(main())
