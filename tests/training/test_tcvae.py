from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision
from torch import nn

from cfexp.errors import InputError
from cfexp.losses import perceptual
from cfexp.models.classifiers import SmoothClassifier
from cfexp.models.feature_networks import ClassifierFeatures, VGG16Features
from cfexp.models.tcvae import TCVAE
from cfexp.training.tcvae import TCVAEStage
from cfexp.training.tcvae_losses import annealed, kl_divergence
from tests.golden_dive import FACES, close, golden, perceptual_network, published_gradients
from tests.image_parts import EightImages, batch_of, trainer, unchanged, values_of

SIZE = (32, 32)
STILL = partial(torch.optim.SGD, lr=0.0)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EightImages:
    return EightImages(tmp_path_factory.mktemp("eight"), image_size=SIZE)


@pytest.fixture(scope="module")
def vgg() -> VGG16Features:
    build = torchvision.models.vgg16
    with pytest.MonkeyPatch.context() as patch:
        # The three linear layers, which are not used, would take a second to initialise.
        patch.setattr(nn.Linear, "reset_parameters", lambda self: None)
        patch.setattr(
            torchvision.models, "vgg16", lambda weights: build(weights=weights, init_weights=False)
        )
        network = VGG16Features()
    layers = [layer for part in network.parts for layer in part.children()]
    for key, tensor in perceptual_network().items():
        _, index, name = key.split(".")
        layers[int(index)].get_parameter(name).data.copy_(tensor)
    return network.double()


def stage(**settings: Any) -> TCVAEStage:
    torch.manual_seed(0)
    network = TCVAE(*SIZE, channels_width=1, code_dim=8, mlp_width=2, dropout=0.0, unit_gain=True)
    optimizer = partial(torch.optim.Adam, lr=3e-3)
    return TCVAEStage(network, **{"optimizer": optimizer, "cycles": 1, **settings})


def test_the_published_loss_and_its_gradient_are_as_published(vgg: VGG16Features) -> None:
    expected, network, images = golden(), FACES.network(), FACES.images()
    mean, log_variance = network.encode(images)
    codes = mean + (log_variance / 2).exp() * expected["noise"]
    given = (images, codes, mean, log_variance, annealed(0.001, 10, 400), 162_770)
    of_features = TCVAEStage(network, STILL, vgg, published_kl=True).terms(*given)
    close(of_features["perceptual"], expected["perceptual_loss"])
    loss = torch.stack(list(of_features.values())).sum()
    close(loss, expected["training_loss"])
    in_pixels = TCVAEStage(network, STILL, published_kl=True).terms(*given)
    close(in_pixels["pixel_l1"], expected["pixel_l1"])
    close(torch.stack(list(in_pixels.values())).sum(), expected["training_loss_pixel"])
    norms = published_gradients(network, loss)
    keys = [str(key) for key in expected["training_gradient_keys"]]
    assert norms.keys() == {*keys}
    found = torch.tensor([norms[key] for key in keys], dtype=torch.float64)
    close(found, expected["training_gradient_norms"])


def test_by_region_a_lamp_counts_as_much_as_the_road() -> None:
    module = stage(pixel_weight=2.0, by_region=True).eval()
    label_map = torch.zeros(2, *SIZE, dtype=torch.int64)
    label_map[:, :2, :2] = 1
    images = torch.rand(2, 3, *SIZE) * 2 - 1
    mean, log_variance = module.network.encode(images)
    given = (images, mean, mean, log_variance, 0.0, 8)
    squares = (module.network.decode(mean) - images).square().mean(1)
    lamp, road = squares[label_map == 1].mean(), squares[label_map == 0].mean()
    found = module.terms(*given, label_map)
    torch.testing.assert_close(found["pixel_l2"], 2 * (lamp + road) / 2)
    assert "pixel_l1" not in found
    assert "pixel_l2" not in module.terms(*given)  # without a label map


def test_it_overfits_eight_images(data: EightImages, tmp_path: Path) -> None:
    module = stage()
    (before,) = trainer(tmp_path).test(module, datamodule=data, verbose=False)
    trainer(tmp_path, epochs=40).fit(module, datamodule=data)
    (after,) = trainer(tmp_path).test(module, datamodule=data, verbose=False)
    assert before["test/psnr"] < 13  # grey
    assert after["test/psnr"] >= 16.5
    assert after["test/kl"] > 3  # nats: eight images are told apart by two


def test_the_terms_are_weighed_and_logged(data: EightImages, tmp_path: Path) -> None:
    torch.manual_seed(1)
    features = ClassifierFeatures(SmoothClassifier(2, widths=(4, 8)))
    settings = {"feature_network": features, "perceptual_layers": (2.0, 0.5), "pixel_weight": 3.0}
    module = stage(optimizer=STILL, beta=0.1, tc_weight=2.0, **settings)
    fitting = trainer(tmp_path)
    fitting.fit(module, datamodule=data)
    names = {"perceptual", "pixel_l1", "mutual_information", "total_correlation"}
    logged = {
        name.removeprefix("train/"): float(value)
        for name, value in fitting.callback_metrics.items()
        if name.startswith("train/")
    }
    assert logged.keys() == names | {"dimension_wise_kl", "loss"}
    assert logged["loss"] == pytest.approx(sum(logged.values()) - logged["loss"], rel=1e-4)
    images = batch_of(data).image
    module.eval()
    with torch.no_grad():
        mean, log_variance = module.network.encode(images)
        found = module.network.decode(mean)
        terms = module.terms(images, mean, mean, log_variance, 0.1, 8)
        torch.testing.assert_close(
            terms["perceptual"], perceptual(features, found, images, (2.0, 0.5))
        )
        torch.testing.assert_close(terms["pixel_l1"], 3 * (found - images).abs().mean())
        plain = stage(tc_weight=0.0, optimizer=STILL).eval()
        plain.network.load_state_dict(module.network.state_dict())
        terms = plain.terms(images, mean, mean, log_variance, 0.1, 8)
        assert terms.keys() == {"pixel_l1", "kl"}
        torch.testing.assert_close(terms["kl"], 0.1 * kl_divergence(mean, log_variance))


def test_the_network_that_looks_on_stays_as_it_was_and_is_in_no_checkpoint(
    data: EightImages, tmp_path: Path
) -> None:
    torch.manual_seed(1)
    features = ClassifierFeatures(SmoothClassifier(2, widths=(4, 8)))
    module = stage(feature_network=features, perceptual_layers=(1.0, 1.0))
    before = values_of(features)
    fitting = trainer(tmp_path, epochs=2)
    fitting.fit(module, datamodule=data)
    assert unchanged(features, before)
    module.train()
    assert not any(each.training for each in features.modules())
    fitting.save_checkpoint(tmp_path / "last.ckpt")
    saved = torch.load(tmp_path / "last.ckpt", weights_only=True)["state_dict"]
    assert saved.keys() == {f"network.{name}" for name in module.network.state_dict()}
    trainer(tmp_path, epochs=3).fit(module, datamodule=data, ckpt_path=tmp_path / "last.ckpt")


def test_no_cycle_is_refused() -> None:
    with pytest.raises(InputError, match=r"module\.cycles must be at least 1, got 0"):
        stage(cycles=0)
