"""Tensors made by fastinit for initializer objects of Keras and of `fastinit.keras`.

Keras itself makes what fastinit cannot: other dtypes than floats, parameters that are tensors or degenerate,
invalid shapes, which raise Keras's errors, and traced calls. Classes and parameters that Keras does not have
raise the errors of fastinit, and are traced as callbacks.
"""

from __future__ import annotations

import functools
import numbers
from typing import TYPE_CHECKING, Any, NamedTuple

import keras
import numpy as np
from keras import initializers

import fastinit
from fastinit._registry import class_name, preset_name

from . import _tensors, _variables
from ._private import compute_fans

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastinit._typing import Array, Blocks

_DTYPES = ("float32", "float64", "float16", "bfloat16")

# Classes, each with the parameters that it shares with the class of fastinit of the same name: those of
# Keras, from which its other classes inherit. `_initializers` adds those that Keras does not have.
PARAMETERS: dict[type, tuple[str, ...]] = {
    initializers.Constant: ("value",),
    initializers.Identity: ("gain",),
    initializers.Ones: (),
    initializers.Orthogonal: ("gain",),
    initializers.RandomNormal: ("mean", "stddev"),
    initializers.RandomUniform: ("minval", "maxval"),
    initializers.TruncatedNormal: ("mean", "stddev"),
    initializers.VarianceScaling: ("scale", "mode", "distribution"),
    initializers.Zeros: (),
}

# The methods of Keras's own classes.
ORIGINALS: dict[type, Callable[..., Any]] = {cls: cls.__call__ for cls in PARAMETERS}

# The parameters that our classes have and Keras's do not, and their defaults.
EXTRAS = {"lower": -2.0, "upper": 2.0, "blocks": 1, "block_axis": None}


class Sampled:
    """The base of the classes of `fastinit.keras`."""

    blocks: int | tuple[int, ...]
    block_axis: int | None

    def _set_blocks(self, blocks: Blocks, block_axis: int | None) -> None:
        checked = fastinit.Zeros(blocks=blocks, block_axis=block_axis)
        self.blocks, self.block_axis = checked.blocks, checked.block_axis

    def __call__(self, shape: Sequence[int], dtype: Any = None, layout: Any = None) -> Any:
        """Makes a tensor.

        Args:
            shape: The shape of the tensor.
            dtype: Its dtype; `None` for `keras.config.floatx()`.
            layout: With JAX, the sharding of the tensor: a `keras.distribution.TensorLayout` or a
                `jax.sharding.Sharding`. Each process makes only its own shards.

        Returns:
            A tensor of the backend.

        Raises:
            ValueError: As in Keras; or if the shape cannot be divided into the blocks.
        """
        return sample(self, shape, dtype, layout)

    def get_config(self) -> dict[str, Any]:
        """The configuration: that of Keras, and the parameters of ours that are not the default."""
        config: dict[str, Any] = super().get_config()  # type: ignore[misc]
        cls = _class_of(self)
        if cls not in ORIGINALS:
            config.update({name: getattr(self, name) for name in PARAMETERS[cls]})
        for name, value in _extras(self).items():
            config[name] = list(value) if isinstance(value, tuple) else value  # as JSON
        return config


def sample(initializer: Any, shape: Any, dtype: Any = None, layout: Any = None) -> Any:
    """The tensor that an initializer makes.

    Args:
        initializer: An instance of one of Keras's classes, or of a class of `fastinit.keras`.
        shape: The shape of the tensor.
        dtype: Its dtype; `None` for Keras's default.
        layout: With JAX, the sharding of the tensor; `None` for one device.

    Returns:
        A tensor of the backend.
    """
    is_only_ours = _class_of(initializer) not in ORIGINALS or bool(_extras(initializer))
    try:
        plan = _plan(initializer, shape, dtype)
    except (TypeError, ValueError, OverflowError):
        if is_only_ours:
            raise
        return leave(initializer, shape, dtype, layout)
    if _tensors.is_eager():
        key = _key(initializer, plan.shape)
        return _tensors.tensor(lambda index: plan.fill(key, index), plan.shape, layout)
    if not is_only_ours:
        return leave(initializer, shape, dtype, layout)
    seed = getattr(initializer, "seed", 0)
    if isinstance(seed, int):
        return _tensors.traced(lambda _: plan.fill(Key.of((seed, 0))), plan.shape, plan.dtype, np.uint32(0))
    return _tensors.traced(lambda state: plan.fill(Key.of(state)), plan.shape, plan.dtype, seed.next())


def leave(initializer: Any, shape: Any, dtype: Any, layout: Any) -> Any:
    """The tensor that Keras itself makes."""
    original = ORIGINALS[_class_of(initializer)]
    return _tensors.distribute(original(initializer, shape, dtype=dtype), layout)


def request(initializer: Any, shape: tuple[int, ...], dtype: str) -> fastinit.Initializer:
    """The initializer of fastinit that has the distribution of one of Keras for a shape.

    Raises:
        TypeError, ValueError, OverflowError: If fastinit has none.
    """
    kind = type(initializer)
    known = next((cls for cls in kind.__mro__ if cls in PARAMETERS), None)
    if known is None or kind.__call__ not in (known.__call__, Sampled.__call__):
        raise TypeError(f"{kind.__name__} is an initializer of neither Keras nor fastinit")
    made = _plan(initializer, shape, dtype).initializer
    if type(made) is fastinit.VarianceScaling and (
        name := preset_name(made.scale, made.mode, made.distribution)
    ):
        config = made.get_config()
        for parameter in ("scale", "mode", "distribution"):
            del config[parameter]
        preset: fastinit.Initializer = getattr(fastinit, class_name(name)).from_config(config)
        return preset
    return made


class Key(NamedTuple):
    """What the values of a tensor depend on, besides their distribution."""

    seed: int
    stream: int | str

    @classmethod
    def of(cls, state: Any) -> Key:
        """The key for the state of a seed generator of Keras: the seed, and the number of draws before."""
        seed, count = (int(word) % 2**64 for word in np.asarray(state).tolist())
        return cls(seed, count)


def _key(initializer: Any, shape: tuple[int, ...]) -> Key:
    """The key of the next tensor; a seed generator advances."""
    if not hasattr(initializer, "seed"):  # constants
        return Key(0, 0)
    if isinstance(initializer.seed, int):
        return Key(initializer.seed % 2**64, _variables.stream(initializer, shape))
    return Key.of(_tensors.words(initializer.seed.next()))


class _Plan(NamedTuple):
    """A valid request for a tensor."""

    initializer: fastinit.Initializer
    shape: tuple[int, ...]
    dtype: str

    def fill(self, key: Key, index: tuple[slice, ...] | None = None) -> Array:
        """The part of the tensor that an index selects; `None` for all of it."""
        seed, stream = key
        return self.initializer(self.shape, seed=seed, stream=stream, dtype=self.dtype, index=index)


def _plan(initializer: Any, shape: Any, dtype: Any) -> _Plan:
    """Checks everything before a seed is drawn.

    Raises:
        TypeError, ValueError, OverflowError: If fastinit cannot make the tensor.
    """
    if not isinstance(shape, (tuple, list)) or not all(isinstance(size, (int, np.integer)) for size in shape):
        raise TypeError(f"shape must be a tuple or a list of ints, got {shape!r}")
    sizes = tuple(map(int, shape))
    name = dtype if type(dtype) is str and dtype in _DTYPES else keras.backend.standardize_dtype(dtype)
    if name not in _DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(_DTYPES)}, got {name!r}")
    seed = getattr(initializer, "seed", 0)
    if not isinstance(seed, (int, keras.random.SeedGenerator)):
        raise TypeError(f"seed must be an int or a keras.random.SeedGenerator, got {seed!r}")
    cls = _class_of(initializer)
    given = {name: getattr(initializer, name) for name in PARAMETERS[cls]}
    given.update(_extras(initializer))
    axes: list[Any] = [getattr(initializer, name, None) for name in ("input_axes", "output_axes")]
    if cls is not initializers.VarianceScaling or None in axes:
        axes = []  # Keras applies its rule unless both are given.
    canonical = _tensors.canonical(name)
    parameters = tuple(given.items()), tuple(map(tuple, axes))
    if _PLAIN.issuperset(map(type, given.values())):
        # Numbers may be equal and differ, such as 0.0 and -0.0, or 1 and True, but not with the same text.
        return _planned_before(cls, *parameters, sizes, canonical, repr(parameters))
    return _planned(cls, *parameters, sizes, canonical)


# Types of parameters that can be told apart by their text.
_PLAIN = frozenset({int, float, str, type(None)})


def _planned(
    cls: type,
    parameters: tuple[tuple[str, Any], ...],
    axes: tuple[tuple[int, ...], ...],
    shape: tuple[int, ...],
    dtype: str,
) -> _Plan:
    """The plan for an initializer of a class with these parameters, and with axes of inputs and outputs."""
    plan = _Plan(_to_fastinit(cls, dict(parameters), axes, shape), shape, dtype)
    plan.initializer.validate(shape, dtype)
    return plan


@functools.lru_cache(maxsize=1024)
def _planned_before(
    cls: Any,
    parameters: tuple[tuple[str, Any], ...],
    axes: tuple[tuple[int, ...], ...],
    shape: tuple[int, ...],
    dtype: str,
    _text: str,
) -> _Plan:
    return _planned(cls, parameters, axes, shape, dtype)


def _class_of(initializer: Any) -> type:
    """The class that defines the distribution: the first one that is known."""
    kind: Any = type(initializer)
    return _known_base(kind)


@functools.lru_cache(maxsize=256)
def _known_base(kind: Any) -> type:
    return next(cls for cls in kind.__mro__ if cls in PARAMETERS)


def _extras(initializer: Any) -> dict[str, Any]:
    """The parameters that Keras does not have and that are not the default."""
    if not isinstance(initializer, Sampled):  # Subclasses of Keras's may have attributes of these names.
        return {}
    return {
        name: value
        for name, default in EXTRAS.items()
        if (value := getattr(initializer, name, default)) != default
    }


def _to_fastinit(
    cls: type, given: dict[str, Any], axes: tuple[tuple[int, ...], ...], shape: tuple[int, ...]
) -> fastinit.Initializer:
    """The initializer of fastinit that has the distribution which Keras defines for a shape."""
    for name in PARAMETERS[cls]:
        value = given[name]
        if isinstance(value, bool) or not isinstance(value, (numbers.Real, str)):
            raise TypeError(f"{name} must be a number or a name, got a {type(value).__name__}")
    if cls is initializers.VarianceScaling:
        return _variance_scaling(shape, axes, **given)
    made: fastinit.Initializer = getattr(fastinit, cls.__name__)(**given)
    return made


def _variance_scaling(
    shape: tuple[int, ...],
    axes: tuple[tuple[int, ...], ...],
    scale: float,
    mode: str,
    distribution: str,
    blocks: Any = 1,
    block_axis: int | None = None,
) -> fastinit.Initializer:
    in_axis, out_axis = axes or ((-2,), (-1,))
    rank = max(1, len(shape))
    roles = [axis % rank for axis in (*in_axis, *out_axis)]
    if len(set(roles)) == len(roles):
        others = tuple(axis for axis in range(rank) if axis not in roles)
        options: Any = {"in_axis": in_axis, "out_axis": out_axis, "batch_axis": others} if axes else {}
        return fastinit.VarianceScaling(
            scale, mode, distribution, **options, blocks=blocks, block_axis=block_axis
        )
    # Only Keras defines fans for fewer than two dimensions, and for axes that are inputs as well as outputs.
    if blocks != 1:
        block_axis = (out_axis[0] if len(out_axis) == 1 else -1) if block_axis is None else block_axis
        fastinit.Zeros(blocks=blocks, block_axis=block_axis).check(shape)
        if not isinstance(blocks, int):
            raise ValueError(
                f"blocks of different sizes need different axes of inputs and outputs; got {shape}"
            )
        sizes = list(shape)
        sizes[block_axis] //= blocks
        shape = tuple(sizes)
    # A matrix with the same fans has the same distribution.
    named = dict(zip(("input_axes", "output_axes"), axes, strict=False))
    found = fastinit.VarianceScaling(scale, mode, distribution).check(compute_fans(shape, **named))
    make = {
        "uniform": fastinit.RandomUniform,
        "normal": fastinit.RandomNormal,
        "truncated_normal": fastinit.TruncatedNormal,
    }[found.name]
    return make(*found.parameters.values(), blocks=blocks, block_axis=block_axis)
