"""What the embedded streets are painted on: an image with its label map, seen by a pinhole camera.

Lengths in the picture are units of 1/64 of its height; lengths in the world are metres: X to the
right of the ego lane's centre, Y up from the ground, Z ahead of the camera. Everything is drawn at
twice the resolution with hard edges and averaged, so edges are smooth in the image and exact in the
label map.
"""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Array = NDArray[Any]

# BDD100k's train ids.
ROAD, SIDEWALK, BUILDING, WALL, FENCE, POLE = 0, 1, 2, 3, 4, 5
TRAFFIC_LIGHT, TRAFFIC_SIGN, VEGETATION, TERRAIN, SKY, PERSON = 6, 7, 8, 9, 10, 11
CAR, UNLABELED = 13, 255

FOCAL, EYE = 70.0, 1.5  # the camera's focal length in units, its height in metres
_FINE = 2  # drawn pixels a pixel, along each side
# Lamps: lit ones are the only saturated bright red and green of a scene.
RED, GREEN, LENS = (255, 44, 36), (36, 238, 122), (50, 48, 52)
BRAKE_LIT, BRAKE_DARK = (255, 40, 34), (72, 26, 32)


class Lamp(NamedTuple):
    """One lamp as drawn; `mask` is of the finished image's size."""

    of: str  # traffic_light or car
    thing: int  # which of them
    place: str  # top, middle, bottom; left, right
    state: str  # red, green or dark: what read_lamps should say
    mask: NDArray[np.bool_]


class Canvas:
    """An image and its label map at the fine resolution; (x, y) are in units.

    looks: by name what an intervention draws otherwise, see `look`.
    """

    def __init__(
        self,
        height: int,
        width: int,
        horizon: float,
        vanishing: float,
        rng: np.random.Generator,
        looks: Mapping[str, Any] | None = None,
    ) -> None:
        self.horizon, self.vanishing, self.rng = horizon, vanishing, rng
        self.looks = looks or {}
        self.scale = _FINE * height / 64
        rows, columns = _FINE * height, _FINE * width
        self.width = 64 * width / height
        self.y = ((np.arange(rows, dtype=np.float32) + 0.5) / self.scale)[:, None]
        self.x = ((np.arange(columns, dtype=np.float32) + 0.5) / self.scale)[None, :]
        self.image = np.zeros((rows, columns, 3), dtype=np.float32)
        self.label = np.full((rows, columns), UNLABELED, dtype=np.uint8)
        # The lamp that a fine pixel shows; -1 = none.
        self.owner = np.full((rows, columns), -1, dtype=np.int16)
        self.lamps: list[tuple[str, int, str, str]] = []

    def look(self, name: str, drawn: Any) -> Any:
        """What was drawn at random, or what an intervention says in its place. The random draw
        comes first, so that all that is drawn later is the same.
        """
        return self.looks.get(name, drawn)

    # Where things are

    def column(self, x: float, z: float) -> float:
        """The picture's x of a point X metres to the right, Z ahead."""
        return self.vanishing + FOCAL * x / z

    def ground(self, z: float) -> float:
        """The picture's y of the ground Z metres ahead."""
        return self.horizon + FOCAL * EYE / z

    def unit(self, z: float) -> float:
        """Units a metre, Z metres ahead."""
        return FOCAL / z

    # Painting

    def window(self, x0: float, y0: float, x1: float, y1: float) -> tuple[slice, slice]:
        """The fine pixels whose centres lie in the box."""
        rows, columns = self.label.shape
        top, bottom = (min(max(round(y * self.scale), 0), rows) for y in (y0, y1))
        left, right = (min(max(round(x * self.scale), 0), columns) for x in (x0, x1))
        return slice(top, bottom), slice(left, right)

    def paint(
        self, where: tuple[slice, slice], inside: Array | None, color: Any, region: int
    ) -> None:
        """Colour (a colour or a texture of the window's shape) and label of a window, or of the
        part `inside` it.
        """
        if inside is None:
            self.image[where], self.label[where], self.owner[where] = color, region, -1
            return
        color = np.asarray(color, dtype=np.float32)
        self.image[where][inside] = (
            color if color.ndim == 1 else np.broadcast_to(color, (*inside.shape, 3))[inside]
        )
        self.label[where][inside], self.owner[where][inside] = region, -1

    def box(self, x0: float, y0: float, x1: float, y1: float, color: Any, region: int) -> None:
        """A filled rectangle."""
        self.paint(self.window(x0, y0, x1, y1), None, color, region)

    def disc(
        self, cx: float, cy: float, rx: float, ry: float, color: Any, region: int, power: int = 2
    ) -> None:
        """A filled ellipse; a higher `power` makes it a rectangle with round corners."""
        where = self.window(cx - rx, cy - ry, cx + rx, cy + ry)
        u, v = (self.x[:, where[1]] - cx) / rx, (self.y[where[0]] - cy) / ry
        self.paint(where, abs(u) ** power + abs(v) ** power <= 1, color, region)

    def trapezoid(
        self, cx: float, y0: float, y1: float, top: float, bottom: float, color: Any, region: int
    ) -> None:
        """A symmetric one of half-widths `top` at y0 and `bottom` at y1."""
        where = self.window(cx - max(top, bottom), y0, cx + max(top, bottom), y1)
        half = top + (bottom - top) * (self.y[where[0]] - y0) / (y1 - y0)
        self.paint(where, abs(self.x[:, where[1]] - cx) <= half, color, region)

    def lamp(
        self,
        lamp: tuple[str, int, str, str],
        cx: float,
        cy: float,
        rx: float,
        ry: float,
        power: int,
    ) -> None:
        """A lamp (of, thing, place, state), lit in its colour with a brighter core, or dark."""
        of, _, _, state = lamp
        if of == "car":
            region, lit, dark = CAR, {"red": BRAKE_LIT}, BRAKE_DARK
        else:
            region, lit, dark = TRAFFIC_LIGHT, {"red": RED, "green": GREEN}, LENS
        color = np.array(lit.get(state, dark), dtype=np.float32)
        self.disc(cx, cy, rx, ry, color, region, power)
        core = color + (255 - color) * (0.28 if state != "dark" else 0.08)
        self.disc(cx - 0.1 * rx, cy - 0.15 * ry, 0.5 * rx, 0.5 * ry, core, region, power)
        where = self.window(cx - rx, cy - ry, cx + rx, cy + ry)
        u, v = (self.x[:, where[1]] - cx) / rx, (self.y[where[0]] - cy) / ry
        # A little inside the edge, where the colour is the lamp's own in the finished image.
        self.owner[where][abs(u) ** power + abs(v) ** power <= 0.9] = len(self.lamps)
        self.lamps.append(lamp)

    def blobs(self, where: tuple[slice, slice], cell: float) -> Array:
        """Smooth noise of unit size over a window, a blob about `cell` units wide."""
        rows, columns = where[0].stop - where[0].start, where[1].stop - where[1].start
        size = (2 + int(columns / (cell * self.scale)), 2 + int(rows / (cell * self.scale)))
        coarse = Image.fromarray(self.rng.normal(0, 1, size[::-1]).astype(np.float32))
        return np.asarray(coarse.resize((columns, rows), Image.Resampling.BICUBIC))[..., None]

    def finish(self) -> tuple[NDArray[np.uint8], NDArray[np.uint8], list[Lamp]]:
        """Image (H, W, 3), label map (H, W) of train ids, and the lamps of which at least eight
        pixels are seen.
        """
        corners = [
            (slice(i, None, _FINE), slice(j, None, _FINE))
            for i in range(_FINE)
            for j in range(_FINE)
        ]
        image = sum(self.image[corner] for corner in corners) / np.float32(len(corners))
        grain = self.rng.normal(0, 2.0, image.shape[:2])  # the camera's
        image += grain[..., None].astype(np.float32)
        owner = self.owner[corners[0]].copy()  # of the pixels that show one lamp and nothing else
        for corner in corners[1:]:
            owner[self.owner[corner] != owner] = -1
        masks = [owner == index for index in range(len(self.lamps))]
        seen = [
            Lamp(*lamp, mask)
            for lamp, mask in zip(self.lamps, masks, strict=True)
            if mask.sum() >= 8
        ]
        pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        return pixels, self.label[::_FINE, ::_FINE].copy(), seen
