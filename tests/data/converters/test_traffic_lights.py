import csv
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageDraw

from cfexp.data.converters.traffic_lights import (
    REGIONS,
    Light,
    convert_traffic_lights,
    cut_out,
    has_hue,
)
from cfexp.errors import InputError

REAL = Path(__file__).parents[4] / "shared" / "real" / "traffic_lights"
COLORS = {0: (40, 220, 90), 1: (230, 40, 40), 2: (240, 200, 40)}


def write_photograph(folder: Path, name: str, state: int, boxes: str | None = None) -> None:
    """A sky of 400 x 400 with one black housing of 40 x 80 and a round lamp in it."""
    for kind in ("images", "labels"):
        (folder / kind).mkdir(parents=True, exist_ok=True)
    picture = Image.new("RGB", (400, 400), (120, 160, 220))
    draw = ImageDraw.Draw(picture)
    draw.rectangle((180, 160, 219, 239), fill=(25, 25, 25))
    draw.ellipse((190, 170, 209, 189), fill=COLORS[state])
    picture.save(folder / "images" / f"{name}.jpg", quality=95, subsampling=0)
    text = f"{state} 0.5 0.5 0.1 0.2\n" if boxes is None else boxes
    (folder / "labels" / f"{name}.txt").write_text(text)


def read_table(path: Path) -> list[list[str]]:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def test_each_red_or_green_light_is_a_crop_with_its_lamp(tmp_path: Path) -> None:
    write_photograph(tmp_path / "in" / "train", "a", 0)
    write_photograph(tmp_path / "in" / "valid", "b", 1, "1 .45 .4 .55 .4 .55 .6 .45 .6\n")
    write_photograph(tmp_path / "in" / "test", "c", 2)  # yellow: left out
    write_photograph(tmp_path / "in" / "test", "d", 0, "0 0.5 0.5 0.02 0.05\n")  # 20 pixels
    out = tmp_path / "out"
    convert_traffic_lights(tmp_path / "in", out)
    table = read_table(out / "labels.csv")
    assert table == [["file", "state", "group"], ["a_0.png", "green", "a"], ["b_0.png", "red", "b"]]
    assert read_table(out / "regions.csv")[1:] == [["0", "background"], ["1", "housing"], ["2", "lamp"]]  # fmt: skip  # noqa: E501
    assert "CC BY 4.0" in (out / "ATTRIBUTION.txt").read_text()
    for name, color in (("a_0", 0), ("b_0", 1)):
        with Image.open(out / "images" / f"{name}.png") as crop:
            pixels = np.asarray(crop).astype(int)
        with Image.open(out / "label_maps" / f"{name}.png") as label_map:
            regions = np.asarray(label_map)
        assert pixels.shape == (64, 64, 3)
        assert regions.shape == (64, 64)
        # A crop has 104 pixels a side: a housing of 25 x 49, a lamp of 12 across.
        assert 0.25 < (regions > 0).mean() < 0.33
        assert 0.02 < (regions == 2).mean() < 0.035
        median = np.median(pixels[regions == 2], axis=0)
        assert np.abs(median - COLORS[color]).max() < 20


def test_a_light_at_the_rim_is_amid_its_crop_and_the_background_goes_on() -> None:
    photograph = np.full((40, 50, 3), (120, 160, 220), np.uint8)
    photograph[10:30, :10] = (25, 25, 25)
    photograph[12:20, :8] = COLORS[1]
    crop, regions = cut_out(Image.fromarray(photograph), Light("red", (0, 10, 10, 30)), 26)
    pixels = np.asarray(crop).astype(int)  # a pixel of it is one of the photograph
    light = np.argwhere(regions > 0)
    assert (light.min(0).tolist(), light.max(0).tolist()) == ([3, 8], [22, 17])
    assert (regions == REGIONS.index("lamp")).sum() == 64
    assert np.abs(pixels[:, :8] - (120, 160, 220)).max() <= 1  # not red, nor black
    assert np.abs(pixels[:, 18:] - (120, 160, 220)).max() <= 1


@pytest.mark.parametrize("lit", ["left", "right"])
def test_a_light_that_lies_is_turned_upright_whichever_lamp_is_lit(lit: str) -> None:
    photograph = np.full((40, 50, 3), (120, 160, 220), np.uint8)
    photograph[15:25, 15:35] = (25, 25, 25)
    photograph[16:24, 15:21] = COLORS[0 if lit == "left" else 1]
    state = "green" if lit == "left" else "red"
    if lit == "right":
        photograph = photograph[:, ::-1].copy()
    crop, regions = cut_out(Image.fromarray(photograph), Light(state, (15, 15, 35, 25)), 26)
    light, lamp = np.argwhere(regions > 0), np.argwhere(regions == REGIONS.index("lamp"))
    assert (light.min(0).tolist(), light.max(0).tolist()) == ([3, 8], [22, 17])
    assert (lamp[:, 0].min(), lamp[:, 0].max()) == ((17, 22) if lit == "left" else (3, 8))
    assert has_hue(np.asarray(crop), state)[regions == REGIONS.index("lamp")].all()


def test_hues_of_lamps() -> None:
    pixels = np.array([COLORS[0], COLORS[1], COLORS[2], (128, 128, 128), (0, 0, 0)], np.uint8)
    assert has_hue(pixels, "green").tolist() == [True, False, False, False, False]
    assert has_hue(pixels, "red").tolist() == [False, True, False, False, False]


@pytest.mark.parametrize(
    ("boxes", "told"),
    [
        ("1 0.5 0.5 0.1\n", "a.txt, line 1: expected a class and x, y, width, height"),
        ("red 0.5 0.5 0.1 0.2\n", "a.txt, line 1: expected numbers"),
        ("1 0.5 0.5 0.1 nan\n", "in 0..1"),
        ("1 180 160 40 80\n", "in 0..1"),
    ],
)
def test_a_box_that_is_none_is_one_line(tmp_path: Path, boxes: str, told: str) -> None:
    write_photograph(tmp_path / "in" / "train", "a", 1, boxes)
    with pytest.raises(InputError, match=told):
        convert_traffic_lights(tmp_path / "in", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_a_photograph_without_boxes_is_named(tmp_path: Path) -> None:
    write_photograph(tmp_path / "in" / "train", "a", 1)
    (tmp_path / "in" / "train" / "labels" / "a.txt").unlink()
    with pytest.raises(InputError, match=r"a\.txt: no such file"):
        convert_traffic_lights(tmp_path / "in", tmp_path / "out")


@pytest.mark.skipif(not REAL.is_dir(), reason="the photographs are not in the repository")
def test_the_photographs_themselves(tmp_path: Path) -> None:
    """1,122 lights of 28 pixels and more; the lamp is found on three of four, as was measured."""
    convert_traffic_lights(REAL, tmp_path / "out")
    states = [row[1] for row in read_table(tmp_path / "out" / "labels.csv")[1:]]
    assert [states.count(state) for state in ("red", "green")] == [678, 444]
