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
import inspect
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
        kwargs = kwargs or {}
        offered = func in _METHODS or func in _FACTORIES
        if offered and not _local.inside and not _fill.is_traced():
            if func in _FACTORIES:
                return _call(_FACTORIES[func], args, kwargs)
            if _fill.is_of_kind(args[0]):
                return run(_METHODS[func], args, kwargs)
        return func(*args, **kwargs)


class _Local(threading.local):
    """What a thread is in."""

    depth = 0  # of contexts
    inside = False  # a function of fastinit, which may call PyTorch's own


_local = _Local()


def is_inside() -> bool:
    """Whether a function of fastinit is calling."""
    return _local.inside


def is_offered(func: Callable[..., Any]) -> bool:
    """Whether this is a method of tensors that is led to fastinit."""
    return func in _METHODS


def run(ours: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Calls a function of fastinit that fills a tensor, its first argument."""
    names = _fill.names()
    if names is None:
        return _call(ours, args, kwargs)
    tensor, *rest = args or (kwargs.pop("tensor"),)
    for part in names.blocks(tensor):
        _call(ours, (part, *rest), kwargs)
    result: Tensor = tensor
    return result


def _call(ours: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Calls a function of fastinit; all that it calls in turn is PyTorch's own."""
    _local.inside = True
    try:
        return ours(*args, **kwargs)
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
        model = kwargs.get("input", args[0] if args else None)
        if not isinstance(model, torch.Tensor):
            model = None
        dtype = kwargs.get("dtype") or (torch.get_default_dtype() if model is None else model.dtype)
        layout = kwargs.get("layout") or (torch.strided if model is None else model.layout)
        if dtype not in _fill.DTYPES or layout is not torch.strided or kwargs.get("out") is not None:
            return theirs(*args, **kwargs, **({} if generator is None else {"generator": generator}))
        if model is not None and model.is_nested:
            return theirs(*args, **kwargs)
        wants_grad = bool(kwargs.pop("requires_grad", False))
        tensor = fill(empty(*args, **kwargs), generator=generator)
        return tensor.requires_grad_() if wants_grad else tensor

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
    kwargs["device"] = kwargs.get("device") or "cpu"  # It does not heed the default device.
    theirs = functools.partial(torch.normal, mean, std)
    fill = functools.partial(_normal_, mean=mean, std=std)
    return _factory(theirs, torch.empty, fill)(size, generator=generator, **kwargs)


_METHODS: dict[Callable[..., Any], Callable[..., Tensor]] = {
    torch.Tensor.normal_: _normal_,
    torch.Tensor.uniform_: _uniform_,
}
_FACTORIES: dict[Callable[..., Any], Callable[..., Tensor]] = {
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


# This one is among the functions that PyTorch offers to modes.
_OFFERS_ITSELF = frozenset({"torch.nn.init.kaiming_uniform_"})


class _Detour:
    """A function whose code asks `_arrive` first, from `begin` to `end`."""

    def __init__(self, where: str, function: FunctionType, ours: Callable[..., Tensor]) -> None:
        self.function = function
        self.ours = ours
        self.original = FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
        # With the parameters of the original, on which its defaults and its signature rely; and in its file,
        # for whom it warns. Tracing goes to the original at once.
        names = ", ".join(inspect.signature(function).parameters)
        source = f"""
def {function.__name__}({names}):
    from fastinit.torch._accelerate import _arrive, _detours
    from torch.compiler import is_compiling
    if is_compiling():
        return _detours[{where!r}].original({names})
    return _arrive({where!r}, ({names},))
"""
        found: dict[str, FunctionType] = {}
        exec(compile(source, function.__code__.co_filename, "exec"), found)
        self.code = found[function.__name__].__code__

    def begin(self) -> None:
        self.function.__code__ = self.code

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
                    _detours[where].begin()
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
        and function.__globals__ is vars(sys.modules[function.__module__])
        and not function.__code__.co_freevars
        and all(p.kind is p.POSITIONAL_OR_KEYWORD for p in inspect.signature(function).parameters.values())
    )


def _arrive(where: str, args: tuple[Any, ...]) -> Any:
    detour = _detours[where]
    tensor = args[0]
    if (
        _local.depth == 0
        or _local.inside
        or not isinstance(tensor, torch.Tensor)
        or not _fill.is_of_kind(tensor)
        or _fill.is_traced()
    ):
        return detour.original(*args)
    if where in _OFFERS_ITSELF and torch.overrides.has_torch_function_variadic(tensor):
        return detour.original(*args)  # to all modes, of which some may be others than ours
    return run(detour.ours, args, {})
