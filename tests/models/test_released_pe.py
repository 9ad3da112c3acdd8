from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch

from cfexp.errors import InputError
from cfexp.models.progressive_exaggeration import Discriminator, Generator
from cfexp.models.released import main, pe_from_released
from tests.golden_pe import variables

DEAD = {
    "classifier/dense/W": np.zeros((3, 2)),
    "beta1_power": np.zeros(()),
    "generator/conv/W/Adam_1": np.zeros((3, 3, 8, 3)),
    "generator/BN1/moments/mean/ExponentialMovingAverage": np.zeros((1, 1, 3)),
}


def test_sizes_are_read_off_and_what_is_of_neither_network_is_passed_over() -> None:
    generator, discriminator = pe_from_released({**variables(), **DEAD})
    assert not generator.training
    assert not discriminator.training
    widths = (8, 16, 32, 64, 128, 128)
    assert generator.state_dict().keys() == Generator(widths).state_dict().keys()
    assert discriminator.state_dict().keys() == Discriminator(widths[:-1]).state_dict().keys()
    assert generator.conv_in.weight[1, 2, 0, 1] == variables()["generator/conv1/W"][0, 1, 2, 1]


def test_at_full_width_they_have_the_published_numbers_of_weights() -> None:
    with torch.device("meta"):
        sizes = [
            sum(each.numel() for each in network.parameters())
            for network in (Generator(), Discriminator())
        ]
    assert sizes == [69_655_049, 38_421_185]


@pytest.mark.parametrize(
    "key", ["generator/ResBlock3/bn2/bn2gamma", "discriminator/V", "discriminator/dense/snu"]
)
def test_damaged_checkpoints_are_refused(key: str) -> None:
    with pytest.raises(InputError, match=rf"1 missing \({key}\)"):
        pe_from_released({name: each for name, each in variables().items() if name != key})
    with pytest.raises(InputError, match=rf"1 misshaped \({key} \[2, 2, 2\]"):
        pe_from_released({**variables(), key: np.zeros((2, 2, 2))})
    with pytest.raises(InputError, match=r"1 left over \(generator/extra\)"):
        pe_from_released({**variables(), "generator/extra": np.zeros(1)})


def test_another_number_of_bins_does_not_fit() -> None:
    with pytest.raises(InputError, match=r"\[10, 8\] instead of \[5, 8\]"):
        pe_from_released(variables(), num_bins=5)


def test_the_command_converts_the_variables(tmp_path: Path) -> None:
    np.savez(tmp_path / "pe.npz", **variables())  # type: ignore[arg-type]
    assert main(["pe", str(tmp_path / "pe.npz"), str(tmp_path / "pe.safetensors")]) == 0
    written = safetensors.torch.load_file(tmp_path / "pe.safetensors")
    generator, _ = pe_from_released(variables())
    for name, value in generator.state_dict().items():
        assert torch.equal(written[f"generator.{name}"], value)
    assert "discriminator.dense.bias" in written


def test_the_command_says_what_is_wrong_with_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pe.npz").write_bytes(b"no archive")
    assert main(["pe", str(tmp_path / "pe.npz"), str(tmp_path / "pe.safetensors")]) == 2
    assert "is not the expected archive of arrays of numbers" in capsys.readouterr().err
