"""The tensors of a model by name: recognized when they are written to, with a record of their contents."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

import fastinit
from fastinit.theory import distributions

from . import _accelerate, _fill, _shards

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor
    from torch.nn import Module

    from ._rules import Rule

# The attribute names under which PyTorch's wrappers hold a module.
_WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
_PARALLEL = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)


@dataclass(eq=False)
class Entry:
    """A parameter or a buffer of the model."""

    names: tuple[str, ...]  # with the prefix and without wrappers
    places: list[tuple[Module, str]]  # several if it is tied
    is_parameter: bool
    was_meta: bool
    rule: Rule | None = None
    sizes: tuple[int, ...] = ()  # of its blocks
    written: bool = False
    title: str = ""  # of the rule or the function that wrote to it last
    filled: dict[int, _fill.Filled] = field(default_factory=dict)  # by block
    version: object = None  # when `filled` was recorded
    owner: int = 0  # the index of the place whose module initializes it

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def value(self) -> Tensor:
        module, attribute = self.places[self.owner]
        return getattr(module, attribute)

    @property
    def module(self) -> Module:
        """The module that initializes it."""
        return self.places[self.owner][0]

    @property
    def is_current(self) -> bool:
        """Whether it has not been written to since `filled` was recorded."""
        return self.version == version_of(self.value)

    @property
    def is_visible(self) -> bool:
        """Whether its module may see it, since no rule is to fill it."""
        return self.rule is None

    @property
    def nbytes(self) -> int:
        """The number of bytes that this process holds."""
        return int(_shards.local(self.value).nbytes)


def entries(model: Module, prefix: str) -> list[Entry]:
    """All parameters and buffers, each once, in the order of their first names."""
    found: dict[int, Entry] = {}
    for path, module in modules(model, prefix):
        for attribute, value in (*module._parameters.items(), *module._buffers.items()):
            if value is None or torch.nn.parameter.is_lazy(value):
                continue
            name = f"{path}.{attribute}" if path else attribute
            entry = found.get(id(value))
            if entry is None:
                is_parameter = attribute in module._parameters
                found[id(value)] = Entry((name,), [(module, attribute)], is_parameter, value.is_meta)
            else:
                entry.names = tuple(dict.fromkeys((*entry.names, name)))
                if (module, attribute) not in entry.places:
                    entry.places.append((module, attribute))
    return list(found.values())


def modules(model: Module, prefix: str) -> Iterator[tuple[str, Module]]:
    """All modules under all their names, with the prefix and without what wrappers insert."""
    names: dict[str, tuple[str, Module]] = {}
    for path, module in model.named_modules(remove_duplicate=False):
        name = prefix.rstrip(".")
        if path:
            before, _, attribute = path.rpartition(".")
            name, parent = names[before]
            of_wrapper = attribute in _WRAPPERS or (attribute == "module" and isinstance(parent, _PARALLEL))
            if not of_wrapper:
                name = f"{name}.{attribute}" if name else attribute
        names[path] = name, module
        yield name, module


class _Target(NamedTuple):
    """A tensor of the model, or one of its blocks."""

    entry: Entry
    stream: int | str
    block: int = 0
    is_block: bool = False

    @property
    def filled(self) -> _fill.Filled | None:
        return self.entry.filled.get(self.block)


class Tracker:
    """The `_fill.Tracker` of a model.

    Attributes:
        title: The name of the rule or the function that is running.
        module: The module that is initializing itself, if any.
        own: The tensors that each module initializes.
    """

    def __init__(self, seed: int, entries: Sequence[Entry]) -> None:
        self.title = ""
        self.module: Module | None = None
        self._seed = seed
        self.own: dict[Module | None, list[Entry]] = {}
        for entry in entries:
            if entry.is_visible:
                self.own.setdefault(entry.module, []).append(entry)
        self._by_identity: dict[int, _Target] = {}
        self._by_place: dict[object, _Target] = {}
        self._by_storage: dict[int, list[tuple[int, int, Entry]]] = {}
        self._alive: list[Tensor] = []  # so that no id is reused
        self._blocks: dict[Entry, list[Tensor]] = {}
        self._versions = {entry: version_of(entry.value) for entry in entries}
        with torch.no_grad():
            for entry in entries:
                self._recognize(entry)

    @contextlib.contextmanager
    def active(self) -> Iterator[None]:
        """A context in which this is the tracker of this thread."""
        before = _fill.tracker()
        try:
            try:
                _fill.set_tracker(self)
                with _accelerate.redirects(_Mode(self)):
                    yield
            finally:
                _fill.set_tracker(before)
        finally:  # Again, in case that an interrupt has come in between.
            _fill.set_tracker(before)

    # Recognizing tensors

    def _recognize(self, entry: Entry) -> None:
        value = entry.value
        target = _Target(entry, entry.name)
        self._remember(value, target)
        if (place := _place(value)) is not None:
            self._by_place.setdefault(place, target)
        here = _shards.local(value)
        if here.numel() > 0 and here.layout is torch.strided:
            first = here.data_ptr()
            span = 1 + sum((n - 1) * step for n, step in zip(here.shape, here.stride(), strict=True))
            in_storage = self._by_storage.setdefault(here.untyped_storage().data_ptr(), [])
            in_storage.append((first, first + span * here.itemsize, entry))
        starts = itertools.accumulate(entry.sizes, initial=0)
        for k, (start, size) in enumerate(zip(starts, entry.sizes, strict=False)):
            block = _shards.block(value, start, size)
            self._remember(block, _Target(entry, fastinit.block_stream(entry.name, k), k, is_block=True))
            self._blocks.setdefault(entry, []).append(block)

    def _remember(self, value: Tensor, target: _Target) -> None:
        self._alive.append(value)
        self._by_identity[id(value)] = target

    def find(self, tensor: Tensor) -> _Target | None:
        """The tensor of the model that this is, or that it shares all its memory with."""
        target = self._by_identity.get(id(tensor))
        if target is not None or (place := _place(tensor)) is None:
            return target
        target = self._by_place.get(place)
        # Memory that a parameter no longer uses may have been reused.
        return target if target is not None and _place(target.entry.value) == place else None

    def see_parameter(self, parameter: Tensor) -> None:
        """Recognizes a parameter with which a module has replaced one of its own."""
        if id(parameter) not in self._by_identity:
            for entry in self.own.get(self.module, ()):
                if entry.value is parameter:
                    self._recognize(entry)

    # The protocol of `_fill.Tracker`

    def blocks(self, tensor: Tensor) -> Sequence[Tensor]:
        """The blocks of a tensor that has some; otherwise, and for a block, the tensor itself."""
        target = self.find(tensor)
        if target is None or target.is_block:
            return (tensor,)
        return self._blocks.get(target.entry, (tensor,))

    def key(self, tensor: Tensor) -> _fill.Key | None:
        """The key of a tensor, if it has a name."""
        target = self.find(tensor)
        return None if target is None else _fill.Key(self._seed, target.stream)

    def filled(self, tensor: Tensor, filled: _fill.Filled) -> None:
        """Records how a tensor was filled."""
        target = self.find(tensor)
        if target is not None:
            self.record(target, filled)

    # Recording changes

    def record(self, target: _Target, filled: _fill.Filled) -> None:
        """Records how a tensor, or a block of it, was filled."""
        entry = target.entry
        if not target.is_block:
            entry.filled.clear()
        entry.filled[target.block] = filled
        self._touch(entry)
        entry.version = version_of(entry.value)

    def touch(self, tensor: Tensor) -> None:
        """Records that this tensor, or a part of it, was written to."""
        target = self.find(tensor)
        if target is not None:
            self._touch(target.entry)
            return
        here = _shards.local(tensor)
        if here.layout is torch.strided and here.numel() > 0 and not here.is_meta:
            address = here.data_ptr()
            for first, end, entry in self._by_storage.get(here.untyped_storage().data_ptr(), ()):
                if first <= address < end and _shards.local(entry.value).data_ptr() == first:
                    self._touch(entry)

    def note_changes(self, entries: Sequence[Entry]) -> None:
        """Records which of these were written to in ways that the mode does not see."""
        for entry in entries:
            if not entry.written and self._versions[entry] != version_of(entry.value):
                self._touch(entry)

    def _touch(self, entry: Entry) -> None:
        entry.written = True
        entry.title = self.title


class _Mode(_accelerate.Mode):
    """Redirects functions, and tells the tracker which tensors are written to."""

    # Methods that end in an underscore, but write nothing.
    _HARMLESS = frozenset({"requires_grad_", "detach_", "share_memory_", "rename_"})

    def __init__(self, tracker: Tracker) -> None:
        super().__init__()
        self.tracker = tracker

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Calls the function, and tells the tracker if it writes."""
        kwargs = kwargs or {}
        tensor = args[0] if args else kwargs.get("tensor")
        if not isinstance(tensor, torch.Tensor) or _accelerate.is_inside() or not self._writes(func):
            return super().__torch_function__(func, types, args, kwargs)
        if func == torch.Tensor.data.__set__ and tensor.is_meta:
            return None  # The tensor is hidden, and PyTorch would refuse data on another device.
        if isinstance(tensor, torch.nn.Parameter):
            self.tracker.see_parameter(tensor)
        return self._write(tensor, func, types, args, kwargs)

    def _writes(self, func: Callable[..., Any]) -> bool:
        name = getattr(func, "__name__", "")
        if name.endswith("__"):
            in_place = name.startswith("__i") and name not in ("__invert__", "__index__", "__int__")
            return in_place or name == "__setitem__" or func == torch.Tensor.data.__set__
        return name.endswith("_") and name not in self._HARMLESS

    def _write(
        self,
        tensor: Tensor,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
    ) -> Any:
        target = self.tracker.find(tensor)
        before = None if target is None else target.filled
        value = _value(func, args, kwargs)
        if not _shards.is_block(tensor):
            result = super().__torch_function__(func, types, args, kwargs)
        elif value is not None:
            for part, _ in _shards.parts(tensor) or ():
                part.fill_(value)
            result = tensor
        elif _accelerate.is_redirected(func) or func is not getattr(torch.Tensor, func.__name__, None):
            result = super().__torch_function__(func, types, args, kwargs)
        else:
            raise TypeError(f"{func.__name__} cannot be used for a block of a tensor that is sharded")
        if target is not None and target.filled is before:  # `_fill` has not recorded it.
            initializer = None if value is None else fastinit.Constant(value)
            distribution = None if value is None else distributions.constant(value)
            self.tracker.record(target, _fill.Filled(initializer, distribution, tensor.numel(), 0.0))
        self.tracker.touch(tensor)
        return result


def _value(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> float | None:
    """The number that a function fills a tensor with, if it does."""
    if func is torch.Tensor.zero_:
        return 0.0
    if func in (torch.Tensor.fill_, torch.nn.init.constant_):
        number: Any = args[1] if len(args) > 1 else kwargs.get("val", kwargs.get("value"))
        with contextlib.suppress(TypeError, ValueError):
            return float(number)
    return None


def _place(tensor: Tensor) -> object:
    """What identifies the memory of a tensor, and its view of it; `None` if nothing does."""
    if tensor.is_meta or tensor.layout is not torch.strided or not _fill.is_known(tensor):
        return None
    here = _shards.local(tensor)
    storage = here.untyped_storage()._cdata  # also differs between empty ones
    return storage, here.storage_offset(), here.dtype, tuple(here.shape), here.stride(), tuple(tensor.shape)


def version_of(tensor: Tensor) -> object:
    """A value that changes when a tensor is written to, or replaced."""
    try:
        return id(tensor), tensor._version
    except RuntimeError:  # An inference tensor has none.
        return id(tensor), 0
