"""Further images to train on, beside those of a data set."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from cfexp.errors import InputError
from tests.image_parts import SIZE, EightImages


def table(folder: Path, *rows: str, header: str = "image,label_map,go") -> str:
    path = folder / "more.csv"
    path.write_text("\n".join([header, *rows]) + "\n")
    return str(path)


def test_they_are_drawn_as_often_as_is_asked_beside_the_others(tmp_path: Path) -> None:
    picture = np.full((*SIZE, 3), 77, dtype=np.uint8)
    Image.fromarray(picture).save(tmp_path / "made.png")
    Image.fromarray(np.full(SIZE, 3, dtype=np.uint8)).save(tmp_path / "map.png")
    (own := tmp_path / "own").mkdir()
    rows = ["made.png,map.png,0", f"{own / 'image1.png'},,1", "made.png,,"]
    data = EightImages(own, more=table(tmp_path, *rows), more_times=2)
    train = data.dataset("train")
    assert len(train) == 8 + 2 * 3
    assert len(data.dataset("val")) == len(data.dataset("test")) == 8
    made, again, unmapped = (train[8 + place] for place in range(3))
    assert (made.image == made.image.amin()).all()
    assert (made.label_map == 3).all()
    assert made.labels[0, 0] == 0
    assert made.labels[0, 1].isnan()
    assert (again.image == train[1].image).all()  # the data set's own, with its label map
    assert (again.label_map == train[1].label_map).all()
    assert [float(each.labels[0, 0]) for each in (again, train[1])] == [1, 0]
    assert (unmapped.label_map == data.reader.unlabeled).all()
    assert unmapped.labels.isnan().all()


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ([], "has no row below its first line"),
        (["a.png,,2"], "line 2: a label must be 0, 1 or empty, got 2"),
        (["a.png"], "line 2: expected image, label_map, and labels"),
        ([",,1"], "line 2: expected image, label_map, and labels"),
    ],
)
def test_a_table_that_is_none_is_one_line(tmp_path: Path, rows: list[str], problem: str) -> None:
    with pytest.raises(InputError, match=problem):
        EightImages(tmp_path, more=table(tmp_path, *rows)).dataset("train")
