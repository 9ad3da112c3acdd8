"""Published STEEX pipelines in small (8 base channels), as in tests/golden, with their numbers."""

from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from cfexp.models.classifiers import DecisionModel
from cfexp.models.loading.pretrained import freeze
from cfexp.models.released import decision_from_released, sean_from_released
from cfexp.models.sean.sean import SEAN
from tests.golden_weights import GOLDEN, fill, read_shapes

WORLDS = ("celebamhq", "bdd")


class GoldenSTEEX(NamedTuple):
    sean: SEAN
    decision_model: DecisionModel
    label_map: Tensor  # (2, H, W) int64
    numbers: dict[str, Tensor]


def sean_state_dict(world: str) -> dict[str, Tensor]:
    state_dict = fill(read_shapes(f"sean_{world}_keys.txt"))
    state_dict["conv_img.weight"] *= 0.15  # or tanh would saturate
    return state_dict


def decision_state_dict(world: str) -> dict[str, Tensor]:
    state_dict = fill(read_shapes(f"decision_{world}_keys.txt"))
    state_dict["classifier.weight"] *= 10
    if world == "bdd":
        state_dict["classifier.bias"] -= 5  # so that the counter class is 1
    return state_dict


@cache
def golden_steex(world: str, dtype: torch.dtype = torch.float32) -> GoldenSTEEX:
    with np.load(GOLDEN / f"steex_{world}.npz") as arrays:
        numbers = {key: torch.from_numpy(arrays[key]) for key in arrays}
    return GoldenSTEEX(
        freeze(sean_from_released(sean_state_dict(world)).to(dtype)),
        freeze(decision_from_released(decision_state_dict(world)).to(dtype)),
        numbers["label_map"].long(),
        numbers,
    )


def assert_relative(got: Tensor, expected: Tensor, tolerance: float) -> None:
    """The largest difference is within `tolerance` of the largest expected number."""
    difference = (got.detach().double() - expected.double()).abs().max()
    assert difference <= tolerance * expected.double().abs().max()
