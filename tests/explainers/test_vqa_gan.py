from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning import LightningDataModule, Trainer, seed_everything
from lightning.pytorch.callbacks import ModelCheckpoint
from torch import Tensor, nn
from torch.utils.data import DataLoader

from cfexp import losses
from cfexp.data.batch import VQABatch
from cfexp.errors import InputError
from cfexp.explainers.base import eight_bit
from cfexp.explainers.vqa_gan import VQACounterfactualGAN
from cfexp.models.vqa.lingunet import CounterfactualGenerator, Edited
from cfexp.models.vqa.mlb import VQAModel
from cfexp.models.vqa.perturbation import RandomPerturbation
from cfexp.run.callbacks import SeedEachEpoch
from tests.explainers.vqa_parts import batch, counterfactual_gan, vqa_model
from tests.image_parts import trainer as quiet_trainer


class EightQuestions(LightningDataModule):
    class_names = ("red", "green", "blue", "yellow")

    def train_dataloader(self) -> DataLoader[Any]:
        return DataLoader([batch()] * 4, batch_size=None)  # type: ignore[arg-type]

    def val_dataloader(self) -> DataLoader[Any]:
        return DataLoader([batch()], batch_size=None)  # type: ignore[arg-type]

    def predict_dataloader(self) -> DataLoader[Any]:
        return self.val_dataloader()


def trainer(epochs: int, folder: Path, **settings: Any) -> Trainer:
    return quiet_trainer(folder, epochs, **{"limit_val_batches": 1.0, **settings})


@pytest.fixture(scope="module")
def trained_model() -> VQAModel:
    """A VQA model that knows its eight questions: the colour's number."""
    torch.manual_seed(0)
    model, questions = vqa_model(), batch()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        logits = model(questions.image, questions.question, questions.question_length)
        optimizer.zero_grad()
        nn.functional.cross_entropy(logits, questions.answer).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    model.eval()
    with torch.no_grad():
        logits = model(questions.image, questions.question, questions.question_length)
    assert torch.equal(logits.argmax(1), questions.answer)
    return model


def answers(explanation_logits: Tensor) -> list[int]:
    return explanation_logits.argmax(1).tolist()


def test_it_learns_to_change_all_eight_answers(trained_model: VQAModel, tmp_path: Path) -> None:
    torch.manual_seed(0)
    gan = counterfactual_gan(trained_model)
    trainer(80, tmp_path).fit(gan, datamodule=EightQuestions())
    with torch.no_grad():
        explanation = gan.explain(batch())
    assert answers(explanation.query_logits) == batch().answer.tolist()
    flips = explanation.counterfactual_logits.argmax(1) != explanation.query_logits.argmax(1)
    assert flips.all()
    assert explanation.counter_class.tolist() == [-1] * 8


def test_it_learns_to_aim_at_an_answer(trained_model: VQAModel, tmp_path: Path) -> None:
    torch.manual_seed(0)
    # With a mask: without one, pixels that were pushed out of range are clipped and lose their
    # gradient.
    generator = partial(CounterfactualGenerator, mask=True, depth=2, channels=16, text_channels=8)
    gan = counterfactual_gan(
        trained_model, counter_answer="blue", discriminator=None, generator=generator
    )
    trainer(60, tmp_path).fit(gan, datamodule=EightQuestions())
    with torch.no_grad():
        explanation = gan.explain(batch())
    assert answers(explanation.counterfactual_logits) == [2] * 8
    assert explanation.counter_class.tolist() == [2] * 8


def test_training_batches_are_augmented_first(trained_model: VQAModel, tmp_path: Path) -> None:
    seen: list[Tensor] = []

    def darkened(questions: VQABatch, data: object) -> tuple[VQABatch, Tensor]:
        assert isinstance(data, EightQuestions)
        seen.append(questions.image)
        return questions._replace(image=questions.image / 2), questions.image

    torch.manual_seed(0)
    gan = counterfactual_gan(trained_model, discriminator=None, augmentation=darkened)
    brightest: list[float] = []
    gan.generator.register_forward_pre_hook(lambda _, given: brightest.append(given[0].max()))
    settings = {"limit_val_batches": 0, "limit_train_batches": 2}
    trainer(1, tmp_path, **settings).fit(gan, datamodule=EightQuestions())
    assert len(seen) == 2
    assert max(brightest) <= 0.5


def test_an_unknown_counter_answer_is_named(trained_model: VQAModel, tmp_path: Path) -> None:
    gan = counterfactual_gan(trained_model, counter_answer="mauve")
    with pytest.raises(InputError, match="counter_answer='mauve' is no answer"):
        trainer(1, tmp_path).fit(gan, datamodule=EightQuestions())


def test_the_vqa_model_takes_no_gradient_and_stays_as_it_was(
    trained_model: VQAModel, tmp_path: Path
) -> None:
    before = {name: value.clone() for name, value in trained_model.state_dict().items()}
    gan = counterfactual_gan(trained_model)
    trainer(1, tmp_path).fit(gan, datamodule=EightQuestions())
    assert not any(
        parameter.requires_grad or parameter.grad is not None
        for parameter in trained_model.parameters()
    )
    gan.train()
    assert not trained_model.training
    assert all(
        torch.equal(value, before[name]) for name, value in trained_model.state_dict().items()
    )


def test_warm_up_is_reconstruction_alone(trained_model: VQAModel, tmp_path: Path) -> None:
    torch.manual_seed(0)
    gan = counterfactual_gan(trained_model, warmup_epochs=1.0)
    discriminator = {name: value.clone() for name, value in gan.discriminator.state_dict().items()}  # type: ignore[union-attr]
    with torch.no_grad():
        gan.generator.network.result.weight.normal_(std=0.3)  # a start that edits a lot
        start = gan.explain(batch())
    trainer(1, tmp_path).fit(gan, datamodule=EightQuestions())
    with torch.no_grad():
        end = gan.explain(batch())
    assert (end.reconstruction - end.query).square().mean() < (
        start.reconstruction - start.query
    ).square().mean()
    assert gan.discriminator is not None
    now = gan.discriminator.state_dict()
    assert all(torch.equal(value, discriminator[name]) for name, value in now.items())
    assert (
        gan.generator.network.slices.weight.grad is None
        or not gan.generator.network.slices.weight.grad.any()
    )


def test_the_cost_of_an_edit_rises_over_the_ramp(
    trained_model: VQAModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def first_terms(**ramp: float) -> dict[str, float]:
        torch.manual_seed(0)
        gan = counterfactual_gan(trained_model, warmup_epochs=0.0, **ramp)
        logged: list[dict[str, float]] = []
        keep = lambda terms, **_: logged.append({name: float(term) for name, term in terms.items()})  # noqa: E731
        monkeypatch.setattr(gan, "log_dict", keep)
        with torch.no_grad():
            gan.generator.network.result.weight.normal_(std=0.3)  # a start that edits a lot
        trainer(1, tmp_path).fit(gan, datamodule=EightQuestions())
        return logged[0]

    dear, free = first_terms(), first_terms(ramp_epochs=2.0, ramp_start=0.0)
    assert free["train/l2"] == 0
    assert free["train/counterfactual"] == pytest.approx(dear["train/counterfactual"])
    # Only edits that change the answer pay from the start.
    assert 0 <= first_terms(ramp_epochs=2.0, ramp_start=0.25)["train/l2"] < dear["train/l2"]


def test_a_mask_that_is_held_open_shows_its_colour_and_costs_nothing(
    trained_model: VQAModel,
) -> None:
    generator = partial(CounterfactualGenerator, mask=True, depth=2, channels=8, text_channels=4)
    gan = counterfactual_gan(trained_model, generator=generator, opened_share=0.5)
    query, color = torch.zeros(64, 3, 4, 4), torch.ones(64, 3, 4, 4, requires_grad=True)
    logits = torch.full((64, 1, 4, 4), -200.0)  # so closed that its sigmoid takes no gradient
    logits[..., 0] = 200.0
    logits.requires_grad_()
    edited = Edited(query, logits.sigmoid(), color, logits)
    shown, pays = gan._shown(query, edited)
    assert 15 < pays.sum() < 49
    assert torch.equal(shown[pays], query[pays])
    opened = shown[~pays][..., 1:]
    assert (opened > 0).all()
    assert (opened <= 0.5).all()
    assert (opened == opened[:, :1, :1, :1]).all()  # everywhere by the same degree
    assert len(set(opened[:, 0, 0, 0].tolist())) > 10  # of its own
    assert torch.equal(shown[~pays][..., 0], torch.ones_like(opened[..., 0]))  # as open as it was
    of_color, of_logits = torch.autograd.grad(shown.sum(), (color, logits))
    assert (of_color.flatten(1).any(1) == ~pays).all()  # which a closed mask would not let through
    assert ((of_logits[..., 1:] > 0).flatten(1).all(1) == ~pays).all()
    gan.opened_share = 0.0
    shown, pays = gan._shown(query, edited)
    assert shown is query
    assert pays.all()


def test_an_edit_is_shown_fainter_by_a_share_of_its_own(trained_model: VQAModel) -> None:
    gan = counterfactual_gan(trained_model, fade=0.25)
    query, image = torch.zeros(64, 3, 4, 4), torch.ones(64, 3, 4, 4)
    shown, pays = gan._shown(query, Edited(image, None, None, None))
    assert pays.all()
    assert (shown == shown[:, :1, :1, :1]).all()
    assert 0.75 <= shown.min() < 0.8
    assert 0.95 < shown.max() <= 1
    with pytest.raises(InputError, match="fade must be at least 0 and below 1"):
        counterfactual_gan(trained_model, fade=1.5)


def test_answers_that_are_alike_cost_where_any_other_will_do(trained_model: VQAModel) -> None:
    gan = counterfactual_gan(trained_model, variety_weight=2.0)
    logits, answer = torch.randn(3, 5), torch.tensor([0, 1, 1])
    edited = Edited(torch.zeros(3, 3, 32, 32), None, None, None)
    cost = gan._gains(logits, answer, edited)["variety"]
    torch.testing.assert_close(cost, 2 * losses.answers_alike(logits, answer))
    with pytest.raises(InputError, match="all answers are alike"):
        counterfactual_gan(trained_model, variety_weight=2.0, counter_answer="red")


def test_while_the_price_rises_edits_that_change_nothing_pay_less(trained_model: VQAModel) -> None:
    gan = counterfactual_gan(trained_model, ramp_epochs=4.0, ramp_start=0.2)
    logits, answer = torch.eye(3), torch.tensor([0, 1, 1])
    price = gan._price(logits, answer, 1.0)
    torch.testing.assert_close(price, torch.tensor([0.25, 0.25, 0.4]))
    assert gan._price(logits, answer, 4.0).tolist() == [1, 1, 1]
    gan.counter_answer_id = 2  # asked for: only the last has it
    torch.testing.assert_close(gan._price(logits, answer, 2.0), torch.tensor([0.5, 0.5, 0.6]))
    query, mask, color = (torch.rand(3, channels, 4, 4) for channels in (3, 1, 3))
    edited = Edited(torch.rand(3, 3, 4, 4), mask, color, mask.logit())
    gan.mask_weight = gan.color_weight = gan.outline_weight = 1.0
    whole = gan._costs(query, edited, None)
    for name, cost in gan._costs(query, edited, torch.tensor([1.0, 1.0, 1.0])).items():
        torch.testing.assert_close(cost, whole[name])
    alone = [
        gan._costs(
            query[[row]], Edited(*(each[[row]] for each in edited if each is not None)), None
        )
        for row in range(3)
    ]
    shares = torch.tensor([0.5, 0.0, 1.0])
    for name, cost in gan._costs(query, edited, shares).items():
        expected = sum(share * each[name] for share, each in zip(shares, alone, strict=True)) / 3
        torch.testing.assert_close(cost, expected)


def test_predictions_are_rounded_to_eight_bit_and_asked_again(
    trained_model: VQAModel, tmp_path: Path
) -> None:
    gan = counterfactual_gan(trained_model)
    (explanation,) = trainer(1, tmp_path).predict(gan, datamodule=EightQuestions())  # type: ignore[misc]
    stored = explanation.counterfactual  # type: ignore[union-attr]
    levels = (stored + 1) * 127.5
    assert torch.allclose(levels, levels.round(), atol=1e-4)
    questions: VQABatch = batch()
    logits = trained_model(stored, questions.question, questions.question_length)
    assert torch.allclose(explanation.extras["stored_logits"], logits, atol=1e-5)  # type: ignore[union-attr]
    assert explanation.extras["key"].tolist() == questions.question_id.tolist()  # type: ignore[union-attr]


def test_an_answer_outside_the_vocabulary_falls_back_to_the_models_own(
    trained_model: VQAModel,
) -> None:
    gan, questions = counterfactual_gan(trained_model), batch()
    with torch.no_grad():
        known = gan.explain(questions)
        unknown = gan.explain(questions._replace(answer=torch.full((8,), -1)))
    assert torch.equal(known.counterfactual, unknown.counterfactual)


@pytest.mark.parametrize("name", ["mask_weight", "color_weight", "outline_weight", "opened_share"])
def test_a_weight_of_the_mask_without_a_mask_is_refused(name: str) -> None:
    with pytest.raises(InputError, match=f"{name}=1.0 needs a generator with mask=true"):
        counterfactual_gan(vqa_model(), **{name: 1.0})


def test_a_resumed_run_ends_as_an_undisturbed_one(trained_model: VQAModel, tmp_path: Path) -> None:
    def fresh() -> VQACounterfactualGAN:
        seed_everything(0, verbose=False)
        return counterfactual_gan(trained_model, perturbation=RandomPerturbation())

    def seeded(epochs: int) -> Trainer:
        # The checkpoint callback of conf/callbacks/default.yaml.
        last = ModelCheckpoint(
            tmp_path, "last", save_on_train_epoch_end=True, enable_version_counter=False
        )
        return trainer(
            epochs, tmp_path, callbacks=[SeedEachEpoch(0), last], enable_checkpointing=True
        )

    whole = fresh()
    seeded(4).fit(whole, datamodule=EightQuestions())
    seeded(2).fit(fresh(), datamodule=EightQuestions())
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)
    assert not any(key.startswith("decision_model.") for key in saved["state_dict"])
    assert len(saved["optimizer_states"]) == 2
    resumed = fresh()
    seeded(4).fit(
        resumed, datamodule=EightQuestions(), ckpt_path=tmp_path / "last.ckpt", weights_only=True
    )
    for name, value in whole.state_dict().items():
        assert torch.equal(value, resumed.state_dict()[name]), name


def test_eight_bit_is_idempotent_and_clips() -> None:
    image = torch.linspace(-1.2, 1.2, 500)
    assert torch.equal(eight_bit(eight_bit(image)), eight_bit(image))
    assert [eight_bit(image).min().item(), eight_bit(image).max().item()] == [-1, 1]
    assert len(set(eight_bit(image).tolist())) == 256
