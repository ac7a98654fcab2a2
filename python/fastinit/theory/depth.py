"""What many plain layers do to signals, gradients and the distance of two inputs: mean-field theory.

A layer has the variance q of its pre-activations, and the correlation c of those of two inputs. With weights
of variance `scale / fan_in`, biases of variance `bias_std**2`, and normal u and v of variance q and
correlation c, the next layer has

    q' = scale * E f(u)**2 + bias_std**2        c' = (scale * E f(u) f(v) + bias_std**2) / q',

and gradients have their variance multiplied by chi = scale * E f'(u)**2 on the way back. chi is also the
factor of 1 - c where c is near 1: with chi below 1 gradients vanish and inputs become alike, with chi above 1
gradients explode. At the edge between both (the edge of chaos) signals pass through the most layers; but
there the variance itself may shrink, as for tanh, or grow. So a scale for a given depth is a compromise.

Expectations are computed once for each activation, for many variances, and interpolated, so that many
networks can be followed at once. The error is about 0.1 % a layer.

References: Poole and others, arXiv:1606.05340; Schoenholz and others, arXiv:1611.01232; Hayou and others,
arXiv:1902.06853.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from .activations import GATES
from .gains import moments
from .parse import resolve
from .variance import Flow

if TYPE_CHECKING:
    from fastinit._typing import Array

    from .activations import Activation

# More layers are not followed.
MOST = 300
# The logarithms of the variances for which expectations are computed.
_LOG = np.linspace(math.log(1e-10), math.log(1e10), 481)
# Hermite polynomials below this degree are counted one by one, the others together.
_DEGREES = 16
# The variances of inputs for which a network must do.
_INPUTS = np.array([0.5, 1.0, 2.0])
# Where the sum of squared logarithms is below that of two factors of 4, random biases are not needed.
_FLAT = 2 * math.log(4.0) ** 2
_BIASES = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.4, 2.0)


class Effect(NamedTuple):
    """What a number of layers does to inputs and gradients. Floats, or arrays with a network each.

    Attributes:
        variance: The variance of the pre-activations of the last layer.
        gradient: The factor by which the variance of gradients changes from the outputs of the last layer to
            those of the first.
        distance: The root of 1 - c for two inputs with correlation 0: 1 where they are as different as at
            first, 0 where they are the same.
    """

    variance: Array
    gradient: Array
    distance: Array


@dataclass(frozen=True)
class _Table:
    """Expectations for normal inputs with the variances `exp(_LOG)`.

    Attributes:
        square: The logarithm of E f(u)**2.
        slope: The logarithm of E f'(u)**2.
        parts: The share of E f(u)**2 that each degree of Hermite polynomials contributes; the last column is
            that of all higher ones.
        tail: The degree that stands for all higher ones.
    """

    square: Array
    slope: Array
    parts: Array
    tail: Array


@functools.lru_cache(maxsize=64)
def _table(activation: Activation) -> _Table:
    if activation.kind == "gated":
        gate = _table(resolve(GATES[activation.name]))
        # E (a s(b))**2 = q E s(b)**2, and the derivatives with respect to a and to b are added.
        parts = np.roll(gate.parts, 1, axis=1)  # The factor a has degree 1.
        parts[:, -1] += parts[:, 0]
        parts[:, 0] = 0.0
        slope = np.logaddexp(gate.square, _LOG + gate.slope)
        return _Table(_LOG + gate.square, slope, parts, gate.tail + 1.0)
    # The midpoint rule, which has no node at 0, where most kinks and steps are.
    z = (np.arange(2400) + 0.5) * (18.0 / 2400) - 9.0
    weights = np.exp(-0.5 * z**2) * (z[1] - z[0]) / math.sqrt(2 * math.pi)
    hermite = np.empty((_DEGREES, len(z)))
    hermite[0], hermite[1] = 1.0, z
    for n in range(1, _DEGREES - 1):
        hermite[n + 1] = (z * hermite[n] - math.sqrt(n) * hermite[n - 1]) / math.sqrt(n + 1)
    u = np.exp(0.5 * _LOG)[:, None] * z
    with np.errstate(all="ignore"):
        f, slopes = (
            np.clip(np.nan_to_num(function(u.ravel())), -1e120, 1e120).reshape(u.shape)
            for function in (activation, activation.derivative)
        )
    square, slope = (np.square(x) @ weights + 1e-300 for x in (f, slopes))
    parts = np.square(f @ (hermite * weights).T) / square[:, None]
    rest = np.maximum(1.0 - parts.sum(axis=1), 1e-12)
    # The mean of the degrees with these shares is q E f'(u)**2 / E f(u)**2.
    mean = np.exp(_LOG) * slope / square
    tail = np.clip((mean - parts @ np.arange(_DEGREES)) / rest, _DEGREES, 1e6)
    return _Table(np.log(square), np.log(slope), np.column_stack([parts, rest]), tail)


def effects(activation: Activation, scale: Any, bias_std: Any, depth: int, variance: Any = 1.0) -> Effect:
    """The effect of plain layers, for many networks at once.

    Args:
        activation: The activation; elementwise or gated.
        scale: The variance of weights times `fan_in`; positive.
        bias_std: The standard deviation of biases.
        depth: The number of layers; `MOST` if it is greater.
        variance: The variance of the inputs.

    Returns:
        An `Effect` of arrays. Variances below 1e-10 and above 1e10 count as these.
    """
    table = _table(activation)
    scale, bias, variance = np.broadcast_arrays(
        np.asarray(scale, np.float64), np.square(bias_std), np.asarray(variance, np.float64)
    )
    log_q = np.log(scale * variance + bias)
    apart = scale * variance / (scale * variance + bias)  # 1 - c
    gradient = np.zeros(scale.shape)
    low, share = _place(log_q)
    for _ in range(min(depth, MOST) - 1):
        square = scale * np.exp(_between(table.square, low, share))
        parts, tail = table.parts[low], table.tail[low]
        # Of degree n, a share of 1 - c**n is lost, which is c (1 - c**(n - 1)) + 1 - c.
        c, lost, total = 1.0 - apart, np.zeros_like(apart), np.zeros_like(apart)
        for degree in range(1, _DEGREES):
            lost = c * lost + apart
            total += parts[..., degree] * lost
        with np.errstate(divide="ignore"):
            log_c = np.maximum(np.log1p(-np.minimum(apart, 1.0)), -700.0)
        apart = total - parts[..., -1] * np.expm1(log_c * tail)
        apart *= square / (square + bias)
        log_q = np.clip(np.log(square + bias), _LOG[0], _LOG[-1])
        low, share = _place(log_q)
        gradient += np.log(scale) + _between(table.slope, low, share)
    with np.errstate(over="ignore"):
        return Effect(np.exp(log_q), np.exp(gradient), np.sqrt(np.clip(apart, 0.0, 1.0)))


def _place(log_q: Array) -> tuple[Array, Array]:
    """The last variance of the grid below each of these, and the share of the next one."""
    at = np.clip((log_q - _LOG[0]) / (_LOG[1] - _LOG[0]), 0.0, len(_LOG) - 1.001)
    low = at.astype(np.intp)
    return low, at - low


def _between(values: Array, low: Array, share: Array) -> Array:
    """The values at a place, interpolated."""
    return values[low] + share * (values[low + 1] - values[low])


def spread(activation: Activation, scale: float, bias_std: float, depth: int) -> Effect:
    """The effect of plain layers on inputs of variance 1/2, 1 and 2: arrays with three elements."""
    return effects(activation, scale, bias_std, depth, _INPUTS)


@functools.lru_cache(maxsize=256)
def best(activation: Activation, depth: int, *, biases: bool) -> Flow:
    """The compromise for a depth: the scale that changes signals, gradients and distances least.

    That is the least sum of the squared logarithms of three factors: those of the variance of signals, of the
    variance of gradients, and of the squared distance of two inputs, each for the worst of inputs of variance
    1/2, 1 and 2. Random biases are used only where they halve the sum.

    Args:
        activation: The activation; elementwise or gated.
        depth: The number of layers; `MOST` if it is greater.
        biases: Whether biases may be random.

    Returns:
        The flow, at the variance of the last layer.
    """
    middle = 1.0 / math.sqrt(max(moments(activation, 1.0)[0], 1e-12))
    gains = middle * np.geomspace(0.2, 8.0, 81)
    costs, bias_std = _cost(activation, gains, np.array(0.0), depth), 0.0
    if biases and costs.min() > _FLAT:
        near = middle * np.geomspace(0.4, 1.5, 81)  # Beyond it, biases do not matter.
        others = _cost(activation, near[:, None], np.array(_BIASES), depth)
        if others.min() < 0.5 * costs.min():
            at = int(others.min(axis=0).argmin())
            gains, bias_std, costs = near, _BIASES[at], others[:, at]
    fine = np.unique(np.round(gains[costs.argmin()] * np.geomspace(0.955, 1.047, 61), 3))
    fine = fine[fine > 0.0]
    gain = float(fine[_cost(activation, fine, np.array(bias_std), depth).argmin()])
    scale = gain**2
    variance = float(effects(activation, scale, bias_std, depth).variance)
    _, change, slope = moments(activation, variance)
    return Flow(scale, bias_std, variance, scale * change, scale * slope)


def _cost(activation: Activation, gain: Array, bias_std: Array, depth: int) -> Array:
    """What `best` minimizes."""
    found = effects(activation, np.square(gain)[..., None], bias_std[..., None], depth, _INPUTS)
    with np.errstate(divide="ignore"):
        logs = [np.log(np.maximum(x, 1e-300)) for x in (found.variance, found.gradient, found.distance**2)]
    worst = [np.abs(x).max(axis=-1) for x in logs]
    return np.square(worst[0]) + np.square(worst[1]) + np.square(worst[2])
