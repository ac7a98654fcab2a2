"""The family of a layer, and the roles of the axes of its kernels."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from fastinit._checks import check_choice, check_int
from fastinit._registry import LAYOUTS
from fastinit._suggest import did_you_mean

# The families, each with the names of its layers, without the number of dimensions.
_FAMILIES = {
    "dense": "dense linear einsumdense lazylinear fullyconnected mlp",
    "conv": "conv convolution lazyconv",
    "depthwise_conv": "depthwiseconv depthwise",
    "separable_conv": "separableconv separable",
    "conv_transpose": "convtranspose transposedconv deconv lazyconvtranspose",
    "embedding": "embedding embeddingbag",
    "simple_rnn": "simplernn rnn simplernncell rnncell",
    "lstm": "lstm lstmcell",
    "gru": "gru grucell",
    "attention": "attention multiheadattention groupqueryattention groupedqueryattention selfattention",
    "normalization": (
        "normalization norm batchnormalization batchnorm syncbatchnorm lazybatchnorm layernormalization "
        "layernorm groupnormalization groupnorm instancenorm rmsnormalization rmsnorm"
    ),
    "output": "output logits head classifier",
    "residual": "residual residualblock resnet transformerblock",
}
_BY_NAME = {name: family for family, names in _FAMILIES.items() for name in names.split()}

# The axes of the inputs and outputs of a kernel in each layout; empty where they are the default, (..., in,
# out).
AXES: dict[tuple[str, str], dict[str, Any]] = {
    ("plain", "in_out"): {},
    ("plain", "out_in"): {"in_axis": 1, "out_axis": 0},
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
    """A family of layers, the layout of its kernels, and the groups of a convolution."""

    family: str
    layout: str
    groups: int


def resolve_layer(layer: object, layout: str | None = None, groups: int | None = None) -> Layer:
    """The family of a layer, by a name in any case, or by a class or an object of Keras or PyTorch.

    Raises:
        ValueError: If a name is unknown, or `layout` or `groups` is out of range.
        TypeError: If an argument is of the wrong kind.
    """
    kind = layer if isinstance(layer, type) else type(layer)
    name = layer if isinstance(layer, str) else kind.__name__
    family = _BY_NAME.get(_plain(name))
    if family is None:
        hint = (
            did_you_mean(_plain(name), _FAMILIES, _BY_NAME) or f"; it must be one of {', '.join(_FAMILIES)}"
        )
        raise ValueError(f"unknown layer {layer!r:.80}{hint}")
    if layout is None:
        packages = {base.__module__.split(".")[0] for base in kind.__mro__}
        layout = "out_in" if "torch" in packages and "keras" not in packages else "in_out"
    else:
        check_choice("layout", layout, LAYOUTS)
    if groups is None:
        found = 1 if isinstance(layer, (str, type)) else getattr(layer, "groups", 1)
        groups = found if isinstance(found, int) else 1
        # PyTorch's convolution with a group for each channel is a depthwise convolution in Keras.
        if family == "conv" and groups > 1 and groups == getattr(layer, "in_channels", None):
            family, groups = "depthwise_conv", 1
    groups = check_int("groups", groups, 1)
    if groups > 1 and family != "conv":
        raise ValueError(f"groups is for the layer 'conv', not for {family!r}, got {groups}")
    return Layer(family, layout, groups)


def _plain(name: str) -> str:
    """A name in lower case, without the characters between words and the number of dimensions."""
    plain = "".join(c for c in name.lower() if c.isalnum())
    for dimensions in ("1d", "2d", "3d"):
        plain = plain.replace(dimensions, "")
    return plain
