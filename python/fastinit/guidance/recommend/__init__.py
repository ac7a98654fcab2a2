"""Which initializer to use: for every weight of a layer, with the reason.

Decided by what becomes of the variance of signals and gradients, which is computed for any activation; where
popular advice is another, the reason says so.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING

from fastinit.initializers import Constant

from .families import FAMILIES
from .judge import judge
from .question import ask
from .recommendation import Recommendation
from .spelling import keras_spelling, torch_spelling

if TYPE_CHECKING:
    from fastinit.initializers import Initializer

    from .families import Answer
    from .question import Question


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
    `tanh_shrink` (and `threshold` above 0): with biases of zero the variance drifts off, and no scale can
    hold it. Random biases can; with `depth` given, and if the drift over that depth would be more than a
    factor of 4, they are recommended, together with the scale that goes with them. Then the variance after 50
    layers is within a factor of 4 of that of the input for all activations. `exponential` has a scale that
    lasts, but it is not the square of its gain. For `softmax`, `log_softmax` and `sparsemax`, which couple
    units, the question has no meaning; they are taken as what follows an output layer.

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
        proposal: An initializer for the kernel, or its name, to be judged with the biases that are
            recommended: the answer is in `judgement`. The kernel is the pointwise one of a separable
            convolution, and that of the inputs of a recurrent layer.

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
        >>> round(fastinit.recommend("gelu", depth=50).weights["bias"].stddev, 3)
        0.468

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
        AISTATS 2010. He, Zhang, Ren and Sun, "Delving deep into rectifiers", ICCV 2015, arXiv:1502.01852.
        Hayou, Doucet and Rousseau, "On the impact of the activation function on deep neural networks
        training", ICML 2019, arXiv:1902.06853. Those of each answer are in its `sources`.
    """
    question = ask(
        activation,
        layer,
        distribution=distribution,
        mode=mode,
        param=param,
        bias=bias,
        depth=depth,
        layout=layout,
        groups=groups,
    )
    of_layer = question.layer
    answer, weights = _answer(question)
    flow = question.flow if answer.is_activated else None
    # The kernels of Keras have axes of their own, whatever the layout that was asked for.
    _, in_keras = _answer(replace(question, layer=replace(of_layer, layout="keras")))
    return Recommendation(
        activation=str(question.activation),
        layer=of_layer.family,
        layout=of_layer.layout,
        weights=weights,
        keras={name: keras_spelling(name, made, of_layer) for name, made in in_keras.items()},
        torch={name: torch_spelling(name, made, of_layer) for name, made in weights.items()},
        reason=answer.reason,
        alternatives=answer.alternatives,
        warnings=answer.warnings,
        sources=tuple(dict.fromkeys(answer.sources)),
        gain=None if flow is None else math.sqrt(flow.scale),
        slope=None if flow is None else flow.slope,
        gradient=None if flow is None else flow.gradient,
        judgement=None if proposal is None else judge(proposal, question, answer),
    )


def _answer(question: Question) -> tuple[Answer, dict[str, Initializer]]:
    """What the family says, and the initializers of all weights, those of the activation among them."""
    answer = FAMILIES[question.layer.family](question)
    weights = dict(answer.weights)
    if question.is_("prelu") and answer.is_activated:
        weights["alpha"] = Constant(question.activation.param or 0.0)
    return answer, weights
