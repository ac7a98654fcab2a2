"""A fill as one operation of JAX, so that JAX decides what becomes of it: a fill at once, a shape, or a part of a program."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir

from ._keys import seed_and_stream

if TYPE_CHECKING:
    import fastinit
    from fastinit._typing import Array

_fill = Primitive("fastinit")


def sample(
    initializer: fastinit.Initializer,
    key: jax.Array,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    sharding: jax.sharding.NamedSharding | None = None,
) -> jax.Array:
    """A tensor of one key, eagerly or traced.

    Args:
        initializer: What it contains; checked for this shape and dtype.
        key: One key of any kind, as an array of keys or of words.
        shape: The shape of the tensor.
        dtype: A dtype of fastinit.
        sharding: How the tensor is to be sharded.
    """
    words = jax.random.key_data(key)
    return _fill.bind(words, initializer=initializer, shape=shape, dtype=dtype, sharding=sharding)


def _fill_each(
    words: Array, initializer: fastinit.Initializer, shape: tuple[int, ...], dtype: np.dtype[Any]
) -> Array:
    """A tensor for each key, stacked: `words` has the words of a key in its last axis."""
    words = np.asarray(words)
    if words.ndim == 1:
        seed, stream = seed_and_stream(words)
        return initializer(shape, seed=seed, stream=stream, dtype=dtype)
    result = np.empty(words.shape[:-1] + shape, dtype)
    for place in np.ndindex(*words.shape[:-1]):
        seed, stream = seed_and_stream(words[place])
        initializer(shape, seed=seed, stream=stream, dtype=dtype, out=result[place])
    return result


@_fill.def_impl
def _impl(words, *, initializer, shape, dtype, sharding):
    return jax.device_put(_fill_each(words, initializer, shape, dtype), sharding)


@_fill.def_abstract_eval
def _abstract(words, *, initializer, shape, dtype, sharding):
    return jax.core.ShapedArray(words.shape[:-1] + shape, dtype)


def _batch(arguments, dimensions, **parameters):
    return _fill.bind(jnp.moveaxis(arguments[0], dimensions[0], 0), **parameters), 0


batching.primitive_batchers[_fill] = _batch


def _by_callback(words, *, initializer, shape, dtype, sharding):
    result = jax.ShapeDtypeStruct(words.shape[:-1] + shape, dtype)
    return jax.pure_callback(
        lambda words: _fill_each(words, initializer, shape, dtype), result, words, vmap_method="broadcast_all"
    )


mlir.register_lowering(_fill, mlir.lower_fun(_by_callback, multiple_results=False))
