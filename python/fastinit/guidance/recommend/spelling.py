"""How to say an initializer: in short, in Keras, and with the functions of `fastinit.torch`."""

from __future__ import annotations

import inspect
import math
from typing import TYPE_CHECKING

from fastinit.initializers import (
    Constant,
    DeltaOrthogonal,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
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

if TYPE_CHECKING:
    from fastinit.initializers import Initializer

    from .layers import Layer

# Where the name of the argument of a Keras layer is not that of the weight.
_ARGUMENTS = {
    "depthwise_kernel": "depthwise_initializer",
    "last_gamma": "gamma_initializer",
    "output_kernel": "kernel_initializer",
    "pointwise_kernel": "pointwise_initializer",
    "recurrent_kernel": "recurrent_initializer",
}
# Those that a name says all of.
_KERAS_NAMES = {
    GlorotNormal: "glorot_normal",
    GlorotUniform: "glorot_uniform",
    HeNormal: "he_normal",
    HeUniform: "he_uniform",
    LecunNormal: "lecun_normal",
    LecunUniform: "lecun_uniform",
    Ones: "ones",
    Zeros: "zeros",
}


def short(initializer: Initializer) -> str:
    """The call that makes an initializer, without what is as by default; numbers with four digits."""
    cls = type(initializer)
    defaults = {name: p.default for name, p in inspect.signature(cls).parameters.items()}
    parts = [
        f"{name}={_number(value)}"
        for name, value in initializer.get_config().items()
        if value != defaults[name] or name == "stddev"
    ]
    return f"{cls.__name__}({', '.join(parts)})"


def _number(value: object) -> str:
    return f"{value:.4g}" if isinstance(value, float) else repr(value)


def keras_spelling(weight: str, initializer: Initializer, layer: Layer) -> str:
    """The argument of the Keras layer."""
    if weight == "forget_bias":
        return "unit_forget_bias=True"
    argument = _ARGUMENTS.get(weight, f"{weight}_initializer")
    if layer.family == "attention" and weight != "bias":
        # One initializer for four kernels: the layer itself knows which axes of each are which.
        argument, initializer = "kernel_initializer", _without_axes(initializer)
    name = _KERAS_NAMES.get(type(initializer))
    if name is not None and initializer == type(initializer)():
        return f'{argument}="{name}"'
    # Those of fastinit.keras follow Keras's seeds and are saved with a model, but know less.
    call = short(initializer)
    if not any(word in call for word in ("_axis=", "groups=", "fan_geo_avg")):
        return f"{argument}=fastinit.keras.{call}"
    # The others do not see which axes a layer has told Keras about.
    return "" if layer.family == "attention" else f"{argument}=fastinit.{call}"


def _without_axes(initializer: Initializer) -> Initializer:
    config = initializer.get_config()
    return type(initializer).from_config(
        {name: value for name, value in config.items() if name not in ("in_axis", "out_axis", "batch_axis")}
    )


# In transposed convolutions PyTorch's functions take each fan for the other.
_OTHER_FAN = {"fan_in": "fan_out", "fan_out": "fan_in"}


def torch_spelling(weight: str, initializer: Initializer, layer: Layer) -> str:
    """The call of a function of `fastinit.torch`, with PyTorch's name of the weight, if there is one."""
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
        case DeltaOrthogonal():
            return ""
    scale, mode, distribution = scaling(initializer)
    if layer.family == "conv_transpose":
        mode = _OTHER_FAN.get(mode, mode)
    if weight == "depthwise_kernel":
        # With one output for each input both fans are the same, but PyTorch's functions count all outputs.
        mode = "fan_in"
    if layer.groups > 1 and mode != "fan_in":
        return ""
    return _torch_scaling(name, scale, mode, distribution)


def _torch_name(weight: str, family: str) -> str:
    """The weight as PyTorch names it."""
    names = {
        "alpha": "prelu.weight",
        "beta": "bias",
        "embeddings": "weight",
        "gamma": "weight",
        "kernel": "weight",
        "last_gamma": "last_norm.weight",
        "moving_mean": "running_mean",
        "moving_variance": "running_var",
        "output_kernel": "last.weight",
        "depthwise_kernel": "weight",
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
        third = {
            f"{part}_kernel": f"in_proj_weight.chunk(3)[{i}]"
            for i, part in enumerate(("query", "key", "value"))
        }
        names |= {**third, "output_kernel": "out_proj.weight", "bias": "in_proj_bias"}
    return names.get(weight, weight)


def scaling(initializer: Initializer) -> tuple[float, str, str]:
    """A variance scaling by its parameters."""
    match initializer:
        case VarianceScaling():
            return initializer.scale, initializer.mode, initializer.distribution
        case HeNormal() | HeUniform():
            scale, mode = 2.0, "fan_in"
        case LecunNormal() | LecunUniform():
            scale, mode = 1.0, "fan_in"
        case _:
            scale, mode = 1.0, "fan_avg"
    uniform = isinstance(initializer, (GlorotUniform, HeUniform, LecunUniform))
    return scale, mode, "uniform" if uniform else "truncated_normal"


def _torch_scaling(name: str, scale: float, mode: str, distribution: str) -> str:
    """Kaiming's and Xavier's functions where they say it, else the general one."""
    law = "uniform" if distribution == "uniform" else "normal"
    if mode == "fan_avg":
        gain = "" if scale == 1.0 else f", gain={math.sqrt(scale):.5g}"
        return f"xavier_{law}_({name}{gain})"
    if mode == "fan_geo_avg":
        return ""
    known = {1.0: "linear", 2.0: "relu"}.get(scale)
    if known is not None:
        fan = "" if mode == "fan_in" else f', mode="{mode}"'
        return f'kaiming_{law}_({name}{fan}, nonlinearity="{known}")'
    full = "normal" if distribution == "untruncated_normal" else distribution
    return f'variance_scaling_({name}, {scale:.5g}, "{mode}", "{full}")'
