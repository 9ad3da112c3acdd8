"""`python -m cfexp.gallery` on hand-made run folders."""

from functools import partial
from pathlib import Path

import pytest

from cfexp import gallery
from tests.commands import InProcess, Main
from tests.evaluation.run_writer import picture, record, write_run


@pytest.fixture
def main(in_process: InProcess) -> Main:
    """Runs `python -m cfexp.gallery ARGUMENTS` within this process."""
    return partial(in_process, gallery.main)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    rows = [
        (record(key, "red", "blue", truth="red"), picture(), picture((0, 0, 200)), None)
        for key in (1, 2)
    ]
    return write_run(tmp_path / "run", rows).path


def test_the_page_lies_in_the_run_and_is_called_as_its_experiment(main: Main, folder: Path) -> None:
    (folder / "config.yaml").write_text("name: my_experiment\nexplainer: {class_names: null}")
    code, out, err = main(f"run={folder}")
    assert (code, err) == (0, [])
    assert out[-1].startswith("2 explanations, 0.0 MB: ")
    assert "<h1>my_experiment</h1>" in (folder / "gallery.html").read_text(encoding="utf-8")


def test_elsewhere_and_in_part(main: Main, folder: Path, tmp_path: Path) -> None:
    before = {path for path in tmp_path.rglob("*") if path.is_file()}
    code, out, _ = main(f"run={folder}", "output=page.html", "max_explanations=1")
    assert (code, out[-1]) == (0, "1 explanations, 0.0 MB: page.html")
    assert {path for path in tmp_path.rglob("*") if path.is_file()} - before == {
        tmp_path / "page.html"
    }


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: run must be given: run=VALUE"),
        (
            ["run=nowhere"],
            "error: no explanations in nowhere: expected nowhere/explanations/records-0.jsonl or ",
        ),
        (["run=RUN", "output=no/page.html"], "error: output=no/page.html: there is no folder no"),
        (
            ["run=RUN", "max_explanations=0"],
            "error: max_explanations must be a whole number of at least 1, got 0",
        ),
        (
            ["run=RUN", "max_width=many"],
            "error: max_width must be a whole number of at least 1, got 'many'",
        ),
    ],
)
def test_what_is_wrong_is_said_in_one_line(
    main: Main, folder: Path, arguments: list[str], message: str
) -> None:
    code, _, err = main(*(argument.replace("RUN", str(folder)) for argument in arguments))
    assert code == 2
    assert len(err) == 1
    assert err[0].startswith(message)
