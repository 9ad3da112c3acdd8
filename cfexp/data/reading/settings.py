"""Checks of the settings that data modules share."""

from cfexp.errors import InputError


def check_at_least(least: int, **settings: int) -> None:
    """Raise InputError unless every setting, named as under `data.`, is an integer of at least
    `least`.
    """
    for name, value in settings.items():
        if type(value) is not int or value < least:
            raise InputError(f"data.{name} must be an integer of at least {least}, got {value!r}")
