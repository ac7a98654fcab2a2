"""The variable that is being made: for the salt, and for the warning about repeated values."""

from __future__ import annotations

import importlib
import os
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import keras

import fastinit
from fastinit import _terminal

if TYPE_CHECKING:
    from collections.abc import Callable


@dataclass
class _Variable:
    path: str
    salt: bool  # whether the path is part of the key
    calls: int = 0  # of initializers for it


class _Local(threading.local):
    """The state of a thread."""

    variable: _Variable | None = None  # that is being made


_local = _Local()
_lock = threading.Lock()

# The first variable of each shape that an initializer was used for.
_objects: weakref.WeakKeyDictionary[Any, dict[tuple[int, ...], str]] = weakref.WeakKeyDictionary()
_warned: weakref.WeakSet[Any] = weakref.WeakSet()

# The same by seed, within one layer or model, since Keras's composite layers clone initializers.
_values: dict[tuple[Any, ...], str] = {}
_MOST_VALUES = 10_000

# Folders of files that the warning does not point to: ours, Keras's, and those of the backend.
_BACKEND: Any = importlib.import_module(keras.config.backend())
_INNER = tuple(str(Path(file).parent) + os.sep for file in (__file__, keras.__file__, _BACKEND.__file__))


def make(path: str, salt: bool, call: Callable[[], None]) -> None:  # noqa: FBT001
    """Calls what makes the values of the variable with this path."""
    before = _local.variable
    try:
        try:
            _local.variable = _Variable(path, salt)
            call()
        finally:
            _local.variable = before
    finally:
        _local.variable = before  # where the first was interrupted


def stream(initializer: Any, shape: tuple[int, ...]) -> int | str:
    """The stream of the next tensor of an initializer with a fixed seed, in this thread."""
    variable = _local.variable
    if variable is None:
        return 0
    if not variable.salt:
        _notice(initializer, shape, variable.path)
        return 0
    # Some variables are concatenated from several tensors, such as the bias of an LSTM.
    variable.calls += 1
    return variable.path if variable.calls == 1 else fastinit.block_stream(variable.path, variable.calls - 1)


def _notice(initializer: Any, shape: tuple[int, ...], path: str) -> None:
    """Warns, once for each initializer, if it gives two variables the same values."""
    with _lock:
        first = _objects.setdefault(initializer, {}).setdefault(shape, path)
        root, _, rest = path.partition("/")
        if "/" in rest:
            if len(_values) >= _MOST_VALUES:
                _values.clear()
            value = (root, type(initializer), initializer.seed, shape)
            other = _values.setdefault(value, path)
            first = other if first == path else first
        if first == path or initializer in _warned:
            return
        _warned.add(initializer)
    _terminal.warn(
        f"{type(initializer).__name__} with seed {initializer.seed} gives {path!r} the same values as "
        f"{first!r}: in Keras, an initializer with a fixed seed returns the same values at every call. Use a "
        "separate initializer for each variable, a keras.random.SeedGenerator as the seed, or "
        "fastinit.keras.accelerate(salt=True)",
        _INNER,
    )
