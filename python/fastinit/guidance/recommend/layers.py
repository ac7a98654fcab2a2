"""The family of a layer, the roles of the axes of its kernels, and what an object says about itself.

No framework is imported: layers are recognized by the names of their classes, and asked for their attributes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from fastinit._checks import check_choice, check_int
from fastinit._registry import LAYOUTS
from fastinit._suggest import did_you_mean
from fastinit.theory.parse import is_activation

if TYPE_CHECKING:
    from collections.abc import Mapping

# The families, each with the names of its layers, without the number of dimensions.
_FAMILIES = {
    "dense": "dense linear einsumdense lazylinear fullyconnected mlp",
    "bilinear": "bilinear",
    "conv": "conv convolution lazyconv",
    "depthwise_conv": "depthwiseconv depthwise",
    "separable_conv": "separableconv separableconvolution separable",
    "conv_transpose": "convtranspose convolutiontranspose transposedconv deconv lazyconvtranspose",
    "embedding": "embedding embeddingbag reversibleembedding",
    "simple_rnn": "simplernn rnn simplernncell rnncell",
    "lstm": "lstm lstmcell",
    "gru": "gru grucell",
    "conv_lstm": "convlstm convlstmcell",
    "attention": "attention multiheadattention groupqueryattention groupedqueryattention selfattention",
    "dot_attention": "dotattention luongattention",
    "additive_attention": "additiveattention bahdanauattention",
    "normalization": (
        "normalization norm batchnormalization batchnorm syncbatchnorm lazybatchnorm layernormalization "
        "layernorm groupnormalization groupnorm instancenorm lazyinstancenorm rmsnormalization rmsnorm"
    ),
    "prelu": "prelu",
    "output": "output logits head classifier",
    "residual": "residual residualblock resnet transformerblock",
}
# Those with a kernel before the activation that comes after the layer.
PLAIN = ("dense", "bilinear", "conv", "depthwise_conv", "separable_conv", "conv_transpose")
_BY_NAME = {name: family for family, names in _FAMILIES.items() for name in names.split()}

# The packages whose classes are known by their names, and those of them with kernels (out, in, ...).
_PACKAGES = ("equinox", "flax", "haiku", "keras", "tf_keras", "torch")
_OUT_IN = ("equinox", "torch")
# Families that are found by the name of a class in Keras only.
_IN_KERAS = {"attention": "dot_attention"}
# Layers that consist of others, which are to be asked for one by one.
_SEVERAL = (
    "adaptivelogsoftmaxwithloss container dataparallel flaxlayer functional jaxlayer "
    "linearcrossentropyloss model moduledict modulelist parameterdict parameterlist pipeline sequential "
    "tfsmlayer transformer transformerdecoder transformerdecoderlayer transformerencoder "
    "transformerencoderlayer"
)
# Wrappers of Keras, with the attribute that holds the layer inside.
_INSIDE = {
    "bidirectional": "forward_layer",
    "rnn": "cell",
    "spectralnormalization": "layer",
    "stackedrnncells": "cells",
    "timedistributed": "layer",
    "torchmodulewrapper": "module",
    "wrapper": "layer",
}
# Layers whose weights do not come from an initializer.
_FROM_DATA = dict.fromkeys(
    ("normalization", "discretization", "stringlookup", "integerlookup", "textvectorization"),
    "its weights come from data, by adapt",
) | dict.fromkeys(("stftspectrogram", "melspectrogram"), "its kernels are those of a Fourier transform")
# The modules, inside Keras and PyTorch, of layers without weights (and the layer Identity).
_WEIGHTLESS = (
    "activation activations channelshuffle core distance dropout flatten fold identity loss merging "
    "normalization padding pixelshuffle pooling preprocessing regularization reshaping upsampling"
)

# Words in the names of such layers.
_WEIGHTLESS_WORDS = "activation dropout flatten identity loss pad pool relu reshape softmax upsampl"

# The axes of the inputs and outputs of a kernel in each layout; empty where they are the default, (..., in,
# out).
AXES: dict[tuple[str, str], dict[str, Any]] = {
    ("plain", "in_out"): {},
    ("plain", "out_in"): {"in_axis": 1, "out_axis": 0},
    # (in, in, out) and (out, in, in): a sum over all pairs of inputs.
    ("bilinear", "in_out"): {"in_axis": (0, 1), "out_axis": 2},
    ("bilinear", "out_in"): {"in_axis": (1, 2), "out_axis": 0},
    # (height, width, out, in) and (in, out, height, width)
    ("transposed", "in_out"): {"in_axis": -1, "out_axis": -2},
    ("transposed", "out_in"): {"in_axis": 0, "out_axis": 1},
    # (height, width, channels, multiplier) and (channels, 1, height, width): one input channel for each
    # output.
    ("depthwise", "in_out"): {"in_axis": (), "out_axis": -1, "batch_axis": -2},
    ("depthwise", "out_in"): {"in_axis": 1, "out_axis": (), "batch_axis": 0},
    # (model, heads, head) and (heads, head, model) in Keras; matrices in PyTorch.
    ("to_heads", "in_out"): {"in_axis": 0, "out_axis": (1, 2)},
    ("to_heads", "out_in"): {"in_axis": 1, "out_axis": 0},
    ("from_heads", "in_out"): {"in_axis": (0, 1), "out_axis": 2},
    ("from_heads", "out_in"): {"in_axis": 1, "out_axis": 0},
}


@dataclass(frozen=True)
class Layer:
    """A family of layers, and what an object of it says.

    Attributes:
        family: The family.
        layout: The layout of its kernels.
        groups: The groups of a convolution.
        activation: The activation that the object has; `None` if it says nothing.
        strides: The product of the strides of a transposed convolution; `None` if it is not known.
        multiplier: The outputs of a depthwise kernel for each channel; `None` if it is not known.
        equation: The equation of a dense layer by `einsum`.
        lacks: The weights of the family that the layer does not have.
        extras: Weights that few layers of the family have.
        names: The names of weights in PyTorch, where they are not the usual ones.
        attributes: The attributes of a Keras layer that hold weights without an argument of its own.
        places: The objects that hold the weights of a Keras layer.
        padding: The row of an embedding that stays zero.
        notes: What to look out for.
    """

    family: str
    layout: str
    groups: int = 1
    activation: object = None
    strides: int | None = None
    multiplier: int | None = None
    equation: str | None = None
    lacks: frozenset[str] = frozenset()
    extras: tuple[str, ...] = ()
    names: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    attributes: Mapping[str, str] = field(default_factory=dict)
    places: tuple[str, ...] = ("layer",)
    padding: int | None = None
    notes: tuple[str, ...] = ()

    def axes(self, role: str) -> dict[str, Any]:
        """The axes of a kernel with this role, a key of `AXES`, and the groups."""
        if self.equation is not None and role == "plain":
            return _einsum_axes(self.equation)
        keys = dict(AXES[role, self.layout])
        return keys | ({"groups": self.groups} if self.groups > 1 else {})


def _einsum_axes(equation: str) -> dict[str, Any]:
    """The roles of the axes of the second operand."""
    given, made = equation.replace(" ", "").replace(".", "").split("->")
    inputs, kernel = given.split(",")
    in_axes = tuple(i for i, axis in enumerate(kernel) if axis not in made)
    out_axes = tuple(i for i, axis in enumerate(kernel) if axis not in inputs)
    both = tuple(i for i, axis in enumerate(kernel) if axis in inputs and axis in made)
    if (in_axes, out_axes, both) == ((0,), (1,), ()):
        return {}
    return {"in_axis": in_axes, "out_axis": out_axes} | ({"batch_axis": both} if both else {})


def resolve_layer(layer: object, layout: str | None = None, groups: int | None = None) -> Layer:
    """The family of a layer, by a name in any case, or by a class or an object of Keras or PyTorch.

    Raises:
        ValueError: If a name is unknown, the layer has no weights or consists of several layers, or `layout`
            or `groups` is out of range.
        TypeError: If an argument is of the wrong kind.
    """
    if layout is not None:
        check_choice("layout", layout, LAYOUTS)
    found = _named(layer) if isinstance(layer, str) else _of_framework(layer)
    if layout is not None:
        found = replace(found, layout=layout)
    groups = check_int("groups", found.groups if groups is None else groups, 1)
    if groups > 1 and found.family not in ("conv", "conv_transpose"):
        raise ValueError(
            f"groups is for the layers 'conv' and 'conv_transpose', not for {found.family!r}, got {groups}"
        )
    return replace(found, groups=groups)


def _plain(name: str) -> str:
    """A name in lower case, without the characters between words and the number of dimensions."""
    plain = "".join(c for c in name.lower() if c.isalnum())
    for dimensions in ("1d", "2d", "3d"):
        plain = plain.replace(dimensions, "")
    return plain


def _named(name: str) -> Layer:
    plain = _plain(name)
    family = _BY_NAME.get(plain)
    if family is None:
        if is_activation(name):
            raise ValueError(f"{name!r} is an activation, not a layer: pass it as the first argument")
        if any(word in plain for word in _WEIGHTLESS_WORDS.split()):
            raise ValueError(f"{name!r:.80} has no weights: there is nothing to initialize")
        hint = did_you_mean(plain, _FAMILIES, _BY_NAME) or f"; it must be one of {', '.join(_FAMILIES)}"
        raise ValueError(f"unknown layer {name!r:.80}{hint}")
    notes: tuple[str, ...] = ()
    if plain in ("normalization", "norm"):
        notes = ("not every layer has all of these weights: only batch normalization has moving statistics",)
    lacks, places = _lacks_by_name(family, plain), _places(family, plain)
    return Layer(family, "in_out", lacks=lacks, places=places, notes=notes)


def _places(family: str, plain: str) -> tuple[str, ...]:
    """The objects that hold the weights of a layer of Keras of this name."""
    has_cell = family in ("simple_rnn", "lstm", "gru", "conv_lstm") and not plain.endswith("cell")
    return ("layer.cell",) if has_cell else ("layer",)


def _lacks_by_name(family: str, plain: str) -> frozenset[str]:
    """The weights that no layer of this name has."""
    if family != "normalization" or plain in ("normalization", "norm"):
        return frozenset()
    lacks = set() if "batchnorm" in plain else {"moving_mean", "moving_variance"}
    return frozenset(lacks | ({"beta"} if plain.startswith("rms") else set()))


# Layers of frameworks


def _of_framework(layer: Any) -> Layer:
    """The family and the details of a class or an object of a framework."""
    cls = layer if isinstance(layer, type) else type(layer)
    is_object = cls is not layer
    for base in cls.__mro__:
        package = base.__module__.split(".")[0]
        plain = _plain(base.__name__)
        if package not in _PACKAGES:
            continue
        in_keras = package in ("keras", "tf_keras")
        if in_keras and plain in _INSIDE:
            return _inside(layer, plain, is_object)
        if plain in _SEVERAL.split():
            raise ValueError(
                f"{cls.__name__} consists of other layers: pass it as the first argument, as a model, or ask "
                "for each of them"
            )
        if in_keras and plain in _FROM_DATA:
            raise ValueError(f"{cls.__name__} needs no initializer: {_FROM_DATA[plain]}")
        family = (_IN_KERAS if in_keras else {}).get(plain) or _BY_NAME.get(plain)
        if family is not None:
            layout = "out_in" if package in _OUT_IN else "in_out"
            lacks, places = _lacks_by_name(family, plain), _places(family, plain)
            found = Layer(family, layout, lacks=lacks, places=places)
            if is_object:
                found = _described(found, layer, plain, is_torch=package == "torch")
            elif family == "dot_attention":
                raise ValueError(f"{cls.__name__} has weights only with use_scale=True: pass an object")
            return found
        where = {plain, *base.__module__.split(".")}
        if base is cls and where & set(_WEIGHTLESS.split()) and not (is_object and _has_weights(layer)):
            raise ValueError(f"{cls.__name__} has no weights: there is nothing to initialize")
    hint = (
        did_you_mean(_plain(cls.__name__), _FAMILIES, _BY_NAME)
        or f"; it must be one of {', '.join(_FAMILIES)}"
    )
    raise ValueError(f"unknown layer {layer!r:.80}{hint}")


def _has_weights(layer: Any) -> bool:
    weights = layer.weights if hasattr(layer, "trainable_weights") else getattr(layer, "parameters", tuple)()
    return any(True for _ in weights)


def _inside(layer: Any, plain: str, is_object: bool) -> Layer:  # noqa: FBT001 - private
    """The layer that a wrapper of Keras contains."""
    name = (layer if isinstance(layer, type) else type(layer)).__name__
    if not is_object:
        raise ValueError(f"{name} has the weights of the layer inside: pass an object, or that layer")
    if plain == "torchmodulewrapper":
        return _of_framework(layer.module)
    parts = {f".{_INSIDE[plain]}": getattr(layer, _INSIDE[plain])}
    if plain == "stackedrnncells":
        parts = {f".cells[{i}]": cell for i, cell in enumerate(layer.cells)}
    elif plain == "bidirectional":
        parts[".backward_layer"] = layer.backward_layer
    found = [_of_framework(part) for part in parts.values()]
    inner = found[0]
    if any(other != inner for other in found):
        raise ValueError(f"{name} has layers of different kinds: ask for each of them")
    changes: dict[str, Any] = {}
    if plain == "spectralnormalization":
        changes["extras"] = (*inner.extras, "vector_u")
        changes["attributes"] = {**inner.attributes, "vector_u": "layer.vector_u"}
    note = f"the arguments are those of the layer inside of {name}"
    return replace(
        inner,
        places=tuple(place.replace("layer", f"layer{part}", 1) for part in parts for place in inner.places),
        notes=tuple(dict.fromkeys((*inner.notes, note))),
        **changes,
    )


def _flag(layer: Any, *names: str) -> bool | None:
    """The first of these attributes that the layer has and that is a truth value."""
    for name in names:
        value = getattr(layer, name, None)
        if isinstance(value, bool):
            return value
    return None


def _described(found: Layer, layer: Any, plain: str, *, is_torch: bool) -> Layer:
    """What an object says: its activation, the weights that it has, and their names."""
    lacks, extras = set(found.lacks), []
    attributes: dict[str, str] = {}
    notes: list[str] = []
    changes: dict[str, Any] = {"activation": getattr(layer, "activation", None)}
    if found.family in ("simple_rnn", "lstm", "gru") and is_torch:
        changes["activation"] = getattr(layer, "nonlinearity", "tanh")
    elif found.family in ("normalization", "embedding", "prelu", "attention"):
        changes["activation"] = None

    # The bias
    bias = _flag(layer, "use_bias", "with_bias")
    if bias is None and hasattr(layer, "bias_axes"):
        bias = layer.bias_axes is not None
    if bias is None and is_torch:
        value = layer.in_proj_bias if hasattr(layer, "in_proj_bias") else getattr(layer, "bias", None)
        bias = value is not None and value is not False
    if bias is False:
        lacks |= {"bias", "forget_bias"}
    if getattr(layer, "lora_rank", None):
        kind = "embeddings" if found.family == "embedding" else "kernel"
        extras += [f"lora_{kind}_a", f"lora_{kind}_b"]

    # Details of each family
    match found.family:
        case "conv":
            groups = getattr(layer, "groups", getattr(layer, "feature_group_count", 1))
            changes["groups"] = groups if isinstance(groups, int) else 1
            # PyTorch's convolution with a group for each channel is a depthwise convolution in Keras.
            if groups != 1 and groups == getattr(layer, "in_channels", None):
                changes |= {
                    "family": "depthwise_conv",
                    "groups": 1,
                    "multiplier": layer.out_channels // groups,
                }
        case "conv_transpose":
            changes["groups"] = getattr(layer, "groups", 1) if is_torch else 1
            strides = getattr(layer, "stride" if is_torch else "strides", 1)
            changes["strides"] = math.prod(strides) if isinstance(strides, (tuple, list)) else int(strides)
        case "depthwise_conv" | "separable_conv":
            changes["multiplier"] = getattr(layer, "depth_multiplier", 1)
        case "dense":
            changes["equation"] = getattr(layer, "equation", None)
        case "embedding":
            changes["padding"] = getattr(layer, "padding_idx", None)
            if plain == "reversibleembedding":
                extras.append("shared" if layer.tie_weights else "reverse_embeddings")
                attributes["reverse_embeddings"] = "reverse_embeddings"
        case "normalization":
            lacks = _lacks_of_normalization(layer, is_torch=is_torch) | (set() if is_torch else lacks)
            extras += ["moving_stddev", "renorm_mean", "renorm_stddev"] * bool(_flag(layer, "renorm"))
            if plain == "rmsnormalization":
                attributes["gamma"] = "scale"
        case "dot_attention" | "additive_attention":
            if not layer.use_scale:
                lacks.add("scale")
            if found.family == "dot_attention" and layer.score_mode == "concat":
                extras.append("concat_score_weight")
        case "attention":
            if _flag(layer, "_use_gate"):
                extras.append("gate_kernel")
            if getattr(layer, "bias_k", None) is not None:
                extras += ["key_position", "value_position"]
        case "lstm" | "conv_lstm":
            if _flag(layer, "unit_forget_bias") is False and not lacks:
                notes.append("with unit_forget_bias=False half of the state is forgotten in each step")
    gate = getattr(getattr(layer, "recurrent_activation", None), "__name__", None)
    if gate is not None and "sigmoid" not in gate:
        notes.append(f"recurrent_activation is {gate}: the reasons hold for gates between 0 and 1")
    attributes |= {name: name for name in (*extras, "scale") if name not in ("shared", "gate_kernel")}
    names = _torch_names(layer, found.family, extras) if is_torch else {}
    return replace(
        found,
        lacks=frozenset(lacks),
        extras=tuple(extras),
        names=names,
        attributes=attributes,
        notes=tuple(notes),
        **changes,
    )


def _lacks_of_normalization(layer: Any, *, is_torch: bool) -> set[str]:
    """The weights that this layer does not have."""
    lacks = set()
    if is_torch:
        lacks |= {"gamma"} if getattr(layer, "weight", None) is None else set()
        lacks |= {"beta"} if getattr(layer, "bias", None) is None else set()
        if getattr(layer, "running_mean", None) is None:
            lacks |= {"moving_mean", "moving_variance"}
        return lacks
    lacks |= {"gamma"} if _flag(layer, "scale", "use_scale") is False else set()
    lacks |= {"beta"} if _flag(layer, "center", "use_bias") is False else set()
    return lacks


def _torch_names(layer: Any, family: str, extras: list[str]) -> dict[str, tuple[str, ...]]:
    """The names of the weights of an object of PyTorch, where they are not the usual ones."""
    if family in ("simple_rnn", "lstm", "gru"):
        ends = [""]
        if hasattr(layer, "num_layers"):
            ways = ("", "_reverse") if layer.bidirectional else ("",)
            ends = [f"_l{i}{way}" for i in range(layer.num_layers) for way in ways]
        names = {
            "kernel": tuple(f"weight_ih{end}" for end in ends),
            "recurrent_kernel": tuple(f"weight_hh{end}" for end in ends),
            "bias": tuple(f"bias_{part}{end}" for part in ("ih", "hh") for end in ends),
            "forget_bias": tuple(f"bias_ih{end}" for end in ends),
        }
        if getattr(layer, "proj_size", 0):
            extras.append("projection_kernel")
            names["projection_kernel"] = tuple(f"weight_hr{end}" for end in ends)
        return names
    if family == "attention" and layer.in_proj_weight is None:
        return {f"{part}_kernel": (f"{part[0]}_proj_weight",) for part in ("query", "key", "value")}
    if hasattr(layer, "parametrizations"):
        weight = (_parametrized(layer, "weight"),)
        kernels = dict.fromkeys(("kernel", "depthwise_kernel", "embeddings"), weight)
        return {**kernels, "bias": (_parametrized(layer, "bias"),)}
    return {}


def _parametrized(layer: Any, name: str) -> str:
    """The name of the tensor behind a parametrization, such as that of a spectral norm."""
    if name not in layer.parametrizations:
        return name
    if not hasattr(layer.parametrizations[name], "original"):
        raise ValueError(
            f"the parametrization of {name} has several tensors: ask for the layer before it is registered"
        )
    return f"parametrizations.{name}.original"
