"""The weights that cfexp ships: small, numbers only, and of the configs that ask for them."""

import json
from itertools import chain

import safetensors
from hydra import compose, initialize_config_module

from cfexp.configuration import register_resolvers
from cfexp.embedded_weights import WORLDS
from cfexp.stages import WEIGHTS, compose_stage


def test_every_stage_of_the_demos_is_shipped_and_nothing_else() -> None:
    register_resolvers()
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        wanted = set()
        for command, *overrides in chain(*WORLDS):
            config = compose(command, overrides=overrides)
            wanted |= {f"{compose_stage(each, config)[1]}.safetensors" for each in config.requires.values()}
    # Where this fails, a config has changed: `make embedded-weights`.
    assert {path.name for path in WEIGHTS.glob("*")} == wanted


def test_shipped_weights_say_what_made_them() -> None:
    paths = list(WEIGHTS.glob("*.safetensors"))
    assert sum(path.stat().st_size for path in paths) <= 12 * 2**20
    for path in paths:
        with safetensors.safe_open(path, "pt") as file:
            metadata = file.metadata()
        assert metadata["command"] == "make embedded-weights"
        assert metadata["stage"] == path.stem
        assert all(isinstance(value, float) for value in json.loads(metadata["test_figures"]).values())
