"""The propagation of a signal and its gradient through a plain network, by matrix products in float64."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from fastinit.functions import random_normal
from fastinit.theory.activations import saturation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastinit._typing import Array
    from fastinit.initializers import Initializer
    from fastinit.theory.activations import Activation

Floats = npt.NDArray[np.float64]

SERIES = (
    "preactivation_std",
    "activation_std",
    "gradient_std",
    "zero_slope",
    "saturated",
    "unit_distance",
    "sample_distance",
)

# Larger numbers count as infinite; the product of two that are smaller does not overflow.
_HUGE = 1e150
# A slope below this fraction of the steepest one counts as zero.
_ZERO_SLOPE = 1e-6


def propagate(
    activation: Activation,
    kernel: Initializer,
    bias: Initializer,
    *,
    widths: Sequence[int],
    samples: int,
    seed: int,
) -> dict[str, Floats]:
    """Sends standard normal inputs through a plain network, and a standard normal gradient back.

    Kernels are made when they are needed, and again on the way back, so that only one is in memory.

    Args:
        activation: The activation after each layer.
        kernel: The initializer of the kernels.
        bias: The initializer of the biases.
        widths: The size of the input, and of each layer.
        samples: The number of inputs.
        seed: The seed of inputs, kernels, biases and gradient.

    Returns:
        For each name of `SERIES` an array with an element for each layer; see `SignalRow`.
    """
    inputs = 2 if activation.kind == "gated" else 1
    depth = len(widths) - 1
    low, high = saturation(activation)
    series = {name: np.zeros(depth) for name in SERIES}

    def normal(size: int, stream: str) -> Array:
        return random_normal((samples, size), 0.0, 1.0, seed=seed, stream=stream, dtype="float64")

    def kernel_of(layer: int) -> Array:
        shape = widths[layer - 1], inputs * widths[layer]
        return kernel(shape, seed=seed, stream=f"{layer}.kernel", dtype="float64")

    # Huge numbers are clipped, so that nothing becomes NaN.
    with np.errstate(all="ignore"):
        x = normal(widths[0], "input")
        preactivations = []
        for at, layer in enumerate(range(1, depth + 1)):
            b = bias(inputs * widths[layer], seed=seed, stream=f"{layer}.bias", dtype="float64")
            z = _clipped(x @ kernel_of(layer) + b)
            x = _clipped(activation(z))
            slope = np.abs(_clipped(activation.derivative(z)))
            preactivations.append(z)
            series["preactivation_std"][at] = _std(z)
            series["activation_std"][at] = _std(x)
            series["zero_slope"][at] = np.mean(
                (slope <= _ZERO_SLOPE * max(1.0, float(slope.max()))).all(axis=0)
            )
            series["saturated"][at] = np.mean((z < low) | (z > high))
            series["unit_distance"][at] = _distance(z, 1) if z.shape[1] > 1 else 1.0
            series["sample_distance"][at] = _distance(z, 0) if samples > 1 else 1.0
        gradient = normal(widths[-1], "gradient")
        for layer in range(depth, 0, -1):
            series["gradient_std"][layer - 1] = _std(gradient)
            if layer > 1:  # The gradient of the input is not needed.
                pulled = _clipped(activation.backward(preactivations[layer - 1], gradient))
                gradient = _clipped(pulled @ kernel_of(layer).T)
    return series


def _clipped(x: Array) -> Array:
    """The numbers, with NaN replaced by 0 and huge ones clipped."""
    return np.nan_to_num(np.clip(x, -_HUGE, _HUGE), copy=False, nan=0.0)


def _std(x: Array) -> float:
    """The standard deviation, infinite if it is huge; no square overflows or underflows."""
    largest = float(np.abs(x).max())
    if largest >= _HUGE:
        return math.inf
    return largest * float(np.std(x / largest)) if largest > 0.0 else 0.0


def _distance(x: Array, axis: int) -> float:
    """The root mean square deviation along an axis, relative to the root mean square of all numbers."""
    largest = float(np.abs(x).max())
    if largest == 0.0:
        return 0.0
    x = x / largest
    return float(np.sqrt(np.mean(np.var(x, axis=axis)) / np.mean(np.square(x))))
