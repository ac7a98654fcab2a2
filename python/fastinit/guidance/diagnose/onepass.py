"""Measures a tensor, or a part of it, in one pass and in bounded memory.

A tensor comes in chunks that stay in the processor's cache. Each gives power sums about a pivot near the
mean, so that nothing cancels; they are kept as central moments in float64 and merged. Beside them are kept
the extremes and how often they occur, a sample of values spread over the tensor, a random projection of each
unit along each axis, by which equal units are found, and the inner products of the first few rows and
columns.
"""

from __future__ import annotations

import functools
import itertools
import math
import operator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

import numpy as np

from fastinit.functions import random_normal

from .statistics import Counts, Moments

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fastinit._typing import Array

# Elements of a chunk: 1 MiB of float32, which stays in a core's L2 cache with its square and its raw form.
CHUNK = 2**18

# Elements of the sample. A value that occurs once in a thousand is seen 33 times in it.
SAMPLE = 2**15

# Rows and columns whose inner products are kept: they show a rank of at most half their number.
GRAM = 16

# Those that are judged whether they are orthonormal. The 28 pairs of eight tell that from independent ones.
ORTHONORMAL = 8

# Rows or columns beyond this number are not projected, to bound memory.
_MOST_UNITS = 2**22

# Products of matrices with so few elements start no threads.
_FEW = 2**12

# In float32, powers up to the fourth of deviations between these neither overflow nor vanish; others take
# float64.
_SAFE = 1e-8, 1e8


@dataclass
class Measured(Counts):
    """A tensor, or some of its rows, as measured.

    Attributes:
        samples: Some of its elements.
        rows, columns: Two projections of each row, and of each column.
        first_rows: The first rows.
        columns_gram: The inner products of the first columns.
    """

    samples: list[Array] = field(default_factory=list)
    rows: list[Array] = field(default_factory=list)
    columns: Array | None = None
    first_rows: Array | None = None
    columns_gram: Array | None = None

    def add(self, other: Measured) -> None:
        """Merges the rows that follow."""
        self.merge(other)
        self.samples += other.samples
        self.rows += other.rows
        self.columns = _sum(self.columns, other.columns)
        self.columns_gram = _sum(self.columns_gram, other.columns_gram)
        if self.first_rows is None:
            self.first_rows = other.first_rows


def _sum(one: Array | None, other: Array | None) -> Array | None:
    if one is None or other is None:
        return other if one is None else one
    one += other
    return one


@functools.lru_cache(maxsize=1024)
def split(shape: tuple[int, ...], preferred: int | None) -> tuple[int, bool]:
    """How many axes of a tensor are the rows of a matrix, and whether its units can be told apart that way.

    Args:
        shape: The shape.
        preferred: The number of axes to take if possible; otherwise both sides become as equal as can be.
    """
    if len(shape) < 2 or 0 in shape:
        return len(shape), False
    before = list(itertools.accumulate(shape, operator.mul))
    after = list(itertools.accumulate(reversed(shape), operator.mul))

    def longest(at: int) -> int:
        return max(before[at - 1], after[-at - 1])

    best = min(range(1, len(shape)), key=longest)
    if preferred is not None and longest(preferred) <= _MOST_UNITS:
        best = preferred
    return (best, True) if longest(best) <= _MOST_UNITS else (len(shape), False)


@np.errstate(all="ignore")  # Overflow gives infinity, which is reported.
def measure(
    chunks: Iterator[Array], start: int, rows: int, columns: int, *, units: bool, gram: bool
) -> Measured:
    """Measures some rows of a matrix.

    Args:
        chunks: Their elements, whole rows at a time, one-dimensional, float32 or float64. A chunk is read
            before the next one is requested.
        start: The number of the first row.
        rows, columns: The size of the whole matrix.
        units: Whether to project rows and columns.
        gram: Whether to keep inner products.
    """
    found = Measured()
    every = max(1.0, rows * columns / SAMPLE)
    work = np.empty((2, 0), np.float32)
    for chunk in chunks:
        if chunk.size == 0:
            continue
        matrix = chunk.reshape(-1, columns)
        counts = Counts(chunk.size, low=float(chunk.min()), high=float(chunk.max()))
        finite = chunk
        if not (math.isfinite(counts.low) and math.isfinite(counts.high)):
            mask = np.isfinite(chunk)
            finite = chunk[mask]
            nan = int(np.isnan(chunk).sum())
            low, high = finite.min(initial=math.inf), finite.max(initial=-math.inf)
            counts = Counts(chunk.size, nan, chunk.size - finite.size - nan, low=float(low), high=float(high))
            matrix = np.where(mask, chunk, chunk.dtype.type(0)).reshape(-1, columns)
        if finite.size:
            if work.shape[1] < finite.size or work.dtype != finite.dtype:
                work = np.empty((2, finite.size), finite.dtype)
            (counts.moments,) = moments(finite[None], [counts.low], [counts.high], work)
            # Counting takes time, so it is done only where the result may matter.
            if counts.low <= found.low:
                counts.at_low = int(np.count_nonzero(finite == counts.low))
            if counts.high >= found.high:
                counts.at_high = int(np.count_nonzero(finite == counts.high))
            if counts.low <= 0.0 <= counts.high:
                counts.zeros = int(np.count_nonzero(finite == 0.0))
            found.samples.append(finite[: max(8, math.ceil(chunk.size / every))].copy())
        found.merge(counts)
        if units:
            _project(found, matrix, start, rows)
        if gram:
            _inner(found, matrix, start)
        start += len(matrix)
    return found


def moments(x: Array, low: Sequence[float], high: Sequence[float], work: Array) -> Iterator[Moments]:
    """The moments of the rows of a matrix of finite elements, whose extremes are known.

    Those of a row do not depend on the other rows, unless one of them is not `safe`.
    """
    if x.dtype == np.float32 and not all(map(safe, low, high)):
        x, work = x.astype(np.float64), np.empty((2, x.size))
    y, z = (part[: x.size].reshape(x.shape) for part in work)
    n = x.shape[1]
    head = x[:, :4096].astype(np.float64)
    pivots = (head.sum(axis=1) / head.shape[1]).astype(x.dtype)
    for row, width in enumerate(map(operator.sub, high, low)):
        if width > 0.0 and abs(pivots[row]) < 0.05 * width:
            pivots[row] = 0.0  # It is near enough already.
    if pivots.any():
        np.subtract(x, pivots[:, None], out=y)
    else:
        y = x
    scales = [1.0] * len(x)
    if x.dtype == np.float64:  # Powers must not overflow here either.
        scales = [max(abs(one), abs(other)) or 1.0 for one, other in zip(low, high, strict=True)]
        y = y / np.array(scales)[:, None]
    np.multiply(y, y, out=z)
    sums = (y.sum(axis=1), z.sum(axis=1), _products(y, z), _products(z, z))
    lists = (each.tolist() for each in (pivots, *sums))
    for scale, pivot, s1, s2, s3, s4 in zip(scales, *lists, strict=True):
        d = s1 / n
        m2 = max(0.0, s2 - n * d**2)
        m3 = s3 - 3 * d * s2 + 2 * n * d**3
        m4 = max(0.0, s4 - 4 * d * s3 + 6 * d**2 * s2 - 3 * n * d**4)
        square = scale * scale
        yield Moments(n, pivot + scale * d, square * m2, square * scale * m3, square * square * m4)


def safe(low: float, high: float) -> bool:
    """Whether powers of float32 between these extremes neither overflow nor vanish."""
    return _SAFE[0] < max(abs(low), abs(high)) < _SAFE[1] or low == high == 0.0


def _products(y: Array, z: Array) -> Array:
    """The sums of the products of rows; lines of 1024 in the dtype, and these in float64."""
    whole = y.shape[1] - y.shape[1] % 1024
    rest = y[:, None, whole:].astype(np.float64) @ z[:, whole:, None].astype(np.float64)
    if not whole:
        return rest[:, 0, 0]
    lines = (part[:, :whole].reshape(len(y), -1, 1024) for part in (y, z))
    return rest[:, 0, 0] + np.einsum("kij,kij->ki", *lines).astype(np.float64).sum(axis=1)


@functools.lru_cache(maxsize=64)
def _power_of_weights(name: str, power: int) -> Array:
    return random_normal((2, 2**power), 0.0, 1.0, seed=0, stream=name)


def weights(name: str, size: int) -> Array:
    """The vectors that units are projected on; a model has few sizes up to a power of two."""
    return _power_of_weights(name, (size - 1).bit_length())[:, :size]


def _project(found: Measured, matrix: Array, start: int, rows: int) -> None:
    """Adds the projections of these rows, and their share of those of the columns."""
    across = weights("columns", matrix.shape[1]).astype(matrix.dtype, copy=False)
    along = weights("rows", rows)[:, start : start + len(matrix)].astype(matrix.dtype, copy=False)
    if matrix.size <= _FEW:
        of_rows, of_columns = np.dot(across, matrix.T), np.dot(along, matrix)
    else:  # einsum and not a product of matrices: it starts no threads of its own.
        of_rows = np.array([np.einsum("rc,c->r", matrix, w) for w in across])
        of_columns = np.array([np.einsum("rc,r->c", matrix, w) for w in along])
    found.rows.append(of_rows.astype(np.float64))
    found.columns = _sum(found.columns, of_columns.astype(np.float64))


def _inner(found: Measured, matrix: Array, start: int) -> None:
    """Adds the inner products of the first columns, and keeps the first rows."""
    before = 0 if found.first_rows is None else len(found.first_rows)
    if start == before < GRAM:
        rows = matrix[: GRAM - before].copy()
        found.first_rows = rows if found.first_rows is None else np.concatenate([found.first_rows, rows])
    first = matrix[:, :GRAM].astype(np.float64)
    part = np.einsum("ri,rj->ij", first, first)
    found.columns_gram = _sum(found.columns_gram, part)
