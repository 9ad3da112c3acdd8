"""The embedded faces as pixels: layers with soft edges, painted from back to front, each one region
of the label map.

Everything that the label map does not fix is uniform over its region: a colour, and a texture that
hangs on the face itself. So it can be said in one style code a region class, as SEAN has it.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from cfexp.worlds.face_names import REGIONS
from cfexp.worlds.face_people import Array, Table


class Drawing(NamedTuple):
    """N rendered faces."""

    images: NDArray[np.uint8]  # (N, S, S, 3) RGB
    label_maps: NDArray[np.uint8]  # (N, S, S) in 0..18


def draw_faces(faces: Table, size: int) -> Drawing:
    """The faces of a table at size x size pixels."""
    canvas = _Canvas(faces, size)
    _draw_behind(canvas, faces)
    _draw_head(canvas, faces)
    _draw_eyes(canvas, faces)
    _draw_mouth(canvas, faces)
    _draw_above(canvas, faces)
    return Drawing(np.round(np.clip(canvas.colors, 0, 1) * 255).astype(np.uint8), canvas.labels)


class _Canvas:
    """N pictures under way, with the coordinates of each face.

    `x`, `y`: of the picture, in 1/64 of its side. `u`, `v`: of the face (right, down), 0 between
    the eyes.
    """

    def __init__(self, faces: Table, size: int) -> None:
        count = len(faces["person"])
        self.unit = size / 64
        y, x = (np.mgrid[0:size, 0:size].astype(np.float32) + 0.5) / self.unit
        self.x, self.y = x[None], y[None]
        dx = (self.x - _wide(faces["x"])) / _wide(faces["scale"])
        dy = (self.y - _wide(faces["y"])) / _wide(faces["scale"])
        cos, sin = _wide(np.cos(faces["tilt"])), _wide(np.sin(faces["tilt"]))
        self.u: Array = cos * dx + sin * dy
        self.v: Array = cos * dy - sin * dx
        self.colors: Array = np.zeros((count, size, size, 3), dtype=np.float32)
        self.labels = np.zeros((count, size, size), dtype=np.uint8)

    def paint(self, region: str, distance: Array, color: Array, shade: Array | float = 1.0) -> None:
        """Cover what lies at `distance` < 0 with (N, 3) or (N, S, S, 3) `color` times `shade`."""
        cover = np.clip(0.5 - distance * self.unit, 0, 1).astype(np.float32)
        rows, columns = np.flatnonzero(cover.any((0, 2))), np.flatnonzero(cover.any((0, 1)))
        if not len(rows):
            return
        near = (slice(None), slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
        full = color[near] if color.ndim == 4 else color[:, None, None, :].astype(np.float32)
        full = (
            full
            * np.broadcast_to(np.asarray(shade, dtype=np.float32), cover.shape)[near][..., None]
        )
        self.colors[near] += cover[near][..., None] * (full - self.colors[near])
        self.labels[near][cover[near] >= 0.5] = REGIONS.index(region)


def _draw_behind(canvas: _Canvas, faces: Table) -> None:
    """Background, the hair behind the head, neck, clothes, necklace."""
    u, v = canvas.u, canvas.v
    everywhere = np.full(canvas.labels.shape, -1e3, dtype=np.float32)
    canvas.paint("background", everywhere, faces["background"])
    width = _wide(faces["face_width"])
    fall = np.where(_wide(faces["long_hair"]), 24.0, 3.0)
    skull = _ellipse(u, v + 5, width + 2.8, 19.5)
    curtain = np.maximum(np.abs(u) - width - 2.8 - 0.04 * (v + 5), np.maximum(v - fall, -v - 5))
    canvas.paint(
        "hair", np.minimum(skull, curtain), faces["hair_color"], _strands(canvas, faces) * 0.86
    )
    neck = np.maximum(np.abs(u) - 7.4 + np.clip((22 - v) * 0.08, 0, 1), 8 - v)
    canvas.paint("neck", neck, faces["skin"], 0.82 + 0.012 * np.clip(v - 18, 0, 10))
    down = canvas.y - _wide(faces["y"])
    across = np.abs(canvas.x - _wide(faces["x"]))
    collar = 23.5 + np.where(across < 9, 3 - 3 * (across / 9) ** 2, 0)
    cloth = collar + np.clip(across - 9, 0, None) ** 2 * 0.018 - down
    stripes = 1 - 0.12 * _wide(faces["cloth_stripes"]) * (np.sin(down * (2 * np.pi / 5)) > 0)
    canvas.paint("cloth", cloth, faces["cloth_color"], stripes)
    chain = np.abs(v - 22.5 + (u / 6.5) ** 2 * 2.2) - 0.9
    chain = np.maximum(chain, np.abs(u) - 7.2) + 1e3 * ~_wide(faces["necklace"])
    canvas.paint("necklace", chain, faces["metal"])


def _draw_head(canvas: _Canvas, faces: Table) -> None:
    """Ears, face and nose."""
    u, v, turn = canvas.u, canvas.v, _wide(faces["turn"])
    width = _wide(faces["face_width"])
    for side, region in ((1, "left_ear"), (-1, "right_ear")):
        ear = _ellipse(u - side * (width + 0.6), v - 2, 2.6, 4.4)
        inner = np.clip(0.5 - _ellipse(u - side * (width + 0.8), v - 2, 1.2, 2.6), 0, 1)
        canvas.paint(region, ear, faces["skin"], 0.93 - 0.14 * inner)
    narrow = width * (1 - _wide(faces["jaw"]) * np.clip(v / 20, 0, None) ** 2)
    outline = _ellipse(u, v, narrow, 20.5)
    radius = (u / width) ** 2 + (v / 20.5) ** 2
    shade = 1.03 - 0.13 * radius - 0.03 * u / width
    skin = faces["skin"][:, None, None, :].astype(np.float32) * shade[..., None]
    stubble = (
        _wide(faces["stubble"]) * _ramp(v, 7.5, 11.5) * np.clip(1.25 - _ramp(-v, -11, -6), 0, 1)
    )
    skin += stubble[..., None] * (0.4 * faces["brow_color"][:, None, None, :] + 0.35 * skin - skin)
    blush = _wide(faces["rosy"]) * np.exp(
        -(((np.abs(u - turn) - 8.5) / 3.6) ** 2) - ((v - 7) / 3.2) ** 2
    )
    skin *= 1 - 0.3 * blush[..., None] * np.array((0, 1, 0.75), dtype=np.float32)
    canvas.paint("skin", outline, skin, 1 - _wide(faces["wrinkles"]) * _lines(u - turn, v))
    half = np.select([_wide(faces["big_nose"]), _wide(faces["pointy_nose"])], [4.3, 2.3], 3.2)
    height = v - 1.5
    nose_width = half * (0.45 + 0.55 * np.clip(height / 5, 0, 1))
    nose = np.maximum(
        np.abs(u - 1.5 * turn) - nose_width,
        np.maximum(-height, height - 6.5 + 0.1 * (u - turn) ** 2),
    )
    canvas.paint("nose", nose, faces["skin"], 1.04 - 0.05 * np.clip(height - 1, 0, 6))


def _draw_eyes(canvas: _Canvas, faces: Table) -> None:
    """Glasses, eyes and brows; `left` is the person's left, at the right of the picture."""
    u, v, turn = canvas.u - _wide(faces["turn"]), canvas.v, _wide(faces["turn"])
    gap = _wide(faces["eye_gap"])
    lens = _box(np.abs(u) - gap, v, 5.4, 4.4, 2.2)
    bridge = np.maximum(np.abs(v + 1) - 0.8, np.abs(u) - gap)
    temples = np.maximum(np.abs(v + 1.5) - 0.8, -np.abs(u) + gap)
    temples = np.maximum(temples, np.abs(u) - _wide(faces["face_width"]))
    frame = np.minimum(lens, np.minimum(bridge, temples)) + 1e3 * ~_wide(faces["glasses"])
    glass = np.clip(0.5 - (lens + 1.5), 0, 1)
    dark = np.full((len(frame), 3), 0.12)
    tint = 0.78 * faces["skin"] + 0.16
    colors = dark[:, None, None] * (1 - glass[..., None]) + tint[:, None, None] * glass[..., None]
    canvas.paint("glasses", frame, colors.astype(np.float32))
    height = np.where(_wide(faces["narrow_eyes"]), 1.5, 2.5)
    thick = np.where(_wide(faces["bushy"]), 1.5, 0.8)
    arch = np.where(_wide(faces["arched"]), 1.9, 0.4).astype(np.float32)
    for side, name in ((1, "left"), (-1, "right")):
        across = u - side * gap
        eye = _ellipse(across, v, 4.0, height)
        iris = np.clip(0.5 - (np.hypot(across - 0.5 * turn, v) - 2.2), 0, 1)[..., None]
        pupil = np.clip(0.5 - (np.hypot(across - 0.5 * turn, v) - 1.0), 0, 1)[..., None]
        colors = (
            0.96 * (1 - iris) + faces["iris"][:, None, None, :] * iris * (1 - pupil) + 0.05 * pupil
        )
        canvas.paint(
            f"{name}_eye",
            eye,
            colors.astype(np.float32),
            np.clip(1.0 - 0.3 * (-v - height + 1.2), 0.5, 1),
        )
        bow = v + 5.5 - arch * ((across + 0.9 * side) / 4.6) ** 2 + 0.5 * arch
        brow = np.maximum(np.abs(bow) - thick * (1.1 - 0.06 * side * across), np.abs(across) - 4.6)
        canvas.paint(f"{name}_brow", brow, faces["brow_color"])


def _draw_mouth(canvas: _Canvas, faces: Table) -> None:
    """What decides Smiling, in any label map: white teeth between bright lips, or dark lips that
    are closed.
    """
    u, v = canvas.u - _wide(faces["turn"]), canvas.v - 13
    width, curve = _wide(faces["mouth_width"]), _wide(faces["mouth_curve"])
    bent = v + curve * ((u / width) ** 2 - 0.4)
    thick = _wide(faces["lip_height"])
    inside = _wide(faces["mouth_height"]) * np.clip(1 - (u / width) ** 2, 0, 1) ** 0.7
    outside = (_wide(faces["mouth_height"]) + thick) * np.clip(
        1 - (u / (width + 1.4)) ** 2, 0, 1
    ) ** 0.6
    outer = np.maximum(np.abs(bent) - outside, np.abs(u) - width - 1.4)
    smiling, lipstick = faces["smiling"][:, None], faces["lipstick"][:, None]
    lips = np.where(
        lipstick, (0.86, 0.22, 0.34), 0.62 * faces["skin"] + np.array((0.24, 0.06, 0.08))
    )
    lips = lips * np.where(smiling, (1.1, 1.1, 1.1), (0.7, 0.58, 0.6))
    canvas.paint("upper_lip", np.maximum(outer, bent), lips, 0.94)
    canvas.paint("lower_lip", np.maximum(outer, -bent), lips)
    teeth = 1 - 0.16 * np.exp(-((bent / 0.5) ** 2)) - 0.05 * (np.cos(u * (2 * np.pi / 2.6)) > 0.6)
    closed = 0.88 - 0.5 * np.exp(-((bent / 0.7) ** 2))
    interior = np.where(smiling, (0.98, 0.97, 0.94), lips)
    texture = np.where(_wide(faces["smiling"]), teeth, closed)
    canvas.paint("mouth", np.maximum(np.abs(bent) - inside, np.abs(u) - width), interior, texture)


def _draw_above(canvas: _Canvas, faces: Table) -> None:
    """The hair before the face, hat and earrings."""
    u, v = canvas.u, canvas.v
    width = _wide(faces["face_width"])
    bangs, receding = _wide(faces["bangs"]), _wide(faces["receding"])
    line = np.where(bangs, -9.6, np.where(receding, -16.5, -13.0))
    # Behind the temples the hair comes down to the ears; receding hair leaves the corners of the
    # forehead free.
    corner = np.where(receding, 0.0, np.where(bangs, 0.02, 0.055))
    front = np.maximum(v - line - corner * u**2, _ellipse(u, v + 5, width + 2.8, 19.5))
    strand = np.maximum(
        width - 0.8 - np.abs(u), np.maximum(-v - 8, v - np.where(_wide(faces["long_hair"]), 22, -4))
    )
    strand = np.maximum(strand, np.abs(u) - width - 2.8 - 0.04 * (v + 5))
    canvas.paint("hair", np.minimum(front, strand), faces["hair_color"], _strands(canvas, faces))
    crown = np.maximum(_ellipse(u, v + 8, width + 3.6, 18), v + 11)
    brim = _box(u, v + 10.5, width + 5.5, 1.6, 1.2)
    hat = np.minimum(crown, brim) + 1e3 * ~_wide(faces["hat"])
    canvas.paint("hat", hat, faces["hat_color"], np.where(np.abs(v + 14) < 1.4, 0.6, 1.0))
    drops = _ellipse(np.abs(u) - width - 1.6, v - 8.2, 1.7, 2.2) + 1e3 * ~_wide(faces["earrings"])
    canvas.paint("earring", drops, faces["metal"])


def _strands(canvas: _Canvas, faces: Table) -> Array:
    """Straight or wavy strands; grey hair is streaked."""
    u, v, wavy = canvas.u, canvas.v, _wide(faces["wavy"])
    bend = np.where(wavy, 1.5 * np.sin(v * (2 * np.pi / 9)), 0.0)
    depth = np.where(_wide(faces["gray"]), 0.1, np.where(wavy, 0.07, 0.05)).astype(np.float32)
    strands: Array = 1 - depth + depth * np.sin((u + bend) * (2 * np.pi / 5))
    return strands


def _lines(u: Array, v: Array) -> Array:
    """How dark the lines of an old skin are, 0 to 1: across the forehead and cheeks, and from nose
    to mouth.
    """
    waves = np.cos((v + 0.02 * u**2 + 0.6) * (2 * np.pi / 4))
    across = np.clip(2.4 * waves - 1, 0, 1) * np.where(v < -2, 1, 0.7)
    fold = (
        np.exp(-(((np.abs(u) - 4.6 - 0.38 * (v - 6)) / 0.8) ** 2))
        * _ramp(v, 5, 7)
        * _ramp(-v, -15, -13)
    )
    lines: Array = 0.06 + 0.32 * np.maximum(across, fold)
    return lines


def _wide(values: Array) -> Array:
    """(N,) as (N, 1, 1), in single precision if it is a number."""
    wide: Array = values[:, None, None]
    return wide if wide.dtype == bool else wide.astype(np.float32)


def _ramp(values: Array, start: float, end: float) -> Array:
    """0 up to `start`, 1 from `end` on."""
    ramp: Array = np.clip((values - start) / (end - start), 0, 1)
    return ramp


def _ellipse(u: Array, v: Array, half_width: Array | float, half_height: Array | float) -> Array:
    """About the signed distance to an ellipse, negative inside."""
    radius = np.hypot(u / half_width, v / half_height)
    slope = np.hypot(u / half_width**2, v / half_height**2)
    distance: Array = radius * (radius - 1) / np.maximum(slope, 1e-3)
    # In its middle the formula tends to 0.
    return np.where(radius < 0.5, -0.5 * np.minimum(half_width, half_height), distance)


def _box(
    u: Array, v: Array, half_width: Array | float, half_height: Array | float, corner: float
) -> Array:
    """The signed distance to a box with round corners."""
    du, dv = np.abs(u) - half_width + corner, np.abs(v) - half_height + corner
    outside = np.hypot(np.maximum(du, 0), np.maximum(dv, 0))
    distance: Array = outside + np.minimum(np.maximum(du, dv), 0) - corner
    return distance
