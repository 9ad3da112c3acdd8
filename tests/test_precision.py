"""Every `trainer.precision` that Lightning has works, or is refused in one line before anything is
made.
"""

from pathlib import Path
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_module

from cfexp import explain, train
from cfexp.errors import InputError
from cfexp.evaluation.run_folder import RunFolder
from cfexp.explainers.steex.steex import STEEX
from cfexp.models.loading import packed
from cfexp.run.configuration import register_resolvers
from cfexp.run.feasibility import refuse_what_cannot_work
from tests.commands import InProcess
from tests.explainers.steex.test_steex import batch, steex
from tests.image_parts import EightImages
from tests.tiny_streets import DRIVING

# 32-true is what every other test has. On a CPU Lightning makes bf16-mixed of 16-mixed.
SOME = [
    "bf16-mixed",
    *(pytest.param(each, marks=pytest.mark.slow) for each in ("64-true", "bf16-true", "16-mixed")),
]
OLD = ("64", "32", "bf16", "16")  # how Lightning called them
REFUSED = ("16-true", "transformer-engine", "transformer-engine-float16", "8-true")
BRIEF = [
    "num_threads=1",
    "logger=none",
    "callbacks=none",
    "trainer.max_epochs=1",
    "+trainer.limit_train_batches=2",
]
BRIEF += [
    "+trainer.limit_val_batches=1",
    "+trainer.limit_test_batches=1",
    "trainer.accelerator=cpu",
]
STREETS = [
    "data.world.train_scenes=12",
    "data.world.val_scenes=4",
    "data.holdout_images=4",
    "data.batch_size=4",
]
FACES = [
    "data.world.faces=40",
    "data.first_test_id=32",
    "data.holdout_images=4",
    "data.batch_size=4",
]
GAN = (
    "{_target_: cfexp.models.discriminators.MultiscaleDiscriminator, num_regions: 20, channels: 4}"
)
ADAM = "{_target_: torch.optim.Adam, _partial_: true, lr: 1.0e-4}"
STAGES = {
    "street_decision": [*STREETS, "network.widths=[4,8]"],
    "street_segmenter": [*STREETS, "network.width=4"],
    "street_autoencoder": [
        *(*STREETS, "network.base_channels=4", "network.style_dim=8", "requires.features=null"),
        *(
            "module.feature_network=null",
            f"module.discriminator={GAN}",
            f"module.discriminator_optimizer={ADAM}",
        ),
        *("module.clip_norm=1.0", "module.generator_optimizer.fused=false"),
    ],
    "face_identity": [*FACES, "data.split=unseen"],
    "face_oracle": [
        *FACES,
        "data.attributes=[Male,Smiling,Young]",
    ],  # the rarer ones nobody has of so few
}
SCENES = ["+overlay=smoke", "data.image_size=32", *BRIEF[:4], "trainer.accelerator=cpu"]
TRAININGS = {
    **{name: [*BRIEF, *own] for name, own in STAGES.items()},
    "vqa_model": SCENES,
    "vqa_color": SCENES,
}
TRAININGS["vqa_color"] = [each for each in SCENES if each != "callbacks=none"] + [
    "callbacks.progress=null"
]


@pytest.fixture(autouse=True)
def elsewhere(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CFEXP_CACHE", str(cache))


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("precision", SOME)
@pytest.mark.parametrize("name", TRAININGS)
def test_a_training(name: str, precision: str, in_process: InProcess, tmp_path: Path) -> None:
    code, _, stderr = in_process(
        train.main,
        f"+experiment={name}",
        *TRAININGS[name],
        f"trainer.precision={precision}",
        "hydra.run.dir=run",
    )
    assert code == 0, stderr
    if name != "vqa_color":
        state = torch.load(tmp_path / "run" / "model.ckpt", weights_only=True)
        assert all(each.isfinite().all() for each in state.values())


@pytest.mark.parametrize("precision", REFUSED)
@pytest.mark.parametrize("name", [*TRAININGS, "steex_driving"])
def test_a_refusal(name: str, precision: str) -> None:
    command = "explain" if name == "steex_driving" else "train"
    register_resolvers()
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        config = compose(
            command,
            overrides=[f"+experiment={name}", "requires={}", f"trainer.precision={precision}"],
        )
    with pytest.raises(
        InputError,
        match=rf"^(trainer.precision={precision}: |trainer: .*{precision.split('-')[0]})",
    ):
        refuse_what_cannot_work(config)


SEARCH = [
    "data.max_test_images=2",
    "explainer.num_steps=2",
    "explainer.num_candidates=2",
    "explainer.sweep_regions=true",
]


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize(
    "precision", [*SOME, *(pytest.param(each, marks=pytest.mark.slow) for each in OLD)]
)
def test_a_search(
    precision: str, in_process: InProcess, networks: list[str], tmp_path: Path
) -> None:
    code, _, stderr = in_process(
        explain.main,
        *DRIVING,
        *networks,
        *SEARCH,
        f"trainer.precision={precision}",
        "hydra.run.dir=run",
    )
    assert code == 0, stderr
    assert len(RunFolder(tmp_path / "run").records()) == 2


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EightImages:
    return EightImages(tmp_path_factory.mktemp("eight"))


@pytest.mark.parametrize("packs", [True, False])
def test_autocast_changes_the_decision_model_alone(
    packs: bool, data: EightImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not packs:  # as on a GPU
        monkeypatch.setattr(packed, "_packs", lambda matrix: False)

    def explainer() -> STEEX:
        return steex(sweep_regions=False, num_candidates=2).float()

    queries = batch(data)._replace(image=batch(data).image.float())
    plain = explainer().explain(queries)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        mixed = explainer().explain(queries)
    assert torch.equal(mixed.reconstruction, plain.reconstruction)
    assert torch.equal(mixed.extras["query_codes"], plain.extras["query_codes"])
    # Light's decision is a mean, which autocast leaves as it is: the gradient back through the
    # generator is exact, too.
    assert torch.equal(mixed.counterfactual, plain.counterfactual)
    assert {each.dtype for each in (*mixed[:5], mixed.extras["style_codes"])} == {torch.float32}


def test_torchs_default_dtype_changes_nothing(
    data: EightImages, monkeypatch: pytest.MonkeyPatch
) -> None:
    queries = batch(data)._replace(image=batch(data).image.float())
    explainer = steex(num_candidates=2, resample_noise=True).float()
    plain = explainer.explain(queries)
    torch.set_default_dtype(torch.float64)
    try:
        other: Any = explainer.explain(queries)
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(other.counterfactual, plain.counterfactual)
    assert torch.equal(other.extras["candidates"], plain.extras["candidates"])


def test_a_fused_optimizer_that_would_have_to_clip_is_refused() -> None:
    register_resolvers()
    asked = ["+experiment=street_autoencoder", "requires={}", "module.clip_norm=1.0"]
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        config = compose("train", overrides=[*asked, "trainer.precision=bf16-mixed"])
    with pytest.raises(InputError, match=r"set module.generator_optimizer.fused=false"):
        refuse_what_cannot_work(config)
