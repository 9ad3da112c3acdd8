"""The table of what a repair gained."""

import json
from pathlib import Path

import numpy as np
import pytest

from cfexp.errors import InputError
from cfexp.evaluation.report.gain import Judged, check_groups, gains, show_gains


def biased(count: int = 200) -> Judged:
    """Streets that were decided by the facade, and by the lamps but for every tenth."""
    go, blue = np.arange(count) % 2 == 0, np.arange(count) // 2 % 2 == 0
    return Judged(
        {"before": go != blue, "after": np.arange(count) % 10 != 0},
        ["go" if each else "stop" for each in go],
        [{"facade": "blue" if each else "sand", "id": str(row)} for row, each in enumerate(blue)],
    )


def test_accuracy_gain_and_the_worst_groups() -> None:
    before, after = gains(biased())
    assert (before.everywhere.value, before.everywhere.n, before.gain) == (50, 200, None)
    assert before.worst == before.worst_before
    assert before.worst[0] == "go, facade blue"
    assert (before.worst[1].value, before.worst[1].n) == (0, 50)
    assert after.everywhere.value == 90
    assert after.gain is not None
    assert after.gain.value == 40
    assert after.gain.low < 40 < after.gain.high
    assert after.worst[1].value == 80  # every tenth is an even one
    assert after.worst_before[0] == "go, facade blue"


def test_only_the_groups_that_are_asked_for() -> None:
    rows = gains(biased(), [])
    assert {row.worst[0] for row in rows} <= {"all", "stop", "go"}
    with pytest.raises(InputError, match="groups: 'weather' is nothing that is known of test"):
        check_groups(biased().factors, ["weather"])


def test_groups_of_a_few_images_count_for_nothing() -> None:
    assert gains(biased(), ["id"])[0].worst[0] in ("all", "go", "stop")
    few = biased(8)  # where all are small, they count nevertheless
    assert gains(few)[0].worst[0] == "go, facade blue"


def test_it_is_printed_and_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    show_gains(gains(biased()), {"after": "with more"}, tmp_path)
    assert "with more" in capsys.readouterr().out
    kept = json.loads((tmp_path / "metrics.json").read_text())
    assert kept["after"]["worst_before"]["group"] == "go, facade blue"
    assert "| with more | 90.0 [" in (tmp_path / "table.md").read_text()


def test_a_gain_without_an_interval_has_none(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    _, labels, factors = biased()
    right = np.arange(200) % 10 != 0
    show_gains(gains(Judged({"before": right, "after": right}, labels, factors)), {}, tmp_path)
    assert "nan" not in capsys.readouterr().out.lower()
    assert json.loads((tmp_path / "metrics.json").read_text())["after"]["gain"] == {
        "value": 0.0,
        "low": None,
        "high": None,
        "n": 200,
    }
