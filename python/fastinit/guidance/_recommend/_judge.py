"""What is to be said of an initializer that somebody proposes for a kernel."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from fastinit import initializers
from fastinit.initializers import Initializer, RandomNormal, RandomUniform, TruncatedNormal

from .._activations._resolve import resolve
from .._activations._variance import after, without_bias
from ._question import DEPTH, FACTOR
from ._recommendation import Judgement
from ._spelling import scaling, short

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._question import Question

# The width at which weights are judged whose variance does not depend on it.
_WIDTH = 512


def judge(proposal: object, question: Question, weights: Mapping[str, Initializer]) -> Judgement:
    """What a kernel of this kind would do in a plain network.

    Args:
        proposal: An initializer, its name or its configuration.
        question: The layer, the activation and the depth.
        weights: What is recommended.

    Raises:
        ValueError: If the layer has no kernel, or the proposal makes none.
        TypeError: If the proposal is none of fastinit.
    """
    if not any(name.endswith("kernel") for name in weights):
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
    activation = resolve("linear") if question.activation.kind == "joint" else question.activation
    depth = question.depth or DEPTH
    signal, gradient = after(activation, scale, 0.0, depth)
    is_kept = 1.0 / FACTOR <= signal <= FACTOR
    needed = without_bias(activation).scale
    text = (
        f"{words} has weights of variance {scale:.3g} / fan where {activation} needs {needed:.3g}: {depth} "
        f"plain layers make of a signal of variance 1 one of {signal:.2g}, and multiply the variance of "
        f"gradients by {gradient:.2g}"
    )
    if isinstance(found, (RandomNormal, RandomUniform, TruncatedNormal)):
        right = needed * _WIDTH / scale
        text += (
            f". That is at width {_WIDTH}; it does not know the fan, and is right where that is {right:.0f}"
        )
    if found in weights.values():
        text = f"it is what is recommended. {text}"
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
