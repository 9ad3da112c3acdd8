"""BDD-OIA (Xu et al., CVPR 2020): which actions are possible in a frame, and why, as its JSON files
in circulation say.

Two forms are read. The authors' `SPLIT_25k_images_actions.json` is `{"images": [{"file_name",
"id"}], "annotations": [{"category": [forward, stop, left, right(, confuse)]}]}`, where an image's
annotation is that at the position `id`; with it goes `SPLIT_25k_images_reasons.json`, a list of
`{"file_name", "reason": [21 numbers]}`. The regrouped form is `{stem: {"actions": [4 numbers],
"reason": [21 numbers]}}`. Reasons are joined by name: their order is not the images'.
"""

from pathlib import Path
from typing import Any, Literal, NamedTuple

from cfexp.data.reading.records import OFFICIAL_REMEDY, Records, read_any_json, records_of, shown
from cfexp.errors import InputError

Split = Literal["train", "val"]
ACTIONS = ("forward", "stop", "left", "right")
NUM_REASONS = 21
_FOLDERS = (".", "annotations", "lastframe", "lastframe/labels", "lastframe/data")


class Frame(NamedTuple):
    """What BDD-OIA says of one image."""

    file_name: str
    actions: tuple[int, ...]  # (4,) 0 or 1: forward, stop, left, right
    reasons: tuple[int, ...] | None  # (21,) 0 or 1; None = no file says


def find_actions(root: Path, split: Split) -> Path | None:
    """The file of a split's actions under `root`, in either form and a usual folder; None if there
    is none.
    """
    names = (f"{split}_25k_images_actions.json", f"gt_4a_21r_{split}.json")
    paths = [root / folder / name for folder in _FOLDERS for name in names]
    return next((path for path in paths if path.exists()), None)


def read_frames(path: Path) -> dict[str, Frame]:
    """The frames of an actions file by stem, in its order, less those whose annotators were
    confused.

    Reasons are read too, from the file itself or from the one beside it if that is there. Raises
    InputError, in one line that names the file and the record, for whatever is wrong.
    """
    document = read_any_json(path)
    if not isinstance(document, dict) or not document:
        problem = f"the top level must be an object with frames, got {shown(document)}"
        raise InputError(f"{path}: {problem}; {OFFICIAL_REMEDY}")
    if "images" not in document and "annotations" not in document:
        return _read_regrouped(path, document)
    images, annotations = (
        records_of(document, path, "images"),
        records_of(document, path, "annotations"),
    )
    if len(images) != len(annotations):
        problem = f"has {len(images)} images and {len(annotations)} annotations"
        raise InputError(f"{path}: {problem}; {OFFICIAL_REMEDY}")
    reasons = _read_reasons(path.with_name(path.name.replace("_actions", "_reasons")))
    frames: dict[str, Frame] = {}
    taken: dict[int, int] = {}
    seen: set[str] = set()
    for index in range(len(images)):
        name, position = _file_name(images, index), images.identity(index, "id")
        stem = Path(name).stem
        if stem in seen:
            raise images.error(index, "file_name", f"{name} is there twice")
        if position >= len(annotations):
            raise images.error(
                index, "id", f"{position} has no annotation: there are {len(annotations)}"
            )
        if position in taken:
            raise images.error(index, "id", f"{position} is that of images[{taken[position]}] too")
        seen.add(stem)
        taken[position] = index
        category = _bits(annotations, position, "category", (len(ACTIONS), len(ACTIONS) + 1))
        if category[len(ACTIONS) :] != (1,):
            frames[stem] = Frame(name, category[: len(ACTIONS)], reasons.get(stem))
    return frames


def _read_reasons(path: Path) -> dict[str, tuple[int, ...]]:
    if not path.exists():
        return {}
    rows = read_any_json(path)
    if not isinstance(rows, list) or not rows:
        raise InputError(
            f"{path}: the top level must be a list of objects, got {shown(rows)}; {OFFICIAL_REMEDY}"
        )
    records = Records(path, "", rows)
    reasons: dict[str, tuple[int, ...]] = {}
    for index in range(len(records)):
        stem = Path(_file_name(records, index)).stem
        if stem in reasons:
            raise records.error(index, "file_name", f"{stem} is there twice")
        reasons[stem] = _bits(records, index, "reason", (NUM_REASONS,))
    return reasons


def _read_regrouped(path: Path, document: dict[str, Any]) -> dict[str, Frame]:
    frames: dict[str, Frame] = {}
    records = Records(path, "", list(document.values()))
    for index, stem in enumerate(document):
        actions = _bits(records, index, "actions", (len(ACTIONS), len(ACTIONS) + 1))
        reasons = _bits(records, index, "reason", (NUM_REASONS,))
        if actions[len(ACTIONS) :] != (1,):
            frames[stem] = Frame(f"{stem}.jpg", actions[: len(ACTIONS)], reasons)
    return frames


def _file_name(records: Records, index: int) -> str:
    name: str = records.get(index, "file_name", str)
    if not name or name != Path(name).name:
        raise records.error(index, "file_name", f"must be the name of a file, got {shown(name)}")
    return name


def _bits(records: Records, index: int, key: str, lengths: tuple[int, ...]) -> tuple[int, ...]:
    """The 0s and 1s of a list whose length is one of `lengths`; raises InputError."""
    values = records.get(index, key, list)
    if len(values) not in lengths:
        expected = " or ".join(str(length) for length in lengths)
        raise records.error(index, key, f"must be {expected} numbers, got {len(values)}")
    for value in values:
        # 1.0 counts: spreadsheets and pandas write it so.
        if type(value) not in (int, float) or value not in (0, 1):
            raise records.error(index, key, f"must be 0s and 1s, got {shown(value)}")
    return tuple(int(value) for value in values)
