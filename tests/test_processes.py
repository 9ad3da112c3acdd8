"""Who comes second waits, says so, and goes on when the first has ended, even by force."""

import logging
import multiprocessing
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cfexp.processes import one_at_a_time

FORK = multiprocessing.get_context("fork")  # nothing is imported again


def hold(folder: Path, held: Any) -> None:
    with one_at_a_time(folder, "waits"):
        held.set()
        time.sleep(60)


def started(folder: Path) -> Any:
    """A process that holds `folder`."""
    held = FORK.Event()
    process = FORK.Process(target=hold, args=(folder, held), daemon=True)
    process.start()
    assert held.wait(30)
    return process


def test_the_second_waits_with_one_line_until_the_first_is_killed(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="cfexp")
    process, entered = started(tmp_path / "stage"), threading.Event()

    def come_second() -> None:
        with one_at_a_time(tmp_path / "stage", "another has it"):
            entered.set()

    thread = threading.Thread(target=come_second, daemon=True)
    thread.start()
    assert not entered.wait(1.2)  # asks twice
    process.kill()
    assert entered.wait(30)
    thread.join()
    assert caplog.messages == ["another has it"]


def test_what_is_free_is_taken_without_a_word(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="cfexp")
    process = started(tmp_path)
    process.kill()
    process.join()
    for _ in range(2):
        with one_at_a_time(tmp_path, "waits"):
            pass
    other = started(tmp_path / "other")  # of another folder
    with one_at_a_time(tmp_path, "waits"):
        other.kill()
    assert caplog.messages == []
    with pytest.raises(ZeroDivisionError), one_at_a_time(tmp_path, "waits"):
        _ = 1 / 0
    with one_at_a_time(tmp_path, "waits"):
        pass
