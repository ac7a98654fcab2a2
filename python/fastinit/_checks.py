"""Checks of arguments that several functions share."""

from __future__ import annotations

import operator


def check_int(name: str, value: object, least: int, most: int | None = None) -> int:
    """An int in a range. The ints of NumPy count; booleans do not.

    Raises:
        TypeError: If it is not an int.
        ValueError: If it is out of range.
    """
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an int, got {value!r:.80}")
    number = operator.index(value)
    if number < least or (most is not None and number > most):
        limits = f"at least {least}" if most is None else f"from {least} to {most}"
        raise ValueError(f"{name} must be {limits}, got {number}")
    return number
