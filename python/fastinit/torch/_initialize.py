"""A whole model, each parameter keyed by its name.

Modules initialize themselves, by the function that PyTorch gave them, while the names are in force: whatever
is sampled for a parameter then has the key of its name. So no default of PyTorch is written here again. Other
random numbers that a module draws come from a generator that is seeded by the name of the module.
"""

from __future__ import annotations

import contextlib
import functools
import inspect
import operator
import sys
import time
import warnings
from typing import TYPE_CHECKING, Any

import torch

import fastinit

from . import _report, _shards
from ._names import Names, clean, entries
from ._report import Report
from ._rules import assign_blocks, assign_rules

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor
    from torch.nn import Module

    from ._names import Entry
    from ._rules import Blocks, Rules

    Progress = bool | Callable[[int, int, str], object] | None

# From this size on a model gets a bar on a terminal, in bytes.
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
    order of construction, on other layers, on the number of processes or on the stage of a pipeline. (Names
    that `torch.compile`, checkpointing and FSDP insert are left out, and so is the `module.` of a
    `DistributedDataParallel`.) A tied parameter has the first of its names in that order, and the
    law of the module that has this one.

    Without rules, a module is initialized as PyTorch does it, by its `reset_parameters`, children before
    parents; this includes the modules of `torch.nn`, and those of your own that have such a method. It resets
    running statistics, too. All random numbers that it draws for something else than a parameter come from
    the seed and the name of the module.

    Parameters on the meta device get memory. Buffers there do so, if their module initializes them, and stay
    there otherwise; other buffers are not touched but by their module. Of a `DTensor` each process fills what
    it has, without communication, with what a single process would have there.

    Args:
        model: The model. It may be on the meta device, in whole or in part.
        seed: An int in [0, 2**64).
        rules: What else to do than PyTorch does. Either a function that is called with each module, as
            `model.apply` takes it; a module of whose parameters it fills none is initialized as without
            rules. Or a mapping. Its keys are names of parameters with the wildcards of `fnmatch`, of which
            `*` also stands for dots; compiled regular expressions, searched in the name; or types of modules.
            The first name that matches a parameter counts, else the first type that its module is an instance
            of. The value of a name is a rule: a function that fills a tensor, such as
            `functools.partial(fastinit.torch.normal_, std=0.02)`; an initializer of `fastinit`, or its name,
            with PyTorch's meaning of axes unless it says otherwise; a number; or `None`, which leaves the
            parameter as it is. The value of a type is a dict from names of its own parameters to rules; a
            rule alone is for its `weight`.
        blocks: Fused weights: names or regular expressions, as in `rules`, with the number of equal blocks
            along dimension 0, or a sequence of their sizes. Each block is filled as a tensor of its own, with
            fans of its own, and with the stream `fastinit.block_stream(name, k)`.
        prefix: What the names of all parameters begin with: `"layers.3."`, where `model` is the part of a
            larger model that has this name.
        device: Where parameters go that are on the meta device; those of a `DTensor` go to the device of its
            mesh.
        progress: Whether to show a bar on standard error; `None` for models of more than 1 GiB, on a
            terminal. Or a function that is called with the number of bytes that are done, that of all bytes,
            and the name of a module.

    Returns:
        What was done. Its `print` is a table.

    Raises:
        TypeError: If an argument or a rule is of the wrong kind; nothing has been written then. If a
            parameter has a dtype that a rule cannot fill.
        ValueError: If `seed`, a rule or blocks are out of range, or blocks do not fit their parameter.

    Warns:
        UserWarning: If nobody initialized a parameter; a rule `None` says that this is meant.

    Example:
        >>> import torch, fastinit, fastinit.torch
        >>> with torch.device("meta"):
        ...     model = torch.nn.Sequential(torch.nn.Embedding(1000, 64), torch.nn.Linear(64, 256))
        >>> report = fastinit.torch.initialize(model, seed=1, rules={"*.bias": 0.0, "0.weight": "he_normal"})
        >>> round(report["1.weight"].law.maxval, 6)  # 1 / sqrt(64), PyTorch's default
        0.125
        >>> array = report["1.weight"].law((256, 64), seed=1, stream="1.weight")
        >>> bool((model[1].weight.detach().numpy() == array).all())
        True
    """
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module, got {type(model).__name__}")
    start = time.perf_counter()
    seed = operator.index(seed)
    fastinit.random_bits(0, seed=seed)  # raises what it raises
    tensors = entries(model, prefix)
    unused = assign_rules(rules, tensors) + assign_blocks(blocks, tensors)
    work = _Work(model, seed, rules if callable(rules) else None, prefix, tensors)
    advance = _progress(progress, sum(entry.nbytes for entry in tensors))
    _materialize(tensors, torch.device(device))
    work.run(advance)
    _take_back(tensors)
    return _make_report(tensors, unused, time.perf_counter() - start)


class _Work:
    """A model, and what is to be done with it."""

    def __init__(
        self,
        model: Module,
        seed: int,
        function: Callable[[Module], object] | None,
        prefix: str,
        tensors: Sequence[Entry],
    ) -> None:
        self.model = model
        self.seed = seed
        self.function = function
        self.prefix = prefix
        self.tensors = tensors
        self.own: dict[Module, list[Entry]] = {}
        for entry in tensors:
            self.own.setdefault(entry.places[0][0], []).append(entry)

    def run(self, advance: Callable[[int, str], None]) -> None:
        """Initializes all modules, children before their parents."""
        self.names = Names(self.seed, self.tensors)
        with torch.random.fork_rng(devices=[]), torch.no_grad(), self.names.in_force():
            for name, module in reversed(list(self.model.named_modules())):
                with self.names.aliases():
                    self.initialize(name, module)
                advance(sum(entry.nbytes for entry in self.own.get(module, ())), name)
        self.names.title = ""
        self.names.note_changes()

    def initialize(self, name: str, module: Module) -> None:
        """Initializes a module."""
        names, own = self.names, self.own.get(module, [])
        stream = self.prefix + clean(name, self.model)
        torch.default_generator.manual_seed(_seed_of(self.seed, stream))
        names.scope = name
        if self.function is not None:
            names.title = getattr(self.function, "__qualname__", repr(self.function))
            self.function(module)
            names.note_changes(own)
        if self.function is None or (own and not any(entry.written for entry in own)):
            reset = _reset_of(module)
            if reset is not None:
                names.title = getattr(reset, "__qualname__", repr(reset))
                reset()
                names.note_changes(own)
        for entry in own:
            self.apply_rule(entry)
        if isinstance(module, (torch.nn.Embedding, torch.nn.EmbeddingBag)) and module.padding_idx is not None:
            _zero_row(module.weight, module.padding_idx)

    def apply_rule(self, entry: Entry) -> None:
        """Does what a user says of a tensor, if he does."""
        rule, names = entry.rule, self.names
        if rule is None or rule.fill is None or entry.value.numel() == 0:
            return
        names.title, names.ruled = rule.title, entry
        try:
            for value in names.blocks(entry.value):
                rule.fill(value)
            names.touch(entry.value)
        except (TypeError, ValueError) as error:
            raise type(error)(f"{entry.name}, rule {rule.title!r}: {error}") from error
        finally:
            names.ruled = None


def _seed_of(seed: int, stream: str) -> int:
    """A seed for what has no name of its own."""
    return int(fastinit.random_bits(1, seed=seed, stream=stream, dtype="uint64")[0])


def _reset_of(module: Module) -> Callable[[], object] | None:
    """The function by which a module initializes itself."""
    embeddings = (torch.nn.Embedding.reset_parameters, torch.nn.EmbeddingBag.reset_parameters)
    for name in ("reset_parameters", "_reset_parameters"):
        function = getattr(type(module), name, None)
        if function is None:
            continue
        if function in embeddings and _shards.is_sharded(module.weight):
            # PyTorch would gather the row of the padding, and then zero a copy. That row follows later.
            fill = functools.partial(torch.nn.init.normal_, module.weight)
            return functools.update_wrapper(fill, function)
        method = getattr(module, name)
        with contextlib.suppress(TypeError):
            inspect.signature(method).bind()
            return functools.partial(method) if not hasattr(method, "__qualname__") else method
    return None


def _zero_row(weight: Tensor, row: int) -> None:
    """Zeroes one row, where it is."""
    parts = _shards.parts(weight) if _shards.is_sharded(weight) else [(weight, (0,) * weight.dim())]
    for part, start in parts or ():
        if not part.is_meta and start[0] <= row < start[0] + part.shape[0]:
            part[row - start[0]].zero_()


# Memory


def _materialize(tensors: Sequence[Entry], device: torch.device) -> None:
    """Gives memory to what is on the meta device."""
    made: dict[int, Tensor] = {}

    def move(tensor: Tensor) -> Tensor:
        if not tensor.is_meta:
            return tensor
        if id(tensor) not in made:
            sharded: Any = tensor
            there = sharded.device_mesh.device_type if _shards.is_sharded(tensor) else device
            made[id(tensor)] = torch.empty_like(tensor, device=there)
        return made[id(tensor)]

    _replace([entry for entry in tensors if entry.was_meta], move)


def _take_back(tensors: Sequence[Entry]) -> None:
    """Takes memory back from what nobody has initialized: its contents would be anything."""
    left = [entry for entry in tensors if entry.was_meta and not entry.written and entry.value.numel() > 0]
    values = {id(entry.value) for entry in left}

    def move(tensor: Tensor) -> Tensor:
        return torch.empty_like(tensor, device="meta") if id(tensor) in values else tensor

    _replace(left, move)


def _replace(tensors: Sequence[Entry], move: Callable[[Tensor], Tensor]) -> None:
    """Replaces tensors, in PyTorch's way, which wrappers and recurrent layers rely on."""
    before = [entry.value for entry in tensors]
    for module in dict.fromkeys(module for entry in tensors for module, _ in entry.places):
        module._apply(move, recurse=False)
    for entry, old in zip(tensors, before, strict=True):
        new = entry.value
        if new is not old:
            vars(new).update(vars(old))
        for module, attribute in entry.places[1:]:  # Tied again.
            if getattr(module, attribute) is not new:
                setattr(module, attribute, new)


# What is said about it


def _make_report(tensors: Sequence[Entry], unused: Sequence[str], seconds: float) -> Report:
    done = [
        entry
        for entry in tensors
        if entry.written and entry.value.numel() > 0 and entry.value.is_floating_point()
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
        some = ", ".join(left[:10]) + (", ..." if left[10:] else "")
        warnings.warn(f"nobody initialized {len(left)} parameters: {some}", stacklevel=3)
    return Report(
        rows=tuple(_report.row(entry) for entry in done),
        untouched=left,
        buffers=tuple(entry.name for entry in tensors if not entry.is_parameter and entry.value.is_meta),
        empty=tuple(entry.name for entry in tensors if entry.is_parameter and entry.value.numel() == 0),
        twins=tuple(_report.twins({entry.name: entry.value for entry in done if entry.is_parameter})),
        unused=tuple(unused),
        seconds=seconds,
    )


def _progress(progress: Progress, total: int) -> Callable[[int, str], None]:
    """A function that is told how many bytes more are done, and where."""
    done = 0
    shown = ""
    if progress is None:
        progress = total > _LARGE and sys.stderr.isatty()

    def advance(size: int, name: str) -> None:
        nonlocal done, shown
        done += size
        if callable(progress):
            progress(done, total, name)
        elif progress:
            part = done / total if total else 1.0
            text = f"\r{'#' * int(30 * part):30} {part:4.0%}"
            if text != shown:
                print(text, end="\n" if not name else "", file=sys.stderr, flush=True)
                shown = text

    return advance
