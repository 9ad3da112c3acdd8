from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.evaluation.run_folder import RunFolder
from cfexp.explainers.base import Explanation, eight_bit
from cfexp.explainers.pe.pe import ProgressiveExaggeration
from cfexp.models.progressive_exaggeration import Discriminator, Generator
from cfexp.run.callbacks import ExplanationWriter, SeedEachEpoch
from cfexp.run.explainer_stage import load_trained
from tests.image_parts import EightImages, batch_of, trainer, unchanged, values_of

BINS = 5


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EightImages:
    return EightImages(tmp_path_factory.mktemp("eight"))


class Light(nn.Module):
    """Is the image light? Linear in it."""

    def __init__(self) -> None:
        super().__init__()
        self.threshold = nn.Parameter(torch.tensor(-0.35))

    def forward(self, images: Tensor) -> Tensor:
        return 8 * (images.mean((1, 2, 3)) - self.threshold)[:, None]


class Colors(nn.Module):
    """Red, green or blue?"""

    def forward(self, images: Tensor) -> Tensor:
        return 8 * images.mean((2, 3))


class Lightens(nn.Module):
    """A generator in closed form: the image, lighter from bin to bin."""

    num_bins = BINS

    def forward(self, images: Tensor, bins: Tensor, batch_statistics: bool = False) -> Tensor:
        return (images + 0.3 * (bins.to(images.dtype) - 2)[:, None, None, None]).clamp(-1, 1)


def explainer(**settings: Any) -> ProgressiveExaggeration:
    adam = partial(torch.optim.Adam, lr=5e-3, betas=(0.5, 0.9))
    torch.manual_seed(0)
    given: dict[str, Any] = {
        "decision_model": Light(),
        "class_names": ["dark", "light"],
        "generator": Generator((12, 24), BINS, momentum=0.1),
        "discriminator": Discriminator((8, 16), BINS),
        "generator_optimizer": adam,
        "discriminator_optimizer": adam,
        "critic_steps": 1,
        "adversarial_weight": 0.1,
        "cycle_weight": 20.0,
        "code_weight": 0.1,
        "reconstruction_weight": 20.0,
        "decision_weight": 6.0,
        **settings,
    }
    return ProgressiveExaggeration(**given)


def fit(
    made: ProgressiveExaggeration, data: EightImages, folder: Path, epochs: int = 1, **settings: Any
) -> ProgressiveExaggeration:
    made.cache_dir = str(folder / "cache")
    trainer(folder, epochs, **settings).fit(made, datamodule=data)
    return made.eval()


def probability(image: Tensor) -> Tensor:
    logits: Tensor = Light()(image)
    return logits[:, 0].sigmoid().detach()


@pytest.mark.slow
def test_it_learns_to_be_lighter_from_bin_to_bin(data: EightImages, tmp_path: Path) -> None:
    made = fit(explainer(), data, tmp_path, 150)
    queries = batch_of(data)
    found = made.explain(queries)
    assert set(found.extras["bin"].tolist()) == {1, 2, 4}
    rising = found.extras["candidate_probability"]
    assert (rising.diff(dim=1) > 0).all()
    asked = torch.arange(BINS) / BINS
    assert (rising - asked).abs().mean() < 0.12
    assert torch.equal(found.counterfactual_logits.argmax(1), found.counter_class)
    # Of images whose values lie 0.37 from their mean.
    assert (found.reconstruction - found.query).abs().mean() < 0.18
    with torch.no_grad():
        back = made.generator(found.counterfactual, found.extras["bin"])
    assert (back - found.query).abs().mean() < 0.18


def test_the_contract(data: EightImages) -> None:
    made, queries = explainer().eval(), batch_of(data)
    found = made.explain(queries)
    assert found.query is queries.image
    own, chosen = found.extras["bin"], found.extras["chosen_bin"]
    light = probability(queries.image)
    assert own.tolist() == (BINS * light).long().tolist()
    assert torch.equal(found.counter_class, (light < 0.5).long())
    assert chosen.tolist() == [4 if asked else 0 for asked in found.counter_class.tolist()]
    candidates = found.extras["candidates"]
    assert candidates.shape == (8, BINS, 3, 16, 32)
    for row in range(8):
        assert torch.equal(found.reconstruction[row], candidates[row, own[row]])
        assert torch.equal(found.counterfactual[row], candidates[row, chosen[row]])
        stored = probability(eight_bit(candidates[row]))
        torch.testing.assert_close(found.extras["candidate_probability"][row], stored)
    assert found.extras["candidate_bin"].tolist() == [list(range(BINS))] * 8
    for name, image in (("query", found.query), ("counterfactual", found.counterfactual)):
        torch.testing.assert_close(getattr(found, f"{name}_logits"), made.logits(image, queries))
    declared = {column.name for column in made.columns}
    assert declared == found.extras.keys() - {"candidates", "label_map"}
    assert not any(value.requires_grad for value in (*found[:6], *found.extras.values()))


def test_an_explanation_does_not_depend_on_its_batch_unless_it_is_asked_to(
    data: EightImages, tmp_path: Path
) -> None:
    made = fit(explainer(), data, tmp_path)

    def apart() -> tuple[Tensor, Tensor]:
        parts = [made.explain(batch_of(data, *rows)) for rows in ((0, 1, 2), (3, 4, 5, 6, 7))]
        whole = made.explain(batch_of(data)).counterfactual
        return torch.cat([part.counterfactual for part in parts]), whole

    torch.testing.assert_close(*apart(), rtol=0, atol=1e-5)
    made.batch_statistics = True
    one, other = apart()
    assert (one - other).abs().max() > 1e-3


@pytest.mark.parametrize("asked", [None, "light", "dark"])
def test_the_first_bin_that_is_decided_as_asked(data: EightImages, asked: str | None) -> None:
    settings: dict[str, Any] = {"generator": Lightens(), "counter_class": asked}
    made = explainer(**settings, choose="first")
    found = made.explain(batch_of(data))
    for own, chosen, want, image in zip(
        found.extras["bin"].tolist(),
        found.extras["chosen_bin"].tolist(),
        found.counter_class.tolist(),
        found.query,
        strict=True,
    ):
        ahead = range(own + 1, BINS) if want else range(own - 1, -1, -1)
        lit = [(bin_, eight_bit(image + 0.3 * (bin_ - 2))) for bin_ in ahead]
        flips = [bin_ for bin_, each in lit if (probability(each[None]) > 0.5) == bool(want)]
        assert chosen == (flips[0] if flips else (BINS - 1) * want)
    assert len(set(found.extras["chosen_bin"].tolist())) > 1
    far = explainer(**settings).explain(batch_of(data)).extras["chosen_bin"]
    assert far.tolist() == [(BINS - 1) * want for want in found.counter_class.tolist()]


def test_of_exclusive_classes_it_is_for_one(data: EightImages) -> None:
    classes: dict[str, Any] = {"decision_model": Colors(), "class_names": ["red", "green", "blue"]}
    with pytest.raises(InputError, match=r"explainer.counter_class must be given: of 3 classes"):
        explainer(**classes).explain(batch_of(data))
    made = explainer(**classes, counter_class="blue")
    found = made.explain(batch_of(data))
    blue = Colors()(batch_of(data).image).softmax(1)[:, 2]
    assert found.extras["bin"].tolist() == (BINS * blue).long().tolist()
    assert found.counter_class.tolist() == [2] * 8
    assert found.extras["chosen_bin"].tolist() == [BINS - 1] * 8


def test_what_is_explained_stays_as_it_is_and_the_generator_may_not_see_it(
    data: EightImages, tmp_path: Path
) -> None:
    alone = {"cycle_weight": 0.0, "code_weight": 0.0, "reconstruction_weight": 0.0}
    for sees in (True, False):
        made = explainer(adversarial_weight=0.0, classifier_gradient=sees, **alone)
        decision, generator = (
            values_of(made.decision_model),
            dict(made.generator.named_parameters()),
        )
        before = {name: value.detach().clone() for name, value in generator.items()}
        fit(made, data, tmp_path)
        assert unchanged(made.decision_model, decision)
        moved = [name for name, value in generator.items() if not torch.equal(value, before[name])]
        assert bool(moved) == sees


def test_a_step_of_the_generator_comes_after_some_of_the_discriminator(
    data: EightImages, tmp_path: Path
) -> None:
    made = explainer(critic_steps=3)
    before = values_of(made.generator.conv_in)
    fit(made, data, tmp_path, 2)  # an epoch has one batch
    data.batch_size = 2
    try:
        assert torch.equal(made.generator.conv_in.weight, before["weight"])
        fit(made.train(), data, tmp_path, 1)
    finally:
        data.batch_size = 8
    assert not torch.equal(made.generator.conv_in.weight, before["weight"])


def test_who_explains_needs_the_generator_alone(data: EightImages, tmp_path: Path) -> None:
    made = fit(explainer(), data, tmp_path)
    torch.save(made.trained_state(), tmp_path / "model.ckpt")
    assert {name.partition(".")[0] for name in made.trained_state()} == {"generator"}
    other = explainer(decision_model=made.decision_model)
    load_trained(other, tmp_path / "model.ckpt")
    assert torch.equal(
        other.explain(batch_of(data)).counterfactual, made.explain(batch_of(data)).counterfactual
    )
    part = {name: each for name, each in made.state_dict().items() if "decision" not in name}
    part.pop("discriminator.dense.bias")
    torch.save(part, tmp_path / "part.ckpt")
    with pytest.raises(InputError, match=r"1 missing \(discriminator.dense.bias\)"):
        load_trained(other, tmp_path / "part.ckpt")


def test_a_resumed_training_ends_as_an_undisturbed_one(data: EightImages, tmp_path: Path) -> None:
    def run(epochs: int, resume: str | None = None) -> ProgressiveExaggeration:
        seed_everything(0, verbose=False)
        last = ModelCheckpoint(
            tmp_path, "last", save_on_train_epoch_end=True, enable_version_counter=False
        )
        made = explainer(cache_dir=str(tmp_path / "cache"))
        trainer(
            tmp_path, epochs, callbacks=[SeedEachEpoch(0), last], enable_checkpointing=True
        ).fit(made, datamodule=data, ckpt_path=resume, weights_only=True)
        return made

    whole = run(4)
    run(2)
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert not any(key.startswith("decision_model.") for key in saved["state_dict"])
    resumed = run(4, str(tmp_path / "last.ckpt"))
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_a_run_is_scored_by_what_it_declares(data: EightImages, tmp_path: Path) -> None:
    made = explainer(generator=Lightens())
    trainer(tmp_path, callbacks=[ExplanationWriter()]).predict(made, datamodule=data)
    run = RunFolder(tmp_path)
    assert run.declaration.explainer == "PE"
    records = run.records()
    assert len(records) == 8
    for record in records:
        stored = run.images("candidate_1", [record["key"]])
        assert float(probability(stored)) == pytest.approx(record["candidate_probability"][0], 1e-5)
        assert record["candidate_stored_success"][record["chosen_bin"]] == record["stored_success"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"choose": "near"}, "explainer.choose must be far or first, got 'near'"),
        ({"bin_target": "top"}, "explainer.bin_target must be lower or centre, got 'top'"),
        ({"critic_steps": 0}, "explainer.critic_steps must be at least 1, got 0"),
        ({"max_repeats": 0}, "explainer.max_repeats must be at least 1, got 0"),
        ({"discriminator": Discriminator((4,), 3)}, "have 5 and 3 bins"),
        ({"memory_budget": "much"}, "explainer.memory_budget must be such as"),
    ],
)
def test_wrong_settings_are_named(settings: dict[str, Any], said: str) -> None:
    with pytest.raises(InputError, match=said):
        explainer(**settings)


def test_predicted_images_are_rounded_and_asked_about_again(
    data: EightImages, tmp_path: Path
) -> None:
    (found, *_) = trainer(tmp_path).predict(explainer(), datamodule=data)  # type: ignore[misc]
    assert isinstance(found, Explanation)
    rounded = found.extras["candidates"]
    assert torch.equal(rounded, eight_bit(rounded))
    stored = found.extras["candidate_stored_logits"]
    assert stored.shape == (3, BINS, 2)
    torch.testing.assert_close(
        (stored[..., 1] - stored[..., 0]).sigmoid(), found.extras["candidate_probability"]
    )
