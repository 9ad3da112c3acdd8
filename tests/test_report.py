"""`python -m cfexp.report` on stored runs."""

from functools import partial
from pathlib import Path

import pytest

from cfexp import report
from tests.commands import InProcess, Main
from tests.evaluation.street_runs import write_streets


@pytest.fixture
def main(in_process: InProcess) -> Main:
    """Runs `python -m cfexp.report ARGUMENTS` within this process."""
    return partial(in_process, report.main)


def test_the_facade_is_named_first_and_the_page_says_so(main: Main, tmp_path: Path) -> None:
    folder = write_streets(tmp_path / "run", biased=True).path
    code, out, err = main(f"run={folder}")
    assert (code, err) == (0, [])
    assert out[-4].startswith("suspected: building: 75.0 % of explanations go mainly through it")
    assert out[-1].startswith("64 explanations, ")
    page = (folder / "report.html").read_text(encoding="utf-8")
    assert "What the model relies on: biased</h1>" in page
    assert "Suspected first: <bdi>building</bdi>" in page
    assert "https:" not in page
    assert "<script" not in page


def test_nothing_is_named_without_the_bias(main: Main, tmp_path: Path) -> None:
    folder = write_streets(tmp_path / "run", biased=False).path
    code, out, _ = main(f"run={folder}", "output=page.html")
    assert (code, out[-2]) == (0, "no shortcut is suspected; tests made: 6")
    assert "No shortcut is suspected." in (tmp_path / "page.html").read_text(encoding="utf-8")
    assert not (folder / "report.html").exists()


def test_that_nothing_could_be_tested_is_no_all_clear(main: Main, tmp_path: Path) -> None:
    run = write_streets(tmp_path / "run", biased=False, count=8, truth=False)
    run.declare(run.declaration._replace(label=None))
    code, out, _ = main(f"run={run.path}")
    assert (code, out[-2].partition(":")[0]) == (0, "nothing could be tested")
    assert "expected=[REGION,...]" in out[-2]


def test_the_same_run_has_the_same_page(main: Main, tmp_path: Path) -> None:
    folder = write_streets(tmp_path / "run", biased=True).path
    for name in ("first.html", "second.html"):
        main(f"run={folder}", f"output={name}")
    assert (tmp_path / "first.html").read_bytes() == (tmp_path / "second.html").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: run must be given: run=VALUE"),
        (["run=nowhere"], "error: no explanations in nowhere: expected "),
        (["run=RUN", "output=no/page.html"], "error: output=no/page.html: there is no folder no"),
        (["run=RUN", "max_width=0"], "error: max_width must be a whole number of at least 1"),
        (["run=RUN", "seed=-1"], "error: seed must be a whole number of at least 0, got -1"),
        (["run=RUN", "tolerated=0"], "error: tolerated must be percent between 0 and 100, got 0"),
        (["run=RUN", "expected=road"], "error: expected must be a list of regions, as expected="),
        (["run=RUN", "expected=[moon]"], "error: expected: the run has no region 'moon'; it has "),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    main: Main, tmp_path: Path, arguments: list[str], message: str
) -> None:
    folder = write_streets(tmp_path / "run", biased=False, count=4).path
    code, _, err = main(*(argument.replace("RUN", str(folder)) for argument in arguments))
    assert code == 2
    assert len(err) == 1
    assert err[0].startswith(message)
