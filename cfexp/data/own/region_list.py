"""The regions of label maps of one's own: by `regions.csv`, or by the values in the files."""

import json
import re
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cfexp.data.own.folder import LOSSLESS
from cfexp.data.own.table import Table, listed, read_table
from cfexp.data.reading.images import read_picture
from cfexp.errors import InputError
from cfexp.whole_files import write_whole

FORMATS = ("PNG", "BMP", "TIFF", "GIF")
# More than these are no regions: a photograph, or edges that were smoothed.
MOST_REGIONS = 64
_NAMES = {"name": "name", "region": "name", "label": "name", "class": "name"}
_COLUMNS = {
    **_NAMES,
    **dict.fromkeys(("value", "id", "index", "grey", "gray"), "value"),
    **dict.fromkeys(("color", "colour", "rgb", "hex"), "color"),
    **dict.fromkeys(("mirrored", "mirror", "swap", "swaps_with"), "mirrored"),
}
_HEX = re.compile(r"#?([0-9a-fA-F]{6})")
_IN_FILES = "what the files hold"
Color = tuple[int, int, int]


class RegionList(NamedTuple):
    """R regions, and by what they are known in the files: values, or colours."""

    names: tuple[str, ...]
    values: Mapping[int, int]  # the region of each grey value or palette index
    colors: Mapping[Color, int]  # or of each colour; one of the two is empty
    mirrored: tuple[int, ...] | None  # the region that takes each one's place; None = all stay
    source: str  # what says so, for messages

    @property
    def in_colors(self) -> bool:
        """Whether label maps are painted in colours."""
        return bool(self.colors)

    def regions_of(self, picture: Image.Image, name: object) -> NDArray[np.uint8]:
        """(H, W), the region of each pixel of a label map as it is stored; raises InputError, which
        begins with `name`, for a value that stands for none.
        """
        keys, inverse = _distinct(picture, name, self.in_colors)
        known: Mapping[Any, int] = self.colors or self.values
        regions = np.zeros(len(keys), np.uint8)
        for place, key in enumerate(keys):
            if key not in known:
                many = f" ({len(keys)} different ones)" if len(keys) > MOST_REGIONS else ""
                remedy = f"{self.source} knows {listed([*map(_shown, known)])}"
                raise InputError(f"{name}: holds {_shown(key)}{many}, which is no region; {remedy}")
            regions[place] = known[key]
        label_map: NDArray[np.uint8] = regions[inverse]
        return label_map


def read_regions(path: Path) -> RegionList:
    """`regions.csv`: the columns `value` or `color`, `name`, and if any swap `mirrored`, the name
    of the region that takes this one's place in a mirrored image.

    Raises InputError, which names the line, for whatever is wrong.
    """
    table = read_table(path)
    columns = {_COLUMNS[name.casefold()]: name for name in table.columns if _is_known(name)}
    by = [each for each in ("value", "color") if each in columns]
    if "name" not in columns or len(by) != 1:
        problem = f"has the columns {', '.join(table.columns)}"
        raise InputError(f"{path}: {problem}; it must have value or color, name, and may mirrored")
    names = table.values(columns["name"])
    seen: dict[Any, int] = {}
    for place, ((line, _), cell) in enumerate(
        zip(table.rows, table.values(columns[by[0]]), strict=True)
    ):
        key = _value(path, line, cell) if by[0] == "value" else _color(path, line, cell)
        if key in seen:
            raise InputError(f"{path}: line {line}: {_shown(key)} is there twice")
        seen[key] = place
    numbers = _numbered(table, names)
    if len(numbers) > 255:
        raise InputError(f"{path}: names {len(numbers)} regions; at most 255 can be told apart")
    regions = {key: numbers[names[place]] for key, place in seen.items()}
    mirrored = None
    if "mirrored" in columns:
        mirrored = _mirrored(table, numbers, names, table.values(columns["mirrored"]))
    as_colors = by[0] == "color"
    return RegionList(
        tuple(numbers),
        {} if as_colors else regions,
        regions if as_colors else {},
        mirrored,
        path.name,
    )


def found_regions(files: Iterable[Path]) -> RegionList:
    """The regions of label maps without a list: each value that the files hold, named by it.

    Raises InputError for files of several kinds, and for more values than regions have.
    """
    keys: dict[Any, None] = {}
    first: tuple[Path, bool] | None = None
    for path in files:
        picture = open_label_map(path)
        colored = _is_colored(picture)
        if first is None:
            first = path, colored
        elif first[1] != colored:
            kinds = {True: "painted in colours", False: "of grey values"}
            raise InputError(
                f"{path}: is {kinds[colored]}, {first[0].name} is {kinds[first[1]]}; "
                "regions.csv (value or color, name) says which counts"
            )
        keys |= dict.fromkeys(_distinct(picture, path, colored)[0])
        if len(keys) > MOST_REGIONS:
            problem = f"with it the label maps hold {len(keys)} different values"
            remedy = "save them as PNG without smoothing, or name the true ones in regions.csv"
            raise InputError(f"{path}: {problem}; {remedy}")
    ordered = sorted(keys)
    numbers = {key: place for place, key in enumerate(ordered)}
    colored = first is not None and first[1]
    names = tuple(
        "color_{:02x}{:02x}{:02x}".format(*key) if colored else f"value_{key}" for key in ordered
    )
    return RegionList(
        names, {} if colored else numbers, numbers if colored else {}, None, _IN_FILES
    )


def found_once(files: Iterable[Path], kept: Path) -> RegionList:
    """`found_regions`, looked for once and kept in a file."""
    if kept.is_file():
        names, keys, colored = json.loads(kept.read_text(encoding="utf-8"))
        numbers: dict[Any, int] = {
            tuple(key) if colored else key: place for place, key in enumerate(keys)
        }
        values, colors = ({}, numbers) if colored else (numbers, {})
        return RegionList(tuple(names), values, colors, None, _IN_FILES)
    found = found_regions(files)
    with suppress(OSError):
        kept.parent.mkdir(parents=True, exist_ok=True)
        keys = [*(found.colors or found.values)]
        write_whole(kept, json.dumps([found.names, keys, found.in_colors]))
    return found


def numbered_regions(folder: Path) -> RegionList:
    """The regions of a folder of maps whose values are numbers, `region_0` on; raises InputError
    for a folder without any, and for values that are none.
    """
    highest = -1
    for path in sorted(folder.glob("*.png")):
        highest = max(highest, *_distinct(open_label_map(path), path, False)[0])
        if highest >= MOST_REGIONS:
            remedy = "give regions.csv in data.root"
            raise InputError(
                f"{path}: holds value {highest}, too many regions to be numbers; {remedy}"
            )
    if highest < 0:
        raise InputError(f"{folder}: no label map in this folder; give {{image}}.png")
    names = tuple(f"region_{number}" for number in range(highest + 1))
    values = {number: number for number in range(highest + 1)}
    return RegionList(names, values, {}, None, _IN_FILES)


def open_label_map(path: Path) -> Image.Image:
    """A label map as it is stored; raises InputError."""
    return read_picture(path, FORMATS, remedy=f"label maps are {', '.join(LOSSLESS)}")


def _is_colored(picture: Image.Image) -> bool:
    if picture.mode not in ("RGB", "RGBA"):
        return False
    pixels = np.asarray(picture)
    return bool((pixels[..., :1] != pixels[..., 1:3]).any())


def _distinct(picture: Image.Image, name: object, colored: bool) -> tuple[list[Any], NDArray[Any]]:
    """The values or colours of a label map, and for each pixel (H, W) which of them it has."""
    if picture.mode in ("RGBA", "LA"):
        if picture.getchannel("A").getextrema() != (255, 255):
            raise InputError(f"{name}: is transparent in places; save it without an alpha channel")
        picture = picture.convert(picture.mode[:-1])
    if colored:
        if picture.mode not in ("RGB", "P"):
            problem = f"has mode {picture.mode}, but regions are told by colour"
            raise InputError(f"{name}: {problem}; save it as RGB, or give values in regions.csv")
        pixels = np.asarray(picture.convert("RGB")).astype(np.int64)
        codes = pixels[..., 0] << 16 | pixels[..., 1] << 8 | pixels[..., 2]
    elif picture.mode == "RGB":
        if _is_colored(picture):
            problem = "is painted in colours, but regions are told by value"
            raise InputError(f"{name}: {problem}; give colours in regions.csv (color, name)")
        codes = np.asarray(picture)[..., 0].astype(np.int64)
    elif picture.mode in ("L", "P", "1") or picture.mode.startswith("I"):
        codes = np.asarray(picture).astype(np.int64)
    else:
        raise InputError(f"{name}: a label map is grey, palette or RGB, got mode {picture.mode}")
    found, inverse = np.unique(codes, return_inverse=True)
    keys = [
        (code >> 16, code >> 8 & 255, code & 255) if colored else code for code in found.tolist()
    ]
    return keys, inverse.reshape(codes.shape)


def _is_known(column: str) -> bool:
    return column.casefold() in _COLUMNS


def _value(path: Path, line: int, cell: str) -> int:
    number = cell.removesuffix(".0")
    if not number.isdecimal() or int(number) > 0xFFFF:
        raise InputError(
            f"{path}: line {line}: value must be a whole number 0..65535, got {cell!r}"
        )
    return int(number)


def _color(path: Path, line: int, cell: str) -> Color:
    if (match := _HEX.fullmatch(cell)) is not None:
        code = int(match[1], 16)
        return code >> 16, code >> 8 & 255, code & 255
    parts = [part for part in re.split(r"[\s,;()\[\]]+", cell) if part]
    if len(parts) != 3 or not all(part.isdecimal() and int(part) < 256 for part in parts):
        expected = "#rrggbb, or 'r g b' of 0..255"
        raise InputError(f"{path}: line {line}: color must be {expected}, got {cell!r}")
    red, green, blue = map(int, parts)
    return red, green, blue


def _numbered(table: Table, names: list[str]) -> dict[str, int]:
    """The number of each region; several values may have one name."""
    for (line, _), name in zip(table.rows, names, strict=True):
        if not name:
            raise InputError(f"{table.path}: line {line}: the region has no name")
        if any(character in name for character in ",[]{}"):
            problem = f"{name!r} cannot be named on a command line"
            raise InputError(f"{table.path}: line {line}: {problem}; leave out commas and brackets")
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


def _mirrored(
    table: Table, numbers: Mapping[str, int], names: list[str], partners: list[str]
) -> tuple[int, ...] | None:
    swapped = {name: name for name in numbers}
    for (line, _), name, partner in zip(table.rows, names, partners, strict=True):
        if partner and partner not in numbers:
            raise InputError(f"{table.path}: line {line}: mirrored={partner!r} is no region's name")
        if partner:
            swapped[name] = partner
    for (line, _), name in zip(table.rows, names, strict=True):
        if swapped[swapped[name]] != name:
            back = f"{swapped[name]} becomes {swapped[swapped[name]]}"
            raise InputError(
                f"{table.path}: line {line}: {name} becomes {swapped[name]}, but {back}"
            )
    if all(name == other for name, other in swapped.items()):
        return None
    return tuple(numbers[swapped[name]] for name in numbers)


def _shown(key: Any) -> str:
    return "colour #{:02x}{:02x}{:02x}".format(*key) if isinstance(key, tuple) else f"value {key}"
