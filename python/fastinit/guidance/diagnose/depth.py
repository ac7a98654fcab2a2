"""What a run of layers does to a signal: the product of the gains of its layers.

A layer whose kernel has a mean square w2 turns inputs of mean square q into normal pre-activations z of
variance `fan_in * w2 * q` plus that of its biases. A small change of the inputs is multiplied by
`sqrt(fan_in * w2 * E f'(z)**2)`, and a gradient on its way back by the same with fan_out. Biases may keep a
signal large; whether anything of the input is left shows in the change.

References: Poole and others, arXiv:1606.05340; Schoenholz and others, arXiv:1611.01232.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from fastinit.theory.parse import resolve

from .results import Code, Severity
from .schemes import fans

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastinit.theory.activations import Activation

    from .model import Model
    from .order import Layer, Run
    from .statistics import Statistics

# Products of gains. Plain networks of 5 to 20 layers of 64 units learn handwritten digits if the product is
# from 1e-2 to 1e2. At 1e-3 momentum fails with ReLU at times, at 1e-4 always; at 1e-6 to 1e-8 Adam does,
# too. At 1e3 momentum fails with ReLU, and Adam learns less the larger it is.
FAINT, LOST = 1e-3, 1e-6
LOUD = 300.0

# A fixed grid, and not `theory.quadrature`: the judgements need two digits, for each layer of models with
# thousands of them, and the adaptive rule takes many times as long.
_Z = np.linspace(-8.0, 8.0, 641)
_SHARE = np.exp(-(_Z**2) / 2) / np.exp(-(_Z**2) / 2).sum()


class _Passed(NamedTuple):
    """What layers do, as factors.

    Attributes:
        change: Of a small change of the inputs.
        gradient: Of a gradient, from the outputs to the inputs.
    """

    change: float
    gradient: float


def judge_runs(model: Model) -> None:
    """Finds runs in which a signal or its gradient vanishes or explodes."""
    for run in [] if model.trained else model.runs:
        found = [(layer, model.by_name.get(layer.kernel)) for layer in run.layers]
        if any(s is None or s.size == 0 for _, s in found):
            continue
        last = run.layers[-1].activation
        hidden = found if last is not None and last.kind == "elementwise" and not run.whole else found[:-1]
        layers = [(layer, s) for layer, s in hidden if s is not None]
        if len(layers) > 1 and not all(s.name in model.expected for _, s in layers):
            _judge(model, run, layers)


def _judge(model: Model, run: Run, layers: Sequence[tuple[Layer, Statistics]]) -> None:
    # Where the activation is not known, changes become smaller by at least that of linear layers, and by at
    # most that of ReLU, which goes with the largest kernels.
    relu = resolve("relu") if run.assumed else None
    passed, plain = (_passed(model, layers, relu, biases=biases) for biases in (True, False))
    if passed.change < FAINT <= plain.change:
        _biases(model, run, layers, passed)
        return
    vanishes = passed.change < 1.0
    if run.assumed and vanishes:
        passed = _passed(model, layers, resolve("linear"))
    if passed.change >= FAINT if vanishes else passed.change <= LOUD:
        return
    hopeless = not LOST <= passed.change <= 1 / LOST and not run.assumed
    names = list(dict.fromkeys(str(layer.activation or "linear") for layer, _ in layers))
    after = "with whatever activation" if run.assumed else f"with {' and '.join(names)}"
    each = passed.change ** (1 / len(layers))
    text = (
        f"the {len(layers)} layers from {layers[0][1].name} to {layers[-1][1].name}, {after}, make a "
        f"difference between inputs {passed.change:.2g} times as large ({each:.2g} in each) and a gradient "
        f"{passed.gradient:.2g} times, "
    )
    if run.assumed:
        text += "if they follow each other without normalization or a way around them, "
    if not vanishes:
        text += "so they explode or saturate; "
    elif passed.change < LOST:
        text += "so almost nothing of the input reaches the end; "
    else:
        text += "so they learn slowly or not at all; "
    known = layers[0][0].activation
    better = repr(known.name) if known is not None and known.known and not run.assumed else "activation"
    text += f"see fastinit.recommend({better}, depth={len(layers)}), or add normalization"
    code = Code.VANISHING if vanishes else Code.EXPLODING
    where = None if run.whole else layers[0][1]
    model.add(where, code, Severity.SEVERE if hopeless else Severity.WARNING, text)


def _passed(
    model: Model,
    layers: Sequence[tuple[Layer, Statistics]],
    instead: Activation | None,
    *,
    biases: bool = True,
) -> _Passed:
    """What layers do to a signal of mean square 1.

    Args:
        model: The model; layers that something else is wrong with count as correct ones.
        layers: The layers, with their kernels.
        instead: The activation of all of them; `None` for their own.
        biases: Whether to count their biases.
    """
    blamed = model.blamed()
    square, change, gradient = 1.0, 0.0, 0.0
    for layer, s in layers:
        activation = instead or layer.activation or resolve("linear")
        fan_in, fan_out = layer.fans or fans(s.tensor)[0]
        variance, mean = s.rms**2 * fan_in * square, 0.0
        scale = s.rms**2
        bias = model.by_name.get(layer.bias or "") if biases else None
        if bias is not None and bias.name not in blamed:
            mean, variance = bias.moments.mean, variance + bias.std**2
        if s.name in blamed or s.low == s.high:
            slope = max(_mean_square(activation.derivative(_Z)), 1e-300)
            variance, mean, scale = 1.0, 0.0, 1 / (slope * math.sqrt(fan_in * fan_out))
        elif layer.normalized:
            scale, variance, mean = scale / max(variance, 1e-300), 1.0, 0.0
        z = mean + math.sqrt(min(variance, 1e200)) * _Z
        with np.errstate(all="ignore"):
            slope, square = _mean_square(activation.derivative(z)), _mean_square(activation(z))
        change += _log(scale * fan_in * slope) / 2
        gradient += _log(scale * fan_out * slope) / 2
    return _Passed(_exp(change), _exp(gradient))


def _biases(model: Model, run: Run, layers: Sequence[tuple[Layer, Statistics]], passed: _Passed) -> None:
    """Says that the biases make a signal vanish."""
    found = [model.by_name[layer.bias] for layer, _ in layers if layer.bias in model.by_name]
    worst = max(found, key=lambda s: abs(s.moments.mean))
    severity = Severity.SEVERE if passed.change < LOST and not run.assumed else Severity.WARNING
    text = (
        f"the bias is not 0: its mean is {worst.moments.mean:.4g}, and with biases like it the {len(layers)} "
        f"layers from {layers[0][1].name} to {layers[-1][1].name} make a difference between inputs "
        f"{passed.change:.2g} times as large{', if ReLU follows them' if run.assumed else ''}, so their "
        "units hardly depend on the input; fill it with fastinit.zeros"
    )
    model.findings = [f for f in model.findings if (f.tensor, f.code) != (worst.name, Code.BIAS_NOT_ZERO)]
    model.add(worst, Code.BIAS_NOT_ZERO, severity, text)


def _mean_square(values: np.ndarray) -> float:
    """The mean of squares over a standard normal, given at `_Z`."""
    return float(_SHARE @ np.square(values))


def _log(x: float) -> float:
    return math.log(x) if 0.0 < x < math.inf else -2000.0 if x == 0.0 else 2000.0


def _exp(x: float) -> float:
    return math.exp(max(-690.0, min(690.0, x)))
