"""Measures the tensors of a model: splits them into parts, and merges the results.

Parts of large tensors are measured at the same time, each in one pass and in bounded memory. The results come
in the order of the tensors and do not depend on the number of threads.
"""

from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

import numpy as np

from fastinit._runtime import get_num_threads

from .onepass import CHUNK, SAMPLE, Measured, measure, split
from .statistics import Counts, Statistics
from .units import alike, even_zeros

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastinit._terminal import Bar

    from .tensors import Tensor

# The most elements of one part, in whole rows.
_PART = 2**24

# Below this number of elements, threads cost more than they save.
_FEW = 2**20


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

    def measure(self) -> Measured:
        step = max(1, CHUNK // self.columns) * self.columns
        chunks = self.tensor.read(self.start * self.columns, self.stop * self.columns, step)
        return measure(chunks, self.start, self.rows, self.columns, units=self.units, gram=self.gram)


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
    with ThreadPoolExecutor(max_workers=threads) as pool:
        results = _counted(zip(parts, pool.map(_Part.measure, parts), strict=True), bar)
        try:
            for _, same in itertools.groupby(results, lambda pair: id(pair[0].tensor)):
                (part, whole), *others = same
                for _, more in others:
                    whole.add(more)
                yield _reduced(part, whole)
        finally:
            pool.shutdown(cancel_futures=True)


def _counted(results: Iterable[tuple[_Part, Measured]], bar: Bar) -> Iterator[tuple[_Part, Measured]]:
    for part, found in results:
        bar.add(found.size, part.tensor.name)
        yield part, found


def _reduced(part: _Part, found: Measured) -> Statistics:
    """The statistics of a tensor, from the measurements."""
    tensor = part.tensor
    counts = {field.name: getattr(found, field.name) for field in fields(Counts)}
    sample = np.concatenate([*found.samples, np.empty(0, np.float32)])[: 2 * SAMPLE]
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
    first = sample[:8].astype(np.float64)
    scale = float(np.abs(first).max(initial=0.0))
    if scale == 0.0 or len(np.unique(np.abs(first))) < 6:
        return None
    return tuple(float(f"{x:.2g}") for x in (first / scale))


def _orthogonality(part: _Part, found: Measured) -> tuple[float, float, int] | None:
    """The norm of some units, the root mean square of their cosines, and their length."""
    rows, columns = part.rows, part.columns
    if rows <= columns:
        if found.first_rows is None:
            return None
        first = found.first_rows.astype(np.float64)
        gram, length = np.einsum("ic,jc->ij", first, first), columns
    else:
        if found.columns_gram is None:
            return None
        gram, length = found.columns_gram, rows
    norms = np.sqrt(np.diag(gram))
    if len(gram) < 6 or not np.isfinite(gram).all() or not norms.min() > 0.0:
        return None
    cosines = (gram / norms[:, None] / norms)[np.triu_indices(len(gram), 1)]
    rms = float(np.sqrt((cosines**2).mean()))
    # For independent units, the mean square of this many cosines is below a 25th of its expectation in one
    # case of ten million.
    even = norms.max() - norms.min() < 0.01 * norms.mean()
    return (float(norms.mean()), rms, length) if even and rms < 0.2 / math.sqrt(length) else None
