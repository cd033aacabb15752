"""Checks of numbers in settings: each refuses what is out of range, NaN and infinity included, and names the setting and its value."""

import math

from jfeval.errors import UserError


def positive(settings: object, *names: str, prefix: str = "") -> None:
    """Refuse numbers that are not above 0.

    Raises:
        UserError: names the setting, ``prefix`` in front.
    """
    for name in names:
        if not 0 < getattr(settings, name) < math.inf:
            raise UserError(f"{prefix}{name} must be positive and finite, not {getattr(settings, name)}")


def not_negative(settings: object, *names: str, prefix: str = "") -> None:
    """Refuse numbers below 0; see `positive`."""
    for name in names:
        if not 0 <= getattr(settings, name) < math.inf:
            raise UserError(f"{prefix}{name} must not be negative, NaN or infinite, not {getattr(settings, name)}")


def fraction(settings: object, *names: str, prefix: str = "") -> None:
    """Refuse numbers outside [0, 1]; see `positive`."""
    for name in names:
        if not 0 <= getattr(settings, name) <= 1:
            raise UserError(f"{prefix}{name} must lie in [0, 1], not {getattr(settings, name)}")


def below_one(settings: object, *names: str, prefix: str = "") -> None:
    """Refuse numbers outside [0, 1); see `positive`."""
    for name in names:
        if not 0 <= getattr(settings, name) < 1:
            raise UserError(f"{prefix}{name} must lie in [0, 1), not {getattr(settings, name)}")


def finite(settings: object, *names: str, prefix: str = "") -> None:
    """Refuse NaN and infinity; see `positive`."""
    for name in names:
        if not math.isfinite(getattr(settings, name)):
            raise UserError(f"{prefix}{name} must be a finite number, not {getattr(settings, name)}")
