"""Integrals against the normal density, by Gauss-Legendre quadrature."""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastinit._typing import Array

# The interval of integration, where the function does not need a larger one: beyond 16 the density is below
# 1e-55.
_NEAR = 16.0
# Here the density is so small that the square of any finite number vanishes beside 1.
_FAR = 64.0
# The halvings of an interval of 1/2 after which it is as small as a rounding error.
_LEVELS = 48


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

    Returns:
        The expectation. Infinity where it diverges: at an infinite end, where the integrand does not fall
        until the function overflows, or at a singularity, near which the parts of the integral do not become
        smaller. NaN where the function is not a number.
    """
    with np.errstate(all="ignore"):  # The caller checks the result.
        low, high, peak = _range(function, power)
        if not low < high:
            return math.inf
        return _integral(function, power, low, high, peak)


def _logarithm(function: Callable[[Array], Any], power: int, z: Array) -> Array:
    """The logarithm of |z|**(power / 2) |f(z)| exp(-z**2 / 4); NaN where f is not finite."""
    y = np.abs(np.asarray(function(z), dtype=np.float64))
    return np.where(np.isfinite(y), np.log(y) - z**2 / 4 + power / 2 * np.log(np.abs(z)), np.nan)


def _far_logarithm(function: Callable[[Array], Any], power: int, z: Array) -> Array:
    """The same, and NaN where the user's function fails, as functions of `math` do where they overflow."""
    try:
        return _logarithm(function, power, z)
    except Exception:
        if len(z) <= 8:
            return np.full(z.shape, np.nan)
    return np.concatenate([_far_logarithm(function, power, part) for part in np.split(z, len(z) // 8)])


def _range(function: Callable[[Array], Any], power: int) -> tuple[float, float, float]:
    """The interval that contains the integral, and the logarithm of the largest root of the integrand.

    Its ends are equal if there is no such interval.
    """
    near, far = np.linspace(0.0, _NEAR, 129), np.linspace(_NEAR, _FAR, 385)[1:]
    sides = [
        np.concatenate(
            [_logarithm(function, power, sign * near), _far_logarithm(function, power, sign * far)]
        )
        for sign in (-1.0, 1.0)
    ]
    distance = np.concatenate([near, far])
    finite = []
    for side in sides:
        # Up to where the function overflows; before 8 a value that is not finite is a singularity.
        bad = np.flatnonzero(np.isnan(side[64:]))
        finite.append(side[: 64 + bad[0]] if len(bad) else side)
    peak = max(float(np.nanmax(side, initial=-math.inf)) for side in finite)
    ends = []
    for side in finite:
        # What is below is less than 1e-13 of the integrand.
        needed = np.flatnonzero(side > peak - 15.0)
        last, before = side[-8:].max(), side[-16:-8].max()
        if (len(needed) and needed[-1] == len(side) - 1) or last > before > -math.inf:
            return 0.0, 0.0, peak
        ends.append(max(_NEAR, distance[needed[-1] + 1] if len(needed) else 0.0))
    return -math.ceil(2 * ends[0]) / 2, math.ceil(2 * ends[1]) / 2, peak if abs(peak) < math.inf else 0.0


def _integral(function: Callable[[Array], Any], power: int, low: float, high: float, peak: float) -> float:
    """The integral from `low` to `high`; infinity if it diverges at a point between."""
    nodes, weights = legendre(12)
    to_ends = _to_ends(12)
    shift = peak if abs(peak) > 100.0 else 0.0

    def values(z: Array, level: int) -> Array:
        # The root of the density is multiplied in first, so that squares of large f(z) do not overflow.
        y = np.asarray(function(z.ravel()), dtype=np.float64).reshape(z.shape)
        if level >= _LEVELS - 8:  # Here a node may lie on the singularity itself.
            y = np.where(np.isfinite(y), y, 0.0)
        half = z**2 / 8  # In two steps: the root alone may underflow.
        return y * np.exp(-half) * np.exp(-half - shift) * z ** (power // 2)

    def integrals(left: Array, right: Array, level: int) -> tuple[Array, Array]:
        half = (right - left) / 2
        y = values((left + half)[:, None] + half[:, None] * nodes, level)
        return half * (y**2 @ weights), y

    def missed(left: Array, right: Array, y: Array, level: int) -> Array:
        """The error from a step between an end and the nearest node, which the halves would not show."""
        inside = 1e-10 * (right - left)  # A step exactly at the end is harmless.
        ends = values(np.stack([left + inside, right - inside], axis=-1), level)
        gap = np.abs(ends - y @ to_ends).max(axis=-1)
        largest = np.abs(y).max(axis=-1)
        return np.where(gap > 1e-3 * largest, 0.01 * (right - left) * gap * (gap + largest), 0.0)

    edges = np.linspace(low, high, round(2 * (high - low)) + 1)
    left, right = edges[:-1], edges[1:]
    found, tolerance = np.zeros(_LEVELS), 1e-12
    for level in range(_LEVELS):
        middle = (left + right) / 2
        coarse, y = integrals(left, right, level)
        fine = integrals(left, middle, level)[0] + integrals(middle, right, level)[0]
        error = np.abs(fine - coarse) + missed(left, right, y, level)
        total = found.sum() + fine.sum()
        # The places of the nodes are rounded, too, which matters near a singularity.
        least = 2.0**-48 * np.maximum(np.abs(left), np.abs(right)) / (right - left)
        rough = error > (tolerance + least) * np.abs(fine) + 1e-4 * tolerance * total
        if rough.sum() > 2**14:  # It may be due to rounding errors of single precision.
            tolerance = 1e-5
            rough = error > (tolerance + least) * np.abs(fine) + 1e-4 * tolerance * total
            if rough.sum() > 2**10:  # The function is rough everywhere: stop refining.
                rough[:] = False
        found[level] = fine[~rough].sum()
        if not rough.any():
            break
        left, middle, right = left[rough], middle[rough], right[rough]
        left, right = np.concatenate([left, middle]), np.concatenate([middle, right])
    return float((found.sum() + _rest(found)) * np.exp(2 * shift)) / math.sqrt(2 * math.pi)


def _rest(found: Array) -> float:
    """What is left at a singularity, from the parts of the integral that were found at each level.

    Near |z - a|**-p each level has 2**(p - 1) of the part of the level before: the integral of the square
    converges if that is below 1.
    """
    # The last eight levels are left out, in which the distances from a are rounded.
    before, after, last = found[-24:-16].sum(), found[-16:-8].sum(), found[-8:].sum()
    if not last > 1e-9 * found.sum():
        return 0.0
    ratio = (after / before) ** (1 / 8)
    if not ratio < 0.995:
        return math.inf
    return float(found[-9] * ratio / (1.0 - ratio) - last)
