"""The recipe for a model of PyTorch or Keras, from the names, shapes and classes of its parts.

No framework is imported: a model is recognized by what it has.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from fastinit.initializers import Zeros

from .formulas import Formula
from .spec import SPECS, Recipe, RecipeRule

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

    from fastinit.initializers import Initializer

    from .spec import Shapes

# The names of weights that `recommend` calls otherwise.
_KERAS = {"depthwise_kernel": "kernel"}  # of a depthwise convolution; not of a separable one
_TORCH = {
    "kernel": "weight",
    "depthwise_kernel": "weight",
    "embeddings": "weight",
    "gamma": "weight",
    "beta": "bias",
}


def is_model(x: Any) -> bool:
    """Whether it is a model of PyTorch or Keras: an object with layers that have parameters."""
    if isinstance(x, type):
        return False
    if _is_of_keras(x):
        return hasattr(x, "layers")
    return hasattr(x, "named_parameters") and any(
        next(child.parameters(), None) is not None for child in x.children()
    )


def _is_of_keras(x: Any) -> bool:
    # With PyTorch as the backend of Keras, it is a module of PyTorch, too.
    return hasattr(x, "weights") and hasattr(x, "get_config")


def recipe_for(model: Any, recommend: Callable[..., Any]) -> Recipe:
    """The recipe that fits a model, with its parameters read from it; or rules for each of its layers.

    Of the recipes whose signs it has, that is the first which knows at least half of its elements. The others
    are named in the notes.

    Args:
        model: What `is_model` is true of.
        recommend: The function that recommends for one layer.

    Raises:
        ValueError: If the model has no parameters yet.
    """
    shapes = _shapes(model)
    if not shapes:
        raise ValueError(f"{type(model).__name__} has no parameters yet: build it first")
    chosen, others = None, []
    for recipe in _recognized(shapes):
        if chosen is None and _share(recipe, shapes) >= 0.5:
            chosen = recipe
        else:
            others.append(recipe)
    if chosen is None:
        chosen = _by_layers(model, recommend)
    notes = [
        f"the model also has the signs of the recipe {other.name!r} ({other.title}): put its rules before "
        "these"
        for other in others
    ]
    return replace(chosen, notes=(*chosen.notes, *notes))


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    if _is_of_keras(model):
        return {variable.path: tuple(variable.shape) for variable in model.weights}
    return {name: tuple(value.shape) for name, value in model.named_parameters()}


def _recognized(shapes: Shapes) -> Iterator[Recipe]:
    for spec in SPECS.values():
        if spec.recognizes(shapes):
            try:
                found = spec.make(spec.read(shapes))
            except (LookupError, ValueError):  # It has the signs, but no tensors that tell the parameters.
                continue
            yield found


def _share(recipe: Recipe, shapes: Shapes) -> float:
    """The share of the elements that are in tensors with a rule."""
    sizes = {name: math.prod(shape) for name, shape in shapes.items()}
    return sum(count for name, count in sizes.items() if recipe.find(name)) / max(1, sum(sizes.values()))


def _by_layers(model: Any, recommend: Callable[..., Any]) -> Recipe:
    """Rules for each layer by itself, from `recommend`."""
    layers = list(_layers(model))
    assumed = not any(_is_activation(layer) or _own_activation(layer) for _, layer in layers)
    places: dict[tuple[Any, str, str], list[str]] = {}
    sources: dict[str, None] = {}
    left = []
    for number, (prefix, layer) in enumerate(layers):
        if not _weights_of(layer):
            continue
        rest = [other for _, other in layers[number + 1 :]]
        activation = _own_activation(layer) or _next_activation(rest)
        if activation is None and assumed and any(map(_is_kernel, rest)):
            activation = "relu"
        try:
            found = recommend(activation, layer)
        except (TypeError, ValueError):  # No family of layers has this name.
            left.append(prefix or type(layer).__name__)
            continue
        sources.update(dict.fromkeys(found.sources))
        text = f"{found.layer}, {found.activation}"
        for leaf, initializer in _leaves(layer, found.weights):
            places.setdefault((initializer, text, leaf), []).append(prefix)
    rows = [
        RecipeRule(_pattern(prefixes, leaf, "/" if _is_of_keras(model) else "."), made, f"{text}: {leaf}")
        for (made, text, leaf), prefixes in places.items()
    ]
    notes = ["no recipe fits the whole model: these are the answers of recommend for each layer"]
    if any(hasattr(model, name) for name in ("init_weights", "_init_weights")):
        notes.append(
            "the model has an initialization of its own, which fastinit.torch.initialize runs by default"
        )
    if assumed:
        notes.append("its activations are not among its layers: relu is assumed, linear for the last layer")
    return Recipe(
        name="by_layer",
        title=f"each layer of {type(model).__name__} by itself",
        parameters={},
        rows=tuple(rows),
        fits="this model",
        leaves=", ".join(left),
        notes=tuple(notes),
        source="; ".join(sources),
        code="fastinit.recommend",
    )


def _layers(model: Any) -> Iterator[tuple[str, Any]]:
    """The layers that have no layers inside, in their order, with the prefixes of their weights."""
    if not _is_of_keras(model):
        for name, module in model.named_modules():
            if next(module.children(), None) is None or module._parameters:
                yield name, module
        return
    for layer in model.layers:
        if getattr(layer, "layers", None):
            yield from _layers(layer)
        else:
            yield "", layer


def _weights_of(layer: Any) -> list[str]:
    """The names of the weights of a layer, without those of layers inside."""
    if _is_of_keras(layer):
        return [variable.path for variable in layer.weights]
    return [name for name, value in layer._parameters.items() if value is not None]


def _leaves(layer: Any, weights: Mapping[str, Initializer]) -> Iterator[tuple[str, Initializer]]:
    """The names of weights of a layer, with their initializers from a recommendation."""
    weights = dict(weights)
    if "forget_bias" in weights:
        weights.pop("forget_bias")
        weights["bias"] = Formula("forget_bias", value=1.0)
    for name in _weights_of(layer):
        leaf = name.split("/")[-1]
        if found := re.match(r"(weight|bias)_(ih|hh)", leaf):  # of recurrent layers of PyTorch
            role = {"weight_ih": "kernel", "weight_hh": "recurrent_kernel"}.get(found[0], "bias")
            made = Zeros() if found[0] == "bias_hh" else weights.get(role)
        else:
            roles = _KERAS if _is_of_keras(layer) else _TORCH
            named = {roles.get(role, role): initializer for role, initializer in weights.items()}
            made = weights.get(leaf, named.get(leaf))
        if made is not None:
            yield name, made


def _pattern(prefixes: list[str], leaf: str, separator: str) -> str:
    names = [re.escape(f"{prefix}{separator}" if prefix else "") for prefix in prefixes]
    start = names[0] if len(names) == 1 else f"({'|'.join(names)})"
    return f"^{start}{re.escape(leaf)}$"


def _is_activation(layer: Any) -> bool:
    kind = type(layer)
    return ".activation" in kind.__module__ and "Attention" not in kind.__name__


def _own_activation(layer: Any) -> Any:
    """The activation of a layer of Keras, unless it is linear."""
    own = getattr(layer, "activation", None)
    named = getattr(own, "__name__", own)
    return own if callable(own) and named != "linear" and not _is_activation(layer) else None


def _is_kernel(layer: Any) -> bool:
    """Whether it has a weight that mixes its inputs, as a normalization has not."""
    return bool(_weights_of(layer)) and "norm" not in type(layer).__name__.lower()


def _next_activation(rest: list[Any]) -> Any:
    """The first activation before the next layer with weights, normalizations aside."""
    for layer in rest:
        if _is_activation(layer):
            return layer
        if _is_kernel(layer):
            break
    return None
