"""`+experiment=vqa_clothes` on a handful of made-up people: from the converter to the figures."""

import importlib.util
from pathlib import Path
from types import ModuleType

from cfexp import train
from cfexp.data.converters.ccp import convert_ccp
from cfexp.evaluation.run_folder import RunFolder
from tests.commands import InProcess
from tests.data.converters.test_ccp import write_people

SCRIPT = Path(__file__).parents[1] / "experiments" / "real_clothes" / "figures.py"


def figures_script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("real_clothes_figures", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_people_are_asked_about_trained_on_and_measured(
    in_process: InProcess, tmp_path: Path
) -> None:
    write_people(tmp_path / "in")
    convert_ccp(tmp_path / "in", tmp_path / "out")
    stage = [
        *("trainer.max_epochs=2", "data.images_per_batch=2"),
        "network.backbone.weights=null",  # of another package
    ]
    given = [
        *("+experiment=vqa_clothes", f"data.root={tmp_path / 'out'}", "data.image_size=64"),
        *("data.holdout_images=1", "data.batch_size=4"),
        *("trainer.max_epochs=1", "trainer.check_val_every_n_epoch=1"),
        *(f"+requires.vqa_model.overrides={stage}", "num_threads=1", "logger=csv"),
        *(f"cache_dir={tmp_path / 'cache'}", f"hydra.run.dir={tmp_path / 'run'}"),
    ]
    code, _, stderr = in_process(train.main, *given)
    assert code == 0, stderr
    found = figures_script().figures(RunFolder(tmp_path / "run"))
    assert found["the answer is what is read inside the mask at this size"]["value"] == 100
    assert found["accuracy before, mean over the colours"]["colors"] == 2
    assert found["red: accuracy before"]["n"] == found["black: accuracy before"]["n"] == 2
