"""Checks of the settings of what changes training images."""

from cfexp.errors import InputError


def check_shares(where: str = "", **settings: float) -> None:
    """Raise InputError unless every setting, named after `where`, is in 0..1."""
    for name, value in settings.items():
        if not 0 <= value <= 1:
            raise InputError(f"{where}{name} must be in 0..1, got {value}")


def check_lengths(where: str = "", **settings: float) -> None:
    """Raise InputError unless every setting, named after `where`, is at least 0."""
    for name, value in settings.items():
        if not value >= 0:
            raise InputError(f"{where}{name} must be at least 0, got {value}")
