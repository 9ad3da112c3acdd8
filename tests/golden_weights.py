"""Weights that are a function of their names, so that golden outputs need no weights beside them.

Each float tensor is standard normal noise from a generator seeded by the CRC-32 of its key, scaled
by what its name says it is. The numbers in tests/golden/ were made with exactly these.
"""

import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"


def read_shapes(key_file: str) -> dict[str, tuple[int, ...]]:
    """Names and shapes of a published state dict, `key 1200x2400` or `key scalar` a line, from
    tests/golden/.
    """
    lines = (line.split() for line in (GOLDEN / key_file).read_text().splitlines())
    return {
        key: () if shape == "scalar" else tuple(map(int, shape.split("x"))) for key, shape in lines
    }


def fill(shapes: Mapping[str, tuple[int, ...]]) -> dict[str, Tensor]:
    """A state dict with these names and shapes."""
    filled = {
        key: _noise(key, shape)
        for key, shape in shapes.items()
        if not key.endswith((".weight_u", ".weight_v"))
    }
    for key in shapes:
        if key.endswith(".weight_u"):
            layer = key.removesuffix("_u")
            filled[key], filled[layer + "_v"] = _singular_vectors(filled[layer + "_orig"])
    return filled


def _noise(key: str, shape: tuple[int, ...]) -> Tensor:
    kind = key.rpartition(".")[2]
    if kind == "num_batches_tracked":
        return torch.ones(shape, dtype=torch.int64)
    noise = np.random.default_rng(zlib.crc32(key.encode())).standard_normal(shape)
    by_kind = {
        "noise_var": 0 * noise,
        "running_mean": 0.1 * noise,
        "running_var": 1 + 0.2 * np.abs(noise),
        "blending_gamma": noise,
        "blending_beta": noise,
        "bias": 0.05 * noise,
    }
    kernel_or_scale = (
        noise * np.sqrt(2 / math.prod(shape[1:])) if len(shape) >= 2 else 1 + 0.1 * noise
    )
    return torch.from_numpy(np.asarray(by_kind.get(kind, kernel_or_scale), dtype=np.float32))


def _singular_vectors(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Left and right vectors after 30 power iterations from the vector of ones, in float64."""
    matrix = weight.double().flatten(1).numpy()
    left = np.ones(len(matrix)) / np.sqrt(len(matrix))
    for _ in range(30):
        right = matrix.T @ left
        right /= np.linalg.norm(right)
        left = matrix @ right
        left /= np.linalg.norm(left)
    return torch.from_numpy(left.astype(np.float32)), torch.from_numpy(right.astype(np.float32))
