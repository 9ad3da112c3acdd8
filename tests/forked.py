"""Commands in processes of their own, which a server forks that has imported everything: a start
takes a tenth of a second where `python -m` takes three.
"""

import multiprocessing
import os
import sys
import time
from importlib import import_module
from pathlib import Path

from tests.survival import preloaded


class Forked:
    """`python -m cfexp.VERB ARGUMENTS` in a process of its own, as `subprocess.Popen` has it."""

    def __init__(self, verb: str, *arguments: str, cwd: Path, cache: Path) -> None:
        place = cwd / f"forked-{time.monotonic_ns()}"
        self._said = place.with_suffix(".out"), place.with_suffix(".err")
        told = (verb, arguments, cwd, cache, self._said)
        self._process = preloaded().Process(target=_main, args=told)
        self._process.start()

    @property
    def returncode(self) -> int | None:
        """Minus the signal that ended it; None while it runs."""
        return self._process.exitcode

    def poll(self) -> int | None:
        return self.returncode

    def send_signal(self, number: int) -> None:
        assert self._process.pid is not None
        os.kill(self._process.pid, number)

    def communicate(self, timeout: float | None = None) -> tuple[str, str]:
        """Wait for its end; returns what it wrote to stdout and to stderr."""
        self._process.join(timeout)
        assert self.returncode is not None, "still running"
        out, err = (path.read_text() if path.exists() else "" for path in self._said)
        return out, err


def _main(
    verb: str, arguments: tuple[str, ...], cwd: Path, cache: Path, said: tuple[Path, Path]
) -> None:
    """In the new process."""
    for name in [each for each in os.environ if each.startswith(("CFEXP", "WANDB", "HYDRA"))]:
        del os.environ[name]
    os.environ |= {"CFEXP_CACHE": str(cache), "OMP_NUM_THREADS": "1"}
    os.chdir(cwd)
    # Of data workers: as in a process that a user starts.
    multiprocessing.set_start_method("fork", force=True)
    for number, path in enumerate(said, start=1):
        with path.open("w") as file:
            os.dup2(file.fileno(), number)
    sys.argv = [f"{verb}.py", *arguments]
    import_module(f"cfexp.{verb}").main()
