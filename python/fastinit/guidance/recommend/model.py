"""The recipe for a model of PyTorch or Keras, from the names, shapes and classes of its parts.

No framework is imported: a model is recognized by what it has.
"""

from __future__ import annotations

import math
import re
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

from ..recipes import Formula, Recipe, RecipeRule
from ..recipes.spec import SPECS
from .families import answer_for
from .layers import PLAIN, resolve_layer
from .question import ask
from .spelling import torch_names

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from fastinit.initializers import Initializer

    from ..recipes.spec import Shapes
    from .layers import Layer

# What modules that contain a model add to its names; `fastinit.torch.initialize` has names without them.
_WRAPPERS = re.compile(r"\b(_orig_mod|_checkpoint_wrapped_module|_fsdp_wrapped_module)\.")
# The only tensor of a recipe that is not trained.
_NOT_TRAINED = Formula("sincos_2d")


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


def recipe_for(model: Any) -> Recipe:
    """The recipe that fits a model, with its parameters read from it; or rules for each of its layers.

    Of the recipes whose signs it has, that is the first which knows at least half of its elements. The others
    are named in the notes. Tensors that are not trained, while others are, are left as they are.

    Args:
        model: What `is_model` is true of.

    Raises:
        ValueError: If the model has no parameters yet.
    """
    shapes = _shapes(model)
    chosen, others = None, []
    for recipe in _recognized(shapes):
        if chosen is None and _share(recipe, shapes) >= 0.5:
            chosen = recipe
        else:
            others.append(recipe)
    if chosen is None:
        chosen = _by_layers(model, shapes)
    notes = [
        f"the model also has the signs of the recipe {other.name!r} ({other.title}): put its rules before "
        "these"
        for other in others
    ]
    kept = [name for name in _frozen(model) if name in shapes and not _is_left(chosen.find(name))]
    rows = [RecipeRule(_pattern(kept), None, "not trained: left as they are")] * bool(kept)
    return replace(chosen, rows=(*rows, *chosen.rows), notes=(*chosen.notes, *notes))


def _shapes(model: Any) -> dict[str, tuple[int, ...]]:
    if _is_of_keras(model):
        shapes = {variable.path: tuple(variable.shape) for variable in model.weights}
    else:
        named = [(_WRAPPERS.sub("", name), value) for name, value in model.named_parameters()]
        # Parameters of lazy modules of PyTorch have no shape yet.
        shapes = {name: tuple(value.shape) for name, value in named if not hasattr(value, "materialize")}
        shapes = shapes if len(shapes) == len(named) else {}
    if not shapes:
        raise ValueError(
            f"{type(model).__name__} has no parameters, or some without a shape yet: call it once first"
        )
    return shapes


def _frozen(model: Any) -> list[str]:
    """The tensors that are not trained, if others are; moving statistics count as trained."""
    if _is_of_keras(model):
        layers = [part.layer for part in _parts(model) if part.layer.weights]
        frozen = {variable.path for layer in layers if not layer.trainable for variable in layer.weights}
        return sorted(frozen) if model.trainable_weights else []
    named = [(_WRAPPERS.sub("", name), value.requires_grad) for name, value in model.named_parameters()]
    frozen = {name for name, trained in named if not trained}
    return sorted(frozen) if len(frozen) < len(named) else []


def _is_left(rule: RecipeRule | None) -> bool:
    """Whether a rule does what is right for a tensor that is not trained."""
    return rule is not None and rule.initializer in (None, _NOT_TRAINED)


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


def _by_layers(model: Any, shapes: Shapes) -> Recipe:
    """Rules for each layer by itself, from `recommend`."""
    parts = list(_parts(model))
    own = _own_activations(parts)
    assumed = not own and not any(_is_activation(part.layer) for part in parts)
    rules: dict[str, tuple[Initializer, str]] = {}
    sources: dict[str, None] = {}
    for number, part in enumerate(parts):
        if part.family is None:
            continue
        activation, family = None, part.family
        if family.family == "embedding" and _is_shared(part.layer, parts):
            family = replace(family, extras=(*family.extras, "shared"))
        if family.family in PLAIN:
            # What is inside of the layer does not follow it.
            rest = _after(parts, number)
            activation = own.get(id(part.layer), _next_activation(rest))
            if activation is None and assumed and any(map(_is_kernel, rest)):
                activation = "relu"
        try:
            question = ask(activation, None, family, None, None, 0.0, None)
            answer = answer_for(question)
        except (TypeError, ValueError):  # It has no weights, or the activation is not a function of arrays.
            continue
        text = f"{family.family}, {question.activation}" if answer.is_activated else family.family
        tensors = dict(part.tensors(answer.weights))
        # A layer that contains others answers for them.
        rules |= {
            name: (made, text) for name, made in tensors.items() if name in shapes and name not in rules
        }
        sources.update(dict.fromkeys(answer.sources))
    places: dict[tuple[Initializer, str, str], list[str]] = {}
    for name, (made, text) in rules.items():
        places.setdefault((made, text, re.split("[./]", name)[-1]), []).append(name)
    rows = [
        RecipeRule(_pattern(names), made, f"{text}: {leaf}") for (made, text, leaf), names in places.items()
    ]
    left = dict.fromkeys(re.sub(r"[./]?[^./]*$", "", name) or name for name in shapes if name not in rules)
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


class _Part(NamedTuple):
    """A layer of a model, with its place in the tree of layers.

    Attributes:
        layer: The layer.
        prefix: What the names of its weights begin with, in PyTorch.
        depth: How many layers contain it.
        family: What `recommend` knows of it; `None` if it knows nothing.
    """

    layer: Any
    prefix: str
    depth: int
    family: Layer | None

    def tensors(self, weights: Mapping[str, Initializer]) -> Iterator[tuple[str, Initializer]]:
        """The names of its tensors, with their initializers from the weights of a recommendation."""
        assert self.family is not None
        weights = dict(weights)
        if "forget_bias" in weights:
            weights["forget_bias"] = Formula("forget_bias", value=1.0)
        if _is_of_keras(self.layer):
            if "forget_bias" in weights:
                weights["bias"] = weights["forget_bias"]
            roles = {"kernel": "depthwise_kernel"} if self.family.family == "depthwise_conv" else {}
            for role, place in self.family.attributes.items():
                roles.setdefault(place.split(".")[-1], role)
            for variable in self.layer.weights:
                parent, leaf = f"/{variable.path}".split("/")[-2:]
                # Of attention: query/kernel is query_kernel.
                inner = f"{parent.removeprefix('attention_')}_{leaf}"
                for weight in (inner, roles.get(leaf, leaf)):
                    if weight in weights:
                        yield variable.path, weights[weight]
                        break
            return
        for weight, made in weights.items():
            for name in torch_names(weight, self.family):
                tensor, several, _ = name.partition(".chunk(3)")  # queries, keys and values in one
                if several:
                    made = type(made).from_config({**made.get_config(), "blocks": 3})
                yield f"{self.prefix}{tensor}", made


def _parts(model: Any) -> Iterator[_Part]:
    """The layers of a model in their order, each before those that it contains."""
    seen = set()

    def walk(layer: Any, prefix: str, depth: int) -> Iterator[_Part]:
        if id(layer) in seen:
            return
        seen.add(id(layer))
        try:
            family = resolve_layer(layer)
        except (TypeError, ValueError):
            family = None
        yield _Part(layer, _WRAPPERS.sub("", prefix), depth, family)
        for name, child in _children(layer):
            yield from walk(child, f"{prefix}{name}.", depth + 1)

    return walk(model, "", 0)


def _children(layer: Any) -> Iterable[tuple[str, Any]]:
    """The layers that a layer contains, with their names in PyTorch."""
    if _is_of_keras(layer):
        inside: list[Any] = getattr(layer, "layers", None) or getattr(layer, "_layers", [])
        return [("", child) for child in inside]
    named: Iterable[tuple[str, Any]] = layer.named_children()
    return named


def _after(parts: list[_Part], number: int) -> list[_Part]:
    """The parts that come after one, without those inside of it."""
    inside = number + 1
    while inside < len(parts) and parts[inside].depth > parts[number].depth:
        inside += 1
    return parts[inside:]


def _pattern(names: list[str]) -> str:
    """A pattern for exactly these names."""
    escaped = [re.escape(name) for name in names]
    return f"^{escaped[0]}$" if len(names) == 1 else f"^({'|'.join(escaped)})$"


def _is_activation(layer: Any) -> bool:
    kind = type(layer)
    return ".activation" in kind.__module__ and "Attention" not in kind.__name__


def _own_activations(parts: list[_Part]) -> dict[int, Any]:
    """The activations of layers that say which one follows, by the ids of the layers."""
    own: dict[int, Any] = {}
    for layer in (part.layer for part in parts):
        activation = getattr(layer, "activation", None)
        if not callable(activation) or _is_activation(layer):
            continue
        if _is_of_keras(layer):
            if getattr(activation, "__name__", "") != "linear":
                own[id(layer)] = activation
        elif hasattr(layer, "linear1") and hasattr(layer, "linear2"):  # PyTorch's layers of transformers
            own |= {id(layer.linear1): activation, id(layer.linear2): "linear"}
    return own


def _is_shared(layer: Any, parts: list[_Part]) -> bool:
    """Whether another layer of PyTorch has the weights of this embedding, such as one that makes logits."""
    others = (part.layer for part in parts if part.layer is not layer)
    return not _is_of_keras(layer) and any(
        getattr(other, "weight", None) is layer.weight and hasattr(other, "in_features") for other in others
    )


def _is_kernel(part: _Part) -> bool:
    """Whether it has a weight of its own that mixes its inputs, as a normalization has not."""
    layer = part.layer
    if _is_of_keras(layer):
        inside = {id(variable) for _, child in _children(layer) for variable in child.weights}
        has_weights = part.family is not None or any(id(v) not in inside for v in layer.weights)
    else:
        has_weights = any(value is not None for value in layer._parameters.values())
    return has_weights and "norm" not in type(layer).__name__.lower()


def _next_activation(rest: list[_Part]) -> Any:
    """The first activation before the next layer with weights, normalizations aside."""
    for part in rest:
        if _is_activation(part.layer):
            return part.layer
        if _is_kernel(part):
            break
    return None
