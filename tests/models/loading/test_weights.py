import json
from pathlib import Path

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file

from cfexp.models.loading.weights import save_weights


@pytest.mark.parametrize("words", [None, {"z": 'größe / "7"', "a": "1", "m": "x" * 5}])
def test_the_same_weights_and_words_make_the_same_bytes(
    tmp_path: Path, words: dict[str, str] | None
) -> None:
    weights = {"b": torch.arange(6.0).view(2, 3).t(), "a": torch.ones(1, dtype=torch.int64)}
    path = tmp_path / "weights.safetensors"
    save_weights(weights, path, words)
    read = load_file(path)
    assert all(torch.equal(read[name], value) for name, value in weights.items())
    with safe_open(path, "pt") as file:
        assert file.metadata() == words
    data = path.read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    if words is not None:  # which safetensors writes in another order in each process
        assert [*json.loads(data[8 : 8 + length])["__metadata__"]] == ["a", "m", "z"]
