"""Rules and blocks: which tensors of a model they are for, by name or by type of module."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch

import fastinit
from fastinit._checks import check_int
from fastinit._rules import in_layout_of_torch, initializer_of, matches, text_of

from . import _fill

if TYPE_CHECKING:
    from collections.abc import Callable

    from torch import Tensor
    from torch.nn import Module

    from ._tracker import Entry

    # Keys are names, compiled regular expressions and, of rules, types of modules.
    Rules = Mapping[Any, Any] | Callable[[Module], object] | None
    Blocks = Mapping[Any, int | Sequence[int]] | None


@dataclass(frozen=True, eq=False)
class Rule:
    """How to fill a tensor; without `fill`, it is left as it is."""

    title: str
    fill: Callable[[Tensor], object] | None


def assign_rules(rules: Rules, entries: Sequence[Entry]) -> list[str]:
    """Assigns rules to parameters.

    Returns:
        The titles of those that match nothing.

    Raises:
        TypeError: If a rule, or the key of one, is of the wrong kind.
        ValueError: If the name of an initializer is unknown.
    """
    if rules is None or (callable(rules) and not isinstance(rules, fastinit.Initializer)):
        return []
    if not isinstance(rules, Mapping):
        raise TypeError(f"rules must be a mapping or a function of a module, got {type(rules).__name__}")
    entries = [entry for entry in entries if entry.is_parameter]
    unused = {}
    by_type: dict[type[Module], dict[str, Rule]] = {}
    for key, value in rules.items():
        if isinstance(key, type) and issubclass(key, torch.nn.Module):
            of_type = value if isinstance(value, Mapping) else {"weight": value}
            by_type[key] = {
                name: Rule(f"{key.__name__}.{name}", _as_function(rule)) for name, rule in of_type.items()
            }
            unused.update({rule: rule.title for rule in by_type[key].values()})
            continue
        rule = Rule(text_of(key), _as_function(value))
        matching = _matching(key, entries)
        if not matching:
            unused[rule] = rule.title
        for entry in matching:
            entry.rule = entry.rule or rule
    for entry in entries:
        module, attribute = entry.places[0]
        kind = next((kind for kind in by_type if isinstance(module, kind)), None)
        if kind is not None and attribute in by_type[kind]:
            rule = by_type[kind][attribute]
            unused.pop(rule, None)
            entry.rule = entry.rule or rule
    return list(unused.values())


def assign_blocks(blocks: Blocks, entries: Sequence[Entry]) -> list[str]:
    """Assigns blocks to parameters.

    Returns:
        The patterns that match nothing.

    Raises:
        TypeError: If a key or a number of blocks is of the wrong kind.
        ValueError: If blocks do not fit their parameter.
    """
    if not isinstance(blocks, Mapping | None):
        raise TypeError(f"blocks must be a mapping, got {type(blocks).__name__}")
    unused = []
    for key, value in (blocks or {}).items():
        matching = _matching(key, [entry for entry in entries if entry.is_parameter])
        if not matching:
            unused.append(text_of(key))
        for entry in matching:
            entry.sizes = entry.sizes or _block_sizes(entry, value)
    return unused


def _matching(key: object, entries: Sequence[Entry]) -> list[Entry]:
    """The entries that have a name that matches."""
    if not isinstance(key, (str, re.Pattern)):
        raise TypeError(
            "the key of a rule must be a str, a compiled regular expression or a type of modules, "
            f"that of blocks a str or a compiled regular expression; got {key!r}"
        )
    return [entry for entry in entries if matches(key, entry.names)]


def _block_sizes(entry: Entry, value: int | Sequence[int]) -> tuple[int, ...]:
    shape = tuple(entry.value.shape)
    length = shape[0] if shape else 0
    if isinstance(value, Sequence) and not isinstance(value, str):
        sizes = tuple(check_int(f"the blocks of {entry.name}", size, 1) for size in value)
        if sum(sizes) != length:
            raise ValueError(f"the blocks of {entry.name}, {sizes}, must add up to {length}")
        return sizes
    count = check_int(f"the number of blocks of {entry.name}", value, 1)
    if length == 0 or length % count:
        raise ValueError(f"the number of blocks of {entry.name}, {count}, must divide {length}")
    return (length // count,) * count


def _as_function(rule: object) -> Callable[[Tensor], object] | None:
    """A rule as a function that fills a tensor."""
    if rule is None:
        return None
    initializer = initializer_of(rule)
    if initializer is not None:
        return _filling_by(in_layout_of_torch(initializer))
    if callable(rule) and not isinstance(rule, type):
        return rule
    raise TypeError(
        "a rule must be a function of a tensor, an initializer of fastinit or its name, a number or None; "
        f"got {rule!r}"
    )


def _filling_by(initializer: fastinit.Initializer) -> Callable[[Tensor], Tensor]:
    """A function that fills a tensor by an initializer."""

    def make() -> fastinit.Initializer:
        return initializer

    def refuse(tensor: Tensor) -> Tensor:
        if _fill.is_supported(tensor) and not _fill.is_known(tensor):
            return tensor.copy_(fill(torch.empty(tensor.shape, dtype=tensor.dtype)))
        if _fill.note(tensor, initializer):
            return tensor
        initializer.check(tuple(tensor.shape))  # Its error says more, if it raises one.
        raise TypeError(
            f"{initializer} cannot fill a tensor of shape {tuple(tensor.shape)} and {tensor.dtype}"
        )

    def fill(tensor: Tensor) -> Tensor:
        return _fill.fill(tensor, make, (), refuse, None, check=torch.Tensor.zero_)

    return fill
