"""The embedded streets under interventions: the same scene, with one thing drawn otherwise."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np

from cfexp.worlds import street_canvas as canvas
from cfexp.worlds import street_drawing as draw
from cfexp.worlds.factors import Factor, Scene, scene_of
from cfexp.worlds.streets import BIASED_FACADE, Plan, StreetParameters, draw_street

_OTHER_FACADES = tuple(name for name in draw.FACADES if name != BIASED_FACADE)
# Of what is drawn at random, two values as far apart as scenes of this world are: the look, its
# region, both values in words, and as `Canvas.look` takes them. The poles and the traffic signs
# look alike in all streets: there is no other value to draw.
_LOOKS = (
    ("paint", "car", ("dark", "white"), (3, 0)),
    ("sky", "sky", ("blue", "evening"), (0, 3)),
    ("asphalt", "road", ("dark", "light"), (78.0, 112.0)),
    ("paving", "sidewalk", ("dark", "light"), (0.85, 1.05)),
    ("grass", "terrain", ("dark", "light"), (0.85, 1.1)),
    ("leaves", "vegetation", ("dark", "light"), draw.LEAVES[:2]),
    ("clothes", "person", ("dark", "light"), (2, 3)),
    ("hood", "unlabeled", ("dark", "light"), (24.0, 60.0)),
)
FACTORS = (
    Factor("light", ("red", "green"), ("traffic_light",)),
    Factor("brake_lights", ("lit", "dark"), ("car",)),
    Factor("brake_lights_ahead", ("lit", "dark"), ("car",)),
    Factor("brake_lights_beside", ("lit", "dark"), ("car",)),
    Factor("facade", (BIASED_FACADE, "another"), ("building",)),
    *(Factor(name, values, (region,)) for name, region, values, _ in _LOOKS),
    Factor("red_light_there", ("there", "absent"), ()),
    Factor("braking_car_there", ("there", "absent"), ()),
)


_NUMBERS = {
    "traffic_light": canvas.TRAFFIC_LIGHT,
    "car": canvas.CAR,
    "building": canvas.BUILDING,
    "sky": canvas.SKY,
    "road": canvas.ROAD,
    "sidewalk": canvas.SIDEWALK,
    "terrain": canvas.TERRAIN,
    "vegetation": canvas.VEGETATION,
    "person": canvas.PERSON,
    "unlabeled": canvas.UNLABELED,
}


class _Exchange(NamedTuple):
    """How a factor's two values are drawn, as `draw_street` takes it."""

    name: str
    own: int  # which of them the scene has; -1 = neither
    plans: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {})
    looks: tuple[Mapping[str, Any], Mapping[str, Any]] = ({}, {})


def street_scene(
    parameters: StreetParameters, image_id: str, names: Collection[str] | None = None
) -> Scene:
    """The scene of an image of the world with these parameters, as it is and under each
    intervention; its label map is of BDD100k's train ids, 255 = unlabeled.

    image_id: the file's stem, which is the split's number and the scene's. names: of the factors
    that are drawn; None = all.
    """
    split, index = (int(part, 16) for part in image_id.split("-"))
    seed = [parameters.seed, split, index]
    street = draw_street(parameters, np.random.default_rng(seed))
    factors = {factor.name: factor for factor in FACTORS}
    exchanged = (
        (
            factors[each.name],
            each.own,
            [
                draw_street(parameters, np.random.default_rng(seed), plan, looks).image
                for plan, looks in zip(each.plans, each.looks, strict=True)
            ],
        )
        for each in _exchanges(street.plan, index)
        if names is None or each.name in names
    )
    return scene_of(street.image, street.label_map, _NUMBERS, exchanged)


def _exchanges(plan: Plan, index: int) -> Iterator[_Exchange]:
    """What can be exchanged in a scene of this plan."""
    ahead = plan.car_ahead != "none"
    ahead_lit, ahead_dark = ({"car_ahead": state} for state in ("braking", "coasting"))
    if plan.light != "none":
        own = int(plan.light == "green")
        yield _Exchange("light", own, ({"light": "red"}, {"light": "green"}))
    if ahead or plan.side_cars:
        lit, dark = (each if ahead else {} for each in (ahead_lit, ahead_dark))
        all_cars = ({**lit, "braking": True}, {**dark, "braking": False})
        yield _Exchange("brake_lights", int(not plan.braking), all_cars)
    if ahead:
        own = int(plan.car_ahead == "coasting")
        yield _Exchange("brake_lights_ahead", own, (ahead_lit, ahead_dark))
    if plan.side_cars:
        beside = ({"braking": True}, {"braking": False})
        yield _Exchange("brake_lights_beside", int(not plan.braking), beside)
    is_biased = plan.facade == BIASED_FACADE
    other = _OTHER_FACADES[index % len(_OTHER_FACADES)] if is_biased else plan.facade
    facades = ({"facade": BIASED_FACADE}, {"facade": other})
    yield _Exchange("facade", int(not is_biased), facades)
    for name, _, _, (first, second) in _LOOKS:
        yield _Exchange(name, -1, looks=({name: first}, {name: second}))
    own = {"red": 0, "none": 1}.get(plan.light, -1)
    yield _Exchange("red_light_there", own, ({"light": "red"}, {"light": "none"}))
    own = {"braking": 0, "none": 1}.get(plan.car_ahead, -1)
    yield _Exchange("braking_car_there", own, (ahead_lit, {"car_ahead": "none"}))
