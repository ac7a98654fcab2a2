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


def in_layout_of_torch(initializer: fastinit.Initializer) -> fastinit.Initializer:
    """The initializer with PyTorch's axes, `(out, in, *kernel)`, where it has the default ones.

    Raises:
        TypeError: If its outputs are the last axis in any case.
    """
    if isinstance(initializer, (fastinit.Dirac, fastinit.DeltaOrthogonal)):
        raise TypeError(
            f"{type(initializer).__name__} is for kernels whose outputs are the last axis; "
            "use fastinit.torch.dirac_ or a function of your own"
        )
    config = initializer.get_config()
    if config.get("in_axis") == -2 and config.get("out_axis") == -1:
        config.update(in_axis=1, out_axis=0)
    if config.get("column_axis") == -1:
        config.update(column_axis=0)
    if config.get("block_axis", 0) is None and not {"out_axis", "column_axis"} & config.keys():
        config.update(block_axis=0)
    return type(initializer).from_config(config)
