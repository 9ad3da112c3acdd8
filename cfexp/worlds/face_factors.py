"""The embedded faces under interventions: the same face, with one thing drawn otherwise."""

from collections.abc import Callable, Collection, Iterator
from typing import Any, NamedTuple

import numpy as np

from cfexp.worlds.face_drawing import draw_faces
from cfexp.worlds.face_names import REGIONS
from cfexp.worlds.face_people import Table
from cfexp.worlds.factors import Factor, Scene, scene_of

_LIPS = ("upper_lip", "lower_lip")
# All that is of the skin's colour, or mixed with it: lips, closed mouths, and what glasses show.
_OF_SKIN = ("skin", "nose", "left_ear", "right_ear", "neck", "mouth", *_LIPS, "glasses")
_BLACK, _BLOND = np.array((0.15, 0.13, 0.14)), np.array((0.89, 0.74, 0.42))
_GRAY = 0.75 * np.array((0.98, 1, 1.03))
_BROW = 0.6  # of the hair's own colour, which brows keep when it is grey
Face = dict[str, Any]  # a row of the table of faces


class _Exchange(NamedTuple):
    """A factor, and the columns of the table of faces with each of its values."""

    factor: Factor
    columns: Callable[[Face], tuple[Face, Face]]
    own: Callable[[Face], int] = lambda face: -1  # which of them a face has; -1 = neither
    has_it: Callable[[Face], bool] = lambda face: True


def _is(
    column: str, values: tuple[str, str], regions: tuple[str, ...], name: str = ""
) -> _Exchange:
    """What is there or not: a column of bools."""
    return _Exchange(
        Factor(name or column, values, regions),
        lambda face: ({column: False}, {column: True}),
        lambda face: int(face[column]),
    )


def _between(
    column: str, name: str, values: tuple[str, str], regions: tuple[str, ...], *ends: Any
) -> _Exchange:
    """What is drawn at random: two values as far apart as faces of this world are."""
    return _Exchange(
        Factor(name, values, regions), lambda face: ({column: ends[0]}, {column: ends[1]})
    )


_EXCHANGES = (
    _is("smiling", ("no", "yes"), ("mouth", *_LIPS), "smile"),
    _Exchange(
        Factor("wrinkles", ("lined", "smooth"), ("skin",)),
        lambda face: ({"wrinkles": 0.9}, {"wrinkles": 0.0}),
        lambda face: int(face["wrinkles"] == 0),
    ),
    _Exchange(
        Factor("grey_hair", ("grey", "its own colour"), ("hair",)),
        lambda face: ({"hair_color": _GRAY}, {"hair_color": face["brow_color"] / _BROW}),
        lambda face: int(not face["gray"]),
    ),
    _between("hair_color", "hair_color", ("black", "blond"), ("hair",), _BLACK, _BLOND)._replace(
        has_it=lambda face: not face["gray"]
    ),
    _is("wavy", ("straight", "wavy"), ("hair",), "waves"),
    _is("lipstick", ("no", "yes"), _LIPS),
    _between(
        "skin", "skin_tone", ("dark", "pale"), _OF_SKIN, (0.48, 0.32, 0.23), (0.99, 0.90, 0.84)
    ),
    _Exchange(
        Factor("beard", ("none", "full"), ("skin",)),
        lambda face: ({"stubble": 0.0}, {"stubble": 0.85}),
        lambda face: 1 if face["bearded"] else 0 if face["stubble"] == 0 else -1,
    ),
    _is("rosy", ("no", "yes"), ("skin",), "rosy_cheeks"),
    _between(
        *("iris", "iris", ("brown", "blue"), ("left_eye", "right_eye")),
        *((0.32, 0.20, 0.12), (0.25, 0.45, 0.75)),
    ),
    # A beard is of the brows' colour.
    _between(
        *("brow_color", "brow_color", ("black", "blond"), ("left_brow", "right_brow", "skin")),
        *(_BLACK * _BROW, _BLOND * _BROW),
    ),
    _between(
        "cloth_color", "clothes", ("red", "blue"), ("cloth",), (0.6, 0.18, 0.18), (0.18, 0.18, 0.6)
    ),
    _is("cloth_stripes", ("no", "yes"), ("cloth",), "stripes"),
    _between(
        *("background", "background", ("dark", "light"), ("background",)),
        *((0.70, 0.46, 0.46), (0.86, 0.86, 0.95)),
    ),
    _between("hat_color", "hat_color", ("red", "blue"), ("hat",), (0.6, 0.1, 0.1), (0.1, 0.1, 0.6)),
    _between(
        *("metal", "metal", ("gold", "silver"), ("earring", "necklace")),
        *((0.95, 0.78, 0.25), (0.85, 0.87, 0.92)),
    ),
    # What moves outlines, too.
    _Exchange(
        Factor("corners_of_mouth", ("level", "up"), ()),
        lambda face: ({"mouth_curve": 0.0}, {"mouth_curve": 1.4}),
        lambda face: int(face["corners_up"]),
    ),
    _Exchange(
        Factor("open_mouth", ("no", "yes"), ()),
        lambda face: ({"mouth_height": 1.75}, {"mouth_height": 2.6}),
        lambda face: int(face["mouth_open"]),
    ),
    _is("glasses", ("no", "yes"), (), "glasses_there"),
    _is("hat", ("no", "yes"), (), "hat_there"),
    _is("bangs", ("no", "yes"), ()),
    _is("long_hair", ("no", "yes"), ()),
)
FACTORS = tuple(exchange.factor for exchange in _EXCHANGES)


def face_scene(table: Table, row: int, size: int, names: Collection[str] | None = None) -> Scene:
    """The face in a row of the world's table, as it is and under each intervention, at size x size
    pixels.

    names: of the factors that are drawn; None = all.
    """
    face = {name: values[row] for name, values in table.items()}
    exchanges = [
        each
        for each in _EXCHANGES
        if each.has_it(face) and (names is None or each.factor.name in names)
    ]
    rows = [{}, *(columns for each in exchanges for columns in _columns(each, face))]
    changed = {
        name: np.stack([np.asarray(each.get(name, value)) for each in rows]).astype(
            np.asarray(value).dtype
        )
        for name, value in face.items()
    }
    (image, *images), label_maps = draw_faces(changed, size)
    pairs = zip(images[::2], images[1::2], strict=True)
    exchanged = (
        (each.factor, each.own(face), pair) for each, pair in zip(exchanges, pairs, strict=True)
    )
    numbers = {name: number for number, name in enumerate(REGIONS)}
    return scene_of(image, label_maps[0], numbers, exchanged)


def _columns(exchange: _Exchange, face: Face) -> Iterator[Face]:
    """What takes the place of a face's columns for each value; nothing for the one that it has."""
    own = exchange.own(face)
    for value, columns in enumerate(exchange.columns(face)):
        yield {} if value == own else columns
