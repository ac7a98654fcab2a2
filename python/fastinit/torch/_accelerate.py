"""A context in which unmodified code samples with fastinit.

PyTorch's own sampling is redirected in two ways, which affect only threads that have entered the context.
Methods and functions that PyTorch passes to a `TorchFunctionMode` are redirected by a mode, which belongs to
one thread. Functions of `torch.nn.init` and of timm that it does not pass are redirected by `_redirects`.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

import torch
from torch.overrides import TorchFunctionMode

from . import _fill, _functions, _redirects

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from torch import Generator, Tensor

# For `_tracker`.
is_inside = _redirects.is_inside
redirects = _redirects.redirects


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
    with redirects(Mode()):
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
        if func in _REDIRECTED and _redirects.is_redirecting() and not _fill.is_traced():
            if func in _FACTORIES:
                return _redirects.call(_FACTORIES[func], args, kwargs)
            if _fill.is_supported(args[0]):
                return _redirects.run(_METHODS[func], args, kwargs)
        return func(*args, **kwargs)


_redirects.passive_modes.add(Mode)
add_passive_mode = _redirects.passive_modes.add


def is_redirected(func: Callable[..., Any]) -> bool:
    """Whether this is a method of tensors that the mode redirects."""
    return func in _METHODS


# Redirected by the mode


def _normal_(
    tensor: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Generator | None = None
) -> Tensor:
    if torch.is_grad_enabled() and tensor.requires_grad:  # Autograd records it, or PyTorch refuses it.
        return tensor.normal_(mean, std, generator=generator)
    return _functions._normal(tensor, mean, std, generator)


def _uniform_(tensor: Tensor, *bounds: float, generator: Generator | None = None, **named: float) -> Tensor:
    if (torch.is_grad_enabled() and tensor.requires_grad) or not named.keys() <= {"from", "to"}:
        return tensor.uniform_(*bounds, generator=generator, **named)
    named = {**dict(zip(("from", "to"), bounds, strict=False)), **named}
    return _functions._uniform(tensor, named.get("from", 0.0), named.get("to", 1.0), generator)


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
_REDIRECTED = frozenset({*_METHODS, *_FACTORIES})
