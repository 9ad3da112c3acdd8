"""What colour a lamp shows, read from an image: whether an edit made the light green or merely
different.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LAMP_STATES = ("red", "green", "other", "dark")
# The mean of the brightest channel over a lamp's mask is 56 to 61 for a dark lens of the embedded
# streets (72 for a brake light) and 238 to 254 for a lit one: what is nearer to a lit one is lit.
_LIT = 150
# A lit lamp is red or green if that channel is so many times each other one. Drawn ones: 3.6 for
# red, 1.73 for green. Halfway in hue from red to amber, at 20 degrees, it is 2: an orange lamp says
# nothing. Turquoise is below 1.45.
_RED, _GREEN = 2.0, 1.45


def read_lamps(image: NDArray[np.uint8], masks: Sequence[NDArray[np.bool_]]) -> list[str]:
    """The state of each of L lamps: `red` or `green` (lit so), `other` (lit otherwise), `dark`.

    image: (H, W, 3) uint8 RGB. masks: L of (H, W) bool, where each lamp is; none may be empty. A
    lamp's colour is the mean over its mask. Raises ValueError for shapes and types that do not fit.
    """
    states = []
    for mask in masks:
        if image.shape != (*mask.shape, 3):
            raise ValueError(
                f"image must have shape {(*mask.shape, 3)}, as the masks, got {image.shape}"
            )
        if image.dtype != np.uint8 or mask.dtype != np.bool_:
            raise ValueError(
                f"image must be uint8 and masks bool, got {image.dtype} and {mask.dtype}"
            )
        if not mask.any():
            raise ValueError("every mask must hold at least one pixel")
        red, green, blue = (float(value) for value in image[mask].mean(axis=0))
        if max(red, green, blue) < _LIT:
            states.append("dark")
        elif red >= _RED * max(green, blue):
            states.append("red")
        elif green >= _GREEN * max(red, blue):
            states.append("green")
        else:
            states.append("other")
    return states
