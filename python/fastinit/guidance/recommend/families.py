"""What each family of layers needs: an initializer for every weight, and what is to be said about it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

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
        is_activated: Whether the gain of the activation plays a part.
    """

    weights: dict[str, Initializer]
    reason: str
    alternatives: tuple[Alternative, ...] = ()
    warnings: tuple[str, ...] = ()
    sources: tuple[str, ...] = ()
    is_activated: bool = True


def _plain(question: Question) -> Answer:
    """Dense layers and convolutions: a kernel, a bias, an activation."""
    weight, axes, note, warning = {
        "dense": ("kernel", "plain", "", ""),
        "conv": ("kernel", "plain", ". The fan counts all taps", ""),
        "depthwise_conv": (
            "depthwise_kernel",
            "depthwise",
            ". Each output sees one channel, so that fan_in is height * width",
            "",
        ),
        "conv_transpose": (
            "kernel",
            "transposed",
            ". The inputs are the last axis of the kernel in Keras, and the first in PyTorch",
            "with strides each output sums only fan_in / prod(strides) products: multiply the scale by "
            "prod(strides)",
        ),
    }[question.layer.family]
    why, sources = reason(question)
    alternatives = others(question, weight, axes)
    if question.layer.family == "conv":
        sources = (*sources, papers.DELTA)
    return Answer(
        {weight: kernel(question, axes), "bias": bias(question)},
        why + note,
        alternatives,
        (*cautions(question), *((warning,) if warning else ())),
        sources,
    )


def _separable(question: Question) -> Answer:
    why, sources = reason(question)
    distribution = question.distribution or "truncated_normal"
    first = scaled(1.0, "fan_in", distribution, AXES["depthwise", question.layer.layout])
    return Answer(
        {"depthwise_kernel": first, "pointwise_kernel": kernel(question), "bias": bias(question)},
        f"between both steps there is no activation: gain 1, and fan_in is height * width. Then, {why}",
        others(question, "pointwise_kernel"),
        cautions(question),
        sources,
    )


def _embedding(_: Question) -> Answer:
    by_dimension = VarianceScaling(1.0, "fan_out", "untruncated_normal")
    return Answer(
        {"embeddings": RandomNormal(stddev=1.0)},
        "a row is picked, not summed: the fan is 1, and rows of variance 1 are a signal of variance 1. He's "
        "and Glorot's would take the size of the vocabulary for a fan",
        (
            Alternative({"embeddings": TruncatedNormal(stddev=0.02)}, "transformers, as BERT and GPT-2"),
            Alternative(
                {"embeddings": by_dimension},
                "variance 1 / dimension: with weights tied to the output, or rows times sqrt(dimension)",
            ),
            Alternative({"embeddings": RandomUniform(-0.05, 0.05)}, "Keras's default: small, unscaled"),
        ),
        ("if the output layer has the same weights, take variance 1 / dimension, or logits are too large",),
        (papers.ATTENTION, papers.BERT, papers.GPT_2),
        is_activated=False,
    )


def _recurrent(question: Question) -> Answer:
    """Vanilla recurrent layers, LSTM and GRU."""
    family = question.layer.family
    gates = {"simple_rnn": 1, "lstm": 4, "gru": 3}[family]
    # Gates lie side by side: along the last axis in Keras, along the first in PyTorch.
    blocks: dict[str, Any] = {"blocks": gates} if gates > 1 else {}
    if question.layer.layout == "torch":
        blocks["column_axis"] = 0
    orthogonal = Orthogonal(**blocks)

    make = kernel if question.is_rectifier else linear_kernel
    weights = {"kernel": make(question), "recurrent_kernel": orthogonal, "bias": question.bias}
    why = "an orthogonal recurrent kernel keeps norms from step to step"
    sources: tuple[str, ...] = (papers.SAXE, papers.HE if question.is_rectifier else papers.GLOROT)
    warnings, alternatives = [], []
    if family == "simple_rnn" and question.is_("relu"):
        weights["recurrent_kernel"] = Identity()
        why = "the identity has units of ReLU remember what they have, until the input says otherwise"
        sources = (papers.IDENTITY, *sources)
        warnings.append("clip gradients: nothing bounds what ReLU adds up over time")
        alternatives += [
            Alternative(
                {"recurrent_kernel": orthogonal}, "more mixing between units, with clipped gradients"
            ),
            Alternative(
                {"kernel": RandomNormal(stddev=0.001)}, "long sequences, as in the paper on the identity"
            ),
        ]
    if gates > 1:
        why += ", a matrix for each gate (blocks)"
        warnings.append(
            f"the input kernel holds {gates} gates, and the fan_out of Glorot's counts them all; "
            f"fastinit.keras has blocks={gates} for the fans of one gate"
        )
    if family == "lstm":
        weights["forget_bias"] = Ones()
        why += ". A forget gate that begins open, with a bias of 1, lets gradients reach far back"
        sources = (*sources, *papers.FORGET)
        warnings.append(
            "forget_bias is for the second quarter of the bias, [units:2 * units]. PyTorch has two biases "
            "that add up: set it in one of them"
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
        "projections are linear: gain 1. Queries and keys of variance 1 have products of variance head_dim, "
        "which the division by sqrt(head_dim) undoes, so that the softmax begins soft",
        (
            Alternative({"output_kernel": Zeros()}, "deep networks: each block begins as the identity"),
            Alternative({name: TruncatedNormal(stddev=0.02) for name in kernels}, "as BERT and GPT-2"),
        ),
        (
            "a fused kernel of queries, keys and values is three matrices: fill each on its own, or Glorot's "
            "takes all their outputs for one fan_out",
            "for a deep transformer, scale output_kernel as the layer 'residual' says",
        ),
        (papers.ATTENTION, papers.GLOROT),
        is_activated=False,
    )


def _normalization(question: Question) -> Answer:
    return Answer(
        {"gamma": Ones(), "beta": question.bias, "moving_mean": Zeros(), "moving_variance": Ones()},
        "it begins as the normalization alone: mean 0 and variance 1",
        (Alternative({"gamma": Zeros()}, "the last of a residual branch: the block begins as the identity"),),
        ("not all have all of these: layer and RMS normalization keep no moving statistics",),
        (papers.BATCH_NORM, papers.ZERO_GAMMA),
        is_activated=False,
    )


def _output(question: Question) -> Answer:
    return Answer(
        {"kernel": linear_kernel(question), "bias": question.bias},
        f"what follows is the loss: with logits of variance about 1, {question.activation} begins where it "
        "has slope",
        (
            Alternative(
                {"kernel": Zeros()}, "first predictions all equal; its units get different gradients"
            ),
            Alternative({"kernel": RandomNormal(stddev=0.01)}, "small first logits"),
        ),
        ("for rare classes, begin with a bias of log(p / (1 - p)), the log odds",),
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
            "the last kernel of each branch is zero: the network begins as the identity, at any depth, and "
            "learns at once, since the units before it differ. Inside, "
        )
        alternatives: tuple[Alternative, ...] = (gamma,)
    else:
        # The kernel before it has made up for the activation already.
        distribution = question.distribution or "truncated_normal"
        last = scaled(
            1.0 / depth, question.mode or "fan_in", distribution, AXES["plain", question.layer.layout]
        )
        head = (
            f"{depth} branches add up: with the variance of each last kernel divided by {depth}, their sum "
            "stays as large as the signal. Inside, "
        )
        alternatives = (Alternative({"output_kernel": Zeros()}, "any depth: begins as the identity"), gamma)
    return Answer(
        {"kernel": inner, "output_kernel": last, "bias": question.bias},
        head + why,
        alternatives,
        () if depth else ("say depth=, the number of branches, for a last kernel that is scaled instead",),
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
