"""Small data sets of one's own, as a user lays them out."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

SIDE = 32
COUNT = 40


def write_own(
    root: Path, count: int = COUNT, *, table: bool = True, maps: bool = True, suffix: str = ".png"
) -> Path:
    """Discs that are red or green on a ground, in `root`: images/, labels.csv and label_maps/.

    Image k is `NNN` with NNN = k; odd ones are green; four images are of one source.
    """
    rng, lines = np.random.default_rng(0), ["file,state,lit,size,source"]
    (root / "images").mkdir(parents=True)
    if maps:
        (root / "label_maps").mkdir()
        write_text(root / "regions.csv", ["value,name", "0,ground", "255,disc"])
    for k in range(count):
        pixels, disc = drawn(rng, k % 2)
        Image.fromarray(pixels).save(root / f"images/{k:03}{suffix}")
        if maps:
            Image.fromarray(disc.astype(np.uint8) * 255).save(root / f"label_maps/{k:03}.png")
        lines.append(f"{k:03}{suffix},{['red', 'green'][k % 2]},{k % 3 == 0:d},{k % 3},s{k // 4}")
    if table:
        write_text(root / "labels.csv", lines)
    return root


def drawn(rng: np.random.Generator, green: int) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    """A picture (H, W, 3), and where its disc is (H, W)."""
    y, x = np.mgrid[:SIDE, :SIDE]
    centre_y, centre_x = rng.integers(10, 22, 2)
    disc = (y - centre_y) ** 2 + (x - centre_x) ** 2 < 64
    pixels = rng.integers(60, 120, (SIDE, SIDE, 3), dtype=np.uint8)
    pixels[disc] = [20, 200, 20] if green else [200, 20, 20]
    return pixels, np.asarray(disc)


def write_text(path: Path, lines: Sequence[str]) -> None:
    """A text file of these lines."""
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def edit(path: Path, old: str, new: str) -> None:
    """Replace what is there in a text file."""
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new, 1), encoding="utf-8")


def name_by_patient(root: Path, classes: Sequence[str]) -> None:
    """Give each two images of a set without a table a patient, and sort them into classes:
    images/CLASS/p07_view0.png.
    """
    for k in range(COUNT):
        target = root / "images" / classes[k % len(classes)]
        target.mkdir(exist_ok=True)
        (root / f"images/{k:03}.png").rename(target / f"p{k // 2:02}_view{k % 2}.png")
