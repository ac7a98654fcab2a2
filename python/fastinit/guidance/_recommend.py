"""Which initializer to use: for every weight of a layer, with the reason, and what to make of another choice.

Decided by what becomes of the variance of signals and gradients, which is computed for any activation; where
popular advice is another, the reason says so.
"""

from __future__ import annotations

import difflib
import math
import operator
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastinit import initializers
from fastinit._text import table
from fastinit.initializers import (
    Constant,
    DeltaOrthogonal,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Identity,
    Initializer,
    LecunNormal,
    LecunUniform,
    Ones,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
    Zeros,
)

from ._activations import Activation, resolve
from ._layers import AXES, Layer, resolve_layer
from ._spelling import keras_spelling, short, torch_spelling
from ._variance import Flow, after, with_bias, without_bias

if TYPE_CHECKING:
    from collections.abc import Callable

_MODES = ("fan_in", "fan_out", "fan_avg", "fan_geo_avg")
_DISTRIBUTIONS = {
    "uniform": "uniform",
    "normal": "truncated_normal",
    "truncated_normal": "truncated_normal",
    "untruncated_normal": "untruncated_normal",
}

# Activations that are bounded, or 1 about 0, and what is made of probabilities: Glorot's, with their gain.
_GLOROT = (
    "hard_sigmoid",
    "hard_tanh",
    "linear",
    "sigmoid",
    "softsign",
    "sparse_sigmoid",
    "tanh",
)
_RECTIFIERS = ("celu", "elu", "leaky_relu", "prelu", "relu", "relu6", "threshold")

# By how much a variance may have changed at the end to be called kept.
_FACTOR = 4.0
# How deep a plain network is thought to be where nobody says.
_DEPTH = 50
# The width at which weights of a fixed size are judged.
_WIDTH = 512

_GLOROT_2010 = "Glorot and Bengio, AISTATS 2010"
_HE = "He, Zhang, Ren and Sun, ICCV 2015, arXiv:1502.01852"
_CHAOS = (
    "Poole and others, NeurIPS 2016, arXiv:1606.05340",
    "Schoenholz and others, ICLR 2017, arXiv:1611.01232",
    "Hayou, Doucet and Rousseau, ICML 2019, arXiv:1902.06853",
)
_SELU = "Klambauer and others, NeurIPS 2017, arXiv:1706.02515"
_SAXE = "Saxe, McClelland and Ganguli, ICLR 2014, arXiv:1312.6120"
_IRNN = "Le, Jaitly and Hinton, 2015, arXiv:1504.00941"
_FORGET = (
    "Gers, Schmidhuber and Cummins, Neural Computation 12, 2000",
    "Jozefowicz, Zaremba and Sutskever, ICML 2015",
)
_RESIDUAL = (
    "Radford and others, GPT-2, 2019",
    "Zhang, Dauphin and Ma, ICLR 2019, arXiv:1901.09321",
    "De and Smith, NeurIPS 2020, arXiv:2002.10444",
)
_ZERO_GAMMA = "Goyal and others, 2017, arXiv:1706.02677"
_ATTENTION = "Vaswani and others, NeurIPS 2017, arXiv:1706.03762"
_BATCH_NORM = "Ioffe and Szegedy, ICML 2015, arXiv:1502.03167"
_DELTA = "Xiao and others, ICML 2018, arXiv:1806.05393"


@dataclass(frozen=True)
class Alternative:
    """Another good choice.

    Attributes:
        weights: What to use instead, by the names of weights.
        when: When to.
    """

    weights: Mapping[str, Initializer]
    when: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {"weights": _plain_weights(self.weights), "when": self.when}


@dataclass(frozen=True)
class Judgement:
    """What is to be said of an initializer that was proposed for the kernel.

    Attributes:
        initializer: What was proposed.
        verdict: `"good"` if the variance of signals is kept within a factor of 4 over the depth, `"poor"` if
            not, `"refused"` if no network could learn from it.
        signal: The variance of the inputs of units in the last layer, of a signal of variance 1.
        gradient: The factor by which the variance of gradients changes from the last layer to the first.
        text: The same in words.
    """

    initializer: Initializer
    verdict: str
    signal: float
    gradient: float
    text: str

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "initializer": _plain_initializer(self.initializer),
            "verdict": self.verdict,
            "signal": _finite(self.signal),
            "gradient": _finite(self.gradient),
            "text": self.text,
        }


@dataclass(frozen=True)
class Recommendation:
    """What to initialize each weight of a layer with. `print` shows it as a table.

    Attributes:
        activation: The name of the activation, with its parameter.
        layer: The family of the layer.
        layout: `"keras"` or `"torch"`: which axes of the kernels are which, in `weights`.
        weights: An initializer for each weight, by name.
        keras: How to say the same in Keras, by the same names.
        torch: How to say the same with the functions of `fastinit.torch`, most of which are those of
            `torch.nn.init`; `w` is the weight, `b` the bias.
        reason: Why.
        alternatives: What else is good, and when.
        warnings: What to look out for.
        sources: The papers.
        gain: The gain of the activation, the square root of `scale`; `None` if no activation plays a part.
        slope: The slope of the map of variances at the variance that layers pass on: above 1 a plain stack of
            such layers does not keep it. `None` as for `gain`.
        gradient: What each layer of a plain stack multiplies the variance of gradients by. `None` as for
            `gain`.
        judgement: What is to be said of `proposal`, if there was one.
    """

    activation: str
    layer: str
    layout: str
    weights: Mapping[str, Initializer]
    keras: Mapping[str, str]
    torch: Mapping[str, str]
    reason: str
    alternatives: tuple[Alternative, ...]
    warnings: tuple[str, ...]
    sources: tuple[str, ...]
    gain: float | None = None
    slope: float | None = None
    gradient: float | None = None
    judgement: Judgement | None = None

    def __str__(self) -> str:
        """The table, and below it the reason and the rest."""
        rows = [
            (name, short(made), self.keras.get(name, ""), self.torch.get(name, ""))
            for name, made in self.weights.items()
        ]
        lines = [
            f"{self.layer}, {self.activation}",
            table(("weight", "fastinit", "Keras", "PyTorch"), rows),
            "",
        ]
        if self.judgement is not None:
            lines.append(f"proposal: {self.judgement.verdict}. {self.judgement.text}")
        notes = [("why", self.reason), *(("note", text) for text in self.warnings)]
        notes += [
            ("or", f"{', '.join(f'{k} {short(v)}' for k, v in other.weights.items())}: {other.when}")
            for other in self.alternatives
        ]
        lines += [f"{title}: {text}" for title, text in notes]
        if self.sources:
            lines.append(f"sources: {'; '.join(self.sources)}")
        return "\n".join(lines)

    def to_dict(self) -> dict[str, Any]:
        """Plain values, for JSON; initializers as what `fastinit.get` takes."""
        return {
            "activation": self.activation,
            "layer": self.layer,
            "layout": self.layout,
            "weights": _plain_weights(self.weights),
            "keras": dict(self.keras),
            "torch": dict(self.torch),
            "reason": self.reason,
            "alternatives": [other.to_dict() for other in self.alternatives],
            "warnings": list(self.warnings),
            "sources": list(self.sources),
            "gain": self.gain,
            "slope": self.slope,
            "gradient": self.gradient,
            "judgement": None if self.judgement is None else self.judgement.to_dict(),
        }


def _plain_initializer(initializer: Initializer) -> dict[str, Any]:
    return {"class_name": type(initializer).__name__, "config": initializer.get_config()}


def _plain_weights(weights: Mapping[str, Initializer]) -> dict[str, Any]:
    return {name: _plain_initializer(made) for name, made in weights.items()}


def _finite(x: float) -> float | str:
    """A number that JSON has, or its name."""
    return x if math.isfinite(x) else str(x)


@dataclass(frozen=True)
class _Question:
    """What was asked, checked."""

    activation: Activation
    layer: Layer
    flow: Flow
    mode: str | None
    distribution: str | None
    bias: Initializer
    depth: int | None

    @property
    def is_rectifier(self) -> bool:
        return self.activation.known and self.activation.name in _RECTIFIERS

    @property
    def is_glorot(self) -> bool:
        """Whether the fan is the mean of both, unless another was asked for."""
        return self.activation.known and self.activation.name in _GLOROT and not self.flow.bias_std


@dataclass(frozen=True)
class _Answer:
    """The part of a recommendation that depends on the family."""

    weights: dict[str, Initializer]
    reason: str
    alternatives: tuple[Alternative, ...] = ()
    warnings: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    is_activated: bool = True


def recommend(
    activation: object = None,
    layer: object = "dense",
    *,
    distribution: str | None = None,
    mode: str | None = None,
    param: float | None = None,
    bias: float = 0.0,
    depth: int | None = None,
    layout: str | None = None,
    groups: int | None = None,
    proposal: object = None,
) -> Recommendation:
    """What to initialize each weight of a layer with, and why.

    The rule for kernels is one: the variance of signals shall be the same after each layer, and that of
    gradients as nearly as can be. For ReLU that is He's initialization, for SELU LeCun's, for an activation
    that is linear Glorot's; for all others it is variance scaling with the square of the gain, which is
    computed. Popular tables that have Glorot's for ReLU halve the variance in each layer; and plain Glorot's
    for tanh lets it fall as one over the depth, which a few layers bear.

    A variance lasts through a deep plain network, one without normalization and residual connections, only
    where the map that takes it from one layer to the next has a slope of at most 1 (`slope`). It is above 1,
    whatever the scale, for `gelu`, `silu`, `hard_silu`, `mish`, `glu`, `hard_shrink`, `soft_shrink` and
    `tanh_shrink` (and `threshold` above 0): with biases of zero the variance drifts off, and no scale can hold
    it. Random biases can; with `depth` given, and if the drift over that depth would be more than a factor
    of 4, they are recommended, together with the scale that goes with them. Then the variance after 50 layers
    is within a factor of 4 of that of the input for all activations. `exponential` has a scale that lasts, but
    it is not the square of its gain. For `softmax`, `log_softmax` and `sparsemax`, which couple units, the
    question has no meaning; they are taken as what follows an output layer.

    Gradients are another matter. They vanish in deep plain networks, at any scale that keeps signals, for
    `sigmoid`, `hard_sigmoid`, `sparse_sigmoid`, `log_sigmoid`, `softplus`, `squareplus`, `sparse_plus`,
    `exponential`, `hard_shrink` and, with random biases, `tanh_shrink` (`gradient`).

    Args:
        activation: What follows the layer: a name in any case, a function or layer of Keras, PyTorch or JAX,
            or a function that works element by element on arrays; `None` for what is usual, `"tanh"` for
            recurrent layers and else `"linear"`.
        layer: The family, `"dense"`, `"conv"`, `"depthwise_conv"`, `"separable_conv"`, `"conv_transpose"`,
            `"embedding"`, `"simple_rnn"`, `"lstm"`, `"gru"`, `"attention"`, `"normalization"`, `"output"` or
            `"residual"`; or the name, the class or an object of a layer of Keras or PyTorch.
        distribution: `"uniform"`, `"normal"` (truncated) or `"untruncated_normal"`; `None` for uniform with
            Glorot's and else normal.
        mode: `"fan_in"`, which keeps the variance of signals; `"fan_out"`, which keeps that of gradients, and
            has the backward gain; `"fan_avg"` or `"fan_geo_avg"`; `None` for `"fan_avg"` with Glorot's and
            else `"fan_in"`.
        param: The parameter of the activation, such as the slope of `"leaky_relu"`, as in `gain`.
        bias: What biases begin with. Other than 0, it also rules out random biases.
        depth: How many such layers follow each other without normalization or residual connections; of
            `"residual"`, how many branches are added, 2 for each block of a transformer.
        layout: `"keras"` for kernels with inputs and outputs as last axes, as in Keras and JAX, or `"torch"`;
            `None` for `"torch"` if `layer` is of PyTorch, and else `"keras"`.
        groups: The groups of a convolution; `None` for those of `layer`, if it has any.
        proposal: An initializer for the kernel, or its name, to be judged: the answer is in `judgement`.

    Returns:
        A `Recommendation`. Its `weights` are initializers of fastinit.

    Raises:
        ValueError: If a name is unknown or an argument out of range.
        TypeError: If an argument is of the wrong kind.

    Example:
        >>> import fastinit
        >>> fastinit.recommend("relu").weights["kernel"]
        HeNormal(seed=None, in_axis=-2, out_axis=-1, batch_axis=(), groups=1)
        >>> list(fastinit.recommend("tanh", "LSTM").weights)
        ['kernel', 'recurrent_kernel', 'bias', 'forget_bias']
        >>> print(fastinit.recommend("relu", proposal="glorot_uniform").judgement.verdict)
        poor
        >>> round(fastinit.recommend("gelu").slope, 3)  # above 1: a deep plain stack drifts
        1.144
        >>> fastinit.recommend("gelu", depth=50).weights["bias"]
        RandomNormal(mean=0.0, stddev=0.46..., seed=None)

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
        AISTATS 2010. He, Zhang, Ren and Sun, "Delving deep into rectifiers", ICCV 2015, arXiv:1502.01852.
        Hayou, Doucet and Rousseau, "On the impact of the activation function on deep neural networks
        training", ICML 2019, arXiv:1902.06853. Those of each answer are in its `sources`.
    """
    of_layer = resolve_layer(layer, layout, groups)
    question = _question(activation, of_layer, distribution, mode, param, bias, depth)
    answer = _FAMILIES[of_layer.family](question)
    flow = question.flow if answer.is_activated else None
    weights = answer.weights
    if question.activation.known and question.activation.name == "prelu" and answer.is_activated:
        weights = {**weights, "alpha": Constant(question.activation.param or 0.0)}
    return Recommendation(
        activation=str(question.activation),
        layer=of_layer.family,
        layout=of_layer.layout,
        weights=weights,
        keras={name: keras_spelling(name, made, of_layer) for name, made in weights.items()},
        torch={name: torch_spelling(name, made, of_layer) for name, made in weights.items()},
        reason=answer.reason,
        alternatives=answer.alternatives,
        warnings=answer.warnings,
        sources=answer.sources,
        gain=None if flow is None else math.sqrt(flow.scale),
        slope=None if flow is None else flow.slope,
        gradient=None if flow is None else flow.gradient,
        judgement=None if proposal is None else _judge(proposal, question, weights),
    )


def _question(
    activation: object,
    layer: Layer,
    distribution: str | None,
    mode: str | None,
    param: float | None,
    bias: float,
    depth: int | None,
) -> _Question:
    """The question, with its arguments checked."""
    if activation is None and layer.family in ("simple_rnn", "lstm", "gru"):
        activation = "tanh"
    found = resolve(activation, param)
    if mode is not None and mode not in _MODES:
        raise ValueError(f"mode must be one of {', '.join(_MODES)}; got {mode!r}{_near(mode, _MODES)}")
    if distribution is not None and distribution not in _DISTRIBUTIONS:
        known = ", ".join(_DISTRIBUTIONS)
        hint = _near(distribution, _DISTRIBUTIONS)
        raise ValueError(f"distribution must be one of {known}; got {distribution!r}{hint}")
    if isinstance(bias, bool) or not isinstance(bias, (int, float, np.floating, np.integer)):
        raise TypeError(f"bias must be a number; got {bias!r}")
    if not math.isfinite(bias):
        raise ValueError(f"bias must be finite; got {bias!r}")
    if depth is not None:
        try:
            depth = operator.index(depth)
        except TypeError:
            raise TypeError(f"depth must be an int; got {depth!r}") from None
        if depth < 1:
            raise ValueError(f"depth must be at least 1; got {depth}")
    # What couples units is a matter of the loss: the layer before is linear.
    flow = without_bias(resolve("linear") if found.kind == "joint" else found)
    is_plain = layer.family in ("dense", "conv", "depthwise_conv", "conv_transpose")
    drifts = depth is not None and not flow.is_stable and flow.slope**depth > _FACTOR
    if is_plain and drifts and bias == 0.0 and mode in (None, "fan_in"):
        flow = with_bias(found) or flow
    return _Question(
        activation=found,
        layer=layer,
        flow=flow,
        mode=mode,
        distribution=None if distribution is None else _DISTRIBUTIONS[distribution],
        bias=Zeros() if bias == 0.0 else Constant(bias),
        depth=depth,
    )


def _near(name: object, known: Mapping[str, object] | tuple[str, ...]) -> str:
    near = difflib.get_close_matches(str(name), list(known), n=1)
    return f"; did you mean {near[0]!r}?" if near else ""


# Kernels

_PRESETS: dict[tuple[float, str, str], Callable[..., Initializer]] = {
    (2.0, "fan_in", "truncated_normal"): HeNormal,
    (2.0, "fan_in", "uniform"): HeUniform,
    (1.0, "fan_in", "truncated_normal"): LecunNormal,
    (1.0, "fan_in", "uniform"): LecunUniform,
    (1.0, "fan_avg", "truncated_normal"): GlorotNormal,
    (1.0, "fan_avg", "uniform"): GlorotUniform,
}


def _scaled(scale: float, mode: str, distribution: str, axes: Mapping[str, Any]) -> Initializer:
    """Variance scaling, by its own name if it has one. ReLU6 differs from ReLU by less than a part in 10^8."""
    near = next((known for known in (1.0, 2.0) if abs(scale - known) < 1e-6), scale)
    preset = _PRESETS.get((near, mode, distribution))
    if preset is not None:
        return preset(**axes)
    return VarianceScaling(near, mode, distribution, **axes)


def _kernel(question: _Question, axes: str = "plain", *, scale: float | None = None) -> Initializer:
    """The kernel before the activation that was asked for; or before a linear one, with this scale."""
    is_glorot = question.is_glorot if scale is None else scale == 1.0
    mode = question.mode or ("fan_avg" if is_glorot else "fan_in")
    distribution = question.distribution or ("uniform" if is_glorot else "truncated_normal")
    if scale is None:
        scale = question.flow.scale
        if mode == "fan_out" and question.flow.gradient > 0.0:
            scale /= question.flow.gradient  # the square of the backward gain
    keys = dict(AXES[axes, question.layer.layout])
    if question.layer.groups > 1:
        keys["groups"] = question.layer.groups
    return _scaled(scale, mode, distribution, keys)


def _bias(question: _Question) -> Initializer:
    flow = question.flow
    return RandomNormal(stddev=flow.bias_std) if flow.bias_std else question.bias


def _reason(question: _Question) -> tuple[str, tuple[str, ...]]:
    """Why the kernel is as it is, and the papers."""
    activation, flow = question.activation, question.flow
    scale = f"{flow.scale:.4g}"
    if activation.kind == "joint":
        return (
            f"{activation} makes an output of the units together: what comes before it is linear, and Glorot's "
            "keeps the variance of signals and of gradients as equal as one scale can",
            (_GLOROT_2010,),
        )
    if flow.bias_std:
        return (
            f"with biases of zero no scale keeps the variance of {activation} in a plain network (slope "
            f"{without_bias(activation).slope:.3f}); with weights of variance {scale} / fan_in and biases of "
            f"standard deviation {flow.bias_std:.3g} it lasts, at {flow.variance:.3g} (slope {flow.slope:.2f})",
            _CHAOS,
        )
    if question.mode == "fan_out" and flow.gradient > 0.0:
        return (
            f"weights of variance {flow.scale / flow.gradient:.4g} / fan_out, 1 / E f'(z)**2, keep the variance "
            f"of gradients",
            (_HE,),
        )
    if activation.known and activation.name == "selu":
        return (
            "SELU has gain 1 by design, and pulls mean and variance to 0 and 1; AlphaDropout keeps them, dropout "
            "does not",
            (_SELU,),
        )
    if activation.known and activation.name == "linear":
        return ("gain 1; the fan is the mean of both, for signals and for gradients", (_GLOROT_2010,))
    if question.is_glorot:
        return (
            f"Glorot's with the gain of {activation}, {math.sqrt(flow.scale):.4f}: E f(z)**2 is 1 / {scale}, and "
            "without it the variance of signals would fall from layer to layer",
            (_GLOROT_2010, _CHAOS[0]),
        )
    if flow.variance != 1.0:
        return (
            f"at variance 1 the signal of {activation} is unstable, but at {flow.variance:.3g}, which weights of "
            f"variance {scale} / fan_in pass on, it is stable (slope {flow.slope:.2f})",
            _CHAOS,
        )
    if question.is_rectifier:
        return (
            f"E f(z)**2 is 1 / {scale} of E z**2: weights of variance {scale} / fan_in make up for it. Glorot's, "
            "found in many tables, was derived for linear units, and loses that factor in each layer",
            (_HE,),
        )
    return (
        f"the gain of {activation} is computed: E f(z)**2 is 1 / {scale}, and weights of variance {scale} / fan_in "
        "make up for it",
        (_HE, _CHAOS[0]),
    )


def _cautions(question: _Question) -> tuple[str, ...]:
    """What to look out for in a plain stack of such layers."""
    flow, activation = question.flow, question.activation
    depth = question.depth or _DEPTH
    found = []
    if not flow.is_stable:
        found.append(
            f"with biases of zero no scale keeps the variance of {activation} in a deep plain network: a "
            f"deviation grows by {flow.slope:.3f} in each layer. Use normalization or residual connections, or "
            "say depth= for random biases"
        )
    if flow.bias_std:
        found.append("the first layer, too, takes this kernel and this bias; biases are random, but learn as ever")
    change = flow.gradient**depth if flow.gradient > 0.0 else 0.0
    if not 1.0 / _FACTOR <= change <= _FACTOR:
        verb = "shrinks" if change < 1.0 else "grows"
        found.append(
            f"the variance of gradients {verb} by {flow.gradient:.3g} in each plain layer, {change:.1e} over {depth}"
        )
    return tuple(found)


def _others(question: _Question, weight: str, kernel: Initializer) -> tuple[Alternative, ...]:
    """Other choices for a kernel before the activation."""
    flow, is_dense = question.flow, question.layer.family in ("dense", "output")
    found = []
    flipped = {"uniform": "truncated_normal"}.get(question.distribution or "", "uniform")
    if question.distribution is None and question.is_glorot:
        flipped = "truncated_normal"
    other = _kernel(replace(question, distribution=flipped), _AXES_OF.get(question.layer.family, "plain"))
    words = "normal" if flipped == "truncated_normal" else "uniform"
    found.append(Alternative({weight: other}, f"the same variance, {words}"))
    if question.is_glorot and flow.scale > 1.0 + 1e-6:
        plain = _kernel(question, _AXES_OF.get(question.layer.family, "plain"), scale=1.0)
        found.append(
            Alternative({weight: plain}, "networks of a few layers; as most libraries do by default, without the gain")
        )
    if is_dense and flow.variance == 1.0 and not flow.bias_std:
        column = {} if question.layer.layout == "keras" else {"column_axis": 0}
        gain = _rounded(math.sqrt(flow.scale))
        found.append(
            Alternative({weight: Orthogonal(gain, **column)}, "very deep plain networks: less noise from layer to layer")
        )
    if question.layer.family == "conv" and question.layer.layout == "keras" and question.layer.groups == 1:
        found.append(
            Alternative(
                {weight: DeltaOrthogonal(_rounded(math.sqrt(flow.scale)))},
                "very deep plain networks, where inputs are not more than outputs",
            )
        )
    critical = with_bias(question.activation) if question.activation.kind != "joint" else None
    drifts = not 1.0 / _FACTOR <= flow.gradient ** (question.depth or _DEPTH) <= _FACTOR
    if critical is not None and not flow.bias_std and (drifts or not flow.is_stable):
        gains = abs(math.log(critical.gradient)) < abs(math.log(max(flow.gradient, 1e-300)))
        if gains or not flow.is_stable:
            axes = AXES[_AXES_OF.get(question.layer.family, "plain"), question.layer.layout]
            law = _scaled(critical.scale, "fan_in", "truncated_normal", axes)
            found.append(
                Alternative(
                    {weight: law, "bias": RandomNormal(stddev=critical.bias_std)},
                    f"deep plain networks: signals last (slope {critical.slope:.2f}), and gradients keep "
                    f"{critical.gradient:.3g} of their variance in each layer",
                )
            )
    found.append(
        Alternative(
            {weight: RandomNormal(stddev=0.05)},
            "shallow networks and prototypes only: it is unscaled, right for one width, "
            f"{flow.scale / 0.05**2:.0f}",
        )
    )
    found.append(
        Alternative(
            {weight: RandomUniform(-0.05, 0.05)},
            f"the same, right for the width {3 * flow.scale / 0.05**2:.0f}",
        )
    )
    return tuple(other for other in found if other.weights != {weight: kernel})


def _rounded(x: float) -> float:
    """A number that is 1 but for rounding, as 1."""
    return 1.0 if abs(x - 1.0) < 1e-9 else x


# Families

_AXES_OF = {"depthwise_conv": "depthwise", "conv_transpose": "transposed"}


def _plain(question: _Question) -> _Answer:
    """Dense layers and convolutions: a kernel, a bias, an activation."""
    family = question.layer.family
    weight = "depthwise_kernel" if family == "depthwise_conv" else "kernel"
    kernel = _kernel(question, _AXES_OF.get(family, "plain"))
    reason, sources = _reason(question)
    warnings = _cautions(question)
    if family == "conv":
        reason += "; the fan counts all taps"
        sources = (*sources, _DELTA)
    if family == "depthwise_conv":
        reason += "; each output sees one channel, so that fan_in is height * width"
    if family == "conv_transpose":
        reason += "; inputs are the last axis of the kernel in Keras and the first in PyTorch"
        warnings = (*warnings, "with strides each output sums only fan_in / prod(strides): multiply the scale by that")
    return _Answer(
        {weight: kernel, "bias": _bias(question)},
        reason,
        _others(question, weight, kernel),
        warnings,
        sources,
    )


def _separable(question: _Question) -> _Answer:
    reason, sources = _reason(question)
    between = _kernel(replace(question, mode="fan_in"), "depthwise", scale=1.0)
    if question.distribution is None:
        between = LecunNormal(**AXES["depthwise", question.layer.layout])
    kernel = _kernel(question)
    return _Answer(
        {"depthwise_kernel": between, "pointwise_kernel": kernel, "bias": _bias(question)},
        f"between both steps there is no activation: gain 1 over height * width. For the second, {reason}",
        _others(question, "pointwise_kernel", kernel),
        _cautions(question),
        sources,
    )


def _embedding(_: _Question) -> _Answer:
    return _Answer(
        {"embeddings": RandomNormal(stddev=1.0)},
        "a row is picked, not summed: the fan is 1, and a row of variance 1 is a signal of variance 1. He's and "
        "Glorot's would take the size of the vocabulary for a fan",
        (
            Alternative(
                {"embeddings": TruncatedNormal(stddev=0.02)}, "transformers with normalization, as BERT and GPT-2"
            ),
            Alternative(
                {"embeddings": VarianceScaling(1.0, "fan_out", "untruncated_normal")},
                "variance 1 / dimension: where the output layer has the same weights, or rows are multiplied by "
                "sqrt(dimension)",
            ),
            Alternative({"embeddings": RandomUniform(-0.05, 0.05)}, "Keras's default: small, unscaled"),
        ),
        ("what comes next must expect variance 1: with weights tied to the output layer, take variance 1 / dimension",),
        (_ATTENTION, "Devlin and others, NAACL 2019, arXiv:1810.04805"),
        is_activated=False,
    )


def _recurrent(question: _Question) -> _Answer:
    """Vanilla recurrent layers, LSTM and GRU."""
    family, layout = question.layer.family, question.layer.layout
    gates = {"simple_rnn": 1, "lstm": 4, "gru": 3}[family]
    # Gates lie side by side: along the last axis in Keras, along the first in PyTorch.
    blocks: dict[str, Any] = {} if gates == 1 else {"blocks": gates}
    if gates > 1 and layout == "torch":
        blocks["block_axis"] = 0
    orthogonal = Orthogonal(**blocks)
    input_kernel = _kernel(question) if question.is_rectifier else _kernel(question, scale=1.0)
    is_relu_rnn = family == "simple_rnn" and question.activation.known and question.activation.name == "relu"
    recurrent = Identity() if is_relu_rnn else orthogonal
    weights = {"kernel": input_kernel, "recurrent_kernel": recurrent, "bias": question.bias}
    sources = [_SAXE, _HE if question.is_rectifier else _GLOROT_2010]
    reason = "an orthogonal recurrent kernel keeps norms from step to step"
    alternatives = []
    warnings = []
    if is_relu_rnn:
        reason = "the identity has units of ReLU remember what they have until the input says otherwise"
        sources.insert(0, _IRNN)
        warnings.append("clip gradients: nothing bounds what ReLU adds up over time")
        alternatives.append(Alternative({"recurrent_kernel": orthogonal}, "longer inputs, with clipped gradients"))
        alternatives.append(Alternative({"kernel": RandomNormal(stddev=0.001)}, "as the paper on the identity has it"))
    if family == "lstm":
        weights["forget_bias"] = Ones()
        reason += "; a forget gate that begins open, with bias 1, keeps the gradient of long ago"
        sources += _FORGET
        warnings.append(
            "the forget gate is the second quarter of the bias, [units:2 * units]; PyTorch has two biases, which "
            "add up: set one of them"
        )
    if gates > 1:
        reason += "; each gate has a matrix of its own (blocks)"
        warnings.append(
            f"the input kernel holds {gates} gates, and Glorot's fan_out counts them all, in every framework; "
            f"fastinit.keras has blocks={gates} for the fans of one gate"
        )
        if family == "gru":
            warnings.append("of the two biases of reset_after=True, and of PyTorch, both are zero")
    normal = replace(question, distribution="truncated_normal")
    other = _kernel(normal) if question.is_rectifier else _kernel(normal, scale=1.0)
    if other != input_kernel:
        alternatives.append(Alternative({"kernel": other}, "the same variance, normal"))
    return _Answer(weights, reason, tuple(alternatives), tuple(warnings), tuple(sources), is_activated=False)


def _attention(question: _Question) -> _Answer:
    to_heads, from_heads = (_kernel(question, axes, scale=1.0) for axes in ("to_heads", "from_heads"))
    weights: dict[str, Initializer] = {f"{name}_kernel": to_heads for name in ("query", "key", "value")}
    weights |= {"output_kernel": from_heads, "bias": question.bias}
    return _Answer(
        weights,
        "projections are linear: gain 1. Queries and keys of variance 1 have dot products of variance head_dim, which "
        "the scale 1 / sqrt(head_dim) undoes, so that the softmax begins soft",
        (
            Alternative(
                {"output_kernel": Zeros()},
                "in deep residual networks: each block begins as the identity; or scaled, see the layer 'residual'",
            ),
            Alternative(
                {name: TruncatedNormal(stddev=0.02) for name in weights if name != "bias"},
                "as BERT and GPT-2, near width 2500",
            ),
        ),
        (
            "a fused kernel of queries, keys and values is three matrices: initialize each on its own, or Glorot's "
            "takes all their outputs for one fan_out",
            "Keras counts the axes of (dimension, heads, head_dim) in another way; these initializers know them",
        ),
        (_ATTENTION, _GLOROT_2010),
        is_activated=False,
    )


def _normalization(question: _Question) -> _Answer:
    return _Answer(
        {"gamma": Ones(), "beta": question.bias, "moving_mean": Zeros(), "moving_variance": Ones()},
        "it begins as the normalization alone: mean 0 and variance 1",
        (Alternative({"gamma": Zeros()}, "the last normalization of a residual branch: the block begins as the identity"),),
        ("layers have those of these weights that they have: layer and RMS normalization no moving statistics",),
        (_BATCH_NORM, _ZERO_GAMMA),
        is_activated=False,
    )


def _output(question: _Question) -> _Answer:
    kernel = _kernel(question, scale=1.0)
    return _Answer(
        {"kernel": kernel, "bias": question.bias},
        f"what follows is the loss: logits of variance about 1 leave {question.activation} where it has slope",
        (
            Alternative({"kernel": Zeros()}, "first predictions that are all equal; units still get different gradients"),
            Alternative({"kernel": RandomNormal(stddev=0.01)}, "small first logits"),
        ),
        ("for rare classes, begin with biases of log(p / (1 - p)), the log odds: bias=",),
        (_GLOROT_2010, "Lin and others, ICCV 2017, arXiv:1708.02002"),
        is_activated=False,
    )


def _residual(question: _Question) -> _Answer:
    kernel = _kernel(question)
    depth = question.depth
    reason, sources = _reason(question)
    if depth is None:
        last: Initializer = Zeros()
        why = (
            "the last kernel of each branch is zero, so that the network begins as the identity whatever its depth; it "
            "learns at once, since the units before it differ. Inside, "
        )
    else:
        # What is summed has passed no activation on its way out.
        last = _kernel(replace(question, mode=question.mode or "fan_in"), scale=1.0 / depth)
        why = (
            f"{depth} branches add up: with the variance of each last kernel divided by {depth} their sum has that of the "
            "signal. Inside, "
        )
    others = [
        Alternative({"output_kernel": Zeros()}, "any depth: each block begins as the identity"),
        Alternative({"output_kernel": kernel, "last_gamma": Zeros()}, "branches that end in a normalization"),
    ]
    return _Answer(
        {"kernel": kernel, "output_kernel": last, "bias": question.bias},
        why + reason,
        tuple(others[1:] if depth is None else others),
        () if depth is not None else ("say depth=, the number of branches, for a last kernel that is scaled instead",),
        (*_RESIDUAL, _ZERO_GAMMA, *sources),
    )


_FAMILIES: dict[str, Callable[[_Question], _Answer]] = {
    "dense": _plain,
    "conv": _plain,
    "depthwise_conv": _plain,
    "separable_conv": _separable,
    "conv_transpose": _plain,
    "embedding": _embedding,
    "simple_rnn": _recurrent,
    "lstm": _recurrent,
    "gru": _recurrent,
    "attention": _attention,
    "normalization": _normalization,
    "output": _output,
    "residual": _residual,
}


# Proposals


def _judge(proposal: object, question: _Question, weights: Mapping[str, Initializer]) -> Judgement:
    """What a kernel of this kind would do in a plain network."""
    name = next((name for name in weights if name.endswith("kernel")), None)
    if name is None:
        raise ValueError(f"a proposal is for a kernel, and {question.layer.family} has none; got {proposal!r}")
    found = initializers.get(proposal)
    if not isinstance(found, Initializer):
        raise TypeError(f"proposal must be an initializer of fastinit, or its name; got {proposal!r}")
    words = short(found)
    square, is_constant = _squares(found)
    if is_constant:
        return Judgement(
            found,
            "refused",
            0.0,
            0.0,
            f"{words} gives all units of a layer the same weights: they compute the same, get the same gradient, and "
            "stay the same for ever, as if the layer had one unit",
        )
    activation = resolve("linear") if question.activation.kind == "joint" else question.activation
    depth = question.depth or _DEPTH
    scale = square * _WIDTH
    signal, gradient = after(activation, scale, 0.0, depth)
    verdict = "good" if 1.0 / _FACTOR <= signal <= _FACTOR else "poor"
    needed = without_bias(activation).scale
    text = (
        f"{words} has weights of variance {scale:.3g} / fan_in (fan {_WIDTH}) where {activation} needs {needed:.3g}: a "
        f"signal of variance 1 has {signal:.2g} after {depth} plain layers, and the variance of gradients changes by "
        f"{gradient:.2g} on the way back"
    )
    if isinstance(found, (RandomNormal, RandomUniform, TruncatedNormal)):
        text += f". It does not know the fan: it is right where that is about {needed / square:.0f}"
    if found in weights.values():
        verdict, text = "good", f"{words} is what is recommended. {text}"
    return Judgement(found, verdict, signal, gradient, text)


def _squares(initializer: Initializer) -> tuple[float, bool]:
    """The mean square of weights, and whether all of them are equal: of a kernel that is made."""
    problem: ValueError | None = None
    for shape in ((_WIDTH, _WIDTH), (1, _WIDTH, _WIDTH), (_WIDTH, 1, _WIDTH)):
        try:
            made = initializer(shape, seed=0, dtype="float64")
        except ValueError as error:
            problem = error
            continue
        return float(np.mean(np.square(made))), bool((made == made.flat[0]).all())
    raise ValueError(f"proposal: {problem}")
