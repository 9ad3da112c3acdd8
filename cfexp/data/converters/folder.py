"""A folder that a converter writes: complete under its name, or absent."""

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from cfexp.errors import InputError


@contextlib.contextmanager
def whole_folder(out: Path) -> Iterator[Path]:
    """Where to write what shall lie in `out`: a new folder beside it, renamed when the block ends.

    Where the block raises, what was written is removed. Raises InputError if `out` exists with
    something in it.
    """
    out = out.expanduser().resolve()
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(
            f"{out}: exists and is not an empty folder; give another one, or remove it"
        )
    out.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=f"{out.name}-", suffix=".partial", dir=out.parent))
    try:
        yield unfinished
        unfinished.chmod(0o755)  # mkdtemp's own is for one user only
        unfinished.rename(out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
