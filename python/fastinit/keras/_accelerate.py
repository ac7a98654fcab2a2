"""Keras's own initializers, sampled by fastinit: in a context, or until it is disabled."""

from __future__ import annotations

import contextlib
import threading
from typing import TYPE_CHECKING, Any

import keras

from . import _variables
from ._private import INITIALIZE
from ._sample import ORIGINALS, leave, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class _Local(threading.local):
    """The `salt` of each context that a thread has entered, the outermost first."""

    salts: tuple[bool, ...] = ()


_local = _Local()
_lock = threading.RLock()
_contexts = 0  # in all threads
_enabled: bool | None = None  # the `salt` of `enable`; `None` if it is not in force
_replaced: dict[tuple[type, str], tuple[Any, Any]] = {}  # the attribute of a class before, and ours
_ABSENT = object()


@contextlib.contextmanager
def accelerate(*, salt: bool = False) -> Iterator[None]:
    """A context in which Keras's own initializers are sampled by fastinit.

    The code inside needs no changes: initializers may be strings, configurations, objects made before or
    inside, or the defaults of layers. Distributions and seeds are those of Keras; the values are those of
    `fastinit.keras`, the same on all backends. Weights are made when layers are built: inside the context,
    give layers an input shape, or call the model once.

    Contexts may be nested; the innermost one decides on the salt. It can be used as a decorator. It affects
    only the current thread. On exit, Keras is restored.

    Args:
        salt: Whether values depend on the path of the variable, such as `"sequential/dense/kernel"`, as well
            as on the seed. With it, variables that share an initializer, or have initializers with the same
            seed, differ. Without it they have the same values, as in Keras; a warning says so once for each
            initializer. Seed generators give different values in any case, and are not salted.

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
    """Does what `accelerate` does, in all threads, until `disable` is called.

    Args:
        salt: As for `accelerate`; inside such a context, that of the context is used.

    Example:
        >>> import keras, fastinit.keras
        >>> fastinit.keras.enable()
        >>> kernel = keras.initializers.HeNormal(seed=1)((4, 4))  # by fastinit
        >>> fastinit.keras.disable()
    """
    global _enabled
    with _lock:
        if _enabled is None:
            _enter()
        _enabled = bool(salt)


def disable() -> None:
    """Reverts `enable`; without effect if it was not called.

    Example:
        >>> import fastinit.keras
        >>> fastinit.keras.disable()
    """
    global _enabled
    with _lock:
        if _enabled is not None:
            _enabled = None
            _leave()


def _salt() -> bool | None:
    """The salt in force in this thread; `None` where Keras is not accelerated."""
    return _local.salts[-1] if _local.salts else _enabled


def _enter() -> None:
    global _contexts
    with _lock:
        _contexts += 1
        if _contexts == 1:
            for cls in ORIGINALS:
                _replace(cls, "__call__", _call)
            _replace(keras.Variable, INITIALIZE, _initialize_with_initializer)


def _leave() -> None:
    global _contexts
    with _lock:
        _contexts -= 1
        if _contexts == 0:
            for (cls, name), (before, ours) in _replaced.items():
                if vars(cls).get(name) is not ours:  # Something else has replaced it.
                    continue
                if before is _ABSENT:
                    delattr(cls, name)
                else:
                    setattr(cls, name, before)
            _replaced.clear()


def _replace(cls: type, name: str, make: Callable[[Any], Any]) -> None:
    before, inherited = vars(cls).get(name, _ABSENT), getattr(cls, name)
    ours = make(inherited)
    # Not by functools.wraps: Keras inspects the signature, and `__wrapped__` would give that of the original.
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
