"""Which variable is being made: for salts, and for the warning about initializers that repeat themselves."""

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
    """What a thread is in."""

    path: str | None = None  # of the variable that is being made
    salt = False  # whether that is part of the key
    calls = 0  # of initializers for this variable


_local = _Local()
_lock = threading.Lock()

# The first variable of each shape that an initializer was used for.
_objects: weakref.WeakKeyDictionary[Any, dict[tuple[int, ...], str]] = weakref.WeakKeyDictionary()
_warned: weakref.WeakSet[Any] = weakref.WeakSet()

# The same by value, since Keras's composite layers clone initializers: within one layer or model.
_values: dict[tuple[Any, ...], str] = {}
_MOST_VALUES = 10_000


@contextlib.contextmanager
def making(path: str, *, salt: bool) -> Iterator[None]:
    """A context in which what initializers make is for the variable of this path."""
    before = _local.path, _local.salt, _local.calls
    _local.path, _local.salt, _local.calls = path, salt, 0
    try:
        yield
    finally:
        _local.path, _local.salt, _local.calls = before


def stream(initializer: Any, shape: tuple[int, ...]) -> int | str:
    """The stream for the next tensor that an initializer with a fixed seed makes in this thread."""
    if _local.path is None:
        return 0
    if not _local.salt:
        _notice(initializer, shape, _local.path)
        return 0
    # The bias of an LSTM, for one, is put together from several tensors.
    _local.calls += 1
    return _local.path if _local.calls == 1 else fastinit.block_stream(_local.path, _local.calls - 1)


def _notice(initializer: Any, shape: tuple[int, ...], path: str) -> None:
    """Warns, once for each initializer, where it gives a second variable the values of a first."""
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
        f"{type(initializer).__name__} with the seed {initializer.seed} gives {path!r} the same values as "
        f"{first!r}, since in Keras an initializer with a fixed seed repeats itself. Give each variable an "
        "initializer of its own, use keras.random.SeedGenerator as a seed, or say "
        "fastinit.keras.accelerate(salt=True)",
        stacklevel=2,
    )
