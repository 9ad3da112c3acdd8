"""The measures that there are: those that conf/measure/ lists, a file each.

A file says, beside the `_target_` that makes the measure (or several, see
`cfexp.evaluation.measure.base`) and its settings:

needs: settings of `cfexp.evaluate` without which it is not computed, such as checkpoints.inception.
mention: whether it is then listed as not computed; false = no; a name = where the label maps have
    such a region, or the explanations such a picture.
place: where it stands among the others; 100 if not said. The first columns of the tables go by it.
"""

import importlib.resources
from collections.abc import Mapping
from functools import cache, partial
from pkgutil import resolve_name
from typing import Any, NamedTuple

import yaml  # type: ignore[import-untyped]

from cfexp.errors import InputError
from cfexp.evaluation.measure.base import Measures


class Known(NamedTuple):
    """A file of conf/measure/."""

    name: str
    needs: tuple[str, ...]
    mention: bool | str
    place: int
    target: str
    is_partial: bool  # it is a function of the run
    settings: Mapping[str, Any]

    @classmethod
    def of(cls, name: str, content: Mapping[str, Any]) -> "Known":
        """What a file says, less what is said to this module; raises InputError for one without a
        `_target_`.
        """
        rest = dict(content)
        needs = rest.pop("needs", ())
        mention, place, is_partial = (rest.pop(key, default) for key, default in _DEFAULTS.items())
        if "_target_" not in rest:
            problem = f"is no measure, for it has no _target_; there are {', '.join(known_files())}"
            raise InputError(f"measure.{name} {problem}")
        needs = (needs,) if isinstance(needs, str) else tuple(needs)
        return cls(name, needs, mention, place, rest.pop("_target_"), is_partial, rest)


_DEFAULTS = {"mention": True, "place": 100, "_partial_": False}


@cache
def known_files() -> dict[str, dict[str, Any]]:
    """The content of conf/measure/NAME.yaml, by name."""
    folder = importlib.resources.files("cfexp.conf") / "measure"
    files = sorted(
        (entry for entry in folder.iterdir() if entry.name.endswith(".yaml")),
        key=lambda entry: entry.name,
    )
    return {
        file.name.removesuffix(".yaml"): yaml.safe_load(file.read_text(encoding="utf-8"))
        for file in files
    }


def in_order(known: Mapping[str, Mapping[str, Any]]) -> list[Known]:
    """Files by their places, and by their names."""
    return sorted(
        (Known.of(*item) for item in known.items()), key=lambda each: (each.place, each.name)
    )


@cache
def standard_measures() -> tuple[Measures, ...]:
    """The measures that need nothing, in their order."""
    return tuple(make(each, each.settings) for each in in_order(known_files()) if not each.needs)


def make(known: Known, settings: Mapping[str, Any]) -> Measures:
    """The measure of a file, with these settings; raises InputError where its `_target_` refuses
    them, or is none.
    """
    try:
        made = partial(resolve_name(known.target), **settings)
        measures: Measures = made if known.is_partial else made()
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise InputError(f"measure.{known.name}: {error}") from error
    return measures
