import pytest
import torch
import torchvision
from torch import nn

from cfexp.errors import InputError
from cfexp.losses import perceptual
from cfexp.models.classifiers import SmoothClassifier
from cfexp.models.feature_networks import ClassifierFeatures, VGG19Features
from cfexp.models.loading.pretrained import freeze


@pytest.fixture(scope="module")
def vgg() -> VGG19Features:
    build = torchvision.models.vgg19
    with pytest.MonkeyPatch.context() as patch:
        # The three linear layers, which are not used, would take a second to initialise.
        patch.setattr(nn.Linear, "reset_parameters", lambda self: None)
        patch.setattr(
            torchvision.models, "vgg19", lambda weights: build(weights=weights, init_weights=False)
        )
        torch.manual_seed(0)
        return freeze(VGG19Features())


def images(height: int = 32, width: int = 32) -> torch.Tensor:
    return torch.rand(2, 3, height, width, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_vgg_gives_the_first_activation_of_each_of_its_five_stages(vgg: VGG19Features) -> None:
    values, expected = images(), []
    # VGG19 (Simonyan and Zisserman 2015, column E): 2, 2, 4, 4, 4 convolutions, a maximum pooling
    # after each stage.
    layers = [layer for part in vgg.parts for layer in part.children()]
    for depth, count in enumerate((2, 2, 4, 4, 4)):
        if depth:
            assert isinstance(layers.pop(0), nn.MaxPool2d)
            values = nn.functional.max_pool2d(values, 2)
        for number in range(count if depth < 4 else 1):
            convolution, activation = layers.pop(0), layers.pop(0)
            assert isinstance(activation, nn.ReLU)
            values = convolution(values).clamp(min=0)
            if number == 0:
                expected.append(values)
    assert layers == []
    found = vgg(images())
    assert [tuple(each.shape[1:]) for each in found] == [
        *((64, 32, 32), (128, 16, 16), (256, 8, 8), (512, 4, 4), (512, 2, 2)),
    ]
    for each, value in zip(found, expected, strict=True):
        torch.testing.assert_close(each, value, atol=1e-6, rtol=1e-4)


def test_vgg_in_the_loss_is_zero_for_the_image_itself_and_has_a_gradient(
    vgg: VGG19Features,
) -> None:
    real = images()
    generated = (0.9 * real).requires_grad_()
    assert perceptual(vgg, real, real, VGG19Features.WEIGHTS) == 0
    loss = perceptual(vgg, generated, real, VGG19Features.WEIGHTS)
    loss.backward()  # type: ignore[no-untyped-call]  # torch leaves it untyped
    assert loss > 0
    assert generated.grad is not None
    assert (generated.grad != 0).float().mean() > 0.9


def test_unknown_weights_are_refused() -> None:
    with pytest.raises(InputError, match="no arch=vgg19 with weights=IMAGENET2K"):
        VGG19Features("IMAGENET2K")


def test_a_classifiers_features_are_what_its_head_sees() -> None:
    torch.manual_seed(0)
    classifier = freeze(SmoothClassifier(2, widths=(4, 8, 12), pooling="mean"))
    found = ClassifierFeatures(classifier)(images(16, 24))
    assert [tuple(each.shape) for each in found] == [(2, 4, 16, 24), (2, 8, 8, 12), (2, 12, 4, 6)]
    logits = classifier.head(found[-1]).mean((2, 3))
    torch.testing.assert_close(logits, classifier(images(16, 24)))
