"""What an edited embedded face shows: read by holding it against drawings of that very face."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfexp.worlds.face_drawing import draw_faces
from cfexp.worlds.face_names import REGIONS
from cfexp.worlds.face_people import Table

# Of an attribute: what is drawn otherwise, of a no and of a yes, and the regions that show it.
# Whether a face is young is whether its skin is smooth: grey hair alone has no old face.
_DRAWN: Mapping[str, tuple[str, tuple[Any, Any], tuple[str, ...]]] = {
    "Smiling": ("smiling", (False, True), ("mouth", "upper_lip", "lower_lip")),
    "Young": ("wrinkles", (0.875, 0.0), ("skin",)),
}
# How much nearer one drawing must be than the other: of what lies between nobody can tell.
_CLEAR = 0.5


def attributes_shown(image: NDArray[np.uint8], face: Table) -> dict[str, int]:
    """Which of Smiling and Young an edit of an embedded face shows, 0 or 1 by name; what nobody can
    tell is left out.

    The face is drawn as it is, once with the attribute and once without; which drawing is the edit
    nearer to, where the two differ by it? Nearer is a mean square of at most half of the other's.

    image: (S, S, 3) uint8 RGB, an edit of the face. face: its row of the table, (1, ...) each.
    """
    found = {}
    for name, (column, values, regions) in _DRAWN.items():
        rows = {key: np.repeat(value, 2, axis=0) for key, value in face.items()}
        rows[column] = np.array(values, dtype=face[column].dtype)
        drawn = draw_faces(rows, image.shape[0])
        no, yes = drawn.images.astype(np.float64)
        where = np.isin(drawn.label_maps[0], [REGIONS.index(region) for region in regions])
        weight = where * np.square(yes - no).sum(2)  # by how much a pixel tells the two apart
        if not weight.any():
            continue
        apart = [
            (weight * np.square(image - each).sum(2)).sum() / weight.sum() for each in (no, yes)
        ]
        if min(apart) <= _CLEAR * max(apart):
            found[name] = int(apart[1] < apart[0])
    return found
