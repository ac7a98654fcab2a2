"""Measures the tensors of a model: splits them into parts, and merges the results.

Parts of large tensors are measured at the same time, each in one pass and in bounded memory. The results come
in the order of the tensors and do not depend on the number of threads.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import math
import threading
from collections import deque
from concurrent.futures import ThreadPoolExecutor, TimeoutError  # noqa: A004 - in 3.10 not the built-in one
from dataclasses import fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np

from fastinit._runtime import get_num_threads

from .onepass import ORTHONORMAL, SAMPLE
from .parts import parts
from .small import low_rank, together
from .statistics import Counts, Statistics
from .units import KEY, alike, even_zeros, keys

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fastinit._terminal import Bar
    from fastinit._typing import Array

    from .onepass import Measured
    from .parts import Part
    from .tensors import Tensor

_Given = TypeVar("_Given")
_Made = TypeVar("_Made")

# Below this number of elements, threads cost more than they save.
_FEW = 2**20

# The elements that a thread measures before it takes more, and the least that a part counts as.
_BATCH = 2**18
_LEAST = 2**10

# The rounding with which two to five units cannot be orthonormal by chance.
EXACT = 2e-3

_COUNTS = tuple(field.name for field in fields(Counts))


def measured(tensors: list[Tensor], bar: Bar) -> Iterator[Statistics]:
    """Measures tensors, parts of them at the same time."""
    every = [part for tensor in tensors for part in parts(tensor)]
    threads = get_num_threads() if sum(tensor.size for tensor in tensors) >= _FEW else 1
    stop = threading.Event()

    def work(batch: list[Part]) -> list[tuple[Part, Counts]]:
        done = {id(part): statistics for part, statistics in together(batch)}
        return [(part, done.get(id(part)) or part.measure(stop)) for part in batch if not stop.is_set()]

    with contextlib.ExitStack() as stack:
        run: Callable[..., Iterable[list[tuple[Part, Any]]]] = map
        if threads > 1:
            pool = stack.enter_context(ThreadPoolExecutor(max_workers=threads))
            stack.callback(pool.shutdown, wait=False, cancel_futures=True)
            stack.callback(stop.set)  # Seen after each chunk, so that an interrupt need not wait.
            run = functools.partial(_mapped, pool)
        results = _counted(itertools.chain.from_iterable(run(work, _batches(every))), bar)
        for _, same in itertools.groupby(results, lambda pair: id(pair[0].tensor)):
            (part, whole), *others = same
            if isinstance(whole, Statistics):
                yield whole
                continue
            for _, more in others:
                whole.add(more)
            yield _reduced(part, whole)


def _mapped(
    pool: ThreadPoolExecutor, work: Callable[[_Given], _Made], given: Iterable[_Given]
) -> Iterator[_Made]:
    """`pool.map` that wakes ten times a second: a signal just before a wait does not end it."""
    futures = deque(pool.submit(work, one) for one in given)
    try:
        while futures:
            while not futures[0].done():
                with contextlib.suppress(TimeoutError):
                    futures[0].exception(timeout=0.1)
            yield futures.popleft().result()
    finally:
        futures.clear()  # The frames of an error may live longer, and would keep files open.


def _batches(parts: list[Part]) -> Iterator[list[Part]]:
    """Consecutive parts that are worth handing to a thread."""
    batch: list[Part] = []
    size = 0
    for part in parts:
        batch.append(part)
        size += max(part.size, _LEAST)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    yield batch


def _counted(results: Iterable[tuple[Part, Any]], bar: Bar) -> Iterator[tuple[Part, Any]]:
    for part, found in results:
        bar.add(found.size, part.tensor.name)
        yield part, found


@np.errstate(all="ignore")  # What overflows is recognized by its infinity.
def _reduced(part: Part, found: Measured) -> Statistics:
    """The statistics of a tensor, from the measurements."""
    tensor, samples = part.tensor, found.samples or [np.empty(0, np.float32)]
    counts = {name: getattr(found, name) for name in _COUNTS}
    sample = (samples[0] if len(samples) == 1 else np.concatenate(samples))[: 2 * SAMPLE]
    s = Statistics(**counts, tensor=tensor, sample=sample, gram=part.gram and part.enough)
    if part.units and found.low < found.high and not (found.nan or found.infinite):
        for axis in (tensor.in_axis, tensor.out_axis):
            s.equal[axis], s.empty[axis] = alike(tensor, found, part.at, axis)
        (s.key,) = keys(sample[None])
        if len(tensor.shape) == 2 and found.first_rows is not None and len(found.first_rows) >= KEY:
            (s.turned,) = keys(found.first_rows[None, :KEY, 0])
        s.even_zeros = found.zeros > 0.01 * found.size and even_zeros(tensor, part.at)
    if part.gram and (product := _gram(part, found)) is not None:
        s.orthogonality = _orthogonality(part, product)
        s.rank = int(low_rank(product, tensor.eps))
    return s


def _gram(part: Part, found: Measured) -> Array | None:
    """The inner products of the first units, rows or columns, whichever are longer."""
    if part.rows > part.columns or found.first_rows is None:
        return found.columns_gram
    if len(found.first_rows) < 2:  # Rows are too long to keep more.
        return None
    first = found.first_rows.astype(np.float64)
    return np.einsum("ic,jc->ij", first, first)


def _orthogonality(part: Part, gram: Array) -> tuple[float, float, int] | None:
    """The norm of some units, the root mean square of their cosines, and their length."""
    gram, length = gram[:ORTHONORMAL, :ORTHONORMAL], max(part.rows, part.columns)
    # Norms of independent units differ, and what is not finite differs from itself.
    norms = np.sqrt(gram.diagonal())
    low, high = float(norms.min()), float(norms.max())
    if not low > 0.0 or not high - low < 0.01 * high:
        return None
    cosines = (gram / norms[:, None] / norms)[np.triu_indices(len(gram), 1)]
    rms = float(np.sqrt((cosines**2).mean()))
    if not part.enough:  # Few units may be nearly orthonormal by chance, but not within rounding.
        exact = max(rms, high / low - 1) <= part.tensor.rounding <= EXACT
        return (float(norms.mean()), rms, length) if exact else None
    # For independent units, the mean square of this many cosines is below a 25th of its expectation in one
    # case of ten million.
    even = high - low < 0.01 * norms.mean()
    return (float(norms.mean()), rms, length) if even and rms < 0.2 / math.sqrt(length) else None
