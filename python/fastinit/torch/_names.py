"""The tensors of a model by name: which one a function is given, and what has become of it."""

from __future__ import annotations

import contextlib
import itertools
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch

import fastinit

from . import _accelerate, _fill, _report, _shards

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from torch import Tensor
    from torch.nn import Module

    from ._rules import Rule

# What wrappers of PyTorch call the module in them.
_WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
_PARALLEL = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)


class Made(NamedTuple):
    """What a tensor, or a block of it, was filled with."""

    law: fastinit.Initializer | None
    shape: tuple[int, ...]
    seconds: float


@dataclass(eq=False)
class Entry:
    """A parameter or a buffer of the model."""

    names: tuple[str, ...]  # with the prefix and without wrappers
    places: list[tuple[Module, str]]  # a tied one has several
    is_parameter: bool
    was_meta: bool
    rule: Rule | None = None
    sizes: tuple[int, ...] = ()  # of its blocks
    written: bool = False
    title: str = ""  # of the rule or the function that wrote to it last
    made: dict[int, Made] = field(default_factory=dict)  # by block
    version: object = None  # when that was taken down
    owner: int = 0  # the place whose module initializes it

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def value(self) -> Tensor:
        module, attribute = self.places[self.owner]
        value: Tensor = getattr(module, attribute)
        return value

    @property
    def module(self) -> Module:
        """The module that initializes it."""
        return self.places[self.owner][0]

    @property
    def is_current(self) -> bool:
        """Whether nobody has written to it since `made` was taken down."""
        return self.version == version_of(self.value)

    @property
    def is_visible(self) -> bool:
        """Whether it has memory that its module may see: it is not kept for a rule."""
        return self.rule is None

    @property
    def nbytes(self) -> int:
        """The bytes that lie in this process."""
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
    """All modules under all their names, with the prefix and without what wrappers put in."""
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


@dataclass(frozen=True, eq=False)
class _Found:
    """A tensor of the model, or one of its blocks."""

    entry: Entry
    stream: int | str
    block: int = 0
    is_part: bool = False

    @property
    def made(self) -> Made | None:
        return self.entry.made.get(self.block)


class Names:
    """What `_fill` and `_accelerate` ask while a model is initialized.

    Attributes:
        title: What to call who is at work.
        module: The module that initializes itself, if one does.
        own: What each module is to initialize.
    """

    def __init__(self, seed: int, entries: Sequence[Entry]) -> None:
        self.title = ""
        self.module: Module | None = None
        self._seed = seed
        self.own: dict[Module | None, list[Entry]] = {}
        for entry in entries:
            if entry.is_visible:
                self.own.setdefault(entry.module, []).append(entry)
        self._by_identity: dict[int, _Found] = {}
        self._by_place: dict[object, _Found] = {}
        self._by_storage: dict[int, list[tuple[int, int, Entry]]] = {}
        self._alive: list[Tensor] = []  # so that no identity is given twice
        self._blocks: dict[Entry, list[Tensor]] = {}
        self._versions = {entry: version_of(entry.value) for entry in entries}
        with torch.no_grad():
            for entry in entries:
                self._recognize(entry)

    @contextlib.contextmanager
    def in_force(self) -> Iterator[None]:
        """A context in which the names count, in this thread."""
        before = _fill.names()
        _fill.set_names(self)
        try:
            with _accelerate.detours(), _Mode(self):
                yield
        finally:
            _fill.set_names(before)

    # What is this?

    def _recognize(self, entry: Entry) -> None:
        value = entry.value
        found = _Found(entry, entry.name)
        self._remember(value, found)
        if (place := _place(value)) is not None:
            self._by_place.setdefault(place, found)
        here = _shards.local(value)
        if here.numel() > 0 and here.layout is torch.strided:
            first = here.data_ptr()
            span = 1 + sum((n - 1) * step for n, step in zip(here.shape, here.stride(), strict=True))
            in_storage = self._by_storage.setdefault(here.untyped_storage().data_ptr(), [])
            in_storage.append((first, first + span * here.itemsize, entry))
        starts = itertools.accumulate(entry.sizes, initial=0)
        for k, (start, size) in enumerate(zip(starts, entry.sizes, strict=False)):
            block = _shards.block(value, start, size)
            self._remember(block, _Found(entry, fastinit.block_stream(entry.name, k), k, is_part=True))
            self._blocks.setdefault(entry, []).append(block)

    def _remember(self, value: Tensor, found: _Found) -> None:
        self._alive.append(value)
        self._by_identity[id(value)] = found

    def find(self, tensor: Tensor) -> _Found | None:
        """What this tensor is, if it is of the model, or has the memory of one that is."""
        found = self._by_identity.get(id(tensor))
        if found is not None or (place := _place(tensor)) is None:
            return found
        found = self._by_place.get(place)
        # Memory that a parameter has left may be anybody's.
        return found if found is not None and _place(found.entry.value) == place else None

    def see_parameter(self, parameter: Tensor) -> None:
        """Learns of a parameter by which a module may have replaced one of its own."""
        if id(parameter) not in self._by_identity:
            for entry in self.own.get(self.module, ()):
                if entry.value is parameter:
                    self._recognize(entry)

    # What `_fill` and `_accelerate` ask

    def blocks(self, tensor: Tensor) -> Sequence[Tensor]:
        """The blocks of a tensor that has some; others, and blocks themselves, are one."""
        found = self.find(tensor)
        if found is None or found.is_part:
            return (tensor,)
        return self._blocks.get(found.entry, (tensor,))

    def key(self, tensor: Tensor) -> _fill.Key | None:
        """The key of a tensor, if it has a name."""
        found = self.find(tensor)
        return None if found is None else _fill.Key(self._seed, found.stream)

    def filled(self, tensor: Tensor, make: _fill.Make, seconds: float) -> None:
        """Learns what a tensor was filled with, and how long it took."""
        found = self.find(tensor)
        if found is not None:
            self.wrote(found, _report.law_of(make, tensor.shape), tensor.shape, seconds)

    # What has become of them?

    def wrote(
        self,
        found: _Found,
        law: fastinit.Initializer | None,
        shape: Sequence[int],
        seconds: float = 0.0,
    ) -> None:
        """Takes down that a tensor, or a block of it, now has contents of this law."""
        made = found.entry.made
        if not found.is_part:
            made.clear()
        made[found.block] = Made(law, tuple(shape), seconds)
        self._touch(found.entry)
        found.entry.version = version_of(found.entry.value)

    def touch(self, tensor: Tensor) -> None:
        """Takes down that somebody has written to this tensor, or to a part of it."""
        found = self.find(tensor)
        if found is not None:
            self._touch(found.entry)
            return
        here = _shards.local(tensor)
        if here.layout is torch.strided and here.numel() > 0 and not here.is_meta:
            address = here.data_ptr()
            for first, end, entry in self._by_storage.get(here.untyped_storage().data_ptr(), ()):
                if first <= address < end and _shards.local(entry.value).data_ptr() == first:
                    self._touch(entry)

    def note_changes(self, entries: Sequence[Entry]) -> None:
        """Takes down which of these were written in ways that nobody has seen."""
        for entry in entries:
            if not entry.written and self._versions[entry] != version_of(entry.value):
                self._touch(entry)

    def _touch(self, entry: Entry) -> None:
        entry.written = True
        entry.title = self.title


class _Mode(_accelerate.Mode):
    """Sees what is written to, beside leading it to fastinit."""

    # They end in an underscore, but write nothing.
    _HARMLESS = frozenset({"requires_grad_", "detach_", "share_memory_", "rename_"})

    def __init__(self, names: Names) -> None:
        super().__init__()
        self.names = names

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Does what was called."""
        kwargs = kwargs or {}
        tensor = args[0] if args else kwargs.get("tensor")
        if not isinstance(tensor, torch.Tensor) or _accelerate.is_inside() or not self._writes(func):
            return super().__torch_function__(func, types, args, kwargs)
        if func == torch.Tensor.data.__set__ and tensor.is_meta:
            return None  # It is hidden, and PyTorch would refuse data of another device.
        if isinstance(tensor, torch.nn.Parameter):
            self.names.see_parameter(tensor)
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
        names = self.names
        found = names.find(tensor)
        made = None if found is None else found.made
        value = _value(func, args, kwargs)
        if not _shards.is_block(tensor):
            result = super().__torch_function__(func, types, args, kwargs)
        elif value is not None:
            for part, _ in _shards.parts(tensor) or ():
                part.fill_(value)
            result = tensor
        elif _accelerate.is_offered(func) or func is not getattr(torch.Tensor, func.__name__, None):
            result = super().__torch_function__(func, types, args, kwargs)
        else:
            raise TypeError(f"{func.__name__} cannot be used for a block of a tensor that is sharded")
        if found is not None and found.made is made:  # Nobody has said what it was filled with.
            names.wrote(found, None if value is None else fastinit.Constant(value), tensor.shape)
        names.touch(tensor)
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
    """What tells a tensor from others in memory; `None` if there is nothing."""
    if tensor.is_meta or tensor.layout is not torch.strided or not _fill.is_known(tensor):
        return None
    here = _shards.local(tensor)
    storage = here.untyped_storage()._cdata  # tells empty ones apart, too
    return storage, here.storage_offset(), here.dtype, tuple(here.shape), here.stride(), tuple(tensor.shape)


def version_of(tensor: Tensor) -> object:
    """What changes when a tensor is written to, or replaced."""
    try:
        return id(tensor), tensor._version
    except RuntimeError:  # An inference tensor has none.
        return id(tensor), 0
