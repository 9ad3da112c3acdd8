"""Types of the fixtures that run commands."""

from collections.abc import Callable

Main = Callable[
    ..., tuple[int, list[str], list[str]]
]  # arguments -> exit code, lines of stdout, of stderr
InProcess = Callable[
    ..., tuple[int, list[str], list[str]]
]  # a command's main, arguments -> the same
