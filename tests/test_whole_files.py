import signal
import subprocess
import sys
from pathlib import Path

import pytest

from cfexp.whole_files import whole_file, write_whole


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_file_takes_the_place_of_another_when_it_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_whole(path, "ä")
    assert path.read_text(encoding="utf-8") == "ä"
    with whole_file(path) as partial:
        partial.write_text("new")
        assert partial.suffix == ".partial"
        assert path.read_text(encoding="utf-8") == "ä"
    assert path.read_text() == "new"
    assert names(tmp_path) == ["a.json"]


def test_what_fails_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    write_whole(path, "old")

    def stopped() -> None:
        with whole_file(path) as partial:
            partial.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stopped()
    assert path.read_text() == "old"
    assert names(tmp_path) == ["a.json"]
    with pytest.raises(FileNotFoundError):  # and not that there is nothing to remove
        write_whole(tmp_path / "no" / "a.json", "")


def test_two_writers_of_one_file_do_not_meet(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with whole_file(path) as first, whole_file(path) as second:
        assert first != second
        first.write_text("first")
        second.write_text("second")
    assert path.read_text() == "first"  # which ended last


@pytest.mark.parametrize("fixed", [False, True])
def test_what_a_killed_process_leaves_is_not_the_file(tmp_path: Path, fixed: bool) -> None:
    path, part = tmp_path / "a.json", tmp_path / "a.part"
    code = f"""
import os, pathlib, signal
from cfexp.whole_files import whole_file
path = pathlib.Path({str(path)!r})
with whole_file(path, path.with_suffix(".part") if {fixed} else None) as partial:
    partial.write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)
"""
    killed = subprocess.run([sys.executable, "-c", code], check=False)
    assert killed.returncode == -signal.SIGKILL
    (left,) = names(tmp_path)
    assert left == part.name if fixed else left.endswith(".partial")
    with whole_file(path, part if fixed else None) as partial:
        partial.write_text("whole")
    assert path.read_text() == "whole"
    assert names(tmp_path) == (["a.json"] if fixed else ["a.json", left])


def test_a_file_is_for_whom_any_new_file_is(tmp_path: Path) -> None:
    write_whole(tmp_path / "a.json", "")
    (tmp_path / "b.json").touch()
    assert len({path.stat().st_mode for path in tmp_path.iterdir()}) == 1
