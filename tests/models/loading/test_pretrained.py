import argparse
import datetime
import logging
import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
import torchvision
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.loading.pretrained import (
    file_hash,
    freeze,
    load_network,
    read_state_dict,
    unwrapped,
)
from cfexp.models.vqa.mlb import (
    ConvBackbone,
    MLBNoAttention,
    QuestionEncoder,
    ResNetBackbone,
    VQAModel,
)
from tests.models.malicious import Malicious


def network() -> nn.Sequential:
    return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))


def with_prefix(state_dict: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + key: tensor for key, tensor in state_dict.items()}


@pytest.mark.parametrize(
    "name", ["net.pth", "net.pt", "net.pth.tar", "net.ckpt", "net.safetensors", "old.pth"]
)
def test_every_format_loads_and_freezes(name: str, tmp_path: Path) -> None:
    trained, path = network(), tmp_path / name
    other = {"optimizer.weight": torch.ones(1)}
    state_dict = with_prefix(trained.state_dict(), "decision_model.") | other
    if name.endswith(".safetensors"):
        safetensors.torch.save_file(state_dict, path)
    elif name.endswith(".ckpt"):
        torch.save({"state_dict": state_dict, "epoch": 3, "callbacks": {}}, path)
    else:
        torch.save(state_dict, path, _use_new_zipfile_serialization=name != "old.pth")
    loaded = load_network(network(), path, prefix="decision_model.")
    assert all(
        torch.equal(loaded.state_dict()[key], tensor)
        for key, tensor in trained.state_dict().items()
    )
    assert not loaded.training
    assert not any(parameter.requires_grad for parameter in loaded.parameters())
    unfrozen = load_network(network(), path, prefix="decision_model.", freeze=False)
    assert unfrozen.training
    assert all(parameter.requires_grad for parameter in unfrozen.parameters())


def test_without_a_checkpoint_the_weights_stay() -> None:
    net = network()
    weight = net.get_parameter("0.weight").clone()
    assert torch.equal(load_network(net, None).get_parameter("0.weight"), weight)
    assert not net.training


def test_freeze_stops_weight_gradients_and_lets_inputs_have_theirs() -> None:
    point = torch.randn(2, 3, requires_grad=True)
    frozen = freeze(network())
    frozen(point).sum().backward()
    assert point.grad is not None
    assert all(parameter.grad is None for parameter in frozen.parameters())


def test_a_file_that_does_not_fit_is_refused_in_one_line(tmp_path: Path) -> None:
    path = tmp_path / "other.pth"
    left_over = {f"head.{number}": torch.zeros(1) for number in range(5)}
    torch.save({"0.weight": torch.zeros(4, 9), "0.bias": torch.zeros(4), **left_over}, path)
    with pytest.raises(InputError) as caught:
        load_network(network(), path)
    assert str(caught.value) == (
        f"{path} does not fit Sequential: "
        "5 missing (1.weight, 1.bias, 1.running_mean, ...), "
        "5 left over (head.0, head.1, head.2, ...), "
        "1 misshaped (0.weight [4, 9] instead of [4, 3])"
    )
    with pytest.raises(
        InputError, match=r"other.pth \(keys generator.\*\) does not fit Sequential: 7 missing"
    ):
        load_network(network(), path, prefix="generator.")


def test_an_absent_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no checkpoint at .*absent\.pth"):
        load_network(network(), tmp_path / "absent.pth")
    with pytest.raises(InputError, match=r"no file at .*absent\.pth"):
        file_hash(tmp_path / "absent.pth")


@pytest.mark.parametrize(
    "name", ["empty.pth", "empty.safetensors", "text.pth", "text.safetensors", "cut.pth"]
)
def test_an_unreadable_file_is_refused(name: str, tmp_path: Path) -> None:
    path = tmp_path / name
    path.write_bytes(b"hello" if name.startswith("text") else b"")
    if name.startswith("cut"):
        torch.save(network().state_dict(), path)
        path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(InputError, match=f"{name} is no readable checkpoint"):
        load_network(network(), path)


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {"state_dict": {"0.weight": "x"}}])
def test_a_file_without_a_state_dict_is_refused(content: object, tmp_path: Path) -> None:
    torch.save(content, tmp_path / "x.pth")
    with pytest.raises(InputError, match="holds no state dict"):
        load_network(network(), tmp_path / "x.pth")


@pytest.mark.parametrize("protocol", [None, 2, 4])
@pytest.mark.parametrize("suffix", [".pth", ".ckpt", ".safetensors"])
def test_code_in_a_checkpoint_is_not_executed(
    suffix: str, protocol: int | None, tmp_path: Path
) -> None:
    path, proof = tmp_path / f"evil{suffix}", tmp_path / "it_ran"
    content = {"state_dict": {"0.weight": Malicious(proof)}}
    if protocol is None:
        torch.save(content, path)
    else:
        path.write_bytes(pickle.dumps(content, protocol))
    with pytest.raises(InputError) as caught:
        load_network(network(), path)
    assert not proof.exists()
    assert "\n" not in str(caught.value)
    if protocol is None and suffix != ".safetensors":
        assert "evil" in str(caught.value)
        assert "mkdir" in str(caught.value)


def test_torchvision_s_own_file_loads_into_the_backbone_and_into_a_whole_model(
    tmp_path: Path,
) -> None:
    released = torchvision.models.resnet18()
    torch.save(released.state_dict(), tmp_path / "resnet18.pth")
    backbone = load_network(ResNetBackbone("resnet18"), tmp_path / "resnet18.pth")
    assert torch.equal(
        backbone.get_parameter("layer4.1.conv2.weight"), released.layer4[1].conv2.weight
    )
    with pytest.raises(InputError, match="does not fit ConvBackbone"):
        load_network(ConvBackbone(), tmp_path / "resnet18.pth")

    model = VQAModel(backbone, QuestionEncoder(5, 3, 4), MLBNoAttention(512, 4, 6, 7))
    rest = {
        key: tensor for key, tensor in model.state_dict().items() if not key.startswith("backbone.")
    }
    torch.save(rest | with_prefix(released.state_dict(), "backbone."), tmp_path / "model.pth")
    load_network(model, tmp_path / "model.pth")


def test_file_hash_is_the_start_of_sha256(tmp_path: Path) -> None:
    (tmp_path / "x").write_bytes(b"abc")
    assert file_hash(tmp_path / "x") == "ba7816bf8f01"


WRAPPED = {
    "DataParallel": "module.",
    "torch.compile": "_orig_mod.",
    "compiled in parallel": "module._orig_mod.",
    "parallel, compiled": "_orig_mod.module.",
    "twice": "module.module.",
    "FSDP": "_fsdp_wrapped_module.",
}


def check_loaded(
    path: Path, trained: nn.Module, into: nn.Module | None = None, prefix: str = ""
) -> None:
    loaded = load_network(into or network(), path, prefix=prefix).state_dict()
    assert [tensor.tolist() for tensor in loaded.values()] == [
        each.tolist() for each in trained.state_dict().values()
    ]


@pytest.mark.parametrize("wrapper", WRAPPED.values(), ids=WRAPPED)
def test_wrappers_are_no_difference(wrapper: str, tmp_path: Path) -> None:
    trained, path = network(), tmp_path / "net.pth"
    torch.save({"state_dict": with_prefix(trained.state_dict(), wrapper)}, path)
    check_loaded(path, trained)
    check_loaded(path, trained, prefix=wrapper)  # as one had to say once
    torch.save(
        with_prefix(trained.state_dict(), f"model.{wrapper}"), path
    )  # a LightningModule's that is wrapped inside
    check_loaded(path, trained, prefix="model.")
    check_loaded(path, trained, prefix=f"model.{wrapper}")
    check_loaded(path, trained, prefix="model")
    torch.save(with_prefix(trained.state_dict(), f"{wrapper}model."), path)
    check_loaded(path, trained, prefix="model.")


def test_a_part_may_be_wrapped_and_the_network_itself(tmp_path: Path) -> None:
    trained, path = network(), tmp_path / "net.pth"
    state = {
        key.replace("0.", "0._orig_mod.", 1): tensor for key, tensor in trained.state_dict().items()
    }
    torch.save(state, path)
    check_loaded(path, trained)
    check_loaded(path, trained, nn.DataParallel(network()))
    torch.save(trained.state_dict(), path)
    check_loaded(path, trained, nn.DataParallel(network()))
    averaged = torch.optim.swa_utils.AveragedModel(trained)
    torch.save(averaged.state_dict(), path)
    check_loaded(path, trained)


def test_two_keys_do_not_become_one() -> None:
    state = {"module.weight": torch.zeros(1), "weight": torch.ones(1)}
    assert unwrapped(state) == state


@pytest.mark.parametrize(
    "name", ["model", "net", "network", "weights", "generator", "model.state_dict"]
)
def test_weights_under_any_one_name(name: str, tmp_path: Path) -> None:
    trained, path = network(), tmp_path / "net.pth"
    content: object = trained.state_dict()
    for each in reversed(name.split(".")):
        content = {each: content, "epoch": 3, "loss": torch.tensor(0.5)}
    assert isinstance(content, dict)
    optimizer = torch.optim.Adam(trained.parameters())
    trained(torch.randn(3, 3)).sum().backward()
    optimizer.step()
    content |= {"optimizer": optimizer.state_dict(), "scaler": {"scale": 1.0}, "args": None}
    torch.save(content, path)
    check_loaded(path, trained)


def test_of_weights_under_several_names_one_must_be_usual_or_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    trained, other, path = network(), network(), tmp_path / "net.pth"
    torch.save({"ema": other.state_dict(), "model": trained.state_dict()}, path)
    with caplog.at_level(logging.INFO):
        check_loaded(path, trained)
    assert "weights under 'model' are taken, not those under ema" in caplog.text
    check_loaded(path, other, prefix="ema.")
    torch.save(
        {"student": with_prefix(other.state_dict(), "net."), "teacher": trained.state_dict()}, path
    )
    with pytest.raises(
        InputError,
        match=r"under several names \(student, teacher\): say which by the prefix, such as stu",
    ):
        load_network(network(), path)
    check_loaded(path, trained, prefix="teacher.")
    check_loaded(path, other, prefix="student.net.")


class Unknown:
    """Of a class that no file may name."""


@pytest.mark.parametrize(
    "value",
    [
        np.float64(91.2), np.float32(1), np.int64(3), np.bool_(True), np.arange(3), np.ones((2, 2)),
        np.dtype("f4"), argparse.Namespace(lr=0.1, out=Path("runs")), Path("/data"),
        datetime.datetime(2026, 1, 1, 12), [np.float64(1)],
    ],
    ids=repr,
)  # fmt: skip
def test_plain_values_beside_the_weights_are_passed_over(value: object, tmp_path: Path) -> None:
    trained, path = network(), tmp_path / "net.pth"
    torch.save({"state_dict": trained.state_dict(), "best": value}, path)
    check_loaded(path, trained)
    torch.save({"state_dict": trained.state_dict(), "best": Unknown()}, path)
    with pytest.raises(
        InputError,
        match=r"Unknown\) and could run code .* torch\.save\(network\.state_dict\(\), PATH\)",
    ):
        load_network(network(), path)


class Calls:
    """Unpickling it would call something with something."""

    def __init__(self, called: Callable[..., object], *arguments: object) -> None:
        self.reduced = called, arguments

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return self.reduced


def test_what_plain_values_are_made_by_is_not_called_either(tmp_path: Path) -> None:
    trained, path = network(), tmp_path / "net.pth"
    torch.save(
        {"state_dict": trained.state_dict(), "best": Calls(np.ndarray, (10**15,))}, path
    )  # petabytes
    check_loaded(path, trained)
    torch.save(
        {"state_dict": trained.state_dict(), "best": Calls(np.load, str(tmp_path / "x.npy"))}, path
    )
    with pytest.raises(InputError, match="could run code"):
        load_network(network(), path)


def test_what_is_there_behind_a_prefix_is_said(tmp_path: Path) -> None:
    trained, path = network(), tmp_path / "net.pth"
    state = trained.state_dict()
    torch.save({**with_prefix(state, "backbone.net."), "head.bias": torch.zeros(1)}, path)
    with pytest.raises(InputError) as raised:
        load_network(network(), path)
    line = str(raised.value)
    remedy = "all that is missing is there behind the prefix backbone.net.: give it"
    assert f"; {remedy} (decision.prefix=backbone.net.," in line
    assert "+prefixes.NAME=backbone.net." in line
    assert "\n" not in line
    check_loaded(path, trained, prefix="backbone.net.")
    torch.save({**with_prefix(state, "online."), **with_prefix(state, "target.")}, path)
    with pytest.raises(InputError, match=r"behind the prefix online\. or target\.: give it"):
        load_network(network(), path)
    torch.save(with_prefix(dict(list(state.items())[1:]), "net."), path)  # not all of it is there
    with pytest.raises(InputError, match=r"left over \([^)]*\)$"):
        load_network(network(), path)


def test_a_torchscript_file_is_called_one(tmp_path: Path) -> None:
    torch.jit.save(torch.jit.script(network()), tmp_path / "net.pt")
    with pytest.raises(
        InputError, match=r"net\.pt is no readable checkpoint \(a TorchScript file\)"
    ):
        read_state_dict(tmp_path / "net.pt")
