"""Elements of a plan: any range of a tensor, in memory of the size of that range."""

from __future__ import annotations

import bisect
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastinit._plan import constant_of, is_float, sampled_dtype

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fastinit._plan import Part, PlanRow
    from fastinit._typing import Array


def fill(row: PlanRow, first: int, out: Array, seed: int, threads: int) -> None:
    """Makes the elements of a tensor from number `first` on, in C order.

    Args:
        row: The tensor.
        first: The number of the first one.
        out: The array for them, of one dimension, contiguous and of the tensor's dtype.
        seed: The seed.
        threads: The largest number of threads to use.
    """
    last = first + out.size
    # There may be very many parts, of which a few are wanted.
    for place in range(max(0, bisect.bisect_right(row._starts, first) - 1), len(row.parts)):
        part, start = row.parts[place], row._starts[place]
        if start >= last:
            break
        begin, end = max(first, start), min(last, start + part.count)
        if begin < end:
            _fill(part, begin - start, row.dtype, out[begin - first : end - first], seed, threads)


def _fill(part: Part, first: int, dtype: str, out: Array, seed: int, threads: int) -> None:
    """Makes the elements of a part from number `first` on."""
    if part.initializer is None:
        out.view(np.uint8)[:] = np.frombuffer(part.data, np.uint8)[first * out.itemsize :][: out.nbytes]
        return
    if not is_float(dtype):
        value = constant_of(part.initializer)
        assert value is not None  # The plan has checked it.
        out.fill(int(value))
        return
    sampled = sampled_dtype(dtype)
    made = out if sampled == dtype else np.empty(out.size, sampled)
    done = 0
    for index, shape in _boxes(part.shape, part.first + first, part.first + first + out.size):
        count = math.prod(shape)
        part.initializer(
            part.shape,
            seed=seed,
            stream=part.stream,
            dtype=sampled,
            out=made[done : done + count].reshape(shape),
            index=index,
            threads=threads,
        )
        done += count
    if made is not out:
        out[:] = made


def _boxes(shape: Sequence[int], begin: int, end: int) -> Iterator[tuple[Any, tuple[int, ...]]]:
    """The elements `begin` to `end` of a tensor, in C order, as boxes: their indices and shapes."""
    if not shape:
        yield (), ()
        return
    inner = math.prod(shape[1:])
    (first, skipped), (last, left) = divmod(begin, inner), divmod(end, inner)
    if skipped:  # the end of a row
        stop = min(inner, skipped + end - begin)
        for index, box in _boxes(shape[1:], skipped, stop):
            yield (first, *index), box
        first, begin = first + 1, begin + stop - skipped
    if first < last:
        yield (slice(first, last),), (last - first, *shape[1:])
    if left and first <= last and begin < end:
        for index, box in _boxes(shape[1:], 0, left):
            yield (last, *index), box
