"""What files hold, as short hashes: each is read once, and again when it was changed."""

import hashlib
import json
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from cfexp.whole_files import write_whole

UNREADABLE = "-"  # who opens it says so
# Clocks of file systems are that coarse: of a file that was changed just now, a second change may
# bear the same time.
_JUST_NOW = 2.0  # seconds


def digests(paths: Sequence[Path], kept: Path) -> list[str]:
    """A hash of the bytes of each file, `UNREADABLE` of one that cannot be read.

    kept: a file in which they are kept by size and times of change (of the content, and of anything
    about the file): what has the same is not read again. A copy has other times and the same hash.
    """
    known = _known(kept)
    found: list[str] = []
    fresh: dict[str, list[int | str]] = {}
    now = time.time()
    for path in paths:
        try:
            stat = path.stat()
            times = [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
            *before, digest = known.get(str(path), [""])
            if before != times:
                with path.open("rb") as file:
                    digest = hashlib.file_digest(file, "sha256").hexdigest()[:16]
                if max(stat.st_mtime, stat.st_ctime) < now - _JUST_NOW:
                    fresh[str(path)] = [*times, digest]
        except OSError:
            digest = UNREADABLE
        found.append(str(digest))
    if fresh:
        there = {str(path) for path in paths}
        still = {name: row for name, row in known.items() if name in there}
        with suppress(OSError):
            kept.parent.mkdir(parents=True, exist_ok=True)
            write_whole(kept, json.dumps({**still, **fresh}))
    return found


def _known(kept: Path) -> dict[str, list[int | str]]:
    """What is kept; nothing where that is damaged."""
    try:
        content = json.loads(kept.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    rows = content.items() if isinstance(content, dict) else ()
    return {name: row for name, row in rows if isinstance(row, list) and len(row) == 4}
