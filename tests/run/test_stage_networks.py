"""What an experiment says of its stages in a word: which network, which of its outputs, what its
sides are called.
"""

from collections.abc import Iterator
from typing import Any

import pytest
from hydra import compose, initialize_config_module
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import InterpolationResolutionError

from cfexp.errors import InputError
from cfexp.run.configuration import register_resolvers
from cfexp.run.stage_names import compose_stage
from cfexp.run.stage_networks import leave_out_unused_stages, refuse_pieces_of_networks

FACTS = [
    "+facts.num_regions=20",
    "+facts.num_classes=3",
    "+facts.num_words=9",
    "+facts.num_answers=5",
]


@pytest.fixture(autouse=True)
def hydra() -> Iterator[None]:
    register_resolvers()
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        yield


def composed(experiment: str, *overrides: str, command: str = "explain") -> DictConfig:
    return compose(command, overrides=[f"+experiment={experiment}", *FACTS, *overrides])


def plain(config: Any) -> Any:
    return OmegaConf.to_container(config, resolve=True)


def test_a_network_is_that_of_its_stage() -> None:
    config = composed("steex_driving", "checkpoints.decision=d.ckpt")
    stage, _ = compose_stage(config.requires.decision, config)
    with open_dict(stage):
        stage.facts = config.facts
    loader = plain(config.explainer.decision_model)
    assert loader.pop("_target_") == "cfexp.models.loading.pretrained.load_network"
    assert loader == {"network": plain(stage.network), "checkpoint": "d.ckpt"}
    assert loader["network"]["num_outputs"] == 1
    assert (
        plain(config)["explainer"]["autoencoder"]["network"]["num_regions"] == 20
    )  # of this config's data


def test_a_network_has_an_output_for_each_label_of_its_stage_whichever_are_explained() -> None:
    config = composed("steex_smile", "data.attributes=[Young,Smiling]")
    assert config.explainer.decision_model.network.num_outputs == 3
    assert config.explainer.head == 1
    as_ever = composed("steex_smile").explainer.decision_model
    written: Any = OmegaConf.to_container(as_ever, resolve=False)
    assert written["network"]["num_outputs"] == "${facts.num_classes}"  # stages are named by it


def test_settings_of_a_stage_and_the_prefix_of_its_file() -> None:
    wider = "+requires.decision.overrides=['network.widths=[4,8]']"
    config = composed("steex_driving", wider, "+prefixes.decision=model.")
    assert plain(config.explainer.decision_model.network.widths) == [4, 8]
    assert config.explainer.decision_model.prefix == "model."
    assert "prefix" not in config.explainer.autoencoder


@pytest.mark.parametrize(
    ("experiment", "command"), [("paper/steex_bdd", "explain"), ("paper/vqa_color", "train")]
)
def test_what_a_checkpoint_holds_is_not_downloaded(experiment: str, command: str) -> None:
    network = composed(
        experiment, "data.root=/data", command=command
    ).explainer.decision_model.network
    weights = network.backbone.network.weights if command == "train" else network.weights
    assert weights is None


@pytest.mark.parametrize(
    ("experiment", "output", "sides"),
    [
        ("steex_driving", 0, ["stop", "go"]),  # its stage has this output alone
        ("steex_smile", 1, ["not smiling", "smiling"]),
        ("steex_young", 2, ["old", "young"]),
        ("paper/steex_bdd", 0, ["stop", "go"]),  # one of the data set's four
    ],
)
def test_the_output_is_found_by_the_label(experiment: str, output: int, sides: list[str]) -> None:
    config = composed(experiment)
    assert (config.explainer.head, plain(config.explainer.class_names)) == (output, sides)
    assert config.label == config.decision.label
    other = composed(experiment, "explainer.head=7", "explainer.class_names=[a,b]", "label=x")
    assert (other.explainer.head, plain(other.explainer.class_names), other.label) == (
        7,
        ["a", "b"],
        "x",
    )


@pytest.mark.parametrize(
    ("overrides", "setting", "message"),
    [
        (
            ["decision.label=left"],
            "explainer.head",
            "decision.label=left is none of the outputs of street_decision: forw",
        ),
        (
            ["decision.below=null"],
            "explainer.class_names",
            "decision: give both below= and above=, got None and go",
        ),
        (
            ["requires.decision=null"],
            "explainer.head",
            "no stage `decision` is required; give decision.output=NUMBER",
        ),
        (
            ["requires.decision=null"],
            "explainer.decision_model",
            "requires.decision is missing: its experiment says",
        ),
    ],
)
def test_what_does_not_fit_is_one_line(overrides: list[str], setting: str, message: str) -> None:
    with pytest.raises(InterpolationResolutionError) as error:
        plain(OmegaConf.select(composed("steex_driving", *overrides), setting))
    assert message in str(error.value)


def test_a_piece_in_place_of_a_network_is_refused() -> None:
    refuse_pieces_of_networks(composed("steex_driving"))
    config = composed("steex_driving", "+explainer.decision_model.prefix=model.")
    with pytest.raises(
        InputError,
        match=r"explainer.decision_model.prefix= is none of .* or \+prefixes.NAME=PREFIX",
    ):
        refuse_pieces_of_networks(config)


def test_the_faces_parts_follow_from_what_is_read() -> None:
    drawn, real = (
        composed("steex_smile", *more).data for more in ([], ["data.root=/data/CelebAMask-HQ"])
    )
    assert (drawn.first_test_id, drawn.holdout_images) == (5400, 300)
    assert (real.first_test_id, real.holdout_images) == (28000, 500)


def test_a_stage_that_names_no_experiment_is_refused() -> None:
    config = composed("steex_driving", "+requires.jugde.overrides=['seed=1']")
    told = "requires.jugde: names no experiment; required here: decision, autoencoder"
    with pytest.raises(InputError, match=told):
        leave_out_unused_stages(config)
