"""What a run prints is typed into the next command, and its folder works wherever it is."""

import json
import re
import shlex
import shutil
from pathlib import Path

import pytest

from cfexp import evaluate, explain, gallery
from tests.commands import InProcess
from tests.tiny_streets import DRIVING


def printed(lines: list[str]) -> str:
    """The path that a run says last, as it stands there."""
    (path,) = [
        found[1]
        for line in lines
        if (found := re.match(r"everything lies in (.+): metrics\.json", line))
    ]
    return path


@pytest.mark.parametrize("more", [["regions=[traffic_light,car]"], ["hydra.run.dir=a=b, c [d]"]])
def test_a_run_is_found_by_what_it_printed_and_may_be_moved(
    more: list[str],
    in_process: InProcess,
    networks: list[str],
    cache: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("CFEXP_CACHE", str(cache))
    few = [
        *DRIVING,
        *networks,
        "explainer.num_steps=0",
        "data.max_test_images=2",
        "logger=none",
        *more,
    ]
    code, stdout, stderr = in_process(explain.main, *few)
    assert code == 0, stderr
    (argument,) = shlex.split(f"run={printed(stdout)}")  # as a shell hands it on
    code, stdout, stderr = in_process(gallery.main, argument)
    assert code == 0, stderr
    assert stdout[-1].startswith("2 explanations, ")
    code, stdout, stderr = in_process(explain.main, *few)  # the same command finds its folder
    assert code == 0, stderr
    assert any(line.startswith("goes on after 2 explanations: ") for line in stdout)
    code, stdout, stderr = in_process(evaluate.main, argument.replace("run=", "run=[") + "]")
    assert code == 0, stderr
    folder = Path(argument.removeprefix("run="))
    before = json.loads((folder / "metrics.json").read_text())
    moved = Path(shutil.move(folder, tmp_path / "elsewhere"))
    monkeypatch.setenv("HOME", str(tmp_path / "no home"))
    monkeypatch.setenv("CFEXP_CACHE", str(tmp_path / "no cache"))
    (moved / "metrics.json").unlink()
    code, stdout, stderr = in_process(evaluate.main, f"run={moved}")
    assert code == 0, stderr
    again = json.loads((moved / "metrics.json").read_text())
    assert again | {"run": before["run"]} == before  # it is called by its folder
    code, _, stderr = in_process(gallery.main, f"run={moved}")
    assert code == 0, stderr
    assert (moved / "gallery.html").is_file()
    assert not (tmp_path / "no home").exists()
