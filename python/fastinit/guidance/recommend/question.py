"""The arguments of `recommend`, checked and resolved."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastinit._checks import check_choice, check_int, check_number
from fastinit._registry import MODES
from fastinit.initializers import Constant, Initializer, Zeros
from fastinit.theory.parse import resolve
from fastinit.theory.variance import Flow, with_bias, without_bias

if TYPE_CHECKING:
    from fastinit.theory.activations import Activation

    from .layers import Layer

# A variance counts as preserved if it changes at most by this factor over the depth of the network.
FACTOR = 4.0
# The depth of a plain network where none is given.
DEPTH = 50

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
    """

    activation: Activation
    layer: Layer
    flow: Flow
    mode: str | None
    distribution: str | None
    bias: Initializer
    depth: int | None

    @property
    def is_rectifier(self) -> bool:
        """Whether the activation is ReLU or similar to it."""
        return self.activation.known and self.activation.name in _RECTIFIERS

    @property
    def is_glorot(self) -> bool:
        """Whether the mean of both fans is used, unless `mode` says otherwise."""
        return self.activation.known and self.activation.name in _GLOROT

    def is_(self, name: str) -> bool:
        """Whether the activation is the one of this name."""
        return self.activation.known and self.activation.name == name

    def is_kept(self, factor: float) -> bool:
        """Whether a variance that each layer multiplies by `factor` is preserved over the depth."""
        return factor > 0.0 and abs(math.log(factor)) * (self.depth or DEPTH) <= math.log(FACTOR)


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
    found = resolve(activation, param)
    if mode is not None:
        check_choice("mode", mode, MODES)
    bias = check_number("bias", bias)
    if depth is not None:
        depth = check_int("depth", depth, 1)
    # An activation that couples units belongs to the loss: the layer before it counts as linear.
    flow = without_bias(resolve("linear") if found.kind == "joint" else found)
    plain = ("dense", "bilinear", "conv", "depthwise_conv", "separable_conv", "conv_transpose")
    is_plain = layer.family in plain and "bias" not in layer.lacks
    drifts = depth is not None and not flow.is_stable and depth * math.log(flow.slope) > math.log(FACTOR)
    if is_plain and drifts and bias == 0.0 and mode in (None, "fan_in"):
        flow = with_bias(found) or flow
    if distribution is not None:
        check_choice("distribution", distribution, _DISTRIBUTIONS)
    biases = Zeros() if bias == 0.0 else Constant(bias)
    return Question(found, layer, flow, mode, distribution, biases, depth)
