"""`scene_graphs_SPLIT.json` of the embedded scenes: the truth of each scene, for metrics; no model
reads it.
"""

from math import isfinite
from pathlib import Path
from typing import Any, NamedTuple

from cfexp.data.reading.records import OFFICIAL_REMEDY, Records, read_json, records_of, shown
from cfexp.errors import InputError

Palette = dict[str, tuple[int, int, int]]  # colour name -> RGB in 0..255


class SceneGraphObject(NamedTuple):
    """An object of an embedded scene, as its scene graph describes it."""

    shape: str
    color: str
    size: str
    box: tuple[float, float, float, float]  # x, y, width, height in pixels of the stored image
    mask: dict[
        str, list[int]
    ]  # COCO's uncompressed run lengths: what `cfexp.worlds.scenes.decode_mask` takes


def read_scene_graph(
    path: Path, image_ids: dict[int, int]
) -> tuple[dict[int, tuple[SceneGraphObject, ...]], Palette]:
    """The objects that each question asks about, by question_id, and the palette.

    `image_ids` maps the question_ids of the split to their images; a question of which the file
    says nothing is left out. Raises InputError, in one line that names the file and the record.
    """
    document = read_json(path)
    palette = _palette(document.get("info"), path)
    records = records_of(document, path, "scenes")
    scenes = {
        records.identity(i, "image_id"): _objects(records.nested(i, "objects"))
        for i in range(len(records))
    }
    asked = document.get("questions")
    if not isinstance(asked, dict):
        raise InputError(
            f"{path}: questions must be an object, got {shown(asked)}; {OFFICIAL_REMEDY}"
        )
    found: dict[int, tuple[SceneGraphObject, ...]] = {}
    for question_id, image_id in image_ids.items():
        indices = asked.get(str(question_id), None)
        if indices is None:
            continue
        objects = scenes.get(image_id, ())
        if not isinstance(indices, list) or not all(
            type(i) is int and 0 <= i < len(objects) for i in indices
        ):
            expected = f"some of the {len(objects)} objects of image_id {image_id}"
            problem = f"must list {expected}, got {shown(indices)}"
            raise InputError(f"{path}: questions['{question_id}'] {problem}; {OFFICIAL_REMEDY}")
        found[question_id] = tuple(objects[i] for i in indices)
    return found, palette


def _palette(info: Any, path: Path) -> Palette:
    colors = info.get("palette") if isinstance(info, dict) else None
    if not isinstance(colors, dict) or not all(
        _are_counts(rgb, 3) and max(rgb) < 256 for rgb in colors.values()
    ):
        problem = f"must map names to [r, g, b] in 0..255, got {shown(colors)}"
        raise InputError(f"{path}: info.palette {problem}; {OFFICIAL_REMEDY}")
    return {name: (rgb[0], rgb[1], rgb[2]) for name, rgb in colors.items()}


def _objects(records: Records) -> tuple[SceneGraphObject, ...]:
    return tuple(_object(records, index) for index in range(len(records)))


def _object(records: Records, index: int) -> SceneGraphObject:
    shape, color, size = (records.get(index, key, str) for key in ("shape", "color", "size"))
    box, mask = records.get(index, "box", list), records.get(index, "mask", dict)
    if len(box) != 4 or not all(type(side) in (int, float) and isfinite(side) for side in box):
        raise records.error(index, "box", f"must be four finite numbers, got {shown(box)}")
    sides, counts = mask.get("size"), mask.get("counts")
    if not _are_counts(sides, 2) or not _are_counts(counts) or sum(counts) != sides[0] * sides[1]:
        problem = (
            f"must hold size [H, W] and run-length counts that add up to H * W, got {shown(mask)}"
        )
        raise records.error(index, "mask", problem)
    return SceneGraphObject(shape, color, size, (box[0], box[1], box[2], box[3]), mask)


def _are_counts(values: Any, length: int | None = None) -> bool:
    """Whether this is a list (of that length) of integers that are not negative."""
    right_length = isinstance(values, list) and length in (None, len(values))
    return right_length and all(type(value) is int and value >= 0 for value in values)
