"""Layers and models of Keras, which is never imported: its objects exist only where it is loaded."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import numpy as np

from fastinit.theory.parse import resolve

from ..order import Order
from ..roles import leaf_of
from . import torch
from .arrays import from_array

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ..order import Run
    from ..tensors import Skipped, Tensor

# Where those layers of Keras are that change the place of elements, or leave most of them as they are.
_PASSING = ("keras.src.layers.pooling.", "keras.src.layers.reshaping.", "keras.src.layers.regularization.")


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


def runs_of(model: Any) -> list[Run]:
    """The layers that follow each other in sequential and functional models."""
    order = Order()
    _walk_model(model, order)
    return order.runs


def _walk_model(model: Any, order: Order) -> None:
    paths = list(_paths(model))
    if len(paths) > 1:
        order.unknown()
    for path, joins in paths:
        for layer in path:
            _step(layer, order)
        order.end(joins=joins)


def _paths(model: Any) -> Iterator[tuple[list[Any], bool]]:
    """Layers without forks and joins between them, and whether several paths join after the last one."""
    layers = list(getattr(model, "layers", ()))
    if type(model).__name__ == "Sequential":
        yield layers, False
        return
    ends: dict[int, tuple[list[int], list[int]]] = {}
    makers: dict[int, int] = {}
    takers: dict[int, list[int]] = {}
    for at, layer in enumerate(layers):
        try:
            ends[at] = _ids(layer.input), _ids(layer.output)
        except (AttributeError, ValueError):  # It is called several times, or its order is not known.
            ends[at] = [], []
        for tensor in ends[at][1]:
            makers[tensor] = at
        for tensor in ends[at][0]:
            takers.setdefault(tensor, []).append(at)

    def after(at: int) -> int | None:
        out = ends[at][1]
        found = takers.get(out[0], []) if len(out) == 1 else []
        return found[0] if len(found) == 1 and found[0] != at and len(ends[found[0]][0]) == 1 else None

    follows = {at: after(at) for at in ends}
    starts = ends.keys() - set(follows.values())
    for at in sorted(starts):
        path: list[int] = [at]
        while (following := follows[path[-1]]) is not None:
            path.append(following)
        out = ends[path[-1]][1]
        yield [layers[each] for each in path], any(takers.get(tensor) for tensor in out)


def _ids(tensors: Any) -> list[int]:
    """Identifies the tensors between layers, however they are nested."""
    if isinstance(tensors, dict):
        tensors = list(tensors.values())
    if isinstance(tensors, (list, tuple)):
        return [one for tensor in tensors for one in _ids(tensor)]
    return [id(tensors)]


def _step(layer: Any, order: Order) -> None:
    """Adds a layer."""
    keras: Any = sys.modules["keras"]
    kind, place = type(layer).__name__, f"{type(layer).__module__}."
    kernel: Any = getattr(layer, "_kernel", None)  # `kernel` is a sum where the layer has LoRA.
    if kernel is None:
        kernel = getattr(layer, "kernel", None)
    plain = place.startswith(("keras.src.layers.core.dense.", "keras.src.layers.convolutional."))
    try:
        if kind == "Sequential":
            for inner in layer.layers:
                _step(inner, order)
        elif place.startswith(_PASSING) or kind in ("InputLayer", "Identity", "Normalization"):
            pass
        elif place.startswith("keras.src.layers.normalization.") and kind != "SpectralNormalization":
            order.normalization()
        elif plain and hasattr(kernel, "path"):
            bias = getattr(layer, "bias", None)
            order.layer(kernel.path, None if bias is None else bias.path)
            order.activation(resolve(layer.activation))
        elif place.startswith("keras.src.layers.activations."):
            order.activation(resolve(layer))
        else:
            order.unknown()
            if isinstance(layer, keras.Model):
                _walk_model(layer, order)
    except (TypeError, ValueError):  # An activation of another kind.
        order.unknown()
