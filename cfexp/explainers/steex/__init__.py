"""STEEX (Jacob et al. 2022): the search in style codes, and the explainer around it."""

from typing import Any


def __getattr__(name: str) -> Any:
    """The class under the room's own name, too; late, as parts of this room are imported by what it
    builds on.
    """
    if name == "STEEX":
        from cfexp.explainers.steex.steex import STEEX

        return STEEX
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
