"""Statistics of the activations of a layer, or of their gradient: one code for all frameworks, in float64."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastinit.guidance.propagate import _distance, _std
from fastinit.theory.activations import saturation

if TYPE_CHECKING:
    from fastinit._typing import Array
    from fastinit.theory.activations import Activation

# A unit is dead if its outputs differ by at most this fraction of the largest of the layer.
_DEAD = 1e-6


class Statistics(NamedTuple):
    """Numbers of a layer; the standard deviation is NaN where an element is not finite.

    Attributes:
        mean, std: Of all elements.
        dead: The share of units whose elements are all equal; `None` if each has only one.
        zero: The share of units whose elements are all zero.
        distance: The distance of the samples; `None` if there is one sample, or the first axis is not that of
            the samples.
    """

    mean: float
    std: float
    dead: float | None
    zero: float
    distance: float | None


def measure(x: Array, axis: int, samples: int) -> Statistics:
    """Measures the output of a layer.

    Args:
        x: The output; real numbers.
        axis: The axis of the units.
        samples: The number of samples in the batch.
    """
    x = np.asarray(x, dtype=np.float64)
    x = x.reshape(-1, 1) if x.ndim < 2 else x
    if x.size == 0 or not np.isfinite(x).all():
        return Statistics(math.nan, math.nan, None, 0.0, None)
    units = np.moveaxis(x, axis, -1).reshape(-1, x.shape[axis])
    flat = np.ptp(units, axis=0) <= _DEAD * float(np.abs(x).max())
    return Statistics(
        mean=float(x.mean()),
        std=_std(x),
        dead=float(flat.mean()) if len(units) > 1 else None,
        zero=float((units == 0.0).all(axis=0).mean()),
        distance=_distance(x, 0) if x.shape[0] == samples > 1 else None,
    )


def saturated(z: Array, activation: Activation) -> float | None:
    """The share of inputs at which an activation is saturated; `None` if it never is."""
    low, high = saturation(activation)
    if math.isinf(low) and math.isinf(high):
        return None
    z = np.asarray(z, dtype=np.float64)
    return float(np.mean((z < low) | (z > high))) if z.size else None
