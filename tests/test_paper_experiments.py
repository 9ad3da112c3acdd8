"""The experiments at the paper's scale: they compose, as do the stages they require; their networks
are the paper's.

Each is composed by the command that stands in its file. Networks are built without memory (torch's
meta device).
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from lightning import LightningModule
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import nn

from cfexp.errors import InputError
from cfexp.explainers.dive.dive import DiVE
from cfexp.explainers.steex.steex import STEEX
from cfexp.models.feature_networks import VGG16Features, VGG19Features
from cfexp.run.configuration import register_resolvers
from cfexp.run.stage_names import compose_stage
from cfexp.training.autoencoder import AutoencoderStage
from cfexp.training.classifier import ClassifierStage
from cfexp.training.segmenter import SegmenterStage
from cfexp.training.tcvae import TCVAEStage
from cfexp.worlds.face_names import CELEBA_ATTRIBUTES

FOLDER = Path(__file__).parents[1] / "conf" / "experiment" / "paper"
EXPERIMENTS = sorted(f"paper/{path.stem}" for path in FOLDER.glob("*.yaml"))
# Of VQAv1, whose sizes are read off its files.
VQA_FACTS = {"num_answers": 2000, "num_words": 14000}
SIZES = {"celeba": (128, 128, 19), "celebamask_hq": (256, 256, 19), "bdd": (256, 512, 20)}
SEARCHES = {
    "paper/steex_celeba_smile": {
        "paper/celeba_decision",
        "paper/celeba_autoencoder",
        "paper/celebamask_hq_segmenter",
    },
    "paper/steex_celeba_young": {
        "paper/celeba_decision",
        "paper/celeba_autoencoder",
        "paper/celebamask_hq_segmenter",
    },
    "paper/steex_celebamask_hq_smile": {
        *(
            "paper/celebamask_hq_decision",
            "paper/celebamask_hq_autoencoder",
            "paper/celebamask_hq_segmenter",
        ),
    },
    "paper/steex_celebamask_hq_young": {
        *(
            "paper/celebamask_hq_decision",
            "paper/celebamask_hq_autoencoder",
            "paper/celebamask_hq_segmenter",
        ),
    },
    "paper/steex_bdd": {"paper/bdd_decision", "paper/bdd_autoencoder", "paper/bdd_segmenter"},
}


@contextmanager
def hydra() -> Iterator[None]:
    register_resolvers()
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        yield


def command(experiment: str) -> list[str]:
    """What the second line of an experiment's file says: the entry point, then its arguments."""
    words = (
        (FOLDER / f"{experiment.removeprefix('paper/')}.yaml")
        .read_text()
        .splitlines()[1]
        .partition(" (or")[0]
        .split()
    )
    assert words[:3] == ["#", "python", "-m"]
    return [words[3].removeprefix("cfexp."), *words[4:]]


def composed(experiment: str, *overrides: str) -> DictConfig:
    """The experiment's config by its own command; only within `hydra()`."""
    entry, *arguments = command(experiment)
    assert arguments[0] == f"+experiment={experiment}"
    return compose(entry, overrides=[*arguments, *overrides])


def with_facts(config: DictConfig) -> DictConfig:
    """The same with its data's sizes, and nothing to be loaded: neither checkpoints nor weights to
    start from.
    """
    with open_dict(config):
        for name in config.checkpoints:
            config.checkpoints[name] = "given/label_maps.json" if name == "layouts" else None
        for key in [
            key for key in config if str(key).endswith("_weights") and key != "use_shipped_weights"
        ]:
            config[key] = None
        config.facts = VQA_FACTS if "vqa" in config.name else instantiate(config.data).facts
    return config


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_and_all_that_it_requires_compose(experiment: str) -> None:
    with hydra():
        waiting, seen = [composed(experiment)], 0
        while waiting:
            config = waiting.pop()
            seen += 1
            assert config.data.root.startswith("/data/")
            for requirement in config.requires.values():
                stage, name = compose_stage(requirement, config)
                assert name.rpartition("-")[0] == stage.name
                assert stage.data.num_workers == config.data.num_workers
                waiting.append(stage)
        assert seen == 1 + {
            "paper/steex_celeba_smile": 5,
            "paper/steex_celeba_young": 5,
            **dict.fromkeys(("paper/pe_celeba_smile", "paper/pe_celeba_young"), 1),
            "paper/vqa_color": 1,
            "paper/dive_celeba_smile": 2,
            "paper/dive_celeba_young": 2,
        }.get(
            experiment,
            2 if experiment == "paper/celeba_autoencoder" else 3 * ("steex" in experiment),
        ) + (experiment == "paper/celeba_layouts")


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_every_network_of_an_experiment_can_be_built(experiment: str) -> None:
    with hydra():
        config = with_facts(composed(experiment))
    built = config.get("explainer") or config.get("module") or config.network
    with torch.device("meta"):
        module = instantiate(built)
    assert isinstance(module, nn.Module)
    assert sum(parameter.numel() for parameter in module.parameters()) > 6_900_000


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_an_experiment_says_what_is_published_and_what_is_ours(experiment: str) -> None:
    conf, said = FOLDER.parents[1], ""
    waiting = [f"conf/experiment/{experiment}.yaml"]
    while waiting:
        text = (conf.parent / waiting.pop()).read_text()
        comments = "\n".join(line.partition("#")[2] for line in text.splitlines())
        said += comments
        # A file that it sends the reader to is one that it is made of.
        for name in re.findall(r"conf/paper/(\w+)\.yaml", comments):
            assert re.search(rf"^  - (/paper: )?{name}$", text, re.MULTILINE)
            waiting.append(f"conf/paper/{name}.yaml")
    assert re.search("paper|published", said, re.IGNORECASE)
    assert re.search(r"\bours\b", said, re.IGNORECASE)


def stage(experiment: str) -> tuple[DictConfig, Any]:
    with hydra():
        config = with_facts(composed(experiment))
    with torch.device("meta"):
        return config, instantiate(config.module)


def count(module: nn.Module | None) -> int:
    assert module is not None
    return sum(parameter.numel() for parameter in module.parameters())


@pytest.mark.parametrize("data", SIZES)
def test_sean_is_trained_as_published(data: str) -> None:
    config, module = stage(f"paper/{data}_autoencoder")
    assert isinstance(module, AutoencoderStage)
    height, width, regions = SIZES[data]
    assert (config.facts.height, config.facts.width, config.facts.num_regions) == (
        height,
        width,
        regions,
    )
    # Published: 266,907,367 and 270,877,159, of which the 6 blending scalars of the last block are
    # not used.
    assert count(module.network) == {19: 266_907_361, 20: 270_877_153}[regions]
    if regions == 19:
        assert count(module.discriminator) == 1_364_098
    assert isinstance(module.feature_network, VGG19Features)
    assert (
        module.adversarial_weight,
        module.matching_weight,
        module.perceptual_weight,
        module.l1_weight,
    ) == (*(1.0, 10.0, 10.0, 0.0),)
    assert module.perceptual_layers == list(VGG19Features.WEIGHTS)
    epochs = config.trainer.max_epochs
    of_one_step = {"num_training_batches": 1, "accumulate_grad_batches": 1}
    trainer = SimpleNamespace(estimated_stepping_batches=epochs, max_epochs=epochs, **of_one_step)
    module._trainer = trainer  # type: ignore[assignment]
    for scheduled, rate in zip(module.configure_optimizers(), (1e-4, 4e-4), strict=True):
        optimizer = scheduled["optimizer"]
        assert isinstance(optimizer, torch.optim.Adam)
        assert (optimizer.defaults["lr"], list(optimizer.defaults["betas"])) == (rate, [0.0, 0.9])
        factor = scheduled["lr_scheduler"]["scheduler"].lr_lambdas[0]
        rates = [factor(step) for step in range(config.trainer.max_epochs)]
        assert rates[:51] == [1.0] * 51
        assert rates[51] == pytest.approx(0.98)
        assert rates[-1] == pytest.approx(0.02)
    assert (config.data.batch_size, config.data.horizontal_flip, config.trainer.max_epochs) == (
        32,
        0.5,
        100,
    )


@pytest.mark.parametrize(
    ("experiment", "heads", "batch"),
    [("celeba_decision", 3, 32), ("celebamask_hq_decision", 3, 32), ("bdd_decision", 4, 8)],
)
def test_decision_models_are_trained_as_published(experiment: str, heads: int, batch: int) -> None:
    config, module = stage(f"paper/{experiment}")
    assert isinstance(module, ClassifierStage)
    assert count(module.network) == 6_953_856 + 1025 * heads
    assert (config.data.batch_size, config.trainer.max_epochs, config.data.horizontal_flip) == (
        batch,
        5,
        0.0,
    )
    check_adam(module)
    with hydra():
        weights = composed(f"paper/{experiment}").network.weights
    assert weights == ("IMAGENET1K_V1" if experiment == "bdd_decision" else None)


@pytest.mark.parametrize(
    ("experiment", "ignored"), [("celebamask_hq_segmenter", None), ("bdd_segmenter", 19)]
)
def test_segmenters_are_trained_as_published(experiment: str, ignored: int | None) -> None:
    config, module = stage(f"paper/{experiment}")
    assert isinstance(module, SegmenterStage)
    # Published: 58.63 million with 19 regions.
    assert count(module.network) / 1e6 == pytest.approx(58.63, abs=0.01)
    assert module.ignored == (-100 if ignored is None else ignored)
    assert (config.data.batch_size, config.trainer.max_epochs, config.data.horizontal_flip) == (
        8,
        50,
        0.5,
    )
    check_adam(module)


@pytest.mark.parametrize("data", ["celeba", "celebamask_hq"])
def test_the_oracle_sees_all_attributes(data: str) -> None:
    config, module = stage(f"paper/{data}_oracle")
    assert list(config.data.attributes) == list(CELEBA_ATTRIBUTES)
    assert module.network.classifier.weight.shape == (40, 2048)
    assert (config.data.batch_size, config.trainer.max_epochs) == (32, 5)
    check_adam(module)


def check_adam(module: Any) -> None:
    optimizer = module.optimizer([nn.Parameter(torch.zeros(1))])
    assert type(optimizer) is torch.optim.Adam
    assert (optimizer.defaults["lr"], optimizer.defaults["weight_decay"]) == (1e-4, 0.0)
    assert (module.warmup, module.cooldown) == (0.0, 0.0)


@pytest.mark.parametrize("experiment", SEARCHES)
def test_searches_are_the_papers_and_require_its_stages(experiment: str) -> None:
    with hydra():
        config = composed(experiment)
        stages = {name: compose_stage(each, config) for name, each in config.requires.items()}
        assert {required.name for required, _ in stages.values()} == SEARCHES[experiment]
        # What is loaded has the form of what the stage trains.
        facts = instantiate(config.data).facts
        for name, (required, _) in stages.items():
            with open_dict(required), open_dict(config):
                required.facts = config.facts = facts
                required.network.pop("weights", None)
                loader = config.explainer["decision_model" if name == "decision" else name]
                loaded = loader.get("segmenter", loader).network
                loaded.pop("weights", None)
            trained, loaded = (
                OmegaConf.to_container(each, resolve=True) for each in (required.network, loaded)
            )
            assert trained == loaded
        if "celeba_" in experiment:
            # The label maps of the training are those of the search: one segmenter, trained once.
            label_maps, _ = compose_stage(
                stages["autoencoder"][0].requires.layouts, stages["autoencoder"][0]
            )
            assert (
                compose_stage(label_maps.requires.segmenter, label_maps)[1]
                == stages["segmenter"][1]
            )
        config = with_facts(composed(experiment))
    with torch.device("meta"):
        explainer = instantiate(config.explainer)
    assert isinstance(explainer, STEEX)
    assert (explainer.num_steps, explainer.learning_rate, explainer.proximity_weight) == (
        100,
        0.01,
        0.3,
    )
    assert explainer.head is not None
    assert explainer.class_names is not None
    data = instantiate(config.data)
    assert data.class_names[explainer.head] == config.label == config.decision.label
    assert isinstance(explainer, LightningModule)


def test_dives_autoencoder_is_trained_as_published() -> None:
    config, module = stage("paper/celeba_tcvae")
    assert isinstance(module, TCVAEStage)
    assert count(module.network) == 67_453_769
    assert isinstance(module.feature_network, VGG16Features)
    assert (module.perceptual_layers, module.pixel_weight) == ([1.0] * 4, 0.0)
    assert (module.beta, module.tc_weight, module.cycles) == (0.001, 1.0, 4)
    assert not module.published_kl
    assert (module.warmup, module.cooldown) == (0.0, 0.0)
    optimizer = module.optimizer([nn.Parameter(torch.zeros(1))])
    assert type(optimizer) is torch.optim.Adam
    assert (optimizer.defaults["lr"], optimizer.defaults["betas"]) == (4e-4, (0.9, 0.999))
    data = config.data
    assert (data.batch_size, data.horizontal_flip, config.trainer.max_epochs) == (64, 0.5, 400)


@pytest.mark.parametrize(("name", "head"), [("smile", 1), ("young", 2)])
def test_dives_search_is_as_published(name: str, head: int) -> None:
    with hydra():
        config = with_facts(composed(f"paper/dive_celeba_{name}"))
    with torch.device("meta"):
        explainer = instantiate(config.explainer)
    assert isinstance(explainer, DiVE)
    assert count(explainer.autoencoder) == 67_453_769
    assert explainer.head == head
    with torch.device("meta"):  # of its class the defaults are published, but for what is ours
        plain = DiVE(decision_model=nn.Identity(), autoencoder=explainer.autoencoder)
    for setting in ("num_explanations", "num_steps", "_search", "masks", "keep", "decision_of"):
        assert getattr(explainer, setting) == getattr(plain, setting), setting
    assert (explainer.num_explanations, explainer.num_steps) == (8, 20)


def test_a_root_of_another_data_set_must_be_given() -> None:
    with hydra():
        config = composed("paper/celeba_layouts", "celebamask_hq_root=null")
        with pytest.raises(
            InputError, match="celebamask_hq_root must be given: celebamask_hq_root=VALUE"
        ):
            compose_stage(config.requires.segmenter, config)
