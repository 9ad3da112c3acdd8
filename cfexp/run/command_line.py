"""What is typed: paths as another command prints them, texts, and an explainer in place of the
experiment's.
"""

import functools
import inspect
import os
import re
import shlex
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Quote, QuotedString, Sweep
from hydra.errors import HydraException

from cfexp.run.mistyped import said_in_one_line

# Settings that name files or folders, which are there; the first three may name several.
_LISTS = ("run", "image", "label_map", "further")
_READ = re.compile(
    r"\+{0,2}(run|image|label_map|questions|query|counterfactual|reconstruction|further|ace|labels|verdicts|student|checkpoint|ckpt_path|checkpoints\.\w+|([\w.]+[._])?(root|weights|path|layouts))"
)
# And those that are made.
_WRITTEN = ("hydra.run.dir", "hydra.sweep.dir", "output", "cache_dir", "data.cache_dir")
# Settings that are text, whatever it means in Hydra's grammar; the first may be several.
_QUESTION, _TEXTS = "question", ("question", "counter_answer", "explainer.counter_answer")
# Settings that hold names out of a user's data, and what a name in a list of such may not have.
_NAMES = re.compile(
    r"\+{0,2}(decision\.(label|below|above)|counter_class"
    r"|data\.(label|labels_file|file_column|group|part))"
)
_WORD = re.compile(r"[^\[\]{},:]+")
_NO_MEANING = object()


def typed(path: str | Path) -> str:
    """A path as it must be typed in a shell, for a command's last line."""
    return shlex.quote(str(path))


def quoted(text: str | Path) -> str:
    """A text as a value in Hydra's grammar, whatever characters it has."""
    # Else OmegaConf would look for a setting of that name.
    literal = str(text).replace("${", "\\${")
    return QuotedString(literal, Quote.single).with_quotes()


def takes_paths(main: Callable[[], None]) -> Callable[[], None]:
    """Let a command of Hydra's take paths and questions as they are, with `=`, commas, spaces and
    brackets in them, and say in one line which setting there is not.
    """

    @functools.wraps(main)
    def wrapped() -> None:
        given = map(with_explainer_chosen, sys.argv[1:])
        sys.argv[1:] = [
            with_names_quoted(with_path_quoted(with_text_quoted(argument))) for argument in given
        ]
        try:
            said_in_one_line(main, Path(inspect.unwrap(main).__code__.co_filename).stem)
        except BrokenPipeError:  # what reads the output has seen enough: `--help | head`
            os._exit(0)  # without a last flush, which would fail as well

    return wrapped


def with_output_first(arguments: Sequence[str]) -> list[str]:
    """`output=OUT` for a first argument that is no setting and no option."""
    first, *rest = arguments or [""]
    is_path = bool(first) and first[0] not in "-+~" and "=" not in first
    return [f"output={first}", *rest] if is_path else list(arguments)


def with_explainer_chosen(argument: str) -> str:
    """`explainer=NAME` for `+explainer=NAME`: an experiment has one already, of which Hydra would
    tell.
    """
    return argument.removeprefix("+") if argument.startswith("+explainer=") else argument


def with_text_quoted(argument: str) -> str:
    """`KEY=TEXT` as Hydra's grammar has it; any other argument, and text that is quoted, as it is.

    Of several questions in brackets, each is in quotation marks or ends in a question mark.
    """
    key, _, value = argument.partition("=")
    if (
        key.lstrip("+") not in _TEXTS
        or value in ("", "null", "???")
        or value[0] in "'\""
        or "${" in value
    ):
        return argument
    if key.lstrip("+") != _QUESTION or (value[0], value[-1]) != ("[", "]"):
        return f"{key}={quoted(value)}"
    if re.match(r"\[\s*['\"]", value):
        return argument
    several = re.split(r"(?<=\?)\s*,", value[1:-1])
    return f"{key}=[{','.join(quoted(each.strip()) for each in several)}]"


def with_path_quoted(argument: str) -> str:
    """`KEY=PATH` as Hydra's grammar has it; any other argument, and a path that needs no quoting,
    as it is.

    A path that is there counts as one, whatever its name means in that grammar. What is not there
    is left to the grammar, and taken as a path where that cannot read it.
    """
    key, _, value = argument.partition("=")
    written = key in _WRITTEN
    if value in ("", "null") or not (written or _READ.fullmatch(key)):
        return argument
    meaning = _meaning(argument)
    if not written and _is_there(value):
        return (
            argument if meaning == value and "${" not in value else f"{key}={_quoted_path(value)}"
        )
    if meaning is not _NO_MEANING and not (
        written and isinstance(meaning, Sweep | float | int | list)
    ):
        return argument
    if key in _LISTS and value[0] == "[" and value[-1] == "]":
        return f"{key}=[{','.join(map(_quoted_path, _paths_in(value[1:-1])))}]"
    return f"{key}={_quoted_path(value)}"


def with_names_quoted(argument: str) -> str:
    """`KEY=NAME`, or names in a list or a mapping, as Hydra's grammar has them, which knows no
    letter beyond ASCII; what it can read, and what has quotation marks, as it is.
    """
    key, _, value = argument.partition("=")
    if not value or set("'\"$") & set(value) or _meaning(argument) is not _NO_MEANING:
        return argument
    if _NAMES.fullmatch(key):
        return f"{key}={quoted(value)}"
    if value.isascii() or argument.startswith("-"):
        return argument
    return f"{key}={_WORD.sub(_with_word_quoted, value)}"


def _with_word_quoted(found: re.Match[str]) -> str:
    word = found[0]
    return word if word.isascii() else quoted(word.strip())


def _paths_in(listed: str) -> list[str]:
    """The paths of a list, separated by commas; those that are there may have commas within."""
    pieces = listed.split(",")
    for end in range(len(pieces), 0, -1):
        first = ",".join(pieces[:end]).strip()
        if end == 1 or _is_there(first):
            rest = _paths_in(",".join(pieces[end:])) if end < len(pieces) else []
            return [first if _is_there(first) else first.strip("'\""), *rest]
    return []


def _quoted_path(path: str) -> str:
    return quoted(Path(path).expanduser() if path.startswith("~") else path)


def _is_there(path: str) -> bool:
    try:
        return Path(path).expanduser().exists()
    except (
        OSError,
        RuntimeError,
        ValueError,
    ):  # a name that is too long, or of a user that there is not
        return False


def _meaning(argument: str) -> Any:
    """What Hydra's grammar makes of an argument's value."""
    try:
        return OverridesParser.create().parse_override(argument).value()
    except HydraException:
        return _NO_MEANING
