"""The recommendations for each family of layers: an initializer for every weight, and the reasons."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from fastinit.initializers import (
    Constant,
    HeUniform,
    Identity,
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
from fastinit.theory.parse import resolve

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
    layer = question.layer
    weight, axes = {
        "bilinear": ("kernel", "bilinear"),
        "depthwise_conv": ("depthwise_kernel", "depthwise"),
        "conv_transpose": ("kernel", "transposed"),
    }.get(layer.family, ("kernel", "plain"))
    if layer.family == "conv_transpose":
        return _transposed(question)
    note = {
        "bilinear": ". Each output sums products of pairs of inputs: the fan is their number",
        "conv": ". The fan counts all taps",
        "depthwise_conv": ". Each output depends on one channel, so that fan_in is height * width",
    }.get(layer.family, "")
    why, sources = reason(question)
    return Answer(
        {weight: kernel(question, axes), "bias": bias(question)},
        why + note,
        others(question, weight, axes),
        (*cautions(question), *_multiplier(question)),
        (*sources, papers.DELTA) if layer.family == "conv" else sources,
    )


def _multiplier(question: Question) -> tuple[str, ...]:
    """What the argument for Keras takes for granted."""
    if question.layer.multiplier is not None:
        return ()
    return (
        "Keras counts the channels as inputs; its fan_out, height * width * depth_multiplier, is the right "
        "fan if depth_multiplier is 1: otherwise multiply the scale of its row by it",
    ) * (question.layer.family in ("depthwise_conv", "separable_conv"))


def _transposed(question: Question) -> Answer:
    """Transposed convolutions, whose outputs depend on fan_in / prod(strides) products each."""
    layer, warnings = question.layer, cautions(question)
    strides = layer.strides or 1
    note = ". The inputs are the last axis of the kernel in Keras, and the first in PyTorch"
    if layer.strides is None:
        advice = "with strides each output sums only fan_in / prod(strides) products: multiply the scale by "
        warnings = (*warnings, f"{advice}prod(strides), or pass the layer as an object")
    elif strides > 1:
        if question.mode is None:
            question = replace(question, mode="fan_in")
        note += f". With these strides an output sums fan_in / {strides} products: {strides} times the scale"
    why, sources = reason(question)
    axes = "plain" if layer.groups > 1 else "transposed"

    def adapted(made: Initializer) -> Initializer:
        if not isinstance(made, VarianceScaling):
            return made
        mode = made.mode
        factor = strides if mode == "fan_in" else 1
        if layer.groups > 1:  # As the convolution of which it is the transpose.
            mode = {"fan_in": "fan_out", "fan_out": "fan_in"}.get(mode, mode)
        return scaled(made.scale * factor, mode, made.distribution, layer.axes(axes))

    alternatives = (
        Alternative({name: adapted(made) for name, made in other.weights.items()}, other.when)
        for other in others(question, "kernel", axes)
    )
    return Answer(
        {"kernel": adapted(kernel(question, axes)), "bias": bias(question)},
        why + note,
        tuple(alternatives),
        warnings,
        sources,
    )


def _separable(question: Question) -> Answer:
    why, sources = reason(question)
    distribution = question.distribution or "truncated_normal"
    first = scaled(1.0, "fan_in", distribution, AXES["depthwise", question.layer.layout])
    return Answer(
        {"depthwise_kernel": first, "pointwise_kernel": kernel(question), "bias": bias(question)},
        f"there is no activation between both kernels: gain 1, and fan_in is height * width. Then, {why}",
        others(question, "pointwise_kernel"),
        (*cautions(question), *_multiplier(question)),
        sources,
    )


def _embedding(question: Question) -> Answer:
    by_dimension = VarianceScaling(1.0, "fan_out", "untruncated_normal")
    if "shared" in question.layer.extras:
        return Answer(
            {"embeddings": by_dimension},
            "the layer makes logits from the same weights: with variance 1 / dimension they have the "
            "variance of the signal. Multiply what is embedded by sqrt(dimension) for a variance of 1",
            (Alternative({"embeddings": TruncatedNormal(stddev=0.02)}, "transformers such as GPT-2"),),
            (),
            (papers.ATTENTION, papers.TIED, papers.GPT_2),
            is_activated=False,
        )
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
    """Vanilla recurrent layers, LSTM and GRU, and LSTM with convolutions."""
    family = question.layer.family
    gates = {"simple_rnn": 1, "lstm": 4, "gru": 3, "conv_lstm": 4}[family]
    # The gates are blocks along the axis of the outputs.
    orthogonal = Orthogonal(blocks=gates, column_axis=0 if question.layer.layout == "out_in" else -1)
    make = kernel if question.is_rectifier else linear_kernel
    weights = {"kernel": make(question), "recurrent_kernel": orthogonal, "bias": question.bias}
    why = "an orthogonal recurrent kernel keeps norms from step to step"
    sources: tuple[str, ...] = (
        papers.SAXE,
        papers.HENAFF,
        papers.HE if question.is_rectifier else papers.GLOROT,
    )
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
    once = "The kernel of the inputs acts once in each step, nothing is multiplied up"
    why += f". {once}: its variance is what matters, and {'He' if question.is_rectifier else 'Glorot'}'s does"
    if gates > 1:
        warnings.append(
            f"the input kernel contains {gates} gates, and the fan_out of Glorot's counts all of them; pass "
            f"blocks={gates} for the fans of one gate"
        )
    if family in ("lstm", "conv_lstm") and "bias" not in question.layer.lacks:
        weights["forget_bias"] = Ones()
        why += ". With a bias of 1 the forget gate is open at first, and gradients reach far back"
        sources = (*sources, *papers.FORGET)
        warnings.append(
            "forget_bias is the second quarter of the bias, [units:2 * units]. PyTorch adds two biases: it "
            "is set in one of them"
        )
    if family == "conv_lstm":
        why += ". Each output of a recurrent kernel, flattened, has a norm of 1 over all taps"
        sources = (papers.CONV_LSTM, *sources)
    alternatives.append(same_variance(question, "kernel", make=make))
    if not question.is_rectifier:
        both = (
            "found in some tables, orthogonal for both kernels: with as many inputs as units, the variance "
        )
        alternatives.append(Alternative({"kernel": orthogonal}, f"{both}of LeCun's"))
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


def _dot_attention(question: Question) -> Answer:
    """Keras's `Attention`, whose only weights are factors of the scores."""
    return Answer(
        {"scale": Ones()},
        "a factor of the scores; 1 has no effect at first",
        (),
        (
            "products of queries and keys of variance 1 have a variance of their dimension: queries "
            "multiplied by 1 / sqrt(dimension), or a scale of this value, keep the softmax from saturating",
        )
        * ("scale" not in question.layer.lacks),
        (papers.LUONG, papers.ATTENTION),
        is_activated=False,
    )


def _additive_attention(_: Question) -> Answer:
    return Answer(
        {"scale": LecunUniform(in_axis=0, out_axis=())},
        "a score is the product of this vector with tanh(query + key): with variance 1 / dimension the "
        "variance of scores is below 1, so that the softmax is not saturated",
        (Alternative({"scale": Zeros()}, "as in the paper: equal attention to all positions at first"),),
        (),
        (papers.BAHDANAU,),
        is_activated=False,
    )


def _prelu(question: Question) -> Answer:
    param = question.activation.param if question.is_("prelu") else None
    return Answer(
        {"alpha": Constant(0.25 if param is None else param)},
        "the slope of the negative half, which is learned; the paper begins with 0.25",
        (Alternative({"alpha": Zeros()}, "ReLU at first, as Keras's default"),),
        ("weight decay draws slopes to 0, and PReLU to ReLU: the paper does without it here",),
        (papers.HE,),
        is_activated=False,
    )


def _normalization(question: Question) -> Answer:
    return Answer(
        {"gamma": Ones(), "beta": question.bias, "moving_mean": Zeros(), "moving_variance": Ones()},
        "gamma and beta have no effect at first: the outputs have mean 0 and variance 1",
        (Alternative({"gamma": Zeros()}, "last in a residual branch: the block is the identity at first"),),
        (),
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
    "bilinear": _plain,
    "conv": _plain,
    "depthwise_conv": _plain,
    "separable_conv": _separable,
    "conv_transpose": _plain,
    "embedding": _embedding,
    "simple_rnn": _recurrent,
    "lstm": _recurrent,
    "gru": _recurrent,
    "conv_lstm": _recurrent,
    "attention": _attention,
    "dot_attention": _dot_attention,
    "additive_attention": _additive_attention,
    "normalization": _normalization,
    "prelu": _prelu,
    "output": _output,
    "residual": _residual,
}


def answer_for(question: Question) -> Answer:
    """The answer of the family for the weights that the layer has, with those that few layers have.

    Raises:
        ValueError: If the layer has no weights.
    """
    layer = question.layer
    answer = FAMILIES[layer.family](question)
    weights, sources = dict(answer.weights), list(answer.sources)
    if question.is_("prelu") and answer.is_activated:
        weights["alpha"] = Constant(question.activation.param or 0.0)
    notes = []
    for name in layer.extras:
        if name != "shared":
            weights[name], why, papers_ = _extra(name, question)
            notes.append(f"{name}: {why}")
            sources += papers_
    weights = {name: made for name, made in weights.items() if name not in layer.lacks}
    if not weights:
        raise ValueError(
            f"this layer, of the family {layer.family!r}, has no weights: there is nothing to initialize"
        )
    return replace(
        answer,
        weights=weights,
        alternatives=tuple(other for other in answer.alternatives if not layer.lacks & other.weights.keys()),
        warnings=(*_contradiction(question), *answer.warnings, *notes, *layer.notes),
        sources=tuple(sources),
    )


def _extra(name: str, question: Question) -> tuple[Initializer, str, tuple[str, ...]]:
    """The initializer of a weight that few layers have, the reason, and the papers."""
    match name:
        case "lora_kernel_a" | "lora_embeddings_a":
            return (
                HeUniform(),
                "random, as in Keras: the other factor is 0, so that nothing changes at first",
                (papers.LORA,),
            )
        case "lora_kernel_b" | "lora_embeddings_b":
            return Zeros(), "LoRA begins with the weights that it adapts", (papers.LORA,)
        case "gate_kernel":
            return linear_kernel(question, "to_heads"), "half open on average, as its sigmoid is of 0", ()
        case "projection_kernel":
            return linear_kernel(question), "the projection is linear", ()
        case "reverse_embeddings":
            return LecunNormal(), "logits; Glorot's would use the size of the vocabulary, too", (papers.TIED,)
        case "vector_u":
            return (
                RandomNormal(stddev=1.0),
                "the start of a power iteration, which normalizes it",
                (papers.SPECTRAL,),
            )
        case "key_position" | "value_position":
            return Zeros(), "an additional position without content at first", ()
        case "renorm_mean":
            return Zeros(), "a moving mean", ()
        case "moving_stddev" | "renorm_stddev":
            return Ones(), "a moving standard deviation", ()
    return Ones(), "a factor of the scores, without effect at first", ()


def _contradiction(question: Question) -> tuple[str, ...]:
    """A warning if the object has another activation than the one that was passed."""
    try:
        said = resolve(question.layer.activation)
    except (TypeError, ValueError):  # A function of its framework only.
        return ()
    if said.name == "linear" or str(said) == str(question.activation):
        return ()
    return (
        f"the layer has the activation {said}; the answer is for {question.activation}, which was passed",
    )
