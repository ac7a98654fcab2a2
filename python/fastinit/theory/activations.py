"""Activations as NumPy functions of float64, with exact derivatives: all those of Keras 3, and common others.

Not in Keras are the gated ones other than `glu`, `quick_gelu`, `relu_squared` and `sin`. References: Shazeer,
"GLU variants improve transformer", arXiv:2002.05202; Hendrycks and Gimpel, "Gaussian error linear units",
arXiv:1606.08415; So and others, "Primer", arXiv:2109.08668; Sitzmann and others, "Implicit neural
representations with periodic activation functions", arXiv:2006.09661.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastinit._typing import Array

    Function = Callable[[Array], Array]

Kind = Literal["elementwise", "gated", "joint"]

SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


class _Formula(NamedTuple):
    """An activation and its derivative, as functions of the input and of the parameter, if there is one."""

    function: Callable[..., Array]
    derivative: Callable[..., Array]
    parameter: str | None = None
    default: float = 0.0
    kind: Kind = "elementwise"
    pull: Callable[[Array, Array], Array] | None = None


@dataclass(frozen=True)
class Activation:
    """An activation, with its parameter bound.

    Attributes:
        name: Its name in Keras, if it is there; for an unknown function, the name of the function.
        function: The activation, as a function of a float64 array.
        derivative: Its derivative; for an activation that is not elementwise, the derivative of each output
            with respect to its own input.
        param: Its parameter, `None` if it has none.
        kind: `"elementwise"`; `"gated"` if each output depends on two inputs (GLU and similar, which halve
            the last axis: the first half times a function of the second); `"joint"` if each output depends on
            all units of a layer (softmax and similar, along the last axis).
        known: Whether the name is one of `names()`.
        pull: The vector-Jacobian product of an activation that is not elementwise: a function of the inputs
            and the gradient with respect to the outputs.
    """

    name: str
    function: Function
    derivative: Function
    param: float | None = None
    kind: Kind = "elementwise"
    known: bool = True
    pull: Callable[[Array, Array], Array] | None = None

    def __call__(self, z: Array) -> Array:
        """The outputs."""
        return self.function(z)

    def __str__(self) -> str:
        """The name, with the parameter."""
        return self.name if self.param is None else f"{self.name}({self.param:g})"

    def backward(self, z: Array, gradient: Array) -> Array:
        """The gradient with respect to the inputs `z`, given that with respect to the outputs."""
        if self.pull is not None:
            return self.pull(z, gradient)
        return self.derivative(z) * gradient


# The error function, which NumPy lacks


@functools.cache
def _normal_table() -> tuple[Array, Array]:
    """Points of the negative half line, and the probability that a standard normal number is below each."""
    points = np.arange(-39 * 64, 1) / 64
    return points, np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in points])


def _density(z: Array) -> Array:
    return np.exp(-0.5 * np.square(z)) / math.sqrt(2 * math.pi)


def normal_cdf(z: Array) -> Array:
    """The probability that a standard normal number is below `z`.

    By a Taylor series about the nearest point of a table; the relative error is below 1e-14 for z >= -10.
    """
    points, table = _normal_table()
    near = np.clip(-np.abs(z), points[0], 0.0)
    index = np.rint((near - points[0]) * 64).astype(np.intp)
    x, step = points[index], near - points[index]
    # The derivatives of the density are the density times Hermite polynomials, which obey a recurrence.
    last, term, power, total = np.zeros_like(x), np.ones_like(x), step, step
    for order in range(1, 8):
        last, term = term, -x * term - (order - 1) * last
        power = power * step / (order + 1)
        total = total + power * term
    below = table[index] + _density(x) * total
    return np.where(z > 0, 1.0 - below, below)


# Shared pieces


def _sigmoid(z: Array) -> Array:
    small = np.exp(-np.abs(z))
    return np.where(z >= 0, 1.0, small) / (1.0 + small)


def _sigmoid_slope(z: Array) -> Array:
    small = np.exp(-np.abs(z))
    return small / np.square(1.0 + small)


def _softplus(z: Array) -> Array:
    return np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))


def _elu(z: Array, alpha: float) -> Array:
    return np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0.0)))


def _elu_slope(z: Array, alpha: float) -> Array:
    return np.where(z > 0, 1.0, alpha * np.exp(np.minimum(z, 0.0)))


def _mish_slope(z: Array) -> Array:
    t = np.tanh(_softplus(z))
    # Clipped against overflow: where z * sigmoid(z) is very large, the other factor is 0.
    return t + np.clip(z, -700.0, 700.0) * _sigmoid(z) * (1.0 - t * t)


_ROOT = math.sqrt(2 / math.pi)


def _gelu_tanh(z: Array) -> Array:
    # Clipped, since the cube could overflow; beyond 30 the result does not change.
    near = np.clip(z, -30.0, 30.0)
    return 0.5 * z * (1.0 + np.tanh(_ROOT * (near + 0.044715 * near**3)))


def _gelu_tanh_slope(z: Array) -> Array:
    near = np.clip(z, -30.0, 30.0)
    t = np.tanh(_ROOT * (near + 0.044715 * near**3))
    inner = _ROOT * (1.0 + 3 * 0.044715 * near**2)
    return 0.5 * (1.0 + t) + 0.5 * near * (1.0 - t * t) * inner


def _sparse_plus(z: Array) -> Array:
    near = np.clip(z, -1.0, 1.0)
    return np.where(z < 1, 0.25 * np.square(near + 1.0), z)


# Activations of more than one input


def _gated(gate: str) -> _Formula:
    """The first half of the last axis, times an activation of the second."""

    def function(z: Array) -> Array:
        linear, second = np.split(z, 2, axis=-1)
        return linear * FORMULAS[gate].function(second)

    def derivative(z: Array) -> Array:
        return FORMULAS[gate].function(np.split(z, 2, axis=-1)[1])

    def pull(z: Array, gradient: Array) -> Array:
        linear, second = np.split(z, 2, axis=-1)
        formula = FORMULAS[gate]
        parts = gradient * formula.function(second), gradient * linear * formula.derivative(second)
        return np.concatenate(parts, axis=-1)

    return _Formula(function, derivative, kind="gated", pull=pull)


def _softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    return e / e.sum(axis=-1, keepdims=True)


def _softmax_pull(z: Array, gradient: Array) -> Array:
    p = _softmax(z)
    return p * (gradient - (p * gradient).sum(axis=-1, keepdims=True))


def _log_softmax(z: Array) -> Array:
    z = z - z.max(axis=-1, keepdims=True)
    return z - np.log(np.exp(z).sum(axis=-1, keepdims=True))


def _log_softmax_pull(z: Array, gradient: Array) -> Array:
    return gradient - _softmax(z) * gradient.sum(axis=-1, keepdims=True)


def _sparsemax(z: Array) -> Array:
    """The projection of `z` onto the probability simplex: what exceeds a threshold."""
    falling = -np.sort(-z, axis=-1)
    excess = (np.cumsum(falling, axis=-1) - 1.0) / np.arange(1, z.shape[-1] + 1)
    last = (falling > excess).sum(axis=-1, keepdims=True) - 1
    return np.maximum(z - np.take_along_axis(excess, last, axis=-1), 0.0)


def _sparsemax_slope(z: Array) -> Array:
    support = _sparsemax(z) > 0
    return support * (1.0 - 1.0 / support.sum(axis=-1, keepdims=True))


def _sparsemax_pull(z: Array, gradient: Array) -> Array:
    support = _sparsemax(z) > 0
    mean = (support * gradient).sum(axis=-1, keepdims=True) / support.sum(axis=-1, keepdims=True)
    return support * (gradient - mean)


# The gated activations, with the activation of the second half of their inputs.
GATES = {"geglu": "gelu", "glu": "sigmoid", "reglu": "relu", "swiglu": "silu"}
# The scale of `quick_gelu`, with which z * sigmoid(scale * z) is near GELU.
_QUICK = 1.702

# The derivative at a kink is that on its left.
FORMULAS: dict[str, _Formula] = {
    "celu": _Formula(
        lambda z, a: np.maximum(z, 0.0) + a * np.expm1(np.minimum(z, 0.0) / a),
        lambda z, a: np.exp(np.minimum(z, 0.0) / a),
        "alpha",
        1.0,
    ),
    "elu": _Formula(_elu, _elu_slope, "alpha", 1.0),
    "exponential": _Formula(np.exp, np.exp),
    "geglu": _gated(GATES["geglu"]),
    "gelu": _Formula(lambda z: z * normal_cdf(z), lambda z: normal_cdf(z) + z * _density(z)),
    "gelu_tanh": _Formula(_gelu_tanh, _gelu_tanh_slope),
    "glu": _gated(GATES["glu"]),
    "hard_shrink": _Formula(
        lambda z, a: np.where(np.abs(z) > a, z, 0.0),
        lambda z, a: np.where(np.abs(z) > a, 1.0, 0.0),
        "threshold",
        0.5,
    ),
    "hard_sigmoid": _Formula(
        lambda z: np.clip(z / 6 + 0.5, 0.0, 1.0), lambda z: np.where(np.abs(z) < 3, 1 / 6, 0.0)
    ),
    "hard_silu": _Formula(
        lambda z: z * np.clip(z / 6 + 0.5, 0.0, 1.0),
        lambda z: np.where(z > 3, 1.0, np.where(z < -3, 0.0, z / 3 + 0.5)),
    ),
    "hard_tanh": _Formula(lambda z: np.clip(z, -1.0, 1.0), lambda z: np.where(np.abs(z) < 1, 1.0, 0.0)),
    "leaky_relu": _Formula(
        lambda z, a: np.where(z > 0, z, a * z), lambda z, a: np.where(z > 0, 1.0, a), "negative_slope", 0.01
    ),
    "linear": _Formula(lambda z: z, np.ones_like),
    "log_sigmoid": _Formula(lambda z: -_softplus(-z), lambda z: _sigmoid(-z)),
    "log_softmax": _Formula(_log_softmax, lambda z: 1.0 - _softmax(z), kind="joint", pull=_log_softmax_pull),
    "mish": _Formula(lambda z: z * np.tanh(_softplus(z)), _mish_slope),
    "prelu": _Formula(
        lambda z, a: np.where(z > 0, z, a * z), lambda z, a: np.where(z > 0, 1.0, a), "negative_slope", 0.25
    ),
    "quick_gelu": _Formula(
        lambda z: z * _sigmoid(_QUICK * z),
        lambda z: _sigmoid(_QUICK * z) + np.clip(_QUICK * z, -800.0, 800.0) * _sigmoid_slope(_QUICK * z),
    ),
    "reglu": _gated(GATES["reglu"]),
    "relu": _Formula(lambda z: np.maximum(z, 0.0), lambda z: np.where(z > 0, 1.0, 0.0)),
    "relu6": _Formula(lambda z: np.clip(z, 0.0, 6.0), lambda z: np.where((z > 0) & (z <= 6), 1.0, 0.0)),
    "relu_squared": _Formula(lambda z: np.square(np.maximum(z, 0.0)), lambda z: 2.0 * np.maximum(z, 0.0)),
    "selu": _Formula(
        lambda z: SELU_SCALE * _elu(z, SELU_ALPHA), lambda z: SELU_SCALE * _elu_slope(z, SELU_ALPHA)
    ),
    "sigmoid": _Formula(_sigmoid, _sigmoid_slope),
    "silu": _Formula(
        lambda z: z * _sigmoid(z), lambda z: _sigmoid(z) + np.clip(z, -800.0, 800.0) * _sigmoid_slope(z)
    ),
    "sin": _Formula(np.sin, np.cos),
    "soft_shrink": _Formula(
        lambda z, a: np.sign(z) * np.maximum(np.abs(z) - a, 0.0),
        lambda z, a: np.where(np.abs(z) > a, 1.0, 0.0),
        "threshold",
        0.5,
    ),
    "softmax": _Formula(
        _softmax, lambda z: _softmax(z) * (1.0 - _softmax(z)), kind="joint", pull=_softmax_pull
    ),
    "softplus": _Formula(_softplus, _sigmoid),
    "softsign": _Formula(lambda z: z / (1.0 + np.abs(z)), lambda z: 1.0 / np.square(1.0 + np.abs(z))),
    "sparse_plus": _Formula(_sparse_plus, lambda z: 0.5 * (np.clip(z, -1.0, 1.0) + 1.0)),
    "sparse_sigmoid": _Formula(
        lambda z: np.clip(0.5 * z + 0.5, 0.0, 1.0), lambda z: np.where(np.abs(z) < 1, 0.5, 0.0)
    ),
    "sparsemax": _Formula(_sparsemax, _sparsemax_slope, kind="joint", pull=_sparsemax_pull),
    "squareplus": _Formula(
        # The second form is free of cancellation where z is very negative.
        lambda z, b: (
            0.5 * np.where(z > 0, z + np.hypot(z, math.sqrt(b)), b / (np.hypot(z, math.sqrt(b)) + np.abs(z)))
        ),
        lambda z, b: 0.5 * (1.0 + z / np.hypot(z, math.sqrt(b))),
        "b",
        4.0,
    ),
    "swiglu": _gated(GATES["swiglu"]),
    "tanh": _Formula(np.tanh, lambda z: 1.0 - np.square(np.tanh(z))),
    "tanh_shrink": _Formula(lambda z: z - np.tanh(z), lambda z: np.square(np.tanh(z))),
    "threshold": _Formula(
        lambda z, a: np.where(z > a, z, 0.0), lambda z, a: np.where(z > a, 1.0, 0.0), "threshold", 0.0
    ),
}


def names() -> tuple[str, ...]:
    """The names of all known activations, in alphabetical order."""
    return tuple(FORMULAS)


@functools.lru_cache(maxsize=256)
def named(name: str, param: float | None) -> Activation:
    """The activation of this name with this parameter; `None` for the default of the parameter."""
    formula = FORMULAS[name]
    bound = () if formula.parameter is None else (formula.default if param is None else param,)
    return Activation(
        name=name,
        function=lambda z: formula.function(z, *bound),
        derivative=lambda z: formula.derivative(z, *bound),
        param=param,
        kind=formula.kind,
        pull=formula.pull,
    )


# Saturation


@functools.lru_cache(maxsize=64)
def saturation(activation: Activation) -> tuple[float, float]:
    """The bounds outside which an activation is saturated: nearly flat, at a value other than f(0).

    Nearly flat is a slope below 5 % of the steepest one within [-1, 1]. Where ReLU is zero it is inactive,
    not saturated. A bound is infinite if there is no saturation on that side.
    """
    if activation.kind != "elementwise":
        return -math.inf, math.inf
    z = np.linspace(-60.0, 60.0, 12001)
    with np.errstate(all="ignore"):
        value, slope = activation(z), np.abs(activation.derivative(z))
    centre = len(z) // 2
    steep = np.flatnonzero(~(slope < 0.05 * slope[centre - 100 : centre + 101].max()))
    if not len(steep):
        return -math.inf, math.inf

    def flat(end: int) -> bool:
        halfway = centre + (end - centre) // 2
        return bool(abs(value[end] - value[halfway]) < 0.05 and abs(value[end] - value[centre]) > 0.05)

    low = float(z[steep[0]]) if flat(0) else -math.inf
    high = float(z[steep[-1]]) if flat(len(z) - 1) else math.inf
    return low, high
