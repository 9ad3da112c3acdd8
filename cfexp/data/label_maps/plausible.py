"""Whether label maps look like what they are read as: how much of each region there is, and how
high in the picture.

Numbers of regions are a convention, and others have other ones: label maps by another's numbers are
read without a complaint, and every region has the wrong name. What street scenes and portraits look
like is known well enough to tell.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cfexp.worlds.face_names import PARTS

BANDS = 3  # thirds of the picture's height
# Roughly how many percent of the pixels of the upper, middle and lower third are of each region.
_STREETS = (
    *(
        (0.1, 15, 50),
        (0.1, 2, 5),
        (18, 15, 2),
        (0.3, 0.7, 0.3),
        (0.3, 2, 0.5),
        (1, 1.5, 0.3),
        (0.5, 0.2, 0.02),
    ),
    *(
        (0.5, 0.5, 0.05),
        (20, 15, 4),
        (0.2, 1, 1),
        (40, 10, 0.5),
        (0.1, 0.5, 0.3),
        (0.02, 0.1, 0.05),
        (1, 15, 10),
    ),
    *(
        (0.7, 2, 0.5),
        (0.7, 2, 0.3),
        (0.05, 0.2, 0.05),
        (0.01, 0.05, 0.03),
        (0.01, 0.07, 0.05),
        (10, 10, 20),
    ),
)
_FACES = (
    *(
        (35, 25, 20),
        (15, 40, 25),
        (0.1, 6, 0.5),
        (0.2, 1, 0.1),
        (0.05, 0.7, 0.05),
        (0.05, 0.7, 0.05),
    ),
    *(
        (0.1, 1.2, 0.05),
        (0.1, 1.2, 0.05),
        (0.1, 1.1, 0.3),
        (0.1, 1.1, 0.3),
        (0.02, 0.1, 0.8),
        (0.02, 0.1, 1.2),
    ),
    *(
        (0.02, 0.1, 2),
        (45, 25, 20),
        (3, 1, 0.1),
        (0.02, 0.1, 0.5),
        (0.01, 0.02, 0.1),
        (0.1, 0.5, 12),
        (0.1, 1, 12),
    ),
)
_BISENET = (
    "skin l_brow r_brow l_eye r_eye eye_g l_ear r_ear ear_r nose mouth u_lip l_lip neck neck_l "
    "cloth hair hat"
)
_LAPA = "skin l_brow r_brow l_eye r_eye nose u_lip mouth l_lip hair"
_UNLABELED = 19  # of streets


def _of_parts(names: str) -> tuple[int, ...]:
    """The region of each number, where background is 0 and the parts follow in this order."""
    return (0, *(PARTS.index(name) + 1 for name in names.split()))


def _of_ids(regions: Mapping[int, int]) -> tuple[int, ...]:
    """The region of each of the numbers that are read as regions, of which only some are ids of
    one.
    """
    return tuple(regions.get(number, _UNLABELED) for number in range(_UNLABELED + 1))


class Looks(NamedTuple):
    """How label maps of a kind of picture look, and by which other numbers people write them."""

    pictures: str  # what these are
    typical: NDArray[np.float64]  # (R, BANDS), the share of each region in the pixels of a band
    orders: dict[str, tuple[int, ...]]  # by name: which region each number stands for there


def _looks(
    pictures: str, percent: Sequence[tuple[float, ...]], orders: dict[str, tuple[int, ...]]
) -> Looks:
    table = np.array(percent)
    return Looks(pictures, table / table.sum(0), orders)


STREETS = _looks(
    "streets",
    _STREETS,
    {
        "Cityscapes' ids in place of train ids": _of_ids({7: 0, 8: 1, 11: 2, 12: 3, 13: 4, 17: 5}),
        "BDD100k's ids in place of train ids": _of_ids({7: 0, 8: 1, 10: 2, 11: 4, 15: 3}),
        "train ids counted from 1": (_UNLABELED, *range(_UNLABELED)),
    },
)
FACES = _looks(
    "faces",
    _FACES,
    {
        f"the order of the usual BiSeNet face parser ({_BISENET})": _of_parts(_BISENET),
        f"the order of LaPa ({_LAPA})": _of_parts(_LAPA),
        "CelebAMask-HQ's parts counted from 0, without a background": tuple(range(1, 19)),
        "CelebAMask-HQ's regions counted from 1": (0, *range(18)),
    },
)


def bands_of(label_map: NDArray[np.uint8], num_regions: int) -> NDArray[np.float64]:
    """(R, BANDS), the share of the map's pixels that are of each region in each band, of an (H, W)
    map.
    """
    bands = np.array_split(label_map, BANDS)
    return np.stack([np.bincount(band.ravel(), minlength=num_regions) for band in bands], 1) / max(
        label_map.size, 1
    )


# By how much, in nats a pixel, another order must be the likelier one. Of one map: of 600 faces of
# CelebAMask-HQ read rightly none is above 0.32, of 16 streets of BDD100k none above -0.82. Of many
# maps: of those read rightly all are below -1.1; written in another of these orders they are above
# 0.4.
SURE_OF_ONE, SURE_OF_MANY = 0.6, 0.2
# Below this neither order looks like such pictures at all, and nothing is to be learnt from which
# is the likelier one.
LEAST_LIKELY = -3.5
# Below this the label maps, or one of them, show no such pictures: rightly read, all are above
# -1.8, each above -2.9.
UNLIKE, ONE_UNLIKE = -3.5, -3.7
_NEVER = 1e-5  # the share of a region where there should be none


def other_order(bands: NDArray[np.float64], looks: Looks, sure: float = SURE_OF_MANY) -> str | None:
    """The order in which label maps seem to be written, from their `bands_of` (or the mean of
    many); None = as read.
    """
    own = _likelihood(bands, looks, tuple(range(len(looks.typical))))
    others = {name: _likelihood(bands, looks, order) for name, order in looks.orders.items()}
    best = max(others, key=others.__getitem__)
    return best if others[best] - own > sure and others[best] > LEAST_LIKELY else None


def is_unlike(bands: NDArray[np.float64], looks: Looks, least: float = UNLIKE) -> bool:
    """Whether label maps, of which the `bands_of` are given, look like nothing of the kind as they
    are read.
    """
    return _likelihood(bands, looks, tuple(range(len(looks.typical)))) < least


def shares_of(bands: NDArray[np.float64], region_names: Sequence[str], most: int = 3) -> str:
    """The regions with most pixels, in words: `road 31 %, sky 25 %`."""
    shares = bands.sum(1)
    largest = [region for region in np.argsort(-shares)[:most] if shares[region] > 0]
    return ", ".join(f"{region_names[region]} {100 * shares[region]:.0f} %" for region in largest)


def _likelihood(bands: NDArray[np.float64], looks: Looks, order: Sequence[int]) -> float:
    """The mean log-likelihood of a pixel's region in its band, where the numbers stand for regions
    in this order.
    """
    typical = np.full_like(looks.typical, _NEVER)
    # Numbers that stand for the same region share its pixels.
    sharing = np.array([order.count(region) for region in order])
    typical[: len(order)] = np.maximum(looks.typical[list(order)] / sharing[:, None], _NEVER)
    return float((bands * np.log(typical)).sum())
