from pathlib import Path
from typing import Any

import pytest
import torch

from cfexp.benchmarks import optimizers
from cfexp.errors import InputError
from tests.explainers.steex.test_steex import batch, steex
from tests.image_parts import EightImages


def measured(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, *arguments: str, **settings: Any
) -> bool:
    """The report on eight images, by a search of its own settings."""
    explainer, data = steex(**{"num_steps": 40, **settings}), EightImages(tmp_path)
    monkeypatch.setattr(optimizers, "_prepared", lambda given: (explainer, data))
    monkeypatch.setattr(optimizers, "_batches", lambda data, given: [batch(data)])
    given = ["+experiment=eight", "--ratio", "0", "--as-good", "50", *arguments]
    return optimizers.report(optimizers.parse(given))


def test_it_sets_the_optimizers_side_by_side(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    assert measured(monkeypatch, tmp_path, "--success", "0")
    torch.set_num_threads(threads)
    printed = capsys.readouterr().out
    assert (
        "mean objective after                5       10       15       20       30       40"
        in printed
    )
    for name in ("adam", "lbfgs"):
        assert f"{name}: " in printed
    assert "asked for" in printed
    assert printed.rstrip().endswith("and not below: yes")


def test_a_figure_that_is_not_reached_is_said(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert not measured(monkeypatch, tmp_path, "--ratio", "1e9")
    assert capsys.readouterr().out.rstrip().endswith("and not below: no")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["data.world.seed=3"], "give one [+]experiment=NAME"),
        (["+experiment=steex_driving", "--queries", "0"], "must be above 0"),
        (["+experiment=vqa_color"], "vqa_color does not search style codes"),
    ],
)
def test_what_cannot_be_measured_is_one_line(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        optimizers.report(optimizers.parse(arguments))
