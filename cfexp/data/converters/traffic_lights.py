"""Photographs of traffic lights with boxes (cinTA_v2 of Roboflow Universe, CC BY 4.0), as a data
set of one's own: crops, their state, and label maps.
"""

import csv
from collections.abc import Iterator
from math import ceil, isfinite
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from rich.progress import track

from cfexp.data.converters.folder import whole_folder
from cfexp.data.reading.images import PICTURES, read_rgb
from cfexp.errors import InputError

STATES = {0: "green", 1: "red"}  # yellow (2) is left out: too few, and neither stop nor go
PARTS = ("train", "valid", "test")  # the folders as they were exported
REGIONS = ("background", "housing", "lamp")
_REMEDY = "give the folder as it was exported, with train, valid, test and data.yaml"
# Of the longer side of a box: some of what surrounds a traffic light is seen.
_MARGIN = 1.3
# A smaller box has a lamp of three pixels.
_LEAST_PIXELS = 28
# Of a crop's side: beyond the rim of a photograph its rows would go on as streaks.
_BLUR = 0.05
# Of a colour that is not grey, and of a lamp that is more than noise: of these photographs.
_SATURATION, _CHROMA, _LEAST_LAMP = 0.25, 0.12, 0.008
_HUES = {"red": ((0, 22), (335, 360)), "green": ((95, 190),)}  # degrees

ATTRIBUTION = """Traffic lights: photographs of the data set "cinTA_v2" by Wawan Pradana,
https://universe.roboflow.com/wawan-pradana/cinta_v2 (CC BY 4.0,
https://creativecommons.org/licenses/by/4.0/). Changed by cfexp: cropped around each light,
beyond a photograph's rim with more of the background, resized, and lights that lie turned upright;
the label maps were made from the boxes and from the colours of the pixels.
"""


class Light(NamedTuple):
    """A box of a photograph."""

    state: str
    box: tuple[float, float, float, float]  # left, top, right, bottom in pixels


def convert_traffic_lights(source: Path, out: Path, size: int = 64) -> None:
    """Write cinTA_v2 (999 photographs of traffic lights, CC BY 4.0) as data=own: crops with label
    maps, red or green.

    source: the folder as it is exported in YOLO's form. A crop has 1.3 times the longer side of its
    box, where that has 28 pixels or more, `size` x `size` pixels, and the light in its middle;
    beyond the photograph's rim the background goes on, blurred (`fill_beyond`). A light that lies
    is turned upright. Regions: background, housing (the box), lamp (in the box, of the hue of the
    state; absent where it is not found).
    `labels.csv` has the columns file, state and group, the photograph. `out` is complete or absent.
    Raises InputError for what is missing or wrong.
    """
    source = source.expanduser()
    photographs = [path for part in PARTS for path in _photographs(source / part / "images")]
    if not photographs:
        raise InputError(f"{source}: no photograph in {', '.join(PARTS)}; {_REMEDY}")
    rows: list[tuple[str, str, str]] = []
    found = 0
    with whole_folder(out) as folder:
        for name in ("images", "label_maps"):
            (folder / name).mkdir()
        for path in track(photographs, description="cutting out the lights"):
            picture = read_rgb(path)
            for number, light in enumerate(_lights(path, picture.size)):
                name = f"{path.stem}_{number}"
                crop, label_map = cut_out(picture, light, size)
                crop.save(folder / "images" / f"{name}.png")
                Image.fromarray(label_map).save(folder / "label_maps" / f"{name}.png")
                rows.append((f"{name}.png", light.state, path.stem))
                found += bool((label_map == REGIONS.index("lamp")).any())
        _write_table(folder / "labels.csv", [("file", "state", "group"), *rows])
        named = [(str(value), name) for value, name in enumerate(REGIONS)]
        _write_table(folder / "regions.csv", [("value", "name"), *named])
        (folder / "ATTRIBUTION.txt").write_text(ATTRIBUTION, encoding="utf-8")
    print(f"{len(rows)} lights on {len(photographs)} photographs; the lamp was found on {found}")


def cut_out(picture: Image.Image, light: Light, size: int) -> tuple[Image.Image, NDArray[np.uint8]]:
    """The square with a light amid it, and its (size, size) label map of indices into REGIONS.

    What lies beyond the photograph's rim is filled in, see `fill_beyond`, and is background. A
    light that is wider than high is turned by a quarter, its left end down: in most of these
    photographs that is where green is. Which lamp is lit has no say in it.
    """
    left, top, right, bottom = light.box
    side = _MARGIN * max(right - left, bottom - top)
    x, y = (left + right - side) / 2, (top + bottom - side) / 2
    rim = ceil(max(0, -x, -y, x + side - picture.width, y + side - picture.height))
    widened = Image.fromarray(np.pad(np.asarray(picture), ((rim, rim), (rim, rim), (0, 0)), "edge"))
    box = (x + rim, y + rim, x + rim + side, y + rim + side)
    pixels = np.asarray(widened.resize((size, size), Image.Resampling.LANCZOS, box=box))
    scale = size / side
    columns = slice(max(round((left - x) * scale), 0), max(round((right - x) * scale), 0))
    rows = slice(max(round((top - y) * scale), 0), max(round((bottom - y) * scale), 0))
    label_map = np.zeros((size, size), dtype=np.uint8)
    label_map[rows, columns] = REGIONS.index("housing")
    middles = (np.arange(size) + 0.5) / scale
    seen_rows = (y + middles > 0) & (y + middles < picture.height)
    seen_columns = (x + middles > 0) & (x + middles < picture.width)
    seen = seen_rows[:, None] & seen_columns
    pixels = fill_beyond(pixels, seen, (label_map > 0) & seen)
    label_map[~seen] = REGIONS.index("background")  # a box ends at the rim; here its rounding does
    lamp = lamp_of(pixels, light.state, label_map > 0)
    label_map[lamp] = REGIONS.index("lamp")
    if right - left > bottom - top:
        pixels, label_map = np.rot90(pixels), np.rot90(label_map)
    return Image.fromarray(np.ascontiguousarray(pixels)), np.ascontiguousarray(label_map)


def fill_beyond(
    pixels: NDArray[np.uint8], seen: NDArray[np.bool_], light: NDArray[np.bool_]
) -> NDArray[np.uint8]:
    """Pixels (H, W, 3) of which those that the photograph does not hold are those of the nearest
    background in it, blurred. A mirror image would show a second light, and the rim's own pixels,
    carried on, the streaks of a lamp. Without any background: as they came.

    seen: (H, W), which pixels the photograph holds; light: which of them are a light's.
    """
    background = seen & ~light
    if seen.all() or not background.any():
        return pixels
    ndimage = _ndimage()
    rows, columns = ndimage.distance_transform_edt(
        ~background, return_distances=False, return_indices=True
    )
    blur = (pixels.shape[0] * _BLUR, pixels.shape[1] * _BLUR, 0)
    blurred = ndimage.gaussian_filter(pixels[rows, columns].astype(np.float64), blur)
    return np.where(seen[:, :, None], pixels, blurred.round().astype(np.uint8))


def lamp_of(pixels: NDArray[np.uint8], state: str, inside: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Where the lamp is: the largest connected part inside the box that has the state's hue, its
    holes filled (the middle of a lamp is often white). All False where it is too small.

    pixels: (H, W, 3) RGB in 0..255; inside: (H, W).
    """
    ndimage = _ndimage()
    labels, count = ndimage.label(has_hue(pixels, state) & inside, np.ones((3, 3)))
    if not count:
        return np.zeros_like(inside)
    largest = labels == 1 + np.bincount(labels.ravel())[1:].argmax()
    lamp: NDArray[np.bool_] = ndimage.binary_fill_holes(largest) & inside
    return lamp if lamp.mean() >= _LEAST_LAMP else np.zeros_like(inside)


def has_hue(pixels: NDArray[np.uint8], state: str) -> NDArray[np.bool_]:
    """Which of the (..., 3) RGB pixels in 0..255 have the hue of a red or of a green lamp."""
    rgb = pixels / 255.0
    largest, chroma = rgb.max(-1), np.ptp(rgb, -1)
    red, green, blue = np.moveaxis(rgb, -1, 0)
    some = np.maximum(chroma, 1e-6)
    sixths = np.where(
        largest == red,
        (green - blue) / some % 6,
        np.where(largest == green, (blue - red) / some + 2, (red - green) / some + 4),
    )
    degrees = 60 * sixths
    of_hue = np.any([(low <= degrees) & (degrees <= high) for low, high in _HUES[state]], axis=0)
    colored = (chroma > _SATURATION * largest) & (chroma > _CHROMA)
    return np.asarray(of_hue & colored)


def _ndimage() -> ModuleType:
    """Of scipy; raises InputError without it."""
    try:
        from scipy import ndimage
    except ImportError:
        raise InputError("scipy is not installed; run: pip install 'cfexp[convert]'") from None
    module: ModuleType = ndimage
    return module


def _photographs(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES)


def _lights(path: Path, size: tuple[int, int]) -> Iterator[Light]:
    """The red and green boxes of a photograph that are large enough."""
    labels = path.parent.with_name("labels") / f"{path.stem}.txt"
    try:
        lines = labels.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(f"{labels}: no such file; {_REMEDY}") from None
    except UnicodeDecodeError:
        raise InputError(f"{labels}: is no text; {_REMEDY}") from None
    for number, line in enumerate(lines, start=1):
        if line.strip():
            state, box = _box(line.split(), size, f"{labels}, line {number}")
            if state in STATES and max(box[2] - box[0], box[3] - box[1]) >= _LEAST_PIXELS:
                yield Light(STATES[state], box)


def _box(
    fields: list[str], size: tuple[int, int], place: str
) -> tuple[int, tuple[float, float, float, float]]:
    """The class and the box in pixels of `class x y width height`, or of a class and a polygon."""
    try:
        state, values = int(fields[0]), [float(field) for field in fields[1:]]
    except ValueError:
        raise InputError(f"{place}: expected numbers, got {' '.join(fields)!r}") from None
    polygon = len(values) >= 6 and len(values) % 2 == 0
    if not (len(values) == 4 or polygon) or not all(isfinite(v) and -1 <= v <= 2 for v in values):
        raise InputError(
            f"{place}: expected a class and x, y, width, height (or a polygon) in 0..1, "
            f"got {' '.join(fields)!r}"
        )
    width, height = size
    if polygon:
        x, y = values[0::2], values[1::2]
        sides = (min(x), min(y), max(x), max(y))
    else:
        x_mid, y_mid, w, h = values
        sides = (x_mid - w / 2, y_mid - h / 2, x_mid + w / 2, y_mid + h / 2)
    left, top, right, bottom = (min(max(side, 0.0), 1.0) for side in sides)
    return state, (left * width, top * height, right * width, bottom * height)


def _write_table(path: Path, rows: list[tuple[str, ...]]) -> None:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
