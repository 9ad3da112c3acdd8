"""One process a folder: what a run or a stage writes, no other process may write meanwhile."""

import errno
import fcntl
import logging
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from lightning.pytorch.utilities import rank_zero_only

from cfexp.errors import InputError

_log = logging.getLogger(__name__)


@contextmanager
def claimed(folder: Path, *, wait: bool = False) -> Iterator[None]:
    """Keep `folder`, made if need be, for this process until the end of what is within, or of the
    process.

    What a killed process left half-written there is removed. wait: for a process that has it; else
    InputError. Of the processes of one run (DDP), the first keeps it for all, but each waits where
    that is asked for.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if not (wait or _is_first()):
        yield
        return
    with (folder / ".lock").open("a+", encoding="utf-8") as file:
        _lock(file, folder, wait)
        for partial in (*folder.glob("*.partial"), *folder.glob("checkpoints/*.partial")):
            partial.unlink()
        yield


def _is_first() -> bool:
    """Whether this is the only process of its run, or the first one, as Lightning sees it, of the
    first machine.
    """
    machine = os.environ.get("NODE_RANK") or os.environ.get("GROUP_RANK") or "0"
    return not getattr(rank_zero_only, "rank", 0) and machine == "0"


def _lock(file: IO[str], folder: Path, wait: bool) -> None:
    # By lockf(), whose lock is the process's own: flock()'s would live on in the data workers of
    # one that was killed.
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno not in (errno.EACCES, errno.EAGAIN):
            _log.warning(
                "%s: cannot be locked (%s); start no second run there", folder, error.strerror
            )
            return
        file.seek(0)
        other = file.read().strip() or "another process"
        if not wait:
            raise InputError(
                f"{folder} is in use by {other}: wait, or choose another hydra.run.dir"
            ) from None
        _log.info("waits for %s, which is at work in %s", other, folder)
        fcntl.lockf(file, fcntl.LOCK_EX)
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}\n")
    file.flush()
