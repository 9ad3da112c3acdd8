from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from lightning import Trainer

from cfexp.data.questions.vqa import VQADataModule
from cfexp.errors import InputError
from cfexp.models.vqa.mlb import (
    ConvBackbone,
    MLBAttention,
    MLBNoAttention,
    QuestionEncoder,
    VQAModel,
)
from cfexp.training.recoloring import Recoloring
from cfexp.training.vqa_model import VQAModelStage
from cfexp.worlds.scenes import SceneParameters
from tests.image_parts import trainer as quiet_trainer


@pytest.fixture(scope="module")
def eight_images(tmp_path_factory: pytest.TempPathFactory) -> VQADataModule:
    world = SceneParameters(train_scenes=9, val_scenes=2, image_size=32, disagreement=0.0)
    cache = str(tmp_path_factory.mktemp("cache"))
    data = VQADataModule(
        world=world,
        cache_dir=cache,
        image_size=32,
        holdout_images=1,
        group_by_image=True,
        images_per_batch=8,
    )
    data.cache_images = True
    data.prepare_data()
    data.setup("fit")
    return data


def stage(data: VQADataModule, **settings: Any) -> VQAModelStage:
    torch.manual_seed(0)
    backbone = ConvBackbone((16, 16, 16, 16))
    words, answers = data.facts["num_words"], data.facts["num_answers"]
    fusion = MLBAttention(backbone.feature_dim, 24, 24, answers, glimpses=2, dropout=0.0)
    network = VQAModel(backbone, QuestionEncoder(words, 16, 24, dropout=0.0), fusion)
    adam = partial(torch.optim.Adam, lr=1e-2)
    return VQAModelStage(network, adam, warmup=0.1, cooldown=0.5, **settings)


def test_it_overfits_eight_images(eight_images: VQADataModule, tmp_path: Path) -> None:
    module = stage(eight_images)
    trainer = Trainer(
        max_epochs=120,
        limit_val_batches=0,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, datamodule=eight_images)
    (batch,) = list(eight_images.train_dataloader())
    module.eval()
    with torch.no_grad():
        logits = module.network(batch.image, batch.question, batch.question_length, batch.image_id)
    assert (logits.argmax(1) == batch.answer).float().mean() >= 0.95
    # The schedule: from nothing, up, and down to nothing.
    assert trainer.optimizers[0].param_groups[0]["lr"] < 1e-3


def test_attention_is_taught_where_the_objects_are(
    eight_images: VQADataModule, tmp_path: Path
) -> None:
    shares = []
    for weights in ({}, {"attention_weight": 0.5, "whole_weight": 0.5}):
        module = stage(eight_images, augmentation=Recoloring(), **weights)
        quiet_trainer(tmp_path, 40).fit(module, datamodule=eight_images)
        (batch,) = list(eight_images.train_dataloader())
        network, masks = module.network.eval(), module.truth_masks(batch, eight_images)
        with torch.no_grad():
            question = network.encode_question(batch.question, batch.question_length)
            fusion = cast(MLBAttention, network.fusion)
            attention = fusion.attention(network.backbone(batch.image), question)
        asked = masks.flatten(1).any(1)
        cells = torch.nn.functional.adaptive_max_pool2d(masks[:, None], 4).flatten(2)
        shares.append(float((attention * cells).sum(2)[asked].mean()))
    assert shares[1] > shares[0] + 0.1


def test_attention_can_only_be_taught_where_there_is_some() -> None:
    backbone = ConvBackbone((8, 8, 8, 8))
    fusion = MLBNoAttention(backbone.feature_dim, 8, 8, 3, dropout=0.0)
    network = VQAModel(backbone, QuestionEncoder(9, 8, 8, dropout=0.0), fusion)
    with pytest.raises(InputError, match=r"attention_weight=0\.5 needs a network whose fusion has"):
        VQAModelStage(network, torch.optim.Adam, attention_weight=0.5)
    with pytest.raises(InputError, match=r"whole_weight=0\.5 needs a network whose fusion has"):
        VQAModelStage(network, torch.optim.Adam, whole_weight=0.5)


def test_parts_have_rates_of_their_own(eight_images: VQADataModule, tmp_path: Path) -> None:
    module = stage(eight_images, rates={"backbone": 0.0})
    before = {name: value.clone() for name, value in module.network.named_parameters()}
    trainer = quiet_trainer(tmp_path, 2)
    trainer.fit(module, datamodule=eight_images)
    for name, value in module.network.named_parameters():
        if value.requires_grad:
            assert torch.equal(value, before[name]) == name.startswith("backbone."), name
    with pytest.raises(InputError, match="rates: the network has no part trunk"):
        stage(eight_images, rates={"trunk": 0.1})


def test_validation_logs_the_official_accuracy_by_question_type(
    eight_images: VQADataModule, tmp_path: Path
) -> None:
    module = stage(eight_images)
    trainer = Trainer(
        accelerator="cpu",
        logger=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    (scores,) = trainer.test(module, datamodule=eight_images, verbose=False)
    types = {
        question.question_type for question in map(eight_images.question, _test_ids(eight_images))
    }
    kinds = ("accuracy", "majority")
    assert set(scores) == {
        f"test/{kind}{name}" for kind in kinds for name in ("", *(f"/{each}" for each in types))
    }
    answers = [eight_images.question(question_id) for question_id in _test_ids(eight_images)]
    for name in ("", *types):
        of_type = [
            each.multiple_choice_answer for each in answers if name in ("", each.question_type)
        ]
        known = [answer for answer in of_type if answer in eight_images.vocabulary.answers]
        most = max(map(known.count, known), default=0)
        assert scores[f"test/majority/{name}".rstrip("/")] == pytest.approx(
            100 * most / len(of_type)
        )
    by_hand = []
    module.eval()
    for batch in eight_images.test_dataloader():
        with torch.no_grad():
            logits = module.network(batch.image, batch.question, batch.question_length)
        for answer, question_id in zip(
            logits.argmax(1).tolist(), batch.question_id.tolist(), strict=True
        ):
            # Without disagreement all ten say the same: right is 100, wrong is 0.
            by_hand.append(
                100.0
                * (eight_images.class_name(answer) == eight_images.question(question_id).answers[0])
            )
    assert scores["test/accuracy"] == pytest.approx(sum(by_hand) / len(by_hand))


def _test_ids(data: VQADataModule) -> list[int]:
    return [
        question_id
        for batch in data.test_dataloader()
        for question_id in batch.question_id.tolist()
    ]
