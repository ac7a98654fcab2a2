"""Layers and models of Keras, which is never imported: its objects exist only where it is loaded."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from ..roles import leaf_of
from . import torch
from .arrays import from_array

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..tensors import Skipped, Tensor


def is_layer(x: Any) -> bool:
    """Whether it is a layer or a model of Keras."""
    keras = sys.modules.get("keras")
    return keras is not None and isinstance(x, keras.layers.Layer)


def from_layer(model: Any) -> Iterator[Tensor | Skipped]:
    """The weights of a layer or a model that has been built."""
    owners: dict[int, Any] = {}
    for layer in _layers(model):  # Inner layers come later and own their weights.
        owners.update((id(variable), layer) for variable in layer.weights)
    for variable in model.weights:
        layer, leaf = owners[id(variable)], leaf_of(variable.path)
        declared = getattr(layer, f"{leaf}_initializer", None)
        declared = declared or getattr(layer, f"{leaf.removesuffix('_kernel')}_initializer", None)
        known = {
            "certain": True,
            "norm": "norm" in type(layer).__name__.lower(),
            "transposed": "Transpose" in type(layer).__name__,
            "orthogonal": type(declared).__name__ in ("Orthogonal", "OrthogonalInitializer"),
        }
        if torch.is_tensor(variable.value):
            yield torch.from_tensor(variable.path, variable.value, "in_out", **known)
        else:
            yield from_array(variable.path, np.asarray(variable.value), "in_out", **known)


def _layers(layer: Any) -> Iterator[Any]:
    yield layer
    for inner in getattr(layer, "_layers", None) or ():
        yield from _layers(inner)
