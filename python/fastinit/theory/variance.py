"""The variance of signals and gradients from layer to layer: mean-field theory.

In a wide layer with weights of variance `scale / fan_in` and biases of variance `bias_std**2` the
pre-activations are normal. If their variance is q, that of the next layer is

    V(q) = scale * E f(sqrt(q) z)**2 + bias_std**2.

A fixed point of V is stable through any number of layers if the slope of V there is at most 1. Each layer
multiplies the variance of gradients by `scale * E f'(sqrt(q) z)**2`.

References: Poole and others, arXiv:1606.05340; Schoenholz and others, arXiv:1611.01232; Hayou and others,
arXiv:1902.06853.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .gains import mean_square, mean_square_slope, moments, root_gain

if TYPE_CHECKING:
    from .activations import Activation

# Rounding may leave the slope of rectifiers, which is exactly 1, on either side of 1.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Flow:
    """Variances of weights and biases, and their effect on signals and gradients.

    Attributes:
        scale: The variance of weights times `fan_in`.
        bias_std: The standard deviation of biases.
        variance: The fixed point: the variance of the pre-activations of every layer.
        slope: The slope of the variance map there; above 1 the fixed point is unstable.
        gradient: The factor by which a layer multiplies the variance of gradients.
    """

    scale: float
    bias_std: float
    variance: float
    slope: float
    gradient: float

    @property
    def is_stable(self) -> bool:
        """Whether the fixed point is stable."""
        return self.slope <= 1.0 + _ROUNDING


@functools.lru_cache(maxsize=256)
def without_bias(activation: Activation) -> Flow:
    """The flow with zero biases: at variance 1, or the next stable one below; unstable if none is stable.

    Raises:
        ValueError: If the activation has no gain.
    """
    square = mean_square(activation)
    root_gain(square, f"the activation {activation}")
    slope = moments(activation, 1.0)[1] / square
    at_one = Flow(1.0 / square, 0.0, 1.0, slope, mean_square_slope(activation) / square)
    if at_one.is_stable:
        return at_one
    for variance in (0.8, 0.6, 0.5, 0.4, 0.35, 0.3):
        square, change, steep = moments(activation, variance)
        # Nearer to 1, the noise of finite layers would carry the variance to where it is unstable.
        if 0.0 < square < math.inf and variance * change / square <= 0.71:
            scale = variance / square
            return Flow(scale, 0.0, variance, scale * change, scale * steep)
    return at_one


@functools.lru_cache(maxsize=256)
def with_bias(activation: Activation) -> Flow | None:
    """The stable flow with random biases that shrinks gradients least, if there is one.

    It is at the edge of chaos, where gradients keep their variance, if signals are stable there.
    """
    best: Flow | None = None
    for variance in np.geomspace(1.0, 2.0, 5).tolist():
        square, change, steep = moments(activation, variance)
        if not (0.0 < steep < math.inf and 0.0 < square < math.inf):
            continue
        # The nearer the slope is to 1, the larger is the gradient, but the slower noise dies out.
        for slope in (0.97, 0.9, 0.8, 0.7, 0.6, 0.5):
            scale = min(1.0 / steep, slope / change) if change > 0.0 else 1.0 / steep
            rest = variance - scale * square
            if rest <= 0.0:
                break
            flow = Flow(scale, math.sqrt(rest), variance, scale * change, scale * steep)
            if _falls_back(activation, flow):
                if best is None or flow.gradient > best.gradient + 1e-3:
                    best = flow
                break
    return best


def _falls_back(activation: Activation, flow: Flow) -> bool:
    """Whether larger variances decrease: the slope at the fixed point alone does not tell."""
    for factor in (1.25, 1.5, 2.0, 3.0, 4.0):
        variance = factor * flow.variance
        if flow.scale * moments(activation, variance)[0] + flow.bias_std**2 > variance:
            return False
    return True


def after(activation: Activation, scale: float, bias_std: float, depth: int) -> tuple[float, float]:
    """The effect of `depth` layers on inputs of variance 1.

    Returns:
        The variance of the pre-activations of the last layer, and the factor by which the variance of
        gradients changes from its outputs to those of the first layer. A variance below 1e-100 counts as 0
        with a factor of 0; above 1e100 it counts as infinite, with the factor up to that layer.
    """
    variance, gradient = scale + bias_std**2, 1.0
    for _ in range(depth - 1):
        variance = scale * moments(activation, variance)[0] + bias_std**2
        if not 1e-100 < variance < 1e100:
            return (0.0, 0.0) if variance < 1.0 else (math.inf, gradient)
        gradient *= scale * moments(activation, variance)[2]
    return variance, gradient
