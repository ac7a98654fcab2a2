"""A forward and a backward pass of a function of JAX, whose layers are found in its program.

The program (jaxpr) of the function is run operation by operation. A layer is what combines parameters of the
same place in the tree (`Dense_0`, of `Dense_0/kernel` and `Dense_0/bias`) with what depends on the input; its
output is that of the last operation that does. Activations of `jax.nn`, and tanh and the sigmoid, are layers,
too. So the library that the function comes from does not matter. What `scan` and other loops compute is one
layer. Nothing has a state that could change.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import jax
import numpy as np
from jax.extend import core

from .measure import as_floats, measure
from .record import (
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
    from collections.abc import Callable, Sequence


_INLINE = ("jit", "pjit", "closed_call", "core_call", "checkpoint", "remat2")
_PRIMITIVES = {"tanh": "tanh", "logistic": "sigmoid"}


class _Event(NamedTuple):
    """An operation that makes the output of a layer.

    Attributes:
        at: Its number.
        first: The number of the first operation of the layer.
        layer: The name of the layer; `""` for an activation.
        kind: The name of the operation.
    """

    at: int
    first: int
    layer: str
    kind: str


class Network:
    """A function of parameters and inputs, with the function that `trace` needs.

    Args:
        model: A function of the parameters and the inputs; a module of Flax.
        params: The parameters, a tree of arrays.

    Raises:
        TypeError: If there are no parameters.
    """

    framework = "jax"

    def __init__(self, model: Any, params: Any) -> None:
        self.title = getattr(model, "__name__", type(model).__name__)
        nnx = sys.modules.get("flax.nnx")
        if params is None and nnx is not None and isinstance(model, nnx.Module):
            graph, params, rest = nnx.split(model, nnx.Param, ...)
            self.function: Callable[..., Any] = lambda p, *inputs: nnx.merge(graph, p, rest, copy=True)(
                *inputs
            )
        elif params is None:
            raise TypeError(
                f"a function of JAX needs its parameters, its first argument, as params=, got {self.title}"
            )
        else:  # A module of Flax Linen has `apply`.
            self.function = model.apply if hasattr(model, "apply") else model
        self.params = params

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
        """Runs the function forward and backward."""
        if training is not None:
            raise ValueError("training is for modules with modes; a function of JAX decides that itself")
        if is_shape(batch):
            if not isinstance(batch, (tuple, list)):
                raise unknown_shape(self.title, batch)
            batch = random_input(batch, seed, None)
        inputs = batch if isinstance(batch, (tuple, list)) else (batch,)
        if isinstance(batch, Mapping):
            raise TypeError("the inputs of a function of JAX are an array or a tuple of them, got a dict")
        inputs = [jax.numpy.asarray(x) for x in inputs]
        floats = [x for x in inputs if jax.numpy.issubdtype(x.dtype, np.floating)]
        samples = next((x.shape[0] for x in inputs if x.ndim), 1)
        record = Record(int(samples), float(np.std(as_floats(floats[0]))) if floats else None)
        flat, _ = jax.tree_util.tree_flatten_with_path(self.params)
        names = [_name(path) for path, _ in flat]
        leaves = [leaf for _, leaf in flat]
        closed, shape = jax.make_jaxpr(self.function, return_shape=True)(self.params, *inputs)
        out_tree = jax.tree_util.tree_structure(shape)

        events: list[_Event] = []
        _Run(closed, names, events.append, None).shapes()
        points = _points(events)
        if layers is not None:
            known = [event.layer or event.kind for event in points]
            wanted = chosen(layers, known)
            points = [event for event, name in zip(points, known, strict=True) if name in wanted]
        places = {event.at: number for number, event in enumerate(points)}
        starts = {event.first: number for number, event in enumerate(points)}

        def run(trained: Sequence[Any], shifts: Sequence[Any]) -> Any:
            outputs: list[Any] = [None] * len(points)
            before: list[Any] = [None] * len(points)

            def replace(at: int, value: Any, given: Any) -> Any:
                if at in starts:
                    before[starts[at]] = given
                if at not in places:
                    return value
                outputs[places[at]] = value
                return value + shifts[places[at]] if shifts else value

            new = iter(trained)
            full = [next(new) if _is_floating(leaf) else leaf for leaf in leaves]
            found = _Run(closed, names, lambda _: None, replace).values([*full, *inputs])
            output = jax.tree_util.tree_unflatten(out_tree, found)
            return _loss(output, loss, target, seed), (outputs, before)

        trained = [leaf for leaf in leaves if _is_floating(leaf)]
        _, (shapes, _) = jax.eval_shape(run, trained, ())
        zeros = [jax.numpy.zeros(x.shape, x.dtype) for x in shapes]
        take = jax.jit(jax.value_and_grad(run, argnums=(0, 1), has_aux=True))
        (value, (outputs, before)), (gradients, shifts) = take(trained, zeros)
        record.loss = float(value)

        head: Any = None
        by_layer: dict[str, list[tuple[Any, Any]]] = {}
        floating = [name for name, leaf in zip(names, leaves, strict=True) if _is_floating(leaf)]
        for name, leaf, gradient in zip(floating, trained, gradients, strict=True):
            by_layer.setdefault(_layer_of(name), []).append((leaf, gradient))
        for event, y, z, gradient in zip(points, outputs, before, shifts, strict=True):
            activation = None if event.layer else known_activation(_Named(event.kind))
            call = record.add(
                event.layer or event.kind,
                event.kind,
                as_floats(y),
                -1,
                activation,
                as_floats(z) if activation else None,
            )
            record.add_gradient(call, as_floats(gradient))
            own = by_layer.get(event.layer, [])
            if own:
                record.weights[event.layer] = Weights(
                    count=sum(leaf.size for leaf, _ in own),
                    norm=norm(as_floats(leaf) for leaf, _ in own),
                    gradient_norm=norm(as_floats(gradient) for _, gradient in own),
                )
                head = z
        if head is not None:
            record.head_input = measure(as_floats(head), -1, record.samples)
        return record


class _Named:
    """Something with the name of an activation."""

    __module__ = ""

    def __init__(self, name: str) -> None:
        self.__name__ = name


class _Run:
    """A run of a program: by shapes only, to find its layers, or by values."""

    def __init__(
        self,
        closed: Any,
        names: Sequence[str],
        found: Callable[[_Event], None],
        replace: Callable[[int, Any, Any], Any] | None,
    ) -> None:
        self.closed = closed
        self.names = names
        self.found = found
        self.replace = replace
        self.count = 0

    def shapes(self) -> None:
        """Finds the layers."""
        jax.eval_shape(lambda xs: self.values(xs), [_like(x) for x in self.closed.in_avals])

    def values(self, arguments: Sequence[Any]) -> list[Any]:
        """Runs the program with values."""
        origins = [*self.names, *[None] * (len(arguments) - len(self.names))]
        self.count = 0
        return self.run(self.closed.jaxpr, self.closed.consts, arguments, origins)[0]

    def run(
        self, jaxpr: Any, consts: Sequence[Any], arguments: Sequence[Any], origins: Sequence[str | None]
    ) -> tuple[list[Any], list[str | None]]:
        """Runs a program; `origins` has the parameter that each argument comes from alone."""
        values: dict[Any, Any] = {}
        sources: dict[Any, str | None] = {}

        def put(variables: Sequence[Any], found: Sequence[Any], source: Sequence[str | None]) -> None:
            values.update(zip(variables, found, strict=True))
            sources.update(zip(variables, source, strict=True))

        def get(variable: Any) -> Any:
            return variable.val if isinstance(variable, core.Literal) else values[variable]

        put(jaxpr.constvars, consts, [""] * len(jaxpr.constvars))
        put(jaxpr.invars, arguments, origins)
        for eqn in jaxpr.eqns:
            given = [get(variable) for variable in eqn.invars]
            # "" is a constant, None depends on the input.
            origin = ["" if isinstance(v, core.Literal) else sources[v] for v in eqn.invars]
            name = _activation_of(eqn, jaxpr) if None in origin else None
            if eqn.primitive.name in _INLINE and name is None:
                inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
                inner, constants = (inner.jaxpr, inner.consts) if hasattr(inner, "consts") else (inner, [])
                put(eqn.outvars, *self.run(inner, constants, given, origin))
                continue
            bound = eqn.primitive.get_bind_params(eqn.params)
            functions, options = bound if isinstance(bound, tuple) else ((), bound)  # before JAX 0.10
            made = eqn.primitive.bind(*functions, *given, **options)
            made = list(made) if eqn.primitive.multiple_results else [made]
            self.count += 1
            parameters = [one for one in origin if one]
            first = next((i for i, y in enumerate(made) if _is_floating(y)), None)
            if None in origin and first is not None and (parameters or name):
                layer = _layer_of(parameters[0]) if parameters else ""
                self.found(_Event(self.count, self.count, layer, name or eqn.primitive.name))
                if self.replace is not None:
                    x = next(
                        (v for v, o in zip(given, origin, strict=True) if o is None and _is_floating(v)), None
                    )
                    made[first] = self.replace(self.count, made[first], x)
            source = None if None in origin else next(iter(parameters), "")
            put(eqn.outvars, made, [source] * len(made))
        return [get(v) for v in jaxpr.outvars], [
            "" if isinstance(v, core.Literal) else sources[v] for v in jaxpr.outvars
        ]


def _points(events: Sequence[_Event]) -> list[_Event]:
    """The last of the events of a layer that follow each other, with the kind of the first."""
    found: list[_Event] = []
    for event in events:
        if found and event.layer and found[-1].layer == event.layer:
            found[-1] = found[-1]._replace(at=event.at)
        else:
            found.append(event)
    return found


def _activation_of(eqn: Any, jaxpr: Any) -> str | None:
    """The name of the activation that an operation is."""
    kind = eqn.primitive.name
    if kind in _PRIMITIVES:
        # In GELU and others, 1 is added to it.
        users = [one for one in jaxpr.eqns if eqn.outvars[0] in one.invars]
        parts = any(isinstance(v, core.Literal) for one in users for v in one.invars)
        return None if parts else _PRIMITIVES[kind]
    inner = eqn.params.get("jaxpr", eqn.params.get("call_jaxpr"))
    if inner is None or kind not in (*_INLINE, "custom_jvp_call"):
        return None
    name = eqn.params.get("name") or getattr(getattr(inner, "jaxpr", inner).debug_info, "func_name", "")
    name = str(name).partition(" ")[0]
    return name if known_activation(_Named(name)) is not None else None


def _loss(output: Any, loss: Callable[..., Any] | None, target: Any, seed: int) -> Any:
    if loss is not None:
        value = loss(output) if target is None else loss(output, target)
        if getattr(value, "size", 0) != 1:
            raise TypeError(f"loss must return an array with one element, got {value!r:.80}")
        return value.reshape(())
    y = next((leaf for leaf in jax.tree_util.tree_leaves(output) if _is_floating(leaf)), None)
    if y is None:
        raise TypeError(f"the output has no floating-point array, got {type(output).__name__}: pass loss=")
    return (y.astype(np.float32) * direction(y.shape, seed)).sum()


def _name(path: Sequence[Any]) -> str:
    """The name of a leaf of a tree: that of Flax without `params`, or the `value` of its variables."""
    parts = [str(getattr(key, "key", getattr(key, "idx", getattr(key, "name", key)))) for key in path]
    parts = parts[1:] if len(parts) > 1 and parts[0] == "params" else parts
    parts = parts[:-1] if len(parts) > 1 and parts[-1] in ("value", ".value") else parts
    return "/".join(parts)


def _layer_of(name: str) -> str:
    """The place of a parameter; of one in a list, its own."""
    layer, _, leaf = name.rpartition("/")
    return name if not layer or leaf.isdigit() else layer


def _like(aval: Any) -> Any:
    return jax.ShapeDtypeStruct(aval.shape, aval.dtype)


def _is_floating(x: Any) -> bool:
    return hasattr(x, "dtype") and jax.numpy.issubdtype(x.dtype, np.floating)
