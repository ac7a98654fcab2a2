"""The judgement of an initializer that is proposed for a kernel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastinit.guidance.propagate import propagate
from fastinit.initializers import (
    Initializer,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
    Zeros,
    get,
)
from fastinit.theory.parse import resolve
from fastinit.theory.variance import after, without_bias

from .question import DEPTH, FACTOR
from .recommendation import Judgement, JudgementVerdict
from .spelling import short

if TYPE_CHECKING:
    from fastinit.theory.activations import Activation

    from .families import Answer
    from .question import Question

# The width at which initializers are judged whose variance does not depend on it.
_WIDTH = 512
# The weight that a proposal is for: the first of these that a layer has.
_KERNELS = ("kernel", "pointwise_kernel", "depthwise_kernel", "query_kernel")


def judge(proposal: object, question: Question, answer: Answer) -> Judgement:
    """The effect of kernels of a proposed initializer in a plain network, with the recommended biases.

    Args:
        proposal: An initializer, its name or its configuration.
        question: The layer, the activation and the depth.
        answer: What is recommended.

    Raises:
        ValueError: If the layer has no kernel, or the proposal cannot make one.
        TypeError: If the proposal is not an initializer of fastinit.
    """
    right = next((answer.weights[name] for name in _KERNELS if name in answer.weights), None)
    if right is None:
        raise ValueError(
            f"proposal is for layers with a kernel, and {question.layer.family!r} has none, got {proposal!r}"
        )
    found = get(proposal)
    if not isinstance(found, Initializer):
        raise TypeError(f"proposal must be an initializer of fastinit, or its name, got {proposal!r:.200}")
    words = short(found)
    scale, is_constant = _scale(found)
    if is_constant:
        return Judgement(
            found,
            JudgementVerdict.REFUSED,
            0.0,
            0.0,
            f"{words} gives all units of a layer the same weights: they have the same outputs and gradients "
            "and stay equal in training, as if the layer had one unit. Random weights break the symmetry",
        )
    is_activated = answer.is_activated and question.activation.kind != "joint"
    activation = question.activation if is_activated else resolve("linear")
    flow = question.flow if is_activated else without_bias(activation)
    depth = question.depth or DEPTH
    is_unscaled = isinstance(found, (RandomNormal, RandomUniform, TruncatedNormal))
    if is_unscaled:
        elements = found.check((_WIDTH, _WIDTH))
        # A smaller mean is lost in the noise, also over many layers.
        if abs(elements.mean) * math.sqrt(_WIDTH) > 0.1 * elements.std:
            return _with_a_mean(found, elements.mean, activation, depth)
    signal, gradient = after(activation, scale, flow.bias_std, depth)
    biases = f", with biases of standard deviation {flow.bias_std:.3g}," if flow.bias_std else ""
    text = (
        f"{words} has weights of variance {scale:.3g} / fan where {activation} needs {flow.scale:.3g}: "
        f"{depth} plain layers{biases} turn a signal of variance 1 into one of {signal:.2g}, and multiply "
        f"the variance of gradients by {gradient:.2g}"
    )
    if is_unscaled:
        fan = flow.scale * _WIDTH / scale
        text += f". That is at width {_WIDTH}; its variance is the same at any fan, and right for {fan:.0f}"
    if found == right:
        text = f"it is what is recommended. {text}"
    return Judgement(found, _verdict(1.0 / FACTOR <= signal <= FACTOR), signal, gradient, text)


def _verdict(is_good: bool) -> JudgementVerdict:  # noqa: FBT001 - private
    return JudgementVerdict.GOOD if is_good else JudgementVerdict.POOR


def _with_a_mean(found: Initializer, mean: float, activation: Activation, depth: int) -> Judgement:
    """The judgement of weights whose mean is not 0: by computation, since the theory does not cover them."""
    widths = (_WIDTH,) * (depth + 1)
    series = propagate(activation, found, Zeros(), widths=widths, samples=16, seed=0)
    signal, gradient = float(series["preactivation_std"][-1]) ** 2, float(series["gradient_std"][0]) ** 2
    # Near 1 if the mean of the weights is 0.
    own = float(series["unit_distance"][-1])
    text = (
        f"{short(found)} has weights of mean {mean:.3g}, so that all units of a layer have a component in "
        f"common: {depth} plain layers of width {_WIDTH} and {activation} turn a signal of variance 1 into "
        f"one of {signal:.2g}, in which units differ by {own:.1%}, and multiply the variance of gradients by "
        f"{gradient:.2g}"
    )
    return Judgement(found, _verdict(1.0 / FACTOR <= signal <= FACTOR and own > 0.5), signal, gradient, text)


def _scale(initializer: Initializer) -> tuple[float, bool]:
    """The mean square of the weights of a square layer times its width, and whether all weights are equal."""
    if isinstance(initializer, VarianceScaling):
        return initializer.scale, False
    problem: ValueError | None = None
    for shape in ((_WIDTH, _WIDTH), (1, _WIDTH, _WIDTH)):  # a matrix, or a convolution of one tap
        try:
            made = initializer(shape, seed=0, dtype="float64")
        except ValueError as error:
            problem = error
        else:
            return float(np.mean(np.square(made))) * _WIDTH, bool((made == made.flat[0]).all())
    raise ValueError(f"the proposal {initializer!r} cannot make a kernel: {problem}")
