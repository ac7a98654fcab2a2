"""The plan of a model of Keras: what each of its variables contains.

Variables of Keras do not keep their initializers once they have values. So each layer is built again from its
configuration, without values, and its new variables tell their initializers.
"""

from __future__ import annotations

import contextlib
import math
from collections import Counter
from collections.abc import Mapping
from typing import Any

import keras
from keras import initializers

import fastinit
from fastinit._plan import (
    DTYPES,
    MOST_GIVEN,
    Part,
    Plan,
    PlanRow,
    given,
    is_float,
    numpy_dtype,
    sampled_dtype,
    unseeded,
    whole,
)
from fastinit._rules import initializer_of as initializer_of_rule
from fastinit._rules import matches, text_of
from fastinit._terminal import listed

from ._private import initializer_of, layers_in, own_variables, owners_of, rebuilding
from ._sample import request


def plan(model: Any, rules: Mapping[Any, Any] | None = None) -> Plan:
    """Plans a checkpoint of the weights of a model of Keras, on any backend.

    The tensors are `model.weights`, trainable or not, without the states of seed generators, metrics and
    optimizers. Their names are `variable.path`, such as `"sequential/dense/kernel"`, and so are their
    streams. Each contains what the initializer of its layer makes, with the fans that Keras counts, whatever
    the model holds now. The seeds of initializers are ignored: the seed of the checkpoint and the path decide
    on the values. They are those of a model that is built in `fastinit.keras.accelerate(salt=True)` and whose
    initializers have that seed.

    Layers are built again from their configurations to find their initializers; nothing is allocated. A model
    larger than memory can be constructed in `keras.StatelessScope(initialize_variables=False)`.

    Args:
        model: A model or layer, built or called once.
        rules: Exceptions. The keys are paths with the wildcards of `fnmatch`, where `*` also matches slashes,
            or compiled regular expressions, searched in the path; the first that matches wins. The values are
            initializers of `fastinit` or of Keras, names of those of `fastinit`, numbers, or `None` for
            what the layer says.

    Returns:
        The plan. Print it for a table.

    Raises:
        TypeError: If an argument or a rule is of the wrong kind.
        ValueError: If the model is not built; if two variables have the same path, which Keras allows; or if
            the initializers of some variables are not known, as where a layer is quantized. The error lists
            them; they need rules.

    Example:
        >>> import keras, fastinit.keras
        >>> layers = [keras.layers.Dense(16, "relu", kernel_initializer="he_normal", name="up")]
        >>> model = keras.Sequential([keras.Input((8,)), *layers], name="model")
        >>> plan = fastinit.keras.plan(model, {"*/bias": 0.1})
        >>> plan["model/up/kernel"].initializer, plan["model/up/bias"].initializer
        (HeNormal(), Constant(value=0.1))
    """
    if not isinstance(model, keras.layers.Layer):
        raise TypeError(f"a plan needs a model of Keras, got {model!r:.80}")
    if rules is not None and not isinstance(rules, Mapping):
        raise TypeError(f"rules must be a mapping, got {type(rules).__name__}")
    if not model.built:
        raise ValueError(f"the model {model.name!r} has no weights yet: build it, or call it once")
    weights = model.weights
    twice = [path for path, count in Counter(one.path for one in weights).items() if count > 1]
    if twice:
        raise ValueError(
            f"several variables have the same path: {listed(twice)}. Keras allows this, a plan does not: "
            "give the layers different names"
        )
    made = [(key, text_of(key), rule, _of_rule(rule)) for key, rule in (rules or {}).items()]
    unused = {text: None for _, text, _, _ in made}
    told, owners = _told(model), owners_of(model)
    rows, empty = [], []
    for variable in weights:
        name, (shape, dtype) = variable.path, _kind(variable)
        matching = [one for one in made if matches(one[0], [name])]
        for one in matching:
            unused.pop(one[1], None)
        title, parts = "", None
        if matching and matching[0][2] is not None:
            _, title, rule, initializer = matching[0]
            if initializer is None:
                parts = _parts(rule, name, shape, dtype)
                if parts is None:
                    raise ValueError(f"{name}, rule {title!r}: fastinit has no initializer like {rule!r:.80}")
            else:
                parts = whole(initializer, shape, name)
        elif (found := told.get(id(variable))) is not None:
            layer = owners[id(variable)]
            title = type(layer).__name__
            # What is quantized does not contain what its initializer makes.
            if not isinstance(layer.dtype_policy, keras.dtype_policies.QuantizedDTypePolicy):
                parts = _parts_of(found, layer, variable)
        if parts is None:
            empty.append(name)
        else:
            rows.append(PlanRow(name, shape, dtype, parts, rule=title))
    if empty:
        count = "1 variable needs" if len(empty) == 1 else f"{len(empty)} variables need"
        raise ValueError(
            f"{count} a rule, because no initializer of Keras or fastinit is known to make what the layer "
            f"contains: {listed(empty)}"
        )
    return Plan(tuple(rows), tuple(unused))


def _of_rule(rule: Any) -> fastinit.Initializer | None:
    """The initializer of fastinit that a rule is; `None` if it is one of Keras, or `None`."""
    if rule is None or isinstance(rule, initializers.Initializer):
        return None
    if (found := initializer_of_rule(rule)) is None:
        raise TypeError(
            "a rule must be an initializer of fastinit or of Keras, the name of one of fastinit, a number or "
            f"None; got {rule!r:.80}"
        )
    return unseeded(found)


def _told(model: Any) -> dict[int, Any]:
    """The initializers of the variables of a model, as far as its layers tell them, by `id`."""
    found = {
        id(one): initializer for one in model.weights if (initializer := initializer_of(one)) is not None
    }
    left = [model]
    for layer in left:
        if all(id(one) in found for one in layer.weights):
            continue
        # To build a model again would be to call its layers.
        again = None if isinstance(layer, keras.Model) else _built_again(layer)
        if again is None or not _note(layer.weights, again.weights, found):
            if again is not None:
                _note(own_variables(layer), own_variables(again), found)
            left += layers_in(layer)
    return found


def _note(variables: list[Any], others: list[Any], found: dict[int, Any]) -> bool:
    """Notes the initializers of these variables, if the others are like them."""
    # As in the files of Keras, the order counts: names may have numbers, which differ.
    if list(map(_kind, variables)) != list(map(_kind, others)):
        return False
    for variable, other in zip(variables, others, strict=True):
        if (initializer := initializer_of(other)) is not None:
            found.setdefault(id(variable), initializer)
    return True


def _built_again(layer: Any) -> Any:
    """A layer like this one, built again without values; `None` if that cannot be."""
    objects = {
        type(value).__name__: type(value)
        for value in vars(layer).values()
        if isinstance(value, initializers.Initializer)
    }
    # What goes wrong in the code of a layer means that it does not tell.
    with contextlib.suppress(Exception), rebuilding(), keras.saving.custom_object_scope(objects):
        again = type(layer).from_config(layer.get_config())
        if not again.built:
            again.build_from_config(layer.get_build_config())
        return again
    return None


def _kind(variable: Any) -> tuple[tuple[int, ...], str]:
    return tuple(variable.shape), keras.backend.standardize_dtype(variable.dtype)


def _parts_of(initializer: Any, layer: Any, variable: Any) -> tuple[Part, ...] | None:
    """The parts of a variable of a layer with this initializer; `None` if they are not known."""
    path, (shape, dtype) = variable.path, _kind(variable)
    if not getattr(layer, "unit_forget_bias", False) or variable.name != "bias":
        return _parts(initializer, path, shape, dtype)
    # The cell of an LSTM makes its bias of three tensors. The streams are those of `accelerate`.
    units = shape[0] // 4
    sections = [
        _parts(layer.bias_initializer, path, (units,), dtype),
        whole(fastinit.Ones(), (units,), path),
        _parts(layer.bias_initializer, fastinit.block_stream(path, 1), (2 * units,), dtype),
    ]
    return None if None in sections else tuple(part for parts in sections for part in parts or ())


def _parts(
    initializer: Any, stream: int | str, shape: tuple[int, ...], dtype: str
) -> tuple[Part, ...] | None:
    """The parts of a tensor that an initializer of Keras makes; `None` if they are not known."""
    with contextlib.suppress(TypeError, ValueError, OverflowError):
        made = request(initializer, shape, sampled_dtype(dtype) if is_float(dtype) else "float32")
        return whole(made, shape, stream)
    if (
        isinstance(initializer, (initializers.Constant, initializers.STFT))
        and dtype in DTYPES
        and math.prod(shape) * DTYPES[dtype] <= MOST_GIVEN
    ):
        values = keras.ops.convert_to_numpy(initializer(shape, dtype=dtype))
        return given(values.astype(numpy_dtype(dtype), copy=False))
    return None
