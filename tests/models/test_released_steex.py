from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.classifiers import DecisionModel, Oracle
from cfexp.models.loading.pretrained import load_network
from cfexp.models.released import (
    decision_from_released,
    main,
    oracle_from_released,
    sean_from_released,
    segmenter_from_released,
)
from cfexp.models.released_steex import vggface2_oracle
from cfexp.models.sean.fast import FastSEAN
from cfexp.models.sean.sean import SEAN
from cfexp.models.segmenter import Segmenter
from tests.golden_steex import (
    WORLDS,
    assert_relative,
    decision_state_dict,
    golden_steex,
    sean_state_dict,
)
from tests.models.malicious import Malicious

FORMS = ("table", "dense", "fast")


@pytest.mark.parametrize("world", WORLDS)
def test_the_encoder_gives_the_published_codes(world: str) -> None:
    golden = golden_steex(world)
    codes = golden.sean.encode(golden.numbers["image"], golden.label_map)
    assert_relative(codes, golden.numbers["style_codes"], 1e-4)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("world", WORLDS)
def test_every_form_of_the_generator_gives_the_published_images_and_gradient(
    world: str, form: str
) -> None:
    golden = golden_steex(world)

    def decode(codes: Tensor) -> Tensor:
        if form == "fast":
            fast = FastSEAN(golden.sean)
            return fast.decode(codes, fast.prepare(golden.label_map))
        return golden.sean.decode(codes, golden.label_map, dense=form == "dense")

    assert_relative(decode(golden.numbers["style_codes"]), golden.numbers["reconstruction"], 1e-4)
    codes = golden.numbers["edited_codes"].clone().requires_grad_()
    image = decode(codes)
    assert_relative(image, golden.numbers["edited_image"], 1e-4)
    (gradient,) = torch.autograd.grad((image * torch.linspace(-1, 1, image.shape[3])).sum(), codes)
    assert_relative(gradient, golden.numbers["edited_gradient"], 1e-4)
    absent = torch.tensor(
        [
            [not (row == region).any() for region in range(codes.shape[1])]
            for row in golden.label_map
        ]
    )
    assert absent.any()
    assert (gradient[absent] == 0).all()


@pytest.mark.parametrize("world", WORLDS)
def test_the_decision_model_gives_the_published_logits(world: str) -> None:
    golden = golden_steex(world)
    logits = golden.decision_model(golden.numbers["edited_image"])
    assert_relative(logits, golden.numbers["decision_logits"], 1e-4)


@cache
def segmenter_state_dict() -> dict[str, Tensor]:
    return dict(Segmenter(5, "resnet50").network.state_dict())


@cache
def oracle_state_dict() -> dict[str, Tensor]:
    """The oracle's published names, made from the other end: a dag of Caffe's layers."""
    released: dict[str, Tensor] = {
        "classifier.weight": torch.randn(40, 2048),
        "classifier.bias": torch.randn(40),
    }

    def layer(name: str, before: int, after: int, size: int) -> None:
        released[f"feat_extract.{name}.weight"] = (
            torch.randn(after, before, size, size) / (before * size**2) ** 0.5
        )
        for key, value in (
            ("weight", 1.0),
            ("bias", 0.1),
            ("running_mean", 0.2),
            ("running_var", 2.0),
        ):
            released[f"feat_extract.{name}_bn.{key}"] = torch.full((after,), value)

    layer("conv1_7x7_s2", 3, 64, 7)
    before = 64
    for stage, (depth, width) in enumerate(((3, 64), (4, 128), (6, 256), (3, 512)), start=2):
        for block in range(1, depth + 1):
            layer(f"conv{stage}_{block}_1x1_reduce", before, width, 1)
            layer(f"conv{stage}_{block}_3x3", width, width, 3)
            layer(f"conv{stage}_{block}_1x1_increase", width, 4 * width, 1)
            if block == 1:
                layer(f"conv{stage}_{block}_1x1_proj", before, 4 * width, 1)
            before = 4 * width
    return released


def test_the_oracle_is_the_caffe_network() -> None:
    released = {
        key.removeprefix("feat_extract."): tensor for key, tensor in oracle_state_dict().items()
    }
    images = torch.randn(1, 3, 224, 224).clamp(-1, 1)

    def layer(name: str, features: Tensor, stride: int = 1, relu: bool = True) -> Tensor:
        weight = released[f"{name}.weight"]
        features = torch.conv2d(features, weight, stride=stride, padding=weight.shape[2] // 2)
        mean, var, scale, shift = (
            released[f"{name}_bn.{key}"]
            for key in ("running_mean", "running_var", "weight", "bias")
        )
        features = nn.functional.batch_norm(features, mean, var, scale, shift)
        return features.relu() if relu else features

    features = nn.functional.max_pool2d(layer("conv1_7x7_s2", images, 2), 3, 2, ceil_mode=True)
    for stage, depth in ((2, 3), (3, 4), (4, 6), (5, 3)):
        for block in range(1, depth + 1):
            stride = 2 if block == 1 and stage > 2 else 1
            name = f"conv{stage}_{block}"
            branch = layer(f"{name}_3x3", layer(f"{name}_1x1_reduce", features, stride))
            branch = layer(f"{name}_1x1_increase", branch, relu=False)
            if block == 1:
                features = layer(f"{name}_1x1_proj", features, stride, relu=False)
            features = (features + branch).relu()
    expected = nn.functional.avg_pool2d(features, 7).flatten(1)
    oracle = oracle_from_released(oracle_state_dict())
    assert_relative(oracle.features(images), expected, 1e-5)
    expected = expected @ released["classifier.weight"].T + released["classifier.bias"]
    assert_relative(oracle(images), expected, 1e-5)


def test_vggface2_itself_becomes_an_oracle_of_identities() -> None:
    released = {
        key.removeprefix("feat_extract."): tensor for key, tensor in oracle_state_dict().items()
    }
    released |= {"classifier.weight": torch.randn(7, 2048, 1, 1), "classifier.bias": torch.randn(7)}
    assert oracle_from_released(released)(torch.zeros(1, 3, 64, 64)).shape == (1, 7)


CONVERSIONS: dict[
    str, tuple[Callable[[dict[str, Tensor]], nn.Module], Callable[[], dict[str, Tensor]], str]
] = {
    "sean": (sean_from_released, lambda: sean_state_dict("celebamhq"), "up_1.ace_s.fc_mu7.weight"),
    "sean, dead": (
        sean_from_released,
        lambda: sean_state_dict("celebamhq"),
        "up_3.ace_0.blending_beta",
    ),
    "decision": (decision_from_released, lambda: decision_state_dict("bdd"), "classifier.bias"),
    "segmenter": (segmenter_from_released, segmenter_state_dict, "classifier.4.bias"),
    "oracle": (oracle_from_released, oracle_state_dict, "feat_extract.conv3_1_1x1_proj.weight"),
}


@pytest.mark.parametrize("kind", CONVERSIONS)
def test_damaged_checkpoints_are_refused(kind: str) -> None:
    convert, released, key = CONVERSIONS[kind]
    whole = released()
    with pytest.raises(InputError, match=rf"1 missing \({key}\)"):
        convert({name: tensor for name, tensor in whole.items() if name != key})
    with pytest.raises(InputError, match=rf"1 misshaped \({key} \[2, 2, 2\]"):
        convert(whole | {key: torch.zeros(2, 2, 2)})
    with pytest.raises(InputError, match=r"1 left over \(optimizer\)"):
        convert(whole | {"optimizer": torch.zeros(2)})


@pytest.mark.parametrize("convert", [decision_from_released, oracle_from_released])
def test_another_network_is_refused(convert: Callable[[dict[str, Tensor]], nn.Module]) -> None:
    with pytest.raises(InputError, match=r"missing .*left over"):
        convert({"weight": torch.zeros(3)})


def test_the_command_converts_a_generator(tmp_path: Path) -> None:
    source, output = tmp_path / "latest_net_G.pth", tmp_path / "sean.safetensors"
    torch.save(sean_state_dict("bdd"), source)
    assert main(["sean", str(source), str(output)]) == 0
    golden = golden_steex("bdd")
    sean = load_network(SEAN(20, 8), output)
    codes = golden.numbers["edited_codes"][:1]
    assert torch.equal(
        sean.decode(codes, golden.label_map[:1]), golden.sean.decode(codes, golden.label_map[:1])
    )


def test_the_command_converts_a_training_checkpoint(tmp_path: Path) -> None:
    source, output = tmp_path / "checkpoint.tar", tmp_path / "decision.safetensors"
    content = {"epoch": 5, "optimizer_state_dict": {"state": {}}, "loss": torch.tensor(0.1)}
    torch.save(content | {"model_state_dict": decision_state_dict("bdd")}, source)
    assert main(["decision", str(source), str(output)]) == 0
    model = load_network(DecisionModel("densenet121", 4), output)
    golden = golden_steex("bdd")
    assert_relative(model(golden.numbers["edited_image"]), golden.numbers["decision_logits"], 1e-4)


@pytest.mark.parametrize(
    ("kind", "released", "network"),
    [
        ("segmenter", segmenter_state_dict, lambda: Segmenter(5, "resnet50")),
        ("oracle", oracle_state_dict, lambda: Oracle(40)),
    ],
)
def test_the_command_converts_the_others(
    kind: str,
    released: Callable[[], dict[str, Tensor]],
    network: Callable[[], nn.Module],
    tmp_path: Path,
) -> None:
    source, output = tmp_path / "released.pth", tmp_path / "ours.safetensors"
    torch.save(released(), source)
    assert main([kind, str(source), str(output)]) == 0
    assert not any(
        parameter.requires_grad for parameter in load_network(network(), output).parameters()
    )


def test_code_in_a_checkpoint_is_not_executed(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, proof = tmp_path / "latest_net_G.pth", tmp_path / "it_ran"
    torch.save(sean_state_dict("bdd") | {"fc.bias": Malicious(proof)}, source)
    assert main(["sean", str(source), str(tmp_path / "sean.safetensors")]) == 2
    assert "could run code" in capsys.readouterr().err
    assert not proof.exists()


def test_an_oracle_starts_from_vggfaces_network(tmp_path: Path) -> None:
    released = {
        key.removeprefix("feat_extract."): tensor for key, tensor in oracle_state_dict().items()
    }
    released |= {"classifier.weight": torch.randn(7, 2048, 1, 1), "classifier.bias": torch.randn(7)}
    torch.save(released, tmp_path / "resnet50_ft_dag.pth")
    oracle = vggface2_oracle(40, str(tmp_path / "resnet50_ft_dag.pth"))
    expected = oracle_from_released(released)
    assert oracle.classifier.weight.shape == (40, 2048)
    assert oracle.training
    assert all(parameter.requires_grad for parameter in oracle.parameters())
    for key, tensor in oracle.stages.state_dict().items():
        assert torch.equal(tensor, expected.stages.state_dict()[key]), key
    with pytest.raises(InputError, match="no checkpoint at"):
        vggface2_oracle(40, str(tmp_path / "nowhere.pth"))
