"""Activations, as NumPy functions of float64 with exact derivatives.

All that Keras 3 knows, under its names and PyTorch's. `resolve` finds the one that a name or an object of a
framework stands for; of any other function the derivative is taken numerically. No framework is loaded: their
objects are recognized by where they come from.
"""

from __future__ import annotations

import difflib
import functools
import math
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastinit._typing import Array

    Function = Callable[[Array], Array]

Kind = Literal["elementwise", "gated", "joint"]

SELU_SCALE = 1.0507009873554804934193349852946
SELU_ALPHA = 1.6732632423543772848170429916717


class _Formula(NamedTuple):
    """An activation and its derivative, of the input and of its parameter."""

    function: Callable[[Array, float], Array]
    derivative: Callable[[Array, float], Array]
    parameter: str | None = None
    default: float = 0.0
    kind: Kind = "elementwise"
    pull: Callable[[Array, Array], Array] | None = None


@dataclass(frozen=True)
class Activation:
    """An activation, with its parameter bound.

    Attributes:
        name: Its name in Keras; of a function that nobody knows, the name of the function.
        function: The activation, of a float64 array.
        derivative: Its derivative; where it acts on a whole layer at once, the derivative of each output with
            respect to the input beside it.
        param: Its parameter, `None` if it has none.
        kind: `"elementwise"`; `"gated"` where two inputs make an output (GLU, whose last axis is halved);
            `"joint"` where all units of a layer make each output (softmax and its kin, along the last axis).
        known: Whether the name is one of `names()`.
        pull: What the chain rule needs where the activation is not element by element, of the input and the
            gradient with respect to the output.
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
        """The gradient with respect to the inputs `z`, from that with respect to the outputs."""
        if self.pull is not None:
            return self.pull(z, gradient)
        return self.derivative(z) * gradient


# The error function, which NumPy does not have


@functools.cache
def _normal_table() -> tuple[Array, Array]:
    """Points of the negative half line, and the probability that a standard normal lies below them."""
    points = np.arange(-39 * 64, 1) / 64
    return points, np.array([0.5 * math.erfc(-x / math.sqrt(2)) for x in points])


def _density(z: Array) -> Array:
    density: Array = np.exp(-0.5 * np.square(z)) / math.sqrt(2 * math.pi)
    return density


def normal_cdf(z: Array) -> Array:
    """The probability that a standard normal lies below `z`: by Taylor's series about the nearest of a table.

    Its relative error is below 1e-14 down to z = -10.
    """
    points, table = _normal_table()
    near = np.clip(-np.abs(z), points[0], 0.0)
    index = np.rint((near - points[0]) * 64).astype(np.intp)
    x, step = points[index], near - points[index]
    # The derivatives of the density are it times Hermite's polynomials, which follow from each other.
    last, term, power, total = np.zeros_like(x), np.ones_like(x), step, step
    for order in range(1, 8):
        last, term = term, -x * term - (order - 1) * last
        power = power * step / (order + 1)
        total = total + power * term
    below = table[index] + _density(x) * total
    result: Array = np.where(z > 0, 1.0 - below, below)
    return result


# Shared pieces


def _sigmoid(z: Array) -> Array:
    small = np.exp(-np.abs(z))
    result: Array = np.where(z >= 0, 1.0, small) / (1.0 + small)
    return result


def _sigmoid_slope(z: Array) -> Array:
    small = np.exp(-np.abs(z))
    result: Array = small / np.square(1.0 + small)
    return result


def _softplus(z: Array) -> Array:
    result: Array = np.maximum(z, 0.0) + np.log1p(np.exp(-np.abs(z)))
    return result


def _elu(z: Array, alpha: float) -> Array:
    return np.where(z > 0, z, alpha * np.expm1(np.minimum(z, 0.0)))


def _elu_slope(z: Array, alpha: float) -> Array:
    return np.where(z > 0, 1.0, alpha * np.exp(np.minimum(z, 0.0)))


def _mish_slope(z: Array) -> Array:
    t = np.tanh(_softplus(z))
    # Where z * sigmoid(z) is very large, the other factor is 0.
    slope: Array = t + np.clip(z, -700.0, 700.0) * _sigmoid(z) * (1.0 - t * t)
    return slope


_ROOT = math.sqrt(2 / math.pi)


def _gelu_tanh(z: Array) -> Array:
    # Beyond 30 nothing changes, and the cube could overflow.
    near = np.clip(z, -30.0, 30.0)
    result: Array = 0.5 * z * (1.0 + np.tanh(_ROOT * (near + 0.044715 * near**3)))
    return result


def _gelu_tanh_slope(z: Array) -> Array:
    near = np.clip(z, -30.0, 30.0)
    t = np.tanh(_ROOT * (near + 0.044715 * near**3))
    inner = _ROOT * (1.0 + 3 * 0.044715 * near**2)
    slope: Array = 0.5 * (1.0 + t) + 0.5 * near * (1.0 - t * t) * inner
    return slope


def _sparse_plus(z: Array) -> Array:
    near = np.clip(z, -1.0, 1.0)
    return np.where(z < 1, 0.25 * np.square(near + 1.0), z)


# Those that act on more than one input


def _glu(z: Array) -> Array:
    linear, gate = np.split(z, 2, axis=-1)
    result: Array = linear * _sigmoid(gate)
    return result


def _glu_slope(z: Array) -> Array:
    return _sigmoid(np.split(z, 2, axis=-1)[1])


def _glu_pull(z: Array, gradient: Array) -> Array:
    linear, gate = np.split(z, 2, axis=-1)
    return np.concatenate([gradient * _sigmoid(gate), gradient * linear * _sigmoid_slope(gate)], axis=-1)


def _softmax(z: Array) -> Array:
    e = np.exp(z - z.max(axis=-1, keepdims=True))
    result: Array = e / e.sum(axis=-1, keepdims=True)
    return result


def _softmax_pull(z: Array, gradient: Array) -> Array:
    p = _softmax(z)
    result: Array = p * (gradient - (p * gradient).sum(axis=-1, keepdims=True))
    return result


def _log_softmax(z: Array) -> Array:
    z = z - z.max(axis=-1, keepdims=True)
    result: Array = z - np.log(np.exp(z).sum(axis=-1, keepdims=True))
    return result


def _log_softmax_pull(z: Array, gradient: Array) -> Array:
    result: Array = gradient - _softmax(z) * gradient.sum(axis=-1, keepdims=True)
    return result


def _sparsemax(z: Array) -> Array:
    """The nearest point to `z` among the probabilities: what remains above a threshold."""
    falling = -np.sort(-z, axis=-1)
    excess = (np.cumsum(falling, axis=-1) - 1.0) / np.arange(1, z.shape[-1] + 1)
    last = (falling > excess).sum(axis=-1, keepdims=True) - 1
    result: Array = np.maximum(z - np.take_along_axis(excess, last, axis=-1), 0.0)
    return result


def _sparsemax_slope(z: Array) -> Array:
    support = _sparsemax(z) > 0
    result: Array = support * (1.0 - 1.0 / support.sum(axis=-1, keepdims=True))
    return result


def _sparsemax_pull(z: Array, gradient: Array) -> Array:
    support = _sparsemax(z) > 0
    mean = (support * gradient).sum(axis=-1, keepdims=True) / support.sum(axis=-1, keepdims=True)
    result: Array = support * (gradient - mean)
    return result


# Derivatives at a kink are those on its left.
_FORMULAS: dict[str, _Formula] = {
    "celu": _Formula(
        lambda z, a: np.maximum(z, 0.0) + a * np.expm1(np.minimum(z, 0.0) / a),
        lambda z, a: np.exp(np.minimum(z, 0.0) / a),
        "alpha",
        1.0,
    ),
    "elu": _Formula(_elu, _elu_slope, "alpha", 1.0),
    "exponential": _Formula(lambda z, _: np.exp(z), lambda z, _: np.exp(z)),
    "gelu": _Formula(lambda z, _: z * normal_cdf(z), lambda z, _: normal_cdf(z) + z * _density(z)),
    "gelu_tanh": _Formula(lambda z, _: _gelu_tanh(z), lambda z, _: _gelu_tanh_slope(z)),
    "glu": _Formula(lambda z, _: _glu(z), lambda z, _: _glu_slope(z), kind="gated", pull=_glu_pull),
    "hard_shrink": _Formula(
        lambda z, a: np.where(np.abs(z) > a, z, 0.0),
        lambda z, a: np.where(np.abs(z) > a, 1.0, 0.0),
        "threshold",
        0.5,
    ),
    "hard_sigmoid": _Formula(
        lambda z, _: np.clip(z / 6 + 0.5, 0.0, 1.0), lambda z, _: np.where(np.abs(z) < 3, 1 / 6, 0.0)
    ),
    "hard_silu": _Formula(
        lambda z, _: z * np.clip(z / 6 + 0.5, 0.0, 1.0),
        lambda z, _: np.where(z > 3, 1.0, np.where(z < -3, 0.0, z / 3 + 0.5)),
    ),
    "hard_tanh": _Formula(lambda z, _: np.clip(z, -1.0, 1.0), lambda z, _: np.where(np.abs(z) < 1, 1.0, 0.0)),
    "leaky_relu": _Formula(
        lambda z, a: np.where(z > 0, z, a * z), lambda z, a: np.where(z > 0, 1.0, a), "negative_slope", 0.01
    ),
    "linear": _Formula(lambda z, _: z, lambda z, _: np.ones_like(z)),
    "log_sigmoid": _Formula(lambda z, _: -_softplus(-z), lambda z, _: _sigmoid(-z)),
    "log_softmax": _Formula(
        lambda z, _: _log_softmax(z), lambda z, _: 1.0 - _softmax(z), kind="joint", pull=_log_softmax_pull
    ),
    "mish": _Formula(lambda z, _: z * np.tanh(_softplus(z)), lambda z, _: _mish_slope(z)),
    "prelu": _Formula(
        lambda z, a: np.where(z > 0, z, a * z), lambda z, a: np.where(z > 0, 1.0, a), "negative_slope", 0.25
    ),
    "relu": _Formula(lambda z, _: np.maximum(z, 0.0), lambda z, _: np.where(z > 0, 1.0, 0.0)),
    "relu6": _Formula(lambda z, _: np.clip(z, 0.0, 6.0), lambda z, _: np.where((z > 0) & (z <= 6), 1.0, 0.0)),
    "selu": _Formula(
        lambda z, _: SELU_SCALE * _elu(z, SELU_ALPHA), lambda z, _: SELU_SCALE * _elu_slope(z, SELU_ALPHA)
    ),
    "sigmoid": _Formula(lambda z, _: _sigmoid(z), lambda z, _: _sigmoid_slope(z)),
    "silu": _Formula(
        lambda z, _: z * _sigmoid(z),
        lambda z, _: _sigmoid(z) + np.clip(z, -800.0, 800.0) * _sigmoid_slope(z),
    ),
    "soft_shrink": _Formula(
        lambda z, a: np.sign(z) * np.maximum(np.abs(z) - a, 0.0),
        lambda z, a: np.where(np.abs(z) > a, 1.0, 0.0),
        "threshold",
        0.5,
    ),
    "softmax": _Formula(
        lambda z, _: _softmax(z),
        lambda z, _: _softmax(z) * (1.0 - _softmax(z)),
        kind="joint",
        pull=_softmax_pull,
    ),
    "softplus": _Formula(lambda z, _: _softplus(z), lambda z, _: _sigmoid(z)),
    "softsign": _Formula(lambda z, _: z / (1.0 + np.abs(z)), lambda z, _: 1.0 / np.square(1.0 + np.abs(z))),
    "sparse_plus": _Formula(lambda z, _: _sparse_plus(z), lambda z, _: 0.5 * (np.clip(z, -1.0, 1.0) + 1.0)),
    "sparse_sigmoid": _Formula(
        lambda z, _: np.clip(0.5 * z + 0.5, 0.0, 1.0), lambda z, _: np.where(np.abs(z) < 1, 0.5, 0.0)
    ),
    "sparsemax": _Formula(
        lambda z, _: _sparsemax(z), lambda z, _: _sparsemax_slope(z), kind="joint", pull=_sparsemax_pull
    ),
    "squareplus": _Formula(
        # The second form loses nothing where z is very negative.
        lambda z, b: (
            0.5 * np.where(z > 0, z + np.hypot(z, math.sqrt(b)), b / (np.hypot(z, math.sqrt(b)) + np.abs(z)))
        ),
        lambda z, b: 0.5 * (1.0 + z / np.hypot(z, math.sqrt(b))),
        "b",
        4.0,
    ),
    "tanh": _Formula(lambda z, _: np.tanh(z), lambda z, _: 1.0 - np.square(np.tanh(z))),
    "tanh_shrink": _Formula(lambda z, _: z - np.tanh(z), lambda z, _: np.square(np.tanh(z))),
    "threshold": _Formula(
        lambda z, a: np.where(z > a, z, 0.0), lambda z, a: np.where(z > a, 1.0, 0.0), "threshold", 0.0
    ),
}

_ALIASES = {
    "exp": "exponential",
    "gelu_approximate": "gelu_tanh",
    "hard_swish": "hard_silu",
    "identity": "linear",
    "none": "linear",
    "leaky_rectify": "leaky_relu",
    "swish": "silu",
}


def names() -> tuple[str, ...]:
    """All activations that have a name of their own, in the order of the alphabet."""
    return tuple(_FORMULAS)


def _plain(name: str) -> str:
    """A name without what differs between frameworks: case, and what stands between words."""
    return "".join(c for c in name.lower() if c.isalnum())


_BY_PLAIN_NAME = {_plain(name): name for name in _FORMULAS} | {
    _plain(alias): name for alias, name in _ALIASES.items()
}


def resolve(activation: object, param: float | None = None) -> Activation:
    """The activation that a name or an object stands for.

    Args:
        activation: A name in any case, such as `"relu"`, `"LeakyReLU"`, `"hard_swish"`; a function of
            `keras.activations`, `torch` or `jax.nn`; a layer or a module, such as `torch.nn.GELU("tanh")`;
            `None`, which is `"linear"`; or a function that works element by element on arrays of NumPy or,
            where that framework is loaded, on its tensors.
        param: The parameter of a named one: the negative slope of `leaky_relu` (0.01 if `None`) and `prelu`
            (0.25), the alpha of `elu` and `celu` (1), the threshold of `threshold` (0), `hard_shrink` and
            `soft_shrink` (0.5), the b of `squareplus` (4).

    Raises:
        ValueError: If a name is unknown, or `param` is out of range or given to one that has none.
        TypeError: If an argument is of the wrong kind.
    """
    if isinstance(activation, Activation):
        found: Activation | None = activation
    elif activation is None:
        found = _named("linear", None)
    elif isinstance(activation, str):
        name = _BY_PLAIN_NAME.get(_plain(activation))
        if name is None:
            raise ValueError(f"unknown activation {activation!r}; {_suggestion(activation)}")
        return _named(name, _parameter(name, param))
    else:
        found = _of_framework(activation)
        if found is None and callable(activation):
            found = _of_function(activation)
    if found is None:
        raise TypeError(
            f"an activation must be a name, a layer or a function of arrays; got {activation!r:.200}"
        )
    if param is not None:
        raise ValueError(
            f"param, {param!r}, goes with the name of an activation; {found} has its parameters already"
        )
    return found


def _suggestion(name: str) -> str:
    near = difflib.get_close_matches(_plain(name), _BY_PLAIN_NAME, n=3)
    if near:
        return f"did you mean {', '.join(dict.fromkeys(repr(_BY_PLAIN_NAME[x]) for x in near))}?"
    return f"it must be one of {', '.join(_FORMULAS)}, or a function"


def _parameter(name: str, param: float | None) -> float | None:
    """The parameter, if it is one that such an activation may have."""
    kind = _FORMULAS[name].parameter
    if kind is None:
        if param is not None:
            raise ValueError(f"{name} takes no param; got {param!r}")
        return None
    if param is None:
        return _FORMULAS[name].default
    if isinstance(param, bool) or not isinstance(param, (int, float, np.floating, np.integer)):
        raise TypeError(f"param, the {kind} of {name}, must be a number; got {param!r}")
    param = float(param)
    if not math.isfinite(param):
        raise ValueError(f"param, the {kind} of {name}, must be finite; got {param!r}")
    if (name in ("celu", "squareplus") and param <= 0) or (name.endswith("_shrink") and param < 0):
        least = "at least 0" if name.endswith("_shrink") else "positive"
        raise ValueError(f"param, the {kind} of {name}, must be {least}; got {param!r}")
    return param


@functools.lru_cache(maxsize=256)
def _named(name: str, param: float | None) -> Activation:
    formula = _FORMULAS[name]
    bound = formula.default if param is None else param
    return Activation(
        name=name,
        function=lambda z: formula.function(z, bound),
        derivative=lambda z: formula.derivative(z, bound),
        param=param,
        kind=formula.kind,
        pull=formula.pull,
    )


# Objects of frameworks

# The attribute that holds the parameter, of layers of PyTorch and of Keras.
_PARAMETERS = {
    "celu": ("alpha",),
    "elu": ("alpha",),
    "hard_shrink": ("lambd",),
    "leaky_relu": ("negative_slope",),
    "soft_shrink": ("lambd",),
    "threshold": ("threshold",),
}
# What else they may have, and the values with which they are what their name says.
_USUAL = {
    "beta": 1,
    "dim": -1,
    "axis": -1,
    "max_val": 1.0,
    "max_value": None,
    "min_val": -1.0,
    "value": 0,
}


def _of_framework(thing: Any) -> Activation | None:
    """The activation that a function or a layer of a framework is, if it is one that has a name here."""
    if isinstance(thing, type):
        return _of_class(thing)
    kind = type(thing)
    layer = hasattr(thing, "training") or hasattr(thing, "trainable_weights")
    source = str(getattr(kind if layer else thing, "__module__", None) or "").split(".")[0]
    # Methods of C have no module; those of torch are of a type of their own.
    if source not in ("torch", "keras", "jax") and not kind.__module__.startswith(("torch", "jaxlib", "jax")):
        return None
    title = kind.__name__ if layer else str(getattr(thing, "__name__", ""))
    if layer and source == "keras" and title == "Activation":
        return resolve(thing.activation)
    name = _BY_PLAIN_NAME.get(_plain(title))
    if name is None:
        return None
    if not layer:
        return _named(name, _default_of(source, name)) if name not in ("gelu", "threshold") else _gelu(thing)
    if name == "gelu":
        return _named("gelu_tanh" if thing.approximate == "tanh" else "gelu", None)
    if name == "prelu":
        return _named(name, _mean_slope(thing))
    if source == "keras" and name == "relu":
        slope, limit = float(thing.negative_slope), thing.max_value
        if float(thing.threshold) != 0.0 or limit not in (None, 6.0) or (limit and slope):
            return None
        return (
            _named("relu6", None) if limit else _named("leaky_relu", slope) if slope else _named(name, None)
        )
    for attribute, usual in _USUAL.items():
        if attribute not in _PARAMETERS.get(name, ()) and getattr(thing, attribute, usual) not in (
            usual,
            None,
        ):
            return None
    for attribute in _PARAMETERS.get(name, ()):
        return _named(name, float(getattr(thing, attribute)))
    return _named(name, _parameter(name, None))


def _of_class(cls: Any) -> Activation | None:
    """The activation that the layers of a class are, as they are by default."""
    if cls.__module__.split(".")[0] not in ("torch", "keras") or _plain(cls.__name__) not in _BY_PLAIN_NAME:
        return None
    try:
        return _of_framework(cls())
    except TypeError:  # It needs arguments.
        return None


def _gelu(function: Any) -> Activation | None:
    """GELU as a function: the default of JAX is the approximate one."""
    if function.__name__ == "threshold":  # A function of its threshold, too.
        return None
    in_jax = str(getattr(function, "__module__", "")).startswith("jax")
    return _named("gelu_tanh" if in_jax else "gelu", None)


def _default_of(source: str, name: str) -> float | None:
    """The parameter that a function of a framework has if it is given none."""
    return 0.2 if (source, name) == ("keras", "leaky_relu") else _parameter(name, None)


def _mean_slope(layer: Any) -> float:
    """The slope of a parametric ReLU: what its weights are, on the average of their squares."""
    weights = getattr(layer, "weight", None)
    if weights is None:
        weights = getattr(layer, "alpha", None)
    if weights is None:  # Not built: Keras begins with zeros, unless told otherwise.
        return 0.0
    values = np.asarray(weights.detach() if hasattr(weights, "detach") else weights, dtype=np.float64)
    return float(np.sqrt(np.mean(np.square(values))))


# Any other function


def _of_function(function: Callable[[Any], Any]) -> Activation:
    """A function that works element by element, with a numerical derivative."""
    name = getattr(function, "__name__", type(function).__name__)
    call = _caller(function, name)
    single = call(np.zeros(1)).dtype != np.float64

    def values(z: Array) -> Array:
        result: Array = call(z).astype(np.float64)
        return result

    def derivative(z: Array) -> Array:
        # Central differences of the fourth order. The step balances their error and that of rounding.
        h = (3e-2 if single else 1e-3) * np.maximum(1.0, np.abs(z))
        near = values(z + h) - values(z - h)
        far = values(z + 2 * h) - values(z - 2 * h)
        slope: Array = (8 * near - far) / (12 * h)
        return slope

    return Activation(name, values, derivative, known=False)


def _caller(function: Callable[[Any], Any], name: str) -> Callable[[Array], Array]:
    """The function as one of arrays, with what comes out checked."""
    sample = np.linspace(-2.0, 2.0, 6).reshape(2, 3)
    problem: Exception | None = None
    for convert in _conversions(function):

        def call(z: Array, convert: Callable[[Array], Any] = convert) -> Array:
            result = function(convert(z))
            if hasattr(result, "detach"):
                result = result.detach().cpu()
            return np.asarray(result)

        try:
            result = call(sample)
        except Exception as error:  # The function is the user's: anything may come.
            problem = error
            continue
        if result.shape != sample.shape or result.dtype.kind not in "fiub":
            raise ValueError(
                f"the activation {name} must return a real array of the shape that it is given, "
                f"{sample.shape}; got {result.dtype} of shape {result.shape}"
            )
        return call
    raise ValueError(f"the activation {name} does not work on an array: {problem}") from problem


def _conversions(function: object) -> list[Callable[[Array], Any]]:
    """What the argument may have to be: an array or, where PyTorch is loaded, a tensor."""
    torch = sys.modules.get("torch")
    plain: list[Callable[[Array], Any]] = [lambda z: z]
    if torch is None or isinstance(function, np.ufunc):
        return plain
    from_numpy = torch.from_numpy

    def tensor(z: Array) -> Any:
        return from_numpy(np.ascontiguousarray(z))

    # Modules would take arrays for granted, and fail within.
    return [tensor, *plain] if isinstance(function, torch.nn.Module) else [*plain, tensor]


# Where an activation does nothing more


@functools.lru_cache(maxsize=64)
def saturation(activation: Activation) -> tuple[float, float]:
    """The bounds outside of which an activation is saturated: all but flat, at a value that is not f(0).

    All but flat is a slope below 5 % of the steepest within [-1, 1]. The side on which ReLU is zero is not
    saturated, but inactive. Infinite where there is no such side.
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
