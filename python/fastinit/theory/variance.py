"""What becomes of the variance of signals and gradients, layer after layer: the mean-field theory.

In a wide layer with weights of variance `scale / fan_in` and biases of variance `bias_std**2` the inputs of
the units are normal, of variance q, and those of the next layer have variance

    V(q) = scale * E f(sqrt(q) z)**2 + bias_std**2.

A variance that V maps to itself lasts through any number of layers if the slope of V there is at most 1. The
variance of gradients is multiplied by `scale * E f'(sqrt(q) z)**2` in each layer, on its way back.

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

# Rounding may leave the slope of ReLU and its like, 1 exactly, on either side.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Flow:
    """A choice of weights and biases, and what they do to signals and gradients.

    Attributes:
        scale: The variance of weights times `fan_in`.
        bias_std: The standard deviation of biases.
        variance: The variance of the inputs of units that each layer passes on to the next.
        slope: The slope of the map of variances there: above 1 it does not last.
        gradient: What a layer multiplies the variance of gradients by.
    """

    scale: float
    bias_std: float
    variance: float
    slope: float
    gradient: float

    @property
    def is_stable(self) -> bool:
        """Whether the variance lasts."""
        return self.slope <= 1.0 + _ROUNDING


@functools.lru_cache(maxsize=256)
def without_bias(activation: Activation) -> Flow:
    """The flow with biases of zero: at variance 1, or the nearest below that lasts; unstable if none does.

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
        # Nearer to 1 the noise of a layer would carry the variance to where it is unstable.
        if 0.0 < square < math.inf and variance * change / square <= 0.71:
            scale = variance / square
            return Flow(scale, 0.0, variance, scale * change, scale * steep)
    return at_one


@functools.lru_cache(maxsize=256)
def with_bias(activation: Activation) -> Flow | None:
    """The flow with random biases that keeps signals, and of gradients as much as can be, if there is one.

    It is at the edge of chaos, where gradients keep their variance, if that is a place where signals do.
    """
    best: Flow | None = None
    for variance in np.geomspace(1.0, 2.0, 5).tolist():
        square, change, steep = moments(activation, variance)
        if not (0.0 < steep < math.inf and 0.0 < square < math.inf):
            continue
        # The nearer to 1 the slope is, the larger is the gradient, and the longer lasts the noise of a layer.
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
    """Whether what is too large becomes smaller: the slope at the right place is not all."""
    for factor in (1.25, 1.5, 2.0, 3.0, 4.0):
        variance = factor * flow.variance
        if flow.scale * moments(activation, variance)[0] + flow.bias_std**2 > variance:
            return False
    return True


def after(activation: Activation, scale: float, bias_std: float, depth: int) -> tuple[float, float]:
    """What `depth` layers make of inputs of variance 1.

    Returns:
        The variance of the inputs of units in the last layer, and the factor by which the variance of
        gradients has changed from its outputs to those of the first. Where the first is out of sight, it is
        zero or infinite, and the second what it was until there.
    """
    variance, gradient = scale + bias_std**2, 1.0
    for _ in range(depth - 1):
        variance = scale * moments(activation, variance)[0] + bias_std**2
        if not 1e-100 < variance < 1e100:
            return (0.0, 0.0) if variance < 1.0 else (math.inf, gradient)
        gradient *= scale * moments(activation, variance)[2]
    return variance, gradient
