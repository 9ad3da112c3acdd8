"""Who comes second waits, says so, and goes on when the first has ended, even by force."""

import logging
import multiprocessing
import socket
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from cfexp.run.folder_lock import claimed

FORK = multiprocessing.get_context("fork")  # nothing is imported again


def hold(folder: Path, held: Any) -> None:
    with claimed(folder, wait=True):
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
        with claimed(tmp_path / "stage", wait=True):
            entered.set()

    thread = threading.Thread(target=come_second, daemon=True)
    thread.start()
    assert not entered.wait(1.2)
    process.kill()
    assert entered.wait(30)
    thread.join()
    holder = f"process {process.pid} on {socket.gethostname()}"
    assert caplog.messages == [f"waits for {holder}, which is at work in {tmp_path / 'stage'}"]


def test_what_is_free_is_taken_without_a_word(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="cfexp")
    process = started(tmp_path)
    process.kill()
    process.join()
    for _ in range(2):
        with claimed(tmp_path, wait=True):
            pass
    other = started(tmp_path / "other")  # of another folder
    with claimed(tmp_path, wait=True):
        other.kill()
    assert caplog.messages == []
    with pytest.raises(ZeroDivisionError), claimed(tmp_path, wait=True):
        _ = 1 / 0
    with claimed(tmp_path, wait=True):
        pass
