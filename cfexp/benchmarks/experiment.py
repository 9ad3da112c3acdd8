"""What benchmarks of an experiment share: its name on the command line, and its explainer."""

import argparse
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from omegaconf import DictConfig, open_dict

from cfexp.command_parser import command_parser
from cfexp.errors import InputError
from cfexp.explainers.base import Explainer
from cfexp.run.building import build
from cfexp.run.explainer_stage import explainer_class
from cfexp.run.library_config import composing_for_user, config_of
from cfexp.run.stages import provide_stages

Kind = TypeVar("Kind", bound=Explainer)


def parser_of(name: str, doc: str | None, example: str, *more: str) -> argparse.ArgumentParser:
    """The parser of `python -m cfexp.benchmarks.NAME +experiment=EXAMPLE`, for `parsed`.

    more: the arguments of further examples, which `--help` shows after this one.
    """
    parser = command_parser(f"benchmarks.{name}", doc, f"+experiment={example}", *more)
    parser.add_argument(
        "overrides", nargs="+", metavar="+experiment=NAME", help="and settings, as of cfexp.explain"
    )
    parser.set_defaults(example=example)
    return parser


def parsed(
    parser: argparse.ArgumentParser, arguments: Sequence[str] | None, *above_0: str
) -> argparse.Namespace:
    """The command line, with the experiment's name in `experiment` and its other settings in
    `overrides`. Raises InputError unless there is one experiment, and the options `above_0` are.
    """
    given = parser.parse_intermixed_args(arguments)
    named = [each for each in given.overrides if each.startswith("+experiment=")]
    if len(named) != 1:
        raise InputError(f"give one +experiment=NAME, for example +experiment={given.example}")
    if min(getattr(given, name) for name in above_0) < 1:
        options = [f"--{name}" for name in above_0]
        raise InputError(f"{', '.join(options[:-1])} and {options[-1]} must be above 0")
    given.experiment = named[0].removeprefix("+experiment=")
    given.overrides.remove(named[0])
    return given


def prepared(
    given: argparse.Namespace,
    kind: type[Kind],
    otherwise: str,
    stage: str,
    change: Callable[[DictConfig], None],
) -> tuple[Kind, Any]:
    """The experiment's explainer, settled, and its data, set up for Lightning's `stage`.

    change: what the benchmark sets, after the stages are named. Raises InputError for an explainer
    of another kind; `otherwise` says what it does not.
    """
    with composing_for_user():
        config = config_of(given.experiment, given.overrides)
        if not issubclass(explainer_class(config), kind):
            raise InputError(f"{given.experiment} {otherwise}")
        provide_stages(config)
        change(config)
        data = build(config.data, "data")
        data.prepare_data()
        data.setup(stage)
        with open_dict(config):
            config.facts = data.facts
        explainer: Kind = build(config.explainer, "explainer")
    explainer.settle(data)
    return explainer, data
