import pytest
import torch
import torch.nn.functional as F

from cfexp.errors import InputError
from cfexp.models.classifiers import (
    DecisionModel,
    IdentityNetwork,
    SmallResNet,
    SmoothClassifier,
    Window,
)
from cfexp.models.discriminators import MultiscaleDiscriminator
from cfexp.models.segmenter import Segmenter, SmallSegmenter


@pytest.mark.parametrize("arch", ["resnet18", "mobilenet_v3_small"])
def test_any_torchvision_classifier_decides(arch: str) -> None:
    model = DecisionModel(arch, 5).eval()
    assert model(torch.zeros(2, 3, 64, 64)).shape == (2, 5)
    with pytest.raises(InputError, match="no arch=resnet19"):
        DecisionModel("resnet19")


def test_images_are_normalised_as_told() -> None:
    mean, std = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
    model = DecisionModel("resnet18", mean=mean, std=std)
    image = torch.rand(1, 3, 8, 8) * 2 - 1
    expected = ((image + 1) / 2 - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[
        :, None, None
    ]
    torch.testing.assert_close(image * model.scale + model.shift, expected)
    plain = DecisionModel("resnet18")
    assert torch.equal(image * plain.scale + plain.shift, image)


@pytest.mark.parametrize("pooling", ["mean", "logsumexp"])
def test_the_small_classifier_overfits_eight_images_and_has_a_gradient_at_every_pixel(
    pooling: str,
) -> None:
    torch.manual_seed(0)
    images, labels = torch.rand(8, 3, 32, 32) * 2 - 1, torch.tensor([0.0, 1.0] * 4)[:, None]
    model = SmoothClassifier(1, (8, 16, 16), pooling)  # type: ignore[arg-type]  # mypy cannot see that it is a literal
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(60):
        loss = F.binary_cross_entropy_with_logits(model(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    assert loss < 0.1
    images.requires_grad_()
    (gradient,) = torch.autograd.grad(model.eval()(images).sum(), images)
    assert (gradient != 0).all()
    with pytest.raises(InputError, match="pooling must be"):
        SmoothClassifier(pooling="max")  # type: ignore[arg-type]


def test_logsumexp_pooling_is_sharp_evidence_anywhere() -> None:
    model = SmoothClassifier(1, (4, 4), "logsumexp", sharpness=50.0).eval()
    images = torch.rand(2, 3, 16, 16)
    evidence = model.head(model.feature_maps(images)[-1]).flatten(2).amax(2)
    # Of 64 positions' evidence the pooled is at most log(64) / 50 above the largest.
    assert (model(images) - (evidence[:, :1] - evidence[:, 1:])).abs().max() < 0.1


@pytest.mark.parametrize("size", [(64, 64), (32, 64)])
def test_segmenters_give_logits_at_full_size(size: tuple[int, int]) -> None:
    assert Segmenter(6, "resnet50").eval()(torch.zeros(1, 3, *size)).shape == (1, 6, *size)
    assert SmallSegmenter(6, 8).eval()(torch.zeros(2, 3, *size)).shape == (2, 6, *size)
    with pytest.raises(InputError, match="backbone must be"):
        Segmenter(6, "resnet18")  # type: ignore[arg-type]


def test_the_small_segmenter_overfits_eight_images() -> None:
    torch.manual_seed(0)
    labels = (torch.arange(32)[:, None] // 8 + torch.arange(32) // 16).expand(8, 32, 32) % 4
    images = torch.eye(4)[labels][..., :3].permute(0, 3, 1, 2) + 0.1 * torch.randn(8, 3, 32, 32)
    model = SmallSegmenter(4, 8)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    for _ in range(30):
        loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
        optimizer.step()
    assert (model.eval()(images).argmax(1) == labels).float().mean() > 0.98


def test_the_discriminator_is_the_published_size_and_sees_image_and_layout() -> None:
    with torch.device("meta"):
        full = MultiscaleDiscriminator(19)
    assert sum(parameter.numel() for parameter in full.parameters()) == 1_364_098
    torch.manual_seed(0)
    small = MultiscaleDiscriminator(4, channels=8).eval()
    images, label_maps = torch.randn(2, 3, 32, 64), torch.zeros(2, 32, 64, dtype=torch.int64)
    features = small(images, label_maps)
    assert [[tuple(layer.shape[1:]) for layer in scale] for scale in features] == [
        [(8, 17, 33), (16, 9, 17), (32, 5, 9), (1, 6, 10)],
        [(8, 9, 17), (16, 5, 9), (32, 3, 5), (1, 4, 6)],
    ]
    for other in (small(-images, label_maps), small(images, label_maps + 1)):
        assert not torch.allclose(other[1][-1], features[1][-1])


def test_feature_maps_halve_from_full_size_down() -> None:
    network = SmoothClassifier(3, (4, 6, 8)).eval()
    maps = network.feature_maps(torch.rand(2, 3, 16, 24))
    assert [tuple(each.shape) for each in maps] == [(2, 4, 16, 24), (2, 6, 8, 12), (2, 8, 4, 6)]
    assert network.features(torch.rand(2, 3, 16, 24)).shape == (2, 8)


def test_a_cause_counts_where_it_is() -> None:
    torch.manual_seed(0)
    image = torch.rand(1, 3, 16, 16)
    there, elsewhere = image.clone(), image.clone()
    there[..., 4:8, 4:8], elsewhere[..., 4:8, 8:12] = 1, 1
    knows = SmoothClassifier(1, (4, 4), with_coordinates=True).eval()
    assert knows.feature_maps(image)[0].shape[1] == 4
    assert not torch.allclose(knows(there) - knows(image), knows(elsewhere) - knows(image))


def test_the_small_residual_network_works_at_any_size_and_tells_places_apart() -> None:
    torch.manual_seed(0)
    model = SmallResNet(3, widths=(4, 8)).eval()
    for size in ((64, 64), (32, 48)):
        assert model(torch.zeros(2, 3, *size)).shape == (2, 3)
    image = torch.zeros(1, 3, 64, 64)
    image[:, :, 8:16, 8:16] = 1
    elsewhere = image.roll((32, 32), dims=(2, 3))
    assert (model(image) - model(elsewhere)).abs().max() > 1e-3
    # Neither the explained model's convolutions nor its activation.
    kinds = {type(layer) for layer in model.modules()}
    assert torch.nn.ReLU in kinds
    assert torch.nn.GELU not in kinds


def test_features_of_the_identity_network_are_directions() -> None:
    torch.manual_seed(0)
    model, images = (
        IdentityNetwork(SmallResNet(5, widths=(4, 8))).eval(),
        torch.rand(3, 3, 32, 32) * 2 - 1,
    )
    features = model.features(images)
    assert features.shape == (3, 5)
    torch.testing.assert_close(features.norm(dim=1), torch.ones(3))
    assert torch.equal(model(images), features)
    torch.testing.assert_close(features, F.normalize(model.backbone(images)))


def test_a_window_fades_what_lies_outside_and_is_learnt() -> None:
    window = Window()
    seen = window(torch.ones(1, 3, 9, 9))[0, 0]
    assert seen[4, 4] > 0.98
    torch.testing.assert_close(seen[4, [0, 8]], torch.full((2,), 0.5))  # on the ellipse
    assert seen[0, 0] < 0.02
    network = SmoothClassifier(1, widths=(4, 8), window=True)
    network(torch.rand(2, 3, 16, 16)).sum().backward()
    assert network.window is not None
    assert all(part.grad is not None and part.grad.any() for part in network.window.parameters())


def test_a_fixed_window_hides_all_outside_of_its_box() -> None:
    seen = SmoothClassifier(1, widths=(4, 8), window=(0.5, 0.25)).window(torch.ones(1, 3, 33, 33))  # type: ignore[misc]
    assert (seen[..., 10:23, 14:19] > 0.95).all()
    assert (seen[..., :7, :] < 0.05).all()
    assert (seen[..., 21:] < 0.05).all()
    for wrong in ((0.5,), (0.5, 0.0), (0.5, 2.0)):
        with pytest.raises(InputError, match="window must be true, false, or two numbers"):
            SmoothClassifier(window=wrong)
