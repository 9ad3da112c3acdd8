"""What an embedded world can be made to draw otherwise in a scene, all else as it was: its causes,
and what is none.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]


class Factor(NamedTuple):
    """One thing that a drawing says, and the two values of it that are held against each other."""

    name: str
    values: tuple[str, str]  # in words; where the world knows, the second speaks for go, or for yes
    regions: tuple[str, ...]  # whose pixels alone it changes; () = outlines move, too


class Scene(NamedTuple):
    """One scene as it is, and under each intervention."""

    image: Pixels  # (H, W, 3) RGB
    label_map: Pixels  # (H, W), the region of each pixel
    own: Mapping[str, int]  # which of a factor's values the scene has; -1 = neither
    # (2, H, W, 3) RGB by factor, with the one value and with the other; only of factors that the
    # scene has: where there is no light, none can be made green
    drawn: Mapping[str, Pixels]


def scene_of(
    image: Pixels,
    label_map: Pixels,
    numbers: Mapping[str, int],
    exchanged: Iterable[tuple[Factor, int, Sequence[Pixels]]],
) -> Scene:
    """The scene, of what was drawn (2, H, W, 3) of each factor, and which value the scene has.

    A factor of some regions changes their pixels alone, by the label map: pixels at an edge, which
    are a mixture of two regions, stay as they are. A factor that then changes nothing, since others
    cover what shows it, is left out.

    numbers: of the regions in the label map.
    """
    own, drawn = {}, {}
    for factor, value, images in exchanged:
        pair = np.stack(images)
        if factor.regions:
            inside = np.isin(label_map, [numbers[name] for name in factor.regions])
            pair = np.where(inside[..., None], pair, image)
        if (pair[0] != pair[1]).any():
            own[factor.name], drawn[factor.name] = value, pair
    return Scene(image, label_map, own, drawn)
