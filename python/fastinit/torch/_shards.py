"""Sharded tensors: which parts of the full tensor this process holds, and views of the full tensor.

`DTensor` is recognized without importing it, since the import is slow.
"""

from __future__ import annotations

import itertools
import math
import sys
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias, TypeGuard

import torch
from torch.utils import _pytree

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

# A tensor, and the index of its first element in the full tensor that it is a part of.
Part: TypeAlias = "tuple[Tensor, tuple[int, ...]]"


def is_sharded(tensor: object) -> bool:
    """Whether this is a `DTensor`, or a view of a sharded tensor."""
    return not is_plain_type(tensor) and (is_view(tensor) or _is_dtensor(tensor))


def is_view(tensor: object) -> TypeGuard[_View]:
    """Whether this is a view of a sharded tensor, as `view` makes them."""
    return type(tensor) is _View


def _is_dtensor(tensor: object) -> bool:
    module: Any = sys.modules.get("torch.distributed.tensor")
    return module is not None and type(tensor) is getattr(module, "DTensor", None)


def is_copy(tensor: Tensor) -> bool:
    """Whether this is a part of a `DTensor` that PyTorch has copied: a write does not reach it."""
    if is_plain_type(tensor) or not (_is_dtensor(tensor) and _is_dtensor(tensor._base)):
        return False
    base: Any = tensor._base
    return local(tensor).untyped_storage()._cdata != local(base).untyped_storage()._cdata


def is_plain_type(tensor: object) -> bool:
    """Whether this is a tensor or a parameter of PyTorch itself, as nearly all are."""
    return type(tensor) is torch.nn.Parameter or type(tensor) is torch.Tensor


def source(tensor: Tensor) -> Tensor:
    """The sharded tensor that a view belongs to; any other tensor itself."""
    return tensor.source if is_view(tensor) else tensor


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a sharded tensor, in one piece; any other tensor itself."""
    if is_plain_type(tensor):
        return tensor
    sharded: Any = source(tensor)
    if isinstance(sharded, Split):
        return sharded.held
    if not _is_dtensor(sharded):
        return sharded
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
    if is_plain_type(tensor):
        return [(tensor, (0,) * tensor.dim())]
    if is_view(tensor):
        found = parts(tensor.source)
        return None if found is None else [one for part in found for one in _boxes(tensor, *part)]
    if isinstance(tensor, Split):
        return tensor.parts
    if not _is_dtensor(tensor):
        return [(tensor, (0,) * tensor.dim())]
    sharded: Any = tensor
    here = local(tensor)
    coordinate = sharded.device_mesh.get_coordinate()
    if coordinate is None:  # This process is not in the mesh.
        return []
    runs = []
    for dimension, size in enumerate(tensor.shape):
        indices = _indices(dimension, size, sharded.device_mesh, sharded.placements, coordinate)
        if indices is None:
            return None
        runs.append(_runs(indices))
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


def box(start: Sequence[int], shape: Sequence[int]) -> tuple[slice, ...]:
    """The index of a part."""
    return tuple(slice(i, i + size) for i, size in zip(start, shape, strict=True))


def full(tensor: Tensor) -> Tensor:
    """All values of a sharded tensor, or of a view of one, as an ordinary tensor; this communicates."""
    if is_view(tensor):
        whole = full(tensor.source).contiguous()
        return whole.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset())
    if isinstance(tensor, Split):
        return tensor.gathered()
    sharded: Any = tensor
    with torch.no_grad():
        whole = sharded.full_tensor()
    return whole.detach()


class Split(torch.Tensor):
    """A tensor that another library has split over processes: on the meta device, of the full shape.

    Attributes:
        parameter: The tensor of that library.
        held: What this process holds, in one piece.
        group: The process group that holds all of it, each element once.
        parts: The same as `held`, as `parts` gives it.
    """

    parameter: Any
    held: Tensor
    group: Any
    parts: list[Part]
    __torch_function__ = torch._C._disabled_torch_function_impl

    @classmethod
    def make(cls, shape: Sequence[int], parameter: Any, held: Tensor, group: Any, parts: list[Part]) -> Split:
        """A tensor of this shape, with these attributes."""
        result = torch.empty(tuple(shape), dtype=held.dtype, device="meta").as_subclass(cls)
        result.parameter, result.held, result.group, result.parts = parameter, held, group, parts
        return result

    def gathered(self) -> Tensor:
        """All values, as an ordinary tensor; this communicates."""
        whole = torch.zeros(tuple(self.shape), dtype=self.dtype, device=self.held.device)
        for part, start in self.parts:
            whole[box(start, part.shape)] = part
        torch.distributed.all_reduce(whole.view(-1).view(torch.uint8), group=self.group)  # exact: x + 0
        return whole


# Placements


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


# Views


class _View(torch.Tensor):
    """A view of a sharded tensor. Its shape, strides and offset are those in the full tensor, in C order.

    PyTorch itself computes them, so that any view of a view is one. A write changes what this process holds;
    the values are those of one process that does the same. A read gives an ordinary tensor with all values.

    Attributes:
        source: The sharded tensor.
    """

    source: Any
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls: Any, source: Tensor, like: Tensor) -> _View:
        """A view with the shape, the strides and the offset of another tensor."""
        result: _View = torch.Tensor._make_wrapper_subclass(
            cls,
            like.shape,
            like.stride(),
            like.storage_offset(),
            dtype=like.dtype,
            device=local(source).device,
        )
        result.source = source
        return result

    @classmethod
    def __torch_dispatch__(
        cls, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        """Does what an operation of PyTorch does."""
        kwargs = kwargs or {}
        first, schema = args[0] if args else None, func._schema
        name = schema.name.removeprefix("aten::")
        if is_view(first) and not schema.is_mutable and any(one.alias_info for one in schema.returns):
            return first._viewed(func, args, kwargs)
        if is_view(first) and name in _EACH_BY_ITSELF and "alpha" not in kwargs:
            return first._write_parts(func, args, kwargs)
        # Otherwise on ordinary tensors with the same contents.
        blank = name.startswith("new_") or name.endswith("_like") or name in OVERWRITES
        written: list[tuple[_View, Tensor]] = []

        def ordinary(value: Any) -> Any:
            if not is_sharded(value):
                return value
            if blank:
                return torch.empty(value.shape, dtype=value.dtype, device=value.device)
            return full(value)

        def given(argument: Any, value: Any) -> Any:
            there = _pytree.tree_map(ordinary, value)
            if argument.alias_info is not None and argument.alias_info.is_write:
                pairs = zip(_pytree.tree_leaves(value), _pytree.tree_leaves(there), strict=True)
                written.extend((view, whole) for view, whole in pairs if is_view(view))
            return there

        arguments = {argument.name: argument for argument in schema.arguments}
        args = tuple(map(given, schema.arguments, args))
        kwargs = {key: given(arguments[key], value) for key, value in kwargs.items()}
        result = func(*args, **kwargs)
        for view, whole in written:
            view._write_parts(torch.ops.aten.copy_.default, (view, whole), {})
        return _pytree.tree_map(
            lambda value: next((view for view, whole in written if value is whole), value), result
        )

    def _viewed(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
        """A view of this view; an ordinary tensor where the operation copies or changes the dtype."""
        size = math.prod(shape(self.source))
        base = torch.empty(size, dtype=self.dtype, device="meta")
        like = base.as_strided(self.shape, self.stride(), self.storage_offset())
        found = func(like, *args[1:], **kwargs)
        if any(one.dtype != self.dtype for one in _pytree.tree_leaves(found)):
            return func(full(self), *args[1:], **kwargs)
        return _pytree.tree_map(lambda one: _View(self.source, one), found)

    def _write_parts(self, func: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> _View:
        """Writes to each part, by an operation in place that handles each element by itself."""
        found = parts(self)
        if found is None:
            raise RuntimeError(f"a tensor with the placements {self.source.placements} cannot be written to")

        def of_part(value: Any, part: Tensor, start: tuple[int, ...]) -> Any:
            if not isinstance(value, torch.Tensor) or value.dim() == 0:
                return value
            return value.expand(self.shape)[box(start, part.shape)]

        others, kwargs = _pytree.tree_map(
            lambda value: full(value) if is_sharded(value) else value, (args[1:], kwargs)
        )
        for part, start in found:
            func(part, *(of_part(value, part, start) for value in others), **kwargs)
        mark_written(self)
        return self

    def __repr__(self) -> str:
        return repr(full(self))


# Operations in place that treat each element by itself, with bits that do not depend on its place.
_EACH_BY_ITSELF = frozenset(
    {"fill_", "zero_", "copy_", "add_", "sub_", "mul_", "div_", "neg_", "abs_", "clamp_", "masked_fill_"}
)

# Operations in place that do not look at what they overwrite.
OVERWRITES = frozenset(
    f"{name}_"
    for name in (
        "bernoulli",
        "cauchy",
        "exponential",
        "geometric",
        "log_normal",
        "normal",
        "random",
        "uniform",
    )
)


def shape(tensor: Tensor) -> tuple[int, ...]:
    """The full shape of a tensor; of a nested one, the number of its parts."""
    return (tensor.size(0),) if tensor.is_nested else tuple(tensor.shape)


def view(tensor: Tensor) -> Tensor:
    """All of a sharded tensor as a view."""
    if is_view(tensor):
        return tensor
    return _View(tensor, torch.empty(shape(tensor), dtype=tensor.dtype, device="meta"))


def is_whole(view: Tensor) -> bool:
    """Whether a view is all of its tensor, as it is."""
    return tuple(view.shape) == shape(source(view)) and view.is_contiguous() and view.storage_offset() == 0


def block(tensor: Tensor, start: int, size: int) -> Tensor:
    """A block of a tensor along dimension 0."""
    return (view(tensor) if is_sharded(tensor) else tensor).narrow(0, start, size)


def mark_written(tensor: Tensor) -> None:
    """Counts a change of a sharded tensor, for autograd, and of what this process holds of it."""
    sharded: Any = source(tensor)
    # Within an operation, the result of `to_local` has a count of its own.
    here = sharded._local_tensor if _is_dtensor(sharded) else local(sharded)
    known = sharded.parameter if isinstance(sharded, Split) else sharded
    torch.autograd.graph.increment_version((known, here))


# The parts of a view


class _Axis(NamedTuple):
    """A dimension of a full tensor, or several of them that a part holds as if they were one."""

    size: int
    stride: int  # in the full tensor, in C order
    first: int  # the first index that the part holds
    length: int
    step: int  # the stride in the memory of the part


def _axes(part: Tensor, start: Sequence[int], shape: Sequence[int]) -> list[_Axis]:
    """The dimensions of a part of a tensor of this shape, except those of size 1."""
    axes: list[_Axis] = []
    stride = 1
    for size, first, length, step in zip(
        reversed(shape), reversed(start), reversed(part.shape), reversed(part.stride()), strict=True
    ):
        if size > 1:
            axis = _Axis(size, stride, first, length, step)
            inner = axes[-1] if axes else None
            if (
                inner is not None
                and inner.length == inner.size
                and (length == 1 or step == inner.step * inner.size)
            ):
                n = inner.size
                axes[-1] = _Axis(size * n, inner.stride, first * n, length * n, inner.step)
            else:
                axes.append(axis)
        stride *= size
    return axes


def _boxes(view: _View, part: Tensor, start: tuple[int, ...]) -> Iterator[Part]:
    """What a part of the source holds of a view: views of the part, which are boxes in the view.

    Several dimensions of the view may lie within one axis of the part, where what the part holds is a range
    in the order of the elements. Where a dimension crosses the end of an axis, it is cut.
    """
    if view.numel() == 0 or part.numel() == 0:
        return
    axes = _axes(part, start, shape(view.source))
    todo = [((0,) * view.dim(), tuple(view.shape))]
    while todo:
        first, sizes = todo.pop()
        offset = view.storage_offset() + sum(i * step for i, step in zip(first, view.stride(), strict=True))
        within = []  # for each axis: its index of the first element, and the dimensions that lie in it
        cut = None
        for axis in axes:
            at = offset // axis.stride % axis.size
            dimensions = [
                j
                for j, step in enumerate(view.stride())
                if sizes[j] > 1 and axis.stride <= step < axis.stride * axis.size
            ]
            dimensions.sort(key=view.stride, reverse=True)
            within.append((axis, at, dimensions))
            cut = cut or _cut(axis, at, [(j, sizes[j], view.stride(j)) for j in dimensions])
        if cut is not None:
            j, count = cut
            rest = (*first[:j], first[j] + count, *first[j + 1 :])
            todo.append((rest, (*sizes[:j], sizes[j] - count, *sizes[j + 1 :])))
            todo.append((first, (*sizes[:j], count, *sizes[j + 1 :])))
            continue
        choices = [
            list(
                range_boxes(
                    [(sizes[j], view.stride(j) // axis.stride) for j in dimensions],
                    axis.first - at,
                    axis.first - at + axis.length,
                )
            )
            for axis, at, dimensions in within
        ]
        for choice in itertools.product(*choices):
            index, size, steps = list(first), list(sizes), [0] * view.dim()
            place = part.storage_offset()
            for (axis, at, dimensions), ranges in zip(within, choice, strict=True):
                place += (at - axis.first) * axis.step
                for j, (low, high) in zip(dimensions, ranges, strict=True):
                    step = view.stride(j) // axis.stride * axis.step
                    index[j] += low
                    size[j], steps[j] = high - low, step
                    place += low * step
            yield part.as_strided(size, steps, place), tuple(index)


def _cut(axis: _Axis, at: int, dimensions: Sequence[tuple[int, int, int]]) -> tuple[int, int] | None:
    """Where to cut a view whose dimensions do not lie within an axis, one around the other.

    Args:
        axis: The axis.
        at: Its index of the first element.
        dimensions: The number, the size and the stride of each dimension, those of large strides first.

    Returns:
        The number of a dimension, and how many of its indices to cut off; `None` if all is well.
    """
    span = 0  # of the dimensions further in
    for j, size, stride in reversed(dimensions):
        step = stride // axis.stride
        if stride % axis.stride or step <= span:
            return j, 1
        if at + span + (size - 1) * step >= axis.size:
            return j, max(1, (axis.size - 1 - at - span) // step + 1)
        span += (size - 1) * step
    return None


def range_boxes(
    dimensions: Sequence[tuple[int, int]], low: int, high: int
) -> Iterator[tuple[tuple[int, int], ...]]:
    """Where the sum of index times step is in [low, high): boxes, a range of indices for each dimension.

    Args:
        dimensions: The size and the step of each, each step greater than the sums of those after it.
        low: The least sum.
        high: The sum that is too large.
    """
    if not dimensions:
        if low <= 0 < high:
            yield ()
        return
    (size, step), *inner = dimensions
    span = sum((count - 1) * step for count, step in inner)
    # Those that are within for all indices further in, and those that are for some.
    all_from, all_to = max(0, -(-low // step)), min(size, (high - 1 - span) // step + 1)
    some_from, some_to = max(0, -((span - low) // step)), min(size, (high - 1) // step + 1)
    if all_from >= all_to:
        all_from = all_to = some_to
    for i in itertools.chain(range(some_from, all_from), range(all_to, some_to)):
        yield from (((i, i + 1), *rest) for rest in range_boxes(inner, low - i * step, high - i * step))
    if all_from < all_to:
        yield ((all_from, all_to), *((0, count) for count, _ in inner))
