"""Keras's initializer objects, sampled by fastinit.

What fastinit has no law for is left to what Keras does itself: other dtypes than floats, parameters that are
tensors or degenerate, wrong shapes, which so raise Keras's own errors, and all that is traced.
"""

from __future__ import annotations

import numbers
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol

import keras
import numpy as np
from keras import initializers
from keras.src.initializers.random_initializers import compute_fans

import fastinit

from . import _tensors, _variables

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastinit._typing import Array

_DTYPES = ("float32", "float64", "float16", "bfloat16")

# The classes of Keras that are sampled, and what they do themselves. Others inherit from these.
ORIGINALS: dict[type, Callable[..., Any]] = {
    cls: cls.__call__
    for cls in (
        initializers.Constant,
        initializers.Identity,
        initializers.Ones,
        initializers.Orthogonal,
        initializers.RandomNormal,
        initializers.RandomUniform,
        initializers.TruncatedNormal,
        initializers.VarianceScaling,
        initializers.Zeros,
    )
}


class Own(Protocol):
    """An initializer that Keras does not have."""

    def law(self) -> fastinit.Initializer:
        """The law, with its parameters."""
        ...


def sample(initializer: Any, shape: Any, dtype: Any = None, layout: Any = None) -> Any:
    """The tensor that an initializer makes.

    Args:
        initializer: One of Keras's classes, or of a class of `fastinit.keras`.
        shape: The shape of the tensor.
        dtype: Its dtype; `None` for Keras's default.
        layout: For JAX, how it is distributed; `None` for one device.

    Returns:
        A tensor of the backend.
    """
    plan = _plan(initializer, shape, dtype)
    if plan is None or not _has_seed(initializer):
        return leave(initializer, shape, dtype, layout)
    seed = getattr(initializer, "seed", 0)
    if _tensors.is_eager():
        key = Key.of(_drawn(seed))
        if isinstance(seed, int) and plan.is_random:
            key = Key(key.seed, _variables.stream(initializer, plan.shape))
        return _tensors.tensor(lambda index: plan.fill(key, index), plan.shape, layout)
    if _original(initializer) is not None:
        return leave(initializer, shape, dtype, layout)
    # Keras has nothing instead.
    return _tensors.traced(
        lambda state: plan.fill(Key.of(np.asarray(state)), None), plan.shape, plan.dtype, _state(seed)
    )


def leave(initializer: Any, shape: Any, dtype: Any, layout: Any) -> Any:
    """What Keras itself does for an initializer."""
    original = _original(initializer)
    if original is None:  # What is wrong with the arguments, fastinit says best.
        law: fastinit.Initializer = initializer.law()
        return _tensors.distribute(keras.ops.convert_to_tensor(law(shape, dtype=dtype)), layout)
    return _tensors.distribute(original(initializer, shape, dtype=dtype), layout)


def _original(initializer: Any) -> Callable[..., Any] | None:
    return next((ORIGINALS[cls] for cls in type(initializer).__mro__ if cls in ORIGINALS), None)


# Keys


class Key(NamedTuple):
    """What the values of a tensor depend on, beside their law."""

    seed: int
    stream: int | str

    @classmethod
    def of(cls, state: Any) -> Key:
        """The key that the two words of a seed generator of Keras stand for."""
        seed, count = (int(word) % 2**64 for word in state)
        return cls(seed, count)


def _has_seed(initializer: Any) -> bool:
    seed = getattr(initializer, "seed", 0)
    return isinstance(seed, (int, keras.random.SeedGenerator))


def _state(seed: int | Any) -> Any:
    """The state of a seed generator, which then moves on; an int is the first state of one with this seed."""
    if isinstance(seed, int):
        return np.array([seed % 2**32, 0], np.uint32)
    return seed.next()


def _drawn(seed: int | Any) -> Any:
    return (seed, 0) if isinstance(seed, int) else _tensors.words(seed.next())


# Laws


class _Plan(NamedTuple):
    """What is to be made."""

    law: fastinit.Initializer
    shape: tuple[int, ...]
    dtype: str
    blocks: int = 1  # that are made one by one
    axis: int = -1  # along which these lie

    @property
    def is_random(self) -> bool:
        return "seed" in self.law.get_config()

    def fill(self, key: Key, index: tuple[slice, ...] | None) -> Array:
        """An array of the part that an index picks."""
        seed, stream = key
        if self.blocks == 1:
            return self.law(self.shape, seed=seed, stream=stream, dtype=self.dtype, index=index)
        whole = tuple(slice(0, size) for size in self.shape)
        bounds = [part.indices(size)[:2] for part, size in zip(index or whole, self.shape, strict=True)]
        out = _empty(tuple(stop - start for start, stop in bounds), self.dtype)
        start, stop = bounds[self.axis]
        width = self.shape[self.axis] // self.blocks
        shape = _replaced(self.shape, self.axis, width)
        part = tuple(slice(*bound) for bound in bounds)
        for block in range(self.blocks):
            first, last = max(start, block * width), min(stop, (block + 1) * width)
            if first < last:
                self.law(
                    shape,
                    seed=seed,
                    stream=fastinit.block_stream(stream, block),
                    dtype=self.dtype,
                    out=out[
                        _replaced((slice(None),) * out.ndim, self.axis, slice(first - start, last - start))
                    ],
                    index=_replaced(part, self.axis, slice(first - block * width, last - block * width)),
                )
        return out


def _plan(initializer: Any, shape: Any, dtype: Any) -> _Plan | None:
    """What fastinit is to make; `None` where it cannot."""
    if not isinstance(shape, (tuple, list)) or not all(isinstance(size, (int, np.integer)) for size in shape):
        return None
    shape = tuple(map(int, shape))
    try:
        name = keras.backend.standardize_dtype(dtype)
    except ValueError:
        return None
    if name not in _DTYPES or min(shape, default=0) < 0:
        return None
    name = _tensors.canonical(name)
    axis, blocks = _blocks(initializer, shape)
    try:
        law = _law(initializer, _replaced(shape, axis, shape[axis] // blocks) if blocks > 1 else shape)
        if law is None:
            return None
        if isinstance(law, fastinit.Orthogonal):  # makes its blocks itself
            blocks = 1
        # Learn what is wrong before a seed is drawn.
        law(shape, seed=0, dtype=name, index=(slice(0, 0),) * len(shape))
    except (TypeError, ValueError, OverflowError):
        return None
    return _Plan(law, shape, name, blocks, axis)


def _blocks(initializer: Any, shape: tuple[int, ...]) -> tuple[int, int]:
    """The axis along which blocks lie, and their number."""
    blocks, axis = getattr(initializer, "blocks", 1), getattr(initializer, "block_axis", -1)
    if blocks == 1:
        return -1, 1
    if not -len(shape) <= axis < len(shape) or shape[axis] % blocks:
        raise ValueError(f"a tensor of shape {shape} does not have {blocks} blocks along its axis {axis}")
    return axis % len(shape), blocks


def _law(initializer: Any, shape: tuple[int, ...]) -> fastinit.Initializer | None:
    """The law of fastinit for an initializer, for tensors or blocks of a shape."""
    if _original(initializer) is None:
        own: fastinit.Initializer = initializer.law()
        return own
    for cls, (make, names) in _LAWS.items():
        if isinstance(initializer, cls):
            parameters = [getattr(initializer, name) for name in names]
            if not all(_is_plain(parameter) for parameter in parameters):
                return None
            return make(initializer, shape, *parameters)
    return None


def _is_plain(parameter: Any) -> bool:
    return isinstance(parameter, (numbers.Real, str)) and not isinstance(parameter, bool)


def _variance_scaling(
    initializer: Any, shape: tuple[int, ...], scale: float, mode: str, distribution: str
) -> fastinit.Initializer:
    # Keras knows what its fans are; a matrix with the same ones has the same law. It has them for tensors of
    # fewer than two dimensions, too, and for axes that overlap or leave others out.
    axes = {name: getattr(initializer, name, None) for name in ("input_axes", "output_axes")}
    fans = compute_fans(shape, **{name: given for name, given in axes.items() if given is not None})
    return fastinit.VarianceScaling(scale, mode, distribution).for_shape(fans)


def _orthogonal(initializer: Any, _: tuple[int, ...], gain: float) -> fastinit.Initializer:
    blocks, axis = getattr(initializer, "blocks", 1), getattr(initializer, "block_axis", -1)
    return fastinit.Orthogonal(gain, blocks=blocks, block_axis=axis)


def _plain(cls: type[fastinit.Initializer]) -> Callable[..., fastinit.Initializer]:
    def make(_: Any, __: tuple[int, ...], *parameters: Any) -> fastinit.Initializer:
        return cls(*parameters)

    return make


# For each class of Keras, how the law is made, and of which parameters.
_LAWS: dict[type, tuple[Callable[..., fastinit.Initializer], tuple[str, ...]]] = {
    initializers.Constant: (_plain(fastinit.Constant), ("value",)),
    initializers.Identity: (_plain(fastinit.Identity), ("gain",)),
    initializers.Ones: (_plain(fastinit.Ones), ()),
    initializers.Orthogonal: (_orthogonal, ("gain",)),
    initializers.RandomNormal: (_plain(fastinit.RandomNormal), ("mean", "stddev")),
    initializers.RandomUniform: (_plain(fastinit.RandomUniform), ("minval", "maxval")),
    initializers.TruncatedNormal: (_plain(fastinit.TruncatedNormal), ("mean", "stddev")),
    initializers.VarianceScaling: (_variance_scaling, ("scale", "mode", "distribution")),
    initializers.Zeros: (_plain(fastinit.Zeros), ()),
}


def _replaced(parts: tuple[Any, ...], axis: int, part: Any) -> tuple[Any, ...]:
    axis %= len(parts)
    return (*parts[:axis], part, *parts[axis + 1 :])


def _empty(shape: tuple[int, ...], dtype: str) -> Array:
    """An array that begins at a multiple of 64 bytes, as those of fastinit do."""
    kind: np.dtype[Any] = np.dtype(dtype)
    size = int(np.prod(shape, dtype=np.int64)) * kind.itemsize
    memory = np.empty(size + 64, np.uint8)
    start = -memory.ctypes.data % 64
    array: Array = memory[start : start + size].view(kind).reshape(shape)
    return array
