"""An initializer as text: in short, as an argument of a Keras layer, and as code for `torch.nn.init`.

What is spelled for Keras and PyTorch runs in them without fastinit, and gives the same distribution, except
that PyTorch's `kaiming_normal_` and `xavier_normal_` do not truncate: with them the variance is the same.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

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

# The standard deviation of a standard normal number that is truncated at two.
_TRUNCATED = 0.87962566
_RECURRENT = ("simple_rnn", "lstm", "gru", "conv_lstm")
# The families that PyTorch has no layer for.
_NOT_IN_TORCH = ("additive_attention", "conv_lstm", "dot_attention")
_AXES = ("in_axis", "out_axis", "batch_axis", "groups")


def short(initializer: Initializer) -> str:
    """The call that makes an initializer, without default parameters; numbers with four digits.

    Example:
        >>> import fastinit
        >>> from fastinit.guidance.recommend.spelling import short
        >>> short(fastinit.RandomNormal(stddev=2**-0.5))
        'RandomNormal(stddev=0.7071)'
    """
    return initializer.spell(lambda value: f"{value:.4g}" if isinstance(value, float) else repr(value))


# Keras

# The arguments of Keras layers that are not the name of the weight and "_initializer".
_ARGUMENTS = {
    "depthwise_kernel": "depthwise_initializer",
    "last_gamma": "gamma_initializer",
    "output_kernel": "kernel_initializer",
    "pointwise_kernel": "pointwise_initializer",
    "recurrent_kernel": "recurrent_initializer",
}


def keras_spelling(weight: str, initializer: Initializer, layer: Layer) -> str:
    """The argument of the Keras layer, with `keras` and `math` imported.

    Where Keras has no argument or no initializer for it, an assignment to the weight of `layer`, which has
    been built. (Keras can neither load a `lambda` as an initializer nor copy it, as `Bidirectional` does.) It
    is empty if Keras has no such layer.

    Args:
        weight: The name of the weight.
        initializer: Its initializer, with the axes of Keras.
        layer: The layer.
    """
    if weight == "forget_bias":
        return "unit_forget_bias=True"
    if layer.family == "bilinear" or weight in ("projection_kernel", "key_position", "value_position"):
        return ""
    if layer.family == "conv_transpose" and layer.groups > 1:
        return ""
    values = _keras_values(weight, initializer, layer)
    attribute = layer.attributes.get(weight)
    if layer.family == "attention" and weight != "bias":
        # One argument for all kernels; the layer itself knows the axes of each.
        return "" if values else f"kernel_initializer={_in_keras(weight, initializer, layer)}"
    if not values:
        made = _in_keras(weight, initializer, layer)
        if attribute is None and layer.family not in ("dot_attention", "additive_attention"):
            return f"{_ARGUMENTS.get(weight, f'{weight}_initializer')}={made}"
        values = f"keras.initializers.get({made})(k.shape)" if made.startswith('"') else f"{made}(k.shape)"
    if attribute is not None and attribute.startswith("layer."):
        tensors = [attribute]
    else:
        tensors = [f"{place}.{attribute or weight}" for place in layer.places]
    if len(tensors) == 1:
        return f"k = {tensors[0]}; k.assign({values})"
    return f"for k in ({', '.join(tensors)}): k.assign({values})"


def _keras_values(weight: str, initializer: Initializer, layer: Layer) -> str:
    """The values of the weight `k` as an expression, if Keras has no initializer with this distribution."""
    gates = _gates(layer)
    if isinstance(initializer, Orthogonal) and layer.family in _RECURRENT and gates > 1:
        one = f"keras.initializers.{_call(Orthogonal(initializer.gain))}"
        shape = f"(*k.shape[:-1], k.shape[-1] // {gates})"
        return f"keras.ops.concatenate([{one}({shape}) for _ in range({gates})], axis=-1)"
    if not isinstance(initializer, VarianceScaling) or weight == "depthwise_kernel":
        return ""
    mode = initializer.mode
    if mode != "fan_geo_avg" and (mode == "fan_in" or not _has_groups(initializer, layer)):
        return ""
    config = initializer.get_config()
    if layer.equation is None or config["in_axis"] == -2:
        taps = "math.prod(k.shape[:-2])"
        fan_in, fan_out = f"{taps} * k.shape[-2]", f"{taps} * k.shape[-1]"
    else:
        fan_in, fan_out = (
            " * ".join(f"k.shape[{i}]" for i in config[axes]) for axes in ("in_axis", "out_axis")
        )
    if layer.family == "conv_transpose":
        fan_in, fan_out = fan_out, fan_in
    if layer.groups > 1:
        fan_out += f" / {layer.groups}"
    fan = _mean(mode, fan_in, fan_out)
    if initializer.distribution == "uniform":
        return f"keras.random.uniform(k.shape, -1, 1) * ({3 * initializer.scale:.4g} / ({fan})) ** 0.5"
    is_truncated = initializer.distribution == "truncated_normal"
    function = "truncated_normal" if is_truncated else "normal"
    std = f"({initializer.scale:.4g} / ({fan})) ** 0.5" + (f" / {_TRUNCATED:.5g}" if is_truncated else "")
    return f"keras.random.{function}(k.shape) * {std}"


def _in_keras(weight: str, initializer: Initializer, layer: Layer) -> str:
    """The initializer of Keras."""
    if isinstance(initializer, VarianceScaling):
        scale, mode = initializer.scale, initializer.mode
        if layer.family == "conv_transpose":
            mode = _OTHER_FAN.get(mode, mode)  # Keras takes the last axis for the outputs.
        if weight == "depthwise_kernel":
            # The fans are those of one channel; of Keras's, fan_out does not depend on the channels.
            outputs = layer.multiplier or 1
            shares = {"fan_in": 1, "fan_out": outputs, "fan_avg": (1 + outputs) / 2}
            scale, mode = scale * outputs / shares.get(mode, outputs**0.5), "fan_out"
        initializer = VarianceScaling(scale, mode, initializer.distribution)
        names = {value: name for name, value in PRESETS.items()}
        preset = names.get((scale, mode, initializer.distribution))
        return f'"{preset}"' if preset else f"keras.initializers.{_call(initializer)}"
    name = parse_name(type(initializer).__name__)
    return f'"{name}"' if name in ("ones", "zeros") else f"keras.initializers.{_call(initializer)}"


def _has_groups(initializer: VarianceScaling, layer: Layer) -> bool:
    """Whether the kernel is that of several layers, which Keras would count as outputs."""
    return layer.groups > 1 or (layer.equation is not None and initializer.get_config()["batch_axis"] != ())


def _call(initializer: Initializer) -> str:
    """The call as in `short`, without parameters that Keras does not have."""
    config = {
        name: value for name, value in initializer.get_config().items() if name not in (*_AXES, "column_axis")
    }
    return short(type(initializer).from_config(config))


def _gates(layer: Layer) -> int:
    return {"lstm": 4, "conv_lstm": 4, "gru": 3}.get(layer.family, 1)


def _mean(mode: str, fan_in: str, fan_out: str) -> str:
    """The fan of this mode as an expression."""
    if mode in ("fan_in", "fan_out"):
        return fan_in if mode == "fan_in" else fan_out
    if mode == "fan_avg":
        return f"({fan_in} + {fan_out}) / 2"
    return f"({fan_in} * {fan_out}) ** 0.5"


# PyTorch

# In transposed convolutions the functions of PyTorch and Keras swap the fans.
_OTHER_FAN = {"fan_in": "fan_out", "fan_out": "fan_in"}


def torch_spelling(weight: str, initializer: Initializer, layer: Layer) -> str:
    """Code with the functions of `torch.nn.init`, and the names that PyTorch gives to the weights.

    The names are those of the attributes of the layer: `weight` is `layer.weight`. It is empty if PyTorch has
    no such layer.

    Args:
        weight: The name of the weight.
        initializer: Its initializer.
        layer: The layer.
    """
    if layer.family in _NOT_IN_TORCH or weight in ("gate_kernel", "vector_u", "reverse_embeddings"):
        return ""
    if weight.startswith(("lora", "renorm", "moving_stddev")):
        return ""
    names = torch_names(weight, layer)
    if isinstance(initializer, Constant) and layer.family in _RECURRENT and weight == "bias":
        # PyTorch adds two biases: only one of them has the value.
        calls = [_in_torch(name, initializer, weight, layer) for name in names[: len(names) // 2]]
        return "; ".join([*calls, *(f"zeros_({name})" for name in names[len(names) // 2 :])])
    code = _each(names, initializer, weight, layer)
    return code if layer.padding is None else f"{code}; zeros_({names[0]}[{layer.padding}])"


def _each(names: tuple[str, ...], initializer: Initializer, weight: str, layer: Layer) -> str:
    """The code for all these tensors."""
    part = ".chunk(4)[1]" if weight == "forget_bias" else ""
    if isinstance(initializer, Orthogonal) and _gates(layer) > 1:
        chunks = [f"{name}.chunk({_gates(layer)})" for name in names]
        names = tuple(f"*{chunk}" for chunk in chunks)
        every = chunks[0] if len(names) == 1 else f"({', '.join(names)})"
    elif len(names) == 1:
        return _in_torch(names[0] + part, initializer, weight, layer)
    else:
        every = f"({', '.join(names)})"
    return f"for w in {every}: {_in_torch(f'w{part}', initializer, weight, layer)}"


def _in_torch(name: str, initializer: Initializer, weight: str, layer: Layer) -> str:
    """The code for one tensor."""
    match initializer:
        case Zeros():
            return f"zeros_({name})"
        case Ones():
            return f"ones_({name})"
        case Constant():
            return f"constant_({name}, {initializer.value:.4g})"
        case Identity():
            gain = "" if initializer.gain == 1.0 else f".data.mul_({initializer.gain:.4g})"
            return f"eye_({name}){gain}"
        case Orthogonal():
            gain = "" if initializer.gain == 1.0 else f", gain={initializer.gain:.4g}"
            return f"orthogonal_({name}{gain})"
        case RandomNormal():
            return f"normal_({name}, std={initializer.stddev:.4g})"
        case RandomUniform():
            return f"uniform_({name}, {initializer.minval:.4g}, {initializer.maxval:.4g})"
        case TruncatedNormal():
            std = initializer.stddev
            bounds = f"a={initializer.lower * std:.4g}, b={initializer.upper * std:.4g}"
            return f"trunc_normal_({name}, std={std:.4g}, {bounds})"
        case VarianceScaling():
            return _torch_scaling(name, initializer, weight, layer)
    return ""


def _torch_scaling(name: str, initializer: VarianceScaling, weight: str, layer: Layer) -> str:
    """PyTorch's Kaiming or Xavier function if one fits, otherwise arithmetic."""
    scale, mode = initializer.scale, initializer.mode
    is_transposed = layer.family == "conv_transpose"
    if is_transposed and layer.groups > 1:
        mode = _OTHER_FAN.get(mode, mode)  # Its initializer is that of the convolution.
    if weight == "depthwise_kernel":
        # With one output for each input both fans are equal, but PyTorch's functions count all outputs.
        mode = "fan_in"
    kind = "uniform" if initializer.distribution == "uniform" else "normal"
    theirs = _OTHER_FAN.get(mode, mode) if is_transposed else mode
    is_known = (
        layer.family not in ("bilinear", "embedding") and initializer.distribution != "untruncated_normal"
    )
    if layer.groups > 1:
        is_known = is_known and theirs == "fan_in" and not is_transposed
    if layer.family == "bilinear":
        is_known = mode == "fan_in"
    if is_known and mode == "fan_avg" and (kind == "uniform" or scale == 1.0):
        gain = "" if scale == 1.0 else f", gain={math.sqrt(scale):.5g}"
        return f"xavier_{kind}_({name}{gain})"
    known = {1.0: "linear", 2.0: "relu"}.get(scale)
    if is_known and mode in ("fan_in", "fan_out") and known is not None:
        fan = "" if theirs == "fan_in" else f', mode="{theirs}"'
        return f'kaiming_{kind}_({name}{fan}, nonlinearity="{known}")'
    fan = _mean(mode, *_torch_fans(name, weight, layer))
    fan = f"({fan})" if " / " in fan or " * " in fan else fan
    if kind == "uniform":
        return f"bound = ({3 * scale:.5g} / {fan}) ** 0.5; uniform_({name}, -bound, bound)"
    if initializer.distribution == "untruncated_normal":
        return f"normal_({name}, std=({scale:.5g} / {fan}) ** 0.5)"
    std = f"std = ({scale:.5g} / {fan}) ** 0.5 / {_TRUNCATED:.5g}"
    return f"{std}; trunc_normal_({name}, std=std, a=-2 * std, b=2 * std)"


def _torch_fans(name: str, weight: str, layer: Layer) -> tuple[str, str]:
    """The fans as expressions."""
    if weight == "embeddings":
        return f"{name}.shape[0]", f"{name}.shape[1]"
    if layer.family == "bilinear":
        return f"{name}[0].numel()", f"{name}.shape[0]"
    if layer.family not in ("conv", "depthwise_conv", "separable_conv", "conv_transpose"):
        return f"{name}.shape[1]", f"{name}.shape[0]"
    first, second = f"{name}[0].numel()", f"{name}[:, 0].numel()"
    groups = f" / {layer.groups}" if layer.groups > 1 else ""
    if layer.family == "conv_transpose":
        return f"{second}{groups}", first
    return first, f"{second}{groups}"


def torch_names(weight: str, layer: Layer) -> tuple[str, ...]:
    """The tensors, or parts of them, that a weight is in PyTorch."""
    family = layer.family
    if weight in layer.names:
        return layer.names[weight]
    names: dict[str, Any] = dict.fromkeys(("depthwise_kernel", "embeddings", "gamma", "kernel"), "weight") | {
        "alpha": "weight" if family == "prelu" else "prelu.weight",
        "beta": "bias",
        "last_gamma": "last_norm.weight",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
        "output_kernel": "last.weight",
        "pointwise_kernel": "pointwise.weight",
        "key_position": "bias_k",
        "value_position": "bias_v",
    }
    if family in _RECURRENT:
        names |= {
            "kernel": "weight_ih_l0",
            "recurrent_kernel": "weight_hh_l0",
            "bias": ("bias_ih_l0", "bias_hh_l0"),
            "forget_bias": "bias_ih_l0",
        }
    if family == "attention":
        for i, part in enumerate(("query", "key", "value")):
            names[f"{part}_kernel"] = f"in_proj_weight.chunk(3)[{i}]"
        names |= {"output_kernel": "out_proj.weight", "bias": ("in_proj_bias", "out_proj.bias")}
    found = names.get(weight, weight)
    return found if isinstance(found, tuple) else (found,)
