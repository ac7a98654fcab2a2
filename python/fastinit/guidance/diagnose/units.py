"""Units of a tensor that are equal or zero: found by their projections, and compared element by element."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastinit.functions import random_normal

from .onepass import CHUNK

if TYPE_CHECKING:
    from collections.abc import Iterator

    from fastinit._typing import Array

    from .onepass import Measured
    from .tensors import Tensor

# Relative difference of projections that rounding may cause.
_ROUNDING = 1e-5

# The most units with equal projections that are compared element by element; the others are taken as equal,
# too.
_COMPARED = 24

# Units of fewer bits than it takes to number their pairs, and these, may be equal by chance.
_SPARE_BITS = 20

_FRACTION_BITS = {"float64": 24, "float32": 23, "float16": 10, "bfloat16": 7}


def alike(tensor: Tensor, found: Measured, at: int, axis: int) -> tuple[list[list[int]], list[int]]:
    """Groups of equal units along an axis, and the units that are zero.

    Args:
        tensor: The tensor.
        found: Its statistics, with projections.
        at: How many of its axes are the rows of the matrix that was measured.
        axis: The axis whose units are compared.
    """
    if found.columns is None or not enough(tensor, axis):
        return [], []
    rows = axis < at
    values = np.concatenate(found.rows, axis=1) if rows else found.columns
    shape, along = (tensor.shape[:at], axis) if rows else (tensor.shape[at:], axis - at)
    projections = by_axis(values, shape, along)
    if differ(projections[0]):
        return [], []
    if not np.isfinite(projections).all():
        return [], []
    zero = np.flatnonzero((projections == 0).all(axis=0)).tolist()
    candidates = list(_candidates(projections, set(zero)))
    if not candidates:
        return [], zero
    return _compared(tensor, at, axis, candidates), zero


def enough(tensor: Tensor, axis: int) -> bool:
    """Whether its units have enough bits to differ by chance."""
    count = tensor.shape[axis]
    bits = tensor.size // max(1, count) * _FRACTION_BITS.get(tensor.dtype, 2)
    return count >= 2 and bits >= 2 * math.log2(count) + _SPARE_BITS


def differ(projections: Array) -> Array:
    """Whether all projections along the last axis differ by more than rounding may change the largest."""
    ordered = np.sort(projections, axis=-1)
    largest = np.maximum(-ordered[..., 0], ordered[..., -1])
    least = (ordered[..., 1:] - ordered[..., :-1]).min(axis=-1)
    return ordered.all(axis=-1) & (largest < math.inf) & (least > _ROUNDING * largest)


def by_axis(values: Array, shape: tuple[int, ...], axis: int) -> Array:
    """A number for each unit of an axis, from those of rows or columns that have several axes."""
    if len(shape) == 1:
        return values
    units = np.moveaxis(values.reshape(-1, *shape), axis + 1, 1).reshape(len(values), shape[axis], -1)
    weights = random_normal((units.shape[2],), 0.0, 1.0, seed=1, dtype="float64")
    return (units * weights).sum(axis=2)


def _candidates(projections: Array, zero: set[int]) -> Iterator[list[int]]:
    """Groups of units whose projections agree."""
    scale = np.median(_ROUNDING * np.abs(projections), axis=1)  # a sum of two larger ones may overflow
    order = np.argsort(projections[0], kind="stable")
    close = (np.abs(np.diff(projections[:, order], axis=1)) <= scale[:, None]).all(axis=0)
    # Runs of neighbours that are close: they begin and end where that changes.
    edges = np.flatnonzero(np.diff(np.concatenate([[False], close, [False]]).astype(np.int8)))
    for start, stop in edges.reshape(-1, 2):
        group = sorted(set(order[start : stop + 1].tolist()) - zero)
        if len(group) > 1:
            yield group


def _compared(tensor: Tensor, at: int, axis: int, candidates: list[list[int]]) -> list[list[int]]:
    """Those of the candidates that are equal, as far as they are compared."""
    wanted: list[int] = []
    for group in candidates:
        wanted += group[: max(2, _COMPARED // len(candidates))]
        if len(wanted) >= _COMPARED:
            break
    units = _gathered(tensor, at, axis, sorted(wanted))
    groups: list[list[int]] = []
    for group in candidates:
        classes: dict[bytes, list[int]] = {}
        for unit in (unit for unit in group if unit in units):
            classes.setdefault(units[unit], []).append(unit)
        best = max(classes.values(), key=len, default=[])
        if len(classes) < 2:  # All that were compared are equal.
            groups.append(group)
        elif len(best) > 1:
            groups.append(sorted(best))
    return groups if any(units.keys() & group for group in groups) else []


def _gathered(tensor: Tensor, at: int, axis: int, wanted: list[int]) -> dict[int, bytes]:
    """The bytes of some units, by another pass over the tensor."""
    parts: dict[int, list[Array]] = {unit: [] for unit in wanted}
    for owner, values in _by_unit(tensor, at, axis):
        for unit in np.intersect1d(owner, wanted):
            parts[int(unit)].append(values[owner == unit].ravel())
    # Adding 0 makes 0 of -0.
    return {unit: (np.concatenate(found) + 0).tobytes() for unit, found in parts.items()}


def even_zeros(tensor: Tensor, at: int) -> bool:
    """Whether all units of some axis have the same number of zeros."""

    def even(axis: int) -> bool:
        counts = np.zeros(tensor.shape[axis], np.int64)
        for owner, values in _by_unit(tensor, at, axis):
            np.add.at(counts, owner, np.count_nonzero(values == 0, axis=1))
        return int(counts.min()) == int(counts.max())

    return any(map(even, {tensor.in_axis, tensor.out_axis}))


def _by_unit(tensor: Tensor, at: int, axis: int) -> Iterator[tuple[Array, Array]]:
    """Chunks of the elements: the unit that each row belongs to, and the rows."""
    count, columns = tensor.shape[axis], math.prod(tensor.shape[at:])
    stride, row = math.prod(tensor.shape[axis + 1 : at]), 0
    for chunk in tensor.read(0, tensor.size, max(1, CHUNK // columns) * columns):
        matrix = chunk.reshape(-1, columns)
        if axis < at:
            yield np.arange(row, row + len(matrix)) // stride % count, matrix
        else:
            box = matrix.reshape(len(matrix), *tensor.shape[at:])
            yield np.arange(count), np.moveaxis(box, axis - at + 1, 0).reshape(count, -1)
        row += len(matrix)


# The number of elements by which tensors with the same draws are found.
KEY = 8


@np.errstate(divide="ignore", invalid="ignore")
def keys(rows: Array) -> list[bytes | None]:
    """The first elements of each row, relative to the largest, to two digits; `None` if few values differ."""
    first = rows[:, :KEY].astype(np.float64)
    sizes = np.sort(np.abs(first), axis=1)
    largest = np.take_along_axis(first, np.abs(first).argmax(axis=1)[:, None], axis=1)
    several = np.count_nonzero(sizes[:, 1:] > sizes[:, :-1], axis=1) >= 5
    relative = first / largest
    power = np.where(first == 0.0, 0.0, np.floor(np.log10(np.abs(relative))))
    digits = np.rint(relative / 10.0 ** (power - 1))
    more = np.abs(digits) == 100
    digits, power = np.where(more, digits / 10, digits), power + more
    found = digits + 1000 * power + 0.0  # -0 becomes 0.
    return [row.tobytes() if enough else None for row, enough in zip(found, several.tolist(), strict=True)]
