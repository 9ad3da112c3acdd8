"""DiVE through every door: the stage, the command that explains, killed and started again, images
of one's own, and the library.
"""

import json
import shutil
from pathlib import Path

import pytest
from hydra import compose, initialize_config_module
from PIL import Image
from torch import Tensor

from cfexp import explain, load_explainer, train
from cfexp.evaluation.run_folder import RunFolder
from cfexp.models.tcvae import TCVAE
from cfexp.run.configuration import register_resolvers
from cfexp.run.own_queries import has_root
from cfexp.run.stage_names import compose_stage
from tests.commands import InProcess
from tests.evaluation.run_folder_page import documented
from tests.evaluation.run_writer import timeless
from tests.tiny_streets import SMALL, untrained_networks

TINY = [
    "+requires.autoencoder.overrides=['network.code_dim=6']",
    "+requires.decision.overrides=['network.widths=[4,8]']",
    "explainer.num_explanations=3",
    "explainer.num_steps=2",
]
DRIVING = ["+experiment=dive_driving", *SMALL, *TINY, "num_threads=1"]


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    register_resolvers()
    facts = ["+facts.num_regions=20", "+facts.height=64", "+facts.width=128"]
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        config = compose("explain", overrides=[*DRIVING, *facts])
    folder = tmp_path_factory.mktemp("networks")
    return untrained_networks(config, ("decision", "autoencoder"), folder)


@pytest.fixture(autouse=True)
def cached(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFEXP_CACHE", str(cache))


def test_a_run_that_goes_on_is_an_undisturbed_one(
    in_process: InProcess, networks: list[str], tmp_path: Path
) -> None:
    masked = ["explainer.masks=fisher_spectral", "explainer.max_fisher_images=2"]
    few = ["data.holdout_images=1", "data.max_test_images=4"]
    command = [*DRIVING, *networks, *masked, *few]
    whole, gone_on = tmp_path / "whole", tmp_path / "gone_on"
    code, _, stderr = in_process(explain.main, *command, f"hydra.run.dir={whole}")
    assert code == 0, stderr
    records = RunFolder(whole).records()
    shutil.copytree(whole, gone_on)
    # As one that was killed after two explanations.
    (gone_on / "explanations.parquet").unlink()
    lines = "".join(json.dumps(record) + "\n" for record in records[:2])
    (gone_on / "explanations" / "records-0.jsonl").write_text(lines)
    code, stdout, stderr = in_process(explain.main, *command, f"hydra.run.dir={gone_on}")
    assert code == 0, stderr
    assert any(line.startswith("goes on after 2 explanations: ") for line in stdout)
    assert timeless(gone_on).equals(timeless(whole))
    checkpoints = json.loads((whole / "provenance.json").read_text())["checkpoints"]
    assert set(checkpoints) == {"decision", "autoencoder"}
    groups = json.loads((whole / "metrics.json").read_text())["groups"]
    assert {"success_kept", "answers", "candidate_code_cosine"} <= set(groups["all"])
    assert (whole / "counterfactuals.png").is_file()
    sections = ("every explanation", "few classes", "images", "embedded streets", "further answers")
    assert set(records[0]) == documented(*sections, "DiVE")


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[Tensor]:
    """The images that were encoded, (3, H, W) each; of those without content none."""
    seen: list[Tensor] = []
    encode = TCVAE.encode

    def seeing(self: TCVAE, images: Tensor) -> tuple[Tensor, Tensor]:
        seen.extend(image for image in images if not image.is_meta)
        return encode(self, images)

    monkeypatch.setattr(TCVAE, "encode", seeing)
    return seen


def test_an_image_of_ones_own_is_explained(
    in_process: InProcess, networks: list[str], tmp_path: Path, encoded: list[Tensor]
) -> None:
    """With masks by the data set's training images, not by the user's own."""
    Image.new("RGB", (128, 64), (90, 120, 160)).save(tmp_path / "photo.png")
    folder = tmp_path / "run"
    masked = ["explainer.masks=fisher", "explainer.max_fisher_images=2", "data.holdout_images=1"]
    command = [*DRIVING, *networks, *masked, f"image={tmp_path / 'photo.png'}"]
    code, _, stderr = in_process(explain.main, *command, f"hydra.run.dir={folder}")
    assert code == 0, stderr
    assert len(RunFolder(folder).records()) == 1
    own, of_data_set = encoded[0], encoded[1:]
    assert len(of_data_set) == 2
    assert all(each.std() > own.std() for each in of_data_set)  # the user's is of one colour


def test_of_a_data_set_that_must_be_given_no_embedded_world_is_taken() -> None:
    register_resolvers()
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        asked = ["+experiment=paper/dive_celeba_smile"]
        assert not has_root(compose("explain", overrides=asked))
        assert has_root(compose("explain", overrides=[*asked, "data.root=/x"]))
        assert has_root(compose("explain", overrides=["+experiment=dive_smile"]))


@pytest.mark.parametrize(
    ("setting", "problem"),
    [
        ("explainer.masks=chunk", "explainer.masks must be none or fisher or"),
        ("data.image_size=[66,128]", "sides must be multiples of"),
    ],
)
def test_what_cannot_be_is_said_in_a_line(
    in_process: InProcess, networks: list[str], tmp_path: Path, setting: str, problem: str
) -> None:
    command = [*DRIVING, *networks, setting, f"hydra.run.dir={tmp_path / 'run'}"]
    code, _, stderr = in_process(explain.main, *command)
    assert code != 0
    assert len(stderr) == 1
    assert problem in stderr[0]


def test_the_stage_is_trained_and_the_library_explains_by_it(
    in_process: InProcess, networks: list[str], tmp_path: Path
) -> None:
    few = ["data.world.train_scenes=6", "data.world.val_scenes=3", "data.batch_size=3"]
    more = ["data.holdout_images=2", "network.code_dim=6", "trainer.max_epochs=1", "logger=csv"]
    threads = "num_threads=1"
    command = ["+experiment=street_tcvae", *few, *more, threads, f"hydra.run.dir={tmp_path}"]
    code, _, stderr = in_process(train.main, *command)
    assert code == 0, stderr
    given = [each for each in networks if each.startswith("checkpoints.decision=")]
    given.append(f"checkpoints.autoencoder={tmp_path / 'model.ckpt'}")
    with pytest.warns(UserWarning, match="regions= has no effect: .* no such setting"):
        explainer = load_explainer("dive_driving", [*DRIVING[1:], *given, "regions=[car]"])
    found = explainer.explain(Image.new("RGB", (128, 64), (90, 120, 160)))
    assert found.extras["candidates"].shape == (1, 3, 3, 64, 128)


def test_xgem_is_a_preset_of_it() -> None:
    register_resolvers()
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        config = compose("explain", overrides=["+experiment=xgem_smile"])
        stage, _ = compose_stage(config.requires.autoencoder, config)
    assert (stage.module.tc_weight, stage.module.feature_network) == (0, None)
    weights = (config.explainer.lasso_weight, config.explainer.diversity_weight)
    assert (config.explainer.num_explanations, *weights) == (1, 0, 0)
