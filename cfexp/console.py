"""`cfexp COMMAND ...`: what `python -m cfexp.COMMAND ...` is, in fewer letters."""

import ast
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from cfexp.command_parser import summary_of

_PACKAGE = Path(__file__).parent
_IS_COMMAND = '\nif __name__ == "__main__":\n'
_USAGE = """usage: cfexp COMMAND [ARGUMENTS], the same as python -m cfexp.COMMAND [ARGUMENTS]
cfexp COMMAND --help shows what a command does, with examples to copy."""


def main() -> None:
    """Become `python -m cfexp.COMMAND` with the same arguments, or list the commands.

    The process is replaced, so whatever starts the command once more (Lightning for a second GPU, a
    launcher of a sweep) finds the same program as without this script.
    """
    name, *arguments = sys.argv[1:] or ["--help"]
    known = dict(commands())
    if name in ("--help", "-h"):
        width = max(map(len, known))
        lines = (f"  {command:<{width}}  {said}" for command, said in known.items())
        print(_USAGE, *lines, sep="\n")
    elif name not in known:
        print(
            f"error: cfexp {name}: no such command; there are {', '.join(known)}", file=sys.stderr
        )
        sys.exit(2)
    else:
        os.execv(sys.executable, [sys.executable, "-m", f"cfexp.{name}", *arguments])


def commands() -> Iterator[tuple[str, str]]:
    """Every command's name and what it does, by its module's first line; the top level's first."""
    modules = sorted(
        _PACKAGE.rglob("*.py"), key=lambda path: (len(path.relative_to(_PACKAGE).parts), path)
    )
    for path in modules:
        text = path.read_text(encoding="utf-8")
        if _IS_COMMAND in text:
            # Not imported: that takes seconds.
            said = summary_of(ast.get_docstring(ast.parse(text))).split(". ")[0].rstrip(".")
            yield ".".join(path.relative_to(_PACKAGE).with_suffix("").parts), said
