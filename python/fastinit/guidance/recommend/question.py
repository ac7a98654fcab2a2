"""What `recommend` was asked: its arguments, checked and resolved."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from fastinit._checks import check_int
from fastinit.initializers import Constant, Initializer, Zeros
from fastinit.theory.parse import resolve
from fastinit.theory.variance import Flow, with_bias, without_bias

from .layers import Layer, resolve_layer

if TYPE_CHECKING:
    from collections.abc import Collection

    from fastinit.theory.activations import Activation

# By how much a variance may have changed at the end to be called kept, and how deep a plain network is
# thought to be where nobody says.
FACTOR = 4.0
DEPTH = 50

_MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
_DISTRIBUTIONS = {
    "uniform": "uniform",
    "normal": "truncated_normal",
    "truncated_normal": "truncated_normal",
    "untruncated_normal": "untruncated_normal",
}

# Activations that are bounded or linear, and those that make probabilities: Glorot's, with their gain.
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
    """What was asked.

    Attributes:
        activation: The activation.
        layer: The layer.
        flow: The scale of the weights before the activation, the biases, and what comes of them.
        mode: The fan, `None` for the usual one.
        distribution: One that `VarianceScaling` knows, `None` for the usual one.
        bias: The initializer of biases that are not random.
        depth: How many layers, `None` if nobody said.
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
        """Whether the activation is ReLU or of its kin."""
        return self.activation.known and self.activation.name in _RECTIFIERS

    @property
    def is_glorot(self) -> bool:
        """Whether the fan is the mean of both, unless another was asked for."""
        return self.activation.known and self.activation.name in _GLOROT

    def is_(self, name: str) -> bool:
        """Whether the activation is the one of this name."""
        return self.activation.known and self.activation.name == name

    def is_kept(self, factor: float) -> bool:
        """Whether a variance that each layer multiplies by `factor` is kept over the depth."""
        return factor > 0.0 and abs(math.log(factor)) * (self.depth or DEPTH) <= math.log(FACTOR)


def ask(
    activation: object,
    layer: object,
    *,
    distribution: str | None,
    mode: str | None,
    param: float | None,
    bias: float,
    depth: int | None,
    layout: str | None,
    groups: int | None,
) -> Question:
    """The question that the arguments of `recommend` are."""
    of_layer = resolve_layer(layer, layout, groups)
    if activation is None and of_layer.family in ("simple_rnn", "lstm", "gru"):
        activation = "tanh"
    found = resolve(activation, param)
    if mode is not None:
        _check("mode", mode, _MODES)
    if distribution is not None:
        _check("distribution", distribution, _DISTRIBUTIONS)
    if isinstance(bias, bool) or not isinstance(bias, (int, float, np.floating, np.integer)):
        raise TypeError(f"bias must be a number; got {bias!r}")
    if not math.isfinite(bias):
        raise ValueError(f"bias must be finite; got {bias!r}")
    if depth is not None:
        depth = check_int("depth", depth, 1)
    # What couples units is a matter of the loss: the layer before is linear.
    flow = without_bias(resolve("linear") if found.kind == "joint" else found)
    is_plain = of_layer.family in ("dense", "conv", "depthwise_conv", "separable_conv", "conv_transpose")
    drifts = depth is not None and not flow.is_stable and depth * math.log(flow.slope) > math.log(FACTOR)
    if is_plain and drifts and bias == 0.0 and mode in (None, "fan_in"):
        flow = with_bias(found) or flow
    return Question(
        activation=found,
        layer=of_layer,
        flow=flow,
        mode=mode,
        distribution=None if distribution is None else _DISTRIBUTIONS[distribution],
        bias=Zeros() if bias == 0.0 else Constant(bias),
        depth=depth,
    )


def _check(name: str, value: object, known: Collection[str]) -> None:
    """Raises an error if a name is not known."""
    if isinstance(value, str) and value in known:
        return
    near = difflib.get_close_matches(str(value), known, n=1)
    hint = f"; did you mean {near[0]!r}?" if near else ""
    raise ValueError(f"{name} must be one of {', '.join(known)}; got {value!r}{hint}")
