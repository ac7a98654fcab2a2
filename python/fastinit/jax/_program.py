"""Which distribution the code of a model gives each of its tensors, read from the program that JAX traces.

While a model is traced, the random functions of JAX bind fastinit's primitive. From there the program is
followed to the tensors: through products and sums with numbers, changes of shape, rounding to fewer bits,
calls, and loops over layers. A tensor that is not understood is made by the model's own code.
"""

from __future__ import annotations

import contextlib
import inspect
import math
import threading
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import ClosedJaxpr, Jaxpr, jaxpr_as_fun
from jax.interpreters import partial_eval

import fastinit

from ._primitive import DTYPES, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from fastinit._typing import Array
    from fastinit.theory.distributions import Distribution

# The random functions of JAX that fastinit stands in for.
_RANDOM = ("uniform", "normal", "truncated_normal", "orthogonal")
# The operations that only call the program that they contain.
_CALLS = (
    "jit",
    "pjit",
    "closed_call",
    "core_call",
    "checkpoint",
    "remat2",
    "custom_jvp_call",
    "custom_vjp_call",
)
# The operations that make random numbers, besides those of `jax.random`.
_DRAWS = ("fastinit", "threefry2x32")
# The operations in which a program is; the same program may be in several places.
_Path = tuple[int, ...]
# Constants of more elements are not followed.
_SMALL = 64
# What NumPy computes as JAX does, in a fraction of the time.
_ARITHMETIC = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "sqrt": np.sqrt,
}


@dataclass(frozen=True)
class Draw:
    """Where a tensor comes from: slices of one initializer, and what became of their array.

    Attributes:
        initializer: What each slice contains.
        unit: The shape of a slice, from which fans are counted.
        stack: The shape of the array of slices; `()` for a single one.
        changes: Changes of the shape, in their order: `("reshape", shape)` and `("transpose", axes)`.
        origin: Equal for two tensors that are the same draw.
        dtype: The dtype of the draw itself, which may have been rounded since.
    """

    initializer: fastinit.Initializer
    unit: tuple[int, ...]
    stack: tuple[int, ...] = ()
    changes: tuple[tuple[str, tuple[int, ...]], ...] = ()
    origin: Any = None
    dtype: Any = None

    def changed(self, kind: str, numbers: Sequence[int]) -> Draw:
        """This draw with another shape."""
        return replace(self, changes=(*self.changes, (kind, tuple(numbers))))

    def linear(self, factor: float, shift: float) -> Draw | None:
        """The distribution of `factor * x + shift`; `None` if fastinit has none."""
        if factor == 1.0 and shift == 0.0:
            return self
        try:
            made = self.elementwise(factor, shift)
        except (TypeError, ValueError):
            return None
        is_matrix = isinstance(self.initializer, (fastinit.Orthogonal, fastinit.DeltaOrthogonal))
        if is_matrix and shift == 0.0:
            config = self.initializer.get_config()
            made = type(self.initializer).from_config({**config, "gain": config["gain"] * factor})
        return None if made is None else replace(self, initializer=made)

    def elementwise(self, factor: float = 1.0, shift: float = 0.0) -> fastinit.Initializer | None:
        """An initializer whose elements are `factor * x + shift` in any shape, if this one has such elements.

        Raises:
            ValueError: If they are out of range.
        """
        if self.initializer.blocks != 1:
            return None
        return _linear(self.initializer.check(self.unit), factor, shift)


def _linear(found: Distribution, factor: float, shift: float) -> fastinit.Initializer | None:
    given = found.parameters
    if found.name == "constant":
        return fastinit.Constant(given["value"] * factor + shift)
    if found.name == "uniform":
        bounds = sorted(given[name] * factor + shift for name in ("low", "high"))
        return fastinit.RandomUniform(*bounds)
    if factor == 0.0:
        return None
    if found.name == "normal":
        return fastinit.RandomNormal(given["mean"] * factor + shift, given["stddev"] * abs(factor))
    if found.name == "truncated_normal":
        lower, upper = given["lower"], given["upper"]
        if factor < 0.0:
            lower, upper = -upper, -lower
        return fastinit.TruncatedNormal(
            given["mean"] * factor + shift, given["stddev"] * abs(factor), lower=lower, upper=upper
        )
    return None


@contextlib.contextmanager
def _random_by_fastinit() -> Iterator[None]:
    """A context in which the random functions of JAX bind fastinit's primitive, in the current thread.

    The closures in `jax.nn.initializers`, Equinox, Haiku and most models look these functions up at each
    call.
    """
    from jax._src import random as inner
    from jax._src.nn import initializers

    thread = threading.get_ident()
    replaced: list[tuple[Any, str, Any]] = []

    def shim(name: str, original: Callable[..., Any]) -> Callable[..., Any]:
        def function(*arguments: Any, **options: Any) -> Any:
            found = None
            if threading.get_ident() == thread:
                found = _drawn(name, original, arguments, options)
            return original(*arguments, **options) if found is None else found

        return function

    def scaled_normal(key: Any, shape: Any, dtype: Any, scale: Any, out_sharding: Any = None) -> Any:
        return jax.random.normal(key, shape, dtype, out_sharding=out_sharding) * scale

    with _lock:
        try:
            for module in {id(one): one for one in (jax.random, inner)}.values():
                for name in _RANDOM:
                    replaced.append((module, name, getattr(module, name)))
                    setattr(module, name, shim(name, getattr(module, name)))
            if hasattr(initializers, "_scaled_normal"):  # JAX 0.12
                replaced.append((initializers, "_scaled_normal", initializers._scaled_normal))
                initializers._scaled_normal = scaled_normal
            yield
        finally:
            for module, name, value in replaced:
                setattr(module, name, value)


_lock = threading.RLock()


def _drawn(name: str, original: Any, arguments: Sequence[Any], options: Mapping[str, Any]) -> Any:
    """The tensor of a call of a random function of JAX; `None` if fastinit does not make it."""
    try:
        bound = inspect.signature(original).bind(*arguments, **options)
        bound.apply_defaults()
        initializer = _initializer_of(name, bound.arguments)
    except (TypeError, ValueError):
        return None  # also where a bound is traced
    if initializer is None or bound.arguments.get("out_sharding") is not None:
        return None
    result = jax.eval_shape(lambda: original(*arguments, **options))
    dtype = np.dtype(result.dtype)
    if dtype not in DTYPES:
        return None
    try:
        initializer.validate(result.shape, dtype)
    except (TypeError, ValueError):
        return None
    return sample(initializer, bound.arguments["key"], result.shape, dtype)


def _initializer_of(name: str, given: Mapping[str, Any]) -> fastinit.Initializer | None:
    """What the result of a random function contains, given its arguments by name."""
    match name:
        case "uniform":
            return fastinit.RandomUniform(float(given["minval"]), float(given["maxval"]))
        case "normal":
            return fastinit.RandomNormal(0.0, 1.0)
        case "truncated_normal":
            return fastinit.TruncatedNormal(
                0.0, 1.0, lower=float(given["lower"]), upper=float(given["upper"])
            )
        case "orthogonal" if given["shape"] == ():
            return fastinit.Orthogonal()
    return None


def trace(function: Callable[..., Any], arguments: Sequence[Any]) -> ClosedJaxpr:
    """The program of a function that returns a list of arrays, reduced to what these depend on."""
    with _random_by_fastinit():
        return _needed(jax.make_jaxpr(function)(*arguments))


def draws(program: ClosedJaxpr) -> list[Draw | None]:
    """Where each result of a program comes from; `None` for what is not understood."""
    jaxpr = program.jaxpr
    found = _follow(jaxpr, [_small(value) for value in program.consts], [None] * len(jaxpr.invars), ())
    return [_result(value, var.aval) for value, var in zip(found, jaxpr.outvars, strict=True)]


def is_random(program: ClosedJaxpr, place: int) -> bool:
    """Whether a result of a program depends on a draw or on a key."""
    wanted = [number == place for number in range(len(program.jaxpr.outvars))]
    jaxpr = partial_eval.dce_jaxpr(program.jaxpr, wanted)[0]
    return any(name in _DRAWS or name.startswith(("random_", "rng_")) for name in _operations(jaxpr))


def _operations(jaxpr: Any) -> Iterator[str]:
    """The names of the operations in a program, and in those in it."""
    for equation in jaxpr.eqns:
        yield equation.primitive.name
        for value in equation.params.values():
            for one in value if isinstance(value, (tuple, list)) else (value,):
                inner = getattr(one, "jaxpr", one)
                if isinstance(inner, Jaxpr):
                    yield from _operations(inner)


def compute(
    program: ClosedJaxpr,
    places: Sequence[int],
    inputs: Sequence[Any],
    made: Mapping[_Path, Callable[[Draw], Any]],
    shardings: Sequence[Any],
) -> list[Any]:
    """Some results of a program, without the rest of it.

    `made` has functions that make the tensors of some draws, by their origins; the program makes all others.
    """
    equations = {origin: one for origin, one in _draws_in(program.jaxpr, ()) if origin in made}
    abstract = [one.outvars[0].aval for one in equations.values()]

    def run(*values: Any) -> list[Any]:
        given = dict(zip(equations, values[len(inputs) :], strict=True))
        results = _evaluate(program.jaxpr, program.consts, values[: len(inputs)], given, ())
        return [results[place] for place in places]

    part = jax.make_jaxpr(run)(*inputs, *(jax.ShapeDtypeStruct(one.shape, one.dtype) for one in abstract))
    jaxpr, used = partial_eval.dce_jaxpr(part.jaxpr, [True] * len(places))
    values = [
        *inputs,
        *(
            made[origin](_step(one, [None], ())[0]) if is_used else None
            for (origin, one), is_used in zip(equations.items(), used[len(inputs) :], strict=True)
        ),
    ]
    function = jaxpr_as_fun(part.replace(jaxpr=jaxpr))
    needed = [value for value, is_used in zip(values, used, strict=True) if is_used]
    return jax.jit(function, out_shardings=list(shardings))(*needed)


def _draws_in(jaxpr: Any, path: _Path) -> Iterator[tuple[_Path, Any]]:
    """The operations of fastinit in a program, and in those that it calls, by their origins."""
    for equation in jaxpr.eqns:
        if equation.primitive.name == "fastinit":
            yield (*path, id(equation)), equation
        elif equation.primitive.name in _CALLS and (inner := _inner(equation)) is not None:
            yield from _draws_in(inner.jaxpr, (*path, id(equation)))


def _evaluate(
    jaxpr: Any, constants: Sequence[Any], inputs: Sequence[Any], given: Mapping[_Path, Any], path: _Path
) -> list[Any]:
    """The results of a program, with the tensors of some draws given."""
    known = dict(zip([*jaxpr.constvars, *jaxpr.invars], [*constants, *inputs], strict=True))
    for equation in jaxpr.eqns:
        place = (*path, id(equation))
        values = [atom.val if hasattr(atom, "val") else known[atom] for atom in equation.invars]
        inner = _inner(equation)
        if place in given:
            results = [given[place]]
        elif inner is not None and equation.primitive.name in _CALLS:
            results = _evaluate(inner.jaxpr, inner.consts, values, given, place)
        else:
            bound = equation.primitive.get_bind_params(equation.params)
            functions, parameters = bound if isinstance(bound, tuple) else ((), bound)
            results = equation.primitive.bind(*functions, *values, **parameters)
            results = results if equation.primitive.multiple_results else [results]
        known |= dict(zip(equation.outvars, results, strict=True))
    return [atom.val if hasattr(atom, "val") else known[atom] for atom in jaxpr.outvars]


def _needed(program: ClosedJaxpr) -> ClosedJaxpr:
    """A program without what no result depends on."""
    wanted = [True] * len(program.jaxpr.outvars)
    return program.replace(jaxpr=partial_eval.dce_jaxpr(program.jaxpr, wanted, instantiate=True)[0])


def is_float(dtype: Any) -> bool:
    """Whether fastinit has this dtype."""
    return not jax.dtypes.issubdtype(dtype, jax.dtypes.extended) and np.dtype(dtype) in DTYPES


# What a name in a program stands for: a `Draw`; an array of NumPy, which has the elements of a small
# constant, or the one number that all elements of a large one are; or `None`.
_Value = Any


def _small(value: Any) -> _Value:
    """A constant as an array of NumPy, if it has few elements."""
    if isinstance(value, jax.core.Tracer) or np.size(value) > _SMALL:
        return None
    if jax.dtypes.issubdtype(getattr(value, "dtype", np.dtype(object)), jax.dtypes.extended):
        return None
    return np.asarray(value)


def _result(value: _Value, aval: Any) -> Draw | None:
    """A result: a draw in a dtype of fastinit, or a constant."""
    if not is_float(aval.dtype):
        return None
    if isinstance(value, np.ndarray):
        number = _number(value)
        return Draw(fastinit.Constant(float(number.item())), aval.shape) if number.size == 1 else None
    return value


def _follow(jaxpr: Any, constants: Sequence[_Value], inputs: Sequence[_Value], path: _Path) -> list[_Value]:
    """What the results of a program are, given what its constants and inputs are."""
    known: dict[Any, _Value] = dict(zip(jaxpr.constvars, constants, strict=True))
    known |= dict(zip(jaxpr.invars, inputs, strict=True))

    def value_of(atom: Any) -> _Value:
        return _small(atom.val) if hasattr(atom, "val") else known.get(atom)

    for equation in jaxpr.eqns:
        values = [value_of(atom) for atom in equation.invars]
        known |= dict(zip(equation.outvars, _step(equation, values, path), strict=True))
    return [value_of(atom) for atom in jaxpr.outvars]


def _step(equation: Any, values: Sequence[_Value], path: _Path) -> Sequence[_Value]:
    """What the results of one operation are."""
    name, parameters = equation.primitive.name, equation.params
    if name == "fastinit":
        stack = equation.invars[0].aval.shape[:-1]
        origin = (*path, id(equation))
        return [Draw(parameters["initializer"], parameters["shape"], stack, (), origin, parameters["dtype"])]
    if name == "scan":
        return _scan(equation, values, path)
    inner = _inner(equation)
    if inner is not None and name in _CALLS:
        return _follow(inner.jaxpr, [_small(one) for one in inner.consts], values, (*path, id(equation)))
    if len(equation.outvars) != 1 or any(value is None for value in values) or not values:
        return [None] * len(equation.outvars)
    places = [place for place, value in enumerate(values) if isinstance(value, Draw)]
    if not places:
        return [_constant(equation, values)]
    others = [value for value in values if not isinstance(value, Draw)]
    if len(places) > 1 or any(value.size != 1 for value in others):
        return [None]
    before, after = equation.invars[places[0]].aval, equation.outvars[0].aval
    numbers = [float(one.item()) for one in others]
    return [_changed(equation, values[places[0]], numbers, before, after, is_first=places[0] == 0)]


def _changed(
    equation: Any, draw: Draw, numbers: Sequence[float], before: Any, after: Any, *, is_first: bool
) -> Draw | None:
    """What an operation with numbers makes of a draw."""
    is_same_shape = before.shape == after.shape
    match equation.primitive.name:
        case "mul" if is_same_shape:
            return draw.linear(numbers[0], 0.0)
        case "div" if is_same_shape and is_first and numbers[0] != 0.0:
            return draw.linear(1.0 / numbers[0], 0.0)
        case "add" | "add_any" if is_same_shape:
            return draw.linear(1.0, numbers[0])
        case "sub" if is_same_shape:
            return draw.linear(1.0, -numbers[0]) if is_first else draw.linear(-1.0, numbers[0])
        case "neg":
            return draw.linear(-1.0, 0.0)
        case "copy" | "copy_p" | "stop_gradient" | "sharding_constraint" | "optimization_barrier":
            return draw
        case "convert_element_type" if _is_rounding(before.dtype, after.dtype):
            return draw
        case "reshape" if equation.params.get("dimensions") is None:
            return draw.changed("reshape", after.shape)
        case "squeeze" | "expand_dims":
            return draw.changed("reshape", after.shape)
        case "broadcast_in_dim" if math.prod(before.shape) == math.prod(after.shape):
            order = list(equation.params["broadcast_dimensions"])
            return draw.changed("reshape", after.shape) if order == sorted(order) else None
        case "transpose":
            return draw.changed("transpose", equation.params["permutation"])
    return None


def _is_rounding(before: Any, after: Any) -> bool:
    """Whether a conversion changes nothing, or rounds float32 to fewer bits, as fastinit does."""
    if not is_float(before) or not is_float(after):
        return False
    before, after = np.dtype(before), np.dtype(after)
    return before == after or (before == np.float32 and after.itemsize < 4)


def _constant(equation: Any, values: Sequence[Any]) -> _Value:
    """The result of an operation on constants."""
    name, after = equation.primitive.name, equation.outvars[0].aval
    if jax.dtypes.issubdtype(after.dtype, jax.dtypes.extended):
        return None
    are_whole = all(
        value.shape == atom.aval.shape for value, atom in zip(values, equation.invars, strict=True)
    )
    if not are_whole or math.prod(after.shape) > _SMALL:
        values = [_number(value) for value in values]
        if any(value.size != 1 for value in values):
            return None
        if name in ("broadcast_in_dim", "reshape", "squeeze", "transpose", "copy", "copy_p"):
            return values[0].reshape(())
        if name not in ("mul", "add", "sub", "div", "neg", "convert_element_type"):
            return None
        values = [value.reshape(()) for value in values]
    if name in _ARITHMETIC and is_float(after.dtype):
        return np.asarray(_ARITHMETIC[name](*values), after.dtype)
    with jax.ensure_compile_time_eval():
        return np.asarray(equation.primitive.bind(*map(jnp.asarray, values), **equation.params))


def _number(value: Array) -> Array:
    """The one number that all elements of an array are, if there is one; else the array."""
    is_full = value.size > 0 and bool((value == value.flat[0]).all())
    return np.asarray(value.flat[0]) if is_full else value


def _scan(equation: Any, values: Sequence[_Value], path: _Path) -> list[_Value]:
    """The results of a loop: tensors that differ from turn to turn are stacked, others are not followed."""
    body, path = _inner(equation), (*path, id(equation))
    if "ft_in" in equation.params:  # JAX 0.12
        consts, carried, _ = map(len, equation.params["ft_in"].unpack())
    else:
        consts, carried = equation.params["num_consts"], equation.params["num_carry"]
    # Nothing is known of what is carried from turn to turn, and draws from outside do not differ.
    inputs = [
        value if place < consts and isinstance(value, np.ndarray) else None
        for place, value in enumerate(values)
    ]
    found = _follow(body.jaxpr, [_small(value) for value in body.consts], inputs, path)
    changing = _changing(body.jaxpr, [place >= consts for place in range(len(values))], path)
    results: list[_Value] = [None] * carried
    for value in found[carried:]:
        if isinstance(value, Draw):
            length = equation.params["length"]
            moved = tuple(
                (kind, (length, *numbers) if kind == "reshape" else (0, *(axis + 1 for axis in numbers)))
                for kind, numbers in value.changes
            )
            differs = (value.origin[:-1], value.origin[-1]) in changing
            results.append(replace(value, stack=(length, *value.stack), changes=moved) if differs else None)
        else:
            number = None if value is None else _number(value)
            results.append(number if number is not None and number.size == 1 else None)
    return results


def _changing(jaxpr: Any, inputs: Sequence[bool], path: _Path) -> set[tuple[_Path, int]]:
    """The operations in the body of a loop whose results may differ from turn to turn."""
    names = {var for var, differs in zip(jaxpr.invars, inputs, strict=True) if differs}
    found: set[tuple[_Path, int]] = set()
    for equation in jaxpr.eqns:
        differ = [not hasattr(atom, "val") and atom in names for atom in equation.invars]
        if any(differ):
            names |= set(equation.outvars)
            found.add((path, id(equation)))
            inner = _inner(equation)
            if inner is not None:
                found |= _changing(inner.jaxpr, differ, (*path, id(equation)))
    return found


def _inner(equation: Any) -> Any:
    """The program that an operation calls with its operands, or repeats; `None` for any other operation."""
    if equation.primitive.name not in (*_CALLS, "scan"):
        return None
    inner = equation.params.get("jaxpr", equation.params.get("call_jaxpr", equation.params.get("fun_jaxpr")))
    if inner is None or hasattr(inner, "consts"):
        return inner
    return ClosedJaxpr(inner, ()) if isinstance(inner, Jaxpr) else None
