"""What is asked of a model about a scene made by hand."""

import json
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from cfexp.errors import InputError
from cfexp.evaluation.causes.interventions import ANSWERS, Asked, ask, units_of
from cfexp.worlds.factors import Factor, Scene

REGIONS = ("ground", "sky", "moon")
FACTORS = (Factor("night", ("day", "night"), ("sky", "moon")), Factor("rain", ("no", "yes"), ()))


def draw(image_id: str, names: Collection[str]) -> Scene:
    """Two pixels of ground below two of sky, without a moon; by night the sky is black."""
    label_map = np.array([[1, 1], [0, 0]], dtype=np.uint8)
    image = np.full((2, 2, 3), 200, dtype=np.uint8)
    night = image.copy()
    night[0] = 0
    drawn = {"night": np.stack([image, night]), "rain": np.stack([image, image // 2])}
    return Scene(image, label_map, {"night": 0, "rain": -1}, {name: drawn[name] for name in names})


def decide(images: Tensor, records: object) -> Tensor:
    """Dark pictures are of the second class."""
    return torch.stack([images.mean((1, 2, 3)), -images.mean((1, 2, 3))], dim=1)


def test_each_factor_and_each_region_in_the_picture_is_asked_about(tmp_path: Path) -> None:
    asked = Asked(FACTORS, units_of(FACTORS, {}), REGIONS, "a model")
    (answer,) = ask([{"key": 3, "image_id": "a"}], asked, draw, decide, tmp_path)
    assert answer["own"] == {"night": 0, "rain": -1}
    bright = answer["as_it_is"]
    assert bright < 0.5
    assert answer["drawn"].keys() == {"night", "rain"}
    assert answer["drawn"]["night"][0] == pytest.approx(bright)
    assert answer["drawn"]["night"][1] > 0.5
    assert answer["units"].keys() == {"sky", "night"}  # there is no moon in it
    assert answer["units"]["sky"] == pytest.approx(answer["drawn"]["night"])
    first, line = (tmp_path / ANSWERS).read_text(encoding="utf-8").splitlines()
    assert json.loads(first)[0] == "a model"
    assert json.loads(line) == answer


def test_another_model_is_asked_anew(tmp_path: Path) -> None:
    asked = Asked(FACTORS, units_of(FACTORS, {}), REGIONS, "a model")
    records = [{"key": 3, "image_id": "a"}]
    first = ask(records, asked, draw, decide, tmp_path)
    assert ask(records, asked, draw, lambda *_: pytest.fail("asked again"), tmp_path) == first
    other = asked._replace(made_by="another")
    opposite = ask(records, other, draw, lambda *given: -decide(*given), tmp_path)
    assert opposite[0]["as_it_is"] == pytest.approx(1 - first[0]["as_it_is"])


def test_a_model_of_three_classes_is_refused(tmp_path: Path) -> None:
    asked = Asked(FACTORS, {}, REGIONS, "a model")
    with pytest.raises(InputError, match="decides between 3 classes; effects of causes are of"):
        ask(
            [{"key": 0, "image_id": "a"}],
            asked,
            draw,
            lambda images, _: torch.zeros(len(images), 3),
            tmp_path,
        )
