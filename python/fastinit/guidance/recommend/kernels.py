"""The initializer of a kernel before an activation, with the reason, alternatives and warnings."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastinit._registry import preset_name
from fastinit.initializers import (
    DeltaOrthogonal,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    VarianceScaling,
    get,
)
from fastinit.theory.variance import with_bias, without_bias

from . import papers
from .question import ALIKE, DEPTH, FLAT, LIMIT
from .recommendation import Alternative

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from fastinit.initializers import Initializer

    from .question import Question


def scaled(scale: float, mode: str, distribution: str, axes: Mapping[str, Any]) -> Initializer:
    """Variance scaling; the preset with these parameters if there is one."""
    # The scale of ReLU6 differs from that of ReLU by less than 1e-6.
    near = next((known for known in (1.0, 2.0) if abs(scale - known) < 1e-6), scale)
    preset = preset_name(near, mode, distribution)
    if preset is None:
        return VarianceScaling(near, mode, distribution, **axes)
    return get({"class_name": preset, "config": dict(axes)})


def kernel(question: Question, axes: str = "plain") -> Initializer:
    """The kernel before the activation.

    Args:
        question: The arguments of `recommend`.
        axes: The roles of the axes of the kernel, a key of `AXES`.
    """
    flow = question.flow
    if question.is_orthogonal:
        return _orthogonal(question)
    is_glorot = question.is_glorot and not flow.bias_std
    mode = question.mode or ("fan_avg" if is_glorot else "fan_in")
    scale = flow.scale
    if mode == "fan_out" and flow.gradient > 0.0:
        scale /= flow.gradient  # the square of the backward gain
    distribution = question.distribution or ("uniform" if is_glorot else "truncated_normal")
    return scaled(scale, mode, distribution, question.layer.axes(axes))


def _orthogonal(question: Question) -> Initializer:
    column_axis = -1 if question.layer.layout == "in_out" else 0
    return Orthogonal(math.sqrt(question.flow.scale), column_axis=column_axis)


def linear_kernel(question: Question, axes: str = "plain") -> Initializer:
    """The kernel where the activation is linear or not compensated for: Glorot's."""
    mode, distribution = question.mode or "fan_avg", question.distribution or "uniform"
    return scaled(1.0, mode, distribution, question.layer.axes(axes))


def bias(question: Question) -> Initializer:
    """The bias before the activation."""
    flow = question.flow
    return RandomNormal(stddev=flow.bias_std) if flow.bias_std else question.bias


def reason(question: Question) -> tuple[str, tuple[str, ...]]:
    """Why the kernel is as it is, and the papers."""
    why, sources = _deep_reason(question) if question.is_deep else _reason(question)
    if question.is_orthogonal:
        why += (
            ". Orthogonal, since it scales all directions alike, while the products of many independent "
            "matrices scale a few of them by far more than the others"
        )
        sources = (*sources, papers.SAXE, papers.ISOMETRY)
    return why, sources


def _deep_reason(question: Question) -> tuple[str, tuple[str, ...]]:
    """The reason where the usual scale does not last for the depth."""
    flow, usual, depth = question.flow, without_bias(question.activation), question.depth or DEPTH
    found = question.effect()
    fault = f"multiplies the variance of gradients by {usual.gradient:.3g} in each layer"
    if question.is_kept(usual.gradient) or not usual.is_stable:
        fault = f"does not preserve the variance of signals (slope {usual.slope:.3f})"
    biases = f" and biases of standard deviation {flow.bias_std:.3g}" if flow.bias_std else ""
    return (
        f"the usual gain for {question.activation}, {math.sqrt(usual.scale):.4g}, {fault}. The gain "
        f"{math.sqrt(flow.scale):.4g}{biases} is the best compromise for {depth} plain layers: they turn a "
        f"signal of variance 1 into one of {found.variance:.2g}, multiply the variance of gradients by "
        f"{found.gradient:.2g}, and the distance of inputs, relative to the signal, by {found.distance:.2g}",
        papers.CHAOS,
    )


def _reason(question: Question) -> tuple[str, tuple[str, ...]]:
    """The reason for the usual scale."""
    activation, flow = question.activation, question.flow
    scale = f"{flow.scale:.4g}"
    square = f"{activation} has E f(z)**2 = {1.0 / flow.scale:.4g} for a standard normal z"
    if activation.kind == "joint":
        return (
            f"{activation} couples the outputs: the layer before it counts as linear, with gain 1, and the "
            "mean of both fans is a compromise between signals and gradients",
            (papers.GLOROT,),
        )
    if question.mode == "fan_out" and flow.gradient > 0.0:
        return (
            f"{activation} has E f'(z)**2 = {flow.gradient / flow.scale:.4g} for a standard normal z: "
            f"weights of variance {flow.scale / flow.gradient:.4g} / fan_out preserve the variance of "
            "gradients",
            (papers.HE,),
        )
    if question.is_("selu"):
        return (
            "SELU has gain 1 by design, and drives mean and variance to 0 and 1. AlphaDropout preserves "
            "them, other dropout does not",
            (papers.SELU,),
        )
    if question.is_("linear"):
        return (
            "gain 1; the mean of both fans is a compromise between signals and gradients",
            (papers.GLOROT,),
        )
    if question.is_glorot:
        return (
            f"Glorot's, with the gain {math.sqrt(flow.scale):.4f}: {square}. Without the gain signals shrink "
            "from layer to layer, or towards their mean",
            (papers.GLOROT, papers.CHAOS[0]),
        )
    if flow.variance != 1.0:
        return (
            f"at variance 1 the signal of {activation} is unstable. With weights of variance {scale} / "
            f"fan_in it is stable at {flow.variance:.3g} (slope {flow.slope:.2f})",
            papers.CHAOS,
        )
    if question.is_rectifier:
        return (
            f"He's, with the gain {math.sqrt(flow.scale):.4f}: {square}, and weights of variance {scale} / "
            "fan_in compensate for it. Glorot's, found in many tables, was derived for linear units and "
            "loses this factor in each layer",
            (papers.HE,),
        )
    return (
        f"the gain is computed: {square}, and weights of variance {scale} / fan_in compensate for it",
        (papers.HE, papers.CHAOS[0]),
    )


def cautions(question: Question) -> tuple[str, ...]:
    """Warnings about plain stacks of such layers."""
    flow, depth = question.flow, question.depth or DEPTH
    found = []
    if question.is_orthogonal:
        found.append(
            "where a layer has more outputs than inputs, orthogonal weights are smaller: multiply the gain "
            "by sqrt(outputs / inputs)"
        )
    if question.is_deep:
        return (*found, *_deep_cautions(question))
    if not flow.is_stable:
        advice = "; random biases do not help" if with_bias(question.activation) is None else ""
        advice = advice or (", or pass depth= for random biases" if question.depth is None else "")
        found.append(
            f"with zero biases no scale preserves the variance of {question.activation} in a deep plain "
            f"network: each layer multiplies a deviation by {flow.slope:.3f}. Use normalization or residual "
            f"connections{advice}"
        )
    if not question.is_kept(flow.gradient):
        with np.errstate(over="ignore"):
            total = np.float64(flow.gradient) ** depth
        advice = "; pass depth= for a scale that suits the depth" if question.depth is None else ""
        found.append(
            f"in a plain network each layer multiplies the variance of gradients by {flow.gradient:.3g}, and "
            f"{depth} layers by {total:.1e}{advice}"
        )
    return tuple(found)


def _deep_cautions(question: Question) -> list[str]:
    """Warnings where even the best scale for the depth is not good."""
    effect, depth, found = question.effect(), question.depth or DEPTH, []
    # A small signal does no harm, as with tanh at the edge of chaos; a large one saturates, or diverges.
    if not 1.0 / LIMIT <= effect.variance <= FLAT:
        found.append(f"the variance of the signal becomes {effect.variance:.2g}")
    if not 1.0 / FLAT <= effect.gradient <= FLAT:
        found.append(f"that of gradients is multiplied by {effect.gradient:.2g}")
    if effect.distance < ALIKE:
        found.append(f"different inputs become alike, with a distance of {effect.distance:.2g} of the signal")
    if not found:
        return []
    return [
        f"no scale preserves signals, gradients and distances over {depth} plain layers of "
        f"{question.activation}: {'; '.join(found)}. Use normalization, residual connections or another "
        "activation"
    ]


def others(question: Question, weight: str, axes: str = "plain") -> tuple[Alternative, ...]:
    """Other choices for the kernel before the activation."""
    flow, layer = question.flow, question.layer
    found = [same_variance(question, weight, axes)]
    if question.is_glorot and flow.scale > 1.0 + 1e-6:
        found.append(
            Alternative({weight: linear_kernel(question, axes)}, "networks of a few layers: without the gain")
        )
    gain = math.sqrt(flow.scale)
    is_fit = layer.family == "dense" and question.activation.kind == "elementwise" and not flow.bias_std
    if is_fit and not question.is_orthogonal:
        when = "very deep networks: less noise from layer to layer"
        found.append(Alternative({weight: _orthogonal(question)}, when))
    if layer.family == "conv" and layer.layout == "in_out" and layer.groups == 1 and not flow.bias_std:
        found.append(
            Alternative(
                {weight: DeltaOrthogonal(gain)}, "very deep plain networks; no more inputs than outputs"
            )
        )
    found += _critical(question, weight, axes)
    return (
        *found,
        Alternative(
            {weight: RandomNormal(stddev=0.05)},
            "shallow networks and prototypes: standard deviation 0.05, right for a fan of "
            f"{flow.scale / 0.05**2:.0f} only",
        ),
        Alternative(
            {weight: RandomUniform(-0.05, 0.05)},
            f"the same, from -0.05 to 0.05, right for a fan of {3 * flow.scale / 0.05**2:.0f} only",
        ),
    )


def same_variance(
    question: Question,
    weight: str,
    axes: str = "plain",
    make: Callable[[Question, str], Initializer] = kernel,
) -> Alternative:
    """The kernel with another distribution."""
    uniform = make(replace(question, distribution="uniform"), axes)
    normal = make(replace(question, distribution="truncated_normal"), axes)
    if question.is_orthogonal and make is kernel:
        return Alternative({weight: normal}, "the same variance, normal, where the layers are not orthogonal")
    if make(question, axes) != uniform:
        return Alternative({weight: uniform}, "the same variance, uniform")
    return Alternative({weight: normal}, "the same variance, normal")


def _critical(question: Question, weight: str, axes: str) -> list[Alternative]:
    """Random biases, where they preserve a variance that zero biases do not."""
    flow = question.flow
    if question.activation.kind == "joint" or question.is_deep:
        return []
    other = with_bias(question.activation)
    if other is None or (flow.is_stable and question.is_kept(flow.gradient)):
        return []
    if flow.is_stable and not question.is_kept(other.gradient):
        return []
    distribution = question.distribution or "truncated_normal"
    critical = scaled(other.scale, "fan_in", distribution, question.layer.axes(axes))
    return [
        Alternative(
            {weight: critical, "bias": RandomNormal(stddev=other.bias_std)},
            f"deep plain networks: signals are stable (slope {other.slope:.2f}), and each layer multiplies "
            f"the variance of gradients by {other.gradient:.3g}",
        )
    ]
