"""The initialization that a model brings along, besides `reset_parameters`.

Libraries have conventions of their own. Those of transformers and timm are known here. In other classes, what
looks like an initialization is found by its name, so that the report can say that it was not run.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import sys
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Sequence
    from types import CodeType

    from torch.nn import Module

    from ._tracker import Entry

Function = Callable[["Module"], object]


# transformers

# Set by transformers on modules and tensors that it has loaded, so that nothing initializes them again.
_MARK = "_is_hf_initialized"


def of_transformers(model: Module, given: Function | None) -> dict[Module, Function]:
    """The function for each module in a model of transformers: that of the nearest `PreTrainedModel`.

    Args:
        model: A model, which may have some of transformers inside.
        given: A function. If `is_of_transformers` is true of it, it is for the modules of its own model, and
            for those that are in none.
    """
    owner = _owner(given)
    if owner is None:
        given = None
    elif given is not None and not takes(given, 1):  # It initializes a whole model.
        given = owner._init_weights
    kind = _pretrained()
    found: dict[Module, Function] = {}
    others: set[Module] = set()

    def visit(module: Module, function: Function | None) -> None:
        if kind is not None and isinstance(module, kind):
            pretrained: Any = module
            function = given if module is owner else pretrained._init_weights
        if module in found or (function is None and module in others):
            return
        if function is None:
            others.add(module)
        else:
            found[module] = function
        for child in module.children():
            visit(child, function)

    visit(model, given)
    return found


def is_of_transformers(function: object) -> bool:
    """Whether this is the method by which a `PreTrainedModel` initializes its modules, or itself."""
    return _owner(function) is not None


def _owner(function: Any) -> Any:
    """The `PreTrainedModel` whose initialization this is."""
    while isinstance(function, functools.partial):
        function = function.func
    owner = getattr(function, "__self__", None)
    kind = _pretrained()
    names = ("_init_weights", "_initialize_weights", "init_weights", "initialize_weights")
    return owner if kind is not None and isinstance(owner, kind) and function.__name__ in names else None


def _pretrained() -> type[Module] | None:
    return getattr(sys.modules.get("transformers.modeling_utils"), "PreTrainedModel", None)


@contextlib.contextmanager
def unmarked(modules: Iterable[Module], tensors: Sequence[Entry]) -> Iterator[None]:
    """A context in which nothing is marked as loaded. Afterwards, all marks are as they were."""
    modules = list(modules)
    marks = [(module, vars(module).pop(_MARK)) for module in modules if _MARK in vars(module)]
    of_tensors = [(entry, vars(entry.value).pop(_MARK)) for entry in tensors if _MARK in vars(entry.value)]
    try:
        yield
    finally:
        for marked in (*modules, *(entry.value for entry in tensors)):
            vars(marked).pop(_MARK, None)
        for module, mark in marks:
            setattr(module, _MARK, mark)
        for entry, mark in of_tensors:
            setattr(entry.value, _MARK, mark)


def mark(module: Module) -> None:
    """Marks a module as initialized, as transformers does: functions of modules around it look at that."""
    vars(module)[_MARK] = True


# timm


def of_timm(module: Module) -> Callable[[], object] | None:
    """The function by which a model or a block of timm initializes itself at the end of its constructor."""
    kind: Any = type(module)
    if not _is_of_timm(kind):
        return None
    own: Any = module
    if hasattr(kind, "init_weights"):
        return own.init_weights if takes(own.init_weights, 0) else None
    # Other models of timm apply this function to all of their modules.
    if hasattr(kind, "_init_weights") and _applies_it(kind) and takes(own._init_weights, 1):
        apply = functools.partial(_apply_as_timm, module, own._init_weights)
        return functools.update_wrapper(apply, own._init_weights)
    return None


def _apply_as_timm(module: Module, function: Function) -> None:
    module.apply(function)
    if "local_init" in _names(type(module).__init__):  # of ConViT's attention, which comes last
        for inner in module.modules():
            getattr(inner, "local_init", lambda: None)()


def _unknown_arguments(module: Any) -> list[str]:
    """The arguments that the constructor may have given to `init_weights` and the model does not remember."""
    known = {"needs_reset", *(["mode"] if hasattr(module, "weight_init_mode") else [])}
    names = inspect.signature(module.init_weights).parameters if hasattr(module, "init_weights") else ()
    return [name for name in names if name not in known]


def _applies_it(kind: Any) -> bool:
    return {"apply", "_init_weights"} <= _names(kind.__init__)


# All others

_RESETS = frozenset({"reset_parameters", "_reset_parameters"})
_FILLS = frozenset(name for name in dir(torch.nn.init) if re.fullmatch(r"[a-z]\w*_", name))
_LOOKS_LIKE_ONE = re.compile(
    r"_*(\w+_)?(re)?(init|initiali[sz]e|reset)_(\w+_)?(weights?|param(eter)?s)(_\w+)?|_*weights?_init"
)


def not_run(
    model: Module, to_fill: Collection[Module], left_to_defaults: Collection[Module]
) -> dict[str, Module]:
    """What looks like an initialization and was not run as in a constructor, with the first of its modules.

    Args:
        model: The model.
        to_fill: The modules with a parameter, at any depth, for which the caller has no rule.
        left_to_defaults: Those with one that only `reset_parameters` may have filled.
    """
    found: dict[str, Module] = {}
    pretrained = _pretrained()
    seen: set[Module] = set()

    def visit(module: Module, known: frozenset[str]) -> None:
        if module in seen or module not in to_fill:
            return
        seen.add(module)
        kind: Any = type(module)
        if pretrained is not None and isinstance(module, pretrained):
            known |= {"transformers", _package(kind)}
        elif of_timm(module) is not None:
            unknown = _unknown_arguments(module)
            if unknown and module in left_to_defaults:
                found.setdefault(f"{kind.__qualname__}.init_weights ({', '.join(unknown)})", module)
        elif _package(kind) not in known:
            method, constructor = _own(kind)
            if method is not None:
                found.setdefault(method, module)
            elif constructor is not None and module in left_to_defaults:
                found.setdefault(constructor, module)
        for child in module.children():
            visit(child, known)

    visit(model, frozenset({"torch"}))
    return found


@functools.lru_cache(maxsize=1024)
def _own(kind: Any) -> tuple[str | None, str | None]:
    """A method of a class that looks like an initialization; if there is none, a constructor that has one."""
    if kind.__module__ == "timm.models._features" and kind.__name__ != "FeatureGetterNet":
        return f"{kind.__name__} (that of the model that it was made from)", None
    bases = [base for base in kind.__mro__ if _package(base) not in ("torch", "builtins")]
    resets = {name for name in _RESETS if hasattr(kind, name) and takes(getattr(kind, name), 1)}
    known = resets.union(*(_names(vars(base).get(name)) for base in bases for name in resets))
    for base in bases:
        for name in vars(base):
            if _LOOKS_LIKE_ONE.fullmatch(name) and name not in known and callable(getattr(kind, name)):
                return f"{kind.__qualname__}.{name}", None
    for base in bases:
        if not resets.isdisjoint(vars(base)):  # It does what its constructor does, and those of its bases.
            break
        for name in sorted(_names(vars(base).get("__init__"))):
            if name in _FILLS or (_LOOKS_LIKE_ONE.fullmatch(name) and name not in known):
                return None, f"{base.__qualname__}.__init__ ({name})"
    return None, None


@functools.lru_cache(maxsize=1024)
def _is_of_timm(kind: Any) -> bool:
    return any(_package(base) == "timm" for base in kind.__mro__)


def _package(kind: type) -> str:
    return kind.__module__.partition(".")[0]


@functools.lru_cache(maxsize=1024)
def _names(function: object) -> frozenset[str]:
    """The names of attributes and globals that a function uses."""
    code = getattr(inspect.unwrap(function) if callable(function) else function, "__code__", None)
    return frozenset() if code is None else frozenset(_names_in(code))


def _names_in(code: CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if inspect.iscode(constant):
            yield from _names_in(constant)


def takes(function: Callable[..., object], count: int) -> bool:
    """Whether a function can be called with this many arguments."""
    try:
        inspect.signature(function).bind(*(None,) * count)
    except (TypeError, ValueError):  # A builtin may have no signature.
        return False
    return True
