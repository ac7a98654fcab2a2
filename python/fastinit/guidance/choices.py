"""Initializers as arguments: one or several of them, each with a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import fastinit

from .recommend import recommend
from .recommend.recommendation import Recommendation
from .recommend.spelling import short


class Choice(NamedTuple):
    """What to begin a plain network with."""

    kernel: fastinit.Initializer
    bias: fastinit.Initializer | None = None  # where it is part of the choice


def named(given: Any) -> dict[str, Choice]:
    """Choices by label.

    Args:
        given: A name, a configuration, an `Initializer` or an answer of `recommend`; a sequence of these; or
            a mapping of labels to them.

    Raises:
        ValueError: If there is none, one occurs twice, or a name is unknown.
        TypeError: If something is no initializer of fastinit.

    Example:
        >>> import fastinit
        >>> from fastinit.guidance._named import named
        >>> list(named(["zeros", fastinit.RandomNormal(stddev=1.0), fastinit.recommend("selu")]))
        ['zeros', 'RandomNormal(stddev=1)', 'LecunNormal']
    """
    if isinstance(given, Mapping) and "class_name" not in given:
        found = {str(name): _choice(one) for name, one in given.items()}
    else:
        found = {}
        for one in given if isinstance(given, Sequence) and not isinstance(given, str) else [given]:
            choice = _choice(one)
            name = one if isinstance(one, str) else label(choice.kernel)
            if name in found:
                raise ValueError(f"the initializer {name} is there twice: give labels, in a mapping")
            found[name] = choice
    if not found:
        raise ValueError("there is no initializer: give one or more")
    return found


def telling(activation: object, param: float | None = None) -> dict[str, Choice]:
    """What shows most: what is right for an activation, the usual default, and what cannot do."""
    right = _choice(recommend(activation, param=param))
    return {
        f"recommended: {label(right.kernel)}": right,
        "glorot_uniform": Choice(fastinit.GlorotUniform()),
        "too small: normal, std 0.01": Choice(fastinit.RandomNormal(stddev=0.01)),
        "too large: normal, std 1": Choice(fastinit.RandomNormal(stddev=1.0)),
        "zeros": Choice(fastinit.Zeros()),
    }


def _choice(given: Any) -> Choice:
    if isinstance(given, Choice):
        return given
    if not isinstance(given, Recommendation):
        return Choice(initializer(given))
    if "kernel" not in given.weights or given.layout != "keras":
        raise ValueError(
            "a recommendation must be of a layer with a weight 'kernel', in the layout 'keras'; got one for "
            f"{given.layer!r} in {given.layout!r}"
        )
    return Choice(given.weights["kernel"], given.weights["bias"])


def initializer(given: Any) -> fastinit.Initializer:
    """The initializer that a name, a configuration or an object stands for."""
    found = fastinit.get(dict(given) if isinstance(given, Mapping) else given)
    if not isinstance(found, fastinit.Initializer):
        raise TypeError(
            "an initializer must be a name, a configuration or an object of fastinit, as "
            f"fastinit.HeNormal(); got {given!r:.200}"
        )
    return found


def label(initializer: fastinit.Initializer) -> str:
    """The class, and the parameters that are not the default."""
    return short(initializer).removesuffix("()")
