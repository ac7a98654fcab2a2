"""The parts of a tensor: it is seen as a matrix, whose rows are measured some at a time."""

from __future__ import annotations

import functools
import itertools
import math
from typing import TYPE_CHECKING, NamedTuple

from .onepass import CHUNK, Measured, measure, split

if TYPE_CHECKING:
    import threading
    from collections.abc import Iterator

    from .tensors import Kind, Tensor

# The most elements of one part, in whole rows.
_PART = 2**24


class Part(NamedTuple):
    """Some rows of a tensor that is seen as a matrix.

    Attributes:
        tensor: The tensor.
        at: How many of its axes are the rows of the matrix.
        rows, columns: The size of the matrix.
        start, stop: The rows of this part.
        units: Whether its units are compared.
        gram: Whether inner products of rows and columns are kept.
    """

    tensor: Tensor
    at: int
    rows: int
    columns: int
    start: int
    stop: int
    units: bool
    gram: bool

    @property
    def enough(self) -> bool:
        """Whether there are enough units to tell nearly orthonormal from independent ones."""
        return min(self.rows, self.columns) >= 6

    @property
    def size(self) -> int:
        """The number of its elements."""
        return (self.stop - self.start) * self.columns

    def measure(self, stop: threading.Event) -> Measured:
        """Measures it; ends early once `stop` is set."""
        step = max(1, CHUNK // self.columns) * self.columns
        chunks = self.tensor.read(self.start * self.columns, self.stop * self.columns, step)
        until = itertools.takewhile(lambda _: not stop.is_set(), chunks)
        return measure(until, self.start, self.rows, self.columns, units=self.units, gram=self.gram)


def parts(tensor: Tensor) -> Iterator[Part]:
    """The parts of a tensor."""
    at, rows, columns, units, gram = _matrix(tensor.kind)
    step = max(1, _PART // columns) if tensor.parallel else max(1, rows)
    for start in range(0, rows, step) if rows else [0]:
        yield Part(tensor, at, rows, columns, start, min(start + step, rows), units, gram)


@functools.lru_cache(maxsize=4096)
def _matrix(kind: Kind) -> tuple[int, int, int, bool, bool]:
    """The matrix that tensors of a kind are seen as: what all parts have in common, as in `Part`."""
    shape = kind.shape
    at, units = split(shape, None if len(shape) < 2 else 1 if kind.layout == "out_in" else len(shape) - 1)
    if 0 in shape:
        return at, 0, max(1, math.prod(shape[at:])), False, False
    rows, columns = math.prod(shape[:at]), math.prod(shape[at:])
    units = units and kind.is_weight
    return at, rows, columns, units, units and kind.is_kernel and min(rows, columns) > 1
