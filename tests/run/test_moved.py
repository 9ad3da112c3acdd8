import importlib
from pathlib import Path

from cfexp.run.configuration import run_config
from cfexp.run.moved import MOVED, with_present_names


def test_every_part_lies_where_the_table_says() -> None:
    for module in MOVED.values():
        importlib.import_module(module)


def test_a_config_of_before_is_read_with_the_names_of_today(tmp_path: Path) -> None:
    steex, hinge = "_target_: cfexp.explainers.steex.STEEX", "_target_: cfexp.losses.flip_hinge"
    before = f"explainer: {{{steex}, a: [{{{hinge}}}], b: '${{c}}'}}\nc: 1\n"
    (tmp_path / "config.yaml").write_text(before)
    config = run_config(tmp_path)
    assert config.explainer._target_ == "cfexp.explainers.steex.steex.STEEX"
    assert config.explainer.a[0]._target_ == "cfexp.losses.flip_hinge"
    assert config.explainer.b == 1
    today = {"_target_": "cfexp.explainers.steex.steex.STEEX"}
    assert with_present_names(today) == today
    assert run_config(tmp_path / "nothing") == {}
