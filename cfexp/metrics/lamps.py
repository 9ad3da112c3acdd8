"""What colour a lamp shows, read from an image: whether an edit made the light green or merely different."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

LAMP_STATES = ("red", "green", "other", "dark")
# The brightest channel of a dark lens, shiny or in daylight, stays below; that of a lit lamp is near 255.
_LIT = 150
# A lit lamp is red or green if that channel is so many times each other one; white, yellow and orange are not.
_PURE = 1.45


def read_lamps(image: NDArray[np.uint8], masks: Sequence[NDArray[np.bool_]]) -> list[str]:
    """The state of each of L lamps: `red` or `green` (lit so), `other` (lit otherwise), `dark`.

    image: (H, W, 3) uint8 RGB. masks: L of (H, W) bool, where each lamp is; none may be empty. A lamp's colour is the
    mean over its mask. Raises ValueError for shapes that do not fit.
    """
    states = []
    for mask in masks:
        if image.shape != (*mask.shape, 3):
            raise ValueError(f"image must have shape {(*mask.shape, 3)}, as the masks, got {image.shape}")
        if not mask.any():
            raise ValueError("every mask must hold at least one pixel")
        red, green, blue = (float(value) for value in image[mask].mean(axis=0))
        if max(red, green, blue) < _LIT:
            states.append("dark")
        elif red >= _PURE * max(green, blue):
            states.append("red")
        elif green >= _PURE * max(red, blue):
            states.append("green")
        else:
            states.append("other")
    return states
