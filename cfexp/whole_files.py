"""Files that appear under their name when they are whole, whatever kills the process meanwhile.

A file is written beside its final place and renamed, which is one step: who reads it finds what was
there before, or all of the new file.
"""

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def whole_file(path: Path, partial: Path | None = None) -> Iterator[Path]:
    """Where to write what shall appear at `path`, or take the place of what is there.

    The file gets its name when the `with` block ends; where the block raises, what was written is
    removed and `path` stays as it is.

    partial: where that is, in the folder of `path`. Give a fixed name where only one process at a
        time writes: what a killed process left there is overwritten by the next. The default is
        unique, whatever other processes and machines write there, and ends in `.partial`:
        `run.folder_lock` removes what killed processes left so in the folder of a run.
    """
    if partial is None:
        partial = path.with_name(f"{path.name}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
        partial.replace(path)
    except BaseException:
        with contextlib.suppress(OSError):
            partial.unlink()
        raise


def write_whole(path: Path, text: str) -> None:
    """Write a text file by way of `whole_file`."""
    with whole_file(path) as partial:
        partial.write_text(text, encoding="utf-8")
