"""What the entry points share: finding experiments and run folders, and telling a user what is
wrong in one line.
"""

import errno
import functools
import importlib.resources
import logging
import os
import re
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ContextDecorator
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from cfexp._moved import with_present_names
from cfexp.errors import InputError
from cfexp.run.folder_names import folder_name, folders, under_one_name
from cfexp.run.hub import with_hub_files
from cfexp.run.lengths import at_most, epochs, seldom
from cfexp.run.memory import keep_freed_memory
from cfexp.run.same_run import why_neutral
from cfexp.run.stage_networks import explained_output, explained_sides, stage_network

# Read by OpenMP when torch is loaded, which is later. Idle threads that spin without end make two
# threads on two cores seven times slower than one as soon as anything else runs (360 against 51 ms
# a step of the VQA model); threads that wait at once lose a quarter of a GAN step (282 against 215
# ms) to waking up. So: spin for a moment, then wait.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
os.environ.setdefault("GOMP_SPINCOUNT", "20000")
# wandb's own dozen lines would stand below the results; where its files lie is said in the README.
os.environ.setdefault("WANDB_SILENT", "true")

# A full disk is said once, at the end; log.txt is on it, too, and every line for that would bring a
# traceback.
logging.raiseExceptions = False

CONFIG_PATH = "pkg://cfexp.conf"
RUNS = Path("runs")
_TIME = "%Y-%m-%d_%H-%M-%S"  # what a training's folder is called
_BY_TIME = re.compile(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d")
_NO_SPACE = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
_PEER_GONE = (
    "Connection closed by peer",
    "Connection reset by peer",
    "remote process exited",
)  # gloo, gloo, NCCL


def register_resolvers() -> None:
    """Make `${run_dir:...}` and the other resolvers of conf/ known to OmegaConf; to be called
    first.
    """
    OmegaConf.register_new_resolver("run_dir", _run_dir, replace=True)
    OmegaConf.register_new_resolver("folders", folders, replace=True)
    OmegaConf.register_new_resolver("named_by_overrides", _named_by_overrides, replace=True)
    OmegaConf.register_new_resolver("experiments", _experiments, replace=True)
    OmegaConf.register_new_resolver("beside", _beside, replace=True)
    OmegaConf.register_new_resolver("sample", _sample, replace=True)
    OmegaConf.register_new_resolver("must_be_given", _missing, replace=True)
    OmegaConf.register_new_resolver("if_given", _if_given, replace=True)
    OmegaConf.register_new_resolver("stage", stage_network, replace=True)
    OmegaConf.register_new_resolver("epochs", epochs, replace=True)
    OmegaConf.register_new_resolver("seldom", seldom, replace=True)
    OmegaConf.register_new_resolver("at_most", at_most, replace=True)
    OmegaConf.register_new_resolver("explained_output", explained_output, replace=True)
    OmegaConf.register_new_resolver("explained_sides", explained_sides, replace=True)


def one_line_errors(main: Callable[[DictConfig], Any]) -> Callable[[DictConfig], Any]:
    """Say in one line what is wrong (InputError, exit code 2) or how to go on after Ctrl-C (130) or
    SIGTERM (143).

    So too of a full disk, and of a data worker or a process beside this one that was killed (exit
    code 1). Every other exception keeps its traceback; HYDRA_FULL_ERROR=1 leaves it to input
    errors, too. What is run keeps its freed memory: see run/memory.py.
    """

    @functools.wraps(main)
    def wrapped(config: DictConfig) -> Any:
        keep_freed_memory()
        try:
            _keep_run_dir()
            return main(with_hub_files(config))
        except (InputError, OmegaConfBaseException) as error:
            if os.environ.get("HYDRA_FULL_ERROR") == "1":
                raise
            print(f"error: {one_line(error)}", file=sys.stderr)
            _remove_what_was_refused(Path(HydraConfig.get().runtime.output_dir))
            sys.exit(2)
        except (OSError, RuntimeError) as error:
            reason = _of_the_machine(error)
            if reason is None:
                raise
            print(
                f"error: {reason}; then the same command {_how_to_go_on(config)}", file=sys.stderr
            )
            sys.exit(1)
        except (KeyboardInterrupt, SystemExit) as stop:
            # Lightning ends the process by itself: at Ctrl-C with exit code 1, at SIGTERM with
            # none.
            number = (
                signal.SIGTERM
                if isinstance(stop, SystemExit) and stop.code is None
                else signal.SIGINT
            )
            print(f"stopped; the same command {_how_to_go_on(config)}", file=sys.stderr)
            sys.exit(128 + number)

    return wrapped


def _remove_what_was_refused(folder: Path) -> None:
    """Remove the folder of a run that wrote nothing but its lock and log.txt: the line says it all.

    Not one that another process keeps, nor one that a person may have made.
    """
    lock, log = folder / ".lock", folder / "log.txt"
    try:
        if {each.name for each in folder.iterdir()} != {lock.name, log.name}:
            return
        if lock.read_text(encoding="utf-8").startswith(f"process {os.getpid()} "):
            log.unlink()
            lock.unlink()
            folder.rmdir()
    except OSError:  # what cannot be removed does no harm
        return


def _keep_run_dir() -> None:
    """Let Hydra's run.dir be the folder that this run has, for the processes that Lightning starts
    and gives it to.

    Resolved once more, it would name a later time.
    """
    hydra: Any = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        with read_write(hydra):
            hydra.run.dir = hydra.runtime.output_dir.replace(
                '"', '\\"'
            )  # Lightning puts it in quotation marks


class StoppedBySigterm(ContextDecorator):
    """Let SIGTERM stop what is within, or a function so decorated, at once.

    Lightning would go on to the end of a batch, which may take minutes, and beyond; what is
    explained is on disk.
    """

    def __enter__(self) -> None:
        self._before = signal.signal(signal.SIGTERM, lambda *_: sys.exit())

    def __exit__(self, *error: object) -> None:
        signal.signal(signal.SIGTERM, self._before)
        del self._before  # launchers pickle the function that is decorated, and this with it


def is_member() -> bool:
    """Whether this is a run of a sweep, see sweep.py."""
    hydra = HydraConfig.get()
    return bool(hydra.mode == RunMode.MULTIRUN and "sweep" in hydra.callbacks)


def one_line(error: Exception) -> str:
    """What an InputError, or OmegaConf's, says to the user."""
    if isinstance(error, MissingMandatoryValue):
        return _must_be_given(str(error.full_key))
    lines = str(error).strip().splitlines()
    if isinstance(error, OmegaConfBaseException):
        return lines[0].removeprefix("InputError raised while resolving interpolation: ")
    # A worker process's InputError arrives with that process's traceback in front of its message.
    return lines[-1].removeprefix("cfexp.errors.InputError: ")


def _of_the_machine(error: BaseException | None) -> str | None:
    """What to mend outside of the command, where an error or its cause says that; else None."""
    while error is not None:
        if isinstance(error, OSError) and error.errno in _NO_SPACE:
            where = f" for {error.filename}" if error.filename else ""
            return f"{os.strerror(error.errno)}{where}: make room"
        if isinstance(error, RuntimeError) and str(error).startswith(
            "PytorchStreamWriter failed writing"
        ):
            return f"{str(error).splitlines()[0]}: make room"
        if isinstance(error, RuntimeError) and str(error).startswith("DataLoader worker (pid"):
            died = str(error).splitlines()[0].rstrip(". ")
            return f"{died}: give it more memory, or fewer data.num_workers"
        if isinstance(error, RuntimeError) and any(said in str(error) for said in _PEER_GONE):
            return "another process of this run has ended"
        error = error.__cause__ or error.__context__
    return None


def _how_to_go_on(config: DictConfig) -> str:
    folder = Path(HydraConfig.get().runtime.output_dir)
    checkpoint = folder / "checkpoints" / "last.ckpt"
    if is_member():
        return "goes on"
    if not checkpoint.is_file():
        # Stages come first and need not be told to go on, nor need explanations.
        began = (folder / "config.yaml").is_file() and not (folder / "explanations").is_dir()
        return "starts again" if began else "goes on"
    epoch, batches = progress_of(checkpoint)
    amid = f", after {batches} of its batches" if batches else ""
    where = (
        f"from epoch {epoch}{amid}" if epoch < config.trainer.max_epochs else "after its last epoch"
    )
    return f"with ckpt_path=last goes on {where}"


class Progress(NamedTuple):
    """What a training has behind it."""

    epochs: int  # whole ones
    batches: int  # of the epoch that it was stopped in; 0 = it was stopped between epochs


def progress_of(checkpoint: Path) -> Progress:
    """How far a training has come, by its checkpoint; raises InputError for a file that is none."""
    import torch  # late: see train.py

    try:
        content = torch.load(checkpoint, map_location="cpu", weights_only=True, mmap=True)
        return Progress(int(content["epoch"]) + 1, int(content.get("batches_done", 0)))
    # A foreign or truncated file makes the reader raise nearly anything.
    except Exception as error:
        raise InputError(
            f"{checkpoint} is no checkpoint of a training ({type(error).__name__})"
        ) from None


def resume_from(ckpt_path: str | None, folder: Path) -> Path | None:
    """The checkpoint that a run in `folder` goes on from; `last` in a folder without one starts
    from the beginning.

    Raises InputError for a path at which there is none, or another file.
    """
    path = folder / "checkpoints" / "last.ckpt" if ckpt_path == "last" else ckpt_path
    if path is None or (ckpt_path == "last" and not Path(path).is_file()):
        return None
    if not Path(path).is_file():
        remedy = "ckpt_path=last takes the newest run of the experiment"
        raise InputError(f"ckpt_path={ckpt_path}: no such file; {remedy}")
    progress_of(Path(path))  # before stages are trained
    return Path(path)


def run_config(folder: Path) -> DictConfig:
    """The config in a run's folder; an empty one if there is none. Raises InputError for another
    file of that name.
    """
    path = folder / "config.yaml"
    if not path.is_file():
        return OmegaConf.create()
    content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    if not isinstance(content, dict):
        raise InputError(f"{path} holds no config of a run")
    config: DictConfig = OmegaConf.create(with_present_names(content))
    return config


def run_setting(folder: Path, key: str) -> Any:
    """What that config says of `key`, as plain Python; None if it does not say."""
    value = OmegaConf.select(run_config(folder), key)
    return OmegaConf.to_container(value) if OmegaConf.is_config(value) else value


def _run_dir(name: str, ckpt_path: str | None) -> str:
    """runs/NAME/TIME; with ckpt_path=last the newest training there: `cfexp.explain` has its
    folders beside them.
    """
    parent = RUNS / folders(name)
    if ckpt_path == "last":
        begun = (path for path in parent.glob("*") if (path / "config.yaml").is_file())
        runs = sorted(
            path
            for path in begun
            if _BY_TIME.fullmatch(path.name) or (path / "checkpoints").is_dir()
        )
        if runs:
            return str(runs[-1])
    return str(parent / time.strftime(_TIME))


def _named_by_overrides() -> str:
    """A folder's name for what this command sets that changes a number; the same command has the
    same.

    Of a member of a sweep it is what it does not share with the others, see sweep.py.
    """
    # As they were typed: an interpolation in a value is part of the command, not to be looked up
    # here.
    content: Any = OmegaConf.to_container(HydraConfig.instance().cfg, resolve=False)
    hydra = content["hydra"]
    shared = hydra["job"]["config"]["override_dirname"]["exclude_keys"]
    given = OverridesParser.create().parse_overrides(hydra["overrides"]["task"])
    is_member = hydra["mode"] == RunMode.MULTIRUN
    own = [
        under_one_name(str(each.input_line))
        for each in given
        if (
            each.key_or_group not in shared
            if is_member
            else why_neutral(each.key_or_group, "folder") is None
        )
    ]
    return folder_name(sorted(own)) or "default"


def _beside(path: str | None, name: str) -> str | None:
    """The file or folder `name` next to `path`; None where that is not given. Where several files
    share a folder, as shipped weights do, it has the stem of `path` before its own name.
    """
    if path is None:
        return None
    own = Path(path).with_suffix(f".{name}")
    return str(own if own.exists() else own.with_name(name))


def _sample(path: str) -> str:
    """A file or folder among the samples that are shipped."""
    found = Path(str(importlib.resources.files("cfexp"))) / "samples" / path
    if not found.exists():
        raise InputError(f"{found}: cfexp ships no such sample")
    return str(found)


def _if_given(value: Any, then: Any, otherwise: Any) -> Any:
    """One of two values, by whether a setting is given or null."""
    return otherwise if value is None else then


def _missing(key: str) -> None:
    """For a setting that has a default elsewhere: OmegaConf lets no `???` take the place of a
    value.
    """
    raise InputError(_must_be_given(key))


def _must_be_given(key: str) -> str:
    return f"{key} must be given: {key}=VALUE"


def _experiments(command: str) -> str:
    """One line for each experiment of a command: its name and the second comment of its file."""
    root = importlib.resources.files("cfexp.conf") / "experiment"
    lines = []
    for name, file in _yaml_files(root):
        comments = [
            line[2:].strip()
            for line in file.read_text(encoding="utf-8").splitlines()
            if line.startswith("# ")
        ]
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


# Also for a launcher's processes, which import this module but no entry point.
register_resolvers()
