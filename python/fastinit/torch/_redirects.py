"""Which function runs: PyTorch's, fastinit's, or one that has replaced PyTorch's.

* `redirects` is a context in which functions of `torch.nn.init` and of timm are redirected to fastinit, for
  the current thread. While any thread is in the context, the code of the function objects themselves is
  replaced by code that checks the thread first. So it does not matter where, or when, their names were
  imported, and only the code has to be restored.
* `drop_in` makes a function of fastinit that stands for one of `torch.nn.init`. If another function has
  replaced that one (transformers protects loaded weights in this way), the other function is called, and
  decides whether the tensor is initialized. Where it calls PyTorch's function, fastinit's runs.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import inspect
import sys
import threading
import time
from types import FunctionType
from typing import TYPE_CHECKING, Any, ParamSpec, TypeGuard, TypeVar

import torch
from torch.compiler import is_compiling  # noqa: F401 - for the code of detours, which imports it from here
from torch.utils._device import DeviceContext

from . import _fill, _shards

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Tensor
    from torch.overrides import TorchFunctionMode

_P = ParamSpec("_P")
_R = TypeVar("_R")

_init: Any = torch.nn.init
_INIT = "torch.nn.init"


# The state


class _Thread:
    """The state of a thread."""

    def __init__(self) -> None:
        self.contexts: set[_Context] = set()  # that it has entered
        self.inside = False  # whether a function of fastinit is running, which may call PyTorch's own
        self.left: list[TorchFunctionMode] = []  # modes whose contexts other threads have left


class _Local(threading.local):
    def __init__(self) -> None:
        self.thread = _Thread()


class _Context:
    """A context of `redirects`. It may be left in another thread, where a generator is closed."""

    def __init__(self, asked: str) -> None:
        self.thread = _local.thread
        self.asked = asked


_local = _Local()
_contexts: set[_Context] = set()  # that threads are in
_leaving: set[_Context] = set()  # that threads are leaving


def is_redirecting() -> bool:
    """Whether this thread is in a context, and no function of fastinit is running."""
    thread = _local.thread
    return bool(thread.contexts) and not thread.inside


# Types of modes that need not be asked about a function that fills a plain tensor: ours, which would only
# bring it back, and the one of a default device.
passive_modes: set[type] = {DeviceContext}


def is_offered(tensor: object) -> bool:
    """Whether PyTorch passes functions of this tensor to its class, or to a mode that has to be asked."""
    if not torch.overrides.has_torch_function_variadic(tensor):
        return False
    if not _shards.is_plain_type(tensor):
        return True
    stack = map(torch._C._get_function_stack_at, range(torch._C._len_torch_function_stack()))
    return not passive_modes.issuperset(map(type, stack))


def is_inside() -> bool:
    """Whether a function of fastinit is running in this thread."""
    return _local.thread.inside


def run(ours: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Calls a function of fastinit that fills its first argument, a tensor, or each of its blocks."""
    if _fill.tracker() is None:
        return call(ours, args, kwargs)
    return _by_block(lambda *args, **kwargs: call(ours, args, kwargs), args, kwargs)


def _by_block(function: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Calls a function with each block of its first argument, if that is a tensor in blocks."""
    tracker = _fill.tracker()
    tensor = args[0] if args else kwargs.get("tensor")
    if tracker is None or not isinstance(tensor, torch.Tensor):
        return function(*args, **kwargs)
    rest = {name: value for name, value in kwargs.items() if name != "tensor"}
    for block in tracker.blocks(tensor):
        function(block, *args[1:], **rest)
    return tensor


def by_block(function: Callable[_P, Tensor]) -> Callable[_P, Tensor]:
    """The function, which `initialize` calls with each block of a tensor that is in blocks."""

    @functools.wraps(function)
    def fill(*args: _P.args, **kwargs: _P.kwargs) -> Tensor:
        return _by_block(function, args, kwargs)

    return fill


def call(ours: Callable[..., Tensor], args: tuple[Any, ...], kwargs: dict[str, Any]) -> Tensor:
    """Calls a function of fastinit, within which nothing is redirected."""
    thread = _local.thread
    try:
        thread.inside = True
        return ours(*args, **kwargs)
    finally:
        thread.inside = False


# Redirecting PyTorch's functions


class _Detour:
    """A function whose code can be replaced by code that calls `choose`, and then what that returns."""

    def __init__(self, function: FunctionType, ours: Callable[..., Tensor]) -> None:
        self.function = function
        # Within it nothing is followed, and it is called for each block.
        self.ours = inspect.unwrap(ours)
        self.inner = _INNER.get(function.__name__) if function.__module__ == _INIT else None
        self.original_code = function.__code__
        self.original = FunctionType(
            function.__code__,
            function.__globals__,
            function.__name__,
            function.__defaults__,
            function.__closure__,
        )
        # PyTorch passes it to modes, all of them and not only ours.
        self.offers_itself = "handle_torch_function" in function.__code__.co_names
        # The code has the parameters of the original, for its defaults and its signature, and its file and
        # line, for its source and for warnings. Compilation goes straight to the original.
        first, *_ = names = list(inspect.signature(function).parameters)
        source = (
            "\n" * (function.__code__.co_firstlineno - 1)
            + f"def {function.__name__}({', '.join(names)}): "
            + "from fastinit.torch._redirects import choose, detours, is_compiling; "
            + f"detour = detours[{id(function)}]; "
            + f"return (detour.original if is_compiling() else choose(detour, {first}))({', '.join(names)})"
        )
        found: dict[str, FunctionType] = {}
        exec(compile(source, function.__code__.co_filename, "exec"), found)
        self.code = found[function.__name__].__code__

    def install(self) -> None:
        if self.function.__code__ is not self.code:
            self.function.__code__ = self.code

    def remove(self) -> None:
        if self.function.__code__ is not self.original_code:
            self.function.__code__ = self.original_code

    def calls_original(self) -> bool:
        """Whether the function that it calls, if any, has not been replaced."""
        return self.inner is None or getattr(_init, self.inner) is original(self.inner)

    def run(self, *args: Any) -> Tensor:
        return run(self.ours, args, {})

    def run_alone(self, *args: Any) -> Tensor:
        """Does the same where no mode has to be asked, not even about attributes of the tensor."""
        with torch._C.DisableTorchFunction():
            return run(self.ours, args, {})


# Functions of `torch.nn.init` that only offer themselves and then call another one, which is redirected, too.
# If that has been replaced, they have to call it.
_INNER = {"normal_": "_no_grad_normal_", "uniform_": "_no_grad_uniform_"}

# What functions are redirected to, by module and name.
_ours: dict[tuple[str, str], Callable[..., Tensor]] = {}
# By the identity of the function. Made once, and kept, since the code of a function may be ours later.
detours: dict[int, _Detour] = {}


def redirect(module: str, functions: dict[str, Callable[..., Tensor]]) -> None:
    """States what functions of a module, which need not be imported yet, are redirected to."""
    _ours.update({(module, name): ours for name, ours in functions.items()})
    _discover()


def _discover() -> None:
    """Makes the detours of functions that have none yet."""
    for (module, name), ours in _ours.items():
        function = original(name) if module == _INIT else getattr(sys.modules.get(module), name, None)
        if id(function) not in detours and _is_original(function, module, name) and _is_plain(function):
            detours.setdefault(id(function), _Detour(function, ours))


def _is_original(function: object, module: str, name: str) -> TypeGuard[FunctionType]:
    """Whether this is the function that was defined there, and not one that has replaced it."""
    return (
        isinstance(function, FunctionType)
        and function.__globals__ is vars(sys.modules[module])
        and function.__name__ == name
    )


def _is_plain(function: FunctionType) -> bool:
    """Whether its code can be replaced by that of another function with the same parameters."""
    parameters = inspect.signature(function).parameters.values()
    return not function.__code__.co_freevars and all(p.kind is p.POSITIONAL_OR_KEYWORD for p in parameters)


def choose(detour: _Detour, tensor: object) -> Callable[..., Tensor]:
    """The function of fastinit; for other threads, and tensors that it does not take, the original."""
    thread = _local.thread
    if thread.inside or not isinstance(tensor, torch.Tensor) or _fill.is_traced():
        return detour.original
    if thread.contexts and not is_offered(tensor):
        with torch._C.DisableTorchFunction():
            is_for_us = _fill.is_supported(tensor) and tensor.numel() > 0
        if is_for_us and detour.calls_original():
            return detour.run_alone
    if detour.inner is not None:
        return detour.original
    if detour.offers_itself and torch.overrides.has_torch_function_variadic(tensor):
        return detour.original
    ours = (thread.contexts and _fill.is_supported(tensor)) or _is_empty(tensor)
    return detour.run if ours else detour.original


def _is_empty(tensor: Tensor) -> bool:
    """Whether this has no elements. fastinit then only warns, at the line of the caller, as PyTorch does."""
    return _fill.is_ordinary(tensor) and not tensor.is_nested and 0 in tensor.shape


@contextlib.contextmanager
def redirects(mode: TorchFunctionMode | None = None, *, asked: str = "") -> Iterator[None]:
    """A context in which the functions are redirected for this thread.

    An interrupt may come at any moment, so everything is undone twice: once more if the first time was cut
    short.

    Args:
        mode: A mode to enter, too.
        asked: The name of a function that has replaced one of PyTorch's, and is called in this context.
    """
    context = _Context(asked)
    try:
        try:
            _enter(context)
            if mode is not None:
                mode.__enter__()
            yield
        finally:
            _leave(context, mode)
    finally:
        _leave(context, mode)


# There is no lock, since an interrupt could leave it locked. A thread is in `_leaving` before it checks
# whether it is the last one in a context. A thread that enters at that time sees this, and waits.


def _enter(context: _Context) -> None:
    while context.thread.left:
        _remove(context.thread.left[-1])
        context.thread.left.pop()
    _contexts.add(context)
    context.thread.contexts.add(context)
    while True:
        others = any(other.thread is not context.thread for other in list(_leaving))
        _discover()
        for detour in list(detours.values()):
            detour.install()
        if not others:
            return
        time.sleep(0)


def _leave(context: _Context, mode: TorchFunctionMode | None) -> None:
    if mode is not None and context.thread is _local.thread:
        _remove(mode)
    elif mode is not None:
        context.thread.left.append(mode)  # Without a context it redirects nothing.
    context.thread.contexts.discard(context)
    if context in _contexts or context in _leaving:
        _leaving.add(context)
        _contexts.discard(context)
        if not _contexts:
            for detour in list(detours.values()):
                detour.remove()
        _leaving.discard(context)


def _remove(mode: TorchFunctionMode) -> None:
    """Removes a mode from the stack of this thread, wherever it is."""
    stack = [torch._C._get_function_stack_at(i) for i in range(torch._C._len_torch_function_stack())]
    if mode in stack:
        above = stack[stack.index(mode) + 1 :]
        for _ in (mode, *above):
            torch._C._pop_torch_function_stack()
        for other in above:
            torch._C._push_on_torch_function_stack(other)


# Following what has replaced PyTorch's functions


@functools.cache
def original(name: str) -> Any:
    """The function that PyTorch has defined under this name, whatever has the name now."""
    current = getattr(_init, name)
    if _is_original(current, _INIT, name):
        return current
    # fastinit is imported while another function has the name.
    return next((found for found in gc.get_objects() if _is_original(found, _INIT, name)), current)


_drop_ins: set[object] = set()

# What does the same to the blocks of a tensor as to all of it.
_CONSTANTS = frozenset({"constant", "constant_", "ones_", "zeros_", "_no_grad_fill_", "_no_grad_zero_"})


def is_replaced(name: str) -> bool:
    """Whether a function of `torch.nn.init` has been replaced by one that is to be called instead of ours."""
    current = getattr(_init, name)
    return current is not original(name) and current not in _drop_ins and not _is_decided(name)


def _is_decided(name: str) -> bool:
    """Whether this thread runs what has replaced a function, and that has called ours."""
    thread = _local.thread
    return thread.inside or any(context.asked == name for context in list(thread.contexts))


def drop_in(function: Callable[_P, _R]) -> Callable[_P, _R]:
    """A function that stands for the one of the same name in `torch.nn.init`, and for what replaces it."""
    name = function.__name__
    theirs = original(name)
    fill: Any = function if name in _CONSTANTS else by_block(function)

    @functools.wraps(function)
    def follow(*args: _P.args, **kwargs: _P.kwargs) -> _R:
        current = getattr(_init, name)
        if current is theirs or current is follow or _is_decided(name):
            if torch._C._len_torch_function_stack() == 0:
                return function(*args, **kwargs)
            if _fill.tracker() is not None:
                return fill(*args, **kwargs)
            if not args or is_offered(args[0]):
                return function(*args, **kwargs)
            with torch._C.DisableTorchFunction():
                return function(*args, **kwargs)
        with redirects(asked=name):
            return current(*args, **kwargs)

    _drop_ins.add(follow)
    return follow


def offer(name: str, *args: Any) -> Any:
    """Calls a function of PyTorch that passes itself to modes and to classes of tensors."""
    if _local.thread.contexts:
        return original(name)(*args)
    with redirects():
        return original(name)(*args)
