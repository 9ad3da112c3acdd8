"""What may be wrong with a data set of one's own, done to a sound folder."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from tests.data.own.own_writer import COUNT, edit, write_text

LABELS, REGIONS = "labels.csv", "regions.csv"


class Damage(NamedTuple):
    """What is done to a sound folder, and what is said of it."""

    name: str
    do: Callable[[Path], Any]
    said: str  # a pattern
    settings: dict[str, Any] = {}  # noqa: RUF012  # which nobody changes


def in_file(name: str, old: str, new: str) -> Callable[[Path], None]:
    return lambda root: edit(root / name, old, new)


def as_bytes(name: str, content: bytes) -> Callable[[Path], Any]:
    return lambda root: (root / name).write_bytes(content)


def lines(name: str, *rows: str) -> Callable[[Path], None]:
    return lambda root: write_text(root / name, rows)


def picture(name: str, mode: str = "L", size: tuple[int, int] = (32, 32), colour: Any = 0) -> Any:
    return lambda root: Image.new(mode, size, colour).save(root / name)


def each(*steps: Callable[[Path], Any]) -> Callable[[Path], None]:
    def do(root: Path) -> None:
        for step in steps:
            step(root)

    return do


def removed(*names: str) -> Callable[[Path], None]:
    def do(root: Path) -> None:
        for name in names:
            path = root / name
            shutil.rmtree(path) if path.is_dir() else path.unlink()

    return do


def nothing(root: Path) -> None:
    pass


def truncated(root: Path) -> None:
    path = root / "images/003.png"
    path.write_bytes(path.read_bytes()[:200])


def noise(root: Path) -> None:
    (root / REGIONS).unlink()
    rng = np.random.default_rng(0)
    smooth = rng.integers(0, 256, (32, 32), dtype=np.uint8)
    Image.fromarray(smooth).save(root / "label_maps/003.png")


def coloured_among_grey(root: Path) -> None:
    (root / REGIONS).unlink()
    Image.new("RGB", (32, 32), (255, 0, 0)).save(root / "label_maps/003.png")


def two_of_one_stem(root: Path) -> None:
    Image.new("RGB", (32, 32)).save(root / "images/003.bmp")


def same_name_twice(root: Path) -> None:
    (root / "images/a").mkdir()
    shutil.copy(root / "images/003.png", root / "images/a/003.png")


def one_class_of_folders(root: Path) -> None:
    (root / LABELS).unlink()
    (root / "images/cat").mkdir()
    for path in (root / "images").glob("*.png"):
        path.rename(root / "images/cat" / path.name)


def loose_beside_folders(root: Path) -> None:
    (root / LABELS).unlink()
    for k in range(20):
        target = root / f"images/{'cat' if k % 2 else 'dog'}"
        target.mkdir(exist_ok=True)
        (root / f"images/{k:03}.png").rename(target / f"{k:03}.png")


def with_parts(*said: str) -> Callable[[Path], None]:
    def do(root: Path) -> None:
        rows = [
            f"{k:03}.png,{['red', 'green'][k % 2]},s{k // 4},{said[k % len(said)]}"
            for k in range(COUNT)
        ]
        write_text(root / LABELS, ["file,state,source,part", *rows])

    return do


SAVE = "CSV UTF-8"
DAMAGES = (
    Damage(
        "no folder",
        lambda root: shutil.rmtree(root),
        r"data\.root=.*is (not there|no folder); give the",
    ),
    Damage(
        "root is a file", each(shutil.rmtree, lambda root: root.write_text("")), r"is no folder"
    ),
    Damage("no image", removed("images"), r"no image in this folder.*labels\.csv|no image.*\.png"),
    Damage("empty table", as_bytes(LABELS, b""), r"labels\.csv: the file is empty; give a header"),
    Damage("a header alone", lines(LABELS, "file,state"), r"has a header and no row"),
    Damage(
        "UTF-16", as_bytes(LABELS, "file,state\n".encode("utf-16")), rf"UTF-16; save it as {SAVE}"
    ),
    Damage("Latin-1", as_bytes(LABELS, b"file,state\n000.png,caf\xe9\n"), rf"line 2 .*{SAVE}"),
    Damage("a spreadsheet", as_bytes(LABELS, b"PK\x03\x04"), rf"spreadsheet.*{SAVE}"),
    Damage("a zero byte", as_bytes(LABELS, b"file,state\n000.png,r\0d\n"), r"line 2 holds a zero"),
    Damage(
        "no header", lines(LABELS, "000.png,1", "001.png,0"), r"line 1 looks like a row.*name the"
    ),
    Damage(
        "a column twice",
        in_file(LABELS, ",lit,", ",state,"),
        r"line 1 names the column 'state' twi",
    ),
    Damage(
        "a column without a name", in_file(LABELS, ",lit,", ",,"), r"line 1: column 3 has no name"
    ),
    Damage(
        "a cell too many", in_file(LABELS, "003.png,", "003.png,x,"), r"line 5 has 6 cells, .* 5;"
    ),
    Damage(
        "an open quotation mark", in_file(LABELS, "003.png", '"003.png'), r"quotation mark missing"
    ),
    Damage(
        "no name of a file", in_file(LABELS, "003.png,", ","), r"line 5: column 'file' names no"
    ),
    Damage(
        "a row without its image",
        in_file(LABELS, "003.png", "x.png"),
        r"line 5: 'x.png': no such im",
    ),
    Damage(
        "a row twice", in_file(LABELS, "003.png", "002.png"), r"line 5: '002.png' is 002.*line 4"
    ),
    Damage(
        "no row of an image", lines(LABELS, "file,state", "a,red", "b,green"), r"no row's 'file' is"
    ),
    Damage(
        "no such column of files", nothing, r"no column 'nom'; its columns", {"file_column": "nom"}
    ),
    Damage(
        "no such table",
        nothing,
        r"labels_file=.*x\.csv: no such file; there",
        {"labels_file": "x.csv"},
    ),
    Damage(
        "two tables",
        lambda root: [
            (root / LABELS).rename(root / "a.csv"),
            shutil.copy(root / "a.csv", root / "b.csv"),
        ],
        r"several tables, a\.csv, b\.csv; data\.labels_file=NAME",
    ),
    Damage(
        "two images of a name",
        same_name_twice,
        r"line 5: '003.png' is|'003' is 003.png and a/003.png",
    ),
    Damage(
        "two suffixes of an image",
        two_of_one_stem,
        r"003\.png: 003\.bmp has the same name.*label_maps/",
    ),
    Damage(
        "an unknown label",
        nothing,
        r"decision\.label=colour: .*no such label; it has",
        {"label": "colour"},
    ),
    Damage(
        "no label said of several",
        nothing,
        r"decision\.label must be given: .*one of state",
        {"label": None},
    ),
    Damage(
        "a label of measurements",
        lines(LABELS, "file,state", *(f"{k:03}.png,{k / 7:.3f}" for k in range(COUNT))),
        r"'state' is no label: it has 40",
    ),
    Damage(
        "a class in two spellings",
        in_file(LABELS, "004.png,red", "004.png,Red"),
        r"line 6: .*'Red' and 'red'",
    ),
    Damage(
        "an unknown class",
        nothing,
        r"data\.classes: 'blue' is none of",
        {"classes": ["red", "blue"]},
    ),
    Damage("one class", nothing, r"at least two classes", {"classes": ["red"]}),
    Damage(
        "classes as a word", nothing, r"must be a list such as \[green,red\]", {"classes": "red"}
    ),
    Damage(
        "a rare class",
        in_file(LABELS, "002.png,red", "002.png,blue"),
        r"'blue' of .* has 1 images; leave it",
    ),
    Damage("no such group", nothing, r"has no column 'person'", {"group": "person"}),
    Damage(
        "a wrong part",
        with_parts("train", "test", "holdout"),
        r"line 4: part is 'holdout'",
        {"part": "part"},
    ),
    Damage(
        "a group in two parts",
        with_parts("train", "test"),
        r"source 's0' is in two parts: 001.png is test",
    ),
    Damage("no image to test on", with_parts("train"), r"its test part has no image"),
    Damage(
        "one group for all",
        each(*(in_file(LABELS, f",s{k // 4}\n", ",s\n") for k in range(COUNT))),
        r"leaves no image to t.*40 images in 1 groups",
    ),
    Damage("a split of nothing", nothing, r"data\.split must be shares", {"split": [1, 0, 0]}),
    Damage(
        "one folder of a class",
        one_class_of_folders,
        r"there is only 'cat'; give a second",
        {"label": None},
    ),
    Damage(
        "images beside folders",
        loose_beside_folders,
        r"lies in no folder of a class, as 20 of 40",
        {"label": None},
    ),
    Damage(
        "no label at all", removed(LABELS), r"decision\.label=state: .*no such label; it has none"
    ),
    Damage("a truncated image", truncated, r"images/003\.png: not a readable image"),
    Damage(
        "a text for an image",
        as_bytes("images/003.png", b"hello"),
        r"images/003\.png: not a readable",
    ),
    Damage(
        "an empty image file", as_bytes("images/003.png", b""), r"images/003\.png: not a readable"
    ),
    Damage(
        "an image of too few pixels",
        picture("images/003.png", "RGB", (4, 4)),
        r"003\.png: is 4x4 pixels, too",
    ),
    Damage(
        "a label map of another shape",
        picture("label_maps/003.png", size=(32, 16)),
        r"other proportions",
    ),
    Damage(
        "a label map as JPEG",
        picture("label_maps/003.jpg"),
        r"JPG changes the regions' values; save",
    ),
    Damage(
        "a label map twice",
        picture("label_maps/003.bmp"),
        r"label_maps/003\.(png|bmp): .*same image; keep",
    ),
    Damage(
        "a value of no region",
        picture("label_maps/003.png", colour=7),
        r"003\.png: holds value 7, which is no",
    ),
    Damage(
        "a label map in colours",
        picture("label_maps/003.png", "RGB", colour=(9, 0, 0)),
        r"painted in colours",
    ),
    Damage(
        "a transparent label map",
        picture("label_maps/003.png", "RGBA"),
        r"is transparent in places",
    ),
    Damage("a smoothed label map", noise, r"different values; save them as PNG without"),
    Damage(
        "colours among grey ones",
        coloured_among_grey,
        r"is painted in colours, 000\.png is of grey",
    ),
    Damage(
        "a label map of no image",
        picture("label_maps/x.png"),
        r"x\.png: is the label map of no image",
    ),
    Damage(
        "no label map of an image",
        removed(*(f"label_maps/{k:03}.png" for k in range(COUNT))),
        r"holds no label map of an image",
        {"label_maps": "own"},
    ),
    Damage(
        "regions without names", lines(REGIONS, "value", "0"), r"must have value or color, name"
    ),
    Damage(
        "a region's value twice",
        in_file(REGIONS, "255", "0"),
        r"regions\.csv: line 3: value 0 is there tw",
    ),
    Damage(
        "a region's value in words",
        in_file(REGIONS, "255", "white"),
        r"line 3: value must be a whole number",
    ),
    Damage(
        "a wrong colour", lines(REGIONS, "color,name", "#12345,a"), r"line 2: color must be #rrggbb"
    ),
    Damage(
        "a region without a name", in_file(REGIONS, "disc", ""), r"line 3: the region has no name"
    ),
    Damage(
        "a region mirrored to none",
        lines(REGIONS, "value,name,mirrored", "0,a,c", "255,b,"),
        r"'c' is no reg",
    ),
    Damage(
        "regions that do not swap",
        lines(REGIONS, "value,name,mirrored", "0,a,b", "255,b,"),
        r"a becomes b, but",
    ),
    Damage(
        "a grid of too many cells", nothing, r"a grid has 2 to 64 cells", {"label_maps": "grid:9x9"}
    ),
    Damage(
        "an unknown form of regions",
        nothing,
        r"label_maps=voronoi is no folder; it may",
        {"label_maps": "voronoi"},
    ),
)
