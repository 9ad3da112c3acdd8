"""Classifiers of others as decision models: opened from files of each kind, tried once, and refused
in one line.
"""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchvision.transforms.functional import normalize

from cfexp.errors import InputError
from cfexp.models.loading.pretrained import freeze
from cfexp.models.own.classifier import (
    OwnClassifier,
    exported_classifier,
    onnx_classifier,
    torchscript_classifier,
    torchvision_classifier,
)

SIZE = (16, 32)
IF_A_PROBABILITY = "if it is a probability, give decision.probabilities=true"
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


class Small(nn.Module):
    """Three outputs, with all that has a mode."""

    def __init__(self, outputs: int = 3) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3, 2),
            nn.BatchNorm2d(4),
            nn.GELU(),
            nn.Dropout(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
        )
        self.last = nn.Linear(4, outputs)

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.last(self.layers(images))
        return outputs


@pytest.fixture
def network() -> nn.Module:
    torch.manual_seed(0)
    network = Small()
    network.layers[1].running_mean.normal_()  # type: ignore[operator]
    return network.eval()


@pytest.fixture
def images() -> Tensor:
    return torch.rand(3, 3, *SIZE, generator=torch.Generator().manual_seed(1)) * 2 - 1


class Does(nn.Module):
    """A network that does what is given."""

    def __init__(self, does: Callable[[Tensor], Any]) -> None:
        super().__init__()
        self.does = does

    def forward(self, images: Tensor) -> Any:
        return self.does(images)


def exported(network: nn.Module, path: Path, batch: int | None = None) -> str:
    """Exported for batches of this size; None = of any."""
    example = (torch.rand(batch or 2, 3, *SIZE),)
    sizes = None if batch else ({0: torch.export.Dim("batch", min=1, max=64)},)
    torch.export.save(torch.export.export(network, example, dynamic_shapes=sizes), path)
    return str(path)


def scripted(network: nn.Module, path: Path) -> str:
    torch.jit.save(torch.jit.trace(network, torch.rand(2, 3, *SIZE)), path)  # type: ignore[no-untyped-call]
    return str(path)


def check_same(model: OwnClassifier, network: nn.Module, images: Tensor) -> None:
    """Logits and gradient are those of the network on what it was trained on."""
    freeze(model)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    given = images.clone().requires_grad_()
    normalised = normalize((given + 1) / 2, list(IMAGENET["mean"]), list(IMAGENET["std"]))
    expected = network(normalised)
    (expected_gradient,) = torch.autograd.grad(expected.square().sum(), [given])
    again = images.clone().requires_grad_()
    logits = model(again)
    (gradient,) = torch.autograd.grad(logits.square().sum(), [again])
    torch.testing.assert_close(logits, expected, atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(gradient, expected_gradient, atol=1e-6, rtol=1e-3)


def test_a_torchscript_file(network: nn.Module, images: Tensor, tmp_path: Path) -> None:
    loaded = torchscript_classifier(scripted(network, tmp_path / "model.pt"))
    model = OwnClassifier(loaded, **IMAGENET, class_names=["a", "b", "c"], image_size=SIZE)  # type: ignore[arg-type]
    assert not model.one_by_one
    check_same(model, network, images)


@pytest.mark.parametrize("batch", [None, 1])
def test_a_file_of_torch_export(
    batch: int | None, network: nn.Module, images: Tensor, tmp_path: Path
) -> None:
    loaded = exported_classifier(exported(network, tmp_path / "model.pt2", batch))
    model = OwnClassifier(loaded, **IMAGENET, class_names=["a", "b", "c"], image_size=SIZE)  # type: ignore[arg-type]
    assert model.one_by_one == (batch == 1)
    check_same(model, network, images)


def test_an_onnx_file(network: nn.Module, images: Tensor, tmp_path: Path) -> None:
    pytest.importorskip("onnx2torch")
    path = tmp_path / "model.onnx"
    example, any_batch = (torch.rand(1, 3, *SIZE),), {"images": {0: "batch"}}
    torch.onnx.export(
        network,
        example,
        str(path),
        input_names=["images"],
        dynamic_axes=any_batch,
        opset_version=17,
        dynamo=False,
    )
    model = OwnClassifier(onnx_classifier(str(path)), **IMAGENET, image_size=SIZE)  # type: ignore[arg-type]
    check_same(model, network, images)


def test_without_onnx2torch_it_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "onnx2torch", None)
    with pytest.raises(InputError, match=r"^\+decision=onnx needs onnx2torch: pip install"):
        onnx_classifier("model.onnx")


@pytest.mark.parametrize("arch", ["resnet18", "squeezenet1_1", "mobilenet_v3_small", "googlenet"])
def test_any_classifier_of_torchvision(arch: str) -> None:
    model = torchvision_classifier(arch, 5).eval()
    assert model(torch.zeros(1, 3, 64, 64)).shape == (1, 5)


def test_another_name_is_refused() -> None:
    with pytest.raises(
        InputError,
        match=r"^decision.arch=fcn_resnet50 is none of torchvision's classifiers, such as",
    ):
        torchvision_classifier("fcn_resnet50", 2)


def test_value_range_and_input_size(images: Tensor) -> None:
    seen: list[Tensor] = []

    def does(given: Tensor) -> Tensor:
        seen.append(given)
        return given.mean((2, 3))

    model = OwnClassifier(Does(does), value_range=(0, 255), input_size=(8, 24))
    model(images)
    assert seen[0].shape == (3, 3, 8, 24)
    assert 0 <= seen[0].min() < seen[0].max() <= 255
    model = OwnClassifier(Does(does), value_range=(-1, 1))
    torch.testing.assert_close(model(images), images.mean((2, 3)))


def test_probabilities_become_logits(images: Tensor) -> None:
    logits = OwnClassifier(Does(lambda given: given.mean((2, 3))), value_range=(-4, 4))(images)

    def one(given: Tensor) -> Tensor:
        return given.mean((2, 3)).sigmoid()

    def all_together(given: Tensor) -> Tensor:
        return given.mean((2, 3)).softmax(1)

    binary = OwnClassifier(Does(one), value_range=(-4, 4), probabilities=True, output=1)
    torch.testing.assert_close(binary(images), logits)
    classes = OwnClassifier(Does(all_together), value_range=(-4, 4), probabilities=True)
    torch.testing.assert_close(classes(images), logits.log_softmax(1))
    assert OwnClassifier(Does(one), value_range=(-4, 4), image_size=SIZE).seem_probabilities
    certain = OwnClassifier(
        Does(lambda given: given.mean((2, 3)).sign().relu()), value_range=(0, 1), probabilities=True
    )
    assert certain(images).isfinite().all()


def mean_of(images: Tensor) -> Tensor:
    return images.mean((2, 3))


@pytest.mark.parametrize(
    ("does", "settings", "line"),
    [
        (
            mean_of,
            {"class_names": ["a", "b"]},
            "decision.class_names must name its 3 outputs, 3 names, got 2 (one of",
        ),
        (
            mean_of,
            {"class_names": ["a"], "output": 2},
            "decision.class_names must name the two sides of a binary",
        ),
        (mean_of, {"output": 3}, "decision.output=3 is none of the model's outputs, 0..2"),
        (
            lambda images: images.mean((1, 2, 3)),
            {"class_names": ["a"]},
            "decision.class_names must name the two sides",
        ),
        (
            lambda images: (mean_of(images),),
            {},
            "decision: the model must give one tensor, got tuple; wrap it",
        ),
        (
            lambda images: images,
            {},
            "decision: the model must give numbers (images, outputs), got torch.float32 (1,",
        ),
        (
            lambda images: mean_of(images) * torch.nan,
            {},
            "decision: the model gives NaN or infinity for noise",
        ),
        (lambda images: mean_of(images.detach()), {}, "decision: no gradient reaches the image"),
        (lambda images: mean_of(images.round()), {}, "decision: no gradient reaches the image"),
        (
            lambda images: mean_of((images * 0).sqrt()),
            {},
            "decision: the gradient that reaches the image is not finite",
        ),
        (
            lambda images: mean_of(nn.Dropout()(images)),
            {},
            "decision: the model says otherwise of an image asked about",
        ),
        (
            lambda images: nn.Linear(9, 2)(images.flatten(1)),
            {},
            "decision: the model cannot take an image of 3x16x32 (",
        ),
        (
            mean_of,
            {"value_range": None},
            "decision: say how the model's images are normalised, in one way: decision.",
        ),
        (
            mean_of,
            {"mean": (0, 0, 0), "std": (1, 1, 1)},
            "decision: say how the model's images are normalised, in one",
        ),
        (
            mean_of,
            {"mean": (0, 0, 0), "std": (1, 1, 0), "value_range": None},
            "decision.mean and decision.std must be",
        ),
        (mean_of, {"value_range": (1,)}, "decision: expected two numbers, got [1]"),
        (
            mean_of,
            {"value_range": (1, 1)},
            "decision.value_range must be two different numbers, [black,white], got [1, 1]",
        ),
        (
            mean_of,
            {"mean": (124, 116, 104), "std": (58, 57, 57), "value_range": None},
            "decision.mean and decision.std are",
        ),
        (
            mean_of,
            {"mean": (0, 0, torch.nan), "std": (1, 1, 1), "value_range": None},
            "decision.mean and decision.std must",
        ),
        (
            mean_of,
            {"input_size": (0, 8)},
            "decision: a size must be two whole numbers above 0, [height,width], got [0, 8]",
        ),
        (
            mean_of,
            {"class_names": "abc"},
            "decision.class_names must be a list of different names, got abc",
        ),
        (
            mean_of,
            {"class_names": ["a", "b", "a"]},
            "decision.class_names must be a list of different names, got ['a',",
        ),
        (mean_of, {"output": True}, "decision.output=True is none of the model's outputs, 0..2"),
        (
            lambda images: mean_of(images).argmax(1),
            {},
            "decision: the model gives torch.int64, no logits or probabilities",
        ),
        (
            lambda images: mean_of(images)[:, :0],
            {},
            "decision: the model must give numbers (images, outputs), got torch.",
        ),
        (
            mean_of,
            {"probabilities": True, "value_range": (-9, 9)},
            "decision: the model's outputs are no probabilities: ",
        ),
        (
            lambda images: (1e9 * mean_of(images)).sigmoid(),
            {"value_range": (-1, 1)},
            "does it round or compare its image, or do its outputs saturate?",
        ),
        (
            lambda images: mean_of((images * 255).to(torch.uint8).float()),
            {},
            "the model computes its outputs without (detach, no_grad, numpy, argmax, uint8), is "
            "quantised, or was",
        ),
        (
            lambda images: mean_of(images)[:, :1].sigmoid(),
            {"class_names": ["stop", "go"]},
            f"so 'stop' (below 0) could never be decided; {IF_A_PROBABILITY}",
        ),
        (
            lambda images: mean_of(images).sigmoid(),
            {"output": 1},
            f"so one side (below 0) could never be decided; {IF_A_PROBABILITY}",
        ),
    ],
)
def test_what_could_not_be_searched_is_refused(
    does: Callable[[Tensor], Any], settings: dict[str, Any], line: str
) -> None:
    with pytest.raises(InputError, match=re.escape(line)) as raised:
        OwnClassifier(Does(does), **{"value_range": (0, 1), "image_size": SIZE, **settings})
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64])
def test_weights_of_another_type_are_called_so(dtype: torch.dtype) -> None:
    with pytest.raises(
        InputError, match=rf"its weights are {dtype}: save it after network\.float\(\)$"
    ):
        OwnClassifier(Small().to(dtype), value_range=(0, 1), image_size=SIZE)


def test_what_looks_like_probabilities_is_noted() -> None:
    def made(does: Callable[[Tensor], Tensor], **settings: Any) -> OwnClassifier:
        return OwnClassifier(Does(does), **{"value_range": (-4, 4), "image_size": SIZE, **settings})

    remedy = "if they are probabilities, decision.probabilities=true"
    line = f"decision: the model's outputs all lie in 0..1; {remedy}"
    assert made(lambda images: mean_of(images).softmax(1)).notes == [line]
    (several,) = made(lambda images: mean_of(images).sigmoid()).notes
    assert (
        several == f"{line} (of several binary ones decision.output=NUMBER says which is explained)"
    )
    assert made(lambda images: mean_of(images).softmax(1), probabilities=True).notes == []
    assert made(lambda images: mean_of(images).sigmoid(), probabilities=True, output=2).notes == []
    # A logit that lies in 0..1 for noise is none: some image takes it out of there.
    assert made(lambda images: 0.5 + 1e-4 * mean_of(images)[:, 0]).notes == []
    # Nor need the first class have a gradient.
    assert made(lambda images: mean_of(images) * torch.tensor([0.0, 1.0, 1.0])).notes == []
