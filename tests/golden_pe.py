"""What the published Progressive Exaggeration computes (tests/golden/pe.npz), and its weights,
which are a function of their names.
"""

import math
import zlib
from collections.abc import Mapping
from functools import cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from tests.golden_weights import GOLDEN, read_shapes

Arrays = dict[str, NDArray[Any]]
GAIN = 20.0


@cache
def golden_pe() -> Arrays:
    with np.load(GOLDEN / "pe.npz") as archive:
        return dict(archive)


def images(*rows: int) -> Tensor:
    """Some of the six images, float64 in [-1, 1]."""
    return torch.from_numpy(golden_pe()["image"][list(rows)] / 127.5 - 1)


@cache
def variables() -> Mapping[str, NDArray[Any]]:
    """The weights by their published names, in TensorFlow's layouts."""
    shapes = read_shapes("pe_keys.txt")
    filled = {name: _noise(name, shape) for name, shape in shapes.items() if name[-1] != "u"}
    for name in shapes.keys() - filled.keys():
        folder, leaf = name.rsplit("/", 1)
        if leaf == "snu":
            matrix = filled[f"{folder}/W"].reshape(-1, shapes[name][1])
        else:
            matrix = filled[f"{folder}/V"].T
        filled[name] = _singular_vector(matrix.astype(np.float64))
    return filled


def _noise(name: str, shape: tuple[int, ...]) -> NDArray[np.float32]:
    noise = np.random.default_rng(zlib.crc32(name.encode())).standard_normal(shape)
    leaf = name.rpartition("/")[2]
    if leaf == "W":
        noise = noise * np.sqrt(2 / math.prod(shape[:-1]))
    elif leaf == "V":
        noise = noise / np.sqrt(shape[-1])
    elif leaf.endswith("gamma"):
        noise = 1 + 0.3 * noise
    else:
        noise = noise * (0.05 if leaf == "b" else 0.3)
    return noise.astype(np.float32)


def _singular_vector(matrix: NDArray[np.float64]) -> NDArray[np.float32]:
    vector = np.ones((1, matrix.shape[1]))
    for _ in range(1000):
        other = vector @ matrix.T
        vector = other / np.linalg.norm(other) @ matrix
        vector /= np.linalg.norm(vector)
    return vector.astype(np.float32)


class ClosedForm(nn.Module):
    """The model that is explained: two logits, each the mean of a pattern times x + x^2 / 2."""

    pattern: Tensor

    def __init__(self, height: int = 64, width: int = 64) -> None:
        super().__init__()
        down = (torch.arange(height, dtype=torch.float64) + 0.5) / height
        channels = torch.eye(3, dtype=torch.float64)[:2] / 2 + 0.5  # 1 where c = k, else 0.5
        waves = torch.stack([torch.cos(math.pi * k * down) for k in range(2)])
        pattern = (channels[:, :, None, None] * waves[:, None, :, None]).expand(2, 3, height, width)
        self.register_buffer("pattern", pattern)

    def forward(self, image: Tensor) -> Tensor:
        curved = image + image.square() / 2
        return GAIN * (self.pattern * curved[:, None]).mean((2, 3, 4))


def assert_close(ours: Tensor, name: str, relative: float = 1e-9) -> None:
    """To a golden array, relative to its largest value; of images, which are float32, to 1e-7."""
    golden = golden_pe()[name]
    tolerance = 1e-7 if golden.dtype == np.float32 else relative
    found = ours.detach().numpy()
    assert found.shape == golden.shape, name
    assert np.abs(found - golden).max() <= tolerance * np.abs(golden).max(), name
