"""What an edited embedded street says, read from the pixels of its lamps."""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cfexp.metrics.lamps import read_lamps
from cfexp.worlds.streets import AHEAD

# What the lamps of a traffic light, or of a car, show where it forbids to go, and where not.
_SAYS: Mapping[tuple[str, ...], Mapping[tuple[str, ...], bool]] = {
    ("top", "middle", "bottom"): {("red", "dark", "dark"): False, ("dark", "dark", "green"): True},
    ("left", "right"): {("red", "red"): False, ("dark", "dark"): True},
}


def street_says_go(image: NDArray[np.uint8], truth: Mapping[str, Any]) -> bool | None:
    """Whether one may go in an edit of an embedded street, by the rule that labels the world's own:
    unless a traffic light is red or the car ahead brakes.

    Each head must show exactly red or green, and the brake lights must be both lit or both dark;
    else None, for nobody can tell. Whatever an edit did anywhere else in the picture is no cause.

    image: (H, W, 3) uint8 RGB, an edit of the street. truth: of the street, see `worlds.streets`.
    """
    things: dict[tuple[str, int], dict[str, Any]] = {}
    for lamp in truth["lamps"]:
        if lamp["of"] == "traffic_light" or lamp["thing"] == AHEAD:
            mask = np.zeros(image.shape[:2], dtype=bool)
            mask.ravel()[lamp["pixels"]] = True
            (state,) = read_lamps(image, [mask])
            things.setdefault((lamp["of"], lamp["thing"]), {})[lamp["place"]] = state
    said = []
    for states in things.values():
        places = next((each for each in _SAYS if {*each} == {*states}), None)
        if places is None:  # one of its lamps is hidden
            return None
        said.append(_SAYS[places].get(tuple(states[place] for place in places)))
    return None if None in said else all(said)
