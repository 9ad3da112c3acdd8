"""Embedded worlds on disk: drawn once per set of parameters, complete or not there at all."""

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Collection
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from cfexp.errors import InputError


def parameters_key(version: int, parameters: Any) -> str:
    """A short hash of a world's parameters (a dataclass) and of the version of its drawing: its cache folder's name."""
    text = json.dumps([version, asdict(parameters)], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def check_types(parameters: Any, shares: Collection[str] = ()) -> None:
    """Raise InputError unless every field of a world's parameters is an int, or for those in `shares` a number."""
    for field in fields(parameters):
        value, numbers = getattr(parameters, field.name), (int, float) if field.name in shares else (int,)
        if type(value) not in numbers:
            kind = "number" if float in numbers else "whole number"
            raise InputError(f"world.{field.name} must be a {kind}, got {value!r}")


def cached_world(name: str, key: str, write: Callable[[Path], None], cache_dir: Path) -> Path:
    """The folder `name`-`key` under `cache_dir`, which `write` fills now if it is not there.

    It is written beside its final place and renamed when complete, so an interrupted or concurrent run never leaves,
    nor reads, half of one. Raises InputError where `cache_dir` cannot be made or written to.
    """
    folder = Path(cache_dir) / f"{name}-{key}"
    if folder.is_dir():
        return folder
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        unfinished = Path(tempfile.mkdtemp(prefix=f"{folder.name}-", suffix=".partial", dir=folder.parent))
    except OSError as error:
        problem = f"the embedded {name} cannot be written under cache_dir={cache_dir}: {error.strerror}"
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


def dump_json(path: Path, content: dict[str, Any] | list[Any]) -> None:
    """Write a JSON file that is on the disk when this returns."""
    with path.open("w", encoding="utf-8") as file:
        file.write(json.dumps(content))  # dump() would take five times as long: it is not written in C
        file.flush()
        os.fsync(file.fileno())
