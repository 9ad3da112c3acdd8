"""SEAN (Zhu et al. 2020): its layers, the autoencoder, and its fast form for a search."""

from typing import Any


def __getattr__(name: str) -> Any:
    """The class under the room's own name, too; late, as parts of this room are imported by what it
    builds on.
    """
    if name == "SEAN":
        from cfexp.models.sean.sean import SEAN

        return SEAN
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
