"""The parser of a command that has no config tree: what its `--help` shows, and in which order."""

import argparse
import re
import textwrap


class _Help(argparse.RawDescriptionHelpFormatter, argparse.ArgumentDefaultsHelpFormatter):
    """The description as it is written; of the defaults only those that say something."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        says_nothing = action.default is None or action.default is False or action.default == []
        return action.help if says_nothing else super()._get_help_string(action)


def summary_of(doc: str | None) -> str:
    """The first paragraph of a command's docstring as one line, without the command before it."""
    first = " ".join((doc or "").partition("\n\n")[0].split())
    said = re.sub(r"^`python -m [^`]*`: ", "", first)
    return said[:1].upper() + said[1:]


def command_parser(name: str, doc: str | None, *examples: str) -> argparse.ArgumentParser:
    """The parser of `python -m cfexp.NAME`. Its `--help` shows what the command does, then the
    examples, then the rest of the docstring, then the options.

    doc: of the command's module. examples: the arguments of each.
    """
    program = f"python -m cfexp.{name}"
    rest = (doc or "").partition("\n\n")[2].strip()
    lines = "\n".join(f"  {program} {example}".rstrip() for example in examples)
    parts = (textwrap.fill(summary_of(doc), 100), lines, rest)
    return argparse.ArgumentParser(
        prog=program, description="\n\n".join(filter(None, parts)), formatter_class=_Help
    )
