"""Checks of arguments that several functions share."""

from __future__ import annotations

import contextlib
import math
import numbers
import operator
from typing import TYPE_CHECKING

import numpy as np

from ._suggest import did_you_mean

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator


@contextlib.contextmanager
def located(place: str) -> Iterator[None]:
    """A context in which the messages of a `TypeError` or a `ValueError` begin with a place."""
    try:
        yield
    except (TypeError, ValueError) as error:
        kind = TypeError if isinstance(error, TypeError) else ValueError
        raise kind(f"{place}: {error}") from error


def check_int(name: str, value: object, least: int, most: int | None = None) -> int:
    """An int in a range. The ints of NumPy count; booleans do not.

    Raises:
        TypeError: If it is not an int.
        ValueError: If it is out of range.
    """
    # NumPy before 2.3 takes its booleans as indices.
    if isinstance(value, (bool, np.bool_)) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an int, got {value!r:.80}")
    number = operator.index(value)
    if number < least or (most is not None and number > most):
        limits = f"at least {least}" if most is None else f"from {least} to {most}"
        limits = limits.replace(str(2**64 - 1), "2**64 - 1")
        raise ValueError(f"{name} must be {limits}, got {number}")
    return number


def check_number(name: str, value: object) -> float:
    """A finite number. The numbers of NumPy count; booleans do not.

    Raises:
        TypeError: If it is not a number.
        ValueError: If it is not finite, or too large for a double.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a number, got {value!r:.80}")
    try:
        number = float(value)
    except OverflowError:  # an int or a fraction
        number = math.inf
    if not math.isfinite(number):
        raise ValueError(f"{name} must be finite, got {value!r:.80}")
    return number


def check_choice(name: str, value: object, known: Iterable[str]) -> str:
    """One of a few known strings.

    Raises:
        ValueError: If it is none of them.

    Example:
        >>> from fastinit._checks import check_choice
        >>> check_choice("mode", "fan_inn", ["fan_in", "fan_avg"])
        Traceback (most recent call last):
        ...
        ValueError: mode must be one of fan_in, fan_avg, got 'fan_inn', did you mean 'fan_in'?
    """
    known = tuple(known)
    if isinstance(value, str) and value in known:
        return value
    raise ValueError(
        f"{name} must be one of {', '.join(known)}, got {value!r:.80}{did_you_mean(value, known)}"
    )
