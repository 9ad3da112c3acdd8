"""What of a data set of one's own is not used, with how many."""

from typing import NamedTuple

from cfexp.data.own.columns import UNKNOWN_CLASS, Column
from cfexp.data.own.contents import Contents
from cfexp.data.own.label_maps import OwnLabelMaps
from cfexp.data.own.table import listed

TESTS_ON_VAL = "no part is called test: val is tested and explained, and nothing is validated"


class Left(NamedTuple):
    """What is not used, with how many."""

    many: int
    what: str
    shown: bool = False  # the doctor names the first of them in a line of its own


def left_out(contents: Contents, column: Column | None, maps: OwnLabelMaps) -> list[Left]:
    """What of the folder is not used, with counts; what is used whole is not told.

    column: the label that is decided about, of the classes that are kept.
    """
    raw = None if column is None else contents.columns[column.name]
    lines = []
    if raw is not None and column is not None:
        kept = {
            own
            for own, value in zip(raw.values, column.values, strict=True)
            if value != UNKNOWN_CLASS
        }
        counts = enumerate(raw.counts().items())
        gone = {name: n for place, (name, n) in counts if n and place not in kept}
        what = f"images of {raw.name} {listed([*gone])}: data.classes leaves them out"
        lines.append(Left(sum(gone.values()), what))
    rowless = 0 if contents.table is None else len(contents.images) - len(contents.rows)
    if contents.table is not None:
        lines.append(Left(len(contents.without_image), "rows without an image", True))
        lines.append(Left(rowless, "images without a row", True))
    if raw is not None:
        lines.append(Left(raw.unknown - rowless, f"images whose {raw.name!r} is not known"))
    if others := contents.folder.others:
        lines.append(Left(len(others), f"files that are no image, such as {others[0]}"))
    if (elsewhere := contents.folder.label_maps_elsewhere()) is not None:
        what = f"folder that is not looked at, {elsewhere}: call it label_maps if it holds such"
        lines.append(Left(1, what, True))
    if maps.listed is not None and (strays := maps.strays):
        lines.append(Left(len(strays), f"label maps of no image, such as {strays[0]}", True))
    return [each for each in lines if each.many > 0]
