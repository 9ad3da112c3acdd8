"""What a CSV file says of imported images."""

from pathlib import Path

import pytest

from cfexp.data.imported.labels import Row, read_labels
from cfexp.errors import InputError

NAMES = ("no", "yes")


def test_labels_and_what_was_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "labels.csv"
    path.write_text("image,Smiling,counter_class\na.png,1,no\nb,,1\nc.jpg,-1,\n")
    assert read_labels(path, NAMES) == {
        "a": Row({"Smiling": 1}, 0),
        "b": Row({"Smiling": None}, 1),
        "c": Row({"Smiling": 0}, None),
    }


def test_celebas_own_list_as_kaggle_has_it(tmp_path: Path) -> None:
    path = tmp_path / "list_attr_celeba.csv"
    path.write_text("image_id,Male,Young\n000001.jpg,-1,1\n")
    assert read_labels(path, None) == {"000001": Row({"Male": 0, "Young": 1})}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("file,Smiling\na,1\n", "there is no column 'image' in its first line, but file, Smiling"),
        ("", "there is no column 'image' in its first line, but none"),
        ("image,Smiling\n", "has no row below its first line"),
        ("image,Smiling\na,2\n", "line 2: Smiling must be 0 or 1 (or -1, or empty), got '2'"),
        ("image,Smiling\na,1\na.png,0\n", "line 3: a stands there twice"),
        ("image,Smiling\na\n", "line 2: expected 2 values"),
        ("image,Smiling\na,1,1\n", "line 2: expected 2 values"),
        ("image,Smiling\n,1\n", "line 2: the image is empty"),
        ("image,counter_class\na,maybe\n", "line 2: counter_class must be one of no, yes, got 'm"),
        ("image,counter_class\na,2\n", "line 2: counter_class must be one of no, yes, got '2'"),
    ],
)
def test_wrong_values_are_one_line(tmp_path: Path, text: str, said: str) -> None:
    path = tmp_path / "labels.csv"
    path.write_text(text)
    with pytest.raises(InputError) as stopped:
        read_labels(path, NAMES)
    assert str(stopped.value).startswith(f"labels={path}")
    assert said in str(stopped.value)


def test_other_files_are_one_line(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        read_labels(tmp_path / "none.csv", NAMES)
    (tmp_path / "labels.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="is no readable CSV file in UTF-8"):
        read_labels(tmp_path / "labels.csv", NAMES)
