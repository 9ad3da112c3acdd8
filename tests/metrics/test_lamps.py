import numpy as np
import pytest
from numpy.typing import NDArray

from cfexp.metrics.lamps import LAMP_STATES, read_lamps

LEFT = np.array([[True, True, False, False]] * 3)


def image_of(left: tuple[int, int, int], right: tuple[int, int, int]) -> NDArray[np.uint8]:
    return np.array([[left, left, right, right]] * 3, dtype=np.uint8)


@pytest.mark.parametrize(
    ("color", "state"),
    [
        ((255, 44, 36), "red"),
        ((200, 90, 90), "red"),
        ((36, 238, 122), "green"),
        ((60, 200, 90), "green"),
        ((255, 190, 40), "other"),  # amber
        ((250, 150, 60), "other"),  # orange
        ((255, 110, 60), "red"),
        ((60, 250, 200), "other"),  # turquoise
        ((235, 240, 250), "other"),
        ((60, 90, 250), "other"),
        ((72, 26, 32), "dark"),
        ((50, 48, 52), "dark"),
        ((140, 20, 20), "dark"),
    ],
)
def test_a_lamp_is_the_colour_that_it_shows(color: tuple[int, int, int], state: str) -> None:
    assert state in LAMP_STATES
    other = (50, 48, 52)
    assert read_lamps(image_of(color, other), [LEFT, ~LEFT]) == [state, "dark"]
    assert read_lamps(image_of(other, color), [LEFT, ~LEFT]) == ["dark", state]


def test_shapes_and_empty_masks_are_refused() -> None:
    image = image_of((0, 0, 0), (0, 0, 0))
    with pytest.raises(
        ValueError, match=r"image must have shape \(3, 4, 3\), as the masks, got \(3, 4, 1\)"
    ):
        read_lamps(image[..., :1], [LEFT])
    with pytest.raises(ValueError, match="at least one pixel"):
        read_lamps(image, [LEFT & ~LEFT])
    assert read_lamps(image, []) == []
