import importlib
import subprocess
import sys
from pathlib import Path

import pytest

from cfexp._moved import MOVED, with_present_names
from cfexp.run.configuration import run_config


@pytest.mark.parametrize("old", MOVED)
def test_a_module_can_be_imported_by_its_name_of_before(old: str) -> None:
    sys.modules.pop(old, None)
    with pytest.warns(DeprecationWarning, match=f"{old} is {MOVED[old]} now"):
        found = importlib.import_module(old)
    assert found is importlib.import_module(MOVED[old])
    assert found.__name__ == MOVED[old]
    assert found.__spec__ is not None
    assert found.__spec__.name == MOVED[old]


def test_classes_are_the_same_under_either_name() -> None:
    code = (
        "from cfexp.pretraining.classifier import ClassifierStage as A\n"
        "from cfexp.training.classifier import ClassifierStage as B\n"
        "from cfexp.explainers.steex import STEEX as C\n"
        "from cfexp.explainers.steex.steex import STEEX as D\n"
        "assert A is B and C is D\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_config_of_before_is_read_with_the_names_of_today(tmp_path: Path) -> None:
    vqa, hinge = "_target_: cfexp.data.vqa.VQADataModule", "_target_: cfexp.losses.flip_hinge"
    before = f"data: {{{vqa}, a: [{{{hinge}}}], b: '${{c}}'}}\nc: 1\n"
    (tmp_path / "config.yaml").write_text(before)
    config = run_config(tmp_path)
    assert config.data._target_ == "cfexp.data.questions.vqa.VQADataModule"
    assert config.data.a[0]._target_ == "cfexp.losses.flip_hinge"
    assert config.data.b == 1
    today = {"_target_": "cfexp.explainers.steex.steex.STEEX"}
    assert with_present_names(today) == today
    assert run_config(tmp_path / "nothing") == {}
