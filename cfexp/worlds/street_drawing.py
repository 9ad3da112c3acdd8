"""What the embedded streets show, and how it is painted: a straight road, and what stands on it
and beside it.

What neither the label map nor one code a region class can tell (where a window, a dash or a leaf
is) is drawn faintly: a reconstruction from such codes cannot hold it, in the real sets neither.
"""

from typing import NamedTuple

import numpy as np

from cfexp.worlds.street_canvas import (
    BUILDING,
    CAR,
    EYE,
    FOCAL,
    PERSON,
    POLE,
    ROAD,
    SIDEWALK,
    SKY,
    TERRAIN,
    TRAFFIC_LIGHT,
    TRAFFIC_SIGN,
    UNLABELED,
    VEGETATION,
    Array,
    Canvas,
)

RGB = tuple[float, float, float]

LANE = 3.4  # metres
# The colour of all facades of an image: a region class has one style code.
FACADES: dict[str, RGB] = {
    "sand": (206, 180, 138),
    "grey": (142, 143, 146),
    "cream": (224, 214, 190),
    "brown": (134, 108, 90),
    "blue": (82, 116, 176),
}
# No red, orange or strong green: those colours are the lamps'.
_PAINTS: tuple[RGB, ...] = (
    (226, 228, 230),
    (168, 172, 178),
    (92, 98, 108),
    (46, 48, 54),
    (52, 82, 140),
    (178, 168, 146),
    (70, 96, 98),
)
_CLOTHES: tuple[RGB, ...] = (
    (60, 70, 120),
    (90, 60, 120),
    (40, 44, 52),
    (200, 200, 196),
    (70, 110, 140),
    (130, 120, 90),
)
_SKIES: tuple[tuple[RGB, RGB], ...] = (  # at the top, at the horizon
    ((96, 150, 216), (204, 222, 238)),
    ((128, 164, 204), (226, 230, 232)),
    ((164, 172, 182), (212, 214, 218)),
    ((126, 128, 172), (232, 214, 206)),
)


LEAVES: tuple[RGB, ...] = ((68, 90, 60), (82, 98, 66), (74, 87, 72))


class Road(NamedTuple):
    """What lies where across the street, in metres from the ego lane's centre."""

    left: float  # the road's edges
    right: float
    walk: float  # the sidewalks' width
    verge: float  # of the strip of grass behind them; 0 = none


def draw_background(canvas: Canvas, road: Road, facade: str, crossing: bool) -> None:
    """Sky, two rows of facades with gaps for trees, and the ground."""
    _draw_sky(canvas)
    rng = canvas.rng
    color = np.array(FACADES[facade], dtype=np.float32) * np.float32(rng.uniform(0.9, 1.06))
    # What closes the street far ahead.
    height = rng.uniform(2, 6)
    canvas.box(0, canvas.horizon - height, canvas.width, canvas.horizon + 2, color * 0.8, BUILDING)
    beyond = road.walk + road.verge
    for side, distance in ((-1, -road.left + beyond), (1, road.right + beyond)):
        _draw_facades(canvas, side, distance, color)
    _draw_ground(canvas, road, crossing)


def _draw_sky(canvas: Canvas) -> None:
    rng = canvas.rng
    top, low = (np.array(color) for color in _SKIES[canvas.look("sky", rng.integers(len(_SKIES)))])
    where = canvas.window(0, 0, canvas.width, canvas.horizon)
    share = np.clip(canvas.y[where[0]] / canvas.horizon, 0, 1)[..., None]
    clouds = np.clip(canvas.blobs(where, 14) + rng.uniform(-0.8, 0.4), 0, 1) * 5
    canvas.paint(where, None, top * (1 - share) + low * share + clouds, SKY)


def _draw_facades(canvas: Canvas, side: int, distance: float, color: Array) -> None:
    """The row of houses `distance` metres to one side, seen along the street."""
    rng = canvas.rng
    edge = canvas.vanishing + side * 1.2  # where the row ends in the distance
    left, right = (0, edge) if side < 0 else (edge, canvas.width)
    # The houses' feet are lowest at the picture's edge; nothing of them is below.
    farthest = max(abs(left - canvas.vanishing), abs(right - canvas.vanishing))
    lowest = canvas.horizon + EYE * farthest / distance
    where = canvas.window(left, 0, right, lowest + 1)
    depth = np.maximum(FOCAL * distance / np.abs(canvas.x[:, where[1]] - canvas.vanishing), 0.1)
    up = EYE - (canvas.y[where[0]] - canvas.horizon) * depth / FOCAL  # metres above the ground
    ends = 4 + np.cumsum(rng.uniform(7, 15, 8))
    house = np.minimum(np.searchsorted(ends, depth.ravel()), 7)
    heights = rng.uniform(5, 13, 8) * np.where(rng.random(8) < 0.17, 0, 1)  # no house: trees show
    tints = rng.uniform(0.98, 1.02, 8).astype(np.float32)
    floor, bay = rng.uniform(2.7, 3.4), rng.uniform(1.9, 3.2)
    in_floor, in_bay = (up / floor) % 1, (depth / bay) % 1
    window = (in_floor > 0.34) & (in_floor < 0.8) & (in_bay > 0.25) & (in_bay < 0.75)
    sill = (in_floor > 0.92) | (up > heights[house] - 0.5)
    walls = color * (tints[house] * np.where(sill, np.float32(1.03), np.float32(1.0)))[..., None]
    texture = np.where(window[..., None], np.float32(0.92) * walls, walls) + canvas.blobs(where, 3)
    canvas.paint(where, (up < heights[house]) & (depth < 70), texture, BUILDING)
    gap = (heights[house] == 0) & (up < 4.5 + canvas.blobs(where, 4)[..., 0] * 1.1) & (depth < 70)
    if gap.any():
        shade = 1 + np.float32(0.04) * canvas.blobs(where, 1.5)
        leaves = np.array(canvas.look("leaves", (72, 93, 64)), np.float32) * shade
        canvas.paint(where, gap, leaves, VEGETATION)


def _draw_ground(canvas: Canvas, road: Road, crossing: bool) -> None:
    rng = canvas.rng
    where = canvas.window(0, canvas.horizon + 1, canvas.width, 64)
    ahead = FOCAL * EYE / (canvas.y[where[0]] - canvas.horizon)
    across = (canvas.x - canvas.vanishing) * ahead / FOCAL
    distance = np.maximum(across - road.right, road.left - across)  # beyond the road's edge
    grain = canvas.blobs(where, 1.2)
    asphalt = (
        np.array((1.0, 1.0, 1.03), np.float32)
        * np.float32(canvas.look("asphalt", rng.uniform(78, 112)))
        + 1.5 * grain
    )
    asphalt += 1.5 * canvas.blobs(where, 9)
    on_road = np.broadcast_to(distance <= 0, across.shape)
    canvas.paint(where, on_road, asphalt, ROAD)
    slabs = np.where((ahead / 1.5) % 1 < 0.08, np.float32(0.95), np.float32(1))[..., None]
    paving = (
        np.array((176, 170, 162), np.float32)
        * np.float32(canvas.look("paving", rng.uniform(0.85, 1.05)))
        * slabs
        + 1.5 * grain
    )
    canvas.paint(where, (distance > 0) & (distance <= road.walk), paving, SIDEWALK)
    canvas.paint(where, (distance > 0) & (distance <= 0.22), paving * 0.72, SIDEWALK)  # the kerb
    grass = (
        np.array((112, 116, 66), np.float32)
        * np.float32(canvas.look("grass", rng.uniform(0.85, 1.1)))
        * (1 + np.float32(0.04) * grain)
    )
    canvas.paint(
        where, (distance > road.walk) & (distance <= road.walk + road.verge), grass, TERRAIN
    )
    white = np.full(3, rng.uniform(200, 216))
    worn = 0.82 * asphalt + 0.18 * white  # the marks whose place no label tells
    thick = 0.07 + 0.012 * ahead  # far marks are drawn wider, or they would vanish
    for border in np.arange(road.left, road.right + 0.1, LANE):
        outer = border in (road.left, road.right) or abs(border - road.right) < 0.1
        dashed = (
            np.full_like(ahead, True, dtype=bool)
            if outer
            else (ahead / 5 + rng.random()) % 1 < 0.55
        )
        inset = 0.25 if border == road.left else -0.25 if outer else 0
        mark = 0.4 * asphalt + 0.6 * white if outer else worn
        canvas.paint(
            where, (abs(across - border - inset) < thick) & dashed & (ahead < 45), mark, ROAD
        )
    if crossing:
        near = rng.uniform(4.2, 5)
        bars = (across / 0.9) % 1 < 0.5
        canvas.paint(where, on_road & bars & (ahead > near) & (ahead < near + 1.6), worn, ROAD)


def draw_tree(canvas: Canvas, x: float, z: float) -> None:
    """A trunk and a crown of leaves."""
    rng, unit, base = canvas.rng, canvas.unit(z), canvas.ground(z)
    cx, top = canvas.column(x, z), base - rng.uniform(3.6, 5.0) * unit
    canvas.box(cx - 0.13 * unit, top, cx + 0.13 * unit, base, (74, 62, 50), VEGETATION)
    green = np.array(canvas.look("leaves", LEAVES[rng.integers(len(LEAVES))]))
    for _ in range(5):
        dx = rng.normal(0, 0.55) * unit
        dy = rng.normal(0, 0.5) * unit
        radius = rng.uniform(0.75, 1.15) * unit
        where = canvas.window(
            cx + dx - radius, top + dy - radius, cx + dx + radius, top + dy + radius
        )
        if where[0].stop - where[0].start > 2 and where[1].stop - where[1].start > 2:
            u, v = canvas.x[:, where[1]] - cx - dx, canvas.y[where[0]] - top - dy
            rough = np.hypot(u, v) / radius + 0.1 * canvas.blobs(where, 1.2)[..., 0]
            light = (1.05 - 0.1 * (u + v) / radius)[..., None] + 0.04 * canvas.blobs(where, 0.8)
            canvas.paint(where, rough < 1, green * light, VEGETATION)


def draw_street_lamp(canvas: Canvas, x: float, z: float) -> None:
    """A tall pole with an arm towards the road."""
    unit, base, cx = canvas.unit(z), canvas.ground(z), canvas.column(x, z)
    top, half = base - 6.5 * unit, max(0.09 * unit, 0.5)
    canvas.box(cx - half, top, cx + half, base, (104, 106, 110), POLE)
    tip = cx - np.sign(x) * 1.6 * unit
    canvas.box(min(cx, tip), top, max(cx, tip), top + 2 * half, (104, 106, 110), POLE)


def draw_sign(canvas: Canvas, x: float, z: float) -> None:
    """A blue or white sign on a pole."""
    rng, unit, base, cx = canvas.rng, canvas.unit(z), canvas.ground(z), canvas.column(x, z)
    radius, high = max(0.42 * unit, 2.4), base - 2.7 * unit
    canvas.box(cx - 0.5, high, cx + 0.5, base, (128, 130, 134), POLE)
    power = int(rng.choice([2, 8]))
    white, blue = (238, 240, 242), (40, 84, 176)
    canvas.disc(cx, high, radius, radius, white, TRAFFIC_SIGN, power)
    canvas.disc(cx, high, 0.84 * radius, 0.84 * radius, blue, TRAFFIC_SIGN, power)
    wide, tall = 0.5 * radius, 0.16 * radius
    canvas.box(cx - wide, high - tall, cx + wide, high + tall, white, TRAFFIC_SIGN)


def draw_person(canvas: Canvas, x: float, z: float, clothes: int) -> None:
    """Someone on the sidewalk; `clothes` is the colour that the people of this image wear."""
    rng, unit, base, cx = canvas.rng, canvas.unit(z), canvas.ground(z), canvas.column(x, z)
    tall = rng.uniform(1.65, 1.9) * unit
    coat = np.array(_CLOTHES[clothes % len(_CLOTHES)]) * rng.uniform(0.9, 1.1)
    trousers, hip = (44, 46, 58), base - 0.48 * tall
    for leg in (-1, 1):
        foot = cx + leg * (0.1 * tall)
        canvas.box(foot - 0.07 * tall, hip, foot + 0.06 * tall, base, trousers, PERSON)
    canvas.disc(cx, base - 0.62 * tall, 0.19 * tall, 0.24 * tall, coat, PERSON, 4)
    canvas.disc(cx, base - 0.92 * tall, 0.09 * tall, 0.1 * tall, (204, 162, 136), PERSON)


def draw_car(canvas: Canvas, number: int, x: float, z: float, paint: int, braking: bool) -> None:
    """A car from behind with two large brake lights."""
    unit, base, cx = canvas.unit(z), canvas.ground(z), canvas.column(x, z)
    wide, tall = 1.95 * unit, 1.62 * unit
    body = np.array(_PAINTS[paint % len(_PAINTS)], dtype=np.float32)
    canvas.disc(cx, base, 0.54 * wide, 0.08 * tall, (46, 46, 50), ROAD)  # its shadow
    tyre, window, plate = (26, 26, 30), (58, 70, 84), (214, 214, 206)
    for wheel in (-1, 1):
        middle, half = cx + wheel * 0.38 * wide, 0.09 * wide
        canvas.box(middle - half, base - 0.24 * tall, middle + half, base, tyre, CAR)
    top, bottom = base - tall, base - 0.55 * tall
    canvas.trapezoid(cx, top, bottom, 0.33 * wide, 0.45 * wide, body * 0.94, CAR)
    top, bottom = base - 0.93 * tall, base - 0.62 * tall
    canvas.trapezoid(cx, top, bottom, 0.29 * wide, 0.37 * wide, window, CAR)
    canvas.disc(cx, base - 0.37 * tall, 0.5 * wide, 0.27 * tall, body, CAR, 6)
    top, bottom, half = base - 0.2 * tall, base - 0.12 * tall, 0.48 * wide
    canvas.box(cx - half, top, cx + half, bottom, body * 0.6, CAR)  # the bumper
    top, bottom, half = base - 0.38 * tall, base - 0.26 * tall, 0.13 * wide
    canvas.box(cx - half, top, cx + half, bottom, plate, CAR)
    state = "red" if braking else "dark"
    for place, sign in (("left", -1), ("right", 1)):
        lamp, middle = ("car", number, place, state), cx + sign * 0.335 * wide
        canvas.lamp(lamp, middle, base - 0.43 * tall, 0.155 * wide, 0.165 * tall, 6)


def draw_traffic_light(
    canvas: Canvas, number: int, cx: float, top: float, lens: float, state: str, pole: str
) -> None:
    """A head with three lamps of diameter `lens` units: red on top, (amber, never lit), green at
    the bottom.

    pole: `below` for a post to the ground, `left` or `right` for an arm that comes from that side
    of the picture.
    """
    pitch, half, tall = lens * 1.12, 0.72 * lens, 3 * lens * 1.12 + 0.3 * lens
    steel = (82, 86, 92)
    if pole == "below":
        canvas.box(cx - 0.9, top + tall, cx + 0.9, canvas.ground(9.0), steel, POLE)
    else:
        ends = (0, cx) if pole == "left" else (cx, canvas.width)
        canvas.box(ends[0], top + 1.2, ends[1], top + 2.8, steel, POLE)
    canvas.disc(cx, top + tall / 2, half + 0.6, tall / 2 + 0.6, (206, 206, 200), TRAFFIC_LIGHT, 8)
    canvas.disc(cx, top + tall / 2, half, tall / 2, (24, 25, 28), TRAFFIC_LIGHT, 8)
    for k, place in enumerate(("top", "middle", "bottom")):
        lit = {"top": "red", "bottom": "green"}.get(place) == state
        lamp = ("traffic_light", number, place, state if lit else "dark")
        canvas.lamp(lamp, cx, top + 0.15 * lens + (k + 0.5) * pitch, lens / 2, lens / 2, 2)


def draw_hood(canvas: Canvas) -> None:
    """The front of the car that the camera is in, which BDD100k leaves unlabeled."""
    shade = canvas.look("hood", canvas.rng.uniform(24, 60))
    where = canvas.window(0, 55, canvas.width, 64)
    middle = canvas.width / 2
    bow = 60.5 + 5.5 * ((canvas.x[:, where[1]] - middle) / middle) ** 2
    light = (shade + 2.2 * (64 - canvas.y[where[0]]))[..., None] * np.array((1.0, 1.0, 1.06))
    canvas.paint(where, canvas.y[where[0]] > bow, light, UNLABELED)
