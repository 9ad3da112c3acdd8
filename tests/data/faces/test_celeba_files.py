"""The text files of CelebA and CelebAMask-HQ: what is read, and each kind of damage in one line."""

from collections.abc import Callable
from pathlib import Path

import pytest

from cfexp.data.faces.celeba_files import (
    check_listed,
    fingerprint_texts,
    read_attributes,
    read_identities,
    read_mapping,
    read_partition,
)
from cfexp.errors import InputError

ATTRIBUTES = (
    "3\nMale Smiling Young \n000001.jpg -1  1  1\n000002.jpg  1 -1  1\n000007.jpg -1 -1 -1\n"
)
MAPPING = (
    "idx         orig_idx    orig_file\n"
    "0           119613      119614.jpg\n"
    "1           99094       099095.jpg\n"
)
PARTITION = "000001.jpg 0\n000002.jpg 1\n000007.jpg 2\n"
IDENTITY = "000001.jpg 2880\n000002.jpg 2880\n000007.jpg 0\n"


@pytest.mark.parametrize(
    "change", [str, lambda text: text.replace("\n", "\r\n"), lambda text: "\ufeff" + text + "\n\n"]
)
def test_files_are_read_whatever_their_line_ends(
    tmp_path: Path, change: Callable[[str], str]
) -> None:
    for name, text in (("a", ATTRIBUTES), ("m", MAPPING), ("p", PARTITION), ("i", IDENTITY)):
        (tmp_path / name).write_bytes(change(text).encode())
    attributes = read_attributes(tmp_path / "a")
    assert attributes.names == ("Male", "Smiling", "Young")
    assert attributes.select(tmp_path / "a", ["Young", "Male"]) == {
        "000001.jpg": (1, 0),
        "000002.jpg": (1, 1),
        "000007.jpg": (0, 0),
    }
    assert read_mapping(tmp_path / "m") == {0: (119613, "119614.jpg"), 1: (99094, "099095.jpg")}
    assert read_partition(tmp_path / "p") == {"000001.jpg": 0, "000002.jpg": 1, "000007.jpg": 2}
    assert read_identities(tmp_path / "i") == {
        "000001.jpg": 2880,
        "000002.jpg": 2880,
        "000007.jpg": 0,
    }


def test_single_spaces_are_read_too(tmp_path: Path) -> None:
    """CelebAMask-HQ's own form: two spaces after the name, then one."""
    path = tmp_path / "a"
    path.write_text("1\nMale Smiling\n0.jpg  -1 1\n")
    assert read_attributes(path).select(path, ["Smiling"]) == {"0.jpg": (1,)}


# What is written, and what the line must say beside the file.
ATTRIBUTE_DAMAGE = {
    "empty": ("", "empty"),
    "only white space": (" \r\n\n", "empty"),
    "no count": (ATTRIBUTES.partition("\n")[2], "line 1 must be the number of images"),
    "no header": ("1\n000001.jpg -1 1 1\n", "line 2 must name the attributes"),
    "a header of numbers": ("1\n-1 1 1\n000001.jpg -1 1 1\n", "line 2 must name the attributes"),
    "nothing but the count": ("3\n", "line 2 must name the attributes"),
    "an attribute twice": (ATTRIBUTES.replace("Smiling", "Male"), "'Male' twice"),
    "cut short": (ATTRIBUTES.rpartition("000007")[0], "announces '3' images, 2 follow"),
    "cut within a row": (ATTRIBUTES[:-7], "line 5 has 1 values for 3"),
    "a row too many": (ATTRIBUTES + "000008.jpg 1 1 1\n", "announces '3' images, 4 follow"),
    "a count of 5000 digits": (ATTRIBUTES.replace("3\n", "9" * 5000 + "\n", 1), "3 follow"),
    "a duplicate": (
        ATTRIBUTES.replace("000007", "000002"),
        "line 5 is about 000002.jpg, which is there before",
    ),
    "a zero": (ATTRIBUTES.replace("-1 -1 -1", "-1 0 -1"), "line 5 has the value '0'"),
    "NaN": (ATTRIBUTES.replace("-1 -1 -1", "-1 nan -1"), "line 5 has the value 'nan'"),
    "a value too many": (ATTRIBUTES.replace("-1 -1 -1", "-1 -1 -1 1"), "line 5 has 4 values for 3"),
    "no file name": (
        ATTRIBUTES.replace("000007.jpg", "seven"),
        "line 5 must begin with an image file's name",
    ),
    "a path": (
        ATTRIBUTES.replace("000007.jpg", "../7.jpg"),
        "line 5 must begin with an image file's name",
    ),
    "UTF-16": (ATTRIBUTES.encode("utf-16"), "not UTF-8"),
    "a picture": (b"\x89PNG\r\n\x1a\n\x00", "not UTF-8"),
    "a web page": ("<html>404</html>", "line 1 must be the number of images"),
}
MAPPING_DAMAGE = {
    "empty": ("", "empty"),
    "no header": (MAPPING.partition("\n")[2], "line 1 must be the header"),
    "a column less": (MAPPING.replace("  099095.jpg", ""), "line 3 must have 3 columns"),
    "a duplicate": (MAPPING.replace("\n1 ", "\n0 "), "line 3 has idx 0, which is there before"),
    "not a number": (
        MAPPING.replace("99094", "9909x"),
        "line 3 has '9909x' where a whole number must be",
    ),
    "negative": (MAPPING.replace("99094", "-1"), "line 3 has '-1' where a whole number must be"),
    "a number of 30 digits": (MAPPING.replace("99094", "9" * 30), "line 3 has"),
    "another file": (MAPPING.replace("099095", "099094"), "line 3 orig_idx 99094 is image 099095"),
    "no file": (MAPPING.replace("099095.jpg", "099095"), "line 3 must end in an image file's name"),
}
PARTITION_DAMAGE = {
    "empty": ("", "empty"),
    "another part": (PARTITION.replace("jpg 2", "jpg 3"), "line 3 must be 0, 1 or 2, got 3"),
    "a column less": (
        PARTITION.replace("jpg 2", "jpg"),
        "line 3 must be a file name and 0, 1 or 2, got 1 columns",
    ),
    "a duplicate": (PARTITION.replace("000007", "000001"), "line 3 is about 000001.jpg"),
    "words": (PARTITION.replace("jpg 2", "jpg test"), "line 3 has 'test' where"),
}


@pytest.mark.parametrize(
    ("read", "content", "named"),
    [
        *((read_attributes, *damage) for damage in ATTRIBUTE_DAMAGE.values()),
        *((read_mapping, *damage) for damage in MAPPING_DAMAGE.values()),
        *((read_partition, *damage) for damage in PARTITION_DAMAGE.values()),
        (read_identities, IDENTITY.replace("2880\n000002", "x\n000002"), "line 1 has 'x' where"),
        (read_identities, IDENTITY.replace("000007", "000002"), "line 3 is about 000002.jpg"),
    ],
    ids=[
        *(f"attributes {name}" for name in ATTRIBUTE_DAMAGE),
        *(f"mapping {name}" for name in MAPPING_DAMAGE),
        *(f"partition {name}" for name in PARTITION_DAMAGE),
        "identity words",
        "identity duplicate",
    ],
)
def test_damage_is_one_line_that_says_where(
    tmp_path: Path, read: Callable[[Path], object], content: str | bytes, named: str
) -> None:
    path = tmp_path / "list.txt"
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    with pytest.raises(InputError) as caught:
        read(path)
    message = str(caught.value)
    assert message.startswith(f"{path}: ")
    assert named in message
    assert "docs/data_sets.md" in message
    assert "\n" not in message
    assert len(message) < 400


@pytest.mark.parametrize("read", [read_attributes, read_mapping, read_partition, read_identities])
def test_a_missing_file_and_a_folder_are_named(
    tmp_path: Path, read: Callable[[Path], object]
) -> None:
    with pytest.raises(InputError, match=r"list\.txt: no such file; "):
        read(tmp_path / "list.txt")
    with pytest.raises(InputError, match="cannot be read"):
        read(tmp_path)


def test_an_attribute_that_is_not_there_is_named_with_those_that_are(tmp_path: Path) -> None:
    (tmp_path / "a").write_text(ATTRIBUTES)
    with pytest.raises(
        InputError,
        match=r"no attribute 'Smile'; its 3 are Male, Smiling, Young; choose data\.attributes",
    ):
        read_attributes(tmp_path / "a").select(tmp_path / "a", ["Male", "Smile"])


def test_missing_images_are_counted(tmp_path: Path) -> None:
    (tmp_path / "1.jpg").touch()
    (tmp_path / "2.jpg").mkdir()
    check_listed(tmp_path, ["1.jpg"], "an image")
    with pytest.raises(InputError, match=r"2\.jpg: an image is no file there \(nor are 1 more\)"):
        check_listed(tmp_path, ["1.jpg", "2.jpg", "3.jpg"], "an image")


def test_the_fingerprint_is_of_names_and_content(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    first = fingerprint_texts([tmp_path / "a", tmp_path / "b", tmp_path / "c"])
    assert first == fingerprint_texts([tmp_path / "a", tmp_path / "b"])
    assert first != fingerprint_texts([tmp_path / "a"])
    (tmp_path / "b").write_text("c")
    assert first != fingerprint_texts([tmp_path / "a", tmp_path / "b"])
