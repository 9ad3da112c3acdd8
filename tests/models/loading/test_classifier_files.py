"""Others' classifiers, from files of each kind: handed on frozen, or refused by the true cause."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.loading.classifier_files import (
    exported_classifier,
    onnx_classifier,
    torchscript_classifier,
    torchvision_classifier,
)
from cfexp.models.own.classifier import OwnClassifier
from tests.models.malicious import Malicious
from tests.models.own.test_classifier import SIZE, Small, exported, images, network, scripted

__all__ = ["images", "network"]  # fixtures


class Normed(nn.Module):
    """As DenseNet: batch norm before each convolution, which cannot be folded into one."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 3),
            nn.BatchNorm2d(4),
            nn.ReLU(),
            nn.Conv2d(4, 4, 3),
            nn.AvgPool2d(2),
            nn.BatchNorm2d(4),
        )
        self.last = nn.Linear(4, 2)

    def forward(self, images: Tensor) -> Tensor:
        outputs: Tensor = self.last(self.layers(images).relu().mean((2, 3)))
        return outputs


@pytest.fixture
def normed() -> nn.Module:
    torch.manual_seed(0)
    network = Normed()
    for tensor in (*network.parameters(), *network.buffers()):
        if tensor.is_floating_point():
            tensor.data.uniform_(0.5, 1.5)
    return network.eval()


def to_onnx(network: nn.Module, path: Path, **settings: Any) -> str:
    any_batch = {"images": {0: "batch"}}
    example = (torch.rand(2, 3, *SIZE),)
    chosen = {"opset_version": 17, "dynamo": False, **settings}
    torch.onnx.export(
        network, example, str(path), input_names=["images"], dynamic_axes=any_batch, **chosen
    )
    return str(path)


def open_onnx(network: nn.Module, path: Path) -> nn.Module:
    pytest.importorskip("onnx2torch")
    return onnx_classifier(to_onnx(network, path))


OPENERS: dict[str, Callable[[nn.Module, Path], nn.Module]] = {
    "torchscript": lambda network, path: torchscript_classifier(scripted(network, path)),
    "exported": lambda network, path: exported_classifier(
        exported(network, path.with_suffix(".pt2"))
    ),
    "onnx": open_onnx,
    "own": lambda network, path: OwnClassifier(network.train(), value_range=(0, 1)).network,
    "torchscript, not opened by us": lambda network, path: (
        OwnClassifier(
            torch.jit.trace(network, torch.rand(2, 3, *SIZE)),  # type: ignore[no-untyped-call]
            value_range=(0, 1),
        ).network
    ),
}


@pytest.mark.parametrize("opener", OPENERS.values(), ids=OPENERS)
def test_every_opener_hands_on_a_frozen_network(
    opener: Callable[[nn.Module, Path], nn.Module],
    normed: nn.Module,
    images: Tensor,
    tmp_path: Path,
) -> None:
    expected = normed(images).detach()
    opened = opener(normed, tmp_path / "model.pt")
    before = {name: tensor.clone() for name, tensor in opened.state_dict().items()}
    torch.testing.assert_close(opened(images), expected, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(
        opened(images[:1]), expected[:1], atol=1e-4, rtol=1e-4
    )  # whatever it is with
    assert all(torch.equal(tensor, before[name]) for name, tensor in opened.state_dict().items())
    assert not any(parameter.requires_grad for parameter in opened.parameters())
    assert not opened.training
    given = images.clone().requires_grad_()
    assert torch.autograd.grad(opened(given).sum(), [given])[0].any()


def test_torchvisions_are_handed_on_frozen_too() -> None:
    network = torchvision_classifier("resnet18", 2)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


@pytest.mark.parametrize("network", [Normed(), Small()], ids=["batch norm", "dropout, too"])
def test_what_was_saved_in_training_mode_is_refused(network: nn.Module, tmp_path: Path) -> None:
    path = exported(network.train(), tmp_path / "model.pt2")
    with pytest.raises(
        InputError, match=r"was exported in training mode: export it again after network\.eval\(\)$"
    ):
        exported_classifier(path)
    traced = torch.jit.trace(network, torch.rand(2, 3, *SIZE), check_trace=False)  # type: ignore[no-untyped-call]
    torch.jit.save(traced, tmp_path / "model.pt")
    with pytest.raises(
        InputError,
        match=r"changes its own .*running_mean when it is asked: it was saved in training m",
    ):
        OwnClassifier(
            torchscript_classifier(str(tmp_path / "model.pt")), value_range=(0, 1), image_size=SIZE
        )


def test_dropout_alone_that_was_exported_in_training_mode_is_refused(tmp_path: Path) -> None:
    network = nn.Sequential(nn.Flatten(), nn.Dropout(0.2), nn.Linear(3 * SIZE[0] * SIZE[1], 2))
    with pytest.raises(InputError, match=r"was exported in training mode"):
        exported_classifier(exported(network.train(), tmp_path / "model.pt2"))


def test_a_script_that_was_optimised_for_inference_is_called_so(
    normed: nn.Module, tmp_path: Path
) -> None:
    traced = torch.jit.trace(normed, torch.rand(2, 3, *SIZE))  # type: ignore[no-untyped-call]
    optimised, path = torch.jit.optimize_for_inference(traced), tmp_path / "model.pt"
    with pytest.raises(
        InputError,
        match=r"no gradient reaches the image.* torch\.jit\.optimize_for_inference; save it as",
    ):
        OwnClassifier(optimised, value_range=(0, 1), image_size=SIZE)
    torch.jit.save(optimised, path)
    with pytest.raises(
        InputError,
        match=r"was saved after torch\.jit\.optimize_for_inference, .*: save the script as it",
    ):
        torchscript_classifier(str(path))
    frozen = torch.jit.freeze(traced)  # which leaves the gradient
    torch.jit.save(frozen, path)
    OwnClassifier(torchscript_classifier(str(path)), value_range=(0, 1), image_size=SIZE)


def test_an_onnx_file_of_a_later_opset_says_how_to_export_it(
    normed: nn.Module, tmp_path: Path
) -> None:
    onnx = pytest.importorskip("onnx")
    pytest.importorskip("onnx2torch")
    path = tmp_path / "model.onnx"
    axes = onnx.helper.make_tensor("axes", onnx.TensorProto.INT64, [2], [2, 3])
    ends = [
        onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape)
        for name, shape in (("images", ["batch", 3, *SIZE]), ("outputs", ["batch", 3]))
    ]
    mean = onnx.helper.make_node("ReduceMean", ["images", "axes"], ["outputs"], keepdims=0)
    graph = onnx.helper.make_graph([mean], "mean", ends[:1], ends[1:], [axes])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)]), path)
    line = (
        r"is of ONNX opset 18, of which onnx2torch cannot convert ReduceMean: export it again by "
        r"torch\.onnx\.export\(\.\.\., opset_version=17, dynamo=False\)$"
    )
    with pytest.raises(InputError, match=line):
        onnx_classifier(str(path))
    unknown = onnx.helper.make_node("Det", ["images"], ["outputs"])
    graph = onnx.helper.make_graph([unknown], "other", ends[:1], ends[1:])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)]), path)
    with pytest.raises(
        InputError, match=r"is of ONNX opset 17, and onnx2torch cannot convert Det$"
    ):
        onnx_classifier(str(path))
    path.write_bytes(b"no ONNX")
    with pytest.raises(
        InputError, match=r"model\.onnx is not an ONNX file that onnx2torch can convert: "
    ):
        onnx_classifier(str(path))


def test_an_untrained_network_in_an_onnx_file_is_called_so(tmp_path: Path) -> None:
    pytest.importorskip("onnx2torch")
    network = torchvision_classifier("resnet18", 2)
    torch.onnx.export(
        network,
        (torch.rand(1, 3, 32, 32),),
        str(tmp_path / "m.onnx"),
        opset_version=17,
        dynamo=False,
    )
    with pytest.raises(
        InputError,
        match=r"holds tensors that are equal.* it seems untrained; export the trained network$",
    ):
        onnx_classifier(str(tmp_path / "m.onnx"))


@pytest.mark.parametrize("load", [torchscript_classifier, exported_classifier])
def test_another_file_is_refused_and_nothing_in_it_is_run(
    load: Callable[[str], nn.Module],
    network: nn.Module,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
) -> None:
    path, proof = tmp_path / "model.pt2", tmp_path / "proof"
    contents: list[Callable[[], Any]] = [
        lambda: path.write_bytes(b"<html>404</html>"),
        lambda: path.write_bytes(b""),
        lambda: torch.save(network.state_dict(), path),
        lambda: torch.save(Malicious(proof), path),
        lambda: path.write_bytes(Path(scripted(network, path)).read_bytes()[:1000]),
    ]
    for write in contents:
        write()
        with pytest.raises(
            InputError, match=f"^decision.path={re.escape(str(path))} is not a"
        ) as raised:
            load(str(path))
        assert "\n" not in str(raised.value)
    path.unlink()
    with pytest.raises(InputError, match=r"no such file$"):
        load(str(path))
    assert not proof.exists()
    assert capfd.readouterr().err == ""
    if load is exported_classifier:
        with pytest.raises(
            InputError, match=r"model\.pt: a file of torch\.export must be called \.pt2$"
        ):
            load("model.pt")
