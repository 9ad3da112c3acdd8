"""A CSV of images, questions and answers, as VQAv1."""

import csv
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np
from rich.progress import track

from cfexp.data.converters.folder import whole_folder
from cfexp.data.converters.vqa_files import Origin, Row, save_image, ten_answers, write_split
from cfexp.data.own.images import FORMATS, upright_rgb
from cfexp.data.questions.files import SPLITS, Split
from cfexp.data.reading.images import read_picture
from cfexp.errors import InputError

SEPARATOR = "|"  # between the answers of several people in one cell
VAL_SHARE = 0.2  # of the images, where the file has no column `split`
_WORDS: dict[str, Split] = {
    "train": "train2014",
    "train2014": "train2014",
    "val": "val2014",
    "val2014": "val2014",
    "valid": "val2014",
    "validation": "val2014",
    "test": "val2014",
}
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
    """Write a CSV of image, question and answer(s) as VQAv1 (see docs/own_data.md for its forms).

    source: the CSV file, or a folder that holds one; images lie beside it, or in its folder
    `images`, where their paths are not absolute. Without a column `split`, a fifth of the images,
    chosen by `seed`, becomes val2014. One to ten answers a question are given in turn until there
    are ten. `out` is complete or absent. Raises InputError, in one line that names the line of the
    file, for whatever is missing or wrong.
    """
    table = _table_of(source.expanduser())
    rows = list(_read(table))
    if not rows:
        raise InputError(f"{table}: has no question; give {_FORM}")
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


def _read(table: Path) -> Iterator[_Asked]:
    """The rows of the file, each checked."""
    try:
        text = table.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{table}: is not UTF-8 text ({error.reason}); save it as UTF-8") from None
    if "\0" in text:
        raise InputError(f"{table}: holds null bytes; save it as a CSV file of UTF-8 text")
    lines = text.splitlines(keepends=True)
    header = lines[0] if lines else ""
    delimiter = max(",;\t", key=header.count)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    try:
        names = [name.strip().lower() for name in next(reader, [])]
        columns = _columns(names, table)
        for cells in reader:
            if any(cell.strip() for cell in cells):
                place = f"{table}, line {reader.line_num}"
                if len(cells) != len(names):
                    fields = f"has {len(cells)} fields where the header has {len(names)}"
                    raise InputError(f"{place}: {fields}; put text with a {delimiter!r} in quotes")
                yield _asked(dict(zip(names, cells, strict=True)), columns, table, place)
    except csv.Error as error:
        raise InputError(f"{table}, line {reader.line_num}: {error}") from None


def _columns(names: list[str], table: Path) -> list[str]:
    """The columns of answers; raises InputError where the header lacks one."""
    answers = [name for name in names if re.fullmatch(r"answers?|answer_?\d+", name)]
    missing = [name for name in ("image", "question") if name not in names]
    if missing or not answers:
        lacks = ", ".join([*missing, *([] if answers else ["answer"])])
        raise InputError(f"{table}: its first line has no column {lacks}; give {_FORM}")
    if twice := sorted({name for name in names if name and names.count(name) > 1}):
        raise InputError(f"{table}: its first line has the column {twice[0]} twice")
    return answers


def _asked(row: dict[str, str], columns: list[str], table: Path, place: str) -> _Asked:
    question = " ".join(row["question"].split())
    if not question:
        raise InputError(f"{place}: the question is empty")
    cells = (cell for name in columns for cell in row[name].split(SEPARATOR))
    answers = tuple(" ".join(cell.split()) for cell in cells if cell.strip())
    try:
        ten_answers(answers)
    except InputError as error:
        raise InputError(f"{place}: {error}") from None
    given = row.get("split", "").strip().lower()
    if given and given not in _WORDS:
        raise InputError(f"{place}: split must be train or val, got {given!r}")
    image = _image(row["image"].strip(), table, place)
    return _Asked(image, question, answers, _WORDS.get(given), place)


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
