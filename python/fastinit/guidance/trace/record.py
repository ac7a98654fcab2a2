"""What the networks of all frameworks have in common: the record of a run, and random inputs."""

from __future__ import annotations

import fnmatch
import math
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastinit._runtime import random_bits
from fastinit._suggest import did_you_mean
from fastinit.functions import random_normal
from fastinit.initializers import Orthogonal
from fastinit.theory.parse import resolve

from .measure import measure, saturated

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from fastinit._typing import Array
    from fastinit.initializers import Initializer
    from fastinit.theory.activations import Activation

    from .measure import Statistics

# The length of random sequences of tokens.
TOKENS = 16


@dataclass
class Call:
    """A call of a layer; what has not been measured is `None`.

    Attributes:
        name: The name of its row.
        layer: The name of the layer.
        type: The name of its class.
        axis: The axis of the units of its output.
        shape: The shape of its output.
        forward: The statistics of its output.
        activation: The activation that it is or ends with.
        saturated: The share of the inputs of the activation at which it is saturated.
        backward: The statistics of the gradient.
    """

    name: str
    layer: str
    type: str
    axis: int
    shape: tuple[int, ...]
    forward: Statistics
    activation: Activation | None = None
    saturated: float | None = None
    backward: Statistics | None = None


@dataclass(frozen=True)
class Weights:
    """The own parameters of a layer.

    Attributes:
        count: The number of their elements.
        norm: The Euclidean norm of those that are trained; `None` if there are none.
        gradient_norm: That of their gradient; `None` if the loss does not depend on any of them.
    """

    count: int
    norm: float | None
    gradient_norm: float | None


@dataclass
class Record:
    """A forward and a backward pass of a network.

    Attributes:
        samples: The number of samples.
        input_std: The standard deviation of the first floating-point input.
        calls: The calls, in their order.
        weights: The parameters of each layer, by its name.
        loss: The loss.
        unused: The trainable parameters that the loss does not depend on.
        head_input: The statistics of the input of the last layer with parameters that was called.
    """

    samples: int
    input_std: float | None
    calls: list[Call] = field(default_factory=list)
    weights: dict[str, Weights] = field(default_factory=dict)
    loss: float | None = None
    unused: list[str] = field(default_factory=list)
    head_input: Statistics | None = None
    _counts: Counter[str] = field(default_factory=Counter)

    def add(
        self, layer: str, kind: str, output: Array, axis: int, activation: Activation | None, z: Array | None
    ) -> Call:
        """Records a call of a layer, by its output, and the input of its activation if it has one."""
        self._counts[layer] += 1
        count = self._counts[layer]
        call = Call(
            name=layer if count == 1 else f"{layer} ({count})",
            layer=layer,
            type=kind,
            axis=axis,
            shape=tuple(output.shape),
            forward=measure(output, axis, self.samples),
            activation=activation,
            saturated=None if activation is None or z is None else saturated(z, activation),
        )
        self.calls.append(call)
        return call

    def add_gradient(self, call: Call, gradient: Array) -> None:
        """Records the gradient with respect to the output of a call."""
        call.backward = measure(gradient, call.axis, self.samples)


def known_activation(x: Any) -> Activation | None:
    """The activation that a layer or a function is; `None` if it is not a known one, or the identity.

    What is not of a framework is known by its name only. A layer of a framework with unusual attributes is
    called on a few numbers, so this must not be used while it is traced.
    """
    kind = x if hasattr(x, "__name__") else type(x)
    try:
        found = resolve(kind.__name__)
        if found.name != "linear" and (kind.__module__ or "").partition(".")[0] in ("torch", "keras", "jax"):
            found = resolve(x)
    except (TypeError, ValueError):
        return None
    return found if found.known and found.name != "linear" else None


def saturates(activation: Activation | None) -> bool:
    """Whether there are inputs at which it is saturated."""
    return activation is not None and saturated(np.zeros(1), activation) is not None


def norm(values: Iterable[Array]) -> float | None:
    """The Euclidean norm of several arrays together, NaN where an element is not finite; `None` of none."""
    norms = [float(np.linalg.norm(np.asarray(x, np.float64))) for x in values]
    return math.hypot(*norms) if norms else None


class Kernel(NamedTuple):
    """A kernel of a layer, which a rule can be for.

    Attributes:
        name: The name of the parameter.
        layer: The name of its layer.
        axis: The axis of the outputs.
        bias: The name of the bias of the layer, if it has one.
    """

    name: str
    layer: str
    axis: int
    bias: str | None

    def orthogonal(self, gain: float) -> Initializer:
        """The orthogonal initializer for it."""
        return Orthogonal(gain, column_axis=self.axis)


def direction(shape: Sequence[int], seed: int) -> Array:
    """The gradient of the default loss with respect to the output.

    The loss is the mean over the samples of the product of the output with a random direction of length about
    1. The gradient of the cross-entropy has about this length, too.
    """
    samples = shape[0] if len(shape) > 0 else 1
    size = max(1, math.prod(shape[1:]))
    r = random_normal(tuple(shape), seed=seed, stream="cotangent", dtype="float32", mean=0.0, stddev=1.0)
    return r / np.float32(max(1, samples) * math.sqrt(size))


def unknown_shape(title: str, batch: object) -> ValueError:
    """The error that random data would need a shape."""
    return ValueError(
        f"the shape of the inputs of {title} cannot be told: pass it, with the number of samples first, or "
        f"data; got {batch!r}"
    )


def random_input(shape: Sequence[int], seed: int, below: int | None, stream: str = "input") -> Array:
    """Standard normal inputs or, with `below`, integers from 0 on."""
    if below is None:
        return random_normal(tuple(shape), seed=seed, stream=stream, mean=0.0, stddev=1.0)
    bits = random_bits(tuple(shape), seed=seed, stream=stream)
    return (bits % np.uint32(below)).astype(np.int64)


def chosen(patterns: Any, names: Sequence[str]) -> set[str]:
    """The names that match a pattern or one of several.

    Raises:
        ValueError: If a pattern matches none.
        TypeError: If a pattern is not a str.
    """
    found: set[str] = set()
    for pattern in [patterns] if isinstance(patterns, str) else patterns:
        if not isinstance(pattern, str):
            raise TypeError(f"layers must be patterns of names, got {pattern!r:.80}")
        fits = {name for name in names if fnmatch.fnmatchcase(name, pattern)}
        if not fits:
            raise ValueError(f"no layer is named like {pattern!r}{did_you_mean(pattern, names)}")
        found |= fits
    return found


def is_shape(batch: object) -> bool:
    """Whether it is a shape, or the number of samples, instead of data."""
    if isinstance(batch, (bool, np.bool_)):
        return False
    many = batch if isinstance(batch, (tuple, list)) and batch else [batch]
    return all(isinstance(size, (int, np.integer)) for size in many)
