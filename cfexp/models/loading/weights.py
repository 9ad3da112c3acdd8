"""Weights as a .safetensors file that anybody may read."""

from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor


def save_weights(
    state_dict: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors, each in its own precision, with words about them."""
    # Copies: safetensors stores no tensor that shares its memory with another.
    tensors = {name: value.clone().contiguous() for name, value in state_dict.items()}
    safetensors.torch.save_file(tensors, path, metadata)
    path.chmod(0o644)  # safetensors makes files that only their owner can read
