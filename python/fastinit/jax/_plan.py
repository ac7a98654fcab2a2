"""The plan of a model: what `initialize` would make, without making it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import jax
import numpy as np

import fastinit
from fastinit._plan import (
    MOST_GIVEN,
    Part,
    Plan,
    PlanRow,
    constant_of,
    dtype_name,
    given,
    is_float,
    merged,
    unseeded,
    whole,
)
from fastinit._terminal import listed

from . import _program
from ._initialize import prepare

if TYPE_CHECKING:
    from collections.abc import Mapping

    from ._initialize import Leaf, Model
    from ._program import Draw

# An array that is transposed has a part for each run of elements that stay together.
_MOST_PARTS = 2**20


def plan(function: Any, *arguments: Any, rules: Mapping[Any, Any] | None = None, dtype: Any = None) -> Plan:
    """Plans what `initialize` would make, without making it: a checkpoint of initial weights.

    Names and streams are those of `initialize`, so the arrays of the plan equal its arrays for the same seed.
    Each layer that a `vmap` or `scan` makes is one part, with a stream of its own; arrays that are the same
    draw (tied weights) have the stream of the first; arrays that are transposed consist of many parts. What
    the model's own code computes without random numbers, such as a table of positions, is in the plan itself,
    up to 1 MiB for each array. Keys, such as those of `nnx.Rngs`, are left out.

    Args:
        function: A function that makes a model, or an abstract tree of arrays, see `initialize`.
        arguments: What the function is called with. Arrays may be abstract.
        rules: Exceptions, see `initialize`. The values are initializers of `fastinit`, or their names;
            numbers, also for arrays of integers; or `None` for the model's own code.
        dtype: The dtype of all arrays of floats, instead of the model's: any that a plan can have.

    Returns:
        The plan. Print it for a table.

    Raises:
        ValueError: If arrays have no contents that a plan can state; the error lists them. They need rules.
        TypeError: If an argument or a rule is of the wrong kind.

    Example:
        >>> import jax, jax.numpy as jnp, fastinit.jax
        >>> def model(key):
        ...     return {"kernel": jax.nn.initializers.normal(0.5)(key, (64, 128)), "bias": jnp.zeros(128)}
        >>> plan = fastinit.jax.plan(model, jax.random.key(0), dtype="bfloat16")
        >>> plan["kernel"].initializer, plan["bias"].initializer, plan.nbytes
        (RandomNormal(stddev=0.5), Constant(), 16640)
    """
    model, unused = prepare(function, arguments, rules, with_keys=False)
    if not model.leaves:
        raise TypeError(f"a plan needs a function or a tree that has arrays, got {function!r:.80}")
    dtype = None if dtype is None else dtype_name(dtype)
    if dtype is not None and not is_float(dtype):
        raise ValueError(f"dtype must be one of floats, got {dtype!r}")
    leaves = [leaf for leaf in model.leaves if not leaf.is_key]
    dtypes = {
        leaf.name: dtype
        if dtype is not None and jax.dtypes.issubdtype(leaf.abstract.dtype, np.floating)
        else np.dtype(leaf.abstract.dtype).name
        for leaf in leaves
    }
    found = {leaf.name: None if leaf.draw is None else _parts(leaf, leaf.draw) for leaf in leaves}
    found.update(_computed(model, {name: dtypes[name] for name, parts in found.items() if parts is None}))
    empty = [name for name, parts in found.items() if parts is None]
    if empty:
        count = "1 array needs" if len(empty) == 1 else f"{len(empty)} arrays need"
        raise ValueError(
            f"{count} an initializer of fastinit as a rule, because a plan cannot state what the code makes: "
            f"{listed(empty)}"
        )
    rows = (
        PlanRow(leaf.name, leaf.shape, dtypes[leaf.name], found[leaf.name] or (), rule=leaf.title)
        for leaf in leaves
    )
    return Plan(tuple(rows), tuple(unused))


def _parts(leaf: Leaf, draw: Draw) -> tuple[Part, ...] | None:
    """The parts of an array that comes from a draw; `None` if they would be too many."""
    if constant_of(draw.initializer) is not None:
        return whole(unseeded(draw.initializer), leaf.shape, leaf.stream)
    initializer = unseeded(draw.initializer)
    shape = (*draw.stack, *draw.unit)
    size = math.prod(shape)
    run = math.prod(draw.unit)  # as many elements stay together
    moves = []
    for kind, numbers in draw.changes:
        if kind == "reshape":
            shape = numbers
            continue
        kept = [axis for axis, length in enumerate(shape) if length != 1]
        order = [kept.index(axis) for axis in numbers if shape[axis] != 1]
        while order and order[-1] == len(order) - 1:
            order.pop()
        if order and size:
            lengths = [shape[axis] for axis in kept[: len(order)]]
            moves.append((lengths, order))
            run = math.gcd(run, size // math.prod(lengths))
        shape = tuple(shape[axis] for axis in numbers)
    if size == 0:
        return (Part(0, initializer, draw.unit, leaf.stream),)
    if size // run > _MOST_PARTS:
        return None
    places = np.arange(size // run)
    for lengths, order in moves:
        places = places.reshape(*lengths, -1).transpose(*order, len(order)).reshape(-1)
    streams: list[int | str] = [leaf.stream]
    if draw.stack:
        streams = [fastinit.block_stream(leaf.stream, number) for number in range(math.prod(draw.stack))]
    each = math.prod(draw.unit) // run
    return merged(
        Part(run, initializer, draw.unit, streams[place // each], place % each * run)
        for place in places.tolist()
    )


def _computed(model: Model, dtypes: Mapping[str, str]) -> dict[str, tuple[Part, ...]]:
    """The parts of those arrays of these names which the model's own code computes without random numbers."""
    places = [
        number
        for number in model.own()
        if (leaf := model.leaves[number]).name in dtypes
        and math.prod(leaf.shape) * np.dtype(leaf.abstract.dtype).itemsize <= MOST_GIVEN
        and not _program.is_random(model.program, number)
    ]
    arrays = model.computed(places, 0, [None] * len(places))
    found = {}
    for place, array in zip(places, arrays, strict=True):
        name = model.leaves[place].name
        found[name] = given(np.asarray(array).astype(dtypes[name], copy=False))
    return found
