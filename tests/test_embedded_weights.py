"""The weights that cfexp ships: small, numbers only, and of the configs that ask for them."""

import json
from functools import cache
from pathlib import Path

import pytest
import safetensors

from cfexp import embedded_weights
from cfexp.embedded_weights import VOCABULARY, rename
from cfexp.run.stages import WEIGHTS

wanted_stages = cache(embedded_weights.wanted_stages)  # it composes every command


def test_every_stage_of_the_demos_is_shipped_and_nothing_else() -> None:
    wanted = {f"{name}.safetensors" for name in wanted_stages()}
    # Where this fails, settings have changed: `make embedded-weights`, or with --rename if they
    # change no number.
    models = [name for name in wanted_stages() if name.startswith("vqa_model-")]
    vocabularies = {f"{name}.{VOCABULARY}" for name in models}
    assert {path.name for path in WEIGHTS.glob("*")} == wanted | vocabularies


def test_a_change_of_names_alone_renames_what_is_shipped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedded_weights, "wanted_stages", wanted_stages)
    for name in wanted_stages():
        for kind in ("safetensors", VOCABULARY):
            (tmp_path / f"{name.rpartition('-')[0]}-000000000000.{kind}").write_text(name)
    rename(tmp_path)
    assert {path.name: path.read_text() for path in tmp_path.iterdir()} == {
        f"{name}.{kind}": name for name in wanted_stages() for kind in ("safetensors", VOCABULARY)
    }


def test_shipped_weights_say_what_made_them() -> None:
    paths = list(WEIGHTS.glob("*.safetensors"))
    assert sum(path.stat().st_size for path in paths) <= 20e6
    for path in paths:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata()
        assert metadata["command"] == "make embedded-weights"
        # Of the same experiment: the rest of a name may have changed since, with no number of the
        # network.
        assert metadata["stage"].rpartition("-")[0] == path.stem.rpartition("-")[0]
        assert all(
            isinstance(value, float) for value in json.loads(metadata["test_figures"]).values()
        )
