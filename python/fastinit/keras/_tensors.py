"""From arrays to tensors of the backend that Keras runs on, with as few copies as it allows.

* NumPy: the array is the tensor.
* PyTorch: the tensor shares the memory of the array, where it is to be on the CPU.
* JAX: the same, since arrays of fastinit begin at multiples of 64 bytes. Of a sharded tensor only the shards
  are made that this process has.
* TensorFlow: the same, by DLPack. `tf.constant` would copy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras.src.utils import jax_utils

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastinit._typing import Array

    # Makes the part of a tensor that an index picks; `None` for all of it.
    Make = Callable[[tuple[slice, ...] | None], Array]

BACKEND: str = keras.config.backend()

# Those whose tensors are made here; Keras has others, too.
_KNOWN = ("jax", "numpy", "tensorflow", "torch")

_framework: Any = importlib.import_module(BACKEND) if BACKEND in _KNOWN else None


def is_eager() -> bool:
    """Whether a tensor that is made now has values: nothing is traced, compiled or only inferred."""
    if BACKEND == "jax":
        return not jax_utils.is_in_jax_tracing_scope()
    if BACKEND == "tensorflow":
        return bool(_framework.executing_eagerly())
    if BACKEND == "torch":
        return not _is_meta() and not _framework.compiler.is_compiling()
    return BACKEND == "numpy"


def canonical(dtype: str) -> str:
    """The dtype that the backend's tensors have where this one is asked for."""
    if BACKEND == "jax":  # It has 64 bits only where they are enabled.
        return str(_framework.dtypes.canonicalize_dtype(dtype))
    return dtype


def words(state: Any) -> list[int]:
    """The numbers in the state of a seed generator."""
    numbers: list[int] = (state.numpy() if BACKEND == "tensorflow" else state).tolist()
    return numbers


def sharding(layout: Any) -> Any:
    """How JAX distributes a tensor of this layout, on devices that are there."""
    layout = getattr(layout, "backend_layout", layout)  # of a `keras.distribution.TensorLayout`
    if isinstance(layout, _framework.sharding.NamedSharding):
        mesh = layout.mesh
        if isinstance(mesh, _framework.sharding.AbstractMesh):
            # Keras names the axes only, and has set the mesh that has them.
            return _framework.sharding.NamedSharding(_framework.sharding.get_mesh(), layout.spec)
    return layout


def distribute(tensor: Any, layout: Any) -> Any:
    """A tensor that is there already, with the layout that Keras asks for."""
    if BACKEND != "jax" or layout is None:
        return tensor
    return _framework.device_put(tensor, sharding(layout))


def tensor(make: Make, shape: tuple[int, ...], layout: Any) -> Any:
    """The tensor that `make` makes, part by part where it is sharded."""
    if BACKEND == "jax":
        if layout is None:
            return _framework.device_put(make(None))
        place = sharding(layout)
        return _framework.make_array_from_callback(shape, getattr(place, "sharding", place), make)
    array = make(None)
    if BACKEND == "torch":
        return _to_torch(array)
    if BACKEND == "tensorflow":
        return _to_tensorflow(array)
    return array


def traced(make: Callable[[Any], Array], shape: tuple[int, ...], dtype: str, state: Any) -> Any:
    """A tensor that is made when what is traced now will run; no values are kept in the program.

    Args:
        make: Makes the array from the state of a seed generator.
        shape: Its shape.
        dtype: Its dtype.
        state: That state, which may be traced, too.
    """
    if BACKEND == "jax":
        result = _framework.ShapeDtypeStruct(shape, dtype)
        return _framework.pure_callback(make, result, state)
    if BACKEND == "tensorflow":
        result = _framework.numpy_function(make, [state], dtype)
        result.set_shape(shape)
        return result
    if BACKEND == "torch" and _is_meta():
        return _framework.empty(shape, dtype=getattr(_framework, dtype), device="meta")
    return keras.ops.convert_to_tensor(make(keras.ops.convert_to_numpy(state)), dtype=dtype)


def _device() -> str:
    """Where Keras puts tensors of PyTorch now."""
    from keras.src.backend.torch.core import get_device

    return str(get_device())


def _is_meta() -> bool:
    return _device() == "meta"


def _to_torch(array: Array) -> Any:
    if array.dtype.name == "bfloat16":  # unknown to PyTorch's side of NumPy
        tensor = _framework.from_numpy(array.view(np.int16)).view(_framework.bfloat16)
    else:
        tensor = _framework.from_numpy(array)
    return tensor.to(_device())


def _to_tensorflow(array: Array) -> Any:
    # TensorFlow's kernels rely on the alignment. Nobody but the tensor has the array: it cannot be changed
    # behind its back, and TensorFlow copies before it writes to memory of others.
    if array.size == 0 or array.ctypes.data % 64:
        return _framework.constant(array)
    from_dlpack = _framework.experimental.dlpack.from_dlpack
    if array.dtype.name == "bfloat16":  # unknown to NumPy's side of DLPack
        return _framework.bitcast(from_dlpack(array.view(np.uint16).__dlpack__()), _framework.bfloat16)
    return from_dlpack(array.__dlpack__())
