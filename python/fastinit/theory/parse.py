"""Activations from names, objects of frameworks, and functions.

No framework is imported: their objects are recognized by the names of their modules and classes. An unknown
function gets a numerical derivative.
"""

from __future__ import annotations

import contextlib
import copy
import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from fastinit._checks import check_number
from fastinit._suggest import did_you_mean

from .activations import FORMULAS, Activation, named

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastinit._typing import Array

_ALIASES = {
    "accurate_gelu": "gelu_tanh",
    "exp": "exponential",
    "fast_gelu": "gelu_tanh",
    "gated_gelu": "geglu",
    "gated_silu": "swiglu",
    "gelu_accurate": "gelu_tanh",
    "gelu_approximate": "gelu_tanh",
    "gelu_fast": "gelu_tanh",
    "gelu_new": "gelu_tanh",
    "gelu_python": "gelu",
    "gelu_python_tanh": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "gelu_quick": "quick_gelu",
    "hard_swish": "hard_silu",
    "identity": "linear",
    "leaky_rectify": "leaky_relu",
    "new_gelu": "gelu_tanh",
    "none": "linear",
    "relu2": "relu_squared",
    "sine": "sin",
    "squared_relu": "relu_squared",
    "swish": "silu",
}


def _plain(name: str) -> str:
    """A name in lower case, without the characters between words."""
    return "".join(c for c in name.lower() if c.isalnum())


_BY_PLAIN_NAME = {_plain(name): name for name in FORMULAS} | {
    _plain(alias): name for alias, name in _ALIASES.items()
}


def is_activation(name: str) -> bool:
    """Whether an activation has this name."""
    return _plain(name) in _BY_PLAIN_NAME


def resolve(activation: object, param: float | None = None) -> Activation:
    """The activation for a name or an object.

    Args:
        activation: A name in any case, such as `"relu"`, `"LeakyReLU"`, `"hard_swish"`; a function of
            `keras.activations`, `torch` or `jax.nn`; a layer or a module, such as `torch.nn.GELU("tanh")`;
            `None`, which is `"linear"`; or an elementwise function of NumPy arrays or, where PyTorch is
            loaded, of its tensors.
        param: The parameter, where the activation is given by name; see `gain`.

    Raises:
        ValueError: If a name is unknown, or `param` is out of range or the activation has none.
        TypeError: If an argument is of the wrong kind.

    Example:
        >>> from fastinit.theory.parse import resolve
        >>> str(resolve("LeakyReLU", 0.2)), resolve("hard_swish").name
        ('leaky_relu(0.2)', 'hard_silu')
    """
    if isinstance(activation, Activation):
        found: Activation | None = activation
    elif activation is None:
        found = named("linear", None)
    elif isinstance(activation, str):
        name = _BY_PLAIN_NAME.get(_plain(activation))
        if name is None:
            hint = did_you_mean(activation, FORMULAS, _ALIASES)
            raise ValueError(
                f"unknown activation {activation!r:.80}"
                + (hint or f"; it must be one of {', '.join(FORMULAS)}, or a function")
            )
        return named(name, _parameter(name, param))
    else:
        found = _of_framework(activation)
        if found is None and callable(activation):
            found = _of_function(activation)
    if found is None:
        shown = repr(activation)
        if len(shown) > 80 or "\n" in shown:  # such as that of an array
            shown = f"an object of type {type(activation).__name__}"
        raise TypeError(f"an activation must be a name, a layer or a function of arrays, got {shown}")
    if param is not None:
        raise ValueError(
            f"param is for activations given by name, got {param!r}; {found} has its parameters already"
        )
    return found


def _parameter(name: str, param: float | None) -> float | None:
    """The parameter of an activation, checked; its default if it is `None`."""
    kind = FORMULAS[name].parameter
    if kind is None:
        if param is not None:
            raise ValueError(f"{name} takes no param, got {param!r}")
        return None
    if param is None:
        return FORMULAS[name].default
    param = check_number(f"param, the {kind} of {name},", param)
    if (name in ("celu", "squareplus") and param <= 0) or (name.endswith("_shrink") and param < 0):
        least = "at least 0" if name.endswith("_shrink") else "positive"
        raise ValueError(f"param, the {kind} of {name}, must be {least}, got {param!r}")
    return param


# Objects of frameworks

# The attribute that holds the parameter, of layers of PyTorch and of Keras.
_PARAMETERS = {
    "celu": "alpha",
    "elu": "alpha",
    "hard_shrink": "lambd",
    "leaky_relu": "negative_slope",
    "soft_shrink": "lambd",
    "threshold": "threshold",
}
# Other attributes of layers, and the values with which a layer is the activation of its name (`None`, too).
_USUAL: dict[str, tuple[float, ...]] = {
    "axis": (-1,),
    "beta": (1,),
    "dim": (-1, 1),  # The second of two is the last.
    "max_val": (1.0,),
    "max_value": (),
    "min_val": (-1.0,),
    "threshold": (20.0,),
    "value": (0,),
}


def _of_framework(thing: Any) -> Activation | None:
    """The known activation that a function or a layer of a framework is, if any."""
    if isinstance(thing, type):
        return _of_class(thing)
    kind = type(thing)
    layer = hasattr(thing, "training") or hasattr(thing, "trainable_weights")
    source = str(getattr(kind if layer else thing, "__module__", None) or "").split(".")[0]
    # Built-in functions have no module, but those of torch and JAX have types of their own.
    if source not in ("torch", "keras", "jax", "transformers") and not kind.__module__.startswith(
        ("torch", "jaxlib", "jax")
    ):
        return None
    title = kind.__name__ if layer else str(getattr(thing, "__name__", ""))
    if layer and source == "keras" and title == "Activation":
        return resolve(thing.activation)
    plain = _plain(title)
    if source == "transformers":  # Such as QuickGELUActivation.
        plain = plain.removesuffix("activation")
    name = _BY_PLAIN_NAME.get(plain)
    if name is None or (title.lower() == "linear" and source == "torch"):  # PyTorch's has weights.
        return None
    if not layer:
        if name == "threshold":  # The function needs its threshold as an argument.
            return None
        if name == "gelu" and source == "jax":  # JAX's default is the approximation.
            name = "gelu_tanh"
        return named(name, 0.2 if (source, name) == ("keras", "leaky_relu") else _parameter(name, None))
    if name == "gelu":
        return named("gelu_tanh" if getattr(thing, "approximate", "none") == "tanh" else "gelu", None)
    if name == "prelu":
        return named(name, _mean_slope(thing))
    if source == "keras" and name == "relu":
        slope, limit = float(thing.negative_slope), thing.max_value
        if float(thing.threshold) != 0.0 or limit not in (None, 6.0) or (limit and slope):
            return None
        return named("relu6", None) if limit else named("leaky_relu", slope) if slope else named(name, None)
    own = _PARAMETERS.get(name)
    if name != "relu6":  # PyTorch's is a clip to [0, 6], with attributes of its own.
        for attribute, usual in _USUAL.items():
            if attribute != own and getattr(thing, attribute, None) not in (*usual, None):
                return None
    return named(name, _parameter(name, None) if own is None else float(getattr(thing, own)))


def _of_class(cls: Any) -> Activation | None:
    """The activation of a layer of this class with its default arguments."""
    if cls.__module__.split(".")[0] not in ("torch", "keras") or _plain(cls.__name__) not in _BY_PLAIN_NAME:
        return None
    try:
        return _of_framework(cls())
    except TypeError:  # It needs arguments.
        return None


def _mean_slope(layer: Any) -> float:
    """The slope of a parametric ReLU: the root mean square of its weights."""
    weights = getattr(layer, "weight", None)
    if weights is None:
        weights = getattr(layer, "alpha", None)
    if weights is None:  # A layer of Keras that has not been built.
        weights = layer.alpha_initializer((64,))
    # Variables of Keras with the backend numpy are converted without a dtype only.
    values = np.asarray(weights.detach().cpu() if hasattr(weights, "detach") else weights).astype(np.float64)
    return float(np.sqrt(np.mean(np.square(values))))


# Any other function


def _of_function(function: Callable[[Any], Any]) -> Activation:
    """An elementwise function, with a numerical derivative."""
    name = getattr(function, "__name__", type(function).__name__)
    if hasattr(function, "training") or hasattr(function, "trainable_weights"):
        # A call may build a layer, or change its moving statistics.
        with contextlib.suppress(Exception):  # What it consists of is the user's and may raise anything.
            function = copy.deepcopy(function)
    call = _caller(function, name)
    single = call(np.ones(1)).dtype != np.float64

    def values(z: Array) -> Array:
        return call(z).astype(np.float64)

    def derivative(z: Array) -> Array:
        # Central differences of fourth order; the step balances truncation and rounding errors.
        h = (3e-2 if single else 1e-3) * np.maximum(1.0, np.abs(z))
        near = values(z + h) - values(z - h)
        far = values(z + 2 * h) - values(z - 2 * h)
        return (8 * near - far) / (12 * h)

    return Activation(name, values, derivative, known=False)


def _caller(function: Callable[[Any], Any], name: str) -> Callable[[Array], Array]:
    """The function as a function of arrays, after a check that it is elementwise."""
    sample = np.linspace(-2.0, 2.0, 6).reshape(2, 3)
    part = sample.ravel()[1:]
    problems: dict[str, None] = {}
    for convert in _conversions(function):

        def call(z: Array, convert: Callable[[Array], Any] = convert) -> Array:
            with np.errstate(all="ignore"):
                result = function(convert(z.copy()))  # The function may work in place.
            if hasattr(result, "detach"):
                result = result.detach().cpu()
            return np.asarray(result)

        try:
            result, alone = call(sample), call(part)
        except Exception as error:  # The function is the user's and may raise anything.
            problems[(str(error).strip().splitlines() or [type(error).__name__])[0]] = None
            continue
        for given, made in ((sample, result), (part, alone)):
            if made.shape != given.shape or made.dtype.kind not in "fiub":
                raise ValueError(
                    f"the activation {name} must return a real array of the shape of its input, "
                    f"{given.shape}, got {made.dtype} of shape {made.shape}"
                )
        together = result.ravel()[1:]
        other = np.flatnonzero(~np.isclose(together, alone, rtol=1e-2, atol=1e-3, equal_nan=True))
        if len(other):
            at = other[0]
            raise ValueError(
                f"the activation {name} must be elementwise and deterministic; at {part[at]:.1f} it gave "
                f"{together[at]:.4g}, and {alone[at]:.4g} among other inputs"
            )
        return call
    raise ValueError(f"the activation {name} does not work on an array: {'; '.join(problems)}")


def _conversions(function: object) -> list[Callable[[Array], Any]]:
    """Conversions of the argument to try: an array and, where PyTorch is loaded, a tensor."""
    torch = sys.modules.get("torch")
    plain: list[Callable[[Array], Any]] = [lambda z: z]
    if torch is None or isinstance(function, np.ufunc):
        return plain
    # A module given an array would fail somewhere inside.
    is_module = isinstance(function, torch.nn.Module)
    return [torch.from_numpy, *plain] if is_module else [*plain, torch.from_numpy]
