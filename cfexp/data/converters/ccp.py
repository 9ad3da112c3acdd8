"""Clothing Co-Parsing (Yang, Luo, Lin, CVPR 2014): photographs of people with label maps of their
clothes, as VQAv1 questions about colours.
"""

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from cfexp.data.converters.folder import whole_folder
from cfexp.data.converters.vqa_files import AskedObject, Origin, Row, save_image, write_split
from cfexp.data.own.region_list import RegionList, read_regions
from cfexp.data.questions.files import SPLITS, Split
from cfexp.data.reading.images import read_picture, read_rgb
from cfexp.errors import InputError
from cfexp.metrics.functional import nearest_color

# The colours an answer can name, and what stands for each: RGB in 0..255.
PALETTE: dict[str, tuple[int, int, int]] = {
    "black": (30, 30, 33),
    "gray": (125, 125, 128),
    "white": (232, 232, 232),
    "brown": (105, 70, 48),
    "beige": (205, 180, 150),
    "red": (175, 35, 45),
    "pink": (225, 140, 160),
    "orange": (220, 115, 45),
    "yellow": (220, 190, 70),
    "green": (70, 110, 70),
    "blue": (55, 80, 130),
    "purple": (105, 60, 115),
}
# A garment has a colour where so much of it lies so near (in RGB of 0..255) to its median: of four
# garments three do, and a striped one does not.
_AGREEING, _NEAR = 0.6, 75
_LEAST_AREA = 0.006  # of the photograph: at a model's 64 pixels, 25 of them
# What nobody asks the colour of, or what is too small to be seen at a model's size.
_NOTHING = "null"  # the region of all that has no name
_NO_GARMENT = (
    _NOTHING, "skin", "hair", "accessories", "bracelet", "earrings", "glasses", "necklace", "ring",
    "watch", "wallet", "sunglasses", "pumps", "intimate",
)  # fmt: skip
VAL_SHARE = 0.25  # of the photographs
_REMEDY = "give a folder with images, label_maps and regions.csv (value,name)"


def convert_ccp(source: Path, out: Path, seed: int = 0) -> None:
    """Write Clothing Co-Parsing (1,004 photographs of people with label maps) as VQAv1: `what color
    is the dress?`.

    source: a folder with `images`, `label_maps` (grey values, the same stems) and `regions.csv`.
    The answer is the name of the median colour inside the garment's region, where 60 % of its
    pixels are near that colour and it covers 0.6 % of the photograph: so answers are read from
    pixels, not given by people. The regions stand in the scene graphs, as truth. Photographs are
    made square by their border's median colour, so that nothing of a person is cut off; a quarter
    of them, chosen by `seed`, becomes val2014. `out` is complete or absent. Raises InputError for
    what is missing.
    """
    source = source.expanduser()
    regions = read_regions(source / "regions.csv")
    photographs = sorted((source / "images").glob("*.jpg"))
    if not photographs:
        raise InputError(f"{source}: no photograph in {source / 'images'}; {_REMEDY}")
    origin = Origin(
        "Clothing Co-Parsing as VQA v1.0",
        "https://github.com/bearpaw/clothing-co-parsing",
        "Apache-2.0",
        "https://www.apache.org/licenses/LICENSE-2.0",
    )
    chosen = np.random.default_rng(seed).permutation(len(photographs))
    val = set(chosen[: round(len(photographs) * VAL_SHARE)].tolist())
    rows: dict[Split, list[Row]] = {split: [] for split in SPLITS}
    images = dict.fromkeys(SPLITS, 0)
    with whole_folder(out) as folder:
        for index, path in enumerate(track(photographs, description="reading the clothes")):
            picture, places = _opened(path, source / "label_maps" / f"{path.stem}.png", regions)
            things = list(garments(picture, places, regions.names))
            if not things:
                continue
            split = SPLITS[index in val]
            save_image(folder, split, images[split], picture)
            rows[split] += [
                Row(images[split], f"what color is the {thing.name}?", [thing.color], thing)
                for thing in things
            ]
            images[split] += 1
        for split in SPLITS:
            write_split(folder, split, rows[split], origin, PALETTE)
    asked = ", ".join(f"{len(rows[s])} on {images[s]} photographs in {s}" for s in SPLITS)
    print(f"questions: {asked}")


def garments(
    picture: Image.Image, regions: NDArray[np.uint8], names: Sequence[str]
) -> Iterator[AskedObject]:
    """What can be asked the colour of: each garment large and plain enough to have one.

    regions: (H, W) places in `names`, of the picture's size.
    """
    pixels = np.asarray(picture.convert("RGB"), dtype=float)
    for value in np.unique(regions).tolist():
        name, mask = names[value], regions == value
        if name in _NO_GARMENT or mask.mean() < _LEAST_AREA:
            continue
        of_garment = pixels[mask]
        near = np.linalg.norm(of_garment - np.median(of_garment, axis=0), axis=1) < _NEAR
        if near.mean() >= _AGREEING:
            color = nearest_color(torch.from_numpy(of_garment / 255), PALETTE)
            yield AskedObject(name, color, mask)


def _opened(
    image: Path, label_map: Path, listed: RegionList
) -> tuple[Image.Image, NDArray[np.uint8]]:
    """A photograph and the region of each of its pixels, both made square."""
    picture, drawn = read_rgb(image), read_picture(label_map, remedy=_REMEDY)
    if drawn.size != picture.size:
        expected = f"{picture.width}x{picture.height}, as {image.name} is"
        got = f"{drawn.width}x{drawn.height}"
        raise InputError(f"{label_map}: must be {expected}, got {got}; {_REMEDY}")
    regions = listed.regions_of(drawn, label_map)
    side = max(picture.size)
    corner = ((side - picture.width) // 2, (side - picture.height) // 2)
    pixels = np.asarray(picture)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    red, green, blue = np.median(border, axis=0).astype(int).tolist()
    square = Image.new("RGB", (side, side), (red, green, blue))
    square.paste(picture, corner)
    around = Image.new("L", (side, side), listed.names.index(_NOTHING))
    around.paste(Image.fromarray(regions), corner)
    return square, np.asarray(around)
