"""What goes into the report of `initialize`: the rows of tensors, and groups of equal ones."""

from __future__ import annotations

import math
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np
import torch

from fastinit._report import MEASURED, ReportRow, spread
from fastinit.theory.distributions import mixture

from . import _fill, _shards

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from torch import Tensor

    from fastinit._typing import Array
    from fastinit.theory.distributions import Distribution

    from ._tracker import Entry

# By as many elements, spread over them, tensors are compared first.
_COMPARED = 16


def rows(entries: Sequence[Entry]) -> tuple[list[ReportRow], list[tuple[str, ...]]]:
    """The rows of tensors that have been initialized, and groups of the names of equal parameters."""
    found = []
    alike: dict[object, list[tuple[str, Tensor]]] = {}
    with np.errstate(all="ignore"):  # Elements may be infinite.
        for entry in entries:
            here = _shards.local(entry.value).detach()
            array = _small_array(here)
            found.append(row(entry, here, array))
            if entry.is_parameter and (sample := _compared(here, array)) is not None:
                alike.setdefault(sample, []).append((entry.name, here))
    return found, list(_twins(alike))


def row(entry: Entry, here: Tensor, array: Array | None) -> ReportRow:
    """The row of a tensor.

    Args:
        entry: The tensor.
        here: What this process holds of it.
        array: The elements of that, if they are in a small array.
    """
    value = entry.value
    # A later change that was not recorded has changed the distribution.
    filled = [entry.filled[block] for block in sorted(entry.filled)] if entry.is_current else []
    distribution = _combined(filled)
    mean, std = _measure(here, array)
    shape = _shards.shape(value)
    fan_in = fan_out = None
    if len(shape) > 1:
        kernel = math.prod(shape[2:])
        fan_in, fan_out = shape[1] * kernel, shape[0] * kernel
    return ReportRow(
        name=entry.name,
        names=entry.names,
        shape=shape,
        dtype=value.dtype,
        rule=entry.title + (f", {len(entry.sizes)} blocks" if entry.sizes else ""),
        initializer=filled[0].contents.initializer if filled and filled[0].contents else None,
        distribution=None if distribution is None else distribution.name,
        fan_in=fan_in,
        fan_out=fan_out,
        target_mean=None if distribution is None else distribution.mean,
        target_std=None if distribution is None else distribution.std,
        mean=mean,
        std=std,
        seconds=sum(block.seconds for block in filled),
    )


def _combined(filled: Sequence[_fill.Filled]) -> Distribution | None:
    """The distribution of the elements of all blocks together."""
    if len(filled) == 1:
        return filled[0].contents.distribution if filled[0].contents else None
    sizes: Counter[Distribution] = Counter()
    for block in filled:
        if block.contents is None:
            return None
        sizes[block.contents.distribution] += block.size
    if len(sizes) > 1:
        return mixture((size, distribution) for distribution, size in sizes.items())
    return next(iter(sizes), None)


def _measure(here: Tensor, array: Array | None) -> tuple[float, float]:
    """The mean and the standard deviation of the elements in this process, or of a part spread over them."""
    if not _fill.is_plain(here) or here.numel() == 0 or not here.is_floating_point():
        return math.nan, math.nan
    if array is not None:
        # PyTorch takes several times as long. Without the first element, equal ones deviate by exactly 0.
        first = float(array[0])
        deviations = array.astype(np.float64)
        deviations -= first
        mean = float(np.add.reduce(deviations)) / array.size
        deviations -= mean
        deviations *= deviations
        return first + mean, math.sqrt(float(np.add.reduce(deviations)) / array.size)
    with torch.no_grad():
        std, mean = torch.std_mean(_sample(here, MEASURED).double(), correction=0)
        return float(mean), float(std)


def _small_array(tensor: Tensor) -> Array | None:
    """The elements of a plain tensor in one dimension, if it is a small one on the CPU."""
    if not _fill.is_plain(tensor) or not _fill.is_on_cpu(tensor) or tensor.dtype not in _fill.DTYPES:
        return None
    if not 0 < tensor.numel() <= MEASURED:
        return None
    try:
        array = _fill.memory(tensor)
    except ImportError:  # of the package that has bfloat16
        return None
    return None if array is None else array.reshape(-1)


def _sample(tensor: Tensor, size: int) -> Tensor:
    """At most `size` elements of a tensor, spread over it; the positions depend on the shape only."""
    if tensor.numel() <= size:
        return tensor.reshape(-1)
    runs, run, step = spread(tensor.numel(), size)
    if tensor.is_contiguous():
        return tensor.as_strided((runs, run), (step, 1), tensor.storage_offset())
    first = torch.arange(runs, device=tensor.device)[:, None] * step
    places = torch.unravel_index(first + torch.arange(run, device=tensor.device), tensor.shape)
    return tensor[places]


def _compared(here: Tensor, array: Array | None) -> object:
    """What equal tensors have in common; `None` for one that is constant, or cannot be compared."""
    if not _fill.is_plain(here) or here.numel() < 2:
        return None
    if array is None:
        sample = tuple(_sample(_comparable(here), _COMPARED).flatten().tolist())
    else:  # the same elements
        step = max(1, (array.size - 1) // (_COMPARED - 1))
        sample = tuple(array[::step][:_COMPARED].astype(np.float64).tolist())
    if all(one == sample[0] for one in sample) and _is_constant(_comparable(here)):
        return None
    return here.shape, here.dtype, here.device, sample


def _comparable(tensor: Tensor) -> Tensor:
    """A tensor that PyTorch compares: it does not do so with those of one byte that are floats."""
    return tensor.view(torch.uint8) if tensor.is_floating_point() and tensor.itemsize == 1 else tensor


def _twins(alike: dict[object, list[tuple[str, Tensor]]]) -> Iterator[tuple[str, ...]]:
    """Groups of names of tensors with equal contents, among those that are alike."""
    for group in alike.values():
        while len(group) > 1:
            (name, first), *others = group
            equal = [other for other, value in others if torch.equal(_comparable(first), _comparable(value))]
            if equal:
                yield name, *equal
            group = [(other, value) for other, value in others if other not in equal]


def _is_constant(tensor: Tensor) -> bool:
    """Whether all elements are equal; without a temporary of its size."""
    least, greatest = torch.aminmax(tensor) if tensor.is_floating_point() else (tensor.min(), tensor.max())
    return bool(least == greatest)
