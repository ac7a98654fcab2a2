"""Keras's own initializers, sampled by fastinit: in a context, or until it is disabled.

The only state is which contexts are open; which methods are in place follows from it. So entering and
leaving can be repeated, and are repeated where an interrupt stopped them. If something else puts a method of
ours back while no context is open, it does what Keras's does.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import inspect
import itertools
import operator
import threading
from typing import TYPE_CHECKING, Any, NamedTuple

import keras

from . import _variables
from ._private import INITIALIZE
from ._sample import ORIGINALS, leave, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


class _Local(threading.local):
    """The identity of a thread. The numbers of threads are used again."""

    def __init__(self) -> None:
        self.thread = object()


_local = _Local()

# The thread of each open context, or `None` for all threads, and its salt; the one entered first comes first.
_contexts: dict[object, tuple[object, bool]] = {}

# That of `enable`.
_EVERYWHERE = object()


@contextlib.contextmanager
def accelerate(*, salt: bool = False) -> Iterator[None]:
    """A context in which Keras's own initializers are sampled by fastinit.

    The code inside needs no changes: initializers may be strings, configurations, objects made before or
    inside, or the defaults of layers. Distributions and seeds are those of Keras; the values are those of
    `fastinit.keras`, the same on all backends. Weights are made when layers are built: inside the context,
    give layers an input shape, or call the model once.

    Contexts may be nested; the innermost one decides on the salt. It can be used as a decorator. It affects
    only the current thread. On exit, also in another thread, Keras is restored.

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
    context, salt = object(), bool(salt)
    try:
        try:
            _open(context, _local.thread, salt=salt)
            yield
        finally:
            _close(context)
    finally:
        _close(context)  # where the first was interrupted


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
    salt = bool(salt)
    try:
        _open(_EVERYWHERE, None, salt=salt)
    finally:
        _open(_EVERYWHERE, None, salt=salt)  # where the first was interrupted


def disable() -> None:
    """Reverts `enable`; without effect if it was not called.

    Example:
        >>> import fastinit.keras
        >>> fastinit.keras.disable()
    """
    try:
        _close(_EVERYWHERE)
    finally:
        _close(_EVERYWHERE)  # where the first was interrupted


def _open(context: object, thread: object, *, salt: bool) -> None:
    _contexts[context] = thread, salt
    _settle()


def _close(context: object) -> None:
    _contexts.pop(context, None)
    _settle()


def _salt() -> bool | None:
    """The salt in force in this thread; `None` where Keras is not accelerated."""
    salts = dict(_contexts.copy().values())  # the last one of each thread
    return salts.get(_local.thread, salts.get(None))


# Methods


class _Method(NamedTuple):
    """A method of a class of Keras, and ours."""

    owner: type
    name: str
    versions: tuple[Callable[..., Any], Callable[..., Any]]


def _method(cls: type, name: str, make: Callable[[Any], Any]) -> _Method:
    owner = next(base for base in cls.__mro__ if name in vars(base))
    original = vars(owner)[name]
    ours = make(original)
    # Keras looks for a layout among the parameters, so they are those of ours.
    signature = inspect.signature(ours)
    functools.update_wrapper(ours, original)
    ours.__signature__ = signature
    return _Method(owner, name, (original, ours))


def _settle() -> None:
    """Puts the methods in place that the open contexts ask for, except where something else is in place."""
    wanted = bool(_contexts)
    others = [m for m in _METHODS if vars(m.owner).get(m.name) is m.versions[not wanted]]
    if others:
        owners, names, versions = zip(*others, strict=True)
        # One call of C, in which no interrupt arrives and no other thread opens or closes a context.
        chosen = map(operator.getitem, versions, map(bool, itertools.repeat(_contexts)))
        collections.deque(map(setattr, owners, names, chosen), maxlen=0)


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
        else:
            _variables.make(self.path, salt, functools.partial(original, self, initializer))

    return initialize


_METHODS = (
    *(_method(cls, "__call__", _call) for cls in ORIGINALS),
    _method(keras.Variable, INITIALIZE, _initialize_with_initializer),
)
