"""Unmodified code, faster: Keras's own initializers are led to fastinit for a while, or for good."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import keras

from . import _variables
from ._sample import ORIGINALS, leave, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class _Local(threading.local):
    """What a thread is in: the `salt` of each context, from the outermost on."""

    salts: tuple[bool, ...] = ()


_local = _Local()
_lock = threading.RLock()
_contexts = 0  # in all threads
_for_good: bool | None = None  # the `salt` of `enable`
_replaced: dict[tuple[type, str], tuple[Any, Any]] = {}  # what stood there in the class, and what stands now
_ABSENT = object()


@contextlib.contextmanager
def accelerate(*, salt: bool = False) -> Iterator[None]:
    """A context in which Keras's own initializers are sampled by fastinit.

    Code inside runs unmodified: it does not matter whether initializers are given as strings, configurations
    or objects, made before or inside, or are the defaults of layers. Laws and seeds are those of Keras, the
    numbers are those of `fastinit.keras`, and the same on all backends. Weights are made when layers are
    built: give layers an input shape inside, or call the model once.

    It may be nested, where the innermost decides on the salt, and used as a decorator. It concerns the
    thread that enters it alone. On exit everything is as it was before.

    Args:
        salt: Whether the path of a variable, as `"sequential/dense/kernel"`, is part of what the values
            depend on, beside the seed. Then variables that share an initializer, or have initializers of
            the same seed, differ. Without it they have the same values, as in Keras; a warning says so, once
            for each initializer. Seed generators give different values in any case, and are not salted.

    Example:
        >>> import keras, fastinit.keras
        >>> with fastinit.keras.accelerate():
        ...     model = keras.Sequential([keras.Input((64,)), keras.layers.Dense(32, "relu")])
        >>> model.count_params()
        2080
    """
    _enter()
    _local.salts = (*_local.salts, bool(salt))
    try:
        yield
    finally:
        _local.salts = _local.salts[:-1]
        _leave()


def enable(*, salt: bool = False) -> None:
    """Does what `accelerate` does, in all threads and until `disable` is called.

    Args:
        salt: As for `accelerate`; a context of that decides for itself.

    Example:
        >>> import keras, fastinit.keras
        >>> fastinit.keras.enable()
        >>> kernel = keras.initializers.HeNormal(seed=1)((4, 4))  # by fastinit
        >>> fastinit.keras.disable()
    """
    global _for_good
    with _lock:
        if _for_good is None:
            _enter()
        _for_good = bool(salt)


def disable() -> None:
    """Ends what `enable` has begun, if it has.

    Example:
        >>> import fastinit.keras
        >>> fastinit.keras.disable()
    """
    global _for_good
    with _lock:
        if _for_good is not None:
            _for_good = None
            _leave()


def _salt() -> bool | None:
    """The salt that is in force in this thread; `None` where Keras is to be left alone."""
    return _local.salts[-1] if _local.salts else _for_good


def _enter() -> None:
    global _contexts
    with _lock:
        _contexts += 1
        if _contexts == 1:
            for cls in ORIGINALS:
                _replace(cls, "__call__", _call)
            _replace(keras.Variable, "_initialize_with_initializer", _initialize_with_initializer)


def _leave() -> None:
    global _contexts
    with _lock:
        _contexts -= 1
        if _contexts == 0:
            for (cls, name), (before, ours) in _replaced.items():
                if vars(cls).get(name) is not ours:  # Somebody has put his in its place.
                    continue
                if before is _ABSENT:
                    delattr(cls, name)
                else:
                    setattr(cls, name, before)
            _replaced.clear()


def _replace(cls: type, name: str, make: Callable[[Any], Any]) -> None:
    before, inherited = vars(cls).get(name, _ABSENT), getattr(cls, name)
    ours = make(inherited)
    # Not by functools.wraps: Keras looks at the signature, to which that would add the original.
    for attribute in ("__module__", "__name__", "__qualname__", "__doc__"):
        setattr(ours, attribute, getattr(inherited, attribute))
    _replaced[cls, name] = before, ours
    setattr(cls, name, ours)


def _call(_: Callable[..., Any]) -> Callable[..., Any]:
    def call(self: Any, shape: Any, dtype: Any = None, layout: Any = None) -> Any:
        if _salt() is None:
            return leave(self, shape, dtype, layout)
        return sample(self, shape, dtype, layout)

    return call


def _initialize_with_initializer(original: Callable[..., None]) -> Callable[..., None]:
    def initialize(self: Any, initializer: Any) -> None:
        salt = _salt()
        if salt is None:
            original(self, initializer)
            return
        with _variables.making(self.path, salt=salt):
            original(self, initializer)

    return initialize
