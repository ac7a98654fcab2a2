"""The initialization of a whole model, with a key for each array from its name.

The model is traced, not compiled and not run. Its program tells the distribution of each array (`_program`),
and each array is filled by itself, in the parts that the devices of this process hold.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np

import fastinit
from fastinit._checks import check_int, located
from fastinit._report import MEASURED, Report, ReportRow, spread
from fastinit._rules import initializer_of, matches, text_of
from fastinit._runtime import fans

from . import _program
from ._primitive import canonical, keeping
from ._program import Draw

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastinit._typing import Array


@dataclass
class Leaf:
    """An array of the model: its name, what is known of it, and what fills it.

    Attributes:
        name: Its name.
        abstract: Its shape and dtype, and its sharding if the tree has one.
        draw: Where its contents come from; `None` for the model's own code.
        title: Where `draw` comes from, for the report.
        has_rule: Whether it comes from a rule.
        stream: The name that its values depend on: that of the first array which is the same draw.
        function: The rule, if it is a function of a key, a shape and a dtype.
    """

    name: str
    abstract: Any
    draw: Draw | None = None
    title: str = "model"
    has_rule: bool = False
    stream: str = ""
    function: Callable[..., Any] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.abstract.shape)

    @property
    def is_key(self) -> bool:
        """Whether it has keys of JAX."""
        return bool(jax.dtypes.issubdtype(self.abstract.dtype, jax.dtypes.extended))

    def check(self) -> None:
        """Checks that fastinit can fill it, if a rule says so.

        Raises:
            TypeError, ValueError: If it cannot.
        """
        if self.draw is None or not self.has_rule:
            return
        where = f"{self.name}, rule {self.title!r}"
        if not _program.is_float(self.abstract.dtype):
            raise TypeError(f"{where}: fastinit cannot fill {self.abstract.dtype}")
        with located(where):
            self.draw.initializer.validate(self.draw.unit, np.dtype(self.abstract.dtype))


def initialize(
    function: Any,
    *arguments: Any,
    seed: int,
    rules: Mapping[Any, Any] | None = None,
    shardings: Any = None,
    dtype: Any = None,
) -> tuple[Any, Report]:
    """Makes the arrays of a model, each from the seed and its own name.

    The function is traced, but neither compiled nor run, and each array is filled with the stream of its
    name: with `fastinit.lecun_normal(shape, seed=seed, stream="Dense_0.kernel")`, say. So it does not depend
    on the order of construction, on other layers, or on the number of devices and processes. A process makes
    only what its devices hold, without communication.

    Names are paths, joined with dots: `layers.0.kernel` of Flax NNX and Equinox, `mlp/~/linear_0.w` of Haiku.
    A `params` at the beginning is left out, so that `variables` and `variables["params"]` of Flax linen have
    the same names; so is a `value` at the end, which boxes such as `nn.Partitioned` and the variables of NNX
    add.

    Without rules, each array gets the distribution that the model's own code gives it, read from the traced
    program: the random functions of `jax.random`, those of `jax.nn.initializers` and `fastinit.jax`, and
    constants, also if they are then scaled, shifted, reshaped, transposed or rounded. Arrays that a `vmap` or
    `scan` makes layer by layer have the fans of one layer, and each layer has the stream
    `fastinit.block_stream(name, k)`. Arrays that are the same draw (tied weights) have the name of the first.
    All other arrays are computed by the model's own code, which is compiled for them alone; the report lists
    them. Keys in `arguments` are replaced for them by keys from the seed.

    Args:
        function: A function that makes a model: the `init` of a module of Flax linen or Haiku, or one that
            calls the constructor of a model of Flax NNX or Equinox, or returns any tree of arrays. Or an
            abstract tree, whose leaves have a shape and a dtype (`jax.ShapeDtypeStruct`), such as
            `jax.eval_shape` returns; each of them needs a rule then.
        arguments: What the function is called with. Arrays may be abstract.
        seed: An int in [0, 2**64).
        rules: Exceptions. The keys are names with the wildcards of `fnmatch`, where `*` also matches dots, or
            compiled regular expressions, searched in the name; the first that matches wins. The values are
            initializers of `fastinit`, or their names; numbers; functions of a key, a shape and a dtype, as
            those of `jax.nn.initializers` are; or `None` for the model's own code.
        shardings: A sharding for all arrays; a tree of them like the model's; or a function of the name and
            the abstract array, which may return `None`. Otherwise the `sharding` that an abstract leaf has,
            or none: then the array is on the default device.
        dtype: The dtype of all arrays of floats, instead of the model's.

    Returns:
        The model with its arrays, and the report; print it for a table.

    Raises:
        TypeError: If an argument or a rule is of the wrong kind.
        ValueError: If `seed` or a rule is out of range, or an array of an abstract tree has no rule.

    Example:
        >>> import jax, jax.numpy as jnp, fastinit, fastinit.jax
        >>> def model(key):
        ...     return {"kernel": jax.nn.initializers.normal(0.5)(key, (64, 128)), "bias": jnp.zeros(128)}
        >>> made, report = fastinit.jax.initialize(model, jax.random.key(0), seed=1)
        >>> report["kernel"].initializer
        RandomNormal(stddev=0.5)
        >>> expected = fastinit.random_normal((64, 128), stddev=0.5, seed=1, stream="kernel")
        >>> bool((made["kernel"] == expected).all())
        True
    """
    start = time.perf_counter()
    seed = check_int("seed", seed, 0, 2**64 - 1)
    model, unused = prepare(function, arguments, rules)
    leaves = model.leaves
    if dtype is not None:
        dtype = canonical(dtype)
    for leaf in leaves:
        if dtype is not None and jax.dtypes.issubdtype(leaf.abstract.dtype, np.floating):
            leaf.abstract = jax.ShapeDtypeStruct(leaf.shape, dtype, sharding=leaf.abstract.sharding)
        leaf.check()
    places = _shardings(shardings, leaves)
    own = model.own()
    arrays: list[Any] = [None] * len(leaves)
    seconds = [0.0] * len(leaves)
    for number, (leaf, sharding) in enumerate(zip(leaves, places, strict=True)):
        if number not in own:
            began = time.perf_counter()
            arrays[number] = _made(leaf, seed, sharding)
            seconds[number] = time.perf_counter() - began
    for number, array in zip(own, model.computed(own, seed, [places[i] for i in own]), strict=True):
        leaf = leaves[number]
        arrays[number] = array if array.dtype == leaf.abstract.dtype else array.astype(leaf.abstract.dtype)
    samples = [_sample(array) for array in arrays]
    report = Report(
        rows=tuple(map(_row, leaves, arrays, samples, seconds)),
        empty=tuple(leaf.name for leaf in leaves if 0 in leaf.shape),
        twins=_twins(leaves, samples),
        unused_rules=tuple(unused),
        computed=tuple(leaves[number].name for number in own),
        seconds=time.perf_counter() - start,
    )
    return model.rebuild(arrays), report


def prepare(
    function: Any, arguments: Sequence[Any], rules: Mapping[Any, Any] | None, *, with_keys: bool = True
) -> tuple[Model, list[str]]:
    """A model whose arrays have their contents, and the keys of rules that match nothing.

    Raises:
        TypeError: If an argument or a rule is of the wrong kind.
        ValueError: If an array of an abstract tree has no rule; keys of JAX need one if `with_keys`.
    """
    if rules is not None and not isinstance(rules, Mapping):
        raise TypeError(f"rules must be a mapping, got {type(rules).__name__}")
    model = Model(function, arguments)
    unused = _assign(rules or {}, model.leaves)
    if model.program is None:
        own = [model.leaves[number] for number in model.own()]
        if names := [leaf.name for leaf in own if with_keys or not leaf.is_key]:
            raise ValueError(f"an abstract tree needs a rule for each array: {', '.join(names)}")
    return model, unused


class Model:
    """What is to be made: the program, if there is one, the arrays, and the model around them."""

    names: list[str]
    values: list[Any]
    places: list[int]  # of the arrays among the values
    rest: list[Any]  # the values that are no arrays
    structure: Any
    graph: Any

    def __init__(self, function: Any, arguments: Sequence[Any]) -> None:
        self.program: Any = None
        if callable(function) and not _is_module(function):
            flat, structure = jax.tree.flatten(arguments)
            # What is no array is a constant of the program.
            self.traced = [place for place, value in enumerate(flat) if _is_array(value)]

            def arrays_of(*traced: Any) -> list[Any]:
                values = list(flat)
                for place, value in zip(self.traced, traced, strict=True):
                    values[place] = value
                self.take_apart(function(*jax.tree.unflatten(structure, values)))
                return [self.values[place] for place in self.places]

            self.program = _program.trace(arrays_of, [flat[place] for place in self.traced])
            self.inputs = [flat[place] for place in self.traced]
            found = _program.draws(self.program)
            abstract = self.program.out_avals
        else:
            if arguments:
                raise TypeError("only a function takes arguments")
            self.take_apart(function)
            abstract = [self.values[place] for place in self.places]
            found = [None] * len(abstract)
        self.leaves = [
            Leaf(name, jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=_sharding_of(one)), draw)
            for name, one, draw in zip(self.names, abstract, found, strict=True)
        ]
        self.values = []  # They may be traced.

    def take_apart(self, model: Any) -> None:
        """Finds the arrays of a model, their names, and the rest."""
        nnx = sys.modules.get("flax.nnx")
        self.graph = None
        if nnx is not None and any(
            isinstance(one, nnx.Module) for one in jax.tree.leaves(model, is_leaf=_is_module)
        ):
            self.graph, model = nnx.split(model)
        paths, self.structure = jax.tree_util.tree_flatten_with_path(model)
        self.values = [value for _, value in paths]
        self.places = [place for place, value in enumerate(self.values) if _is_array(value)]
        self.rest = [None if _is_array(value) else value for value in self.values]
        self.names = [name_of(paths[place][0]) for place in self.places]

    def own(self) -> list[int]:
        """The arrays that only the model's own code makes."""
        return [
            number for number, leaf in enumerate(self.leaves) if leaf.draw is None and leaf.function is None
        ]

    def rebuild(self, arrays: Sequence[Any]) -> Any:
        """The model with these arrays."""
        values = list(self.rest)
        for place, array in zip(self.places, arrays, strict=True):
            values[place] = array
        model = jax.tree.unflatten(self.structure, values)
        return model if self.graph is None else sys.modules["flax.nnx"].merge(self.graph, model)

    def computed(self, numbers: Sequence[int], seed: int, shardings: Sequence[Any]) -> Sequence[Any]:
        """Some of the arrays, by the model's own code alone, from the values that other arrays have."""
        if not numbers:
            return []
        inputs = []
        for place, value in enumerate(self.inputs):
            if jax.dtypes.issubdtype(value.dtype, jax.dtypes.prng_key) and math.prod(value.shape) == 1:
                value = _key(seed, f"argument {place}", value).reshape(value.shape)
            elif not isinstance(value, (jax.Array, np.ndarray)):
                value = jnp.zeros(value.shape, value.dtype)
            inputs.append(value)

        def maker(stream: str) -> Callable[[Draw], Any]:
            def make(draw: Draw) -> Any:
                abstract = jax.ShapeDtypeStruct((*draw.stack, *draw.unit), draw.dtype)
                return _made(Leaf("", abstract, draw, stream=stream), seed, None)

            return make

        made = {
            leaf.draw.origin: maker(leaf.stream)
            for leaf in self.leaves
            if leaf.draw is not None and leaf.draw.origin is not None
        }
        return _program.compute(self.program, numbers, inputs, made, shardings)


def _sharding_of(abstract: Any) -> Any:
    """The sharding of an abstract array over devices; `None` if it has none."""
    sharding: Any = getattr(abstract, "sharding", None)
    mesh: Any = getattr(sharding, "mesh", None)
    if not isinstance(mesh, jax.sharding.AbstractMesh):
        return sharding
    if mesh.empty or jax.sharding.get_mesh().empty:
        return None
    return jax.sharding.NamedSharding(jax.sharding.get_mesh(), sharding.spec)


def _is_array(value: Any) -> bool:
    """Whether a leaf is an array, abstract or not."""
    return isinstance(value, (jax.Array, np.ndarray, jax.ShapeDtypeStruct)) or (
        hasattr(value, "shape") and hasattr(value, "dtype") and not isinstance(value, np.generic)
    )


def _is_module(value: Any) -> bool:
    """Whether this is a model of Flax NNX or Equinox, which may be callable but is a tree."""
    kinds = [getattr(sys.modules.get(name), "Module", None) for name in ("flax.nnx", "equinox")]
    return isinstance(value, tuple(kind for kind in kinds if kind is not None))


def name_of(path: Any) -> str:
    """The name of an array at a path in the tree."""
    parts = [jax.tree_util.keystr((one,), simple=True) for one in path]
    if len(parts) > 1 and parts[0] == "params":
        del parts[0]
    if len(parts) > 1 and parts[-1] == "value":
        del parts[-1]
    return ".".join(parts)


def _assign(rules: Mapping[Any, Any], leaves: Sequence[Leaf]) -> list[str]:
    """Gives each array its rule, and its stream; returns the keys of rules that match nothing."""
    unused = []
    taken: set[int] = set()
    for key, rule in rules.items():
        matching = [number for number, leaf in enumerate(leaves) if matches(key, [leaf.name])]
        if not matching:
            unused.append(text_of(key))
        initializer = initializer_of(rule)
        if initializer is None and rule is not None and (not callable(rule) or isinstance(rule, type)):
            raise TypeError(
                "a rule must be an initializer of fastinit or its name, a number, None, or a function of a "
                f"key, a shape and a dtype; got {rule!r}"
            )
        for number in matching:
            if number not in taken:
                taken.add(number)
                _apply(leaves[number], text_of(key), initializer, rule)
    first: dict[Any, str] = {}
    for leaf in leaves:
        leaf.stream = leaf.name
        if leaf.draw is not None and leaf.draw.origin is not None:
            leaf.stream = first.setdefault(leaf.draw.origin, leaf.name)
    return unused


def _apply(leaf: Leaf, title: str, initializer: fastinit.Initializer | None, rule: Any) -> None:
    """Gives an array its rule."""
    leaf.title, leaf.has_rule = title, True
    if initializer is None:
        leaf.draw, leaf.function = None, rule
        return
    draw = Draw(initializer, leaf.shape)
    if (model := leaf.draw) is not None and model.stack and not model.changes:
        draw = replace(model, initializer=initializer, origin=None)
    leaf.draw = draw


def _shardings(shardings: Any, leaves: Sequence[Leaf]) -> list[Any]:
    """The sharding of each array, or `None`."""
    if shardings is None:
        return [leaf.abstract.sharding for leaf in leaves]
    if isinstance(shardings, jax.sharding.Sharding):
        return [shardings] * len(leaves)
    if callable(shardings):
        return [shardings(leaf.name, leaf.abstract) for leaf in leaves]
    found = {
        name_of(path): one
        for path, one in jax.tree_util.tree_flatten_with_path(shardings, is_leaf=lambda one: one is None)[0]
    }
    missing = [leaf.name for leaf in leaves if leaf.name not in found]
    if missing:
        raise ValueError(f"the tree of shardings lacks {', '.join(missing)}")
    return [found[leaf.name] for leaf in leaves]


def _made(leaf: Leaf, seed: int, sharding: Any) -> Any:
    """The array of a leaf that has a draw, or a function as its rule."""
    if leaf.function is not None:
        array = leaf.function(_key(seed, leaf.name), leaf.shape, leaf.abstract.dtype)
        return array if sharding is None else jax.device_put(array, sharding)
    part = _part_of(leaf, seed)
    with keeping(np.dtype(leaf.abstract.dtype)):
        if sharding is None:
            return jax.device_put(part(None))
        return jax.make_array_from_callback(leaf.shape, sharding, part)


def _key(seed: int, name: str, like: Any = None) -> Any:
    """A key of JAX for what is not filled by fastinit; of the kind of `like`, if that is a key."""
    kind = jax.random.key_impl(like) if isinstance(like, jax.Array) else None
    words = jax.eval_shape(lambda: jax.random.key_data(jax.random.key(0, impl=kind))).shape[-1]
    bits = jnp.asarray(fastinit.random_bits(words, seed=seed, stream=name))
    return jax.random.wrap_key_data(bits, impl=kind)


def _part_of(leaf: Leaf, seed: int) -> Callable[[Any], Array]:
    """A function that makes the part of an array at an index; `None` stands for all of it."""
    draw, stream = leaf.draw, leaf.stream
    assert draw is not None
    dtype = np.dtype(leaf.abstract.dtype)
    if not draw.stack:
        initializer, unit = _reshaped(draw, leaf.shape)
        if unit == leaf.shape:
            return lambda index: initializer(unit, seed=seed, stream=stream, dtype=dtype, index=index)
    elif not draw.changes and len(draw.stack) == 1:

        def slices(index: Any) -> Array:
            index = (slice(None),) * len(leaf.shape) if index is None else index
            numbers = range(*index[0].indices(draw.stack[0]))
            extent = tuple(
                len(range(*one.indices(size))) for one, size in zip(index, leaf.shape, strict=True)
            )
            result = np.empty(extent, dtype)
            for out, number in zip(result, numbers, strict=True):
                _fill_slice(draw, seed, stream, number, out, index[1:])
            return result

        return slices

    def whole() -> Array:
        result = np.empty((*draw.stack, *draw.unit), dtype)
        if draw.stack:
            for number, place in enumerate(np.ndindex(*draw.stack)):
                _fill_slice(draw, seed, stream, number, result[place], None)
        else:
            draw.initializer(draw.unit, seed=seed, stream=stream, dtype=dtype, out=result)
        for kind, numbers in draw.changes:
            result = result.reshape(numbers) if kind == "reshape" else result.transpose(numbers)
        return result

    made: list[Array] = []

    def part(index: Any) -> Array:
        if not made:
            made.append(whole())
        return np.ascontiguousarray(made[0] if index is None else made[0][index])

    return part


def _fill_slice(draw: Draw, seed: int, stream: str, number: int, out: Array, index: Any) -> None:
    draw.initializer(
        draw.unit,
        seed=seed,
        stream=fastinit.block_stream(stream, number),
        dtype=out.dtype,
        out=out,
        index=index,
    )


def _reshaped(draw: Draw, shape: tuple[int, ...]) -> tuple[fastinit.Initializer, tuple[int, ...]]:
    """An initializer that makes the same elements in another shape, if there is one; and its shape."""
    if not draw.changes:
        return draw.initializer, draw.unit
    same = draw.elementwise() if all(kind == "reshape" for kind, _ in draw.changes) else None
    return (draw.initializer, ()) if same is None else (same, shape)


def _row(leaf: Leaf, array: Any, sample: Array | None, seconds: float) -> ReportRow:
    """The row of an array in the report."""
    draw = leaf.draw
    distribution = None if draw is None else draw.initializer.check(draw.unit)
    fan_in = fan_out = None
    if len(unit := leaf.shape if draw is None else draw.unit) > 1:
        fan_in, fan_out = map(int, fans(unit))
    return ReportRow(
        name=leaf.name,
        names=(leaf.name,),
        shape=leaf.shape,
        dtype=array.dtype,
        rule=leaf.title,
        initializer=None if draw is None else draw.initializer,
        distribution=None if distribution is None else distribution.name,
        fan_in=fan_in,
        fan_out=fan_out,
        target_mean=None if distribution is None else distribution.mean,
        target_std=None if distribution is None else distribution.std,
        mean=math.nan if sample is None else float(sample.mean()),
        std=math.nan if sample is None else float(sample.std()),
        seconds=seconds,
    )


def _sample(array: Any) -> Array | None:
    """Some elements that this process holds, spread over them; `None` if there are none."""
    if not jax.dtypes.issubdtype(array.dtype, np.floating) or not array.addressable_shards:
        return None
    here = np.asarray(array.addressable_shards[0].data).reshape(-1)
    if here.size > MEASURED:
        runs, length, step = spread(here.size, MEASURED)
        here = np.lib.stride_tricks.sliding_window_view(here, length)[::step][:runs].reshape(-1)
    return here.astype(np.float64) if here.size else None


def _twins(leaves: Sequence[Leaf], samples: Sequence[Array | None]) -> tuple[tuple[str, ...], ...]:
    """Groups of names of arrays that are equal where they were measured, except constant ones."""
    groups: dict[Any, list[str]] = {}
    for leaf, sample in zip(leaves, samples, strict=True):
        if sample is not None and (sample != sample[0]).any():
            groups.setdefault((leaf.shape, sample.tobytes()), []).append(leaf.name)
    return tuple(tuple(names) for names in groups.values() if len(names) > 1)
