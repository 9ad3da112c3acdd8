"""How a benchmark ends."""

import sys
from collections.abc import Callable

from cfexp.errors import InputError


def exit_code(run: Callable[[], bool]) -> int:
    """0, or 1 where `run` says that a figure is not reached; 2 with one line where something is
    wrong (InputError).
    """
    try:
        return 0 if run() else 1
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
