"""The initialization of a whole model, with a key for each parameter from its name.

Modules initialize themselves by their own functions while a tracker is active, which gives each parameter
the key of its name. So PyTorch's defaults are not repeated here. All other random numbers that a module draws
come from a generator that is seeded by the name of the module.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import math
import mmap
import sys
import time
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

import fastinit
from fastinit._checks import check_int, located
from fastinit._report import Report
from fastinit._terminal import Bar, listed

from . import _engines, _fill, _report, _schemes, _shards
from ._rules import assign_blocks, assign_rules
from ._tracker import EMBEDDINGS, Tracker, entries, modules, version_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from torch import Tensor
    from torch.nn import Module

    from fastinit._terminal import Progress

    from ._rules import Blocks, Rules
    from ._tracker import Entry

# From this size on, in bytes, a progress bar is shown on a terminal.
_LARGE = 2**30


def initialize(
    model: Module,
    seed: int = 0,
    rules: Rules = None,
    *,
    blocks: Blocks = None,
    prefix: str = "",
    device: torch.device | str = "cpu",
    progress: Progress = None,
) -> Report:
    """Initializes a model, each parameter from the seed and its own name.

    A parameter is filled with the stream of its fully qualified name, as `named_parameters()` has it: with
    `fastinit.random_normal(shape, seed=seed, stream="layers.0.weight")`, say. So it does not depend on the
    order of construction, on other layers, on the number of processes or on the stage of a pipeline. (The
    names omit what `torch.compile`, checkpointing and FSDP insert, and the `module.` of a
    `DistributedDataParallel`.) A tied parameter has the first of its names in that order, and is initialized
    by the module of that name.

    Without rules, modules initialize themselves as in PyTorch, by `reset_parameters`, children before
    parents: the modules of `torch.nn`, and your own modules that have such a method. This also resets running
    statistics. Random numbers that a module draws for anything but a parameter come from the seed and the
    name of the module.

    Two libraries have more. In a `PreTrainedModel` of transformers, at any depth, each module is initialized
    by the `_init_weights` of the nearest one around it, as transformers does, and what that does not fill by
    `reset_parameters`. A model of timm is initialized by its `init_weights`, or by its `_init_weights` if its
    constructor applies that to all modules. Constructors are not run again: where one seems to initialize
    something, or a class has another function that seems to, a warning and the report say so.

    Everything without a rule is initialized, whether or not it has been loaded: what transformers marks as
    loaded is not marked meanwhile.

    While modules initialize themselves, a parameter that has a rule, that a function has filled before, or
    that is tied to one of another module, is replaced by one on the meta device: writing to it has no effect,
    and reading it is an error.

    Parameters on the meta device get memory. So do buffers that their module initializes; buffers without a
    known initializer stay on meta. Other buffers are changed only by their module. Each process fills the
    part of a `DTensor` that it holds, without communication, with the values that a single process would have
    there.

    Args:
        model: The model. All of it, or parts, may be on the meta device.
        seed: An int in [0, 2**64).
        rules: Exceptions to these defaults. Either a function that is called with each module, like that of
            `model.apply`; what it does not fill is then initialized by default. (A method by which a
            `PreTrainedModel` initializes its modules, such as `model._init_weights`, stands for all of its
            initialization, that of models inside included.) Or a mapping.
            Its keys are names of parameters with the wildcards of `fnmatch`, where `*` also matches dots;
            compiled regular expressions, searched in the name; or types of modules. The first name that
            matches a parameter wins, otherwise the first type that its module is an instance of. The value of
            a name is a rule: a function that fills a tensor, such as
            `functools.partial(fastinit.torch.normal_, std=0.02)`; an initializer of `fastinit`, or its name,
            whose axes have PyTorch's meaning unless it sets them; a number; or `None`, which leaves the
            parameter as it is. The value of a type is a dict from names of its own parameters to rules; a
            rule alone is for its `weight`.
        blocks: Fused weights: names or regular expressions, as in `rules`, with the number of equal blocks
            along dimension 0, or a sequence of their sizes. Each block is filled as a tensor of its own, with
            its own fans, and with the stream `fastinit.block_stream(name, k)`.
        prefix: The name of this model in a larger one that it is a part of: `"layers.3"`. All names of
            parameters begin with it, also for rules and blocks.
        device: The device for parameters that are on the meta device; those of a `DTensor` go to the device
            of its mesh.
        progress: Whether to show a progress bar on standard error; `None` for models of more than 1 GiB, on a
            terminal. Or a function that is called with the number of bytes done, the number of all bytes, and
            the name of a module.

    Returns:
        What was done. Print it for a table.

    Raises:
        TypeError: If an argument or a rule is of the wrong kind; nothing has been written then. If a
            parameter has a dtype that a rule cannot fill.
        ValueError: If `seed`, a rule or blocks are out of range, or blocks do not fit their parameter.

    Warns:
        UserWarning: If a parameter was not initialized. The rule `None` says that this is intended. If the
            model seems to have an initialization of its own that was not run as in its constructor, unless
            `rules` is a function.

    Example:
        >>> import torch, fastinit, fastinit.torch
        >>> with torch.device("meta"):
        ...     model = torch.nn.Sequential(torch.nn.Embedding(1000, 64), torch.nn.Linear(64, 256))
        >>> report = fastinit.torch.initialize(model, seed=1, rules={"*.bias": 0.0, "0.weight": "he_normal"})
        >>> round(report["1.weight"].initializer.maxval, 6)  # 1 / sqrt(64), PyTorch's default
        0.125
        >>> array = report["1.weight"].initializer((256, 64), seed=1, stream="1.weight")
        >>> bool((model[1].weight.detach().numpy() == array).all())
        True
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a str, got {type(prefix).__name__}")
    start = time.perf_counter()
    seed = check_int("seed", seed, 0, 2**64 - 1)
    device = torch.device(device)
    if device.type == "meta":
        raise ValueError("device must have memory, got meta")
    with _engines.whole(model):
        tensors, unused, not_run = run(model, seed, rules, blocks, prefix, device, progress)
        return _make_report(tensors, unused, not_run, time.perf_counter() - start)


def run(
    model: Module,
    seed: int,
    rules: Rules,
    blocks: Blocks,
    prefix: str,
    device: torch.device,
    progress: Progress,
    *,
    sampled: int | None = None,
) -> tuple[list[Entry], list[str], list[str]]:
    """Does the work of `initialize`.

    Args:
        model: The model; it and the others are as for `initialize`.
        seed: The seed.
        rules: The rules.
        blocks: The blocks.
        prefix: The prefix.
        device: The device.
        progress: The progress.
        sampled: The size in bytes up to which tensors are filled; `None` for all. Larger ones get memory that
            is not there until it is written to, and how they would be filled is only recorded.

    Returns:
        All tensors, the rules and blocks that matched nothing, and what else looks like an initialization.
    """
    tensors = entries(model, prefix)
    unused = assign_rules(rules, tensors) + assign_blocks(blocks, tensors)
    total = sum(entry.nbytes for entry in tensors)
    bar = Bar(total > _LARGE and sys.stderr.isatty() if progress is None else progress, total)
    try:
        _materialize(tensors, device, sampled)
        work = _Work(model, seed, rules if callable(rules) else None, prefix, tensors, bar, sampled)
        work.run()
    finally:
        _return_to_meta(tensors)
        bar.close()
    return tensors, unused, work.not_run()


# A function that initializes a module, with its arguments.
_Call = tuple[Callable[..., object], tuple["Module", ...]]


class _Work:
    """The initialization of one model."""

    def __init__(
        self,
        model: Module,
        seed: int,
        function: Callable[[Module], object] | None,
        prefix: str,
        tensors: Sequence[Entry],
        bar: Bar,
        sampled: int | None,
    ) -> None:
        self.model = model
        self.seed = seed
        self.prefix = prefix
        self.tensors = tensors
        self.bar = bar
        self.tracker = Tracker(seed, tensors, sampled)
        self.sizes = {module: sum(entry.nbytes for entry in own) for module, own in self.tracker.own.items()}
        self.names: dict[Module, str] = {}  # The first one of each.
        self.parents: dict[Module, list[Module]] = {}
        for name, module in modules(model, prefix):
            if module not in self.names:
                self.names[module] = name
                for child in module.children():
                    self.parents.setdefault(child, []).append(module)
        # Each pass fills what those before it have not filled.
        self.passes: list[Callable[[Module], Sequence[_Call]]] = [_defaults_of]
        scheme = _schemes.of_transformers(model, function)
        if scheme:
            self.passes.insert(0, lambda module: [(scheme[module], (module,))] if module in scheme else [])
        self.is_free = function is not None and not _schemes.is_of_transformers(function)
        if function is not None and self.is_free:
            free = function
            self.passes.insert(0, lambda module: [(free, (module,))])
        self.counted: set[Module] = set()  # by the bar
        self.left_to_defaults: set[Module] = set()  # with a parameter, at any depth, for the last pass

    def run(self) -> None:
        """Initializes all modules, and then the tensors that have rules."""
        with contextlib.ExitStack() as stack:
            stack.enter_context(_schemes.unmarked(self.names, self.tensors))
            stack.enter_context(torch.random.fork_rng(devices=[]))
            stack.enter_context(torch.no_grad())
            stack.enter_context(self.tracker.active())
            self.initialize(self.names)
            self.initialize_tied()
            for entry in self.tensors:
                if entry.rule is not None:
                    self.apply_rule(entry)
            self.tracker.title = ""
            self.tracker.note_changes(self.tensors)
            self.tracker.note_unknown(self.tensors)
        self.pad(self.names)

    def initialize(self, names: Mapping[Module, str]) -> None:
        """Lets modules initialize themselves, children before their parents."""
        for number, functions in enumerate(self.passes):
            is_last = number == len(self.passes) - 1
            left = [entry for entry in self.tensors if entry.is_open]
            self.tracker.own = _by_module(left)
            unfinished = self.containing(left)
            if is_last:
                self.left_to_defaults |= self.containing(entry for entry in left if entry.is_parameter)
            with _hidden(self.tensors):
                for module in reversed(names):
                    calls = functions(module) if number == 0 or module in unfinished else ()
                    if calls:
                        earlier = sum(bool(before(module)) for before in self.passes[:number])
                        self.initialize_module(module, calls, earlier)
                    if module not in self.counted and (calls or is_last):
                        self.counted.add(module)
                        self.bar.add(self.sizes.get(module, 0), names[module])
            self.tracker.title = ""
            self.tracker.note_changes(self.tensors)

    def containing(self, tensors: Iterable[Entry]) -> set[Module]:
        """The modules that initialize any of these tensors, and all modules around them."""
        found: set[Module] = set()
        todo = [entry.module for entry in tensors]
        while todo:
            module = todo.pop()
            if module not in found:
                found.add(module)
                todo += self.parents.get(module, ())
        return found

    def initialize_module(self, module: Module, calls: Sequence[_Call], earlier: int) -> None:
        """Calls functions that initialize a module, after so many earlier passes that had some for it."""
        own = self.tracker.own.get(module, ())
        self.seed_generator(self.names[module], earlier)
        self.tracker.module = module
        self.tracker.start()
        with _unpadded(module) if isinstance(module, EMBEDDINGS) else contextlib.nullcontext():
            for function, arguments in calls:
                self.tracker.title = _title_of(function)
                function(*arguments)
                self.tracker.note_changes(own)
        _schemes.mark(module)
        self.tracker.module = None

    def not_run(self) -> list[str]:
        """What else looks like an initialization of the model."""
        if self.is_free:  # The function is taken for all of it.
            return []
        visible = self.containing(entry for entry in self.tensors if entry.is_parameter and entry.is_visible)
        found = _schemes.not_run(self.model, visible, self.left_to_defaults)
        return [f"{name}: {what}" if (name := self.names[module]) else what for what, module in found.items()]

    def seed_generator(self, name: str, number: int = 0) -> None:
        """Seeds the generator of PyTorch by a name, for random numbers without a name of their own."""
        seeds = fastinit.random_bits(number + 1, seed=self.seed, stream=name, dtype="uint64")
        torch.default_generator.manual_seed(int(seeds[number]))

    def initialize_tied(self) -> None:
        """Lets other modules initialize the parameters that their first module did not."""
        for entry in self.tensors:
            while entry.is_open and entry.owner + 1 < len(entry.places):
                entry.owner += 1
                self.initialize({entry.module: self.names[entry.module]})
            if not entry.written:
                entry.owner = 0

    def apply_rule(self, entry: Entry) -> None:
        """Fills a tensor by its rule."""
        rule, value = entry.rule, entry.value
        assert rule is not None
        if rule.fill is not None and value.numel() > 0:
            self.tracker.title = rule.title
            self.tracker.start()
            self.seed_generator(entry.name)
            with located(f"{entry.name}, rule {rule.title!r}"):
                for block in self.tracker.blocks(value):
                    rule.fill(block)
            self.tracker.note_changes([entry])
        self.bar.add(entry.nbytes, entry.name)

    def pad(self, modules: Iterable[Module]) -> None:
        """Zeroes the padding rows of embeddings."""
        by_identity = {id(entry.value): entry for entry in self.tensors if entry.written}
        for module in modules:
            if not isinstance(module, EMBEDDINGS) or module.padding_idx is None:
                continue
            entry = by_identity.get(id(module.weight))
            if entry is not None:
                with torch.no_grad():
                    _zero_row(module.weight, module.padding_idx)
                entry.version = version_of(module.weight)


@contextlib.contextmanager
def _unpadded(module: Module) -> Iterator[None]:
    """A context in which an embedding does not zero its padding row, which `_Work.pad` does later.

    PyTorch would gather that row of a sharded weight, and zero a copy.
    """
    name = "_fill_padding_idx_with_zero"
    shadows = name not in vars(module)
    if shadows:
        vars(module)[name] = lambda: None
    try:
        yield
    finally:
        if shadows:
            del vars(module)[name]


def _by_module(tensors: Iterable[Entry]) -> dict[Module | None, list[Entry]]:
    found: dict[Module | None, list[Entry]] = {}
    for entry in tensors:
        found.setdefault(entry.module, []).append(entry)
    return found


def _defaults_of(module: Module) -> Sequence[_Call]:
    """The functions that the constructor of a module initializes it with, as far as they are known."""
    functions = (_reset_of(module), _schemes.of_timm(module))
    return [(function, ()) for function in functions if function is not None]


def _reset_of(module: Module) -> Callable[[], object] | None:
    """The function by which a module of PyTorch initializes itself."""
    kind: Any = type(module)
    for name in ("reset_parameters", "_reset_parameters"):
        function = getattr(kind, name, None)
        if function is None:
            continue
        replacement = _REPLACEMENTS.get(function)
        if replacement is not None:
            return functools.update_wrapper(functools.partial(replacement, module), function)
        if _takes_nothing(kind, name):
            return getattr(module, name)
    return None


def _title_of(function: Callable[..., object]) -> str:
    # `repr` of a method spells out its module.
    return getattr(function, "__qualname__", None) or repr(function)


@functools.lru_cache(maxsize=1024)
def _takes_nothing(kind: Any, name: str) -> bool:
    """Whether a method of a class can be called without arguments."""
    is_bound = isinstance(inspect.getattr_static(kind, name), (classmethod, staticmethod))
    try:
        inspect.signature(getattr(kind, name)).bind(*(() if is_bound else (None,)))
    except TypeError:
        return False
    return True


def _reset_convolution(module: Module) -> None:
    # PyTorch fills a contiguous copy of a weight that is not contiguous, since its samples depend on strides.
    torch.nn.init.kaiming_uniform_(module.weight, a=math.sqrt(5))
    if module.bias is not None:
        fan_in, _ = torch.nn.init._calculate_fan_in_and_fan_out(module.weight)
        bound = 1 / math.sqrt(fan_in) if fan_in > 0 else 0
        torch.nn.init.uniform_(module.bias, -bound, bound)


# Where PyTorch's own function would fill a copy.
_REPLACEMENTS: dict[Callable[..., object], Callable[[Module], None]] = {
    torch.nn.Conv1d.reset_parameters: _reset_convolution,  # of all convolutions
}


def _zero_row(weight: Tensor, row: int) -> None:
    """Zeroes one row, in the process that holds it."""
    for part, start in _shards.parts(weight) or ():
        if not part.is_meta and start[0] <= row < start[0] + part.shape[0]:
            part[row - start[0]].zero_()


@contextlib.contextmanager
def _hidden(tensors: Sequence[Entry]) -> Iterator[None]:
    """A context in which tensors that their module does not initialize are on the meta device.

    That is what has been written, and each parameter that has a rule or is tied to one of another module.
    """
    hidden: list[tuple[Entry, Module, str, Tensor, Tensor, bool]] = []
    try:
        with torch._C.DisableTorchFunction():  # Our mode need not see this.
            for entry in tensors:
                _hide(entry, hidden)
        yield
    finally:
        with torch._C.DisableTorchFunction():
            for entry, module, attribute, value, stand_in, is_shown in hidden:
                shown = entry.value if is_shown else value
                _tensors_of(module, attribute)[attribute] = shown
                if not is_shown and shown.is_leaf:
                    shown.requires_grad_(stand_in.requires_grad)


def _hide(entry: Entry, hidden: list[tuple[Entry, Module, str, Tensor, Tensor, bool]]) -> None:
    if isinstance(entry.module, torch.nn.utils.parametrize.ParametrizationList):
        return  # The module computes the tensor that is written to from it.
    is_shown = entry.is_open
    if is_shown and (len(entry.places) == 1 or not entry.is_parameter):
        return
    value = entry.value
    stand_in = torch.empty(_shards.shape(value), dtype=value.dtype, device="meta")
    if entry.is_parameter:
        stand_in = torch.nn.Parameter(stand_in, requires_grad=value.requires_grad)
    for number, (module, attribute) in enumerate(entry.places):
        if number != entry.owner or not is_shown:
            hidden.append((entry, module, attribute, value, stand_in, is_shown))
            _tensors_of(module, attribute)[attribute] = stand_in


def _tensors_of(module: Module, attribute: str) -> dict[str, Any]:
    return module._parameters if attribute in module._parameters else module._buffers


# Memory


def _materialize(tensors: Sequence[Entry], device: torch.device, sampled: int | None) -> None:
    """Gives memory to tensors on the meta device."""
    moved: dict[int, Tensor] = {}

    def move(tensor: Tensor) -> Tensor:
        if not tensor.is_meta:
            return tensor
        if id(tensor) not in moved:
            sharded: Any = tensor
            there = sharded.device_mesh.device_type if _shards.is_sharded(tensor) else device
            try:
                is_large = sampled is not None and tensor.nbytes > sampled
                moved[id(tensor)] = _untouched(tensor) if is_large else _empty_like(tensor, there)
            except Exception as error:
                entry = next(entry for entry in tensors if entry.value is tensor)
                if _fill.is_known(tensor):
                    raise
                entry.refused, moved[id(tensor)] = True, tensor
                warnings.warn(f"{entry.name} gets no memory: {type(error).__name__}: {error}", stacklevel=4)
        return moved[id(tensor)]

    _replace([entry for entry in tensors if entry.was_meta], move)


def _empty_like(tensor: Tensor, device: Any) -> Tensor:
    """New memory on a device for a tensor on the meta device."""
    is_simple = _shards.is_plain_type(tensor) and tensor.is_floating_point()
    if is_simple and tensor.layout is torch.strided and tensor.is_contiguous():
        # PyTorch has `empty_like` of the meta device in Python, which takes ten times as long.
        return torch.empty(tuple(tensor.shape), dtype=tensor.dtype, device=device)
    return torch.empty_like(tensor, device=device)


def _untouched(tensor: Tensor) -> Tensor:
    """Memory on the CPU that takes space only where it is written to, for a tensor on the meta device."""
    if not hasattr(mmap, "MAP_ANONYMOUS"):  # Windows
        return torch.empty_like(tensor, device="cpu")
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | _MAP_NORESERVE
    memory = mmap.mmap(-1, tensor.nbytes, flags=flags)
    return torch.frombuffer(memory, dtype=tensor.dtype).view(tensor.shape)


# Linux's number; Python before 3.13 does not have it.
_MAP_NORESERVE = 0x4000 if sys.platform == "linux" else 0


def _return_to_meta(tensors: Sequence[Entry]) -> None:
    """Returns tensors that were not initialized to the meta device: their contents are undefined."""
    left = [
        entry
        for entry in tensors
        if entry.was_meta and not entry.written and entry.value.numel() > 0 and not entry.value.is_meta
    ]
    values = {id(entry.value) for entry in left}

    def move(tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor, device="meta") if id(tensor) in values else tensor

    _replace(left, move)


def _replace(tensors: Sequence[Entry], move: Callable[[Tensor], Tensor]) -> None:
    """Replaces tensors by `Module._apply`, which wrappers and recurrent layers rely on."""
    before = [(entry.value, dict(vars(entry.value))) for entry in tensors]
    for module in dict.fromkeys(module for entry in tensors for module, _ in entry.places):
        if _is_simple(module):
            for key, parameter in module._parameters.items():
                if parameter is not None and (moved := move(parameter)) is not parameter:
                    module._parameters[key] = torch.nn.Parameter(moved, parameter.requires_grad)
            for key, buffer in module._buffers.items():
                module._buffers[key] = None if buffer is None else move(buffer)
        elif _takes_recurse(type(module)._apply):
            module._apply(move, recurse=False)
        else:
            module._apply(move)
    for entry, (old, attributes) in zip(tensors, before, strict=True):
        new = entry.value
        # They are the same object where PyTorch swaps the contents of tensors.
        # Wrappers hold their contents as attributes.
        for name, attribute in (attributes if new is old else vars(old)).items():
            vars(new).setdefault(name, attribute)
        for module, attribute in entry.places:  # tie it again
            if module._parameters.get(attribute, module._buffers.get(attribute)) is not new:
                setattr(module, attribute, new)


def _is_simple(module: Module) -> bool:
    """Whether `Module._apply` would make new parameters of PyTorch's own class, and nothing else."""
    return (
        type(module)._apply is torch.nn.Module._apply
        and not torch.__future__.get_swap_module_params_on_conversion()
        and all(
            value is None or (_shards.is_plain_type(value) and value.grad is None)
            for value in module._parameters.values()
        )
    )


@functools.lru_cache(maxsize=1024)
def _takes_recurse(apply: Callable[..., object]) -> bool:
    """Whether an `_apply` can skip the children of its module."""
    return "recurse" in inspect.signature(apply).parameters


# The report


def _make_report(
    tensors: Sequence[Entry], unused: Sequence[str], not_run: Sequence[str], seconds: float
) -> Report:
    done = [
        entry
        for entry in tensors
        if entry.written
        and entry.value.numel() > 0
        and (entry.is_parameter or entry.value.is_floating_point())
    ]
    left = tuple(
        entry.name
        for entry in tensors
        if entry.is_parameter
        and not entry.written
        and entry.value.numel() > 0
        and not (entry.rule is not None and entry.rule.fill is None)
    )
    if left:
        count = "1 parameter was" if len(left) == 1 else f"{len(left)} parameters were"
        warnings.warn(f"{count} not initialized: {listed(left)}", stacklevel=3)
    if not_run:
        warnings.warn(
            "the model seems to have an initialization of its own, which was not run as in its constructor: "
            f"{listed(not_run)}. Pass a function that does the same to a module as `rules`, such as "
            "`model._init_weights`, or construct the model inside `fastinit.torch.accelerate`",
            stacklevel=3,
        )
    rows, twins = _report.rows(done)
    return Report(
        rows=tuple(rows),
        uninitialized=left,
        meta_buffers=tuple(entry.name for entry in tensors if not entry.is_parameter and entry.value.is_meta),
        empty=tuple(entry.name for entry in tensors if entry.is_parameter and entry.value.numel() == 0),
        twins=tuple(twins),
        unused_rules=tuple(unused),
        not_run=tuple(not_run),
        seconds=seconds,
    )
