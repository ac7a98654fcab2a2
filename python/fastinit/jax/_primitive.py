"""A fill as one operation of JAX, so that JAX decides what becomes of it.

* Eagerly, NumPy memory is filled and handed to JAX without a copy; nothing is compiled.
* In a program on the CPU it is a custom call, which fills the memory of the result. The call says all that
  it needs, so programs can be stored. On a mesh each device fills its own part, without communication.
* On other platforms, and where XLA does not accept the custom call, it is a callback into Python, with one
  more copy.
"""

from __future__ import annotations

import contextlib
import functools
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.experimental.custom_partitioning import custom_partitioning
from jax.extend.core import Primitive
from jax.interpreters import batching, mlir
from jax.sharding import NamedSharding, PartitionSpec

from fastinit._runtime import xla_handler

from ._keys import seed_and_stream

if TYPE_CHECKING:
    from collections.abc import Sequence

    import fastinit
    from fastinit._typing import Array

    Shape = tuple[int, ...]

# The dtypes of fastinit.
DTYPES = frozenset(np.dtype(one) for one in (jnp.float32, jnp.float16, jnp.bfloat16, np.float64))

_fill = Primitive("fastinit")
_TARGET = "fastinit"


def canonical(dtype: Any) -> np.dtype[Any]:
    """The dtype of arrays that are asked for in a dtype.

    Without `jax_enable_x64`, JAX makes float32 of float64 and warns, refuses it, or allows it.
    """
    dtype = np.dtype(dtype)
    if dtype != np.float64 or jax.config.jax_enable_x64:
        return dtype
    return np.dtype(jax.eval_shape(lambda: jnp.zeros((), dtype)).dtype)


def keeping(dtype: np.dtype[Any]) -> contextlib.AbstractContextManager[Any]:
    """A context in which JAX takes arrays of NumPy in a dtype as they are, also float64."""
    return jax.enable_x64(True) if dtype == np.float64 else contextlib.nullcontext()


def sample(
    initializer: fastinit.Initializer,
    key: Any,
    shape: int | Sequence[int],
    dtype: Any = "float32",
    out_sharding: Any = None,
) -> Any:
    """A tensor of any initializer of fastinit, eagerly or in a program, with the values of a key.

    Args:
        initializer: What it contains.
        key: A key of JAX, of any kind.
        shape: The shape of the tensor.
        dtype: `"float32"`, `"float16"`, `"bfloat16"`, or `"float64"`, which without `jax_enable_x64` is what
            `jax_explicit_x64_dtypes` says: `float32` with a warning, an error, or allowed.
        out_sharding: A `NamedSharding` for the tensor, a `PartitionSpec` for the mesh of the context, or
            `None`.

    Returns:
        An array on the default device, or sharded.

    Raises:
        ValueError: If the shape, the dtype or a parameter of the initializer is out of range.
        TypeError: If one of them is of the wrong kind.

    Example:
        >>> import jax, fastinit, fastinit.jax
        >>> gates = fastinit.Orthogonal(blocks=4)
        >>> kernel = jax.jit(lambda key: fastinit.jax.sample(gates, key, (64, 256)))(jax.random.key(7))
        >>> bool((kernel == gates((64, 256), seed=7)).all())
        True
    """
    shape = (shape,) if isinstance(shape, (int, np.integer)) else tuple(shape)
    dtype = canonical(dtype)
    initializer.validate(shape, dtype)
    shape = tuple(map(int, shape))
    is_typed = jax.dtypes.issubdtype(getattr(key, "dtype", np.uint32), jax.dtypes.prng_key)
    words = jax.random.key_data(key) if is_typed else jnp.asarray(key, np.uint32)
    if words.ndim != 1:
        raise ValueError(
            f"sample takes one key, got an array of shape {words.shape[:-1]}; use jax.vmap for several"
        )
    parameters = {"initializer": initializer, "shape": shape, "dtype": dtype}
    if out_sharding is None:
        return _fill.bind(words, **parameters, sharding=None)
    is_traced = isinstance(words, jax.core.Tracer) or isinstance(jnp.zeros(()), jax.core.Tracer)
    if isinstance(out_sharding, PartitionSpec):
        mesh = jax.sharding.get_abstract_mesh() if is_traced else jax.sharding.get_mesh()
        out_sharding = NamedSharding(mesh, out_sharding)
    if not is_traced:
        return _fill.bind(words, **parameters, sharding=out_sharding)
    parameters["sharding"] = None
    mesh, axes = out_sharding.mesh, _axes(out_sharding.spec, len(shape))
    if jax.sharding.AxisType.Explicit not in mesh.axis_types:
        return jax.lax.with_sharding_constraint(_fill.bind(words, **parameters), out_sharding)
    # On an explicit mesh an operation has to say how its result is sharded. Here each device makes its part.
    specs = [PartitionSpec(), *map(PartitionSpec, axes)]
    operands = zip([words, *_ranges(shape)], specs, strict=True)
    return jax.shard_map(
        lambda *operands: _fill.bind(*operands, **parameters),
        mesh=mesh,
        in_specs=tuple(specs),
        out_specs=PartitionSpec(*axes),
        check_vma=False,
    )(*(jax.sharding.reshard(one, NamedSharding(mesh, spec)) for one, spec in operands))


def _axes(spec: Any, rank: int) -> tuple[Any, ...]:
    """The axes of the mesh along which each axis of an array is sharded."""
    return (*spec, *[None] * (rank - len(spec)))


def _ranges(shape: Shape) -> list[Any]:
    """The indices along each axis. Sharded like the tensor, they tell each device its part."""
    return [jnp.arange(size, dtype=np.int32) for size in shape]


def _fill_each(
    words: Any, *ranges: Any, initializer: fastinit.Initializer, shape: Shape, dtype: np.dtype[Any], **_: Any
) -> Array:
    """A tensor for each key, or a part of it, stacked: `words` has the words of a key in its last axis."""
    words = np.asarray(words)
    index = (
        tuple(slice(int(one[0]), int(one[0]) + len(one)) if len(one) else slice(0, 0) for one in ranges)
        or None
    )
    extent = tuple(map(len, ranges)) or shape
    if words.ndim == 1:
        seed, stream = seed_and_stream(words)
        return initializer(shape, seed=seed, stream=stream, dtype=dtype, index=index)
    result = np.empty(words.shape[:-1] + extent, dtype)
    for place in np.ndindex(*words.shape[:-1]):
        seed, stream = seed_and_stream(words[place])
        initializer(shape, seed=seed, stream=stream, dtype=dtype, out=result[place], index=index)
    return result


def _abstract_of(words: Any, *ranges: Any, shape: Shape, dtype: np.dtype[Any], **_: Any) -> Any:
    extent = tuple(one.shape[0] for one in ranges) or shape
    return jax.ShapeDtypeStruct(words.shape[:-1] + extent, dtype)


def _impl(words: Any, *ranges: Any, sharding: Any, **parameters: Any) -> Any:
    if sharding is None:
        array = _fill_each(words, *ranges, **parameters)
        array.flags.writeable = False  # JAX shares its memory.
        with keeping(array.dtype):
            return jax.device_put(array)
    seed, stream = seed_and_stream(np.asarray(words))
    initializer, shape, dtype = (parameters[name] for name in ("initializer", "shape", "dtype"))
    with keeping(dtype):
        return jax.make_array_from_callback(
            shape,
            sharding,
            lambda index: initializer(shape, seed=seed, stream=stream, dtype=dtype, index=index),
        )


def _abstract(*operands: Any, **parameters: Any) -> Any:
    result = _abstract_of(*operands, **parameters)
    return jax.core.ShapedArray(result.shape, result.dtype)


def _batch(operands: Sequence[Any], dimensions: Sequence[Any], **parameters: Any) -> tuple[Any, int]:
    words, *ranges = operands
    if any(one is not batching.not_mapped for one in dimensions[1:]):
        raise NotImplementedError("the indices of a part cannot be batched")
    return _fill.bind(jnp.moveaxis(words, dimensions[0], 0), *ranges, **parameters), 0


_fill.def_impl(_impl)
_fill.def_abstract_eval(_abstract)
batching.primitive_batchers[_fill] = _batch


def _by_callback(*operands: Any, **parameters: Any) -> Any:
    fill = functools.partial(_fill_each, **parameters)
    return jax.pure_callback(
        fill, _abstract_of(*operands, **parameters), *operands, vmap_method="broadcast_all"
    )


@functools.cache
def _is_registered() -> bool:
    """Registers the handler, once a backend is there; whether XLA accepts it."""
    import ctypes

    try:
        jax.devices("cpu")
        capsule = jax.ffi.pycapsule(ctypes.c_void_p(xla_handler()))
        jax.ffi.register_ffi_target(_TARGET, capsule, platform="cpu", api_version=1)
    except Exception:  # Whatever it is, the callback works.
        return False
    return True


def _by_handler(words: Any, *ranges: Any, **parameters: Any) -> Any:
    """The custom call."""
    call = jax.ffi.ffi_call(_TARGET, _abstract_of(words, *ranges, **parameters))
    encoded = parameters["initializer"]._encode(parameters["shape"])
    return call(words, *ranges, call=np.asarray(encoded, np.int64))


def _by_devices(words: Any, **parameters: Any) -> Any:
    """The custom call for several devices, each of which makes its own part of the tensor."""
    shape, lead = parameters["shape"], words.ndim - 1

    def fill(words: Any, *ranges: Any) -> Any:
        return _by_handler(words, *ranges, **parameters)

    def partition(mesh: Any, _: Any, result: Any) -> Any:
        sharding = result.sharding
        if not isinstance(sharding, NamedSharding):  # There is no mesh; each device makes all of it.
            whole = type(sharding).get_replicated(sharding._device_assignment)
            return mesh, fill, whole, (whole,) * (1 + len(shape))
        axes = _axes(sharding.spec, lead + len(shape))
        specs = [axes[:lead], *((axis,) for axis in axes[lead:])]
        return mesh, fill, sharding, tuple(NamedSharding(mesh, PartitionSpec(*one)) for one in specs)

    def infer(mesh: Any, *_: Any) -> Any:
        return NamedSharding(mesh, PartitionSpec())

    batch, axes = (
        " ".join(f"{letter}{axis}" for axis in range(size))
        for letter, size in (("b", lead), ("d", len(shape)))
    )
    whole = custom_partitioning(fill)
    rule = f"{batch} w, {axes.replace(' ', ', ')} -> {batch} {axes}"
    whole.def_partition(partition=partition, infer_sharding_from_operands=infer, sharding_rule=rule)
    return whole(words, *_ranges(shape))


def _lower_on_cpu(context: Any, *operands: Any, **parameters: Any) -> Any:
    shape = parameters["shape"]
    axes = context.module_context.axis_context
    devices = getattr(axes, "num_devices", 1) if getattr(axes, "device_assignment", ()) is not None else 1
    if not _is_registered():
        function = _by_callback
    # One device needs no ranges, which take time to compile. Their integers have 32 bits.
    elif devices > 1 and len(operands) == 1 and shape and max(shape) < 2**31:
        function = _by_devices
    else:
        function = _by_handler
    return _lower_by(function)(context, *operands, **parameters)


@functools.cache
def _lower_by(function: Any) -> Any:
    return mlir.lower_fun(function, multiple_results=False)


with contextlib.suppress(ImportError, AttributeError):
    # JAX tells such operations for which devices they are. Otherwise each device makes the whole array.
    from jax._src.dispatch import prim_requires_devices_during_lowering

    prim_requires_devices_during_lowering.add(_fill)
mlir.register_lowering(_fill, _lower_by(_by_callback))
mlir.register_lowering(_fill, _lower_on_cpu, platform="cpu")
