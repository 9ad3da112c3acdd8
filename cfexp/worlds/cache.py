"""Embedded worlds on disk: drawn once per set of parameters, complete or not there at all."""

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Collection, Iterator
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from rich.progress import track

from cfexp.errors import InputError

Drawn = TypeVar("Drawn")
_CHUNK = 32  # scenes that a process draws at a time
_SIGNALS = (signal.SIGINT, signal.SIGTERM)  # by which a command is told to end


def parameters_key(version: int, parameters: Any) -> str:
    """A short hash of a world's parameters (a dataclass) and of the version of its drawing: its
    cache folder's name.
    """
    text = json.dumps([version, asdict(parameters)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def check_types(parameters: Any, shares: Collection[str] = ()) -> None:
    """Raise InputError unless every field of a world's parameters is an int, or for those in
    `shares` a number.
    """
    for field in fields(parameters):
        value, numbers = (
            getattr(parameters, field.name),
            (int, float) if field.name in shares else (int,),
        )
        if type(value) not in numbers:
            kind = "number" if float in numbers else "whole number"
            raise InputError(f"world.{field.name} must be a {kind}, got {value!r}")


def cached_world(name: str, key: str, write: Callable[[Path], None], cache_dir: Path) -> Path:
    """The folder `name`-`key` under `cache_dir`, which `write` fills now if it is not there.

    It is written beside its final place and renamed when complete, so an interrupted or concurrent
    run never leaves, nor reads, half of one. Raises InputError where `cache_dir` cannot be made or
    written to.
    """
    folder = Path(cache_dir) / f"{name}-{key}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(
            tempfile.mkdtemp(prefix=f"{folder.name}-", suffix=".partial", dir=folder.parent)
        )
    except OSError as error:
        problem = (
            f"the embedded {name} cannot be written under cache_dir={cache_dir}: {error.strerror}"
        )
        raise InputError(f"{problem}; give a folder that you may write to") from error
    try:
        write(unfinished)
        unfinished.chmod(0o755)
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.is_dir():  # else another process was faster, with the same bytes
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return folder


def draw_all(draw: Callable[[int], Drawn], count: int, description: str) -> Iterator[Drawn]:
    """draw(0), draw(1), ... draw(count - 1), by as many processes as this one has cores, with a
    progress bar.

    `draw` must depend on nothing but its number, and be such that it can be pickled.
    """
    cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else 1
    # Few are drawn before a process has started. A worker process of a data loader may start none.
    if cores == 1 or count < 4 * _CHUNK or multiprocessing.current_process().daemon:
        yield from track(map(draw, range(count)), description=description, total=count)
        return
    # Forked, as data loaders' workers are: a script need not guard its main part, and nothing is
    # imported again.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _SIGNALS)
    try:
        pool = multiprocessing.get_context("fork").Pool(cores, _take_signals_as_workers)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    with pool:
        yield from track(
            pool.imap(draw, range(count), _CHUNK), description=description, total=count
        )
        pool.close()
        pool.join()


def _take_signals_as_workers() -> None:
    """Ctrl-C is the parent's, and SIGTERM ends a worker at once.

    By the parent's handler, which is Python's, one that was just about to wait for work would never
    end, nor the parent. So a worker begins with its signals held back: one that comes before this
    is taken after it.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _SIGNALS)


def dump_json(path: Path, content: dict[str, Any] | list[Any]) -> None:
    """Write a JSON file that is on the disk when this returns."""
    with path.open("w", encoding="utf-8") as file:
        file.write(
            json.dumps(content)
        )  # dump() would take five times as long: it is not written in C
        file.flush()
        os.fsync(file.fileno())
