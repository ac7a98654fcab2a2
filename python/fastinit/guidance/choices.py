"""Initializers as arguments: one or several of them, each with a label."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from fastinit.initializers import GlorotUniform, Initializer, RandomNormal, Zeros, get

from .recommend import recommend
from .recommend.recommendation import Recommendation
from .recommend.spelling import short


class Choice(NamedTuple):
    """The initializers of a plain network."""

    kernel: Initializer
    bias: Initializer | None = None  # None where the caller decides


def parse_choices(given: Any) -> dict[str, Choice]:
    """Choices by label.

    Args:
        given: A name, a configuration, an `Initializer` or a result of `recommend`; a sequence of these; or a
            mapping of labels to them.

    Raises:
        ValueError: If there is none, one occurs twice, or a name is unknown.
        TypeError: If something is not an initializer of fastinit.

    Example:
        >>> import fastinit
        >>> from fastinit.guidance.choices import parse_choices
        >>> list(parse_choices(["zeros", fastinit.RandomNormal(stddev=1.0), fastinit.recommend("selu")]))
        ['zeros', 'RandomNormal(stddev=1)', 'LecunNormal']
    """
    if isinstance(given, Mapping) and "class_name" not in given:
        found = {str(name): _choice(one) for name, one in given.items()}
    else:
        found = {}
        for one in given if isinstance(given, Sequence) and not isinstance(given, str) else [given]:
            choice = _choice(one)
            add_label(found, one if isinstance(one, str) else label(choice.kernel), choice)
    if not found:
        raise ValueError("no initializer given: at least one is needed")
    return found


def default_choices(activation: object, param: float | None = None) -> dict[str, Choice]:
    """An instructive comparison: the recommended initializer, the usual default, and three bad choices."""
    right = _choice(recommend(activation, param=param))
    return {
        f"recommended: {label(right.kernel)}": right,
        "glorot_uniform": Choice(GlorotUniform()),
        "too small: normal, std 0.01": Choice(RandomNormal(stddev=0.01)),
        "too large: normal, std 1": Choice(RandomNormal(stddev=1.0)),
        "zeros": Choice(Zeros()),
    }


def add_label(found: dict[str, Any], name: str, value: object) -> None:
    """Adds a value under a label that is not there yet.

    Raises:
        ValueError: If it is.
    """
    if name in found:
        raise ValueError(f"the initializer {name} is given twice: pass a mapping of labels to initializers")
    found[name] = value


def _choice(given: Any) -> Choice:
    if not isinstance(given, Recommendation):
        return Choice(initializer(given))
    if "kernel" not in given.weights or given.layout != "in_out":
        raise ValueError(
            "a recommendation must be for a layer with a weight 'kernel' in the layout 'in_out', got one for "
            f"{given.layer!r} in {given.layout!r}"
        )
    return Choice(given.weights["kernel"], given.weights["bias"])


def initializer(given: Any) -> Initializer:
    """The initializer that a name, a configuration or an object stands for.

    Raises:
        ValueError: If a name is unknown.
        TypeError: If it is not an initializer of fastinit.
    """
    found = get(dict(given) if isinstance(given, Mapping) else given)
    if not isinstance(found, Initializer):
        raise TypeError(
            "an initializer must be a name, a configuration or an object of fastinit, such as "
            f"fastinit.HeNormal(), got {given!r:.200}"
        )
    return found


def label(initializer: Initializer) -> str:
    """The class, and the parameters that are not the default."""
    return short(initializer).removesuffix("()")
