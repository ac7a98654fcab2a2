"""Gains: the factors for weights with which an activation preserves the size of a signal.

All are computed: in closed form where there is one, otherwise by an adaptive quadrature, which needs no
knowledge of kinks and steps.
"""

from __future__ import annotations

import functools
import math
from typing import TYPE_CHECKING

import numpy as np

from fastinit._checks import check_choice
from fastinit._suggest import did_you_mean

from .activations import GATES, SELU_ALPHA, SELU_SCALE, Activation
from .parse import resolve
from .quadrature import normal_mean_square

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastinit._typing import Array

_DIRECTIONS = ("forward", "backward")


def gain(
    activation: object,
    param: float | None = None,
    *,
    direction: str = "forward",
    convention: str | None = None,
) -> float:
    """The factor for weights of variance 1 / fan with which an activation preserves the size of a signal.

    The forward gain is 1 / sqrt(E f(z)**2) for a standard normal z: with weights of variance gain**2 / fan_in
    all layers have pre-activations of the same mean square. The backward gain is 1 / sqrt(E f'(z)**2): with
    weights of variance gain**2 / fan_out the same is true of gradients. Both are sqrt(2) for ReLU; for most
    other activations they differ.

    PyTorch's `calculate_gain` is a table with values of other origins, which `convention="pytorch"` gives:
    5/3 for tanh is a rule of thumb (E tanh(z)**2 has no closed form; the gain is 1.5925...), 3/4 for SELU was
    chosen because training diverged with 1, the gain that SELU has by design, and 1 for the sigmoid is a
    default.

    Args:
        activation: A name in any case, such as `"gelu"`; a function or layer of Keras, PyTorch or JAX; or an
            elementwise function of float64 NumPy arrays (or, where PyTorch is loaded, of its tensors).
        param: The parameter, where the activation is given by name: the negative slope of `leaky_relu` (0.01
            if `None`) and `prelu` (0.25), the alpha of `elu` and `celu` (1), the threshold of `threshold`
            (0), `hard_shrink` and `soft_shrink` (0.5), the b of `squareplus` (4).
        direction: `"forward"` or `"backward"`.
        convention: `None`, or `"pytorch"` for the table of `torch.nn.init.calculate_gain`; it ignores
            `direction`.

    Returns:
        The gain, with a relative error below 1e-9 for smooth activations and those with kinks.

    Raises:
        ValueError: If a name, `direction` or `convention` is unknown, `param` is out of range or the
            activation has none, the activation has no gain (softmax couples the units of a layer; a function
            may be zero everywhere or have an infinite mean square, as 1 / z and exp(z**2 / 3), and the
            derivative of a step), or the function fails.
        TypeError: If an argument is of the wrong kind.

    Example:
        >>> import fastinit
        >>> round(fastinit.gain("tanh"), 6), round(fastinit.gain("tanh", direction="backward"), 6)
        (1.592537, 1.467414)
        >>> fastinit.gain("tanh", convention="pytorch")
        1.6666666666666667
        >>> round(fastinit.gain("leaky_relu", 0.2) ** 2, 6)  # 2 / (1 + 0.2**2)
        1.923077
        >>> round(fastinit.gain(lambda z: z.clip(0) ** 2), 6)
        0.816497

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
        AISTATS 2010. He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level
        performance on ImageNet classification", ICCV 2015, arXiv:1502.01852. Poole, Lahiri, Raghu,
        Sohl-Dickstein and Ganguli, "Exponential expressivity in deep neural networks through transient
        chaos", NeurIPS 2016, arXiv:1606.05340.
    """
    check_choice("direction", direction, _DIRECTIONS)
    if convention == "pytorch":
        return _pytorch_gain(activation, param)
    if convention is not None:
        raise ValueError(f"convention must be None or 'pytorch', got {convention!r}")
    found = resolve(activation, param)
    if direction == "forward":
        return root_gain(mean_square(found), f"the activation {found}")
    square = math.inf if _has_steps(found) else mean_square_slope(found)
    return root_gain(square, f"the derivative of {found}")


def _has_steps(activation: Activation) -> bool:
    """Whether E f'(z)**2 is infinite, as at a step: then the sum of squares grows as points get nearer.

    The derivatives of known activations are exact. (Those of the few with steps are those between the steps.)
    """
    if activation.known:
        return False
    squares = []
    for count in (2**14, 2**18):
        z = np.linspace(-8.0, 8.0, count) + 1e-6  # A singularity is rather at 0 than here.
        with np.errstate(all="ignore"):
            slope = np.diff(activation(z)) / np.diff(z)
        squares.append(float(np.exp(-(z[1:] ** 2) / 2) @ slope**2) / count)
    return squares[1] > 1.25 * squares[0]  # At sqrt(abs(z)) it is 1.4, at abs(z)**0.6 1.1, at a kink 1.


def root_gain(square: float, of: str = "an activation") -> float:
    """1 / sqrt(square).

    Raises:
        ValueError: If `square`, the mean square of what `of` names, is not positive and finite.
    """
    if not 0.0 < square < math.inf:
        raise ValueError(f"the mean square of {of} must be positive and finite, got {square}")
    return 1.0 / math.sqrt(square)


def _pytorch_gain(activation: object, param: float | None) -> float:
    """The table of `torch.nn.init.calculate_gain`."""
    convolutions = {f"conv{t}{n}d" for t in ("", "_transpose") for n in (1, 2, 3)}
    if isinstance(activation, str) and activation.lower() in convolutions:
        return 1.0
    found = resolve(activation, param)
    table = {
        "linear": 1.0,
        "sigmoid": 1.0,
        "tanh": 5.0 / 3.0,
        "relu": math.sqrt(2.0),
        "leaky_relu": math.sqrt(2.0 / (1.0 + (found.param or 0.0) ** 2)),
        "selu": 0.75,
    }
    if found.name not in table or not found.known:
        raise ValueError(
            f"PyTorch's table has {', '.join(table)}, not {found.name!r}{did_you_mean(found.name, table)}"
        )
    return table[found.name]


# Mean squares


def _half_of_elu(alpha: float) -> float:
    """The part of E f(z)**2 that the negative half line contributes to ELU."""
    return alpha**2 * (math.e**2 * _below(-2.0) - 2.0 * math.exp(0.5) * _below(-1.0) + 0.5)


def _half_of_elu_slope(alpha: float) -> float:
    """The part of E f'(z)**2 that the negative half line contributes to ELU."""
    return alpha**2 * math.e**2 * _below(-2.0)


def _below(x: float) -> float:
    """The probability that a standard normal lies below `x`."""
    return 0.5 * math.erfc(-x / math.sqrt(2))


_SQUARES: dict[str, Callable[[float], float]] = {
    "elu": lambda a: 0.5 + _half_of_elu(a),
    "exponential": lambda _: math.e**2,
    "gelu": lambda _: 1 / 3 + 1 / (2 * math.sqrt(3) * math.pi),
    "leaky_relu": lambda a: 0.5 * (1.0 + a * a),
    "linear": lambda _: 1.0,
    "prelu": lambda a: 0.5 * (1.0 + a * a),
    "relu": lambda _: 0.5,
    "relu_squared": lambda _: 1.5,
    "selu": lambda _: SELU_SCALE**2 * (0.5 + _half_of_elu(SELU_ALPHA)),
    "sin": lambda _: -0.5 * math.expm1(-2.0),
}
_SLOPE_SQUARES: dict[str, Callable[[float], float]] = {
    **{name: _SQUARES[name] for name in ("exponential", "leaky_relu", "linear", "prelu", "relu")},
    "elu": lambda a: 0.5 + _half_of_elu_slope(a),
    "relu_squared": lambda _: 2.0,
    "selu": lambda _: SELU_SCALE**2 * (0.5 + _half_of_elu_slope(SELU_ALPHA)),
    "sin": lambda _: 0.5 * (1.0 + math.exp(-2.0)),
}


def mean_square(activation: Activation) -> float:
    """E f(z)**2 for a standard normal z; of a gated activation, for two independent ones."""
    if activation.known and activation.name in _SQUARES:
        return _SQUARES[activation.name](activation.param or 0.0)
    return moments(activation, 1.0)[0]


def mean_square_slope(activation: Activation) -> float:
    """E f'(z)**2 for a standard normal z; of a gated activation, the sum over both inputs."""
    if activation.known and activation.name in _SLOPE_SQUARES:
        return _SLOPE_SQUARES[activation.name](activation.param or 0.0)
    return moments(activation, 1.0)[2]


@functools.lru_cache(maxsize=1024)
def moments(activation: Activation, variance: float) -> tuple[float, float, float]:
    """Second moments of an activation whose inputs are normal with mean 0 and this variance.

    Returns:
        The mean square of the outputs; its derivative with respect to the variance; and the mean square of
        the derivative of the activation.

    Raises:
        ValueError: If the activation couples the units of a layer.
    """
    if activation.kind == "joint":
        raise ValueError(
            f"{activation} couples the units of a layer and has no gain; use 'linear' for an output layer"
        )
    root = math.sqrt(variance)
    if activation.kind == "gated":
        gate = resolve(GATES[activation.name])
        square, change, slope = moments(gate, variance)
        return variance * square, square + variance * change, square + variance * slope

    def values(z: Array) -> Array:
        return activation(root * z)

    square = normal_mean_square(values)
    # Integrated by parts, so that steps, which have no derivative, are counted.
    change = (normal_mean_square(values, power=2) - square) / (2 * variance)
    return square, change, normal_mean_square(lambda z: activation.derivative(root * z))
