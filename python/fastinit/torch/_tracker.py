"""The tensors of a model by name: recognized when they are written to, with a record of their contents."""

from __future__ import annotations

import bisect
import contextlib
import functools
import itertools
import math
import warnings
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch.utils import _pytree

import fastinit
from fastinit._plan import constant_of
from fastinit.theory import distributions

from . import _accelerate, _engines, _fill, _shards
from ._watch import Watch

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from torch import Tensor
    from torch.nn import Module

    from ._rules import Rule

# The attribute names under which PyTorch's wrappers hold a module.
_WRAPPERS = ("_orig_mod", "_checkpoint_wrapped_module", "_fsdp_wrapped_module")
_PARALLEL = (torch.nn.DataParallel, torch.nn.parallel.DistributedDataParallel)


EMBEDDINGS = (torch.nn.Embedding, torch.nn.EmbeddingBag)


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
    refused: bool = False  # whether PyTorch cannot fill it
    parts: set[object] = field(default_factory=set)  # where it has been written to so far
    covered: int = 0  # their elements
    owner: int = 0  # the index of the place whose module initializes it
    # The following is known of plans only.
    changed: set[int] = field(default_factory=set)  # the blocks that were written to after `filled`
    unknown: bool = False  # whether its elements depend on values that the plan does not have
    chosen: bool = False  # whether such a value may have decided what it was filled with

    @property
    def name(self) -> str:
        return self.names[0]

    @property
    def value(self) -> Tensor:
        module, attribute = self.places[self.owner]
        value = module._parameters.get(attribute)
        return getattr(module, attribute) if value is None else value

    @property
    def module(self) -> Module:
        """The module that initializes it."""
        return self.places[self.owner][0]

    @property
    def is_current(self) -> bool:
        """Whether it has not been written to since `filled` was recorded."""
        return self.version == version_of(self.value)

    @property
    def is_blank(self) -> bool:
        """Whether it is new memory, of which not all has been written to."""
        return self.was_meta and not self.written

    @property
    def is_visible(self) -> bool:
        """Whether its module may see it, since no rule is to fill it."""
        return self.rule is None

    @property
    def is_open(self) -> bool:
        """Whether its module is to initialize it. What was written to in part would lose that."""
        return self.is_visible and not (self.written or self.parts)

    @property
    def padding(self) -> set[int]:
        """The rows that are zero in the end, since it is the weight of an embedding."""
        return {
            int(module.padding_idx)
            for module, attribute in self.places
            if attribute == "weight" and isinstance(module, EMBEDDINGS) and module.padding_idx is not None
        }

    @property
    def nbytes(self) -> int:
        """The number of bytes that this process holds."""
        try:
            return int(_shards.local(self.value).nbytes)
        except RuntimeError:  # It is sparse, say.
            return 0


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
                attribute = _engines.global_name(parent, attribute, module)
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

    def __init__(self, seed: int, entries: Sequence[Entry], sampled: int | None = None) -> None:
        self.title = ""
        self.module: Module | None = None
        self._seed = seed
        self._sampled = sampled
        self._watch = None if sampled is None else Watch(self)
        self._has_looked = False
        self._touched: list[Entry] = []  # since `start`
        self.own: dict[Module | None, list[Entry]] = {}
        for entry in entries:
            if entry.is_visible:
                self.own.setdefault(entry.module, []).append(entry)
        self._by_identity: dict[int, _Target] = {}
        self._by_place: dict[object, _Target] = {}
        self._by_storage: dict[int, list[tuple[int, int, Entry, Tensor]]] = {}
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
                with _accelerate.redirects(_Mode(self)), self._watch or contextlib.nullcontext():
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
        if (source := _shards.source(value)) is not value:
            self._remember(source, target)
        if (place := _place(value)) is not None:
            self._by_place.setdefault(place, target)
        if (span := _span(value)) is not None:
            storage, first, end = span
            self._by_storage.setdefault(storage, []).append((first, end, entry, value))
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
        if target is None and _shards.is_view(tensor):
            return self.find(_shards.source(tensor)) if _shards.is_whole(tensor) else None
        if target is not None or (place := _place(tensor)) is None:
            return target
        target = self._by_place.get(place)
        # Memory that a parameter no longer uses may have been reused.
        return target if target is not None and _place(target.entry.value) == place else None

    def see_parameter(self, parameter: Tensor) -> None:
        """Recognizes a parameter with which a module has replaced one of its own."""
        if isinstance(parameter, torch.nn.Parameter) and id(parameter) not in self._by_identity:
            for entry in self.own.get(self.module, ()):
                if entry.value is parameter:
                    self._recognize(entry)

    # The protocol of `_fill.Tracker`

    @property
    def is_plan(self) -> bool:
        """Whether the tensors are filled to know how, and not for their contents."""
        return self._sampled is not None

    def blocks(self, tensor: Tensor) -> Sequence[Tensor]:
        """The blocks of a tensor that has some; otherwise, and for a block, the tensor itself."""
        self.see_parameter(tensor)
        target = self.find(tensor)
        if target is None or target.is_block:
            return (tensor,)
        return self._blocks.get(target.entry, (tensor,))

    def key(self, tensor: Tensor) -> _fill.Key | None:
        """The key of a tensor, if it has a name."""
        target = self.find(tensor)
        return None if target is None else _fill.Key(self._seed, target.stream)

    def is_sampled(self, tensor: Tensor) -> bool:
        """Whether a tensor is to be filled; otherwise it is only recorded how."""
        return self._sampled is None or tensor.nbytes <= self._sampled

    def filled(self, tensor: Tensor, filled: _fill.Filled) -> None:
        """Records that a tensor was filled, and how."""
        target = self.find(tensor)
        if self._watch is not None and not _is_constant(filled.contents):
            self._watch.add(tensor)
        if target is not None:
            self.record(target, filled)
        else:
            self.touch(tensor)
            if self._watch is not None:
                self.changed(tensor)

    # Recording changes

    def record(self, target: _Target, filled: _fill.Filled) -> None:
        """Records how a tensor, or a block of it, was filled."""
        entry = target.entry
        if not target.is_block:
            entry.filled.clear()
            entry.changed.clear()
        entry.changed.discard(target.block)
        if self._watch is not None and not self.is_sampled(entry.value):
            self._watch.add(entry.value)
        entry.filled[target.block] = filled
        self._touch(entry)
        entry.version = version_of(entry.value)

    def touch(self, tensor: Tensor, *, reads: bool = False) -> None:
        """Records that this tensor, or a part of it, was written to, perhaps from what it held before."""
        target = self.find(_shards.source(tensor))
        if target is not None:
            self._touch(target.entry, tensor, reads=reads)
        elif (span := _span(tensor)) is not None:
            storage, address, _ = span
            for first, end, entry, _ in self._by_storage.get(storage, ()):
                if first <= address < end and (_span(entry.value) or (0, 0))[1] == first:
                    self._touch(entry, tensor, reads=reads)

    def note_changes(self, entries: Sequence[Entry]) -> None:
        """Records which of these were written to in ways that the mode does not see."""
        for entry in entries:
            if not (entry.written or entry.parts) and self._versions[entry] != version_of(entry.value):
                self._touch(entry)

    def refused(self, tensor: Tensor, error: Exception) -> bool:
        """Whether an error means that PyTorch cannot fill this kind of tensor, which is recorded then."""
        target = self.find(tensor)
        if _shards.is_sharded(tensor) or _fill.is_plain(tensor) or (target is None and not tensor.is_meta):
            if target is not None and hasattr(error, "add_note"):  # Python 3.11
                note = f"This was {target.entry.name}."
                if note not in getattr(error, "__notes__", ()):
                    error.add_note(note)
            return False
        if target is not None and not target.entry.refused:  # Otherwise it is hidden.
            target.entry.refused, target.entry.written = True, False
            reason = f"{type(error).__name__}: {error}".splitlines()[0]
            warnings.warn(f"{target.entry.name} cannot be filled: {reason}", stacklevel=2)
        return True

    def _touch(self, entry: Entry, part: Tensor | None = None, *, reads: bool = False) -> None:
        if entry.refused:
            return
        self._touched.append(entry)
        entry.chosen = self._has_looked
        entry.title = self.title
        # New memory is written to where all of it is, by functions that do not read it. Parts that overlap
        # are counted twice.
        if part is not None and entry.is_blank and (reads or part.numel() < entry.value.numel()):
            place = part.storage_offset(), tuple(part.shape), part.stride(), reads
            if place not in entry.parts:
                entry.parts.add(place)
                entry.covered += 0 if reads else part.numel()
            if entry.covered < entry.value.numel():
                return
        entry.written = True

    # The protocol of `_watch.Watcher`

    def start(self) -> None:
        """Says that what follows does not depend on what was looked at before."""
        self._has_looked = False
        self._touched.clear()

    def changed(self, tensor: Tensor) -> bool:
        """Records that code wrote to a tensor; returns whether it is, or is a part of, one of the model."""
        span, found = _span(tensor), False
        storage, first, end = span or (0, 0, 0)
        for low, high, entry, value in self._by_storage.get(storage, ()):
            if first < high and low < end:
                found = True
                entry.changed.update(_changed_blocks(entry, value, first - low, end - low))
        return found

    def looked(self, *, branches: bool) -> None:
        """Records that code looked at a number that the plan does not have, or at whether something holds."""
        self._has_looked = True
        if branches:
            for entry in (*self.own.get(self.module, ()), *self._touched):
                entry.chosen = True

    def sees(self, func: Callable[..., Any], args: tuple[Any, ...]) -> None:
        """Records functions that give access to the memory of a tensor of which the plan has no values."""
        if self._watch is None or func not in _ACCESSES or not isinstance(args[0], torch.Tensor):
            return
        if func is not torch.Tensor.tolist:
            self.changed(args[0])
        if self._watch.is_unknown(args[0]):
            self.looked(branches=True)

    def note_unknown(self, entries: Sequence[Entry]) -> None:
        """Records which tensors depend on values that the plan does not have."""
        if self._watch is not None:
            for entry in entries:
                entry.unknown = self._watch.is_unknown(entry.value)


# Functions after which code may read, or write to, the memory of a tensor without an operation of PyTorch.
_ACCESSES = frozenset(
    {
        torch.Tensor.__array__,
        torch.Tensor.__dlpack__,
        torch.Tensor.numpy,
        torch.Tensor.storage,
        torch.Tensor.tolist,
        torch.Tensor.untyped_storage,
    }
)


def _changed_blocks(entry: Entry, value: Tensor, begin: int, end: int) -> Sequence[int]:
    """The blocks of a tensor to which a write from and to these bytes belongs.

    None are those of a row of padding, which is zero in the end.
    """
    count = max(1, len(entry.sizes))
    if not value.is_contiguous() or value.dim() < 1 or value.numel() == 0:
        return range(count)
    width = value.nbytes // len(value)
    if any(row * width <= begin and end <= (row + 1) * width for row in entry.padding):
        return ()
    ends = list(itertools.accumulate(entry.sizes or (len(value),)))
    return range(bisect.bisect_right(ends, begin // width), bisect.bisect_right(ends, (end - 1) // width) + 1)


def _is_constant(contents: _fill.Contents | None) -> bool:
    return contents is not None and constant_of(contents.initializer) is not None


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
        if _accelerate.is_inside():
            return super().__torch_function__(func, types, args, kwargs)
        sets_data = func == torch.Tensor.data.__set__
        if sets_data and (args[0].is_meta or _shards.is_view(args[0])):
            # It is hidden, and PyTorch would refuse data on another device. Or it is no longer a view then.
            return None
        if sets_data and _shards.is_sharded(args[0]):
            func = torch.Tensor.copy_  # PyTorch would leave the local tensor as it is.
        self.tracker.sees(func, args)
        written = self._written(func, args, kwargs)
        for tensor in written:
            self.tracker.see_parameter(tensor)
        before = [(target, target and target.filled) for target in map(self.tracker.find, written)]
        if len(before) == 1 and before[0][0] is not None and not self.tracker.is_sampled(written[0]):
            value = _value(func, args, kwargs)
            if value is not None:
                self.tracker.record(before[0][0], _filled_with(value, written[0]))
                return written[0]
        views, (view_args, view_kwargs) = _as_views(func, args, kwargs)
        if not written and not views:
            return super().__torch_function__(func, types, args, kwargs)
        try:
            result = super().__torch_function__(func, types, view_args, view_kwargs)
        except Exception as error:
            if written and all(self.tracker.refused(tensor, error) for tensor in written):
                return written[0]
            raise
        reads = _reads(func)
        for tensor, (target, filled) in zip(written, before, strict=True):
            if reads and (target is None or target.entry.is_blank):
                self.tracker.touch(tensor, reads=True)
                continue
            if target is not None and target.filled is filled:  # `_fill` has not recorded it.
                self.tracker.record(target, _filled_with(_value(func, args, kwargs), tensor))
            self.tracker.touch(tensor)
        return None if sets_data else views.get(id(result), result)

    def _written(
        self, func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> list[Tensor]:
        """The tensors that a function writes to."""
        name = getattr(func, "__name__", "")
        if (name == "__get__" or name[-1:] != "_") and "out" not in kwargs:
            return []
        found = [kwargs.get("out")]
        if name.endswith("__"):
            in_place = name.startswith("__i") and name not in ("__invert__", "__index__", "__int__")
            writes = in_place or name == "__setitem__" or func == torch.Tensor.data.__set__
        else:
            writes = name.endswith("_") and name not in self._HARMLESS
        if name == "__setitem__" and isinstance(args[0], torch.Tensor) and _is_basic(args[1]):
            found.append((_shards.view(args[0]) if _shards.is_sharded(args[0]) else args[0])[args[1]])
        elif writes:
            found.append(args[0] if args else kwargs.get("tensor"))
        if found[0] is not None:
            found = _pytree.tree_leaves(found)
        return [one for one in found if isinstance(one, torch.Tensor)]


# A function that it redirects records what it fills.
_accelerate.add_passive_mode(_Mode)

# Methods that write to all of a tensor without reading it, besides those of `_shards.OVERWRITES`.
_CONSTANTS = frozenset({"fill_", "zero_", "copy_", "set_", "__setitem__", "__set__"})


def _reads(func: Callable[..., Any]) -> bool:
    """Whether a function that writes to its first argument is a method that computes with what is there."""
    name = getattr(func, "__name__", "")
    return name not in _CONSTANTS | _shards.OVERWRITES and getattr(torch.Tensor, name, None) is func


def _is_basic(index: object) -> bool:
    """Whether indexing gives a view."""
    found = index if isinstance(index, tuple) else (index,)
    return all(one is None or one is ... or type(one) in (int, slice) for one in found)


# What is a view of a `DTensor`, or writes to one, besides what PyTorch says of its operations.
_PARTS = frozenset({"__getitem__", "__setitem__", "T", "mT", "H", "mH"})

# Functions that give all of a `DTensor`, which shares its memory or is a copy as of any tensor.
_WHOLE = frozenset({"detach", "alias", "contiguous", "to"})


# Types of arguments that are not, and do not contain, a `DTensor`.
_SIMPLE = frozenset(
    {
        torch.Tensor,
        torch.nn.Parameter,
        torch.Size,
        torch.dtype,
        torch.device,
        bool,
        int,
        float,
        str,
        type(None),
    }
)


def _as_views(
    func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[dict[int, Tensor], Any]:
    """Each `DTensor` as a view, where PyTorch would write to a copy, draw for each shard, or refuse.

    Returns:
        The tensors by the identity of their views, and the arguments.
    """
    if _SIMPLE.issuperset(map(type, args)) and _SIMPLE.issuperset(map(type, kwargs.values())):
        return {}, (args, kwargs)
    found = [one for one in _pytree.tree_leaves((args, kwargs)) if isinstance(one, torch.Tensor)]
    sharded = [one for one in found if _shards.is_sharded(one)]
    if not sharded:
        return {}, (args, kwargs)
    name = getattr(func, "__name__", "")
    if name == "__get__":  # of an attribute
        name = getattr(getattr(func, "__self__", None), "__name__", "")
    if not (
        (_gives_views(name) and name not in _WHOLE)
        or name in _PARTS
        or name in _shards.OVERWRITES
        or any(one.dim() > 0 and not _shards.is_sharded(one) for one in found)
        or any(map(_shards.is_view, sharded))
    ):
        return {}, (args, kwargs)
    views = {id(one): _shards.view(one) for one in sharded}
    by_view = {id(views[id(one)]): one for one in sharded}
    return by_view, _pytree.tree_map(lambda one: views.get(id(one), one), (args, kwargs))


@functools.cache
def _gives_views(name: str) -> bool:
    """Whether an operation of PyTorch gives views of a tensor."""
    packet = getattr(torch.ops.aten, name, None) if name.isidentifier() else None
    schemas = [getattr(packet, overload)._schema for overload in packet.overloads()] if packet else []
    return any(
        not schema.is_mutable and any(one.alias_info is not None for one in schema.returns)
        for schema in schemas
    )


def _value(func: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any]) -> float | None:
    """The number that a function fills a tensor with, if it does."""
    if func is torch.Tensor.zero_:
        return 0.0
    if func in (torch.Tensor.fill_, torch.nn.init.constant_):
        number: Any = args[1] if len(args) > 1 else kwargs.get("val", kwargs.get("value"))
        with contextlib.suppress(TypeError, ValueError):
            return float(number)
    return None


def _filled_with(value: float | None, tensor: Tensor) -> _fill.Filled:
    """That a tensor was filled with a number; `None` for something else."""
    contents = None if value is None else _constant(value, math.copysign(1.0, value))
    return _fill.Filled(contents, tensor.numel(), 0.0)


@functools.lru_cache(maxsize=256)
def _constant(value: float, _sign: float) -> _fill.Contents:
    """What tensors are filled with whose elements are all this number; 0.0 and -0.0 differ in the sign."""
    return _fill.Contents(fastinit.Constant(value), functools.partial(distributions.constant, value))


def _place(tensor: Tensor) -> object:
    """What identifies the memory of a tensor, and its view of it; `None` if nothing does."""
    if tensor.is_meta or not _fill.is_known(tensor) or tensor.layout is not torch.strided or tensor.is_nested:
        return None
    here = _shards.local(tensor)
    storage = here.untyped_storage()._cdata  # also differs between empty ones
    return storage, here.storage_offset(), here.dtype, tuple(here.shape), here.stride(), tuple(tensor.shape)


def _span(tensor: Tensor) -> tuple[int, int, int] | None:
    """The storage of a tensor, and the addresses from which and to which it extends, if it has memory."""
    here = _shards.local(tensor)
    if not _fill.is_plain(here) or here.numel() == 0:
        return None
    span = here.numel()
    if not here.is_contiguous():
        span = 1 + sum((n - 1) * step for n, step in zip(here.shape, here.stride(), strict=True))
    first = here.data_ptr()
    return here.untyped_storage().data_ptr(), first, first + span * here.itemsize


def overlapping(entries: Iterable[Entry]) -> Iterator[tuple[Entry, Entry]]:
    """Pairs of tensors, one of them a parameter, of which one begins before the memory of the other ends."""
    spans = [
        (span[1], span[2], at, one)
        for at, one in enumerate(entries)
        if not one.was_meta and (span := _span(one.value))
    ]
    last: Entry | None = None
    end = 0
    for first, stop, _, one in sorted(spans):
        if last is not None and first < end and (last.is_parameter or one.is_parameter):
            yield last, one
        if stop > end:
            last, end = one, stop


def version_of(tensor: Tensor) -> object:
    """A value that changes when a tensor is written to, or replaced."""
    # A `DTensor` counts writes to copies of its parts as well, its local tensor only those to itself.
    here = _shards.local(tensor)
    try:
        return id(tensor), here._version
    except RuntimeError:  # An inference tensor has none.
        return id(tensor), 0
