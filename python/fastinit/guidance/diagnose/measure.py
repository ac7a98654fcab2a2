"""Measures the tensors of a model: what is read, in which pieces and by how many threads.

Large tensors are measured in parts at the same time, each in one pass and in bounded memory; the results come
in the order of the tensors, and do not depend on the number of threads.
"""

from __future__ import annotations

import itertools
import math
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

import fastinit

from . import statistics as _statistics
from . import units as _units
from .findings import Statistics
from .statistics import Measured, measure

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from fastinit._terminal import Bar

    from .tensors import Tensor

# Elements that are measured as one piece of work; larger tensors are several.
_PART = 2**24

# Below so many elements, threads cost more than they give.
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

    @property
    def size(self) -> int:
        """The number of elements."""
        return (self.stop - self.start) * self.columns if self.tensor.size else 0

    def measure(self) -> Measured:
        step = max(1, _statistics.CHUNK // self.columns) * self.columns
        chunks = self.tensor.read(self.start * self.columns, self.stop * self.columns, step)
        return measure(chunks, self.start, self.rows, self.columns, units=self.units, gram=self.gram)


def _parts(tensor: Tensor) -> list[_Part]:
    """The pieces of work that a tensor is."""
    preferred = None
    if len(tensor.shape) > 1:
        preferred = 1 if tensor.layout == "out_in" else len(tensor.shape) - 1
    at, units = _statistics.split(tensor.shape, preferred)
    rows, columns = math.prod(tensor.shape[:at]), math.prod(tensor.shape[at:])
    weights = bool(units) and tensor.role in ("kernel", "recurrent", "embedding") and tensor.size > 0
    gram = weights and tensor.role != "embedding" and min(rows, columns) >= 6
    step = max(1, _PART // max(1, columns)) if tensor.parallel else max(1, rows)
    starts = range(0, rows, step) if tensor.size else range(1)
    return [
        _Part(
            tensor,
            at,
            rows,
            max(1, columns),
            start,
            min(start + step, rows) if tensor.size else start,
            weights,
            gram,
        )
        for start in starts
    ]


def measured(tensors: list[Tensor], bar: Bar) -> Iterator[Statistics]:
    """Measures tensors, parts of them at the same time."""
    parts = [part for tensor in tensors for part in _parts(tensor)]
    threads = fastinit.get_num_threads() if sum(tensor.size for tensor in tensors) >= _FEW else 1
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
        bar.add(part.size, part.tensor.name)
        yield part, found


def _reduced(part: _Part, found: Measured) -> Statistics:
    """What judging needs of what was measured."""
    tensor = part.tensor
    sample = found.sample
    statistics = Statistics(
        tensor,
        found.size,
        found.nan,
        found.infinite,
        found.moments,
        found.low,
        found.high,
        found.at_low,
        found.at_high,
        found.zeros,
        sample[: 2 * _statistics.SAMPLE],
    )
    if part.units and found.low < found.high and not (found.nan or found.infinite):
        for axis in (tensor.in_axis, tensor.out_axis):
            statistics.equal[axis], statistics.empty[axis] = _units.alike(tensor, found, part.at, axis)
        statistics.key = _key(sample)
        if found.zeros > 0.01 * found.size:
            statistics.even_zeros = _units.even_zeros(tensor, part.at)
    statistics.gram = part.gram
    if part.gram:
        statistics.orthogonality = _orthogonality(part, found)
    return statistics


def _key(sample: np.ndarray) -> object:
    """What the first elements share with the same draws at another scale; `None` if they are too plain."""
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
    # Of the squares of so many cosines of independent units, the mean is a 25th of what it should be in one
    # case of ten million.
    even = norms.max() - norms.min() < 0.01 * norms.mean()
    return (float(norms.mean()), rms, length) if even and rms < 0.2 / math.sqrt(length) else None
