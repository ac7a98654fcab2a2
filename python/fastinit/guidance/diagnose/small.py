"""Measures small tensors of the same kind together: each step is one call of NumPy for all of them.

A model may have a hundred thousand of them, and then the calls are what takes time. Tensors with anything
unusual (elements that are not finite, units that may be equal or orthonormal) are left to `onepass`, which
measures them one by one.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING, Any

import numpy as np

from .onepass import GRAM, ORTHONORMAL, moments, safe, weights
from .statistics import Statistics
from .units import KEY, by_axis, differ, enough, keys

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from fastinit._typing import Array

    from .parts import Part

# The most elements of a small tensor, and the least number of tensors that are measured together.
SMALL, SEVERAL = 2**12, 4

# Zeros, as a share of the elements, and relative differences of norms, from which on `onepass` looks closer.
_ZEROS, _NORMS = 0.01, 0.02


def together(parts: Sequence[Part]) -> Iterator[tuple[Part, Statistics]]:
    """The statistics of those parts that are small tensors without anything unusual."""
    kinds: dict[object, list[Part]] = defaultdict(list)
    for part in parts:
        if 0 < part.size == part.tensor.size <= SMALL:
            kinds[part.tensor.kind, part.tensor.dtype].append(part)
    for group in kinds.values():
        if len(group) >= SEVERAL:
            yield from _measured(group)


@np.errstate(all="ignore")  # What overflows is unusual.
def _measured(group: Sequence[Part]) -> list[tuple[Part, Statistics]]:
    part, size = group[0], group[0].size
    chunks = [chunk for part in group for chunk in part.tensor.read(0, size, size) if chunk.size]
    flat = np.concatenate(chunks).reshape(len(group), size)
    low, high = flat.min(axis=1), flat.max(axis=1)
    zeros = size - np.count_nonzero(flat, axis=1)
    usual = np.isfinite(low) & np.isfinite(high)
    if flat.dtype == np.float32:
        usual &= list(map(safe, low.tolist(), high.tolist()))
    if part.units:
        usual &= (low == high) | ((zeros <= _ZEROS * size) & _distinct(flat, part))
    if part.gram:
        usual &= ~_unlike_independent(flat, part)
    which = np.flatnonzero(usual)
    if not len(which):
        return []
    flat, low, high = flat[which], low[which], high[which]
    lows, highs = low.tolist(), high.tolist()
    nothing: list[Any] = [None] * len(which)
    turned = part.units and len(part.tensor.shape) == 2 and min(part.rows, part.columns) >= KEY
    found = zip(
        which.tolist(),
        moments(flat, lows, highs, np.empty((2, flat.size), flat.dtype)),
        lows,
        highs,
        np.count_nonzero(flat == low[:, None], axis=1).tolist(),
        np.count_nonzero(flat == high[:, None], axis=1).tolist(),
        zeros[which].tolist(),
        flat,
        keys(flat) if part.units else nothing,
        keys(flat.reshape(len(which), part.rows, part.columns)[:, :KEY, 0]) if turned else nothing,
        strict=True,
    )
    return [
        (
            group[at],
            Statistics(
                size=size,
                gram=part.gram and part.enough,
                tensor=group[at].tensor,
                moments=moment,
                low=least,
                high=most,
                at_low=at_low,
                at_high=at_high,
                zeros=zero,
                sample=sample,
                key=key,
                turned=turn,
            ),
        )
        for at, moment, least, most, at_low, at_high, zero, sample, key, turn in found
    ]


def _distinct(flat: Array, part: Part) -> Array:
    """Of which tensors the units clearly differ."""
    stack, shape = flat.reshape(-1, part.rows, part.columns), part.tensor.shape
    across, along = weights("columns", part.columns)[0], weights("rows", part.rows)[0]
    found = np.ones(len(flat), bool)
    for axis in (part.tensor.in_axis, part.tensor.out_axis):
        if enough(part.tensor, axis):
            first = axis < part.at
            values = stack @ across if first else along @ stack
            own, at = (shape[: part.at], axis) if first else (shape[part.at :], axis - part.at)
            found &= differ(by_axis(values.astype(np.float64), own, at))
    return found


def low_rank(gram: Array, eps: float) -> Any:
    """The rank of units by their inner products, if it is at most half their number; otherwise 0.

    Args:
        gram: The products, of several tensors along the first axes.
        eps: The relative rounding of elements, which adds to the rank.
    """
    count = gram.shape[-1]
    if count < 4:
        return np.zeros(gram.shape[:-2], int)
    whole = np.trace(gram, axis1=-2, axis2=-1)
    usable = np.isfinite(whole) & (np.einsum("...ii->...i", gram) > 0.0).all(axis=-1)
    gram = np.where(usable[..., None, None], gram, np.eye(count))
    values = np.linalg.eigvalsh(gram)
    rank = (values > (eps**2 + 1e-12) * values.mean(axis=-1)[..., None]).sum(axis=-1)
    return np.where(usable & (2 * rank <= count), rank, 0)


def _unlike_independent(flat: Array, part: Part) -> Array:
    """In which tensors the first rows, or columns, have nearly the same norm, or a low rank."""
    stack = flat.reshape(-1, part.rows, part.columns)
    if part.rows > part.columns:
        stack = stack.transpose(0, 2, 1)
    first = stack[:, :GRAM]
    first = first.astype(np.float64)
    gram = np.einsum("kic,kjc->kij", first, first)
    norms = np.sqrt(np.einsum("kii->ki", gram)[:, :ORTHONORMAL])
    low, high = norms.min(axis=1), norms.max(axis=1)
    even = (low > 0.0) & (high - low < (_NORMS if part.enough else part.tensor.rounding) * high)
    return even | (low_rank(gram, part.tensor.eps) > 0)
