"""What cannot work is refused by the setting's name, before any stage is trained."""

from pathlib import Path

import pytest
import torch
from hydra import compose, initialize_config_module
from omegaconf import DictConfig
from PIL import Image

import cfexp.run.stages
from cfexp import explain, load_explainer, reconstruct, train
from cfexp.errors import InputError
from cfexp.run.configuration import register_resolvers
from cfexp.run.feasibility import refuse_sizes, refuse_what_cannot_work
from tests.commands import InProcess
from tests.tiny_streets import DRIVING

OF_SEAN = "data.image_size=[66,130]: sides must be multiples of 16 for the autoencoder (SEAN)"


@pytest.fixture(autouse=True)
def nothing_is_trained(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def trained(*_: object) -> None:
        raise AssertionError("a stage was trained")

    monkeypatch.setenv("CFEXP_CACHE", str(cache))
    monkeypatch.setattr(cfexp.run.stages, "_make_stage", trained)


def composed(command: str, *overrides: str) -> DictConfig:
    register_resolvers()
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        return compose(command, overrides=list(overrides))


def refused(config: DictConfig) -> str | None:
    try:
        refuse_sizes(config)
    except InputError as error:
        return str(error)
    return None


@pytest.mark.parametrize(
    ("experiment", "overrides", "line"),
    [
        (
            "street_segmenter",
            ["data.image_size=[66,130]"],
            "data.image_size=[66,130]: sides must be multiples of 4 ",
        ),
        (
            "face_autoencoder",
            ["data.image_size=[64,72]"],
            "data.image_size=[64,72]: sides must be multiples of 16 for",
        ),
        ("face_autoencoder", ["data.image_size=[64,80]"], None),
        ("face_autoencoder", ["network=cell_sean", f"network.cells={['1x1'] * 19}"], None),
        (
            "face_oracle",
            ["data.image_size=[65,64]"],
            "data.image_size=[65,64]: sides must be multiples of 2 for Small",
        ),
        ("street_decision", ["data.image_size=[65,33]", "data.batch_size=1"], None),
        (
            "face_oracle",
            ["data.image_size=[16,16]", "data.batch_size=1"],
            "data.batch_size=1: SmallResNet normalises",
        ),
        (
            "vqa_color",
            ["data.image_size=72"],
            "data.image_size=72: sides must be multiples of 16 for the generator (C",
        ),
        ("vqa_model", ["data.image_size=72"], None),
        (
            "paper/bdd_segmenter",
            ["data.root=/x", "data.batch_size=1"],
            "data.batch_size=1: Segmenter normalises over a batch, "
            "and needs at least 2 images of this size in it",
        ),
        ("paper/bdd_segmenter", ["data.root=/x", "data.image_size=[90,100]"], None),
        (
            "paper/bdd_decision",
            ["data.root=/x", "data.image_size=[16,24]"],
            "data.image_size=[16,24]: sides must be larger for DecisionModel, such as [32,48]",
        ),
        (
            "paper/bdd_decision",
            ["data.root=/x", "network.arch=vit_b_16"],
            "data.image_size=[256,512]: sides must be [224,224] for DecisionModel",
        ),
    ],
)
def test_sizes_by_the_networks_that_see_them(
    experiment: str, overrides: list[str], line: str | None
) -> None:
    found = refused(composed("train", f"+experiment={experiment}", *overrides))
    assert found is None if line is None else str(found).startswith(line)


def test_the_cells_of_a_search_are_told_by_a_stage() -> None:
    given = ["data.root=/x", "pairs_root=/y", "checkpoints.layouts=/z/label_maps.json"]
    given += ["checkpoints.decision=/z/d.ckpt", "checkpoints.autoencoder=/z/a.ckpt"]
    config = composed("explain", "+experiment=real_smile", *given)
    assert refused(config) is None
    config.data.image_size = [60, 64]
    assert str(refused(config)).startswith("data.image_size=[60,64]: sides must be multiples of")


def test_nothing_is_drawn_by_the_check() -> None:
    torch.manual_seed(0)
    expected = torch.rand(3)
    torch.manual_seed(0)
    refuse_sizes(composed("train", "+experiment=vqa_color"))
    assert torch.equal(torch.rand(3), expected)


def test_a_network_that_fails_at_any_size_is_left_to_the_run() -> None:
    assert refused(composed("train", "+experiment=street_decision", "network.widths=[]")) is None


SIZE = "data.image_size=[66,130]"
PREDICTED = f"{OF_SEAN}, multiples of 4 for the segmenter (SmallSegmenter)"


@pytest.mark.parametrize(
    ("more", "line"),
    [([], OF_SEAN), (["+layouts=predicted"], PREDICTED), (["image=photo.png"], PREDICTED)],
)
def test_a_search_is_refused_before_its_stages(
    more: list[str], line: str, in_process: InProcess
) -> None:
    Image.new("RGB", (130, 66)).save("photo.png")
    code, _, stderr = in_process(explain.main, *DRIVING, "use_shipped_weights=false", SIZE, *more)
    assert (code, stderr[-1]) == (2, f"error: {line}")


def test_a_given_checkpoint_makes_no_difference(in_process: InProcess, networks: list[str]) -> None:
    assert in_process(explain.main, *DRIVING, *networks, SIZE)[2][-1] == f"error: {OF_SEAN}"
    code, _, stderr = in_process(reconstruct.main, "+experiment=steex_driving", SIZE)
    assert (code, stderr[-1]) == (2, f"error: {OF_SEAN}")


def test_so_does_the_library() -> None:
    with pytest.raises(
        InputError, match=r"data.image_size=\[66,130\]: sides must be multiples of 16"
    ):
        load_explainer("steex_driving", [SIZE])


def test_a_stages_own_settings_are_seen_before_another_is_trained() -> None:
    small = ["data.world.train_scenes=10", "data.world.val_scenes=2", "data.holdout_images=1"]
    features = "+requires.features.overrides=['data.batch_size=50']"
    overrides = ["+experiment=street_autoencoder", "use_shipped_weights=false", *small, features]
    register_resolvers()
    with initialize_config_module(
        "cfexp.conf", version_base="1.3"
    ):  # within which stages are composed
        config = compose("train", overrides=overrides)
        with pytest.raises(
            InputError,
            match=r"data.batch_size=50 is more than the 9 images that a process trains on",
        ):
            refuse_what_cannot_work(config)


GANS = {
    "vqa_color": ("explainer", "VQACounterfactualGAN"),
    "face_autoencoder": ("module", "AutoencoderStage"),
}


@pytest.mark.parametrize("experiment", GANS)
@pytest.mark.parametrize(
    ("setting", "said"),
    [
        (
            "accumulate_grad_batches=2",
            "and accumulates nothing; take a larger data.batch_size or more devices",
        ),
        ("gradient_clip_val=0.5", "and clips each one's: {}.clip_norm=0.5"),
        ("gradient_clip_algorithm=value", "and clips by norm alone"),
    ],
)
def test_what_a_gan_does_itself_is_refused_of_the_trainer(
    experiment: str, setting: str, said: str, in_process: InProcess
) -> None:
    code, _, stderr = in_process(train.main, f"+experiment={experiment}", f"+trainer.{setting}")
    where, name = GANS[experiment]
    line = f"error: trainer.{setting}: {name} trains two networks in turns, {said.format(where)}"
    assert (code, stderr[-1]) == (2, line)


@pytest.mark.parametrize(
    "setting", ["max_epochs=0", "+trainer.max_steps=0", "+trainer.limit_test_batches=0"]
)
def test_a_training_of_nothing_is_refused(setting: str, in_process: InProcess) -> None:
    setting = setting if setting.startswith("+") else f"trainer.{setting}"
    code, _, stderr = in_process(train.main, "+experiment=street_decision", setting)
    assert (code, stderr[-1]) == (2, f"error: {setting.lstrip('+')} leaves nothing to do")
