"""Measures the tensors of a model: splits them into parts, and merges the results.

Parts of large tensors are measured at the same time, each in one pass and in bounded memory. The results come
in the order of the tensors and do not depend on the number of threads.
"""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from fastinit._runtime import get_num_threads

from .onepass import CHUNK, SAMPLE, Measured, measure, split
from .statistics import Counts, Statistics
from .units import alike, even_zeros

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from fastinit._terminal import Bar

    from .tensors import Tensor

# The most elements of one part, in whole rows.
_PART = 2**24

# Below this number of elements, threads cost more than they save.
_FEW = 2**20

# The elements that a thread measures before it takes more, and the least that a part counts as.
_BATCH = 2**18
_LEAST = 2**10

_COUNTS = tuple(field.name for field in fields(Counts))


@dataclass(frozen=True)
class _Part:
    """Some rows of a tensor that is seen as a matrix."""

    tensor: Tensor
    at: int
    rows: int
    columns: int
    start: int
    stop: int
    units: bool
    gram: bool

    @property
    def size(self) -> int:
        return (self.stop - self.start) * self.columns

    def measure(self, stop: threading.Event) -> Measured:
        step = max(1, CHUNK // self.columns) * self.columns
        chunks = self.tensor.read(self.start * self.columns, self.stop * self.columns, step)
        until = itertools.takewhile(lambda _: not stop.is_set(), chunks)
        return measure(until, self.start, self.rows, self.columns, units=self.units, gram=self.gram)


def _parts(tensor: Tensor) -> Iterator[_Part]:
    """The parts of a tensor."""
    preferred = None
    if len(tensor.shape) > 1:
        preferred = 1 if tensor.layout == "out_in" else len(tensor.shape) - 1
    at, units = split(tensor.shape, preferred)
    rows, columns = math.prod(tensor.shape[:at]), math.prod(tensor.shape[at:])
    units = units and tensor.is_weight and tensor.size > 0
    gram = units and tensor.is_kernel and min(rows, columns) >= 6
    step = max(1, _PART // max(1, columns)) if tensor.parallel else max(1, rows)
    if tensor.size == 0:
        rows = step = 0
    for start in range(0, rows, step) if rows else [0]:
        yield _Part(tensor, at, rows, max(1, columns), start, min(start + step, rows), units, gram)


def measured(tensors: list[Tensor], bar: Bar) -> Iterator[Statistics]:
    """Measures tensors, parts of them at the same time."""
    parts = [part for tensor in tensors for part in _parts(tensor)]
    threads = get_num_threads() if sum(tensor.size for tensor in tensors) >= _FEW else 1
    stop = threading.Event()

    def work(batch: list[_Part]) -> list[tuple[_Part, Measured]]:
        return [(part, part.measure(stop)) for part in batch if not stop.is_set()]

    with contextlib.ExitStack() as stack:
        run: Callable[..., Iterable[list[tuple[_Part, Measured]]]] = map
        if threads > 1:
            pool = stack.enter_context(ThreadPoolExecutor(max_workers=threads))
            stack.callback(pool.shutdown, wait=False, cancel_futures=True)
            stack.callback(stop.set)  # Seen after each chunk, so that an interrupt need not wait.
            run = pool.map
        results = _counted(itertools.chain.from_iterable(run(work, _batches(parts))), bar)
        for _, same in itertools.groupby(results, lambda pair: id(pair[0].tensor)):
            (part, whole), *others = same
            for _, more in others:
                whole.add(more)
            yield _reduced(part, whole)


def _batches(parts: list[_Part]) -> Iterator[list[_Part]]:
    """Consecutive parts that are worth handing to a thread."""
    batch: list[_Part] = []
    size = 0
    for part in parts:
        batch.append(part)
        size += max(part.size, _LEAST)
        if size >= _BATCH:
            yield batch
            batch, size = [], 0
    yield batch


def _counted(results: Iterable[tuple[_Part, Measured]], bar: Bar) -> Iterator[tuple[_Part, Measured]]:
    for part, found in results:
        bar.add(found.size, part.tensor.name)
        yield part, found


@np.errstate(all="ignore")  # What overflows is recognized by its infinity.
def _reduced(part: _Part, found: Measured) -> Statistics:
    """The statistics of a tensor, from the measurements."""
    tensor, samples = part.tensor, found.samples or [np.empty(0, np.float32)]
    counts = {name: getattr(found, name) for name in _COUNTS}
    sample = (samples[0] if len(samples) == 1 else np.concatenate(samples))[: 2 * SAMPLE]
    s = Statistics(**counts, tensor=tensor, sample=sample, gram=part.gram)
    if part.units and found.low < found.high and not (found.nan or found.infinite):
        for axis in (tensor.in_axis, tensor.out_axis):
            s.equal[axis], s.empty[axis] = alike(tensor, found, part.at, axis)
        s.key = _key(sample)
        s.even_zeros = found.zeros > 0.01 * found.size and even_zeros(tensor, part.at)
    if part.gram:
        s.orthogonality = _orthogonality(part, found)
    return s


def _key(sample: np.ndarray) -> object:
    """The first elements, normalized; `None` if they take too few different values."""
    first: list[float] = sample[:8].tolist()
    sizes = {abs(x) for x in first}
    if len(sizes) < 6:
        return None
    scale = max(sizes)
    return tuple(float(f"{x / scale:.2g}") for x in first)


def _orthogonality(part: _Part, found: Measured) -> tuple[float, float, int] | None:
    """The norm of some units, the root mean square of their cosines, and their length."""
    rows, columns = part.rows, part.columns
    if rows <= columns:
        if found.first_rows is None:
            return None
        first = found.first_rows.astype(np.float64)
        squares, length = np.einsum("ic,ic->i", first, first), columns
    else:
        if found.columns_gram is None:
            return None
        gram, length = found.columns_gram, rows
        squares = gram.diagonal()
    # Norms of independent units differ, and what is not finite differs from itself.
    norms = np.sqrt(squares)
    low, high = float(norms.min()), float(norms.max())
    if len(norms) < 6 or not low > 0.0 or not high - low < 0.01 * high:
        return None
    if rows <= columns:
        gram = np.einsum("ic,jc->ij", first, first)
    cosines = (gram / norms[:, None] / norms)[np.triu_indices(len(gram), 1)]
    rms = float(np.sqrt((cosines**2).mean()))
    # For independent units, the mean square of this many cosines is below a 25th of its expectation in one
    # case of ten million.
    even = high - low < 0.01 * norms.mean()
    return (float(norms.mean()), rms, length) if even and rms < 0.2 / math.sqrt(length) else None
