"""Two real steps of each of STEEX's stages and searches at the paper's scale: full-size networks,
few images.

`python -m pytest -m slow -s tests/test_paper_steps.py` prints CPU seconds and memory. The roots are
embedded worlds in the real sets' layouts, drawn at the size at which the networks see them.
"""

import json
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from PIL import Image

from cfexp.evaluation.run_folder import RunFolder
from cfexp.run.configuration import register_resolvers
from cfexp.worlds.faces import FaceParameters, write_celeba, write_celebamask_hq
from cfexp.worlds.streets import StreetParameters, write_streets
from tests.test_paper_scale import MEMORY
from tests.tiny_streets import untrained_networks

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
# What a tiny data root asks for: a test and a validation part of its own.
HELD_OUT = {
    "celeba": [],
    "celebamask_hq": ["data.first_test_id=14", "data.holdout_images=2"],
    "bdd": ["data.holdout_images=2"],
}
# One image a step where that trains; DeepLabV3 normalises over the batch.
STAGES = {
    "celebamask_hq_segmenter": (2, ["resnet_weights=null"]),
    "bdd_segmenter": (2, ["resnet_weights=null"]),
    "celebamask_hq_autoencoder": (1, ["vgg_weights=null"]),
    "bdd_autoencoder": (1, ["vgg_weights=null"]),
    "celeba_decision": (2, []),
    "celebamask_hq_decision": (2, []),
    "bdd_decision": (2, ["densenet_weights=null"]),
    "celeba_oracle": (2, ["vggface2_weights=null"]),
    "celebamask_hq_oracle": (2, ["vggface2_weights=null"]),
}
SEARCHES = ("celeba_smile", "celeba_young", "celebamask_hq_smile", "celebamask_hq_young", "bdd")


def mix_attributes(table: Path) -> None:
    """Give each attribute both values: of the drawn ones some are the same in a few faces, and what
    is one-sided is refused.
    """
    count, names, *rows = table.read_text().splitlines()
    values = [
        " ".join("1" if (row + column) % 2 else "-1" for column in range(len(names.split())))
        for row in range(len(rows))
    ]
    rows = [f"{row.split()[0]} {mixed}" for row, mixed in zip(rows, values, strict=True)]
    table.write_text("\n".join([count, names, *rows]) + "\n")


class Roots(dict[str, Path]):
    """Tiny data roots by name, each written when it is asked for."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder

    def __missing__(self, name: str) -> Path:
        root = self.folder / name
        if name == "celeba":
            # So many that the validation part, a tenth of the persons, has some.
            write_celeba(FaceParameters(faces=100, image_size=150), root)
            mix_attributes(next(root.rglob("list_attr_celeba.txt")))
        elif name == "celebamask_hq":
            write_celebamask_hq(FaceParameters(faces=16, image_size=256), root)
            mix_attributes(next(root.rglob("CelebAMask-HQ-attribute-anno.txt")))
        else:
            streets = StreetParameters(
                train_scenes=8, val_scenes=2, image_height=256, image_width=512
            )
            write_streets(streets, root)
        self[name] = root
        return root


@pytest.fixture(scope="module")
def roots(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return Roots(tmp_path_factory.mktemp("roots"))


def data_of(experiment: str) -> str:
    return next(name for name in ("celebamask_hq", "celeba", "bdd") if name in experiment)


def run(
    entry: str, experiment: str, roots: dict[str, Path], folder: Path, *overrides: str
) -> list[str]:
    """Run an experiment on its tiny root; the lines that it prints."""
    data = data_of(experiment)
    command = [
        sys.executable,
        "-m",
        f"cfexp.{entry}",
        f"+experiment=paper/{experiment}",
        f"data.root={roots[data]}",
    ]
    command += ["num_threads=1", f"hydra.run.dir={folder}", "data.num_workers=0", "logger=csv"]
    command += ["callbacks.progress=null", *HELD_OUT[data], *overrides]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CFEXP_CACHE": str(folder / "cache")}
    done = subprocess.run(
        command, env=environment, cwd=folder, capture_output=True, text=True, timeout=3600
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout.splitlines()


def two_steps(
    experiment: str, roots: dict[str, Path], folder: Path, batch: int, *overrides: str
) -> None:
    """Train for two batches, validate and test on one; prints what the second step takes."""
    steps = [
        "trainer.max_epochs=1",
        "+trainer.limit_train_batches=2",
        "+trainer.limit_val_batches=1",
    ]
    steps += [
        "+trainer.limit_test_batches=1",
        "+trainer.enable_checkpointing=false",
        "callbacks.last=null",
    ]
    steps += ["+callbacks.steps._target_=tests.test_paper_scale.Steps"]
    batches = [f"data.batch_size={batch}", "data.eval_batch_size=1"]
    lines = run("train", experiment, roots, folder, *steps, *batches, *overrides)
    (line,) = [line for line in lines if line.startswith("STEPS ")]
    measured = json.loads(line.removeprefix("STEPS "))
    assert len(measured["seconds"]) == 2
    assert measured["peak"] < MEMORY
    cost = f"{measured['seconds'][1]:6.1f} s a step, peak {measured['peak']:5.2f} GB"
    print(f"{experiment:<28} batch {batch}: {cost}")
    state = torch.load(folder / "model.ckpt", weights_only=True, mmap=True)
    assert all(tensor.isfinite().all() for tensor in state.values() if tensor.is_floating_point())


@pytest.mark.parametrize("experiment", STAGES)
def test_two_steps_of_a_stage(experiment: str, roots: dict[str, Path], tmp_path: Path) -> None:
    batch, overrides = STAGES[experiment]
    two_steps(experiment, roots, tmp_path, batch, *overrides)


def untrained(search: str, roots: dict[str, Path], folder: Path) -> list[str]:
    """The three networks of a search, untrained, as a user gives checkpoints."""
    register_resolvers()
    data = data_of(search)
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        config = compose(
            "explain", overrides=[f"+experiment=paper/steex_{search}", f"data.root={roots[data]}"]
        )
    config.facts = instantiate(config.data).facts
    return untrained_networks(config, ("decision", "autoencoder", "segmenter"), folder)


def test_celeba_trains_on_predicted_layouts(roots: dict[str, Path], tmp_path: Path) -> None:
    given = untrained("celeba_smile", roots, tmp_path)[2]
    (tmp_path / "layouts").mkdir()
    run("train", "celeba_layouts", roots, tmp_path / "layouts", given, "data.eval_batch_size=4")
    pictures = [Image.open(path) for path in (tmp_path / "layouts" / "label_maps").iterdir()]
    assert {(picture.size, picture.mode) for picture in pictures} == {((150, 150), "L")}
    label_maps = f"checkpoints.layouts={tmp_path / 'layouts' / 'label_maps.json'}"
    two_steps("celeba_autoencoder", roots, tmp_path, 1, label_maps, "vgg_weights=null")


@pytest.mark.parametrize("search", SEARCHES)
def test_two_steps_of_a_search(search: str, roots: dict[str, Path], tmp_path: Path) -> None:
    given = untrained(search, roots, tmp_path)
    few = ["data.eval_batch_size=1", "+trainer.limit_predict_batches=1", "explainer.num_steps=2"]
    run("explain", f"steex_{search}", roots, tmp_path, *given, *few)
    assert RunFolder(tmp_path).keys() == {0}
    peak = (
        resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024 / 1e9
    )  # of all children so far
    assert peak < MEMORY
    print(f"{search:<28} batch 1: peak of this and earlier ones {peak:5.2f} GB")
