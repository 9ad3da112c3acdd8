from pathlib import Path

import pytest
import torch

from cfexp.benchmarks import vqa_gan
from cfexp.errors import InputError
from tests.commands import VQA_SMOKE


@pytest.mark.slow  # it trains a VQA model first
def test_it_sets_a_step_beside_its_parts(
    cache: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("CFEXP_CACHE", str(cache))
    threads = torch.get_num_threads()
    settings = [each for each in VQA_SMOKE if each != "num_threads=1"]
    code = vqa_gan.main([*settings, "--steps", "1", "--warm-up", "0", "--ratio", "1000"])
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert code == 0
    for part in ("VQA model, forward and backward", "discriminator, trained", "a training step"):
        assert f"  {part} " in printed
    assert printed.rstrip().endswith("wanted at most 1000.0: yes")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seed=1"], "give one"),
        (["+experiment=vqa_color", "--steps", "0"], "must be above 0"),
    ],
)
def test_bad_command_lines_are_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        vqa_gan.parse(arguments)


def test_what_trains_no_vqa_gan_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert vqa_gan.main(["+experiment=steex_driving"]) == 2
    assert "steex_driving trains no VQA GAN" in capsys.readouterr().err
