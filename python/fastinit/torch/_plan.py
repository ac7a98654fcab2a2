"""The plan of a model: what `initialize` would fill each tensor with, for any seed.

A copy of the model, whose tensors take no memory, is initialized twice, with two seeds. Fills are recorded
and, of all but small tensors, not carried out. What both runs record alike is the plan. What the model
computes by other code is part of the plan if it is small and does not depend on the seed.
"""

from __future__ import annotations

import copy
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

import fastinit
from fastinit._checks import located
from fastinit._fill import fill
from fastinit._plan import MOST_GIVEN, Part, Plan, PlanRow, cut, dtype_name, given, numpy_dtype, whole
from fastinit._rules import in_layout_of_torch, initializer_of, matches, text_of
from fastinit._terminal import counted, listed

from . import _fill, _shards
from ._initialize import run
from ._tracker import entries, modules, overlapping

if TYPE_CHECKING:
    from collections.abc import Iterable

    from torch import Tensor
    from torch.nn import Module

    from ._rules import Blocks, Rules
    from ._tracker import Entry


def plan(
    model: Module | str | os.PathLike[str], rules: Rules = None, *, blocks: Blocks = None, prefix: str = ""
) -> Plan:
    """Plans a checkpoint of a model: what `initialize` would fill each tensor with, for any seed.

    The plan has a row for each parameter and each persistent buffer, tied ones once, with the first of their
    names. The model is not changed, and a model on the meta device may be larger than memory.

    What `initialize` leaves to other code of the model, such as a table of positions, is part of the plan
    with its values, up to 1 MiB for each tensor. What only `state_dict()` has, such as an extra state of a
    module, is not part of it: a warning names what differs.

    While the model initializes itself, all its operations are followed. What other code changes after a fill,
    computes from random numbers, or may decide by them, is an error and not part of the plan. Code that
    writes to memory by its address alone is found in tensors up to 1 MiB.

    Args:
        model: The model, on the meta device or not. Or the `config.json` of a model of transformers, or the
            directory that has one: then the class that it names is constructed on the meta device.
        rules: As for `initialize`. A rule with the name of a buffer is for it if the model has no values. A
            parameter of a dtype that only plans have, such as an integer or float8, may have a rule as well.
        blocks: As for `initialize`.
        prefix: As for `initialize`.

    Returns:
        The plan. Print it for a table; `fastinit.checkpoint.write` writes it.

    Raises:
        TypeError: If an argument is of the wrong kind, or a tensor has a dtype that a plan cannot have.
        ValueError: If a tensor is not initialized, or depends on random numbers in a way that a plan cannot
            say; the message names up to ten of them. A rule makes them possible. If the model cannot be
            copied, if a tensor has no shape yet or shares memory with a parameter without being the same
            tensor, or if transformers cannot make one of the file; code that comes with a file is never run.
        FileNotFoundError: If there is no such file.
        ImportError: If transformers is not installed, and a `config.json` is given.

    Example:
        >>> import torch, fastinit.torch
        >>> with torch.device("meta"):
        ...     model = torch.nn.Sequential(torch.nn.Embedding(1000, 64), torch.nn.Linear(64, 256))
        >>> plan = fastinit.torch.plan(model, {"*.bias": 0})
        >>> round(plan["1.weight"].initializer.maxval, 6)  # 1 / sqrt(64), PyTorch's default
        0.125
        >>> report = fastinit.torch.initialize(model, seed=1, rules={"*.bias": 0})
        >>> array = plan["0.weight"].initializer((1000, 64), seed=1, stream="0.weight")
        >>> bool((model[0].weight.detach().numpy() == array).all())
        True
    """
    if isinstance(model, (str, os.PathLike)):
        model = _of_config(Path(model))
    if not isinstance(model, torch.nn.Module):
        raise TypeError(f"model must be a torch.nn.Module or a config.json, got {type(model).__name__}")
    if not isinstance(prefix, str):
        raise TypeError(f"prefix must be a str, got {type(prefix).__name__}")
    _check(model, prefix)
    tensors, unused = _initialized(model, 0, rules, blocks, prefix)
    with warnings.catch_warnings(action="ignore"):  # They have been seen.
        others, _ = _initialized(model, 1, rules, blocks, prefix)
    rows, left = [], []
    used: set[str] = set()
    for entry, other in zip(tensors, others, strict=True):
        if not _is_saved(entry):
            continue
        with located(entry.name):
            dtype = dtype_name(entry.value.dtype)
        found = _contents(entry, other)
        title = entry.title + (f", {len(entry.sizes)} blocks" if entry.sizes else "")
        if isinstance(found, str) and not entry.is_parameter and (rule := _rule_of(entry, rules)) is not None:
            title, initializer = rule
            used.add(title)
            found = whole(initializer, _shards.shape(entry.value), entry.name)
        if isinstance(found, str):
            left.append(f"{entry.name} ({found})")
            continue
        row = PlanRow(entry.name, tuple(entry.value.shape), dtype, found, entry.names[1:], title)
        if not (_is_as_planned(row, entry, 0) and _is_as_planned(row, other, 1)):
            left.append(f"{entry.name} (changed by other code of the model)")
            continue
        rows.append(row)
    if left:
        count = counted(len(left), "tensor")
        raise ValueError(f"{count} cannot be planned without a rule: {listed(left)}")
    _compare_with_state(model, prefix, {name for row in rows for name in row.names})
    return Plan(tuple(rows), tuple(text for text in unused if text not in used))


def _check(model: Module, prefix: str) -> None:
    """Raises an error for tensors that a copy of the model would not have as the model has them."""
    for path, module in modules(model, prefix):
        for name, value in (*module._parameters.items(), *module._buffers.items()):
            if value is not None and torch.nn.parameter.is_lazy(value):
                raise ValueError(f"{path}{path and '.'}{name} has no shape yet: call the model once")
    for one, other in overlapping(entries(model, prefix)):
        raise ValueError(
            f"{one.name} and {other.name} share memory, so a plan cannot say what each contains: "
            "plan the model on the meta device, or without one of them"
        )


def _compare_with_state(model: Module, prefix: str, names: set[str]) -> None:
    """Warns if `state_dict` of a model, which may be changed by hooks, has other names than the plan."""
    names_of = {
        path: name
        for (path, _), (name, _) in zip(
            model.named_modules(remove_duplicate=False), modules(model, prefix), strict=True
        )
    }
    try:
        saved = list(_copy(model).to("meta").state_dict())
    except Exception as error:  # Code of the model may need values.
        _fill.warn(
            f"the names of the plan were not compared with state_dict(): {type(error).__name__}: {error}"
        )
        return
    found = []
    for path, _, attribute in (name.rpartition(".") for name in saved):
        # A hook of a wrapper may have taken its name out.
        name = names_of.get(path, ".".join(filter(None, (names_of[""], path))))
        found.append(f"{name}.{attribute}" if name else attribute)
    if more := [name for name in found if name not in names]:
        _fill.warn(f"state_dict() of the model also has what the plan does not have: {listed(more)}")
    if less := sorted(names.difference(found)):
        _fill.warn(f"the plan has what state_dict() of the model does not have: {listed(less)}")


def _of_config(path: Path) -> Module:
    """The model of a configuration of transformers, on the meta device."""
    path = path / "config.json" if path.is_dir() else path
    if not path.is_file():
        raise FileNotFoundError(f"there is no file {path}")
    try:
        import transformers
    except ImportError as error:
        raise ImportError(f"a plan from {path} needs the package transformers") from error
    try:
        # Code that comes with a model is never run, and nobody is asked about it.
        config = transformers.AutoConfig.from_pretrained(path, local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise ValueError(f"{path} is not a configuration that transformers knows: {error}") from error
    names = getattr(config, "architectures", None)
    name = names[0] if isinstance(names, (list, tuple)) and names else names
    kind = transformers.AutoModel if not name else getattr(transformers, str(name), None)
    is_model = isinstance(kind, type) and issubclass(kind, transformers.PreTrainedModel)
    if kind is None or not (kind is transformers.AutoModel or is_model):
        raise ValueError(f"{path}: transformers has no model {name!r:.80}, which it names in 'architectures'")
    try:
        with torch.device("meta"):
            if not is_model:
                return kind.from_config(config, trust_remote_code=False)
            return kind._from_config(config)
    except Exception as error:
        raise ValueError(
            f"{path}: transformers cannot make {kind.__name__} of it: {type(error).__name__}: {error}"
        ) from error


def _initialized(
    model: Module, seed: int, rules: Rules, blocks: Blocks, prefix: str
) -> tuple[list[Entry], list[str]]:
    """The tensors of a copy of the model, after it has been initialized, and the rules that match nothing."""
    with warnings.catch_warnings():
        # That is an error here.
        warnings.filterwarnings("ignore", r"\d+ parameters? (was|were) not initialized")
        tensors, unused, not_run = run(
            _copy(model), seed, rules, blocks, prefix, torch.device("cpu"), False, sampled=MOST_GIVEN
        )
    if not_run:
        _fill.warn(
            "the model seems to have an initialization of its own, which the plan does not have: "
            f"{listed(not_run)}"
        )
    return tensors, unused


def _copy(model: Module) -> Module:
    """A copy of a model with parameters on the meta device."""
    memo: dict[int, Any] = {}
    for module in model.modules():
        for parameter in module._parameters.values():
            if parameter is None or id(parameter) in memo or torch.nn.parameter.is_lazy(parameter):
                continue
            shape = tuple(_shards.shape(parameter))
            values = torch.empty(shape, dtype=parameter.dtype, device="meta")
            memo[id(parameter)] = torch.nn.Parameter(values, requires_grad=parameter.requires_grad)
            vars(memo[id(parameter)]).update(vars(parameter))
    try:
        return copy.deepcopy(model, memo)
    except Exception as error:
        raise ValueError(
            f"the model cannot be planned, since it cannot be copied: {type(error).__name__}: {error}"
        ) from error


def _is_saved(entry: Entry) -> bool:
    """Whether the state of the model has a tensor."""
    return entry.is_parameter or any(
        attribute not in module._non_persistent_buffers_set for module, attribute in entry.places
    )


def _contents(entry: Entry, other: Entry) -> tuple[Part, ...] | str:
    """What a tensor contains, or why the plan cannot say it."""
    value = entry.value
    if value.numel() == 0:
        return whole(fastinit.Zeros(), tuple(value.shape), entry.name)
    if entry.is_parameter and not entry.written:
        return "not initialized"
    if value.is_meta:
        return "its values are unknown"
    parts, again = _parts(entry), _parts(other)
    if parts is not None and parts == again and (entry.chosen or other.chosen):
        return "the code of the model looks at random numbers, on which it may depend"
    if parts is not None and parts == again:
        return _padded(parts, value, entry.padding)
    if parts is not None and again is not None:
        return "its distribution depends on random numbers"
    if value.nbytes > MOST_GIVEN:
        return "computed by other code of the model"
    is_free = not any(one.unknown or one.chosen for one in (entry, other))
    if not (is_free and torch.equal(_bytes(value), _bytes(other.value))):
        return "computed from random numbers by other code of the model"
    return given(_array(value))


def _parts(entry: Entry) -> tuple[Part, ...] | None:
    """What a tensor was filled with, if nothing but fastinit has written to it."""
    if not entry.filled or entry.changed or not entry.is_current:
        return None
    shape = tuple(entry.value.shape)
    found: list[Part] = []
    for block, filled in sorted(entry.filled.items()):
        if filled.contents is None:
            return None
        own = (entry.sizes[block], *shape[1:]) if entry.sizes else shape
        stream = fastinit.block_stream(entry.name, block) if entry.sizes else entry.name
        found += whole(filled.contents.initializer, own, stream)
    return tuple(found) if sum(part.count for part in found) == entry.value.numel() else None


def _is_as_planned(row: PlanRow, entry: Entry, seed: int) -> bool:
    """Whether a tensor that was filled contains what the plan says; code can write without an operation."""
    value = entry.value
    if (
        value.is_meta
        or value.dtype not in _fill.DTYPES
        or not 0 < value.nbytes <= MOST_GIVEN
        or not entry.filled
    ):
        return True
    array = np.empty(row.size, numpy_dtype(row.dtype))
    fill(row, 0, array, seed, 1)
    return bool(np.array_equal(array.view(np.uint8), _bytes(value).numpy()))


def _padded(parts: tuple[Part, ...], value: Tensor, padding: Iterable[int]) -> tuple[Part, ...]:
    """The same, with some rows of zeros."""
    for row in padding:
        width = value[0].numel()
        zeros = whole(fastinit.Zeros(), (width,), 0)
        end = (row + 1) * width
        parts = (*cut(parts, 0, row * width), *zeros, *cut(parts, end, value.numel()))
    return parts


def _rule_of(entry: Entry, rules: Any) -> tuple[str, fastinit.Initializer] | None:
    """The rule with the name of a tensor."""
    if not hasattr(rules, "items"):
        return None
    for key, rule in rules.items():
        if not isinstance(key, type) and matches(key, entry.names):
            found = initializer_of(rule)
            return None if found is None else (text_of(key), in_layout_of_torch(found))
    return None


def _bytes(tensor: Tensor) -> Tensor:
    return tensor.detach().contiguous().reshape(-1).view(torch.uint8)


def _array(tensor: Tensor) -> Any:
    return _bytes(tensor).numpy().view(numpy_dtype(dtype_name(tensor.dtype)))
