"""Label maps for images that have none: one region, a grid, or superpixels that are grouped by
colour and place.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cfexp.errors import InputError
from cfexp.whole_files import whole_file, write_whole

WHOLE = "image"  # the one region of a whole image
_GRID = re.compile(r"grid:(\d{1,2})x(\d{1,2})")
_SUPERPIXELS = re.compile(r"superpixels(?::(\d{1,3}))?")
MOST_CELLS = 64
CLUSTERS, MOST_CLUSTERS = 6, 32
# A superpixel of the image's size over this; SLIC makes about so many.
SEGMENTS, COMPACTNESS = 60, 10.0
# What a superpixel's place counts against its colour: Lab's units are a hundred, places' one.
PLACE = 20.0
MOST_FITTED = 20_000  # superpixels of the whole data set that k-means sees
TRIES = 5  # of k-means, from other starts; the closest counts
_WHOLE_FILE = "whole.txt"


class Grid(NamedTuple):
    """So many cells down and across."""

    rows: int
    columns: int

    @property
    def names(self) -> tuple[str, ...]:
        """`row1_column1` at the upper left, by rows."""
        return tuple(
            f"row{row + 1}_column{column + 1}"
            for row in range(self.rows)
            for column in range(self.columns)
        )

    @property
    def mirrored(self) -> tuple[int, ...]:
        """Which cell takes the place of each in a mirrored image."""
        cells = np.arange(self.rows * self.columns).reshape(self.rows, self.columns)
        return tuple(cells[:, ::-1].ravel().tolist())

    def label_map(self, image_size: Sequence[int]) -> NDArray[np.uint8]:
        """(H, W), the cell of each pixel."""
        height, width = image_size
        rows = np.arange(height) * self.rows // height
        columns = np.arange(width) * self.columns // width
        return (rows[:, None] * self.columns + columns[None]).astype(np.uint8)


class Superpixels(NamedTuple):
    """Of so many kinds."""

    clusters: int

    @property
    def names(self) -> tuple[str, ...]:
        """`kind1`, the darkest, and on."""
        return tuple(f"kind{place + 1}" for place in range(self.clusters))


Made = Grid | Superpixels


def made_by(setting: str) -> Made | None:
    """What `grid:ROWSxCOLUMNS`, `superpixels` and `superpixels:KINDS` ask for; None for another
    word. Raises InputError for numbers out of range.
    """
    if (match := _GRID.fullmatch(setting)) is not None:
        grid = Grid(int(match[1]), int(match[2]))
        if not 1 < grid.rows * grid.columns <= MOST_CELLS:
            raise InputError(f"{setting}: a grid has 2 to {MOST_CELLS} cells, such as grid:4x4")
        return grid
    if (match := _SUPERPIXELS.fullmatch(setting)) is not None:
        found = Superpixels(int(match[1] or CLUSTERS))
        if not 2 <= found.clusters <= MOST_CLUSTERS:
            raise InputError(f"{setting}: 2 to {MOST_CLUSTERS} kinds, such as superpixels:6")
        return found
    return None


def write_superpixels(
    images: Mapping[str, Callable[[], Image.Image]], clusters: int, folder: Path
) -> None:
    """Write `folder`/{image id}.png, the kind of each pixel's superpixel, for every image; once.

    Superpixels by SLIC (Achanta et al. 2012); their kinds by k-means of mean colour (Lab) and place
    over all images, the darkest first. images: by id, what opens each at the networks' size, and
    raises InputError for one that cannot be read, which gets no file. Raises InputError where
    scikit-image is not installed.
    """
    if (folder / _WHOLE_FILE).is_file():
        return
    try:
        from scipy.cluster.vq import kmeans2, vq
        from skimage.color import rgb2lab
        from skimage.segmentation import slic
    except ImportError:
        raise InputError(
            "superpixels are made by scikit-image: pip install 'cfexp[superpixels]'; or grid:4x4"
        ) from None
    folder.mkdir(parents=True, exist_ok=True)

    def of_image(pixels: NDArray[Any]) -> tuple[NDArray[Any], NDArray[Any]]:
        segments = slic(pixels, SEGMENTS, COMPACTNESS, start_label=0, channel_axis=2)
        _, segments = np.unique(segments, return_inverse=True)
        segments = segments.reshape(pixels.shape[:2])
        height, width = pixels.shape[:2]
        rows, columns = np.mgrid[:height, :width]
        places = PLACE * np.stack([rows / height, columns / width], -1)
        told = np.concatenate([rgb2lab(pixels), places], -1).reshape(-1, 5)
        flat = segments.ravel()
        counts = np.bincount(flat)[:, None]
        sums = np.stack([np.bincount(flat, told[:, each]) for each in range(5)], 1)
        return segments, sums / counts

    found: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
    for image_id, opened in images.items():
        try:
            found[image_id] = of_image(np.asarray(opened()))
        except InputError:  # who reads it says so
            continue
    features = np.concatenate([told for _, told in found.values()])
    generator = np.random.default_rng(0)
    fitted = features
    if len(features) > MOST_FITTED:
        fitted = features[generator.choice(len(features), MOST_FITTED, replace=False)]
    tries = [kmeans2(fitted, clusters, minit="++", seed=generator)[0] for _ in range(TRIES)]
    centres = min(tries, key=lambda each: float(np.square(vq(fitted, each)[1]).sum()))
    centres = centres[np.argsort(centres[:, 0])]
    for image_id, (segments, told) in found.items():
        kinds = vq(told, centres)[0].astype(np.uint8)
        with whole_file(folder / f"{image_id}.png") as partial:
            Image.fromarray(kinds[segments]).save(partial, format="PNG")
    write_whole(folder / _WHOLE_FILE, f"{len(found)} images, {clusters} kinds\n")
