"""Initializers as arguments: one or several of them, each with a label."""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import fastinit


def named(initializers: Any) -> dict[str, fastinit.Initializer]:
    """Initializers by label.

    Args:
        initializers: A name, a configuration or an `Initializer`; a sequence of these; or a mapping of labels
            to them.

    Raises:
        ValueError: If there is none, one occurs twice, or a name is unknown.
        TypeError: If something is no initializer of fastinit.

    Example:
        >>> import fastinit
        >>> from fastinit.guidance._named import named
        >>> named(["zeros", fastinit.RandomNormal(stddev=1.0)])
        {'zeros': Zeros(), 'RandomNormal(stddev=1.0)': RandomNormal(mean=0.0, stddev=1.0, seed=None)}
    """
    if isinstance(initializers, Mapping) and "class_name" not in initializers:
        found = {str(name): initializer(given) for name, given in initializers.items()}
    else:
        several = isinstance(initializers, Sequence) and not isinstance(initializers, str)
        found = {}
        for given in initializers if several else [initializers]:
            name = given if isinstance(given, str) else label(initializer(given))
            if name in found:
                raise ValueError(f"the initializer {name} is there twice")
            found[name] = initializer(given)
    if not found:
        raise ValueError("there is no initializer: give one or more")
    return found


def initializer(given: Any) -> fastinit.Initializer:
    """The initializer that a name, a configuration or an object stands for."""
    found = fastinit.get(dict(given) if isinstance(given, Mapping) else given)
    if not isinstance(found, fastinit.Initializer):
        raise TypeError(
            "an initializer must be a name, a configuration or an object of fastinit, as "
            f"fastinit.HeNormal(); got {given!r}"
        )
    return found


def label(initializer: fastinit.Initializer) -> str:
    """The class, and the parameters that are not the default."""
    parameters = inspect.signature(type(initializer)).parameters
    config = initializer.get_config().items()
    changed = [f"{name}={value!r}" for name, value in config if value != parameters[name].default]
    return type(initializer).__name__ + (f"({', '.join(changed)})" if changed else "")
