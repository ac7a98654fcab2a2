"""The variable that is being made: for the salt, and for the warning about repeated values."""

from __future__ import annotations

import contextlib
import threading
import warnings
import weakref
from typing import TYPE_CHECKING, Any

import fastinit

if TYPE_CHECKING:
    from collections.abc import Iterator


class _Local(threading.local):
    """The state of a thread."""

    path: str | None = None  # of the variable that is being made
    salt = False  # whether the path is part of the key
    calls = 0  # of initializers for this variable


_local = _Local()
_lock = threading.Lock()

# The first variable of each shape that an initializer was used for.
_objects: weakref.WeakKeyDictionary[Any, dict[tuple[int, ...], str]] = weakref.WeakKeyDictionary()
_warned: weakref.WeakSet[Any] = weakref.WeakSet()

# The same by seed, within one layer or model, since Keras's composite layers clone initializers.
_values: dict[tuple[Any, ...], str] = {}
_MOST_VALUES = 10_000


@contextlib.contextmanager
def making(path: str, *, salt: bool) -> Iterator[None]:
    """A context in which initializers make the values of the variable with this path."""
    before = _local.path, _local.salt, _local.calls
    _local.path, _local.salt, _local.calls = path, salt, 0
    try:
        yield
    finally:
        _local.path, _local.salt, _local.calls = before


def stream(initializer: Any, shape: tuple[int, ...]) -> int | str:
    """The stream of the next tensor of an initializer with a fixed seed, in this thread."""
    if _local.path is None:
        return 0
    if not _local.salt:
        _notice(initializer, shape, _local.path)
        return 0
    # Some variables are concatenated from several tensors, such as the bias of an LSTM.
    _local.calls += 1
    return _local.path if _local.calls == 1 else fastinit.block_stream(_local.path, _local.calls - 1)


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
    warnings.warn(
        f"{type(initializer).__name__} with seed {initializer.seed} gives {path!r} the same values as "
        f"{first!r}: in Keras, an initializer with a fixed seed returns the same values at every call. Use a "
        "separate initializer for each variable, a keras.random.SeedGenerator as the seed, or "
        "fastinit.keras.accelerate(salt=True)",
        stacklevel=2,
    )
