"""What the tests of all commands share."""

import logging
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from tests.commands import InProcess
from tests.quick_config import read_once
from tests.tiny_streets import write_networks


@pytest.fixture(scope="session", autouse=True)
def _configuration_is_read_once() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        read_once(patch)
        yield


@pytest.fixture
def in_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[InProcess]:
    """Runs `python -m cfexp.NAME ARGUMENTS` in `tmp_path`, but within this process, which spares
    the imports.
    """
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)

    def run(main: Callable[[], None], *arguments: str) -> tuple[int, list[str], list[str]]:
        monkeypatch.setattr(sys, "argv", ["command.py", *arguments])
        code, _ = 0, capsys.readouterr()  # what was said before
        try:
            main()
        except SystemExit as stopped:
            code = int(str(stopped.code or 0))
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    handlers, level = logging.root.handlers[:], logging.root.level
    threads = torch.get_num_threads()
    yield run
    logging.root.handlers[:], logging.root.level = handlers, level
    torch.set_num_threads(threads)


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def networks(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Untrained networks, given as a user gives trained ones."""
    return write_networks(tmp_path_factory.mktemp("networks"))
