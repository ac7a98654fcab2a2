"""Models in ONNX: their initializers, by the library onnx.

The operation that uses an initializer tells what it is. Nothing but files beside the model is opened for
initializers whose elements it does not contain.

Source: ONNX, "Operators", docs/Operators.md.
"""

from __future__ import annotations

import functools
import io
import math
from typing import TYPE_CHECKING, Any

import numpy as np

from fastinit._files import check_input
from fastinit._registry import install_hint

from ..roles import describe, role_of
from .arrays import unreadable
from .elements import bits_of, file_reader, is_readable, parsing, read_array

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..tensors import Skipped, Tensor

_DTYPES = {
    "FLOAT": "float32",
    "DOUBLE": "float64",
    "FLOAT16": "float16",
    "BFLOAT16": "bfloat16",
    "FLOAT8E4M3FN": "float8_e4m3fn",
    "FLOAT8E5M2": "float8_e5m2",
}
_RECURRENT = ("", "kernel", "recurrent", "bias")
# The roles of the inputs of operations, in their order; "" for what its name tells.
_ROLES = {
    "BatchNormalization": ("", "scale", "bias", "running_mean", "running_var"),
    **dict.fromkeys(
        ("LayerNormalization", "GroupNormalization", "InstanceNormalization"), ("", "scale", "bias")
    ),
    **dict.fromkeys(("RMSNormalization", "SimplifiedLayerNormalization"), ("", "scale")),
    **dict.fromkeys(("Conv", "ConvTranspose", "Gemm"), ("", "kernel", "bias")),
    **dict.fromkeys(("LSTM", "GRU", "RNN"), _RECURRENT),
    "MatMul": ("kernel", "kernel"),
    "Gather": ("embedding",),
}


def from_onnx(path: Path) -> Iterator[Tensor | Skipped]:
    """The initializers of a model."""
    try:
        import onnx
    except ImportError as error:
        raise ImportError(f"reading {path.name} needs onnx: {install_hint('onnx')}") from error
    with parsing(path):
        graph = onnx.load(path, load_external_data=False).graph
        used = _uses(graph)
        found = [_tensor(onnx, path, one, used.get(one.name)) for one in graph.initializer]
    if len({one.name for one in graph.initializer}) < len(graph.initializer):
        raise ValueError(f"{path} is damaged: it has two initializers of one name")
    yield from found


def _uses(graph: Any) -> dict[str, tuple[Any, int]]:
    """The first operation that uses a tensor, perhaps of another dtype, and as which of its inputs."""
    found: dict[str, tuple[Any, int]] = {}
    for node in graph.node:
        for at, name in enumerate(node.input):
            if node.op_type not in ("Identity", "Cast", "Transpose"):
                found.setdefault(name, (node, at))
    for node in reversed(graph.node):
        if node.op_type in ("Identity", "Cast") and node.output and node.output[0] in found:
            found.setdefault(node.input[0], found[node.output[0]])
    return found


def _known(node: Any, at: int, axes: int) -> tuple[str, dict[str, Any]]:
    """The layout of an input of an operation, and what else is known of it."""
    roles = _ROLES.get(node.op_type, ())
    settings = {one.name: one.i for one in node.attribute}
    role = roles[at] if at < len(roles) else ""
    if not role or (role == "kernel" and axes < 2):
        return "out_in", {}
    known: dict[str, Any] = {"role": role, "certain": True, "norm": "Normalization" in node.op_type}
    if node.op_type in ("Conv", "ConvTranspose") and role == "kernel":
        known |= {"groups": max(1, settings.get("group", 1)), "transposed": node.op_type == "ConvTranspose"}
    if node.op_type in ("LSTM", "GRU", "RNN"):
        known["hidden"] = (settings.get("hidden_size", 0),)
    in_out = (node.op_type == "Gemm" and not settings.get("transB", 0)) or (
        node.op_type == "MatMul" and at == 1
    )
    return "in_out" if in_out and role == "kernel" else "out_in", known


def _tensor(onnx: Any, path: Path, one: Any, use: tuple[Any, int] | None) -> Tensor | Skipped:
    shape = tuple(one.dims)
    name, kind = one.name, onnx.TensorProto.DataType.Name(one.data_type)
    dtype = _DTYPES.get(kind, kind.lower())
    if not is_readable(dtype):
        return unreadable(name, dtype, integer=kind.startswith(("INT", "UINT", "BOOL")))
    if min(shape, default=0) < 0:
        raise ValueError(f"{name!r:.200} has the shape {shape!s:.80}")
    layout, known = ("out_in", {}) if use is None else _known(*use, len(shape))
    if use is not None and not known and role_of(name, shape) == "kernel":
        known = {
            "role": "parameter"
        }  # Something that is added or multiplied element by element, for example.
    groups = known.get("groups", 1)
    if shape and shape[0] % groups:
        raise ValueError(f"{name!r:.200} of shape {shape!s:.80} is of a convolution in {groups} groups")
    if known.get("hidden"):  # The first axis has the directions, whose gates are side by side here.
        shape = (shape[0] * shape[1], *shape[2:]) if len(shape) > 2 else (math.prod(shape),)
    bits = bits_of(dtype).newbyteorder("<")
    if one.data_location == onnx.TensorProto.EXTERNAL:
        about = {entry.key: entry.value for entry in one.external_data}
        file, offset = _beside(path, about.get("location", "")), int(about.get("offset", 0))
        if offset < 0 or offset + math.prod(shape) * bits.itemsize > file.stat().st_size:
            raise ValueError(f"{file} ends before the data of {name!r:.200}")
        read = file_reader(functools.partial(io.FileIO, file), offset, bits, dtype, str(file))
        return describe(name, shape, dtype, read, layout, **known)
    if one.HasField("raw_data"):
        array = np.frombuffer(one.raw_data, bits)
    else:
        array = np.asarray(onnx.numpy_helper.to_array(one))
        array = np.ascontiguousarray(array).reshape(-1).view(bits_of(dtype))
    if array.size != math.prod(shape):
        raise ValueError(f"{name!r:.200} of shape {shape!s:.80} has {array.size:,} elements")
    native = array.astype(array.dtype.newbyteorder("="), copy=False)
    return describe(name, shape, dtype, functools.partial(read_array, native, dtype), layout, **known)


def _beside(path: Path, name: str) -> Path:
    """A file beside the model; nothing else is opened, whatever the model says."""
    if not name or "/" in name or "\\" in name or name in (".", ".."):
        raise ValueError(f"it names {name!r:.200}, which is not a file beside it")
    check_input(path.parent / name)
    return path.parent / name
