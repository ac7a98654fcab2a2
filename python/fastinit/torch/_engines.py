"""Parameters that DeepSpeed and Megatron have split: each appears whole while a model is initialized.

Both are recognized by the attributes of their parameters and modules, without an import.
"""

from __future__ import annotations

import contextlib
import math
import sys
from typing import TYPE_CHECKING, Any

import torch

from . import _shards

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor
    from torch.nn import Module


class UnplacedError(ValueError):
    """It cannot be told which part of a parameter this process holds."""


@contextlib.contextmanager
def whole(model: Module) -> Iterator[None]:
    """A context in which each split parameter is a view of the full shape. Writes reach what is held.

    Raises:
        ValueError: If it cannot be told which part of a parameter this process holds, or if an optimizer of
            DeepSpeed has copies of it. Nothing has been written then.
    """
    shown: dict[int, Tensor] = {}
    places = []
    for path, module in model.named_modules(remove_duplicate=False):
        for attribute, parameter in module._parameters.items():
            if parameter is None or torch.nn.parameter.is_lazy(parameter):
                continue
            try:
                split = _zero(parameter)
                if split is None:
                    split = _megatron(module, attribute, parameter)
                if split is not None and split.held.is_meta:
                    raise UnplacedError("it is split, and on the meta device; give it memory first")
            except UnplacedError as error:
                raise ValueError(f"{path}.{attribute}: {error}") from None
            if split is not None:
                shown.setdefault(id(parameter), _shown(split, parameter))
                places.append((module, attribute, parameter))
    try:
        for module, attribute, parameter in places:
            module._parameters[attribute] = shown[id(parameter)]
        yield
    finally:
        last = [module._parameters[attribute] for module, attribute, _ in places]
        for module, attribute, parameter in places:
            module._parameters[attribute] = parameter
        for value, (_, _, parameter) in zip(last, places, strict=True):
            _take(value, shown[id(parameter)])


def _shown(split: _shards.Split, parameter: Tensor) -> Tensor:
    view: Any = _shards.view(split)
    view._is_param = True
    view.requires_grad_(parameter.requires_grad)
    return view


def _take(value: Any, view: Tensor) -> None:
    """Copies what is held of a tensor with which a module has replaced a view, and its `requires_grad`."""
    split: Any = _shards.source(view)
    if value is not view:
        if value is None or value.is_meta or value.shape != view.shape:
            raise RuntimeError(f"a parameter of shape {tuple(view.shape)} was replaced by another one")
        with torch.no_grad():
            for part, start in split.parts:
                part.copy_(value[_shards.box(start, part.shape)])
    split.parameter.requires_grad_(value.requires_grad)


# ZeRO-3 of DeepSpeed


def _zero(parameter: Any) -> _shards.Split | None:
    """A parameter of ZeRO-3: each process has a range of the elements in C order, the last one padding."""
    if hasattr(parameter, "_z3_optimizer") or getattr(parameter, "_hp_mapping", None) is not None:
        raise UnplacedError("an optimizer of DeepSpeed has a copy of it; call initialize before it is made")
    held = getattr(parameter, "ds_tensor", None)
    if not hasattr(parameter, "ds_id") or held is None:
        return None
    if hasattr(held, "ds_quant_scale"):
        raise UnplacedError("DeepSpeed holds it quantized")
    if getattr(parameter, "ds_secondary_tensor", None) is not None:
        raise UnplacedError("DeepSpeed holds a secondary partition of it")
    states = [getattr(one, "name", None) for one in (parameter.ds_status, held.status)]
    if states != ["NOT_AVAILABLE", "AVAILABLE"]:
        raise UnplacedError("DeepSpeed has gathered it, or moved its partition to a file")
    group = parameter.ds_process_group
    rank, count = torch.distributed.get_rank(group), torch.distributed.get_world_size(group)
    shape, size, step = tuple(parameter.ds_shape), parameter.ds_numel, held.ds_numel
    if rank < 0 or step != -(-size // count) or held.numel() != step:
        raise UnplacedError(f"{count} partitions of {step} elements are not what its {size} elements need")
    low = min(rank * step, size)
    held = held.detach()[: min(low + step, size) - low]
    return _shards.Split.make(shape, parameter, held, group, flat_parts(shape, held, low))


def flat_parts(shape: tuple[int, ...], held: Tensor, low: int) -> list[_shards.Part]:
    """A range of the elements of a tensor, in C order, as boxes.

    Args:
        shape: The shape of the tensor.
        held: The elements, in one dimension and contiguous.
        low: The number of the first one.
    """
    if held.numel() == 0:
        return []
    strides = [math.prod(shape[axis + 1 :]) for axis in range(len(shape))]
    result = []
    for box in _shards.range_boxes(list(zip(shape, strides, strict=True)), low, low + held.numel()):
        start = tuple(first for first, _ in box)
        offset = sum(first * stride for first, stride in zip(start, strides, strict=True)) - low
        sizes = [end - first for first, end in box]
        result.append((held.as_strided(sizes, strides, held.storage_offset() + offset), start))
    return result


# Tensor parallelism of Megatron

# The sizes of a dimension, in all and in each process, by which a layer of Megatron is known.
_SIZES = {
    "output_size": (0, "output_size_per_partition"),
    "input_size": (1, "input_size_per_partition"),
    "num_embeddings": (0, "num_embeddings_per_partition"),
}


def _megatron(module: Any, attribute: str, parameter: Any) -> _shards.Split | None:
    """A tensor parallel parameter of Megatron: every `count`-th piece along a dimension, `stride` of them."""
    if not getattr(parameter, "allreduce", True):  # Its processes have equal names for different experts.
        raise UnplacedError("it is expert parallel, and the numbers of its experts are not known")
    parallel = getattr(parameter, "tensor_model_parallel", False)
    if not parallel:
        for name, (axis, of_part) in _SIZES.items() if attribute == "weight" else ():
            size = getattr(module, name, None)
            local = None if size is None else getattr(module, of_part, None)
            if local is not None and size != local and parameter.shape[axis] == local:
                raise UnplacedError(
                    f"it has {local} of {size}, but not the attributes tensor_model_parallel, "
                    "partition_dim and partition_stride of Megatron"
                )
        return None
    rank, count = _position(module, parameter)
    if count == 1:
        return None
    dimension = getattr(parameter, "partition_dim", -1)
    stride = getattr(parameter, "partition_stride", 1)
    if not 0 <= dimension < parameter.dim() or stride < 1 or parameter.shape[dimension] % stride:
        raise UnplacedError(f"partition_dim={dimension} and partition_stride={stride} do not fit its shape")
    if getattr(module, "num_local_experts", 1) > 1:
        raise UnplacedError("it has the weights of several experts, which Megatron orders in another way")
    length = parameter.shape[dimension]
    shape = list(parameter.shape)
    shape[dimension] *= count
    for name, (axis, of_part) in _SIZES.items():
        size, local = getattr(module, name, None), getattr(module, of_part, None)
        if attribute == "weight" and axis == dimension and local == length and size != shape[axis]:
            raise UnplacedError(f"{count} processes with {length} each do not make {size}")
    piece = length // stride
    parts = []
    for k in range(stride):
        start = [0] * len(shape)
        start[dimension] = (k * count + rank) * piece
        parts.append((parameter.detach().narrow(dimension, k * piece, piece), tuple(start)))
    return _shards.Split.make(tuple(shape), parameter, parameter.detach(), _group(module, parameter), parts)


def _group(module: Any, parameter: Any) -> Any:
    """The process group over which a parameter is split."""
    group = getattr(module, "tp_group", None)
    state: Any = sys.modules.get("megatron.core.parallel_state")
    if group is None and state is not None:
        expert = getattr(module, "is_expert", not getattr(parameter, "allreduce", True))
        name = "get_expert_tensor_parallel_group" if expert else "get_tensor_model_parallel_group"
        with contextlib.suppress(AssertionError, AttributeError):
            group = getattr(state, name)()
    return group


def _position(module: Any, parameter: Any) -> tuple[int, int]:
    """The number of this process in the group of a parameter, and the size of the group."""
    group = _group(module, parameter)
    if group is None:
        raise UnplacedError("it is tensor parallel, but its process group is not known")
    return group.rank(), group.size()


# Names


def global_name(parent: Module, attribute: str, child: Any) -> str:
    """The name of a child that does not depend on the stage of a pipeline, or on expert parallelism.

    Megatron numbers layers from 0 on each stage, and experts from 0 in each process.
    """
    megatron: Any = sys.modules.get("megatron.core.transformer.module")
    if megatron is None:
        return attribute
    owner: Any = parent
    if isinstance(parent, torch.nn.ModuleList) and attribute.isdigit():
        number = getattr(child, "layer_number", None)
        if isinstance(child, megatron.MegatronModule) and isinstance(number, int):
            return str(number - 1)
    elif isinstance(parent, megatron.MegatronModule):
        shares = getattr(owner, "share_embeddings_and_output_weights", False)
        if attribute == "output_layer" and shares and not getattr(owner, "pre_process", True):
            return "embedding.word_embeddings"  # The last stage has a copy of it.
    return attribute
