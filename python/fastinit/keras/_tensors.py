"""Arrays as tensors of the backend that Keras runs on, with as few copies as the backend allows.

* NumPy: the array is the tensor.
* PyTorch: on the CPU the tensor shares the memory of the array.
* JAX: the tensor shares the memory, since arrays of fastinit are aligned to 64 bytes. Only the shards
  of this process are made.
* TensorFlow: the tensor shares the memory, by DLPack. `tf.constant` would copy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import keras
import numpy as np

from . import _private

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastinit._typing import Array

    # Makes the part of a tensor that an index selects; `None` for all of it.
    Make = Callable[[tuple[slice, ...] | None], Array]

BACKEND: str = keras.config.backend()

# The backends whose tensors are made here; Keras has others.
_KNOWN = ("jax", "numpy", "tensorflow", "torch")

_framework: Any = importlib.import_module(BACKEND) if BACKEND in _KNOWN else None


def is_eager() -> bool:
    """Whether tensors have values now: nothing is traced, compiled, or on the meta device."""
    if BACKEND == "jax":
        return not _private.is_in_jax_tracing_scope()
    if BACKEND == "tensorflow":
        return bool(_framework.executing_eagerly())
    if BACKEND == "torch":
        return _private.torch_device() != "meta" and not _framework.compiler.is_compiling()
    return BACKEND == "numpy"


def canonical(dtype: str) -> str:
    """The dtype of the tensor that the backend makes for a requested dtype."""
    if BACKEND == "jax":  # 64 bits only where they are enabled
        return str(_framework.dtypes.canonicalize_dtype(dtype))
    return dtype


def words(state: Any) -> list[int]:
    """The numbers in the state of a seed generator."""
    numbers: list[int] = (state.numpy() if BACKEND == "tensorflow" else state).tolist()
    return numbers


def _sharding(layout: Any) -> Any:
    """The sharding of JAX for a layout, on real devices."""
    layout = getattr(layout, "backend_layout", layout)  # of a `keras.distribution.TensorLayout`
    sharding = _framework.sharding
    if isinstance(layout, sharding.NamedSharding) and isinstance(layout.mesh, sharding.AbstractMesh):
        # Keras names only the axes, and has set the mesh that has them.
        return sharding.NamedSharding(sharding.get_mesh(), layout.spec)
    return layout


def distribute(tensor: Any, layout: Any) -> Any:
    """A tensor that exists already, with the layout that Keras asks for."""
    if BACKEND != "jax" or layout is None:
        return tensor
    return _framework.device_put(tensor, _sharding(layout))


def tensor(make: Make, shape: tuple[int, ...], layout: Any) -> Any:
    """A tensor with the values that `make` makes, shard by shard where it is sharded."""
    if BACKEND == "jax":
        if layout is None:
            return _framework.device_put(make(None))
        place = _sharding(layout)
        return _framework.make_array_from_callback(shape, getattr(place, "sharding", place), make)
    array = make(None)
    if BACKEND == "torch":
        return _to_torch(array)
    if BACKEND == "tensorflow":
        return _to_tensorflow(array)
    return array


def traced(make: Callable[[Any], Array], shape: tuple[int, ...], dtype: str, state: Any) -> Any:
    """A tensor that is made when the traced program runs; the program does not contain its values.

    Args:
        make: Makes the array from the state of a seed generator.
        shape: Its shape.
        dtype: Its dtype.
        state: The state; it may be traced, too.
    """
    if BACKEND == "jax":
        result = _framework.ShapeDtypeStruct(shape, dtype)
        return _framework.pure_callback(make, result, state)
    if BACKEND == "tensorflow":
        result = _framework.numpy_function(make, [state], dtype)
        result.set_shape(shape)
        return result
    if BACKEND == "torch" and _private.torch_device() == "meta":
        return _framework.empty(shape, dtype=getattr(_framework, dtype), device="meta")
    return keras.ops.convert_to_tensor(make(keras.ops.convert_to_numpy(state)), dtype=dtype)


def _to_torch(array: Array) -> Any:
    if array.dtype.kind != "f":  # bfloat16, which torch.from_numpy does not know
        tensor = _framework.from_numpy(array.view(np.int16)).view(_framework.bfloat16)
    else:
        tensor = _framework.from_numpy(array)
    device = _private.torch_device()
    return tensor if device == "cpu" else tensor.to(device)


def _to_tensorflow(array: Array) -> Any:
    # TensorFlow's kernels rely on the alignment. Only the tensor refers to the array, so nothing else changes
    # its memory, and TensorFlow copies before it writes to memory that it does not own.
    if array.size == 0 or array.ctypes.data % 64:
        return _framework.constant(array)
    from_dlpack = _framework.experimental.dlpack.from_dlpack
    if array.dtype.name == "bfloat16":  # NumPy's DLPack does not know it
        return _framework.bitcast(from_dlpack(array.view(np.uint16).__dlpack__()), _framework.bfloat16)
    return from_dlpack(array.__dlpack__())
