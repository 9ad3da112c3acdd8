"""A CSV of images, questions and answers, as VQAv1."""

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import track

from cfexp.data.converters.folder import whole_folder
from cfexp.data.converters.vqa_files import Origin, Row, save_image, ten_answers, write_split
from cfexp.data.own.folder import PART_NAMES
from cfexp.data.own.images import FORMATS, upright_rgb
from cfexp.data.own.table import read_table
from cfexp.data.questions.files import SPLITS, Split
from cfexp.data.reading.images import read_picture
from cfexp.errors import InputError

SEPARATOR = "|"  # between the answers of several people in one cell
VAL_SHARE = 0.2  # of the images, where the file has no column `split`
_SPLITS: dict[str, Split] = {"train": "train2014", "val": "val2014", "test": "val2014"}
_ANSWERS = re.compile(r"answers?|answer_?\d+")
_FORM = (
    "a header `image,question,answer` (or `answers`, with | between them; or answer_1, answer_2 "
    "...; and, if you like, `split`: train or val)"
)


class _Asked(NamedTuple):
    image: Path
    question: str
    answers: tuple[str, ...]
    split: Split | None
    place: str


def convert_csv_vqa(source: Path, out: Path, seed: int = 0) -> None:
    """Write a CSV of image, question and answer(s) as VQAv1 (see docs/data_sets.md for its forms).

    source: the CSV file, or a folder that holds one; images lie beside it, or in its folder
    `images`, where their paths are not absolute. Without a column `split`, a fifth of the images,
    chosen by `seed`, becomes val2014. One to ten answers a question are given in turn until there
    are ten. `out` is complete or absent. Raises InputError, in one line that names the line of the
    file, for whatever is missing or wrong.
    """
    table = _table_of(source.expanduser())
    rows = list(_read(table))
    splits = _splits(rows, seed, table)
    numbers: dict[Split, dict[Path, int]] = {split: {} for split in SPLITS}
    for row in rows:
        images = numbers[splits[row.image]]
        images.setdefault(row.image, len(images))
    with whole_folder(out) as folder:
        for split in SPLITS:
            images = numbers[split]
            asked = (
                Row(images[row.image], row.question, row.answers)
                for row in rows
                if row.image in images
            )
            write_split(folder, split, asked, Origin(f"{table.name} as VQA v1.0"))
            for path, number in track(images.items(), description=f"writing {split}"):
                picture = read_picture(path, FORMATS, remedy=f"mend the file, or {table.name}")
                save_image(folder, split, number, upright_rgb(picture, path)[0])


def _table_of(source: Path) -> Path:
    """The CSV file that is meant; raises InputError if there is none, or several."""
    if source.is_file():
        return source
    if not source.is_dir():
        raise InputError(f"{source}: no such file or folder; give a CSV file with {_FORM}")
    tables = sorted(source.glob("*.csv"))
    if len(tables) != 1:
        found = ", ".join(path.name for path in tables) or "none"
        raise InputError(f"{source}: expected one CSV file there, found {found}; give its path")
    return tables[0]


def _read(path: Path) -> Iterator[_Asked]:
    """The rows of the file, each checked."""
    table = read_table(path)
    places = {name.lower(): place for place, name in enumerate(table.columns)}
    answers = [place for name, place in places.items() if _ANSWERS.fullmatch(name)]
    missing = [name for name in ("image", "question") if name not in places]
    if missing or not answers:
        lacks = ", ".join([*missing, *([] if answers else ["answer"])])
        raise InputError(f"{path}: its first line has no column {lacks}; give {_FORM}")
    for line, cells in table.rows:
        row = {name: cells[place] for name, place in places.items()}
        yield _asked(row, [cells[place] for place in answers], path, f"{path}, line {line}")


def _asked(row: dict[str, str], answered: list[str], table: Path, place: str) -> _Asked:
    question = " ".join(row["question"].split())
    if not question:
        raise InputError(f"{place}: the question is empty")
    said = (each for cell in answered for each in cell.split(SEPARATOR))
    answers = tuple(" ".join(each.split()) for each in said if each.strip())
    try:
        ten_answers(answers)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
    given = row.get("split", "").lower()
    part = PART_NAMES.get(given, given.removesuffix("2014"))
    if part not in ("", *_SPLITS):
        raise InputError(f"{place}: split must be train or val, got {given!r}")
    image = _image(row["image"], table, place)
    return _Asked(image, question, answers, _SPLITS.get(part), place)


def _image(name: str, table: Path, place: str) -> Path:
    """The image of that name; raises InputError where there is none."""
    if not name:
        raise InputError(f"{place}: the image is empty")
    path = Path(name).expanduser()
    places = [table.parent / path, table.parent / "images" / path]
    found = next((each for each in places if each.is_file()), None)
    if found is None:
        raise InputError(f"{place}: no image {places[0]}, nor {places[1]}")
    return found.resolve()


def _splits(rows: list[_Asked], seed: int, table: Path) -> dict[Path, Split]:
    """The split of each image; raises InputError where an image or a split is not as it must be."""
    given: dict[Path, Split] = {}
    for row in rows:
        if (row.split is None) != (rows[0].split is None):
            raise InputError(f"{row.place}: the column split is filled in some lines only")
        if row.split is not None and given.setdefault(row.image, row.split) != row.split:
            raise InputError(f"{row.place}: {row.image.name} is in both splits; keep it in one")
    images = list(dict.fromkeys(row.image for row in rows))
    if not given:
        chosen = np.random.default_rng(seed).permutation(len(images))
        val = set(chosen[: round(len(images) * VAL_SHARE)].tolist())
        given = {path: SPLITS[i in val] for i, path in enumerate(images)}
    for split in SPLITS:
        if split not in given.values():
            raise InputError(
                f"{table}: no image for {split}; it needs some for training and some to explain"
            )
    return given
