"""A forward and a backward pass of a Keras model on any backend, measured in wrapped calls.

The model runs in a `keras.StatelessScope`, in which variables, the states of seed generators among them, are
read and never written. The wrappers of `call` and `activation` are removed afterwards. On NumPy, which has no
gradients, there is no backward pass.
"""

from __future__ import annotations

import contextlib
import functools
import math
import sys
from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from fastinit.initializers import Ones, Zeros

from .measure import as_floats, measure
from .record import (
    TOKENS,
    Kernel,
    Record,
    Weights,
    chosen,
    direction,
    is_shape,
    known_activation,
    norm,
    random_input,
    unknown_shape,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Sequence

    from fastinit._typing import Array
    from fastinit.initializers import Initializer

    from .record import Call

_PASSIVE = ("InputLayer", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "SpatialDropout3D", "Identity")


class Network:
    """A layer or a model of Keras, which is checked, with the functions that `trace` and `lsuv` need.

    Raises:
        ValueError: If it has not been built.
    """

    def __init__(self, model: Any) -> None:
        self.model = model
        self.title = type(model).__name__
        self.framework = f"keras on {keras.config.backend()}"
        if not model.built:
            raise ValueError(f"the {self.title} {model.name!r} has no weights before it is built or called")
        self.names: dict[Any, str] = {}
        taken: set[str] = set()
        for layer in _layers(model):
            name = _name_of(layer)
            if layer not in self.names:
                while name in taken:
                    name += "'"
                taken.add(name)
                self.names[layer] = name

    # The input

    def inputs(self, batch: Any, seed: int) -> Any:
        """The argument of the model: data, or random data of a shape."""
        if is_shape(batch):
            return self._random(batch, seed)
        if isinstance(batch, Mapping):
            return {name: keras.ops.convert_to_tensor(value) for name, value in batch.items()}
        if isinstance(batch, (tuple, list)):
            return [keras.ops.convert_to_tensor(value) for value in batch]
        return keras.ops.convert_to_tensor(batch)

    def _random(self, batch: Any, seed: int) -> Any:
        shape = tuple(batch) if isinstance(batch, (tuple, list)) else None
        first = next((layer for layer in self.names if _own(layer)), None)
        below = first.input_dim if isinstance(first, keras.layers.Embedding) else None
        known = getattr(self.model, "inputs", None)
        if shape is not None:
            return keras.ops.convert_to_tensor(random_input(shape, seed, below))
        if not known or (below is None and any(None in x.shape[1:] for x in known)):
            raise unknown_shape(self.title, batch)
        made = []
        for at, x in enumerate(known):
            sizes = (batch, *(TOKENS if size is None else size for size in x.shape[1:]))
            made.append(keras.ops.convert_to_tensor(random_input(sizes, seed, below, f"input{at or ''}")))
        return made[0] if len(made) == 1 else made

    # The layers

    def layers(self, patterns: Any) -> dict[Any, str]:
        """The layers to measure: those of these names, or those that compute something themselves."""
        if patterns is not None:
            names = chosen(patterns, list(self.names.values()))
            return {layer: name for layer, name in self.names.items() if name in names}
        inner = self._inside()
        return {
            layer: name
            for layer, name in self.names.items()
            if id(layer) not in inner
            and type(layer).__name__ not in _PASSIVE
            and (_is_whole(layer) or not _children(layer) or _own(layer))
        }

    def _inside(self) -> set[int]:
        """The identities of the layers that are called in a loop of the backend."""
        return {id(part) for layer in self.names if _is_whole(layer) for part in list(_layers(layer))[1:]}

    # The passes

    def record(
        self,
        batch: Any,
        *,
        loss: Callable[..., Any] | None,
        target: Any,
        layers: Any,
        training: bool | None,
        seed: int,
    ) -> Record:
        """Runs the model forward and backward."""
        x = self.inputs(batch, seed)
        arrays = [keras.ops.convert_to_numpy(part) for part in keras.tree.flatten(x)]
        floats = [a for a in arrays if a.dtype.kind not in "iub"]
        samples = next((a.shape[0] for a in arrays if a.ndim), 1)
        record = Record(samples, float(floats[0].astype(np.float64).std()) if floats else None)
        wanted = self.layers(layers)
        training = True if training is None else training
        activations = {
            name: known_activation(getattr(layer, "activation", None) or layer)
            for layer, name in wanted.items()
            if not _is_loop(layer)
        }

        heads: list[Any] = []

        def add(layer: Any, y: Any, z: Any) -> Call:
            if _own(layer):
                heads[1:] = heads[:1]
            axis = 1 if getattr(layer, "data_format", None) == "channels_first" else -1
            name, kind = wanted[layer], type(layer).__name__
            inputs = None if z is None else _array(z)
            return record.add(name, kind, _array(y), axis, activations.get(name), inputs)

        def run(values: Sequence[Any], seen: Callable[..., Any]) -> Any:
            """The loss, with these trainable variables; `seen` is called with each output."""
            scope = keras.StatelessScope(
                state_mapping=list(zip(self.model.trainable_variables, values, strict=True))
            )
            with scope, _wrapped(wanted, seen, heads):
                output = self.model(x, training=training)
                return self._loss(output, loss, target, seed)

        backend = _BACKENDS[keras.config.backend()]
        values = [variable.value for variable in self.model.trainable_variables]
        found, gradients, outputs = backend(run, values, add)
        if len(heads) > 1 and heads[1] is not None:
            record.head_input = measure(_array(heads[1]), -1, samples)
        if gradients is None:
            gradients = [None] * len(values)
        else:
            record.loss = found
        by_identity = {}
        for variable, gradient in zip(self.model.trainable_variables, gradients, strict=True):
            by_identity[id(variable)] = None if gradient is None else _array(gradient)
            if gradient is None and record.loss is not None:
                record.unused.append(variable.path)
        for call, gradient in outputs:
            if gradient is not None:
                record.add_gradient(call, _array(gradient))
        for layer, name in wanted.items():
            own = list(layer.weights) if layers is not None or _is_whole(layer) else _own(layer)
            own = [v for v in own if not v.path.rpartition("/")[2].startswith("seed")]
            trained = [v for v in own if id(v) in by_identity]
            here = [g for v in trained if (g := by_identity[id(v)]) is not None]
            count = sum(math.prod(v.shape) for v in own)
            record.weights[name] = Weights(count, norm(_array(v.value) for v in trained), norm(here))
        return record

    def _loss(self, output: Any, loss: Callable[..., Any] | None, target: Any, seed: int) -> Any:
        if loss is not None:
            value = loss(output) if target is None else loss(output, target)
            if math.prod(getattr(value, "shape", (0,))) != 1:
                raise TypeError(f"loss must return a tensor with one element, got {value!r:.80}")
            return keras.ops.reshape(value, ())
        y = _first(output)
        if y is None:
            raise TypeError(
                f"the output has no floating-point tensor, got {type(output).__name__}: pass loss="
            )
        r = keras.ops.convert_to_tensor(direction(tuple(y.shape), seed))
        return keras.ops.sum(keras.ops.cast(y, "float32") * r)

    # Rules

    def kernels(self) -> tuple[list[Kernel], dict[str, str]]:
        """The kernels that rules can be for, and why others are not among them, by name."""
        found, skipped = [], {}
        paths = self._paths()
        inner = self._inside()
        for layer in self.names:
            for variable in _own(layer):
                leaf = variable.path.rpartition("/")[2]
                if len(variable.shape) < 2:
                    continue
                plain = leaf == "kernel" and not hasattr(layer, "recurrent_kernel") and id(layer) not in inner
                if not plain:
                    if variable.trainable:
                        skipped[variable.path] = f"{type(layer).__name__} is not a layer with one kernel"
                    continue
                if paths[variable.path] > 1:
                    skipped[variable.path] = "several variables have this path"
                    continue
                bias = next((v.path for v in _own(layer) if v.path.endswith("/bias")), None)
                axis = -2 if "Transpose" in type(layer).__name__ else -1
                found.append(Kernel(variable.path, self.names[layer], axis, bias))
        return found, skipped

    def norms(self) -> dict[str, Initializer]:
        """The rules by which normalizations do nothing but normalize."""
        rules: dict[str, Initializer] = {}
        paths = self._paths()
        for layer in self.names:
            if "Normalization" in type(layer).__name__:
                for variable in _own(layer):
                    leaf = variable.path.rpartition("/")[2]
                    if paths[variable.path] > 1:
                        continue
                    if leaf in ("gamma", "scale"):
                        rules[variable.path] = Ones()
                    elif leaf == "beta":
                        rules[variable.path] = Zeros()
        return rules

    def _paths(self) -> Counter[str]:
        """How many variables have each path: two, if layers in different ones have the same name."""
        return Counter(variable.path for variable in self.model.weights)

    @contextlib.contextmanager
    def changed(self, rules: Mapping[str, Initializer], seed: int) -> Iterator[None]:
        """A context in which variables have the values of rules."""
        before = [(v, keras.ops.copy(v.value)) for v in self.model.weights if v.path in rules]
        try:
            self.apply(rules, seed)
            yield
        finally:
            for variable, value in before:
                variable.assign(value)

    def apply(self, rules: Mapping[str, Initializer], seed: int) -> None:
        """Writes the values of rules into the variables."""
        variables = {variable.path: variable for variable in self.model.weights}
        missing = next((name for name in rules if name not in variables), None)
        if missing is not None:
            raise ValueError(f"the model has no variable {missing!r}")
        # All are made before one is written, so that an error leaves the model as it is.
        values = [
            rule(tuple(variables[name].shape), seed=seed, stream=name, dtype="float32")
            for name, rule in rules.items()
        ]
        for name, value in zip(rules, values, strict=True):
            variables[name].assign(value)

    def measured_gains(
        self, kernels: Sequence[Kernel], batch: Any, *, std: float, training: bool | None, seed: int
    ) -> dict[str, float]:
        """The factors for kernels, one layer after the other, with which outputs have this std.

        Biases must be zero. In one forward pass: what a layer computes before its activation is scaled when
        it is called first, and its kernel for later calls.
        """
        gains: dict[str, float] = {}
        by_layer = {kernel.layer: kernel for kernel in kernels}
        variables = {variable.path: variable for variable in self.model.weights}

        def scaled(kernel: Kernel, z: Any) -> Any:
            if kernel.name in gains:
                return z
            found = float(_array(z).std(dtype=np.float64))
            gains[kernel.name] = gain = std / found if 0.0 < found < math.inf else 1.0
            kernel_variable = variables[kernel.name]
            kernel_variable.assign(kernel_variable.value * gain)
            return z * gain

        x = self.inputs(batch, seed)
        with keras.StatelessScope(), contextlib.ExitStack() as stack:
            for layer, name in self.names.items():
                kernel = by_layer.get(name)
                if kernel is None:
                    continue
                scale = functools.partial(scaled, kernel)
                activation = getattr(layer, "activation", None)
                if callable(activation):
                    stack.enter_context(_attribute(layer, "activation", _chain(scale, activation)))
                else:
                    stack.enter_context(_attribute(layer, "call", _chain(layer.call, scale)))
            self.model(x, training=True if training is None else training)
        return gains


def _chain(first: Callable[..., Any], second: Callable[[Any], Any]) -> Callable[..., Any]:
    return lambda *args, **kwargs: second(first(*args, **kwargs))


# Layers and their names


def _children(layer: Any) -> list[Any]:
    return list(getattr(layer, "_layers", None) or ())


def _layers(layer: Any) -> Iterator[Any]:
    yield layer
    for inner in _children(layer):
        yield from _layers(inner)


def _is_whole(layer: Any) -> bool:
    """Whether the layers inside are called in a loop of the backend, which cannot be looked into."""
    return isinstance(layer, (keras.layers.RNN, keras.layers.Wrapper))


def _is_loop(layer: Any) -> bool:
    """Whether it has several activations, or calls one many times."""
    return _is_whole(layer) or hasattr(layer, "recurrent_activation")


def _own(layer: Any) -> list[Any]:
    """The variables that belong to no layer inside."""
    inner = {id(variable) for part in _children(layer) for variable in part.weights}
    return [variable for variable in layer.weights if id(variable) not in inner]


def _name_of(layer: Any) -> str:
    paths = [variable.path for variable in _own(layer)]
    return paths[0].rpartition("/")[0] if paths else getattr(layer, "path", None) or layer.name


# The wrappers


@contextlib.contextmanager
def _attribute(layer: Any, name: str, value: Any) -> Iterator[None]:
    """A context in which an attribute of a layer is another one, past the tracking of Keras."""
    own = vars(layer)
    before = (own[name],) if name in own else ()
    own[name] = value
    try:
        yield
    finally:
        if before:
            own[name] = before[0]
        else:
            del own[name]


@contextlib.contextmanager
def _wrapped(wanted: Mapping[Any, str], seen: Callable[..., Any], inputs: list[Any]) -> Iterator[None]:
    """A context in which `seen(layer, output, z)` is called, and may replace the output.

    The first element of `inputs` is the input of that call.
    """

    def call_of(layer: Any) -> Callable[..., Any]:
        inner = layer.call
        activation = getattr(layer, "activation", None)
        if not callable(activation) or _is_loop(layer):

            def plain(*args: Any, **kwargs: Any) -> Any:
                output = inner(*args, **kwargs)
                inputs[:1] = [_first(args)]
                return seen(layer, output, None)

            return plain

        def call(*args: Any, **kwargs: Any) -> Any:
            kept = []

            def keep(z: Any) -> Any:
                kept.append(z)
                return activation(z)

            with _attribute(layer, "activation", keep):
                output = inner(*args, **kwargs)
            inputs[:1] = [_first(args)]
            return seen(layer, output, kept[0] if len(kept) == 1 else None)

        return call

    with contextlib.ExitStack() as stack:
        for layer in wanted:
            stack.enter_context(_attribute(layer, "call", call_of(layer)))
        yield


# The backends: from a function of variables, and one that records an output, to the loss, the gradients of
# the variables, and the calls with the gradients of their outputs.

_Done = tuple[Any, Any, list[tuple[Any, Any]]]


def _forward(run: Any, values: Sequence[Any], record: Any) -> _Done:
    def seen(layer: Any, output: Any, z: Any) -> Any:
        y = _first(output)
        if y is not None:
            record(layer, y, z)
        return output

    run(values, seen)
    return None, None, []


def _in_torch(run: Any, values: Sequence[Any], record: Any) -> _Done:
    torch: Any = sys.modules["torch"]
    kept: list[tuple[Any, Any]] = []

    def seen(layer: Any, output: Any, z: Any) -> Any:
        y = _first(output)
        if y is None:
            return output
        if y is output and not y.requires_grad:
            output = y = y.detach().requires_grad_()
        call = record(layer, y, z)
        if y.requires_grad:
            kept.append((call, y))
        return output

    with torch.enable_grad():
        leaves = [value.detach().requires_grad_() for value in values]
        loss = run(leaves, seen)
        inputs = [*leaves, *(y for _, y in kept)]
        if not loss.requires_grad:
            return None, None, []
        found = torch.autograd.grad(loss, inputs, allow_unused=True)
    gradients = found[len(leaves) :]
    pairs = [(call, g) for (call, _), g in zip(kept, gradients, strict=True)]
    return float(loss.detach()), found[: len(leaves)], pairs


def _in_tensorflow(run: Any, values: Sequence[Any], record: Any) -> _Done:
    tf: Any = sys.modules["tensorflow"]
    kept: list[tuple[Any, Any]] = []
    leaves = [tf.identity(value) for value in values]
    with tf.GradientTape() as tape:

        def seen(layer: Any, output: Any, z: Any) -> Any:
            y = _first(output)
            if y is not None:
                tape.watch(y)
                with tape.stop_recording():
                    kept.append((record(layer, y, z), y))
            return output

        tape.watch(leaves)
        loss = run(leaves, seen)
    found = tape.gradient(loss, [*leaves, *(y for _, y in kept)])
    found = [None if g is None else tf.convert_to_tensor(g) for g in found]
    pairs = [(call, g) for (call, _), g in zip(kept, found[len(leaves) :], strict=True)]
    return float(loss), found[: len(leaves)], pairs


def _in_jax(run: Any, values: Sequence[Any], record: Any) -> _Done:
    jax: Any = sys.modules["jax"]
    # The outputs are recorded in a first pass. In the second one, zeros are added to them.
    calls: list[Any] = []
    shapes: list[Any] = []

    def seen(layer: Any, output: Any, z: Any) -> Any:
        y = _first(output)
        if y is not None and not isinstance(y, jax.core.Tracer):
            calls.append(record(layer, y, z))
            shapes.append((layer, y))
        return output

    run(values, seen)

    def shifted(leaves: Sequence[Any], zeros: Sequence[Any]) -> Any:
        todo = list(zip(shapes, zeros, strict=True))

        def add(layer: Any, output: Any, _: Any) -> Any:
            y = _first(output)
            if y is None or not todo or todo[0][0][0] is not layer or todo[0][0][1].shape != y.shape:
                return output
            return _with_first(output, y + todo.pop(0)[1])

        return run(leaves, add)

    zeros = [jax.numpy.zeros_like(y) for _, y in shapes]
    both = jax.jit(jax.value_and_grad(shifted, argnums=(0, 1)))  # compiled sooner than its operations are
    loss, (leaves, outputs) = both(list(values), zeros)
    return float(loss), leaves, list(zip(calls, outputs, strict=True))


_BACKENDS = {"numpy": _forward, "torch": _in_torch, "tensorflow": _in_tensorflow, "jax": _in_jax}


def _is_floating(x: Any) -> bool:
    return keras.ops.is_tensor(x) and "float" in keras.backend.standardize_dtype(x.dtype)


def _first(x: Any) -> Any:
    """The first floating-point tensor in an output."""
    return next((part for part in keras.tree.flatten(x) if _is_floating(part)), None)


def _with_first(x: Any, new: Any) -> Any:
    """An output with another first floating-point tensor."""
    parts = keras.tree.flatten(x)
    at = next(i for i, part in enumerate(parts) if _is_floating(part))
    parts[at] = new
    return keras.tree.pack_sequence_as(x, parts)


def _array(x: Any) -> Array:
    return as_floats(keras.ops.convert_to_numpy(x))
