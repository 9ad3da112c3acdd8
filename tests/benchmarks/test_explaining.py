from pathlib import Path

import pytest
import torch

from cfexp.benchmarks import explaining
from tests.explainers.pe.test_commands import TINY


def test_it_times_an_explainer_as_it_is_built(
    networks: list[str], cache: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    threads = torch.get_num_threads()
    decision = [each for each in networks if each.startswith("checkpoints.decision=")]
    settings = [*TINY, *decision, f"cache_dir={cache}", "--queries", "3", "--batch", "2"]
    assert explaining.main(settings) == 0
    printed = capsys.readouterr().out
    assert "pe_driving, 3 queries with 10 candidates each, 2 at a time" in printed
    assert printed.rstrip().endswith("wanted at most 90: yes")
    assert explaining.main([*settings, "--seconds", "0"]) == 1
    torch.set_num_threads(threads)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["seed=3"], "give one +experiment=NAME"),
        (["+experiment=pe_smile", "--batch", "0"], "must be above 0"),
    ],
)
def test_what_cannot_be_measured_is_one_line(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert explaining.main(arguments) == 2
    assert message in capsys.readouterr().err
