import pytest
import torch

from cfexp.benchmarks.forms import FORMS, TRAINING_FORMS, Size, training_step
from cfexp.benchmarks.search import main

TINY = Size(pixels=32, base_channels=2, num_regions=5, style_dim=8)


@pytest.mark.slow  # it builds a VGG19
def test_the_forms_of_training_have_the_same_first_loss() -> None:
    losses = []
    for form in TRAINING_FORMS:
        torch.manual_seed(0)
        step = training_step(form, TINY, 2)
        losses.append(step())
    assert losses[1:] == pytest.approx([losses[0]] * 2, rel=1e-4)


@pytest.mark.parametrize("arguments", [["--size", "100"], ["--repeats", "0"], ["--device", "cuda"]])
def test_a_wrong_command_line_is_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    if arguments[-1] == "cuda" and torch.cuda.is_available():
        pytest.skip("has a CUDA device")
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_the_command_prints_every_row(capsys: pytest.CaptureFixture[str]) -> None:
    small = [
        "--size",
        "32",
        "--base-channels",
        "4",
        "--style-dim",
        "16",
        "--float64-size",
        "32",
        "--repeats",
        "1",
    ]
    assert main([*small, "--batch", "2", "--bf16", "--training"]) == 0
    printed = capsys.readouterr().out
    for row in (*FORMS, *TRAINING_FORMS, "fast, bfloat16", "its error", "3x3 convolutions alone"):
        assert row in printed
