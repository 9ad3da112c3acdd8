"""The published autoencoder of DiVE: numbers that its own code computed, from its own names."""

from pathlib import Path

import pytest
import torch

from cfexp.errors import InputError
from cfexp.models.loading.pretrained import load_network
from cfexp.models.released import main, tcvae_from_released
from cfexp.models.released_dive import published_names
from cfexp.models.tcvae import TCVAE
from tests.golden_dive import FACES, STREETS, World, close
from tests.golden_weights import fill


@pytest.mark.parametrize("world", [FACES, STREETS], ids=["faces", "streets"])
def test_the_network_computes_what_the_published_one_does(world: World) -> None:
    network, images, golden = world.network(), world.images(), world.arrays()
    mean, log_variance = network.encode(images)
    close(mean, golden["mean"])
    close(log_variance, golden["log_variance"])
    codes = mean[:2].detach().requires_grad_()
    found = network.decode(codes)
    close(found, golden["reconstruction"], 1e-7)  # images are stored as float32
    ramp = torch.linspace(-1, 1, images.shape[3], dtype=torch.float64)
    (gradient,) = torch.autograd.grad((found * ramp).sum(), [codes])
    close(gradient, golden["code_gradient"])


def test_sizes_are_read_off_the_tensors() -> None:
    with torch.device("meta"):
        made = TCVAE(32, 48, channels_width=2, code_dim=5, mlp_width=3, mlp_depth=3)
    ours = made.state_dict()
    shapes = {theirs: tuple(ours[name].shape) for theirs, name in published_names(made).items()}
    wrapped = {f"model.{key}": value for key, value in fill(shapes).items()}
    network = tcvae_from_released(wrapped, (32, 48))
    assert not network.training
    assert {key: value.shape for key, value in network.state_dict().items()} == {
        key: value.shape for key, value in ours.items()
    }
    mean, log_variance = network.encode(torch.rand(2, 3, 32, 48))
    assert mean.shape == log_variance.shape == (2, 5)
    assert network.decode(mean).shape == (2, 3, 32, 48)


@pytest.mark.parametrize(
    "key",
    [
        *("encoder.group0.block_0.conv0.weight", "encoder.mlp.linear0.weight"),
        *("decoder.mlp.linear0.weight", "decoder.group1.block0.conv_short.weight_u"),
    ],
)
def test_damaged_checkpoints_are_refused(key: str) -> None:
    whole = FACES.weights()
    with pytest.raises(InputError, match=rf"1 missing \({key}\)"):
        tcvae_from_released({name: each for name, each in whole.items() if name != key}, (64, 64))
    with pytest.raises(InputError, match="1 left over"):
        tcvae_from_released({**whole, "decoder.bn_in.weight": torch.zeros(2)}, (64, 64))
    with pytest.raises(InputError, match=r"misshaped|missing"):
        tcvae_from_released(whole, (128, 128))
    with pytest.raises(InputError, match="missing"):
        tcvae_from_released({}, (64, 64))
    with pytest.raises(InputError, match="60x64 pixels: sides must be multiples of 16"):
        tcvae_from_released(whole, (60, 64))


@pytest.mark.parametrize("world", [FACES, STREETS], ids=["faces", "streets"])
def test_the_command_converts_a_released_file(
    world: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "checkpoint.pth", tmp_path / "tcvae.safetensors"
    torch.save({"model": world.weights(), "optimizer": {}, "amp": {}}, source)
    assert main(["tcvae", str(source), str(output)]) == 0
    assert "tcvae.safetensors" in capsys.readouterr().out
    images = world.images()
    height, width = images.shape[2:]
    network = load_network(TCVAE(height, width, channels_width=1, code_dim=16), output).double()
    torch.testing.assert_close(network(images), world.network()(images), atol=1e-6, rtol=0)
