"""A context in which unmodified code samples with fastinit.

PyTorch's own sampling is redirected in two ways, which affect only threads that have entered the context:

* Methods and functions that PyTorch passes to a `TorchFunctionMode`. Modes belong to one thread.
* Functions of `torch.nn.init` and of timm that it does not pass. While any thread is in the context, the code
  of the function objects themselves is replaced by code that checks the thread first. So it does not matter
  where, or when, their names were imported, and only the code has to be restored.
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
    timm, your own code. It does not matter how it imports the functions. Redirected are:

    * all random functions of `torch.nn.init`, under all names; `dirac_`, and for sharded tensors `eye_`;
    * `Tensor.normal_` and `Tensor.uniform_`;
    * `torch.randn`, `torch.rand`, `torch.randn_like`, `torch.rand_like` and, with numbers and a size,
      `torch.normal`;
    * timm's `trunc_normal_` and `trunc_normal_tf_`, if timm was imported before.

    The distributions are those of PyTorch, the values are not. `fastinit.torch` describes how seeds are drawn
    and which tensors are left to PyTorch. So `torch.manual_seed` makes a run reproducible.

    Contexts may be nested, used as a decorator, and combined with `with torch.device(...)` in either order.
    A context affects only the current thread: other threads get the original functions. On exit everything
    is restored.

    Example:
        >>> import torch, fastinit.torch
        >>> _ = torch.manual_seed(0)
        >>> with fastinit.torch.accelerate():
        ...     model = torch.nn.TransformerEncoderLayer(64, 4)
        >>> round(model.linear1.weight.abs().max().item(), 3)  # 1 / sqrt(64), as always
        0.125
    """
    with redirects(), Mode():
        yield


class Mode(TorchFunctionMode):
    """Redirects the functions that PyTorch passes to modes."""

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Calls the function of fastinit, or the given one."""
        kwargs = kwargs or {}
        redirected = func in _METHODS or func in _FACTORIES
        if redirected and not _local.inside and not _fill.is_traced():
            if func in _FACTORIES:
                return _call(_FACTORIES[func], args, kwargs)
            if _fill.is_supported(args[0]):
                return run(_METHODS[func], args, kwargs)
        return func(*args, **kwargs)


class _Local(threading.local):
    """The state of each thread."""

    depth = 0  # the number of contexts that it is in
    inside = False  # whether a function of fastinit is running, which may call PyTorch's own


_local = _Local()


def is_inside() -> bool:
    """Whether a function of fastinit is running in this thread."""
    return _local.inside


def is_redirected(func: Callable[..., Any]) -> bool:
    """Whether this is a method of tensors that the mode redirects."""
    return func in _METHODS


def run(ours: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Calls a function of fastinit that fills its first argument, a tensor, or each of its blocks."""
    tracker = _fill.tracker()
    if tracker is None:
        return _call(ours, args, kwargs)
    tensor, *rest = args or (kwargs.pop("tensor"),)
    for block in tracker.blocks(tensor):
        _call(ours, (block, *rest), kwargs)
    return tensor


def _call(ours: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Calls a function of fastinit, within which nothing is redirected."""
    _local.inside = True
    try:
        return ours(*args, **kwargs)
    finally:
        _local.inside = False


# Redirected by the mode


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
    """A function that makes an empty tensor and fills it, in place of PyTorch's."""

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
        return torch.normal(mean, std, generator=generator, **given, **kwargs)
    kwargs["device"] = kwargs.get("device") or "cpu"  # `torch.normal` ignores the default device.
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


# Redirected by replacing code

# Functions by the module that defines them, and what they are redirected to.
_REDIRECTED: dict[str, dict[str, Callable[..., Any]]] = {
    "torch.nn.init": {
        "_no_grad_normal_": _functions._no_grad_normal_,
        "_no_grad_trunc_normal_": _functions._no_grad_trunc_normal_,  # also by `trunc_normal_`
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


# A function that passes itself to modes.
_PASSED_TO_MODES = frozenset({"torch.nn.init.kaiming_uniform_"})


class _Redirect:
    """A function whose code is replaced by a call of `_dispatch`, from `install` to `remove`."""

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
        # It has the parameters of the original, for its defaults and its signature, and its file, which
        # warnings skip. Compilation goes straight to the original.
        names = ", ".join(inspect.signature(function).parameters)
        source = f"""
def {function.__name__}({names}):
    from fastinit.torch._accelerate import _dispatch, _redirects
    from torch.compiler import is_compiling
    if is_compiling():
        return _redirects[{where!r}].original({names})
    return _dispatch({where!r}, ({names},))
"""
        found: dict[str, FunctionType] = {}
        exec(compile(source, function.__code__.co_filename, "exec"), found)
        self.code = found[function.__name__].__code__

    def install(self) -> None:
        self.function.__code__ = self.code

    def remove(self) -> None:
        self.function.__code__ = self.original.__code__


_lock = threading.Lock()
_installed: set[str] = set()
_redirects: dict[str, _Redirect] = {}  # also removed ones, whose code a thread may still be running
_contexts = 0  # the number of contexts in all threads


@contextlib.contextmanager
def redirects() -> Iterator[None]:
    """A context in which the functions are redirected for this thread."""
    global _contexts
    with _lock:
        for module, functions in _REDIRECTED.items():
            for name, ours in functions.items():
                where = f"{module}.{name}"
                function = getattr(sys.modules.get(module), name, None)
                if where not in _installed and _is_original(function, where):
                    _redirects[where] = _Redirect(where, function, ours)
                    _installed.add(where)
                    _redirects[where].install()
        _contexts += 1
    _local.depth += 1
    try:
        yield
    finally:
        _local.depth -= 1
        with _lock:
            _contexts -= 1
            if _contexts == 0:
                while _installed:
                    _redirects[_installed.pop()].remove()


def _is_original(function: object, where: str) -> TypeGuard[FunctionType]:
    """Whether this is the function that was defined there, and not one that has replaced it."""
    return (
        isinstance(function, FunctionType)
        and f"{function.__module__}.{function.__qualname__}" == where
        and function.__globals__ is vars(sys.modules[function.__module__])
        and not function.__code__.co_freevars
        and all(p.kind is p.POSITIONAL_OR_KEYWORD for p in inspect.signature(function).parameters.values())
    )


def _dispatch(where: str, args: tuple[Any, ...]) -> Any:
    """Calls the function of fastinit; for other threads, and tensors that it does not take, the original."""
    redirect = _redirects[where]
    tensor = args[0]
    if (
        _local.depth == 0
        or _local.inside
        or not isinstance(tensor, torch.Tensor)
        or not _fill.is_supported(tensor)
        or _fill.is_traced()
    ):
        return redirect.original(*args)
    if where in _PASSED_TO_MODES and torch.overrides.has_torch_function_variadic(tensor):
        return redirect.original(*args)  # It passes itself to all modes, not only ours.
    return run(redirect.ours, args, {})
