"""Arrays of NumPy, and of anything that can be seen as one, such as those of JAX."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import numpy as np

from ..roles import describe
from ..tensors import Skipped
from .elements import bits_of, is_readable, read_array

if TYPE_CHECKING:
    from ..tensors import Tensor


def is_array(x: Any) -> bool:
    """Whether NumPy can see it as an array."""
    return not isinstance(x, (str, bytes)) and (hasattr(x, "__array__") or hasattr(x, "__dlpack__"))


@functools.lru_cache(maxsize=64)
def _name(dtype: np.dtype[Any]) -> str:
    """Its name, which takes NumPy long to find."""
    return dtype.name


def from_array(name: str, value: Any, layout: str, **known: Any) -> Tensor | Skipped:
    """An array as a tensor.

    Raises:
        TypeError: If it is not an array.
    """
    if not is_array(value):
        raise TypeError(f"{name!r} must be an array, got {type(value).__name__}")
    array = np.asarray(value) if hasattr(value, "__array__") else np.from_dlpack(value)
    dtype = _name(array.dtype)
    if not is_readable(dtype):
        return unreadable(name, dtype, integer=array.dtype.kind in "biu")
    if not array.dtype.isnative:
        array = array.astype(array.dtype.newbyteorder("="))
    raw = array.view(bits_of(dtype))
    interface = raw.__array_interface__
    memory = ("cpu", interface["data"][0], interface["strides"], raw.shape, dtype)
    read = functools.partial(read_array, raw, dtype)
    return describe(name, array.shape, dtype, read, layout, memory=memory, **known)


def unreadable(name: str, dtype: str, *, integer: bool) -> Skipped:
    """A tensor of a dtype that is not read. Integers and booleans are not weights, and not mentioned."""
    return Skipped(name, "" if integer else f"elements of dtype {dtype} are not read")
