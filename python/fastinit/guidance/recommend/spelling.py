"""An initializer as text: in short, as an argument of a Keras layer, and as a call of `fastinit.torch`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from fastinit._registry import PRESETS, parse_name
from fastinit.initializers import (
    Constant,
    Identity,
    Ones,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    TruncatedNormal,
    VarianceScaling,
    Zeros,
)

if TYPE_CHECKING:
    from fastinit.initializers import Initializer

    from .layers import Layer

# The arguments of Keras layers that are not the name of the weight and "_initializer".
_ARGUMENTS = {
    "depthwise_kernel": "depthwise_initializer",
    "last_gamma": "gamma_initializer",
    "output_kernel": "kernel_initializer",
    "pointwise_kernel": "pointwise_initializer",
    "recurrent_kernel": "recurrent_initializer",
}


def short(initializer: Initializer) -> str:
    """The call that makes an initializer, without default parameters; numbers with four digits.

    Example:
        >>> import fastinit
        >>> from fastinit.guidance.recommend.spelling import short
        >>> short(fastinit.RandomNormal(stddev=2**-0.5))
        'RandomNormal(stddev=0.7071)'
    """
    return initializer.spell(lambda value: f"{value:.4g}" if isinstance(value, float) else repr(value))


def keras_spelling(weight: str, initializer: Initializer, layer: Layer) -> str:
    """The argument of the Keras layer; empty if there is none."""
    if weight == "forget_bias":
        return "unit_forget_bias=True"
    argument = _ARGUMENTS.get(weight, f"{weight}_initializer")
    if layer.family == "attention" and weight != "bias":
        # One argument is for all four kernels; the layer itself sets the axes of each.
        argument, initializer = "kernel_initializer", _without_axes(initializer)
    name, call = parse_name(type(initializer).__name__), short(initializer)
    if name in (*PRESETS, "ones", "zeros") and call.endswith("()"):
        return f'{argument}="{name}"'
    # Those of fastinit.keras follow Keras's seeds and are saved with a model, but have fewer parameters.
    if not any(word in call for word in ("_axis=", "groups=", "fan_geo_avg")):
        return f"{argument}=fastinit.keras.{call}"
    # Those of fastinit do not take the axes that the layer sets.
    return "" if layer.family == "attention" else f"{argument}=fastinit.{call}"


def _without_axes(initializer: Initializer) -> Initializer:
    config = initializer.get_config()
    return type(initializer).from_config(
        {name: value for name, value in config.items() if name not in ("in_axis", "out_axis", "batch_axis")}
    )


# In transposed convolutions PyTorch's functions swap the fans.
_OTHER_FAN = {"fan_in": "fan_out", "fan_out": "fan_in"}


def torch_spelling(weight: str, initializer: Initializer, layer: Layer) -> str:
    """The call of a function of `fastinit.torch`, with PyTorch's name of the weight; empty if none."""
    name = _torch_name(weight, layer.family)
    gates = {"lstm": 4, "gru": 3}.get(layer.family, 1)
    match initializer:
        case Zeros():
            return f"zeros_({name})"
        case Ones():
            return f"ones_({name})"
        case Constant():
            return f"constant_({name}, {initializer.value:.4g})"
        case Identity():
            return f"eye_({name})" + (f".mul_({initializer.gain:.4g})" if initializer.gain != 1.0 else "")
        case Orthogonal():
            gain = "" if initializer.gain == 1.0 else f", gain={initializer.gain:.4g}"
            if gates > 1:
                return f"for w in {name}.chunk({gates}): orthogonal_(w{gain})"
            return f"orthogonal_({name}{gain})"
        case RandomNormal():
            return f"normal_({name}, std={initializer.stddev:.4g})"
        case RandomUniform():
            return f"uniform_({name}, {initializer.minval:.4g}, {initializer.maxval:.4g})"
        case TruncatedNormal():
            return f"trunc_normal_tf_({name}, std={initializer.stddev:.4g})"
        case VarianceScaling():
            return _torch_scaling(name, initializer, weight, layer)
    return ""


def _torch_scaling(name: str, initializer: VarianceScaling, weight: str, layer: Layer) -> str:
    """PyTorch's Kaiming or Xavier function if one fits, otherwise `variance_scaling_`."""
    scale, mode = initializer.scale, initializer.mode
    if layer.family == "conv_transpose":
        mode = _OTHER_FAN.get(mode, mode)
    if weight == "depthwise_kernel":
        # With one output for each input both fans are equal, but PyTorch's functions count all outputs.
        mode = "fan_in"
    if mode == "fan_geo_avg" or (layer.groups > 1 and mode != "fan_in"):
        return ""
    kind = "uniform" if initializer.distribution == "uniform" else "normal"
    if mode == "fan_avg":
        gain = "" if scale == 1.0 else f", gain={math.sqrt(scale):.5g}"
        return f"xavier_{kind}_({name}{gain})"
    known = {1.0: "linear", 2.0: "relu"}.get(scale)
    if known is not None:
        fan = "" if mode == "fan_in" else f', mode="{mode}"'
        return f'kaiming_{kind}_({name}{fan}, nonlinearity="{known}")'
    full = "normal" if initializer.distribution == "untruncated_normal" else initializer.distribution
    return f'variance_scaling_({name}, {scale:.5g}, "{mode}", "{full}")'


def _torch_name(weight: str, family: str) -> str:
    """The weight as PyTorch names it."""
    names = dict.fromkeys(("depthwise_kernel", "embeddings", "gamma", "kernel"), "weight") | {
        "alpha": "prelu.weight",
        "beta": "bias",
        "last_gamma": "last_norm.weight",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
        "output_kernel": "last.weight",
        "pointwise_kernel": "pointwise.weight",
    }
    if family in ("simple_rnn", "lstm", "gru"):
        names |= {
            "kernel": "weight_ih_l0",
            "recurrent_kernel": "weight_hh_l0",
            "bias": "bias_ih_l0",
            "forget_bias": "bias_ih_l0.chunk(4)[1]",
        }
    if family == "attention":
        for i, part in enumerate(("query", "key", "value")):
            names[f"{part}_kernel"] = f"in_proj_weight.chunk(3)[{i}]"
        names |= {"output_kernel": "out_proj.weight", "bias": "in_proj_bias"}
    return names.get(weight, weight)
