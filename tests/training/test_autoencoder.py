import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

from cfexp.models.classifiers import SmoothClassifier
from cfexp.models.discriminators import MultiscaleDiscriminator
from cfexp.models.feature_networks import ClassifierFeatures
from cfexp.training.autoencoder import AutoencoderStage
from tests.image_parts import EightImages, batch_of, tiny_sean, trainer, unchanged, values_of

WEIGHTS = {
    "adversarial_weight": 2.0,
    "matching_weight": 3.0,
    "perceptual_weight": 5.0,
    "l1_weight": 7.0,
}
STILL = partial(torch.optim.SGD, lr=0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EightImages:
    return EightImages(tmp_path_factory.mktemp("eight"))


def stage(**settings: Any) -> AutoencoderStage:
    torch.manual_seed(0)
    optimizer = partial(torch.optim.Adam, lr=1e-2, betas=(0.5, 0.9))
    return AutoencoderStage(
        tiny_sean(), **{"generator_optimizer": optimizer, "l1_weight": 10.0, **settings}
    )


def classifier(num_outputs: int = 2) -> SmoothClassifier:
    torch.manual_seed(1)
    return SmoothClassifier(num_outputs, widths=(4, 8))


def adversarial(**settings: Any) -> AutoencoderStage:
    """With every term of the loss."""
    given = {
        "discriminator": MultiscaleDiscriminator(4, channels=4),
        "discriminator_optimizer": partial(torch.optim.Adam, lr=1e-3, betas=(0.0, 0.9)),
        "feature_network": ClassifierFeatures(classifier()),
        "perceptual_layers": (0.5, 1.0),
    }
    return stage(**{**given, **WEIGHTS, **settings})


def scores(module: AutoencoderStage, data: EightImages, folder: Path) -> dict[str, float]:
    (found,) = trainer(folder).test(module, datamodule=data, verbose=False)
    return dict(found)


def test_it_overfits_eight_images_without_a_discriminator(
    data: EightImages, tmp_path: Path
) -> None:
    module = stage()
    before = scores(module, data, tmp_path)["test/psnr"]
    trainer(tmp_path, epochs=40).fit(module, datamodule=data)
    assert before < 13  # grey
    assert scores(module, data, tmp_path)["test/psnr"] >= 21


def test_it_overfits_eight_images_with_every_term(data: EightImages, tmp_path: Path) -> None:
    module = adversarial(
        **{**WEIGHTS, "adversarial_weight": 0.1, "matching_weight": 1.0, "l1_weight": 10.0}
    )
    trainer(tmp_path, epochs=40).fit(module, datamodule=data)
    assert scores(module, data, tmp_path)["test/psnr"] >= 20


def test_networks_that_look_on_stay_as_they_were_and_the_two_players_learn(
    data: EightImages, tmp_path: Path
) -> None:
    module = adversarial()
    features, discriminator = module.feature_network, module.discriminator
    assert features is not None
    assert discriminator is not None
    before = [values_of(network) for network in (features, discriminator, module.network)]
    trainer(tmp_path, epochs=2, limit_val_batches=1).fit(module, datamodule=data)
    assert unchanged(features, before[0])
    module.train()
    assert not any(each.training for each in features.modules())
    assert module.network.training
    for network, then in ((discriminator, before[1]), (module.network, before[2])):
        assert all(parameter.requires_grad for parameter in network.parameters())
        assert not all(
            torch.equal(value, then[name]) for name, value in network.state_dict().items()
        )


def test_the_generators_step_computes_no_gradient_of_the_discriminator(
    data: EightImages, tmp_path: Path
) -> None:
    module = adversarial()
    assert module.discriminator is not None
    counts = {"discriminator": 0, "generator": 0}

    def count(name: str) -> Any:
        def hook(_: Tensor) -> None:
            counts[name] += 1

        return hook

    watched = {
        "discriminator": module.discriminator.get_parameter("scales.0.0.0.weight"),
        "generator": module.network.get_parameter("to_rgb.weight"),
    }
    for name, parameter in watched.items():
        parameter.register_hook(count(name))  # type: ignore[no-untyped-call]  # torch leaves it untyped
    trainer(tmp_path, epochs=3).fit(module, datamodule=data)
    assert counts == {"discriminator": 3, "generator": 3}


def test_each_term_is_what_the_papers_formulas_say(data: EightImages, tmp_path: Path) -> None:
    module, batch = (
        adversarial(generator_optimizer=STILL, discriminator_optimizer=STILL),
        batch_of(data),
    )
    network, discriminator = (
        copy.deepcopy(module.network).train(),
        copy.deepcopy(module.discriminator),
    )
    assert discriminator is not None
    fitting = trainer(tmp_path)
    fitting.fit(module, datamodule=data)  # one batch, in another order
    logged = {
        name: float(value)
        for name, value in fitting.callback_metrics.items()
        if name.startswith("train/")
    }
    assert set(logged) == {
        f"train/{name}" for name in ("adversarial", "matching", "perceptual", "l1", "discriminator")
    }
    with torch.no_grad():
        image = network(batch.image, batch.label_map)
        discriminator.train()
        both = discriminator(torch.cat([batch.image, image]), torch.cat([batch.label_map] * 2))
        fake_scores = [scale[-1][8:] for scale in both]
        assert logged["train/adversarial"] == pytest.approx(
            2 * float(-sum(score.mean() for score in fake_scores) / 2), rel=1e-4
        )
        differences = [
            (layer[:8] - layer[8:]).abs().mean() for scale in both for layer in scale[:-1]
        ]
        assert logged["train/matching"] == pytest.approx(3 * float(sum(differences)) / 2, rel=1e-4)
        # A second look of the discriminator: spectral norm takes one more step of its power
        # iteration.
        both = discriminator(torch.cat([batch.image, image]), torch.cat([batch.label_map] * 2))
        hinges = [
            F.relu(1 - scale[-1][:8]).mean() + F.relu(1 + scale[-1][8:]).mean() for scale in both
        ]
        assert logged["train/discriminator"] == pytest.approx(float(sum(hinges)) / 2, rel=1e-4)
        look = classifier().eval()
        maps = [(look.feature_maps(batch.image)[k], look.feature_maps(image)[k]) for k in (0, 1)]
        perceptual = sum(
            weight * (a - b).abs().mean() for weight, (a, b) in zip((0.5, 1.0), maps, strict=True)
        )
        assert logged["train/perceptual"] == pytest.approx(5 * float(perceptual), rel=1e-4)
    assert logged["train/l1"] == pytest.approx(
        7 * _area_weighted_l1(batch.image, image, batch.label_map), rel=1e-4
    )


def _area_weighted_l1(query: Tensor, image: Tensor, label_map: Tensor) -> float:
    """Each region of an image counts by the square root of its area."""
    of_image = []
    for row in range(len(query)):
        difference, total, weights = (query[row] - image[row]).abs().mean(0), 0.0, 0.0
        for region in set(label_map[row].flatten().tolist()):
            here = label_map[row] == region
            root = float(here.sum()) ** 0.5
            total, weights = total + root * float(difference[here].mean()), weights + root
        of_image.append(total / weights)
    return sum(of_image) / len(of_image)


def test_without_a_discriminator_there_is_one_optimizer_and_what_is_asked_for(
    data: EightImages, tmp_path: Path
) -> None:
    module = stage()
    fitting = trainer(tmp_path)
    fitting.fit(module, datamodule=data)
    assert len(fitting.optimizers) == 1
    assert {name for name in fitting.callback_metrics if name.startswith("train/")} == {"train/l1"}


class Darkened(nn.Module):
    """An autoencoder whose reconstruction is darker by 0.2 of [-1, 1] on the left, and as it was
    elsewhere.
    """

    def forward(self, images: Tensor, label_map: Tensor) -> Tensor:
        return torch.cat([images[..., :16] - 0.2, images[..., 16:]], dim=3)


def test_psnr_is_that_of_a_count_by_hand(data: EightImages, tmp_path: Path) -> None:
    module = stage()
    module.network = Darkened()  # type: ignore[assignment]
    # A mean square of 0.04 / 2 over a range of 2.
    expected = {"test/psnr": pytest.approx(23.0103, abs=1e-3)}
    assert scores(module, data, tmp_path) == expected
    assert scores(module, data, tmp_path) == expected  # nothing is left over
    (validated,) = trainer(tmp_path, limit_val_batches=1.0).validate(
        module, datamodule=data, verbose=False
    )
    assert validated == {name.replace("test", "val"): value for name, value in expected.items()}


def test_psnr_is_the_mean_over_the_images(data: EightImages, tmp_path: Path) -> None:
    module = stage()
    module.eval()
    batch = batch_of(data)
    with torch.no_grad():
        error = (
            (module.network(batch.image, batch.label_map) - batch.image).square().mean((1, 2, 3))
        )
    expected = (10 * torch.log10(4 / error)).mean()
    assert scores(module, data, tmp_path)["test/psnr"] == pytest.approx(float(expected), rel=1e-4)


def test_the_rates_of_both_players_fall_by_the_step(data: EightImages, tmp_path: Path) -> None:
    fitting = trainer(tmp_path, epochs=3)
    fitting.fit(adversarial(cooldown=0.5), datamodule=data)
    steps = fitting.global_step // 2  # it counts both players'
    assert [each.param_groups[0]["lr"] for each in fitting.optimizers] == pytest.approx(
        [1e-2 * 1e-3, 1e-3 * 1e-3]
    )
    assert fitting.estimated_stepping_batches == steps


@pytest.mark.parametrize("scaled", [False, True])
def test_gradients_are_clipped_by_their_norm(
    data: EightImages, tmp_path: Path, scaled: bool
) -> None:
    # As 16-mixed on a GPU: the gradients come times 2 ** 10, and are clipped without that.
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    plugins = [MixedPrecision("16-mixed", "cpu", scaler)] if scaled else []
    module = stage(generator_optimizer=partial(torch.optim.SGD, lr=1.0), clip_norm=1e-3)
    before = {name: value.clone() for name, value in module.network.named_parameters()}
    trainer(tmp_path, plugins=plugins).fit(module, datamodule=data)
    moved = torch.cat(
        [(value - before[name]).flatten() for name, value in module.network.named_parameters()]
    )
    assert float(moved.detach().norm()) == pytest.approx(1e-3, rel=1e-2)
