"""What a deep plain network does to a signal and to its gradient, seen by really multiplying it through."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from fastinit import initializers as _initializers
from fastinit._checks import check_int
from fastinit._terminal import table
from fastinit.functions import random_normal
from fastinit.initializers import Initializer, Zeros
from fastinit.theory.activations import Activation, saturation
from fastinit.theory.parse import resolve

from .choices import initializer, named, telling
from .recommend.recommendation import plain_initializer, plain_number

if TYPE_CHECKING:
    from fastinit._typing import Array

Floats = npt.NDArray[np.float64]

# Numbers beyond are infinity: there is room to multiply two of them.
_HUGE = 1e150
# Slopes below this part of the steepest carry no gradient.
_DEAD = 1e-6
# How far a standard deviation may be off to be called flat, and gone.
_FLAT = 3.0
_GONE = 10.0


@dataclass(frozen=True, eq=False)
class SignalRun:
    """What one initializer did. The arrays have an element for each layer, the first layer first.

    Attributes:
        name: Its name.
        initializer: The initializer of the kernels.
        bias: The initializer of the biases.
        preactivation_std: The standard deviation, over units and samples, of what goes into the activations;
            infinity where it overflows. The input of the network has 1.
        activation_std: That of what comes out.
        gradient_std: That of the gradient of the loss with respect to what comes out; 1 in the last layer.
        dead: The share of units that pass no gradient for any sample.
        saturated: The share of outputs, over units and samples, on a flat side of the activation other than
            an inactive one: those of a tanh near -1 and 1, and not those of a ReLU at 0.
        unit_distance: How different the units of a layer are: the standard deviation of what goes into their
            activations over the units, by the root of the mean square; 0 where all are alike, 1 in a layer
            of one unit.
        sample_distance: The same over the samples: 0 where the network no longer sees what its input is.
    """

    name: str
    initializer: Initializer
    bias: Initializer
    preactivation_std: Floats
    activation_std: Floats
    gradient_std: Floats
    dead: Floats
    saturated: Floats
    unit_distance: Floats
    sample_distance: Floats

    @property
    def verdict(self) -> str:
        """What became of signal and gradient, in words."""
        if self.unit_distance[-1] < 1e-6:
            alike = _since(self.unit_distance < 1e-6)
            return f"collapses: all units are alike from layer {alike} on; {self._signal()}"
        return f"{self._signal()}; gradient {self._gradient()}"

    def _signal(self) -> str:
        std = self.preactivation_std
        last = float(std[-1])
        if last < 1 / _GONE:
            return (
                f"vanishes: below {1 / _GONE:g} from layer {_since(std < 1 / _GONE)}, {last:.1e} at the end"
            )
        if last > _GONE:
            return f"explodes: above {_GONE:g} from layer {_since(std > _GONE)}, {last:.1e} at the end"
        if 1 / _FLAT <= last <= _FLAT:
            return "flat"
        return f"drifts to {last:.2g}"

    def _gradient(self) -> str:
        first = float(self.gradient_std[0])
        if first < 1 / _GONE:
            return f"vanishes, {first:.1e} at the first layer"
        if first > _GONE:
            return f"explodes, {first:.1e} at the first layer"
        return "flat" if 1 / _FLAT <= first <= _FLAT else f"drifts to {first:.2g}"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; infinity as `"inf"`."""
        return {
            "name": self.name,
            "initializer": plain_initializer(self.initializer),
            "bias": plain_initializer(self.bias),
            "verdict": self.verdict,
            **{name: [plain_number(x) for x in getattr(self, name).tolist()] for name in _SERIES},
        }


_SERIES = (
    "preactivation_std",
    "activation_std",
    "gradient_std",
    "dead",
    "saturated",
    "unit_distance",
    "sample_distance",
)


def _since(where: npt.NDArray[np.bool_]) -> int:
    """The layer from which on it is so up to the end."""
    others = np.flatnonzero(~where)
    return int(others[-1]) + 2 if len(others) else 1


@dataclass(frozen=True, eq=False)
class Signal:
    """What `signal` found. `print` shows it as a table of some layers, and a verdict on each run.

    Attributes:
        activation: The name of the activation, with its parameter.
        widths: The size of the input, and of each layer.
        samples: How many inputs were sent through.
        seed: The seed.
        runs: One for each initializer.
    """

    activation: str
    widths: tuple[int, ...]
    samples: int
    seed: int
    runs: tuple[SignalRun, ...]

    @property
    def depth(self) -> int:
        """The number of layers."""
        return len(self.widths) - 1

    def __getitem__(self, name: str) -> SignalRun:
        """The run of a name."""
        for run in self.runs:
            if run.name == name:
                return run
        raise KeyError(name)

    def __str__(self) -> str:
        """The table, and below it the verdicts."""
        depth = self.depth
        layers = sorted({1, 2, 5, *np.linspace(1, depth, min(depth, 6)).round().astype(int).tolist()})
        layers = [layer for layer in layers if layer <= depth]
        header = ("initializer", "layer", "pre-activation", "activation", "gradient", "dead", "saturated")
        rows = []
        for run in self.runs:
            for layer in layers:
                at = layer - 1
                rows.append(
                    (
                        run.name if layer == 1 else "",
                        str(layer),
                        f"{run.preactivation_std[at]:.3g}",
                        f"{run.activation_std[at]:.3g}",
                        f"{run.gradient_std[at]:.3g}",
                        f"{run.dead[at]:.0%}",
                        f"{run.saturated[at]:.0%}",
                    )
                )
        sizes = sorted(set(self.widths))
        width = f"width {sizes[0]}" if len(sizes) == 1 else f"widths {sizes[0]} to {sizes[-1]}"
        title = f"standard deviations in {depth} layers of {self.activation}, {width}, {self.samples} samples"
        verdicts = [f"{run.name}: {run.verdict}" for run in self.runs]
        return "\n".join([title, table(header, rows, "<>>>>>>"), *verdicts])

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "activation": self.activation,
            "widths": list(self.widths),
            "samples": self.samples,
            "seed": self.seed,
            "runs": [run.to_dict() for run in self.runs],
        }


def signal(
    initializers: object = None,
    *,
    activation: object = "relu",
    param: float | None = None,
    depth: int = 50,
    width: int = 512,
    widths: Sequence[int] | None = None,
    bias: object = 0.0,
    samples: int = 64,
    seed: int = 0,
) -> Signal:
    """Sends a signal through a deep plain network, and its gradient back, for one or several initializers.

    The network is real: kernels and biases that fastinit makes, and matrix products in float64. Its inputs
    are standard normal, and so is the gradient at its output. Nothing is normalized, there are no residual
    connections, and nothing is learned: what is seen is the state in which training would begin.

    Args:
        initializers: One initializer or several: names (`"he_normal"`), configurations, initializers of
            fastinit, or answers of `recommend`, with their biases; in a list, or by labels in a mapping.
            `None` for what is recommended, Glorot's, one that is too small, one that is too large, and zeros.
        activation: The activation after each layer; as in `gain`. GLU halves what goes in, so that its
            kernels have twice as many outputs; softmax and its kin act on each layer as a whole.
        param: The parameter of the activation, as in `gain`.
        depth: The number of layers.
        width: The size of the input and of each layer.
        widths: The size of the input and then of each layer, instead of `depth` and `width`.
        bias: The biases: a number, or an initializer. An answer of `recommend` brings its own.
        samples: How many inputs.
        seed: The seed of kernels, biases, inputs and gradients: an int in [0, 2**64).

    Returns:
        A `Signal`.

    Raises:
        ValueError: If a name is unknown, or an argument out of range.
        TypeError: If an argument is of the wrong kind.

    Example:
        >>> import fastinit
        >>> found = fastinit.signal(["he_normal", "random_normal", "zeros"], depth=30, width=256)
        >>> found["he_normal"].verdict
        'flat; gradient flat'
        >>> found["zeros"].verdict
        'collapses: all units are alike from layer 1 on; vanishes: below 0.1 from layer 1, 0.0e+00 at the end'
        >>> float(found["random_normal"].preactivation_std[-1]) < 1e-3
        True

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
        AISTATS 2010. Poole, Lahiri, Raghu, Sohl-Dickstein and Ganguli, "Exponential expressivity in deep
        neural networks through transient chaos", NeurIPS 2016, arXiv:1606.05340.
    """
    found = resolve(activation, param)
    sizes = _sizes(depth, width, widths)
    samples = check_int("samples", samples, 1)
    seed = check_int("seed", seed, 0, 2**64 - 1)
    default = _bias(bias)
    runs = []
    choices = telling(activation, param) if initializers is None else named(initializers)
    for name, (kernel, own) in choices.items():
        network = _Network(found, kernel, default if own is None else own, sizes, samples, seed)
        runs.append(network.run(name))
    return Signal(str(found), sizes, samples, seed, tuple(runs))


def _sizes(depth: int, width: int, widths: Sequence[int] | None) -> tuple[int, ...]:
    if widths is None:
        return (check_int("width", width, 1),) * (check_int("depth", depth, 1) + 1)
    if isinstance(widths, str) or not isinstance(widths, Sequence):
        raise TypeError(f"widths must be a sequence of ints; got {widths!r}")
    if len(widths) < 2:
        raise ValueError(
            f"widths must be the size of the input and that of one layer or more; got {widths!r}"
        )
    return tuple(check_int("widths", size, 1) for size in widths)


def _bias(bias: object) -> Initializer:
    if isinstance(bias, (int, float, np.floating, np.integer)) and not isinstance(bias, bool):
        if not math.isfinite(bias):
            raise ValueError(f"bias must be finite; got {bias!r}")
        return _initializers.Constant(float(bias)) if bias else Zeros()
    return initializer(bias)


class _Network:
    """A plain network, whose kernels are made when they are needed, and again on the way back."""

    def __init__(
        self,
        activation: Activation,
        kernel: Initializer,
        bias: Initializer,
        widths: tuple[int, ...],
        samples: int,
        seed: int,
    ) -> None:
        self.activation = activation
        self.initializer, self.bias = kernel, bias
        self.widths, self.samples, self.seed = widths, samples, seed
        self.inputs = 2 if activation.kind == "gated" else 1

    def _kernel(self, layer: int) -> Array:
        shape = self.widths[layer - 1], self.inputs * self.widths[layer]
        return self.initializer(shape, seed=self.seed, stream=f"{layer}.kernel", dtype="float64")

    def _biases(self, layer: int) -> Array:
        size = self.inputs * self.widths[layer]
        return self.bias(size, seed=self.seed, stream=f"{layer}.bias", dtype="float64")

    def _normal(self, size: int, stream: str) -> Array:
        return random_normal((self.samples, size), 0.0, 1.0, seed=self.seed, stream=stream, dtype="float64")

    def run(self, name: str) -> SignalRun:
        """Sends the signal through, and the gradient back."""
        depth = len(self.widths) - 1
        series = {key: np.zeros(depth) for key in _SERIES}
        low, high = saturation(self.activation)
        # Huge numbers are held where they do not overflow, so that nothing becomes NaN.
        with np.errstate(all="ignore"):
            x = self._normal(self.widths[0], "input")
            before = []
            for layer in range(1, depth + 1):
                z = _held(x @ self._kernel(layer) + self._biases(layer))
                x = _held(self.activation(z))
                slope = np.abs(_held(self.activation.derivative(z)))
                before.append(z)
                at = layer - 1
                series["preactivation_std"][at] = _std(z)
                series["activation_std"][at] = _std(x)
                series["dead"][at] = np.mean((slope <= _DEAD * max(1.0, float(slope.max()))).all(axis=0))
                series["saturated"][at] = np.mean((z < low) | (z > high))
                series["unit_distance"][at] = _distance(z, 1) if z.shape[1] > 1 else 1.0
                series["sample_distance"][at] = _distance(z, 0)
            gradient = self._normal(self.widths[-1], "gradient")
            for layer in range(depth, 0, -1):
                series["gradient_std"][layer - 1] = _std(gradient)
                if layer > 1:  # Nobody asks for the gradient of the input.
                    pulled = _held(self.activation.backward(before[layer - 1], gradient))
                    gradient = _held(pulled @ self._kernel(layer).T)
        return SignalRun(name, self.initializer, self.bias, **series)


def _held(x: Array) -> Array:
    """The numbers, with those that are huge brought back to where they can be multiplied."""
    held: Array = np.nan_to_num(np.clip(x, -_HUGE, _HUGE), copy=False, nan=0.0)
    return held


def _std(x: Array) -> float:
    """The standard deviation, infinity if it is huge; without squares that overflow, or vanish."""
    largest = float(np.abs(x).max())
    if largest >= _HUGE:
        return math.inf
    return largest * float(np.std(x / largest)) if largest > 0.0 else 0.0


def _distance(x: Array, axis: int) -> float:
    """The standard deviation along an axis, by the root of the mean square of all."""
    largest = float(np.abs(x).max())
    if largest == 0.0:
        return 0.0
    x = x / largest
    return float(np.sqrt(np.mean(np.var(x, axis=axis)) / np.mean(np.square(x))))
