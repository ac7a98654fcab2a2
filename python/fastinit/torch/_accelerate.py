"""Unmodified code, faster: PyTorch's own sampling is led to fastinit for a while.

Two ways lead here, and both ask what the thread that comes along is in:

* Methods and functions that PyTorch offers to a `TorchFunctionMode`, which is a thing of one thread.
* Functions of `torch.nn.init` and of timm that it does not offer. These are detoured: the code of the
  function object itself begins with a question for as long as any thread is inside. So it does not matter
  where their names were imported to, or when, and nothing but the code has to be put back.
"""

from __future__ import annotations

import contextlib
import functools
import sys
import threading
from types import FunctionType
from typing import TYPE_CHECKING, Any, TypeGuard

import torch
from torch.overrides import TorchFunctionMode

from . import _fill, _functions

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Generator, Tensor


@contextlib.contextmanager
def accelerate() -> Iterator[None]:
    """A context in which PyTorch's own sampling is done by fastinit.

    Code inside runs unmodified: constructors of `torch.nn`, `reset_parameters`, models of transformers and
    timm, code of your own. It does not matter where it has its functions from. Sampled here are:

    * all random functions of `torch.nn.init`, under all names; `dirac_`, and for shards `eye_`;
    * `Tensor.normal_` and `Tensor.uniform_`;
    * `torch.randn`, `torch.rand`, `torch.randn_like`, `torch.rand_like` and, with numbers and a size,
      `torch.normal`;
    * timm's `trunc_normal_` and `trunc_normal_tf_`, if timm was imported before.

    The laws are those of PyTorch, the numbers are not; seeds are drawn, tensors filled, and others left to
    PyTorch as `fastinit.torch` says. So `torch.manual_seed` makes a run repeatable.

    It may be nested, and used as a decorator. Like `with torch.device(...)`, with which it can be combined in
    either order, it concerns the thread that enters it alone. On exit everything is as it was before.

    Example:
        >>> import torch, fastinit.torch
        >>> _ = torch.manual_seed(0)
        >>> with fastinit.torch.accelerate():
        ...     model = torch.nn.TransformerEncoderLayer(64, 4)
        >>> round(model.linear1.weight.abs().max().item(), 3)  # 1 / sqrt(64), as always
        0.125
    """
    with detours(), Mode():
        yield


class Mode(TorchFunctionMode):
    """Leads what PyTorch offers to it to fastinit."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Does what was called."""
        ours = None if _local.inside else _OFFERED.get(func)
        if ours is not None and _concerns(args, kwargs or {}):
            return run(ours, args, kwargs or {})
        _local.asked += 1
        try:
            return func(*args, **kwargs or {})
        finally:
            _local.asked -= 1


class _Local(threading.local):
    """What a thread is in."""

    depth = 0  # of contexts
    asked = 0  # of their modes, so many are being asked
    inside = False  # a function of fastinit, which may call PyTorch's own


_local = _Local()


def is_inside() -> bool:
    """Whether a function of fastinit is calling."""
    return _local.inside


def is_offered(func: Callable[..., Any]) -> bool:
    """Whether this is a function of PyTorch that is led to fastinit."""
    return func in _OFFERED


def _concerns(args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    """Whether a call is about a tensor that fastinit has samples for, or about none yet."""
    tensor = args[0] if args else kwargs.get("tensor")
    return not isinstance(tensor, torch.Tensor) or _fill.is_of_kind(tensor)


def run(ours: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """Calls a function of fastinit; all that it calls in turn is PyTorch's own."""
    names = _fill.names()
    _local.inside = True
    try:
        if names is None or not isinstance(args[0] if args else kwargs.get("tensor"), torch.Tensor):
            return ours(*args, **kwargs)
        tensor, *rest = args or (kwargs.pop("tensor"),)
        for part in names.blocks(tensor):
            ours(part, *rest, **kwargs)
        return tensor
    finally:
        _local.inside = False


# What PyTorch offers


def _normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    if torch.is_grad_enabled() and tensor.requires_grad:  # Autograd records it, or PyTorch refuses it.
        return tensor.normal_(mean, std, generator=generator)
    return _functions._no_grad_normal_(tensor, mean, std, generator)


def _uniform_(tensor: Tensor, *bounds: float, generator: Generator | None = None, **named: float) -> Tensor:
    if (torch.is_grad_enabled() and tensor.requires_grad) or not named.keys() <= {"from", "to"}:
        return tensor.uniform_(*bounds, generator=generator, **named)
    named = {**dict(zip(("from", "to"), bounds, strict=False)), **named}
    return _functions._no_grad_uniform_(tensor, named.get("from", 0.0), named.get("to", 1.0), generator)


def _factory(
    theirs: Callable[..., Tensor], empty: Callable[..., Tensor], fill: Callable[..., Tensor]
) -> Callable[..., Tensor]:
    """A function that makes an empty tensor and fills it, in place of one that makes a full one."""

    def make(*args: Any, generator: Generator | None = None, **kwargs: Any) -> Tensor:
        model = args[0] if args and isinstance(args[0], torch.Tensor) else None
        dtype = kwargs.get("dtype") or (torch.get_default_dtype() if model is None else model.dtype)
        if dtype not in _fill.DTYPES or kwargs.get("out") is not None:
            return theirs(*args, **kwargs, **({} if generator is None else {"generator": generator}))
        wants_grad = kwargs.pop("requires_grad", False)
        return fill(empty(*args, **kwargs), generator=generator).requires_grad_(wants_grad)

    return make


def _normal(
    mean: float | Tensor = 0.0,
    std: float | Tensor = 1.0,
    size: Any = None,
    *,
    generator: Generator | None = None,
    **kwargs: Any,
) -> Tensor:
    if size is None or isinstance(mean, torch.Tensor) or isinstance(std, torch.Tensor):
        given = {} if size is None else {"size": size}
        result: Tensor = torch.normal(mean, std, generator=generator, **given, **kwargs)
        return result
    return _factory(torch.normal, torch.empty, functools.partial(_normal_, mean=mean, std=std))(
        size, generator=generator, **kwargs
    )


_OFFERED: dict[Callable[..., Any], Callable[..., Any]] = {
    torch.Tensor.normal_: _normal_,
    torch.Tensor.uniform_: _uniform_,
    torch.nn.init.uniform_: _functions.uniform_,
    torch.nn.init.normal_: _functions.normal_,
    torch.nn.init.kaiming_uniform_: _functions.kaiming_uniform_,
    torch.normal: _normal,
    torch.randn: _factory(torch.randn, torch.empty, _normal_),
    torch.rand: _factory(torch.rand, torch.empty, _uniform_),
    torch.randn_like: _factory(torch.randn_like, torch.empty_like, _normal_),
    torch.rand_like: _factory(torch.rand_like, torch.empty_like, _uniform_),
}


# Detours

# Functions by the module that has them, and what they lead to.
_DETOURED: dict[str, dict[str, Callable[..., Any]]] = {
    "torch.nn.init": {
        "_no_grad_normal_": _functions._no_grad_normal_,
        "_no_grad_trunc_normal_": _functions._no_grad_trunc_normal_,  # under `trunc_normal_`, too
        "_no_grad_uniform_": _functions._no_grad_uniform_,
        "dirac_": _functions.dirac_,
        "eye_": _functions.eye_,
        "kaiming_normal_": _functions.kaiming_normal_,
        "kaiming_uniform_": _functions.kaiming_uniform_,
        "orthogonal_": _functions.orthogonal_,
        "sparse_": _functions.sparse_,
        "xavier_normal_": _functions.xavier_normal_,
        "xavier_uniform_": _functions.xavier_uniform_,
    },
    "timm.layers.weight_init": {
        "trunc_normal_": _functions.trunc_normal_,
        "trunc_normal_tf_": _functions.trunc_normal_tf_,
    },
}


class _Detour:
    """A function whose code asks `_arrive` first, until `end`."""

    def __init__(self, name: str, function: FunctionType, ours: Callable[..., Any]) -> None:
        self.function = function
        self.ours = ours
        self.original = FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
        constants = tuple(name if constant == "name" else constant for constant in _ask.__code__.co_consts)
        function.__code__ = _ask.__code__.replace(co_consts=constants, co_name=function.__name__)

    def end(self) -> None:
        self.function.__code__ = self.original.__code__


_lock = threading.Lock()
_open: set[str] = set()  # the detours that are there
_detours: dict[str, _Detour] = {}  # and were, since a thread may be on its way
_contexts = 0  # in all threads


@contextlib.contextmanager
def detours() -> Iterator[None]:
    """A context in which the detours are there, and open to this thread."""
    global _contexts
    with _lock:
        for module, functions in _DETOURED.items():
            for name, ours in functions.items():
                where = f"{module}.{name}"
                function = getattr(sys.modules.get(module), name, None)
                if where not in _open and _is_itself(function, where):
                    _detours[where] = _Detour(where, function, ours)
                    _open.add(where)
        _contexts += 1
    _local.depth += 1
    try:
        yield
    finally:
        _local.depth -= 1
        with _lock:
            _contexts -= 1
            if _contexts == 0:
                while _open:
                    _detours[_open.pop()].end()


def _is_itself(function: object, where: str) -> TypeGuard[FunctionType]:
    """Whether this is the function that was defined there: one that somebody has put in its place is his."""
    return (
        isinstance(function, FunctionType)
        and f"{function.__module__}.{function.__qualname__}" == where
        and not function.__code__.co_freevars
    )


def _ask(*args: Any, **kwargs: Any) -> Any:
    """The code of a detoured function, which has other globals than this module."""
    from fastinit.torch._accelerate import _arrive

    return _arrive("name", args, kwargs)


def _arrive(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    detour = _detours[name]
    if _local.depth == 0 or _local.inside or not _concerns(args, kwargs):
        return detour.original(*args, **kwargs)
    if detour.function in _OFFERED and _local.asked < _local.depth:
        # It offers itself to the modes, among which may be others than ours.
        return detour.original(*args, **kwargs)
    return run(detour.ours, args, kwargs)
