import pathlib

import pytest
from omegaconf import OmegaConf

from cfexp.errors import InputError
from cfexp.run.building import build, build_each


def test_what_has_no_target_is_refused() -> None:
    for config in (None, OmegaConf.create({"a": 1})):
        with pytest.raises(InputError, match=r"^data has no _target_: choose an experiment"):
            build(config, "data")


def test_what_refuses_its_settings_is_one_line() -> None:
    size = OmegaConf.create({"_target_": "cfexp.worlds.scenes.SceneParameters", "image_size": 1})
    with pytest.raises(InputError) as raised:  # its own words
        build(size, "data.world")
    assert "\n" not in str(raised.value)
    assert "HYDRA_FULL_ERROR" not in str(raised.value)
    nothing = OmegaConf.create({"_target_": "pathlib.Nothing"})
    with pytest.raises(InputError, match=r"^data: .* \(HYDRA_FULL_ERROR=1 shows more\)$") as raised:
        build(nothing, "data")
    assert "\n" not in str(raised.value)


def test_of_a_group_each_is_built_that_is_not_null() -> None:
    path = {"_target_": "pathlib.PurePath"}
    group = OmegaConf.create({"first": path, "second": None})
    assert build_each(group, "paths", pathlib.PurePath) == [pathlib.PurePath()]
    assert build_each(None, "paths", pathlib.PurePath) == []
    with pytest.raises(InputError, match=r"^paths.first must be a int, got Pure"):
        build_each(group, "paths", int)
