"""Weights as a .safetensors file that anybody may read."""

import json
from collections.abc import Mapping
from pathlib import Path

import safetensors.torch
from torch import Tensor


def save_weights(
    state_dict: Mapping[str, Tensor], path: Path, metadata: dict[str, str] | None = None
) -> None:
    """Write tensors, each in its own precision, with words about them; the same make the same
    bytes.
    """
    # Copies: safetensors stores no tensor that shares its memory with another.
    tensors = {name: value.clone().contiguous() for name, value in state_dict.items()}
    data = safetensors.torch.save(tensors, metadata)
    path.write_bytes(_with_sorted_words(data))


def _with_sorted_words(data: bytes) -> bytes:
    """A file whose words about the tensors come in the order of their names; safetensors writes
    them in another order each time (findings/safetensors_metadata_order.sh).
    """
    # 8 bytes: how long the header is; the header, JSON, padded to a multiple of 8; the tensors.
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    if words := header.get("__metadata__"):
        header["__metadata__"] = dict(sorted(words.items()))
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return len(text).to_bytes(8, "little") + text + data[end:]
