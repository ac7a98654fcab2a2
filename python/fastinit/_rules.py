"""What the rules of all adapters have in common: which tensors they are for, and what they say."""

from __future__ import annotations

import fnmatch
import re
from typing import TYPE_CHECKING

import fastinit

if TYPE_CHECKING:
    from collections.abc import Iterable


def matches(key: object, names: Iterable[str]) -> bool:
    """Whether a key of rules is for a tensor of these names.

    Raises:
        TypeError: If the key is neither a str nor a compiled regular expression.
    """
    if isinstance(key, str):
        return any(fnmatch.fnmatchcase(name, key) for name in names)
    if isinstance(key, re.Pattern):
        return any(key.search(name) for name in names)
    raise TypeError(f"the key of a rule must be a str or a compiled regular expression, got {key!r}")


def text_of(key: object) -> str:
    """A key of rules as text."""
    return str(key.pattern) if isinstance(key, re.Pattern) else str(key)


def initializer_of(rule: object) -> fastinit.Initializer | None:
    """The initializer that a rule is or names; `None` if it is something else.

    Raises:
        ValueError: If the name of an initializer is unknown.
    """
    if isinstance(rule, str):
        rule = fastinit.get(rule)
    elif isinstance(rule, (int, float)) and not isinstance(rule, bool):
        rule = fastinit.Constant(rule)
    return rule if isinstance(rule, fastinit.Initializer) else None
