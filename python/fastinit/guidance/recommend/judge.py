"""What is to be said of an initializer that somebody proposes for a kernel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

import numpy as np

from fastinit import initializers
from fastinit.initializers import Initializer, RandomNormal, RandomUniform, TruncatedNormal

from fastinit.theory.parse import resolve
from fastinit.theory.variance import after, without_bias

from .question import DEPTH, FACTOR
from .recommendation import Judgement
from .spelling import scaling, short

if TYPE_CHECKING:
    from fastinit.theory.activations import Activation

    from .families import Answer
    from .question import Question

# The width at which weights are judged whose variance does not depend on it.
_WIDTH = 512


# The weight that a proposal is for: the first of these that a layer has.
_KERNELS = ("kernel", "pointwise_kernel", "depthwise_kernel", "query_kernel")


def judge(proposal: object, question: Question, answer: Answer) -> Judgement:
    """What a kernel of this kind would do in a plain network, with the biases that are recommended.

    Args:
        proposal: An initializer, its name or its configuration.
        question: The layer, the activation and the depth.
        answer: What is recommended.

    Raises:
        ValueError: If the layer has no kernel, or the proposal makes none.
        TypeError: If the proposal is none of fastinit.
    """
    right = next((answer.weights[name] for name in _KERNELS if name in answer.weights), None)
    if right is None:
        raise ValueError(
            f"a proposal is for a kernel, and {question.layer.family!r} has none; got {proposal!r}"
        )
    found = initializers.get(proposal)
    if not isinstance(found, Initializer):
        raise TypeError(f"proposal must be an initializer of fastinit, or its name; got {proposal!r:.200}")
    words = short(found)
    scale, is_constant = _scale(found)
    if is_constant:
        return Judgement(
            found,
            "refused",
            0.0,
            0.0,
            f"{words} gives all units of a layer the same weights: they compute the same, get the same "
            "gradient, and stay the same for ever, as if the layer had one unit. Random weights break the "
            "symmetry",
        )
    is_activated = answer.is_activated and question.activation.kind != "joint"
    activation = question.activation if is_activated else resolve("linear")
    flow = question.flow if is_activated else without_bias(activation)
    depth = question.depth or DEPTH
    is_unscaled = isinstance(found, (RandomNormal, RandomUniform, TruncatedNormal))
    law = found.check((_WIDTH, _WIDTH)) if is_unscaled else None
    # What is smaller is lost in the noise, also in many layers.
    if law is not None and abs(law.mean) * math.sqrt(_WIDTH) > 0.1 * law.std:
        return _with_a_mean(found, law.mean, activation, depth)
    signal, gradient = after(activation, scale, flow.bias_std, depth)
    is_kept = 1.0 / FACTOR <= signal <= FACTOR
    biases = f", with biases of standard deviation {flow.bias_std:.3g}," if flow.bias_std else ""
    text = (
        f"{words} has weights of variance {scale:.3g} / fan where {activation} needs {flow.scale:.3g}: "
        f"{depth} plain layers{biases} make of a signal of variance 1 one of {signal:.2g}, and multiply the "
        f"variance of gradients by {gradient:.2g}"
    )
    if is_unscaled:
        fan = flow.scale * _WIDTH / scale
        text += f". That is at width {_WIDTH}; it does not know the fan, and is right where that is {fan:.0f}"
    if found == right:
        text = f"it is what is recommended. {text}"
    return Judgement(found, "good" if is_kept else "poor", signal, gradient, text)


def _with_a_mean(found: Initializer, mean: float, activation: Activation, depth: int) -> Judgement:
    """What weights do that are not around zero, of which the theory knows nothing: it is tried out."""
    from fastinit.guidance.signal import signal as multiplied_through  # which takes recommendations

    run = multiplied_through(found, activation=activation, depth=depth, width=_WIDTH, samples=16).runs[0]
    signal, gradient = float(run.preactivation_std[-1]) ** 2, float(run.gradient_std[0]) ** 2
    # How far units differ, of what they sum up: nearly all of it, where weights are around zero.
    own = float(run.unit_distance[-1])
    is_kept = 1.0 / FACTOR <= signal <= FACTOR and own > 0.5
    text = (
        f"{short(found)} has weights of mean {mean:.3g}, which give all units of a layer a part in common: "
        f"{depth} plain layers of width {_WIDTH} and {activation} make of a signal of variance 1 one of "
        f"{signal:.2g}, of which units differ by {own:.1%}, and multiply the variance of gradients by "
        f"{gradient:.2g}"
    )
    return Judgement(found, "good" if is_kept else "poor", signal, gradient, text)


def _scale(initializer: Initializer) -> tuple[float, bool]:
    """The mean square of weights times the width of a square layer, and whether all are equal."""
    if hasattr(initializer, "in_axis"):
        return scaling(initializer)[0], False
    problem: ValueError | None = None
    for shape in ((_WIDTH, _WIDTH), (1, _WIDTH, _WIDTH)):  # a matrix, or a convolution of one tap
        try:
            made = initializer(shape, seed=0, dtype="float64")
        except ValueError as error:
            problem = error
        else:
            return float(np.mean(np.square(made))) * _WIDTH, bool((made == made.flat[0]).all())
    raise ValueError(f"the proposal {initializer!r} makes no kernel: {problem}")
