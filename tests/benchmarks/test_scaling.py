import argparse
import os
from pathlib import Path

import pytest

from cfexp.benchmarks.scaling import main, parse, rate, report


def stored(folder: Path, ends: dict[int, float]) -> Path:
    """A run folder whose pictures of each key were written at these seconds."""
    (folder / "explanations" / "counterfactual").mkdir(parents=True)
    for key, end in ends.items():
        path = folder / "explanations" / "counterfactual" / f"{key}.png"
        path.touch()
        os.utime(path, (1000 + end, 1000 + end))
    return folder


def test_the_rate_begins_after_each_process_first_batch(tmp_path: Path) -> None:
    one = stored(tmp_path / "one", {0: 70, 1: 72, 2: 74, 3: 76})
    assert rate(one, 1, batch=1) == pytest.approx(3 / 6)
    # Process 0 has 0, 2, 4, 6; process 1 has 1, 3, 5, 7, and began later.
    two = stored(tmp_path / "two", {0: 10, 2: 12, 4: 14, 6: 16, 1: 50, 3: 54, 5: 58, 7: 62})
    assert rate(two, 2, batch=1) == pytest.approx(3 / 6 + 3 / 12)
    assert rate(two, 2, batch=2) == pytest.approx(2 / 4 + 2 / 8)


@pytest.mark.parametrize(("by_two", "reached"), [([7.1, 7.3, 9.0], True), ([7.1, 7.1, 9.0], False)])
def test_runs_take_turns_and_the_median_of_the_pairs_counts(
    by_two: list[float], reached: bool, capsys: pytest.CaptureFixture[str]
) -> None:
    order: list[int] = []

    def measure(processes: int, folder: Path, given: argparse.Namespace) -> float:
        order.append(processes)
        return 4.0 if processes == 1 else by_two[order.count(2) - 1]

    assert report(parse(["--queries", "8"]), measure) == reached
    assert order == [1, 2, 2, 1, 1, 2]
    *_, one, two, verdict = capsys.readouterr().out.splitlines()
    assert one.split()[:2] == ["1", "4.000"]
    assert two.split()[:2] == ["2", f"{by_two[1]:.3f}"]
    assert verdict.endswith(f"wanted at least 1.8: {'yes' if reached else 'no'}")


@pytest.mark.parametrize(
    "arguments",
    [
        ["--queries", "7"],
        ["--queries", "2"],
        ["--processes", "1"],
        ["--batch", "0"],
        ["--steps", "0"],
    ],
)
def test_a_wrong_command_line_is_one_line(
    arguments: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(arguments) == 2
    assert capsys.readouterr().err.count("\n") == 1


@pytest.mark.slow
def test_the_command_explains_by_one_and_by_two_processes(
    capsys: pytest.CaptureFixture[str],
) -> None:
    code = main(["--queries", "4", "--steps", "2", "--repeats", "1"])
    captured = capsys.readouterr()
    assert code in (0, 1), captured.err  # how fast it is, is not a test's matter
    assert [line.split()[0] for line in captured.out.splitlines()[1:]] == [
        "processes",
        "1",
        "2",
        "ratio",
    ]
