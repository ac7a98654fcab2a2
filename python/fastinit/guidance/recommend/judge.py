"""The judgement of an initializer that is proposed for a kernel."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastinit.guidance.propagate import propagate
from fastinit.initializers import (
    DeltaOrthogonal,
    Dirac,
    Identity,
    Initializer,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    Sparse,
    TruncatedNormal,
    VarianceScaling,
    Zeros,
    get,
)
from fastinit.theory.depth import spread
from fastinit.theory.parse import resolve
from fastinit.theory.variance import after, without_bias

from .question import ALIKE, DEPTH, FLAT, LIMIT
from .recommendation import Judgement, JudgementVerdict
from .spelling import short

if TYPE_CHECKING:
    from fastinit._typing import Array
    from fastinit.theory.activations import Activation

    from .families import Answer
    from .question import Question

# The width at which initializers are judged whose variance does not depend on it.
_WIDTH = 512
# More layers are not simulated.
_MOST = 200
_UNSCALED = (RandomNormal, RandomUniform, TruncatedNormal)
_STRUCTURED = (Dirac, Identity, Sparse)
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
    is_activated = answer.is_activated and question.activation.kind != "joint"
    activation = question.activation if is_activated else resolve("linear")
    flow = question.flow if is_activated else without_bias(activation)
    depth, words = question.depth or DEPTH, short(found)
    scale = _scale(found)
    if scale is None:
        return _simulated(found, activation, depth)
    spread_ = spread(activation, scale, flow.bias_std, depth)
    signal, gradient = after(activation, scale, flow.bias_std, depth)
    distance = float(spread_.distance[1])
    biases = f", with biases of standard deviation {flow.bias_std:.3g}," if flow.bias_std else ""
    text = (
        f"{words} has weights of variance {scale:.3g} / fan where {activation} needs {flow.scale:.3g}: "
        f"{depth} plain layers{biases} turn a signal of variance 1 into one of {signal:.2g}, and multiply "
        f"the variance of gradients by {gradient:.2g} and the distance of inputs, relative to the signal, by "
        f"{distance:.2g}"
    )
    # Inputs differ in their variance, and where the slope is above 1, more and more.
    least, most = float(spread_.variance.min()), float(spread_.variance.max())
    verdict = _verdict(signal, gradient, distance)
    if verdict is not JudgementVerdict.POOR and not 1.0 / LIMIT <= least <= most <= LIMIT:
        verdict = JudgementVerdict.POOR
        text += f". Signals of variance 1/2 to 2 become those of {least:.2g} to {most:.2g}"
    if isinstance(found, _UNSCALED):
        fan = flow.scale * _WIDTH / scale
        text += f". That is at width {_WIDTH}; its variance is the same at any fan, and right for {fan:.0f}"
    if found == right:
        text = f"it is what is recommended. {text}"
        if verdict is not JudgementVerdict.GOOD:
            advice = "nothing is better" if question.is_deep else "pass depth= for what suits the depth"
            text += f". For that many layers {advice}"
    return Judgement(found, verdict, signal, gradient, distance, text)


def _verdict(signal: float, gradient: float, distance: float) -> JudgementVerdict:
    """The verdict on what the layers do to variances and distances that are 1 at first."""
    if distance < ALIKE or not all(1.0 / LIMIT <= x <= LIMIT for x in (signal, gradient)):
        return JudgementVerdict.POOR
    is_flat = all(1.0 / FLAT <= x <= FLAT for x in (signal, gradient))
    return JudgementVerdict.GOOD if is_flat else JudgementVerdict.FAIR


def _simulated(found: Initializer, activation: Activation, depth: int) -> Judgement:
    """The judgement of weights that are not independent with mean 0: by computation.

    The theory does not cover them. Biases are zero.
    """
    layers = min(depth, _MOST)
    widths = (_WIDTH,) * (layers + 1)
    series = propagate(activation, _matrices(found), Zeros(), widths=widths, samples=16, seed=0)
    signal, gradient = float(series["preactivation_std"][-1]) ** 2, float(series["gradient_std"][0]) ** 2
    own, distance = float(series["unit_distance"][-1]), float(series["sample_distance"][-1])
    matrix = _matrix(found)
    what = (
        f"{layers} plain layers of width {_WIDTH} and {activation} turn a signal of variance 1 into one of "
        f"{signal:.2g}, multiply the variance of gradients by {gradient:.2g} and the distance of inputs, "
        f"relative to the signal, by {distance:.2g}"
    )
    if (matrix == matrix.flat[0]).all():
        return Judgement(
            found,
            JudgementVerdict.REFUSED,
            signal,
            gradient,
            distance,
            f"{short(found)} gives all units of a layer the same weights: they have the same outputs and "
            "gradients and stay equal in training, as if the layer had one unit. Random weights break the "
            f"symmetry. {what}",
        )
    verdict = _verdict(signal, gradient, distance)
    if abs(matrix.mean()) * math.sqrt(_WIDTH) > 0.1 * matrix.std() and not isinstance(found, _STRUCTURED):
        what = (
            f"{short(found)} has weights of mean {matrix.mean():.3g}, so that all units of a layer have "
            + (f"a component in common, and differ by {own:.1%} in the last: {what}")
        )
    else:
        what = f"{short(found)}: {what}"
    if own <= 0.5:
        verdict = JudgementVerdict.POOR
    return Judgement(found, verdict, signal, gradient, distance, what)


def _matrices(initializer: Initializer) -> Any:
    """An initializer of matrices: of one for convolutions, those of its central tap."""

    def make(shape: tuple[int, ...], **options: Any) -> Array:
        try:
            return initializer(shape, **options)
        except ValueError:
            made: Array = initializer((1, *shape), **options)[0]
            return made

    return make


def _matrix(initializer: Initializer) -> Array:
    """A square matrix.

    Raises:
        ValueError: If the initializer cannot make a kernel.
    """
    try:
        made: Array = _matrices(initializer)((_WIDTH, _WIDTH), seed=0, stream=0, dtype="float64")
    except ValueError as error:
        raise ValueError(f"the proposal {initializer!r} cannot make a kernel: {error}") from None
    return made


def _scale(initializer: Initializer) -> float | None:
    """The variance of the weights times the fan; `None` where the theory does not apply.

    It applies to independent weights of mean 0, and to orthogonal matrices, in wide layers.
    """
    if isinstance(initializer, VarianceScaling):
        return initializer.scale
    matrix = _matrix(initializer)
    if isinstance(initializer, (Orthogonal, DeltaOrthogonal)):
        return float(np.mean(np.square(matrix))) * _WIDTH
    # A smaller mean is lost in the noise, also over many layers.
    if isinstance(initializer, _UNSCALED):
        elements = initializer.check((_WIDTH, _WIDTH))
        if abs(elements.mean) * math.sqrt(_WIDTH) <= 0.1 * elements.std:
            return float(np.mean(np.square(matrix))) * _WIDTH
    return None
