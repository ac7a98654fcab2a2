"""Integrals against the normal density, by Gauss-Legendre quadrature."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastinit._typing import Array


@functools.cache
def legendre(count: int) -> tuple[Array, Array]:
    """The nodes of the Gauss-Legendre rule with `count` nodes on [-1, 1], and their weights."""
    nodes, weights = np.polynomial.legendre.leggauss(count)
    return nodes, weights


@functools.cache
def _to_ends(count: int) -> Array:
    """The matrix that maps values at the nodes to the values of their polynomial at -1 and 1."""
    vander = np.polynomial.legendre.legvander
    ends = np.array([-1.0, 1.0])
    return np.linalg.solve(vander(legendre(count)[0], count - 1).T, vander(ends, count - 1).T)


def normal_mean_square(function: Callable[[Array], Any], *, power: int = 0) -> float:
    """E z**power f(z)**2 for a standard normal z, by adaptive Gauss-Legendre quadrature.

    The Gauss-Hermite rule, which suits smooth functions, would converge slowly for functions with kinks, such
    as ReLU. Here intervals are halved until both halves agree with the whole; steps and kinks may be
    anywhere.

    Args:
        function: An elementwise function of one-dimensional float64 arrays.
        power: An even number.
    """
    nodes, weights = legendre(12)
    to_ends = _to_ends(12)

    def values(z: Array) -> Array:
        # The root of the density is multiplied in first, so that squares of large f(z) do not overflow.
        y = np.asarray(function(z.ravel()), dtype=np.float64).reshape(z.shape)
        return y * np.exp(-(z**2) / 4) * z ** (power // 2)

    def integrals(left: Array, right: Array) -> tuple[Array, Array]:
        half = (right - left) / 2
        y = values((left + half)[:, None] + half[:, None] * nodes)
        return half * (y**2 @ weights), y

    def missed(left: Array, right: Array, y: Array) -> Array:
        """The error from a step between an end and the nearest node, which the halves would not show."""
        inside = 1e-10 * (right - left)  # A step exactly at the end is harmless.
        ends = values(np.stack([left + inside, right - inside], axis=-1))
        gap = np.abs(ends - y @ to_ends).max(axis=-1)
        largest = np.abs(y).max(axis=-1)
        return np.where(gap > 1e-3 * largest, 0.01 * (right - left) * gap * (gap + largest), 0.0)

    # Beyond 16 the density is below 1e-55.
    edges = np.linspace(-16.0, 16.0, 65)
    left, right = edges[:-1], edges[1:]
    found = 0.0
    with np.errstate(over="ignore", invalid="ignore"):  # The caller checks the result.
        # After 48 halvings an interval is as small as a rounding error.
        for _ in range(48):
            middle = (left + right) / 2
            coarse, y = integrals(left, right)
            fine = integrals(left, middle)[0] + integrals(middle, right)[0]
            error = np.abs(fine - coarse) + missed(left, right, y)
            rough = error > 1e-12 * np.abs(fine) + 1e-16 * (found + fine.sum())
            if rough.sum() > 2**14:  # The function is rough everywhere: stop refining.
                rough[:] = False
            found += float(fine[~rough].sum())
            if not rough.any():
                break
            left, middle, right = left[rough], middle[rough], right[rough]
            left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
    return found / math.sqrt(2 * math.pi)
