"""Statistics of the activations of a layer, or of their gradient: one code for all frameworks.

Sums are in float64.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastinit.theory.activations import saturation

if TYPE_CHECKING:
    from fastinit._typing import Array
    from fastinit.theory.activations import Activation

# A unit is constant if its outputs differ by at most this fraction of the largest of the layer.
_CONSTANT = 1e-6


class Statistics(NamedTuple):
    """Numbers of a layer; the standard deviation is NaN where an element is not finite.

    Attributes:
        mean, std: Of all elements.
        constant: The share of units whose elements are all equal; `None` if each has only one.
        zero: The share of units whose elements are all zero.
        distance: The distance of the samples; `None` if there is one sample, or the first axis is not that of
            the samples.
    """

    mean: float
    std: float
    constant: float | None
    zero: float
    distance: float | None


def measure(x: Array, axis: int, samples: int) -> Statistics:
    """Measures the output of a layer.

    Args:
        x: The output; real numbers.
        axis: The axis of the units.
        samples: The number of samples in the batch.
    """
    x = as_floats(x)
    x = x.reshape(-1, 1) if x.ndim < 2 else x
    if x.size == 0:
        return Statistics(math.nan, math.nan, None, 0.0, None)
    others = tuple(sorted(set(range(x.ndim)) - {axis % x.ndim}))
    low, high = x.min(axis=others).astype(np.float64), x.max(axis=others).astype(np.float64)
    if not (np.isfinite(low).all() and np.isfinite(high).all()):
        return Statistics(math.nan, math.nan, None, 0.0, None)
    largest = float(max(-low.min(), high.max()))
    # Squares of such numbers would be out of the range of float64.
    scale = largest if largest > 1e150 or 0.0 < largest < 1e-150 else 1.0
    x = x if scale == 1.0 else x / scale
    mean, variance = float(x.mean(dtype=np.float64)), float(x.var(dtype=np.float64))
    distance = None
    if x.shape[0] == samples > 1:
        square = variance + mean * mean
        distance = math.sqrt(float(x.var(axis=0, dtype=np.float64).mean()) / square) if square > 0.0 else 0.0
    return Statistics(
        mean=mean * scale,
        std=math.sqrt(variance) * scale,
        constant=float((high - low <= _CONSTANT * largest).mean()) if x.size > len(low) else None,
        zero=float(((low == 0.0) & (high == 0.0)).mean()),
        distance=distance,
    )


def as_floats(x: Any) -> Array:
    """The elements as an array of float32 or float64."""
    array = np.asarray(x)
    return array if array.dtype == np.float64 else array.astype(np.float32, copy=False)


def saturated(z: Array, activation: Activation) -> float | None:
    """The share of inputs at which an activation is saturated; `None` if it never is."""
    low, high = saturation(activation)
    if math.isinf(low) and math.isinf(high):
        return None
    return float(np.mean((z < low) | (z > high))) if z.size else None
