"""What the entry points share: finding experiments and run folders, and telling a user what is wrong in one line."""

import functools
import os
import importlib.resources
import sys
import time
from collections.abc import Callable, Iterator
from importlib.resources.abc import Traversable
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from cfexp.errors import InputError

# Read by OpenMP when torch is loaded, which is later. Idle threads that spin make two threads on two cores seven times
# slower than one as soon as anything else runs (360 against 51 ms a step of the VQA model, measured); waiting ones do not.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
# wandb's own dozen lines would stand below the results; where its files lie is said in the README.
os.environ.setdefault("WANDB_SILENT", "true")

CONFIG_PATH = "pkg://cfexp.conf"
RUNS = Path("runs")


def register_resolvers() -> None:
    """Make `${run_dir:...}`, `${experiments:...}` and `${beside:...}` known to the config; to be called first."""
    OmegaConf.register_new_resolver("run_dir", _run_dir, replace=True)
    OmegaConf.register_new_resolver("experiments", _experiments, replace=True)
    OmegaConf.register_new_resolver("beside", lambda path, name: str(Path(path).parent / name), replace=True)


def one_line_errors(main: Callable[[DictConfig], None]) -> Callable[[DictConfig], None]:
    """Print an InputError as one line and exit with code 2; let every other exception keep its traceback."""

    @functools.wraps(main)
    def wrapped(config: DictConfig) -> None:
        try:
            main(config)
        except InputError as error:
            # A worker process's InputError arrives with that process's traceback in front of its message.
            line = str(error).strip().splitlines()[-1].removeprefix("cfexp.errors.InputError: ")
            print(f"error: {line}", file=sys.stderr)
            sys.exit(2)

    return wrapped


def resume_from(ckpt_path: str | None, folder: Path) -> Path | None:
    """The checkpoint that a run in `folder` goes on from; `last` in a folder without one starts from the beginning.

    Raises InputError for a path at which there is none.
    """
    path = folder / "checkpoints" / "last.ckpt" if ckpt_path == "last" else ckpt_path
    if path is None or (ckpt_path == "last" and not Path(path).is_file()):
        return None
    if not Path(path).is_file():
        raise InputError(f"ckpt_path={ckpt_path}: no such file; ckpt_path=last takes the newest run of the experiment")
    return Path(path)


def _run_dir(name: str, ckpt_path: str | None) -> str:
    """runs/NAME/TIME; with ckpt_path=last the newest there."""
    parent = RUNS / name
    if ckpt_path == "last":
        runs = sorted(path for path in parent.glob("*") if (path / "config.yaml").is_file())
        if runs:
            return str(runs[-1])
    return str(parent / time.strftime("%Y-%m-%d_%H-%M-%S"))


def _experiments(command: str) -> str:
    """One line for each experiment of a command: its name and the second comment of its file."""
    root = importlib.resources.files("cfexp.conf") / "experiment"
    lines = []
    for name, file in _yaml_files(root):
        comments = [line[2:].strip() for line in file.read_text(encoding="utf-8").splitlines() if line.startswith("# ")]
        usage, description = comments[1], comments[2]
        if command in usage:
            lines.append(f"    {name:<24} {description}")
    return "\n".join(lines) + "\n"


def _yaml_files(folder: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    entries = sorted(folder.iterdir(), key=lambda entry: (entry.is_dir(), entry.name))
    for entry in entries:
        if entry.is_dir():
            yield from _yaml_files(entry, f"{prefix}{entry.name}/")
        elif entry.name.endswith(".yaml"):
            yield prefix + entry.name.removesuffix(".yaml"), entry
