"""Settings that there are not, and others that Hydra refuses: said in one line, with the name that
was meant.
"""

import os
import re
import sys
from collections.abc import Callable, Iterator, Sequence
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any
from unittest.mock import patch

import hydra
from hydra._internal import utils
from hydra.errors import (
    CompactHydraException,
    HydraException,
    InstantiationException,
    MissingConfigException,
    OverrideParseException,
)
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

_SHOWN = "--cfg job shows those that there are"
_NO_CHOICE = "Config group override must be"  # a ValueError of Hydra's: data=1
_NO_SUCH = re.compile(r"Could not override '([^']*)'")
_THERE = re.compile(r"An item is already at '([^']*)'")
_AMBIGUOUS = re.compile(r"Ambiguous value for argument '([^=]*)=([^\n]*)'")
# Choices that a command or an experiment has not made, so that they are given with a +.
ADDED = ("experiment", "explainer", "decision", "layouts", "overlay", "sweep")
_LIKE = 0.65  # of difflib's ratio: of three letters one may be another
_MOST_OPTIONS = 12  # of a group, in a line


def said_in_one_line(main: Callable[[], None], command: str) -> None:
    """Call Hydra's `main` of `python -m cfexp.COMMAND`; what is wrong with its arguments ends it in
    one line and with exit code 2, but for HYDRA_FULL_ERROR=1.
    """
    report = utils.run_and_report

    def reported(function: Callable[[], Any]) -> Any:
        return report(lambda: _or_exit(function, command))

    with patch.object(utils, "run_and_report", reported):
        main()


def _or_exit(function: Callable[[], Any], command: str) -> Any:
    try:
        return function()
    except (CompactHydraException, ValueError) as error:
        of_input = isinstance(error, CompactHydraException) or str(error).startswith(_NO_CHOICE)
        in_full = os.environ.get("HYDRA_FULL_ERROR") == "1"
        if not of_input or isinstance(error, InstantiationException) or in_full:
            raise
        given = [each for each in sys.argv[1:] if not each.startswith("-")]
        print(f"error: {what_is_wrong(error, command, given)}", file=sys.stderr)
        sys.exit(2)


def what_is_wrong(error: Exception, command: str, overrides: Sequence[str]) -> str:
    """What Hydra says of a command's overrides in one line; to be called where it composes.

    Of a setting, or a choice, that there is not, the nearest that there is.
    """
    text = " ".join(str(error).split())
    if isinstance(error, MissingConfigException):
        return _no_such_choice(error, text)
    if isinstance(error, OverrideParseException):
        if (meant := _meant_by_word(str(error.override), command)) is not None:
            return f"{error.override}: is {meant} meant?"
        how = "a setting is NAME=VALUE; what has blanks, commas or = needs \"NAME='VALUE'\""
        return f"{error.override}: cannot be read; {how}"
    if (found := _NO_SUCH.search(text)) is not None:
        given = _of(found[1], overrides)
        if found[1].startswith("requires.") and found[1].endswith(".overrides"):
            return f"{given}: settings of a stage are added: +{given}"
        if found[1] in ADDED:
            what = "an experiment" if found[1] == "experiment" else found[1]
            return f"{given}: {what} is added: +{given}"
        near = nearest(found[1], names_beside(found[1], command, overrides))
        meant = f"is {near} meant? ({_SHOWN})" if near else added_choice(given) or _SHOWN
        return f"{given}: there is no setting of this name; {meant}"
    if (found := _THERE.search(text)) is not None:
        given = _of(found[1], overrides)
        return f"{given}: the setting is there; leave out the +: {given.lstrip('+')}"
    if (found := _AMBIGUOUS.search(str(error))) is not None:
        key, value = found[1], found[2]
        ways = f"a list is {key}=[{value}], a text \"{key}='{value}'\", several runs need -m"
        return f"{key}={value}: is ambiguous; {ways}"
    return text


def nearest(name: str, names: Sequence[str]) -> str | None:
    """The one of the names that was probably meant: it differs in a few letters, or is the same
    without its underscores.
    """
    plain = {each.replace("_", "").lower(): each for each in reversed(names)}
    same = plain.get(name.replace("_", "").lower())
    return same or next(iter(get_close_matches(name, names, 1, _LIKE)), None)


def added_choice(given: str) -> str | None:
    """Which choice was probably to be added by `NAME=VALUE`, as a question; None where none is
    called nearly so.
    """
    key, _, value = given.lstrip("+").partition("=")
    near = nearest(key, ADDED)
    return None if near is None else f"is +{near}={value} meant?"


def _meant_by_word(word: str, command: str) -> str | None:
    """The setting that was probably meant by a word alone: a run, or an experiment."""
    if "=" in word or word[:1] in ("+", "~", "-"):
        return None
    conf = files("cfexp.conf")
    own = conf / f"{command}.yaml"
    content = own.read_text(encoding="utf-8") if own.is_file() else ""
    takes_run, takes_experiment = "\nrun:" in content, "${experiments:" in content
    if takes_run and ("/" in word or Path(word).exists() or not takes_experiment):
        return f"run={word}"
    if not takes_experiment:
        return None
    folders = (conf / "experiment", conf / "experiment" / "paper")
    names = [
        f"{prefix}{file.name.removesuffix('.yaml')}"
        for folder, prefix in zip(folders, ("", "paper/"), strict=True)
        for file in folder.iterdir()
        if file.name.endswith(".yaml")
        # What scores runs has experiments of its own; what explains and trains shares them.
        and (not takes_run or f"cfexp.{command} " in file.read_text(encoding="utf-8"))
    ]
    near = word if word in names else nearest(word, sorted(names))
    if near is not None:
        return f"+experiment={near}"
    return f"run={word}" if takes_run else None


def names_beside(key: str, command: str, overrides: Sequence[str]) -> list[str]:
    """The full names of the settings that stand where `key` would: by its side, of all that the
    command has where there is no such place.
    """
    try:
        rest = [each for each in overrides if each.lstrip("+~").partition("=")[0] != key]
        config = hydra.compose(command, overrides=rest, return_hydra_config=key[:6] == "hydra.")
    except (HydraException, OmegaConfBaseException, ValueError):  # something else is wrong, too
        return []
    content: Any = OmegaConf.to_container(config, resolve=False)
    names = list(_names_in(content))
    parent = key.rpartition(".")[0]
    beside = [name for name in names if name.rpartition(".")[0] == parent]
    return beside or names


def _names_in(content: Any, above: str = "") -> Iterator[str]:
    for name, value in content.items():
        yield f"{above}{name}"
        if isinstance(value, dict):
            yield from _names_in(value, f"{above}{name}.")


def _of(key: str, overrides: Sequence[str]) -> str:
    """The override of a setting, as it was given."""
    return next((each for each in overrides if each.lstrip("+~").partition("=")[0] == key), key)


def _no_such_choice(error: MissingConfigException, text: str) -> str:
    group, _, name = (error.missing_cfg_file or "").rpartition("/")
    if not name:
        return text
    options = list(error.options or [])
    group = group.lstrip("/")
    near = nearest(name, options)
    known = ", ".join(options) if options and len(options) <= _MOST_OPTIONS else ""
    hints = [f"is {near} meant?" if near else "", f"there are {known}" if known else ""]
    hint = " ".join(filter(None, hints)) or "--help lists them"
    return f"{group}={name}: could not find 'conf/{group}/{name}.yaml'; {hint}"
