"""What an edited street says, by its lamps: the rule must give the world's own labels."""

from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from cfexp.data.streets.edits import street_says_go
from cfexp.worlds.streets import AHEAD, StreetParameters, draw_street

RED, GREEN, DARK = (254, 60, 40), (60, 240, 120), (50, 52, 56)


def drawn(index: int) -> tuple[NDArray[np.uint8], dict[str, Any]]:
    street = draw_street(StreetParameters(), np.random.default_rng([0, 1, index]))
    lamps = [
        {**lamp._asdict(), "pixels": np.flatnonzero(lamp.mask).tolist()} for lamp in street.lamps
    ]
    return street.image, {"lamps": lamps, "go": street.plan.go, "light": street.plan.light}


def painted(
    image: NDArray[np.uint8], truth: dict[str, Any], colors: dict[str, tuple[int, int, int]]
) -> NDArray[np.uint8]:
    """The street with lamps of these places in other colours; of cars only of the one ahead."""
    edited = image.copy()
    for lamp in truth["lamps"]:
        if lamp["place"] in colors and (lamp["of"] != "car" or lamp["thing"] == AHEAD):
            edited.reshape(-1, 3)[lamp["pixels"]] = colors[lamp["place"]]
    return edited


@pytest.mark.parametrize("index", range(12))
def test_an_unedited_street_says_what_it_is(index: int) -> None:
    image, truth = drawn(index)
    assert street_says_go(image, truth) is truth["go"]
    tinted = image.copy()
    lamps = np.zeros(image.shape[:2], dtype=bool)
    for lamp in truth["lamps"]:
        lamps.ravel()[lamp["pixels"]] = True
    tinted[~lamps] = (90, 120, 200)  # whatever is done elsewhere is no cause
    assert street_says_go(tinted, truth) is truth["go"]


def test_a_light_that_is_turned_wholly_counts_and_a_half_turned_one_does_not() -> None:
    turned = 0
    for index in range(40):
        image, truth = drawn(index)
        cars = {lamp["thing"] for lamp in truth["lamps"] if lamp["of"] == "car"}
        if truth["light"] != "red" or AHEAD in cars:
            continue
        go = painted(image, truth, {"top": DARK, "bottom": GREEN})
        assert street_says_go(go, truth) is True
        assert street_says_go(painted(image, truth, {"bottom": GREEN}), truth) is None  # both lit
        assert street_says_go(painted(image, truth, {"top": DARK}), truth) is None  # none is lit
        turned += 1
    assert turned > 3


def test_who_brakes_ahead_stops_whatever_the_light_says() -> None:
    braking = 0
    for index in range(40):
        image, truth = drawn(index)
        cars = {lamp["thing"] for lamp in truth["lamps"] if lamp["of"] == "car"}
        if AHEAD not in cars:
            continue
        lit = painted(image, truth, {"left": RED, "right": RED})
        assert street_says_go(lit, truth) is False or truth["light"] == "none"
        half = painted(image, truth, {"left": RED, "right": DARK})
        assert street_says_go(half, truth) is None
        braking += 1
    assert braking > 3
