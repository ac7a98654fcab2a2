"""Tensors that are spread over processes: which part of the logical tensor lies here.

`DTensor` is only looked for where somebody has imported it already, since that takes long.
"""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

# A tensor, and the place of its first element in the logical tensor that it is a part of.
Part: TypeAlias = "tuple[Tensor, tuple[int, ...]]"


class _Block(torch.Tensor):
    """Stands for a part of a `DTensor`, on the meta device: it has the shape, and the place."""

    whole: Any
    start: int
    __torch_function__ = torch._C._disabled_torch_function_impl


def is_sharded(tensor: object) -> bool:
    """Whether this is a `DTensor`, or a block of one."""
    module: Any = sys.modules.get("torch.distributed.tensor")
    return module is not None and type(tensor) in (_Block, getattr(module, "DTensor", None))


def is_block(tensor: object) -> bool:
    """Whether this stands for a block of a `DTensor`."""
    return type(tensor) is _Block


def block(tensor: Tensor, start: int, size: int) -> Tensor:
    """A part of a tensor along dimension 0: a view or, of a `DTensor`, something that stands for it."""
    if not is_sharded(tensor):
        return tensor.narrow(0, start, size)
    stand_in = torch.empty((size, *tensor.shape[1:]), dtype=tensor.dtype, device="meta").as_subclass(_Block)
    stand_in.whole, stand_in.start = tensor, start
    return stand_in


def whole(tensor: Tensor) -> Tensor:
    """The `DTensor` that a block is part of; any other tensor is its own."""
    return tensor.whole if isinstance(tensor, _Block) else tensor


def local(tensor: Tensor) -> Tensor:
    """The part of a `DTensor` that lies here; any other tensor is its own."""
    if not is_sharded(tensor) or is_block(tensor):
        return tensor
    sharded: Any = tensor
    with torch.no_grad():
        part: Tensor = sharded.to_local()
    return part


def parts(tensor: Tensor) -> list[Part] | None:
    """What lies here of a `DTensor`, cut into parts that are contiguous in each dimension of the whole.

    Where PyTorch shards one dimension over several dimensions of a mesh, a process may have several runs of
    indices along it. So each placement is applied to the indices themselves, by PyTorch's own rule.

    Returns:
        The parts; `None` where a placement is not to shard or to replicate.

    Raises:
        RuntimeError: Where the part that lies here has not the shape that follows from its placements.
    """
    if isinstance(tensor, _Block):
        of_whole = parts(tensor.whole)
        return None if of_whole is None else list(_cut(of_whole, tensor.start, tensor.shape[0]))
    sharded: Any = tensor
    here = local(tensor)
    coordinate = sharded.device_mesh.get_coordinate()
    if coordinate is None:  # This process is not of the mesh.
        return []
    runs = []
    for dimension, size in enumerate(tensor.shape):
        found = _indices(dimension, size, sharded.device_mesh, sharded.placements, coordinate)
        if found is None:
            return None
        runs.append(_runs(found))
    shape = tuple(sum(length for _, length in of_dimension) for of_dimension in runs)
    if shape != tuple(here.shape):
        raise RuntimeError(
            f"by its placements {sharded.placements} this process should have {shape} of the tensor, "
            f"but it has {tuple(here.shape)}"
        )
    result = []
    for combination in itertools.product(*(_with_offsets(of_dimension) for of_dimension in runs)):
        part = here[tuple(slice(offset, offset + length) for offset, _, length in combination)]
        result.append((part, tuple(first for _, first, _ in combination)))
    return result


def _cut(of_whole: Sequence[Part], first: int, size: int) -> Iterator[Part]:
    """What of some parts lies in a block along dimension 0; places are counted from there."""
    for part, (start, *rest) in of_whole:
        low, high = max(start, first), min(start + part.shape[0], first + size)
        if low < high:
            yield part[low - start : high - start], (low - first, *rest)


def _indices(
    dimension: int, size: int, mesh: Any, placements: Sequence[Any], coordinate: Sequence[int]
) -> range | Tensor | None:
    """The indices along a dimension that lie here, in their order; `None` where that is not known."""
    shard: Any = sys.modules["torch.distributed.tensor"].Shard
    indices: range | Tensor = range(size)
    for mesh_dimension, placement in enumerate(placements):
        if placement.is_replicate():
            continue
        if not hasattr(placement, "_split_tensor"):
            return None
        if placement.dim != dimension:
            continue
        count, number = mesh.size(mesh_dimension), coordinate[mesh_dimension]
        if type(placement) is shard:  # cuts as `torch.chunk` does
            length = -(-len(indices) // count)
            indices = indices[number * length : (number + 1) * length]
            continue
        if isinstance(indices, range):
            indices = torch.arange(indices.start, indices.stop, device="cpu")
        # The rule cuts along the dimension, so the indices have to lie along it.
        column = indices.view([1] * dimension + [-1])
        pieces, _ = placement._split_tensor(column, count, with_padding=False, contiguous=False)
        indices = pieces[number].reshape(-1)
    return indices


def _runs(indices: range | Tensor) -> list[tuple[int, int]]:
    """Runs of successive indices: the first index of each, and its length."""
    if isinstance(indices, range):
        return [(indices.start, len(indices))]
    if len(indices) == 0:
        return [(0, 0)]
    cuts = (torch.nonzero(indices.diff() != 1).flatten() + 1).tolist()
    edges = [0, *cuts, len(indices)]
    return [(int(indices[i]), j - i) for i, j in itertools.pairwise(edges)]


def _with_offsets(runs: Sequence[tuple[int, int]]) -> list[tuple[int, int, int]]:
    """For each run its place in the local tensor, its first index, and its length."""
    offsets = itertools.accumulate((length for _, length in runs), initial=0)
    return [(offset, first, length) for offset, (first, length) in zip(offsets, runs, strict=False)]
