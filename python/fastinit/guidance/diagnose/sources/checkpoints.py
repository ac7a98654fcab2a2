"""Checkpoints: the weights among what else a training program saves."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from ..tensors import Skipped
from . import torch
from .arrays import is_array

# Where programs save the weights: Lightning, PyTorch's tutorials, DeepSpeed, timm, BasicSR, Flax.
_WEIGHTS = (
    "state_dict",
    "model_state_dict",
    "model_state",
    "model",
    "module",
    "params",
    "net",
    "network",
    "weights",
)
# What DistributedDataParallel, `torch.compile` and a LightningModule put before each name.
_PREFIXES = ("module.", "_orig_mod.", "model.")
_OTHERS = (
    (re.compile(r"optim|opt_state|scheduler|scaler|^opt$"), "it is the state of an optimizer"),
    (re.compile(r"(^|_)(ema|swa|average[ds]?)(_|$)"), "it is an average of the weights"),
)


# Mappings in each other, and the entries of those that are in a checkpoint more than once.
_DEEPEST = 100
_MOST_REPEATED = 2**16


def check_nesting(x: Mapping[Any, Any], what: str) -> None:
    """Refuses mappings in mappings that never end, or whose names are many more than their entries.

    Raises:
        ValueError: If mappings are nested too deeply, as those that contain themselves are, or the same ones
            occur at too many places.
    """
    waiting: list[tuple[Mapping[Any, Any], int]] = [(x, 1)]
    seen: dict[int, Mapping[Any, Any]] = {}  # keeps them, so that no other object gets their identity
    repeated = 0
    while waiting:
        one, depth = waiting.pop()
        if depth > _DEEPEST:
            raise ValueError(
                f"{what} has mappings nested deeper than {_DEEPEST}, or one that contains itself"
            )
        repeated += len(one) if id(one) in seen else 0
        if repeated > _MOST_REPEATED:
            raise ValueError(f"{what} has the same mappings at too many places, with {repeated:,} entries")
        seen[id(one)] = one
        waiting.extend((value, depth + 1) for value in one.values() if isinstance(value, Mapping))


def unwrapped(x: Mapping[Any, Any], *, is_file: bool) -> tuple[Mapping[Any, Any], list[str], list[Skipped]]:
    """The weights in a checkpoint, what was assumed about it, and what is skipped.

    A mapping that is no checkpoint is returned as it is.
    """
    skipped: list[Skipped] = []
    place: list[str] = []
    while (found := _weights(x)) is not None:
        x, inner, others = found
        skipped += others
        if inner is None:
            break
        place.append(inner)
        x = x[inner]
    notes = [f"the weights are those in {'.'.join(place)!r} of the checkpoint"] if place else []
    prefix = ""
    while place or is_file:
        longer = next((f"{prefix}{end}" for end in _PREFIXES if _all_begin(x, f"{prefix}{end}")), None)
        # Models of one part are called `model`, too, unless Lightning saved them.
        if longer is None or (longer.endswith("model.") and "state_dict" not in place):
            break
        prefix = longer
    if prefix:
        x = {name[len(prefix) :]: value for name, value in x.items()}
        notes.append(f"their names are without the prefix {prefix!r}")
    return x, notes, skipped


def _weights(x: Mapping[Any, Any]) -> tuple[Mapping[Any, Any], str | None, list[Skipped]] | None:
    """A checkpoint without what else is in it, and the name of the weights; `None` if it is none."""
    skipped, parts = [], {}
    for name, value in x.items():
        why = next((why for pattern, why in _OTHERS if pattern.search(str(name).lower())), None)
        if why is not None and not _is_tensor(value):
            skipped.append(Skipped(str(name), why))
        elif has_tensors(value):
            parts[name] = value
    inner = next((name for name in _WEIGHTS if isinstance(parts.get(name), Mapping)), None)
    if inner is None:
        return (
            (parts, None, skipped)
            if skipped and any(isinstance(v, Mapping) for v in parts.values())
            else None
        )
    if len(parts) == 1:
        weights = parts[inner]
        is_flat = not any(isinstance(value, Mapping) for value in weights.values())
        is_nested = is_flat or len(parts) < len(x) or _weights(weights) is not None
        return (parts, inner, skipped) if is_nested else None
    return (parts, None, skipped) if len(parts) < len(x) else None


def _is_tensor(value: Any) -> bool:
    return torch.is_tensor(value) or is_array(value)


def has_tensors(value: Any) -> bool:
    """Whether it is a tensor, or a mapping that has one at any depth."""
    if isinstance(value, Mapping):
        return any(map(has_tensors, value.values()))
    return _is_tensor(value)


def _all_begin(x: Mapping[Any, Any], prefix: str) -> bool:
    return bool(x) and all(isinstance(name, str) and name.startswith(prefix) for name in x)
