"""The effect of a deep plain network on a signal and on its gradient, by simulation."""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from fastinit._checks import check_int, check_number
from fastinit._results import Result, Rows, Verdict
from fastinit._terminal import Table, counted
from fastinit.initializers import Constant, Initializer, Zeros
from fastinit.theory.parse import resolve

from .choices import default_choices, initializer, parse_choices
from .propagate import propagate
from .recommend.question import ALIKE, FLAT, LIMIT

if TYPE_CHECKING:
    import numpy.typing as npt

    from .propagate import Floats

# A standard deviation within the first factor of 1 is flat; beyond the second it has vanished or exploded.
# The limits of `recommend` are of variances.
_FLAT, _GONE = math.sqrt(FLAT), math.sqrt(LIMIT)
# Below this `unit_distance` all units of a layer are equal.
_EQUAL = 1e-6


class SignalVerdict(Verdict):
    """What the layers do to a standard deviation that is 1 at first.

    `FLAT`: it stays within a factor of 3. `DRIFTS`: within a factor of 10. `VANISHES`, `EXPLODES`: it does
    not. `IDENTICAL_UNITS`: all units of the last layer are equal. `SAMPLES_ALIKE`: its outputs hardly depend
    on the input: samples differ by less than 1 % of the signal.
    """

    FLAT = "flat"
    DRIFTS = "drifts"
    VANISHES = "vanishes"
    EXPLODES = "explodes"
    IDENTICAL_UNITS = "identical_units"
    SAMPLES_ALIKE = "samples_alike"


def _judge(std: float) -> SignalVerdict:
    if std < 1 / _GONE:
        return SignalVerdict.VANISHES
    if std > _GONE:
        return SignalVerdict.EXPLODES
    return SignalVerdict.FLAT if 1 / _FLAT <= std <= _FLAT else SignalVerdict.DRIFTS


@dataclass(frozen=True, eq=False)
class SignalRow(Result):
    """What one initializer does. The arrays have an element for each layer, the first layer first.

    Attributes:
        name: Its label.
        initializer: The initializer of the kernels.
        bias: The initializer of the biases.
        preactivation_std: The standard deviation of the pre-activations over units and samples; infinite
            where it overflows. That of the inputs of the network is 1.
        activation_std: That of the outputs of the activations.
        gradient_std: That of the gradient of the loss with respect to these outputs; 1 in the last layer.
        zero_slope: The fraction of units where the slope of the activation is zero for all samples, so that
            no gradient passes them.
        saturated: The fraction of the inputs of the activation, over units and samples, at which it is nearly
            flat, but not inactive: those of tanh far from 0, but not those of ReLU below 0.
        unit_distance: How different the units of a layer are: the standard deviation of the pre-activations
            over the units, divided by their root mean square; 0 where all units are equal, 1 in a layer of
            one unit.
        sample_distance: The same over the samples; 0 where a layer does not depend on the input any more; 1
            with a single sample.
    """

    name: str
    initializer: Initializer
    bias: Initializer
    preactivation_std: Floats
    activation_std: Floats
    gradient_std: Floats
    zero_slope: Floats
    saturated: Floats
    unit_distance: Floats
    sample_distance: Floats

    @property
    def verdict(self) -> SignalVerdict:
        """The verdict on the signal, at the last layer."""
        if self.unit_distance[-1] < _EQUAL:
            return SignalVerdict.IDENTICAL_UNITS
        if self._is_alike:
            return SignalVerdict.SAMPLES_ALIKE
        return _judge(self.preactivation_std[-1])

    @property
    def _is_alike(self) -> bool:
        """Whether the last layer does not tell the samples apart; a signal of zero has vanished instead."""
        return 0.0 < self.preactivation_std[-1] < math.inf and self.sample_distance[-1] < ALIKE

    @property
    def gradient_verdict(self) -> SignalVerdict:
        """The verdict on the gradient, at the first layer."""
        return _judge(self.gradient_std[0])

    @property
    def text(self) -> str:
        """The verdicts in words, with numbers."""
        std = self.preactivation_std
        signal, last = _judge(std[-1]), std[-1]
        end = f", {last:.1e} at the end"
        words = {
            SignalVerdict.VANISHES: f": below {1 / _GONE:g} from layer {_since(std < 1 / _GONE)}{end}",
            SignalVerdict.EXPLODES: f": above {_GONE:g} from layer {_since(std > _GONE)}{end}",
            SignalVerdict.DRIFTS: f" to {last:.2g}",
        }
        text = f"{signal}{words.get(signal, '')}"
        if self.verdict is SignalVerdict.IDENTICAL_UNITS:
            layer = _since(self.unit_distance < _EQUAL)
            return f"{self.verdict} from layer {layer} on; {text}"
        if self.verdict is SignalVerdict.SAMPLES_ALIKE:
            text = (
                f"{self.verdict}: they differ by less than {ALIKE:.0%} of the signal from layer "
                f"{_since(self.sample_distance < ALIKE)}, {self.sample_distance[-1]:.1e} at the end; "
                f"signal {text}"
            )
        gradient, first = self.gradient_verdict, self.gradient_std[0]
        words = {SignalVerdict.FLAT: "", SignalVerdict.DRIFTS: f" to {first:.2g}"}
        return f"{text}; gradient {gradient}{words.get(gradient, f', {first:.1e} at the first layer')}"

    def to_dict(self) -> dict[str, Any]:
        """All attributes by name, and the verdicts, as values that `json` takes."""
        verdicts = {"verdict": self.verdict.value, "gradient_verdict": self.gradient_verdict.value}
        return {**super().to_dict(), **verdicts, "text": self.text}


def _since(where: npt.NDArray[np.bool_]) -> int:
    """The layer, counted from 1, from which on this is true up to the last layer."""
    others = np.flatnonzero(~where)
    return int(others[-1]) + 2 if len(others) else 1


def spell_widths(widths: Sequence[int]) -> str:
    """The width of the layers; the least and the largest where they differ."""
    least, most = min(widths), max(widths)
    return str(least) if least == most else f"{least} to {most}"


@dataclass(frozen=True, eq=False)
class Signal(Rows[SignalRow]):
    """What `signal` found. `print` shows a table of some layers, and the verdicts.

    Attributes:
        activation: The name of the activation, with its parameter.
        widths: The size of the input, and of each layer.
        samples: The number of inputs.
        seed: The seed.
        rows: A row for each initializer; `signal[name]` is that of a name.
    """

    activation: str
    widths: tuple[int, ...]
    samples: int
    seed: int
    rows: tuple[SignalRow, ...]

    @property
    def depth(self) -> int:
        """The number of layers."""
        return len(self.widths) - 1

    def _parts(self) -> list[str | Table]:
        """The table, and below it the verdicts. `distance` is that of the samples, `sample_distance`.

        Shares that are 0 everywhere have no column.
        """
        depth = self.depth
        layers = sorted({1, 2, 5, *np.linspace(1, depth, min(depth, 6)).round().astype(int).tolist()})
        columns = {
            "pre-activation": ("preactivation_std", ".3g"),
            "activation": ("activation_std", ".3g"),
            "gradient": ("gradient_std", ".3g"),
            "distance": ("sample_distance", ".2g"),
            "zero slope": ("zero_slope", ".0%"),
            "saturated": ("saturated", ".0%"),
        }
        for title, (name, form) in list(columns.items()):
            if form == ".0%" and all(getattr(row, name).max() < 0.005 for row in self.rows):
                del columns[title]
        header = ("initializer", "layer", *columns)
        lines = [
            (
                row.name if layer == 1 else "",
                str(layer),
                *(format(getattr(row, name)[layer - 1], form) for name, form in columns.values()),
            )
            for row in self.rows
            for layer in layers
            if layer <= depth
        ]
        width = f"width {spell_widths(self.widths)}"
        title = (
            f"standard deviations in {counted(depth, 'layer')} of {self.activation}, {width}, "
            f"{counted(self.samples, 'sample')}"
        )
        verdicts = [f"{row.name}: {row.text}" for row in self.rows]
        return [title, Table(header, lines, "<" + ">" * (len(header) - 1)), *verdicts]


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

    The network is computed with kernels and biases from the initializers and matrix products in float64. Its
    inputs are standard normal, and so is the gradient at its output. There are no normalization layers and no
    residual connections, and nothing is trained: the result is the state at the start of training.

    Args:
        initializers: One initializer or several: names (`"he_normal"`), configurations, initializers of
            fastinit, or results of `recommend`, whose biases are used, too; a sequence of these, or a mapping
            of labels to them. `None` for the recommended one, Glorot's, one that is too small, one that is
            too large, and zeros.
        activation: The activation after each layer, as in `gain`. GLU halves its inputs, so that its kernels
            have twice as many outputs; softmax and similar act on each layer as a whole.
        param: The parameter of the activation, as in `gain`.
        depth: The number of layers; at least 1.
        width: The size of the input and of each layer; at least 1.
        widths: The size of the input and then of each layer, instead of `depth` and `width`.
        bias: The biases: a number or an initializer. Results of `recommend` have their own.
        samples: The number of inputs; at least 1.
        seed: The seed of kernels, biases, inputs and gradients: an int in [0, 2**64).

    Returns:
        A `Signal`.

    Raises:
        ValueError: If a name is unknown, or an argument out of range.
        TypeError: If an argument is of the wrong kind.

    Example:
        >>> import fastinit
        >>> found = fastinit.signal(["he_normal", "random_normal", "zeros"], depth=30, width=256)
        >>> found["he_normal"].text
        'flat; gradient flat'
        >>> print(found["zeros"].verdict, found["random_normal"].verdict)
        identical_units vanishes
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
    if initializers is None:
        # With layers of different widths, the kernel that suits all of them.
        choices = default_choices(activation, param, len(sizes) - 1 if len(set(sizes)) == 1 else None)
    else:
        choices = parse_choices(initializers)
    rows = []
    for name, choice in choices.items():
        biases = default if choice.bias is None else choice.bias
        series = propagate(found, choice.kernel, biases, widths=sizes, samples=samples, seed=seed)
        rows.append(SignalRow(name, choice.kernel, biases, **series))
    return Signal(str(found), sizes, samples, seed, tuple(rows))


def _sizes(depth: int, width: int, widths: Sequence[int] | None) -> tuple[int, ...]:
    if widths is None:
        return (check_int("width", width, 1),) * (check_int("depth", depth, 1) + 1)
    if isinstance(widths, str) or not isinstance(widths, Sequence):
        raise TypeError(f"widths must be a sequence of ints, got {widths!r}")
    if len(widths) < 2:
        raise ValueError(f"widths must have the sizes of the input and of at least one layer, got {widths!r}")
    return tuple(check_int("widths", size, 1) for size in widths)


def _bias(bias: object) -> Initializer:
    if isinstance(bias, numbers.Real):
        return Constant(check_number("bias", bias)) if bias else Zeros()
    return initializer(bias)
