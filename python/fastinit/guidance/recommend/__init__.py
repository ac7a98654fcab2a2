"""The initializer to use for every weight of a layer, with the reason.

The recommendation follows from the variance of signals and gradients, which is computed for any activation.
Where popular advice differs, the reason says so.
"""

from __future__ import annotations

import math
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol, overload

from .families import answer_for
from .judge import judge
from .layers import resolve_layer
from .model import is_model, recipe_for
from .question import ask
from .recommendation import Recommendation
from .spelling import keras_spelling, torch_spelling

if TYPE_CHECKING:
    from ..recipes import Recipe
    from .question import Question


class _Module(Protocol):
    """A module of PyTorch."""

    def named_parameters(self, prefix: str = "", recurse: bool = True) -> Any: ...  # noqa: FBT001, FBT002 - PyTorch's


class _KerasLayer(Protocol):
    """A layer or a model of Keras."""

    @property
    def weights(self) -> Any: ...
    def get_config(self) -> Any: ...


# A type tells no model from a single layer.
@overload
def recommend(activation: _Module | _KerasLayer) -> Recommendation | Recipe: ...  # type: ignore[overload-overlap]
@overload
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
) -> Recommendation: ...
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
) -> Recommendation | Recipe:
    """Recommends an initializer for each weight of a layer, and gives the reasons.

    The rule for kernels: each layer preserves the variance of signals, and that of gradients as far as
    possible. For ReLU this is He's initialization, for SELU LeCun's, for linear layers Glorot's; for all
    other activations it is variance scaling with the square of the gain, which is computed. Popular tables
    recommend Glorot's for ReLU, which halves the variance in each layer; and with plain Glorot's for tanh the
    variance falls as one over the depth, which is acceptable for a few layers.

    In a deep plain network, one without normalization and residual connections, that is not enough: what
    matters is how signals, gradients and the difference of two inputs change over the whole depth. With
    `depth` given, and where the usual scale would change the variance of signals or of gradients by more than
    a factor of 4, dense layers and convolutions get the scale that changes these three least: that with the
    least sum of the squared logarithms of their factors (`over_depth`). For `tanh` the gain falls from 1.59
    at a few layers to 1.13 at 100, near 1, the edge of chaos, since with 1.59 each layer multiplies the
    variance of gradients by 1.18. From 10 layers on, dense layers get orthogonal kernels of this gain, which
    add less noise than independent weights.

    The variance is stable only if the map from the variance of one layer to that of the next has a slope of
    at most 1 (`slope`). At every scale it is above 1 for `gelu`, `quick_gelu`, `silu`, `hard_silu`, `mish`,
    `glu`, `hard_shrink`, `soft_shrink` and `tanh_shrink` (and `threshold` above 0): with zero biases the
    variance drifts away. Random biases limit the drift; with `depth`, they are recommended where they halve
    the sum. Nothing helps with `swiglu`, `geglu`, `reglu` and `relu_squared`: they are products of their
    inputs, their slope is about 2, and they need normalization. For `softmax`, `log_softmax` and `sparsemax`,
    which couple units, the variance is not defined; they are treated as the activation after an output layer.

    With the usual gain, gradients vanish in deep plain networks, and inputs become alike, for `sigmoid`,
    `hard_sigmoid`, `sparse_sigmoid`, `log_sigmoid`, `softplus`, `squareplus`, `sparse_plus`, `exponential`
    and `hard_shrink` (`gradient`). `depth` gives far larger weights for some of them; where even these do not
    help, a warning says so.

    Args:
        activation: The activation after the layer: a name in any case, a function or layer of Keras, PyTorch
            or JAX, or an elementwise function of arrays; `None` for that of `layer`, if it is an object that
            has one, and otherwise for `"tanh"` in recurrent layers and `"linear"` in others. If both say
            something else, this one counts, and a warning says so. Or a whole model of PyTorch or Keras,
            without other arguments.
        layer: The family, `"dense"`, `"bilinear"`, `"conv"`, `"depthwise_conv"`, `"separable_conv"`,
            `"conv_transpose"`, `"embedding"`, `"simple_rnn"`, `"lstm"`, `"gru"`, `"conv_lstm"`,
            `"attention"` (multi-head), `"dot_attention"` and `"additive_attention"` (Keras's `Attention` and
            `AdditiveAttention`), `"normalization"`, `"prelu"`, `"output"` or `"residual"`; or the name, the
            class or an object of a layer of Keras or PyTorch. Of an object everything counts that the
            answer depends on: its activation, the weights that it has (without bias, with LoRA), groups,
            strides, the equation of `EinsumDense`, the number of layers and directions. A wrapper stands
            for the layer inside.
        distribution: `"uniform"`, `"truncated_normal"` or `"untruncated_normal"`, as in `variance_scaling`;
            `None` for uniform with Glorot's and truncated normal otherwise.
        mode: `"fan_in"`, which preserves the variance of signals; `"fan_out"`, which preserves that of
            gradients and uses the backward gain; `"fan_avg"` or `"fan_geo_avg"`; `None` for `"fan_avg"` with
            Glorot's and `"fan_in"` otherwise.
        param: The parameter of the activation, such as the slope of `"leaky_relu"`, as in `gain`.
        bias: The value of biases; finite. If it is not 0, random biases are not recommended.
        depth: The number of such layers in a row without normalization or residual connections, for which
            the scale is chosen; more than 300 count as 300 there. For `"residual"`, the number of branches
            that are added, 2 for each block of a transformer.
        layout: The order of the axes of kernels: `"in_out"`, (..., in, out), as in Keras and JAX, or
            `"out_in"`, (out, in, ...), as in PyTorch; `None` for `"out_in"` if `layer` is of PyTorch, and
            `"in_out"` otherwise.
        groups: The groups of a convolution; `None` for those of `layer`, if it has any.
        proposal: An initializer for the kernel, or its name, to be judged with the recommended biases: the
            result is in `judgement`. For a separable convolution it is the pointwise kernel, for a recurrent
            layer the kernel of the inputs.

    Returns:
        A `Recommendation`. Its `weights` are initializers of fastinit. For a whole model, a `Recipe`: that of
        `fastinit.recipe` which fits it, with its parameters read from the model, or else rules for each of
        its layers; tensors that are not trained are left as they are, if others are trained.

    Raises:
        ValueError: If a name is unknown or an argument out of range, `layer` has no weights, it consists of
            several layers, or its weights do not come from an initializer (Keras's `Normalization`), or a
            model has no parameters yet.
        TypeError: If an argument is of the wrong kind, or a model is given with another argument.

    Example:
        >>> import fastinit
        >>> fastinit.recommend("relu").weights["kernel"]
        HeNormal()
        >>> list(fastinit.recommend("tanh", "LSTM").weights)
        ['kernel', 'recurrent_kernel', 'bias', 'forget_bias']
        >>> print(fastinit.recommend("relu", proposal="glorot_uniform").judgement.verdict)
        poor
        >>> round(fastinit.recommend("gelu").slope, 3)  # above 1: the variance drifts in a deep plain stack
        1.144
        >>> fastinit.recommend("tanh", depth=50).weights["kernel"]
        Orthogonal(gain=1.174)
        >>> fastinit.recommend("gelu", depth=50).weights["bias"]
        RandomNormal(stddev=0.4)

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
        AISTATS 2010. He, Zhang, Ren and Sun, "Delving deep into rectifiers", ICCV 2015, arXiv:1502.01852.
        Hayou, Doucet and Rousseau, "On the impact of the activation function on deep neural networks
        training", ICML 2019, arXiv:1902.06853. Those of each answer are in its `sources`.
    """
    if is_model(activation):
        given = {"layer": layer != "dense", "param": param is not None, "bias": bias != 0.0}
        given |= {"distribution": distribution is not None, "mode": mode is not None}
        given |= {"depth": depth is not None, "layout": layout is not None}
        given |= {"groups": groups is not None, "proposal": proposal is not None}
        if any(given.values()):
            names = ", ".join(name for name, is_given in given.items() if is_given)
            raise TypeError(f"a whole model takes no other arguments, got {names}")
        return recipe_for(activation)
    of_layer = resolve_layer(layer, layout, groups)
    question = ask(activation, param, of_layer, mode, distribution, bias, depth)
    answer = answer_for(question)
    flow = question.flow if answer.is_activated else None
    # The spelling for Keras has Keras's axes, in either layout.
    in_keras = answer_for(replace(question, layer=replace(of_layer, layout="in_out"))).weights
    return Recommendation(
        activation=str(question.activation),
        layer=of_layer.family,
        layout=of_layer.layout,
        weights=answer.weights,
        keras={name: keras_spelling(name, made, of_layer) for name, made in in_keras.items()},
        torch={name: torch_spelling(name, made, of_layer) for name, made in answer.weights.items()},
        reason=answer.reason,
        alternatives=answer.alternatives,
        warnings=answer.warnings,
        sources=tuple(dict.fromkeys(answer.sources)),
        gain=None if flow is None else math.sqrt(flow.scale),
        slope=None if flow is None else flow.slope,
        gradient=None if flow is None else flow.gradient,
        depth_scale=None if flow is None else _depth_scale(flow.gradient),
        over_depth=None if flow is None or depth is None else _over_depth(question),
        judgement=None if proposal is None else judge(proposal, question, answer),
    )


def _depth_scale(gradient: float) -> float:
    """The number of layers over which a factor for each layer becomes e or 1 / e."""
    if abs(gradient - 1.0) < 1e-9:  # the rounding of the quadrature
        return math.inf
    return 1.0 / abs(math.log(gradient)) if gradient > 0.0 else 0.0


def _over_depth(question: Question) -> dict[str, float] | None:
    if question.activation.kind == "joint":
        return None
    variance, gradient, distance = map(float, question.effect())
    return {"signal": variance, "gradient": gradient, "distance": distance}
