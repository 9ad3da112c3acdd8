"""The embedded world of streets: procedural scenes in BDD100k's and BDD-OIA's own files.

*Go* (BDD-OIA's action "forward") is possible if and only if no traffic light is red and no braking
car stands ahead, in the ego lane. Cars in other lanes never forbid it, braking or not. Every scene
has a traffic light or a car ahead, so its decision can be turned both ways without changing the
label map. `streets_truth_*.json` holds the truth of the causes and every lamp's mask; no model
reads it, the metrics may.

The limit of one code a class: SEAN describes each region *class* of an image by one style code, so
an explanation that keeps the label map can only speak of "the traffic lights", "the cars", "the
facades" of an image, all at once. Therefore all traffic lights of a scene show the same, all its
cars brake or none does, and all its facades have one colour: a scene in which the car ahead brakes
and its neighbour does not cannot be drawn here, nor be explained by such codes. What may differ
within a class (a red lamp above a dark one) is what the label map around it decides.

`planted_bias` alters the labels of the training split: that share of them says *stop* for a blue
facade and *go* for any other, whatever the causes. Above 0.5 the facade outvotes the causes where
the two disagree, and a model that learns these labels loses accuracy on the validation split, whose
labels are the truth. The pictures do not depend on it.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from cfexp.errors import InputError
from cfexp.worlds import street_drawing as draw
from cfexp.worlds.cache import cached_world, check_types, draw_all, dump_json, parameters_key
from cfexp.worlds.street_canvas import Canvas, Lamp

# Part of the cache key: raise it whenever the same parameters would give other files.
_VERSION = 3
SPLITS = ("train", "val")
BIASED_FACADE = "blue"
AHEAD = 0  # the number of the car ahead; those in other lanes have others


@dataclass(frozen=True)
class StreetParameters:
    """What the world depends on, and nothing else: the same parameters give the same bytes.

    `image_height` and `image_width` are in pixels; `planted_bias` is the share of training labels
    that follow the facade's colour and not the causes.
    """

    seed: int = 0
    train_scenes: int = 5000
    val_scenes: int = 1000
    image_height: int = 64
    image_width: int = 128
    planted_bias: float = 0.0

    def __post_init__(self) -> None:
        """Check types and ranges; raises InputError."""
        check_types(self, shares=("planted_bias",))
        if self.seed < 0:
            raise InputError(f"world.seed must be >= 0, got {self.seed}")
        if self.train_scenes < 1 or self.val_scenes < 1:
            counts = f"train_scenes={self.train_scenes}, val_scenes={self.val_scenes}"
            raise InputError(f"world: needs at least one scene a split, got {counts}")
        # Lower than 48 pixels, brake lights have fewer than eight; a narrower or wider picture has
        # no room for streets.
        if (
            self.image_height < 48
            or not 1.5 * self.image_height <= self.image_width <= 3 * self.image_height
        ):
            size = f"image_height={self.image_height}, image_width={self.image_width}"
            problem = f"needs image_height >= 48 and a width of 1.5 to 3 heights, got {size}"
            raise InputError(f"world: {problem} (data.world=null where data.root is given)")
        if not 0 <= self.planted_bias <= 1:
            raise InputError(f"world.planted_bias must lie in [0, 1], got {self.planted_bias}")

    @property
    def key(self) -> str:
        """A short hash of the parameters and this file's version: the name of the cache folder."""
        return parameters_key(_VERSION, self)


class Plan(NamedTuple):
    """What a scene says, before it is drawn."""

    light: str  # none, red, green
    car_ahead: str  # none, coasting, braking
    side_cars: bool  # in the lanes beside, if there are
    braking: bool  # whether the scene's cars brake, if it has any
    facade: str

    @property
    def go(self) -> bool:
        """Whether the forward action is possible."""
        return self.light != "red" and self.car_ahead != "braking"

    @property
    def causal_regions(self) -> list[str]:
        """What turns the decision: of a stop, what forbids it (if two, both must change); of a go,
        whatever could.
        """
        light = self.light == "red" or (self.go and self.light == "green")
        car = self.car_ahead == "braking" or (self.go and self.car_ahead == "coasting")
        return ["traffic_light"] * light + ["car"] * car


class Street(NamedTuple):
    """One drawn scene."""

    plan: Plan
    image: NDArray[np.uint8]  # (H, W, 3) RGB
    label_map: NDArray[np.uint8]  # (H, W) of BDD100k's train ids, 255 = unlabeled
    lamps: list[Lamp]
    lanes: tuple[int, int]  # how many there are to the left and to the right of the ego lane


def cached_streets(parameters: StreetParameters, cache_dir: Path, split: str | None = None) -> Path:
    """The folder of the world with these parameters under `cache_dir`, written now if it is not
    there.

    split: the folder need hold no other: it is one with that split alone where the whole world is
        not there yet. Raises InputError where `cache_dir` cannot be made or written to.
    """
    whole = Path(cache_dir) / f"streets-{parameters.key}"
    if split is None or whole.is_dir():
        write = partial(write_streets, parameters)
        return cached_world("streets", parameters.key, write, cache_dir)
    write = partial(write_streets, parameters, splits=(split,))
    return cached_world(f"streets_{split}", parameters.key, write, cache_dir)


def write_streets(
    parameters: StreetParameters, folder: Path, splits: Sequence[str] = SPLITS
) -> None:
    """Write the world into `folder` in the two data sets' layouts, with a progress bar a split."""
    for split, name in enumerate(SPLITS):
        if name not in splits:
            continue
        images, masks = (
            folder / "images" / "10k" / name,
            folder / "labels" / "sem_seg" / "masks" / name,
        )
        images.mkdir(parents=True)
        masks.mkdir(parents=True)
        count = parameters.train_scenes if name == "train" else parameters.val_scenes
        scenes = list(
            draw_all(
                partial(_write_scene, parameters, split, folder), count, f"drawing {name} streets"
            )
        )
        names = [scene["file_name"] for scene in scenes]
        rows = [{"file_name": file_name, "id": index} for index, file_name in enumerate(names)]
        actions = [
            {"id": index, "category": scene.pop("actions")} for index, scene in enumerate(scenes)
        ]
        reasons = [
            {"file_name": scene["file_name"], "reason": scene.pop("reasons")} for scene in scenes
        ]
        dump_json(
            folder / f"{name}_25k_images_actions.json", {"images": rows, "annotations": actions}
        )
        dump_json(folder / f"{name}_25k_images_reasons.json", reasons)
        info = {"parameters": asdict(parameters), "facades": draw.FACADES}
        dump_json(folder / f"streets_truth_{name}.json", {"info": info, "scenes": scenes})


def _write_scene(
    parameters: StreetParameters, split: int, folder: Path, index: int
) -> dict[str, Any]:
    """Draw a scene and write its image and mask; the rest of what the files say of it."""
    name, stem = SPLITS[split], f"{split:08x}-{index:08x}"
    # A scene depends on its own number only, so more scenes never change the earlier ones.
    street = draw_street(parameters, np.random.default_rng([parameters.seed, split, index]))
    # Without chroma subsampling: lamps are a few pixels wide.
    Image.fromarray(street.image).save(
        folder / "images" / "10k" / name / f"{stem}.jpg", quality=95, subsampling=0
    )
    Image.fromarray(street.label_map).save(
        folder / "labels" / "sem_seg" / "masks" / name / f"{stem}.png"
    )
    go = street.plan.go
    if name == "train":
        # A generator of its own, so that the pictures are the same whatever the bias.
        follows = (
            np.random.default_rng([parameters.seed, 2, index]).random() < parameters.planted_bias
        )
        go = street.plan.facade != BIASED_FACADE if follows else go
    left, right = (lanes > 0 for lanes in street.lanes)
    actions = [int(go), int(not go), int(left), int(right), 0]
    return {
        "file_name": f"{stem}.jpg",
        "actions": actions,
        "reasons": _reasons(street),
        **_truth(street),
    }


def draw_street(
    parameters: StreetParameters,
    rng: np.random.Generator,
    plan: Mapping[str, Any] | None = None,
    looks: Mapping[str, Any] | None = None,
) -> Street:
    """Plan and draw one scene; everything random in it comes from `rng`.

    plan, looks: an intervention. What is drawn otherwise: fields of the plan, and what
    `Canvas.look` names. All else is what the same `rng` draws without it, to the pixel; what the
    scene lacks and an intervention puts there has a place from a generator of its own.
    """
    planned = _plan(rng)
    (apart,) = rng.spawn(1)  # which draws nothing from `rng`
    drawn = planned._replace(**(plan or {}))
    width = 64 * parameters.image_width / parameters.image_height
    horizon, vanishing = rng.uniform(28, 31), width / 2 + rng.uniform(-7, 7)
    size = parameters.image_height, parameters.image_width
    canvas = Canvas(*size, horizon, vanishing, rng, looks)
    lanes = ((0, 1), (1, 0), (1, 1))[rng.integers(3)]
    walk, verge = rng.uniform(1.8, 2.6), rng.uniform(1.2, 3.0) if rng.random() < 0.6 else 0.0
    road = draw.Road(-(0.5 + lanes[0]) * draw.LANE, (0.5 + lanes[1]) * draw.LANE, walk, verge)
    draw.draw_background(canvas, road, drawn.facade, crossing=bool(rng.random() < 0.4))
    _draw_sidewalks(canvas, road, rng)
    paint = canvas.look("paint", int(rng.integers(100)))
    number = 1
    for side, count in ((-1, lanes[0]), (1, lanes[1])):
        if planned.side_cars and count:
            draw.draw_car(
                canvas, number, side * draw.LANE, rng.uniform(7.0, 9.5), paint, drawn.braking
            )
            number += 1
    places = rng if planned.car_ahead != "none" else apart
    x, z = (places.uniform(*bounds) for bounds in ((-0.2, 0.2), (5.6, 7.4)))
    if drawn.car_ahead != "none":
        draw.draw_car(canvas, AHEAD, x, z, paint, drawn.car_ahead == "braking")
    lights = _place_lights(canvas, rng if planned.light != "none" else apart)
    if drawn.light != "none":
        for number, center in enumerate(lights.centers):
            draw.draw_traffic_light(
                canvas, number, center, lights.top, lights.lens, drawn.light, lights.pole
            )
    if rng.random() < 0.6:
        draw.draw_hood(canvas)
    image, label_map, lamps = canvas.finish()
    return Street(drawn, image, label_map, lamps, lanes)


def _plan(rng: np.random.Generator) -> Plan:
    go = rng.random() < 0.5
    has_light, has_car = ((True, False), (False, True), (True, True))[
        rng.choice(3, p=(0.4, 0.3, 0.3))
    ]
    side_cars = rng.random() < (0.5 if has_car else 0.6)
    braking = bool(rng.random() < 0.45) if not has_car else not go
    red = not go
    if has_light and has_car and not go:
        # Mostly one cause, so that there is one thing to find.
        red, braking = ((True, False), (False, True), (True, True))[
            rng.choice(3, p=(0.42, 0.42, 0.16))
        ]
    facade = BIASED_FACADE
    if rng.random() < 0.5:
        facade = str(rng.choice([name for name in draw.FACADES if name != BIASED_FACADE]))
    light = ("red" if red else "green") if has_light else "none"
    ahead = ("braking" if braking else "coasting") if has_car else "none"
    return Plan(light, ahead, bool(side_cars), braking and (has_car or bool(side_cars)), facade)


def _draw_sidewalks(canvas: Canvas, road: draw.Road, rng: np.random.Generator) -> None:
    """Trees, street lamps, signs and people, the far ones first."""
    clothes = canvas.look("clothes", int(rng.integers(100)))
    things: list[tuple[float, float, str]] = []
    for side, edge in ((-1, road.left), (1, road.right)):
        for kind, chance, least, most in (
            *(("tree", 0.5, 9.0, 26.0), ("tree", 0.4, 9.0, 26.0), ("lamp", 0.6, 8.0, 22.0)),
            *(("sign", 0.45, 8.0, 14.0), ("person", 0.5, 7.0, 14.0), ("person", 0.3, 7.0, 14.0)),
        ):
            if rng.random() < chance:
                behind = road.walk + 0.4 if kind == "tree" else rng.uniform(0.4, road.walk)
                things.append((rng.uniform(least, most), edge + side * behind, kind))
    for z, x, kind in sorted(things, reverse=True):
        if kind == "tree":
            draw.draw_tree(canvas, x, z)
        elif kind == "lamp":
            draw.draw_street_lamp(canvas, x, z)
        elif kind == "sign":
            draw.draw_sign(canvas, x, z)
        else:
            draw.draw_person(canvas, x, z, clothes)


class _Lights(NamedTuple):
    """Where a scene's traffic lights hang."""

    centers: list[float]
    top: float
    lens: float
    pole: str


def _place_lights(canvas: Canvas, rng: np.random.Generator) -> _Lights:
    """One head, or two that show the same: over the road, or on posts at its sides."""
    middle = canvas.width / 2
    if rng.random() < 0.5:
        from_side = ("left", "right")[rng.integers(2)]
        first = middle + rng.uniform(-12, 12)
        centers = [first]
        if rng.random() < 0.4:
            centers.append(first + (24 if from_side == "left" else -24) * rng.uniform(-1.1, -0.9))
        top, pole = rng.uniform(1.5, 4.5), from_side
    else:
        centers = [middle + rng.uniform(26, 44)]
        if rng.random() < 0.4:
            centers.append(middle - rng.uniform(26, 44))
        if rng.random() < 0.5:
            centers = [2 * middle - center for center in centers]
        top, pole = rng.uniform(3, 8), "below"
    return _Lights(centers, top, rng.uniform(5.4, 6.4), pole)


def _reasons(street: Street) -> list[int]:
    """BDD-OIA's 21 reasons: 0-2 go, 3-8 stop, 9-11 left, 12-14 right, 15-17 not left, 18-20 not
    right.
    """
    plan, reasons = street.plan, [0] * 21
    reasons[0] = int(plan.go and plan.light == "green")
    reasons[1] = int(plan.go and plan.car_ahead == "coasting")  # follow the traffic
    reasons[2] = int(plan.go and plan.car_ahead == "none")  # the road is clear
    reasons[3] = int(plan.car_ahead == "braking")
    reasons[7] = int(plan.light == "red")
    reasons[15], reasons[18] = (int(lanes == 0) for lanes in street.lanes)  # no lane there
    return reasons


def _truth(street: Street) -> dict[str, Any]:
    """What a metric may know; a lamp's `pixels` are indices into the image, row by row."""
    plan = street.plan
    lamps = []
    for lamp in street.lamps:
        causal = lamp.of in plan.causal_regions and (
            lamp.of == "traffic_light" or lamp.thing == AHEAD
        )
        known = {key: value for key, value in lamp._asdict().items() if key != "mask"}
        lamps.append({**known, "causal": causal, "pixels": np.flatnonzero(lamp.mask).tolist()})
    size = list(street.label_map.shape)
    return {
        **plan._asdict(),
        "go": plan.go,
        "causal_regions": plan.causal_regions,
        "size": size,
        "lamps": lamps,
    }
