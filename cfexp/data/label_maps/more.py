"""Further images to train on, beside those of a data set: such as counterfactuals that somebody
labelled.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cfexp.data.label_maps.dataset import NO_REGION, LabelMapRecord, PngLabelMaps
from cfexp.data.reading.rows import read_rows
from cfexp.errors import InputError

COLUMNS = ("image", "label_map")
_LABELS = {"0": 0.0, "1": 1.0, "": float("nan")}


def read_more(
    path: Path, class_names: Sequence[str], own: Sequence[LabelMapRecord]
) -> list[LabelMapRecord]:
    """The images of a CSV file: `image`, `label_map` (empty = without), and a column a label, 0 or
    1 (empty, or no column = not known). Paths are from the file's folder.

    own: the data set's images, which may be among them, and keep their label maps. Raises
    InputError for a file that is not so.
    """
    given = f"data.more={path}"
    known = {record.image.absolute(): record for record in own}
    records = []
    for line, row in enumerate(read_rows(path, given), 2):
        values = [row.get(name, "") for name in class_names]
        if None in row or None in row.values() or not row.get("image"):
            raise InputError(f"{given}, line {line}: expected {', '.join(COLUMNS)}, and labels")
        if wrong := [value for value in values if value not in _LABELS]:
            raise InputError(f"{given}, line {line}: a label must be 0, 1 or empty, got {wrong[0]}")
        image, label_map = (path.parent / row[name] if row.get(name) else None for name in COLUMNS)
        assert image is not None
        labels = tuple(_LABELS[value] for value in values)
        record = known.get(image, LabelMapRecord(image.stem, image, label_map, labels))
        records.append(record._replace(labels=labels))
    return records


class WithMore(PngLabelMaps):
    """Reads the files of a data set by its own reader, and those of further images as they are: a
    picture, and a label map of the regions' own numbers.
    """

    def __init__(
        self,
        reader: PngLabelMaps,
        own: Sequence[LabelMapRecord],
        more: Sequence[LabelMapRecord],
        regions: int,
    ) -> None:
        known = np.where(np.arange(256) < regions, np.arange(256), NO_REGION)
        super().__init__(known, reader.unlabeled)
        self.own = reader
        self.more = {record.image for record in more} - {record.image for record in own}

    def image(self, record: LabelMapRecord) -> Image.Image:
        """The whole image, RGB."""
        return super().image(record) if record.image in self.more else self.own.image(record)

    def shown(
        self, record: LabelMapRecord, image: Image.Image, size: tuple[int, int]
    ) -> NDArray[np.uint8]:
        """(H, W), the label map at `size` = (W, H), of a record and its image."""
        if record.image in self.more:
            return super().shown(record, image, size)
        return self.own.shown(record, image, size)
