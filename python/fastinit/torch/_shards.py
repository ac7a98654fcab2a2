"""Sharded tensors: which parts of the full tensor this process holds.

`DTensor` is recognized without importing it, since the import is slow.
"""

from __future__ import annotations

import itertools
import sys
from typing import TYPE_CHECKING, Any, TypeAlias

import torch

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

# A tensor, and the index of its first element in the full tensor that it is a part of.
Part: TypeAlias = "tuple[Tensor, tuple[int, ...]]"


class _Block(torch.Tensor):
    """A block of a `DTensor` along dimension 0, as a tensor on the meta device of the shape of the block."""

    parent: Any
    start: int
    __torch_function__ = torch._C._disabled_torch_function_impl


def is_sharded(tensor: object) -> bool:
    """Whether this is a `DTensor`, or a block of one."""
    module: Any = sys.modules.get("torch.distributed.tensor")
    return module is not None and type(tensor) in (_Block, getattr(module, "DTensor", None))


def is_block(tensor: object) -> bool:
    """Whether this is a block of a `DTensor`."""
    return type(tensor) is _Block


def block(tensor: Tensor, start: int, size: int) -> Tensor:
    """A block of a tensor along dimension 0: a view, or a `_Block` of a `DTensor`."""
    if not is_sharded(tensor):
        return tensor.narrow(0, start, size)
    result = torch.empty((size, *tensor.shape[1:]), dtype=tensor.dtype, device="meta").as_subclass(_Block)
    result.parent, result.start = tensor, start
    return result


def parent(tensor: Tensor) -> Tensor:
    """The `DTensor` that a block belongs to; any other tensor itself."""
    return tensor.parent if isinstance(tensor, _Block) else tensor


def local(tensor: Tensor) -> Tensor:
    """The local tensor of a `DTensor`; any other tensor itself."""
    if not is_sharded(tensor) or is_block(tensor):
        return tensor
    sharded: Any = tensor
    with torch.no_grad():
        part: Tensor = sharded.to_local()
    return part


def parts(tensor: Tensor) -> list[Part] | None:
    """The parts of a tensor that this process holds, each contiguous in every dimension of the full tensor.

    Where PyTorch shards one dimension over several dimensions of a mesh, a process may hold several runs of
    indices along it. So each placement is applied to the indices themselves, by PyTorch's own rule.

    Returns:
        The parts: the tensor itself unless it is sharded; `None` where a placement neither shards nor
        replicates.

    Raises:
        RuntimeError: If the local tensor does not have the shape that follows from its placements.
    """
    if not is_sharded(tensor):
        return [(tensor, (0,) * tensor.dim())]
    if isinstance(tensor, _Block):
        of_parent = parts(tensor.parent)
        return None if of_parent is None else list(_within(of_parent, tensor.start, tensor.shape[0]))
    sharded: Any = tensor
    here = local(tensor)
    coordinate = sharded.device_mesh.get_coordinate()
    if coordinate is None:  # This process is not in the mesh.
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


def _within(of_parent: Sequence[Part], first: int, size: int) -> Iterator[Part]:
    """The parts of a block along dimension 0; indices count from the start of the block."""
    for part, (start, *rest) in of_parent:
        low, high = max(start, first), min(start + part.shape[0], first + size)
        if low < high:
            yield part[low - start : high - start], (low - first, *rest)


def _indices(
    dimension: int, size: int, mesh: Any, placements: Sequence[Any], coordinate: Sequence[int]
) -> range | Tensor | None:
    """The indices along a dimension that this process holds, in order; `None` where that is not known."""
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
        if type(placement) is shard:  # It splits as `torch.chunk` does.
            length = -(-len(indices) // count)
            indices = indices[number * length : (number + 1) * length]
            continue
        if isinstance(indices, range):
            indices = torch.arange(indices.start, indices.stop, device="cpu")
        # The rule splits along the dimension, so the indices have to lie along it.
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
    """For each run its offset in the local tensor, its first index, and its length."""
    offsets = itertools.accumulate((length for _, length in runs), initial=0)
    return [(offset, first, length) for offset, (first, length) in zip(offsets, runs, strict=False)]
