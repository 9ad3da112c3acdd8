"""Disturbs a command at random moments, and starts it again until it has come to its end.

The commands run in processes that a server forks, which has imported everything: a start takes a
tenth of a second.
"""

import errno
import multiprocessing
import os
import random
import shutil
import signal
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any, NamedTuple

import torch

from tests.evaluation.run_writer import timeless

# What tells of how a run came about, not of its results; partly Hydra's and the loggers' own.
OF_THE_WAY = {".lock", ".hydra", "log.txt", "csv", "config.yaml", "provenance.json"}


class Moment(NamedTuple):
    """A disturbance, and when: a share in [0, 1) of the time, or of the file accesses, of an
    undisturbed run.
    """

    kind: str
    share: float


def preloaded() -> ForkServerContext:
    """Whose server, one a test process, has imported what commands are made of."""
    context = multiprocessing.get_context("forkserver")
    imported = (f"cfexp.{name}" for name in ("evaluate", "explain", "train", "stages"))
    context.set_forkserver_preload([*imported])  # these alone: it may be started in any folder
    return context


# kill and term: the signals, at a time. write: SIGKILL between two accesses to files. disk: full
# from one of them on. worker: SIGKILL, at a time, to a process that loads data.
KINDS = ("kill", "write", "term", "disk", "worker")


# Seconds that a run may take at most, and the end of one that was sent SIGTERM, on a machine busy
# with other things.
DEADLINE, PROMPT = 600, 60


def random_moments(count: int, seed: int, kinds: Sequence[str] = KINDS) -> list[Moment]:
    """So many moments, of all kinds in turn."""
    draw = random.Random(seed)
    return [Moment(kinds[place % len(kinds)], draw.random()) for place in range(count)]


@dataclass
class Ended:
    """A process that has ended."""

    code: int  # minus the signal that ended it
    said: list[str]  # lines
    seconds: float  # from the disturbance on, or from the start where there was none
    disturbed: bool


class Command:
    """`python -m cfexp.VERB ARGUMENTS hydra.run.dir=FOLDER`, which the same command resumes."""

    def __init__(self, verb: str, arguments: Sequence[str], home: Path, cache: Path) -> None:
        self.verb, self.arguments, self.home, self.cache = verb, list(arguments), home, cache
        self.context = preloaded()
        self.undisturbed = home / "undisturbed"
        self.run(self.undisturbed)  # the data are drawn
        shutil.rmtree(self.undisturbed)
        ended = self.run(self.undisturbed)
        assert ended.code == 0, ended.said
        self.seconds = ended.seconds
        self.accesses = int((home / "accesses").read_text())

    def survive(self, moments: Sequence[Moment]) -> int:
        """Disturb it at each of the moments, from the start again where it ends before one; returns
        how many runs.
        """
        runs, left = 0, list(moments)
        while True:
            folder = self.home / f"disturbed_{runs}"
            runs += 1
            while (ended := self.run(folder, left[0] if left else None)).code:
                assert ended.disturbed, ended.said
                _check(left.pop(0), ended)
            assert_same(folder, self.undisturbed)
            if not left:
                return runs
            left[0] = Moment(left[0].kind, left[0].share / 2)  # this run was over by then

    def run(self, folder: Path, moment: Moment | None = None) -> Ended:
        """Start it, disturb it at the moment if it comes so far, and wait for its end."""
        said = self.home / "said"
        kind, share = moment or Moment("none", 1.0)
        at_access = int(share * self.accesses) if kind in ("write", "disk") else None
        process = self.context.Process(target=_main, args=(self, folder, said, kind, at_access))
        began = time.monotonic()
        process.start()
        at_time = kind in ("kill", "term", "worker")
        disturbed = _disturb(process, kind, began + share * self.seconds) if at_time else None
        process.join(DEADLINE)
        code = process.exitcode
        assert code is not None, f"still running: {said.read_text()}"
        return Ended(
            code, said.read_text().splitlines(), time.monotonic() - (disturbed or began), code != 0
        )


def _disturb(process: ForkServerProcess, kind: str, when: float) -> float | None:
    """Send the signal when it is time; returns when, or None if it came too late."""
    assert process.pid is not None
    while time.monotonic() < when or (kind == "worker" and not _workers(process.pid)):
        if process.exitcode is not None:
            return None
        time.sleep(0.002)
    try:
        if kind == "worker":
            os.kill(_workers(process.pid)[-1], signal.SIGKILL)
        else:
            os.kill(process.pid, signal.SIGTERM if kind == "term" else signal.SIGKILL)
    except (ProcessLookupError, IndexError):
        return None
    return time.monotonic()


def _workers(pid: int) -> list[int]:
    """The processes that it forked, and which run no other program."""
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        program = Path(f"/proc/{pid}/cmdline").read_bytes()
        return [
            int(child)
            for child in children
            if Path(f"/proc/{child}/cmdline").read_bytes() == program
        ]
    except (FileNotFoundError, ProcessLookupError):
        return []


def _main(command: Command, folder: Path, said: Path, kind: str, at_access: int | None) -> None:
    """In the new process."""
    os.environ |= {"CFEXP_CACHE": str(command.cache), "OMP_NUM_THREADS": "1"}
    os.chdir(command.home)
    multiprocessing.set_start_method(
        "fork", force=True
    )  # of data workers: as in a process that a user starts
    with said.open("w") as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    accesses = _Accesses(folder, kind, at_access)
    sys.addaudithook(accesses)
    sys.argv = ["command.py", *command.arguments, f"hydra.run.dir={folder}"]
    import_module(f"cfexp.{command.verb}").main()
    (command.home / "accesses").write_text(str(accesses.count))


class _Accesses:
    """Counts what a process does to the files of a run folder; at the one with number `at`, the
    disturbance comes.
    """

    def __init__(self, folder: Path, kind: str, at: int | None) -> None:
        self.folder, self.kind, self.at, self.count = str(folder), kind, at, 0

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event not in ("open", "os.rename", "os.remove", "os.mkdir"):
            return
        path = str(arguments[0])
        if not path.startswith(self.folder) or path.endswith("log.txt") or ".hydra" in path:
            return
        writes = event != "open" or arguments[1] is None or set(str(arguments[1])) & set("wax+")
        if not writes:
            return
        self.count += 1
        if self.at is None or self.count <= self.at:
            return
        if self.kind == "write":
            os.kill(os.getpid(), signal.SIGKILL)
        if event in ("open", "os.mkdir"):  # which take room
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), path)


def _check(moment: Moment, ended: Ended) -> None:
    """That the process ended as it should after such a disturbance."""
    assert not any("Traceback" in line for line in ended.said), ended.said
    last = ended.said[-1] if ended.said else ""
    if moment.kind in ("kill", "write"):
        assert ended.code == -signal.SIGKILL, ended.said
    elif moment.kind == "term":
        # Before cfexp has begun, the signal's own default ends the process.
        assert ended.code in (128 + signal.SIGTERM, -signal.SIGTERM), ended.said
        assert ended.code < 0 or last.startswith("stopped; the same command "), ended.said
        assert ended.seconds < PROMPT
    else:
        expected = (
            "error: No space left on device"
            if moment.kind == "disk"
            else "error: DataLoader worker (pid"
        )
        assert ended.code == 1, ended.said
        assert last.startswith(expected), ended.said
        assert "; then the same command " in last


def assert_same(folder: Path, expected: Path) -> None:
    """That two finished run folders hold the same results, and nothing else."""
    found, due = set(_results(folder)), set(_results(expected))
    assert found == due, f"{folder} lacks {due - found}, and has {found - due}"
    for name in _results(expected):
        path = folder / name
        if name.suffix == ".ckpt":
            _assert_same_tensors(path, expected / name)
        elif name.suffix == ".parquet":
            assert timeless(folder).equals(timeless(expected))
        elif name.suffix != ".json":  # whose numbers are in metrics.csv, too, beside the paths
            assert path.read_bytes() == (expected / name).read_bytes(), name


def _results(folder: Path) -> list[Path]:
    files = (path.relative_to(folder) for path in folder.rglob("*") if path.is_file())
    return sorted(path for path in files if path.parts[0] not in OF_THE_WAY)


def _assert_same_tensors(path: Path, expected: Path) -> None:
    ours, theirs = (_tensors(torch.load(each, weights_only=True)) for each in (path, expected))
    assert ours.keys() == theirs.keys(), path
    assert [name for name in theirs if not torch.equal(ours[name], theirs[name])] == [], path


def _tensors(content: Any, name: str = "") -> dict[str, torch.Tensor]:
    """All tensors of a checkpoint by their place, but those of the callbacks."""
    if isinstance(content, torch.Tensor):
        return {name: content}
    pairs = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content)
        if isinstance(content, list)
        else ()
    )
    found: dict[str, torch.Tensor] = {}
    for key, value in pairs:
        found |= {} if key == "callbacks" else _tensors(value, f"{name}.{key}")
    return found
