"""Initializers as arguments: one or several of them, each with a label."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, TypeVar

from fastinit.initializers import GlorotUniform, Initializer, RandomNormal, Zeros, get

from .recommend import recommend
from .recommend.recommendation import Recommendation
from .recommend.spelling import short

_T = TypeVar("_T")


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
    found = by_label(given, _choice, lambda choice: label(choice.kernel))
    if not found:
        raise ValueError("no initializer given: at least one is needed")
    return found


def default_choices(
    activation: object, param: float | None = None, depth: int | None = None
) -> dict[str, Choice]:
    """An instructive comparison: the recommended initializer, the usual default, and three bad choices."""
    right = _choice(recommend(activation, param=param, depth=depth))
    return {
        f"recommended: {label(right.kernel)}": right,
        "glorot_uniform": Choice(GlorotUniform()),
        "too small: normal, std 0.01": Choice(RandomNormal(stddev=0.01)),
        "too large: normal, std 1": Choice(RandomNormal(stddev=1.0)),
        "zeros": Choice(Zeros()),
    }


def by_label(given: Any, parse: Callable[[Any], _T], name_of: Callable[[_T], str]) -> dict[str, _T]:
    """One item, a sequence of items or a mapping of labels to items, as parsed items by label.

    The label of an item is the item itself if it is a name, and otherwise `name_of(parse(item))`.

    Raises:
        ValueError: If a label occurs twice.
    """
    if isinstance(given, Mapping) and "class_name" not in given:
        return {str(name): parse(one) for name, one in given.items()}
    found: dict[str, _T] = {}
    for one in given if isinstance(given, Sequence) and not isinstance(given, str) else [given]:
        parsed = parse(one)
        name = one if isinstance(one, str) else name_of(parsed)
        if name in found:
            raise ValueError(
                f"the initializer {name} is given twice: pass a mapping of labels to initializers"
            )
        found[name] = parsed
    return found


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
    """The initializer for a name, a configuration or an object.

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
