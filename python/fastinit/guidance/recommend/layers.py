"""Layers: which family a name or an object is of, and which axes of its kernels are inputs and outputs."""

from __future__ import annotations

import difflib
from dataclasses import dataclass
from typing import Any

from fastinit._checks import check_int

LAYOUTS = ("keras", "torch")

# The families, and the names of layers that are of each, without the number of dimensions.
_FAMILIES = {
    "dense": ("dense", "linear", "einsumdense", "lazylinear", "fullyconnected", "mlp"),
    "conv": ("conv", "convolution", "lazyconv"),
    "depthwise_conv": ("depthwiseconv", "depthwise"),
    "separable_conv": ("separableconv", "separable"),
    "conv_transpose": ("convtranspose", "transposedconv", "deconv", "lazyconvtranspose"),
    "embedding": ("embedding", "embeddingbag"),
    "simple_rnn": ("simplernn", "rnn", "simplernncell", "rnncell"),
    "lstm": ("lstm", "lstmcell"),
    "gru": ("gru", "grucell"),
    "attention": (
        "attention",
        "multiheadattention",
        "groupqueryattention",
        "groupedqueryattention",
        "selfattention",
    ),
    "normalization": (
        "normalization",
        "norm",
        "batchnormalization",
        "batchnorm",
        "syncbatchnorm",
        "lazybatchnorm",
        "layernormalization",
        "layernorm",
        "groupnormalization",
        "groupnorm",
        "instancenorm",
        "rmsnormalization",
        "rmsnorm",
    ),
    "output": ("output", "logits", "head", "classifier"),
    "residual": ("residual", "residualblock", "resnet", "transformerblock"),
}
_BY_NAME = {name: family for family, aliases in _FAMILIES.items() for name in aliases} | {
    family.replace("_", ""): family for family in _FAMILIES
}

# Where the inputs and outputs of a kernel are, in each layout. Empty is `(..., in, out)`.
AXES: dict[tuple[str, str], dict[str, Any]] = {
    ("plain", "keras"): {},
    ("plain", "torch"): {"in_axis": 1, "out_axis": 0},
    # (height, width, out, in) and (in, out, height, width)
    ("transposed", "keras"): {"in_axis": -1, "out_axis": -2},
    ("transposed", "torch"): {"in_axis": 0, "out_axis": 1},
    # (height, width, channels, multiplier) and (channels, 1, height, width): each output sees one channel.
    ("depthwise", "keras"): {"in_axis": (), "out_axis": -1, "batch_axis": -2},
    ("depthwise", "torch"): {"in_axis": 1, "out_axis": (), "batch_axis": 0},
    # (model, heads, head) and its way back, (heads, head, model); two axes in PyTorch.
    ("to_heads", "keras"): {"in_axis": 0, "out_axis": (1, 2)},
    ("to_heads", "torch"): {"in_axis": 1, "out_axis": 0},
    ("from_heads", "keras"): {"in_axis": (0, 1), "out_axis": 2},
    ("from_heads", "torch"): {"in_axis": 1, "out_axis": 0},
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
        near = difflib.get_close_matches(_plain(name), _BY_NAME, n=1)
        hint = f"did you mean {_BY_NAME[near[0]]!r}?" if near else f"it must be one of {', '.join(_FAMILIES)}"
        raise ValueError(f"unknown layer {layer!r:.80}; {hint}")
    if layout is None:
        in_torch = not isinstance(layer, str) and _is_of_torch(kind)
        layout = "torch" if in_torch else "keras"
    elif layout not in LAYOUTS:
        raise ValueError(f"layout must be one of {', '.join(LAYOUTS)}; got {layout!r}")
    if groups is None:
        found = 1 if isinstance(layer, (str, type)) else getattr(layer, "groups", 1)
        groups = found if isinstance(found, int) else 1
        # A convolution of PyTorch with a group for each channel is what Keras calls depthwise.
        if family == "conv" and groups > 1 and groups == getattr(layer, "in_channels", None):
            family, groups = "depthwise_conv", 1
    groups = check_int("groups", groups, 1)
    if groups > 1 and family != "conv":
        raise ValueError(f"groups goes with the layer 'conv', and not with {family!r}; got {groups}")
    return Layer(family, layout, groups)


def _plain(name: str) -> str:
    """A name without case, what stands between words, and the number of dimensions."""
    plain = "".join(c for c in name.lower() if c.isalnum())
    for dimensions in ("1d", "2d", "3d"):
        plain = plain.replace(dimensions, "")
    return plain


def _is_of_torch(kind: type) -> bool:
    return any(base.__module__.split(".")[0] == "torch" for base in kind.__mro__) and not any(
        base.__module__.split(".")[0] == "keras" for base in kind.__mro__
    )
