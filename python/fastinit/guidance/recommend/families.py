"""The recommendations for each family of layers: an initializer for every weight, and the reasons."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from fastinit.initializers import (
    Identity,
    Ones,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
    Zeros,
)

from . import papers
from .kernels import bias, cautions, kernel, linear_kernel, others, reason, same_variance, scaled
from .layers import AXES
from .recommendation import Alternative

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastinit.initializers import Initializer

    from .question import Question


@dataclass(frozen=True)
class Answer:
    """The part of a recommendation that depends on the family.

    Attributes:
        weights, reason, alternatives, warnings, sources: As in `Recommendation`.
        is_activated: Whether the gain of the activation matters.
    """

    weights: dict[str, Initializer]
    reason: str
    alternatives: tuple[Alternative, ...] = ()
    warnings: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    is_activated: bool = True


def _plain(question: Question) -> Answer:
    """Dense layers and convolutions: a kernel, a bias, an activation."""
    family = question.layer.family
    weight, axes = {
        "depthwise_conv": ("depthwise_kernel", "depthwise"),
        "conv_transpose": ("kernel", "transposed"),
    }.get(family, ("kernel", "plain"))
    note = {
        "conv": ". The fan counts all taps",
        "depthwise_conv": ". Each output depends on one channel, so that fan_in is height * width",
        "conv_transpose": ". The inputs are the last axis of the kernel in Keras, and the first in PyTorch",
    }.get(family, "")
    warnings, (why, sources) = cautions(question), reason(question)
    if family == "conv_transpose":
        strides = "with strides each output sums only fan_in / prod(strides) products: multiply the scale by "
        warnings = (*warnings, f"{strides}prod(strides)")
    return Answer(
        {weight: kernel(question, axes), "bias": bias(question)},
        why + note,
        others(question, weight, axes),
        warnings,
        (*sources, papers.DELTA) if family == "conv" else sources,
    )


def _separable(question: Question) -> Answer:
    why, sources = reason(question)
    distribution = question.distribution or "truncated_normal"
    first = scaled(1.0, "fan_in", distribution, AXES["depthwise", question.layer.layout])
    return Answer(
        {"depthwise_kernel": first, "pointwise_kernel": kernel(question), "bias": bias(question)},
        f"there is no activation between both kernels: gain 1, and fan_in is height * width. Then, {why}",
        others(question, "pointwise_kernel"),
        cautions(question),
        sources,
    )


def _embedding(_: Question) -> Answer:
    by_dimension = VarianceScaling(1.0, "fan_out", "untruncated_normal")
    return Answer(
        {"embeddings": RandomNormal(stddev=1.0)},
        "a row is selected, nothing is summed: the fan is 1, and rows of variance 1 are a signal of variance "
        "1. He's and Glorot's would use the size of the vocabulary as a fan",
        (
            Alternative({"embeddings": TruncatedNormal(stddev=0.02)}, "transformers such as BERT and GPT-2"),
            Alternative(
                {"embeddings": by_dimension},
                "variance 1 / dimension: if the output layer shares the weights, or rows are multiplied by "
                "sqrt(dimension)",
            ),
            Alternative({"embeddings": RandomUniform(-0.05, 0.05)}, "Keras's default: small, unscaled"),
        ),
        (
            "if the output layer shares the weights, use variance 1 / dimension, otherwise logits are too "
            "large",
        ),
        (papers.ATTENTION, papers.BERT, papers.GPT_2),
        is_activated=False,
    )


def _recurrent(question: Question) -> Answer:
    """Vanilla recurrent layers, LSTM and GRU."""
    family = question.layer.family
    gates = {"simple_rnn": 1, "lstm": 4, "gru": 3}[family]
    # The gates are blocks along the axis of the outputs.
    orthogonal = Orthogonal(blocks=gates, column_axis=0 if question.layer.layout == "out_in" else -1)
    make = kernel if question.is_rectifier else linear_kernel
    weights = {"kernel": make(question), "recurrent_kernel": orthogonal, "bias": question.bias}
    why = "an orthogonal recurrent kernel keeps norms from step to step"
    sources: tuple[str, ...] = (papers.SAXE, papers.HE if question.is_rectifier else papers.GLOROT)
    warnings, alternatives = [], []
    if family == "simple_rnn" and question.is_("relu"):
        weights["recurrent_kernel"] = Identity()
        why = "with the identity, units of ReLU keep their state until the input changes it"
        sources = (papers.IDENTITY, *sources)
        warnings.append("clip gradients: the state of ReLU units is not bounded")
        alternatives += [
            Alternative(
                {"recurrent_kernel": orthogonal}, "more mixing between units, with clipped gradients"
            ),
            Alternative(
                {"kernel": RandomNormal(stddev=0.001)}, "long sequences, as in the paper of Le and others"
            ),
        ]
    if gates > 1:
        why += ", one matrix for each gate (blocks)"
        warnings.append(
            f"the input kernel contains {gates} gates, and the fan_out of Glorot's counts all of them; pass "
            f"blocks={gates} for the fans of one gate"
        )
    if family == "lstm":
        weights["forget_bias"] = Ones()
        why += ". With a bias of 1 the forget gate is open at first, and gradients reach far back"
        sources = (*sources, *papers.FORGET)
        warnings.append(
            "forget_bias is the second quarter of the bias, [units:2 * units]. PyTorch adds two biases: set "
            "it in one of them"
        )
    alternatives.append(same_variance(question, "kernel", make=make))
    return Answer(
        weights, why, tuple(alternatives), tuple(warnings), sources, is_activated=question.is_rectifier
    )


def _attention(question: Question) -> Answer:
    to_heads = linear_kernel(question, "to_heads")
    kernels: dict[str, Initializer] = {
        "query_kernel": to_heads,
        "key_kernel": to_heads,
        "value_kernel": to_heads,
        "output_kernel": linear_kernel(question, "from_heads"),
    }
    return Answer(
        {**kernels, "bias": question.bias},
        "projections are linear: gain 1. Products of queries and keys of variance 1 have variance head_dim; "
        "the division by sqrt(head_dim) makes it 1, so that the softmax is not saturated",
        (
            Alternative({"output_kernel": Zeros()}, "deep networks: each block is the identity at first"),
            Alternative({name: TruncatedNormal(stddev=0.02) for name in kernels}, "as in BERT and GPT-2"),
        ),
        (
            "a fused kernel of queries, keys and values is three matrices: pass blocks=3, otherwise the "
            "fan_out of Glorot's counts the outputs of all three",
            "for a deep transformer, scale output_kernel as recommended for the layer 'residual'",
        ),
        (papers.ATTENTION, papers.GLOROT),
        is_activated=False,
    )


def _normalization(question: Question) -> Answer:
    return Answer(
        {"gamma": Ones(), "beta": question.bias, "moving_mean": Zeros(), "moving_variance": Ones()},
        "gamma and beta have no effect at first: the outputs have mean 0 and variance 1",
        (Alternative({"gamma": Zeros()}, "last in a residual branch: the block is the identity at first"),),
        ("not every layer has all of these weights: layer and RMS normalization have no moving statistics",),
        (papers.BATCH_NORM, papers.ZERO_GAMMA),
        is_activated=False,
    )


def _output(question: Question) -> Answer:
    return Answer(
        {"kernel": linear_kernel(question), "bias": question.bias},
        f"the loss follows: with logits of variance about 1, {question.activation} is not saturated",
        (
            Alternative({"kernel": Zeros()}, "equal predictions at first; its units get different gradients"),
            Alternative({"kernel": RandomNormal(stddev=0.01)}, "small first logits"),
        ),
        ("for rare classes, use a bias of log(p / (1 - p)), the log odds",),
        (papers.GLOROT, papers.FOCAL),
        is_activated=False,
    )


def _residual(question: Question) -> Answer:
    why, sources = reason(question)
    inner, depth = kernel(question), question.depth
    gamma = Alternative(
        {"output_kernel": inner, "last_gamma": Zeros()}, "branches that end in a normalization"
    )
    if depth is None:
        last: Initializer = Zeros()
        head = (
            "the last kernel of each branch is zero: the network is the identity at first, at any depth, and "
            "can learn, since the units before the last kernel differ. Inside, "
        )
        alternatives: tuple[Alternative, ...] = (gamma,)
    else:
        # The kernel before it compensates for the activation already.
        distribution = question.distribution or "truncated_normal"
        last = scaled(
            1.0 / depth, question.mode or "fan_in", distribution, AXES["plain", question.layer.layout]
        )
        head = (
            f"{depth} branches are added: with the variance of each last kernel divided by {depth}, their "
            "sum has the variance of the signal. Inside, "
        )
        alternatives = (Alternative({"output_kernel": Zeros()}, "any depth: the identity at first"), gamma)
    return Answer(
        {"kernel": inner, "output_kernel": last, "bias": question.bias},
        head + why,
        alternatives,
        () if depth else ("pass depth=, the number of branches, for a scaled last kernel instead",),
        (papers.GPT_2, papers.FIXUP, papers.SKIP_INIT, papers.ZERO_GAMMA, *sources),
    )


FAMILIES: dict[str, Callable[[Question], Answer]] = {
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
