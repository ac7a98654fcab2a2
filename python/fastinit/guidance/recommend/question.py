"""The arguments of `recommend`, checked and resolved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from fastinit._checks import check_choice, check_int, check_number
from fastinit._registry import MODES
from fastinit.initializers import Constant, Initializer, Zeros, get
from fastinit.theory.depth import Effect, best, effects
from fastinit.theory.parse import is_activation, resolve
from fastinit.theory.variance import Flow, with_bias, without_bias

from .layers import PLAIN, resolve_layer

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastinit.theory.activations import Activation

    from .layers import Layer

# A variance counts as preserved if it changes at most by this factor over the depth of the network.
FACTOR = 4.0
# A variance that stays within this factor is flat.
FLAT = 9.0
# Beyond this factor a variance has vanished or exploded.
LIMIT = 100.0
# Below this distance, relative to the signal, a network does not tell inputs apart.
ALIKE = 0.01
# The depth of a plain network where none is given.
DEPTH = 50
# From this depth on, orthogonal kernels are recommended: the products of many random matrices, even of the
# right variance, scale a few directions by far more than the others.
_ORTHOGONAL_FROM = 10

_DISTRIBUTIONS = ("uniform", "truncated_normal", "untruncated_normal")

# Activations that are bounded, linear, or make probabilities: Glorot's scheme, with their gain.
_GLOROT = (
    "hard_sigmoid",
    "hard_tanh",
    "linear",
    "log_softmax",
    "sigmoid",
    "softmax",
    "softsign",
    "sparse_sigmoid",
    "sparsemax",
    "tanh",
)
_RECTIFIERS = ("celu", "elu", "leaky_relu", "prelu", "relu", "relu6", "threshold")


@dataclass(frozen=True)
class Question:
    """The arguments of `recommend`.

    Attributes:
        activation: The activation.
        layer: The layer.
        flow: The variances of weights and biases before the activation, and their effect.
        mode: The mode of `VarianceScaling`, `None` for the usual one.
        distribution: The distribution of `VarianceScaling`, `None` for the usual one.
        bias: The initializer of biases that are not random.
        depth: The number of layers, `None` if it was not given.
        is_deep: Whether the flow was chosen for this depth, since the usual one does not last for it.
    """

    activation: Activation
    layer: Layer
    flow: Flow
    mode: str | None
    distribution: str | None
    bias: Initializer
    depth: int | None
    is_deep: bool = False

    @property
    def is_orthogonal(self) -> bool:
        """Whether the kernel is orthogonal: in dense layers, for a depth, unless the arguments exclude it."""
        is_free = self.mode is None and self.distribution is None
        is_dense = self.layer.family == "dense" and self.layer.equation is None
        is_fit = is_dense and self.activation.kind == "elementwise"
        return is_free and is_fit and (self.depth or 0) >= _ORTHOGONAL_FROM

    @property
    def is_rectifier(self) -> bool:
        """Whether the activation is ReLU or similar to it."""
        return self.activation.known and self.activation.name in _RECTIFIERS

    @property
    def is_glorot(self) -> bool:
        """Whether the mean of both fans is used, unless `mode` says otherwise."""
        return self.activation.known and self.activation.name in _GLOROT

    def effect(self) -> Effect:
        """What the layers do to inputs of variance 1, and to gradients."""
        flow = self.flow
        return effects(self.activation, flow.scale, flow.bias_std, self.depth or DEPTH)

    def is_(self, name: str) -> bool:
        """Whether the activation is the one of this name."""
        return self.activation.known and self.activation.name == name

    def is_kept(self, factor: float) -> bool:
        """Whether a variance that each layer multiplies by `factor` is preserved over the depth."""
        return _is_kept(factor, self.depth or DEPTH)


def ask(
    activation: object,
    param: float | None,
    layer: Layer,
    mode: str | None,
    distribution: str | None,
    bias: float,
    depth: int | None,
) -> Question:
    """Checks and resolves the arguments of `recommend`."""
    if activation is None:
        is_recurrent = layer.family in ("simple_rnn", "lstm", "gru", "conv_lstm")
        activation = "tanh" if is_recurrent and layer.activation is None else layer.activation
    else:
        _check_is_activation(activation)
    found = resolve(activation, param)
    if mode is not None:
        check_choice("mode", mode, MODES)
    bias = check_number("bias", bias)
    if depth is not None:
        depth = check_int("depth", check_int("depth", depth, 1), 1, 10**18)
    # An activation that couples units belongs to the loss: the layer before it counts as linear.
    flow = without_bias(resolve("linear") if found.kind == "joint" else found)
    is_deep = (
        depth is not None
        and layer.family in PLAIN
        and mode in (None, "fan_in")
        and not (_is_kept(flow.gradient, depth - 1) and (flow.is_stable or _is_kept(flow.slope, depth - 1)))
    )
    if is_deep and depth is not None:
        helps = bias == 0.0 and "bias" not in layer.lacks and with_bias(found) is not None
        flow = best(found, depth, biases=helps)
    if distribution is not None:
        check_choice("distribution", distribution, _DISTRIBUTIONS)
    biases = Zeros() if bias == 0.0 else Constant(bias)
    return Question(found, layer, flow, mode, distribution, biases, depth, is_deep)


def _check_is_activation(thing: object) -> None:
    """Raises if it is what another argument takes. Layers are not called: that would build those of Keras."""
    is_name = isinstance(thing, str)
    if isinstance(thing, str) and is_activation(thing):
        return  # "linear" is the name of a layer, too.
    layer = _works(resolve_layer, thing)
    if layer is not None and layer.family != "prelu":
        kind, argument = "a layer", "layer"
    elif isinstance(thing, Initializer) or (is_name and _works(get, thing)):
        kind, argument = "an initializer", "proposal"
    else:
        return
    name = repr(thing) if is_name else getattr(thing, "__name__", type(thing).__name__)
    error = ValueError if is_name else TypeError
    raise error(f"{name} is {kind}, not an activation: pass it as {argument}=")


def _works(function: Callable[[Any], Any], thing: object) -> Any:
    """What the function makes of it; `None` if it raises."""
    try:
        return function(thing)
    except (TypeError, ValueError):
        return None


def _is_kept(factor: float, depth: int) -> bool:
    return factor > 0.0 and abs(math.log(factor)) * depth <= math.log(FACTOR)
