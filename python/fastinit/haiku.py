"""Haiku's initializers, sampled by fastinit.

It has all names of `haiku.initializers`. The classes are subclasses of Haiku's, with their arguments,
defaults and errors, and take their keys from `haiku.next_rng_key()`, as those do. A key has the values that
it has in `fastinit.jax`. Complex numbers, integers and parameters without a distribution are left to Haiku,
`Constant` and `Identity` altogether.

>>> import haiku as hk
>>> import jax
>>> import fastinit.haiku
>>> def network(x):
...     return hk.Linear(10, w_init=fastinit.haiku.VarianceScaling(2.0))(x)
>>> parameters = hk.transform(network).init(jax.random.key(7), jax.numpy.ones((1, 64)))
>>> parameters["linear"]["w"].shape
(64, 10)
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any

import haiku as hk
import jax.numpy as jnp
import numpy as np
from haiku.initializers import Constant, Identity, Initializer

import fastinit
import fastinit.jax

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

__all__ = [
    "Constant",
    "Identity",
    "Initializer",
    "Orthogonal",
    "RandomNormal",
    "RandomUniform",
    "TruncatedNormal",
    "UniformScaling",
    "VarianceScaling",
]


def _sample(
    make: Callable[[], fastinit.Initializer],
    peer: Callable[[Sequence[int], Any], Any],
    shape: Sequence[int],
    dtype: Any,
) -> Any:
    """A tensor of the next key of Haiku; by Haiku's own initializer, if fastinit does not make it."""
    target = np.dtype(jnp.zeros((), dtype).dtype)
    try:
        initializer = make()
        initializer.validate(tuple(shape), target)
        whole = tuple(map(operator.index, shape))
    except (TypeError, ValueError, OverflowError):
        return peer(shape, dtype)
    return fastinit.jax.sample(initializer, hk.next_rng_key(), whole, target)


class RandomNormal(hk.initializers.RandomNormal):
    """A normal distribution, with the arguments of `haiku.initializers.RandomNormal`."""

    def __call__(self, shape: Sequence[int], dtype: Any) -> Any:
        """A tensor of the next key."""
        return _sample(
            lambda: fastinit.RandomNormal(float(self.mean), float(self.stddev)),
            super().__call__,
            shape,
            dtype,
        )


class TruncatedNormal(hk.initializers.TruncatedNormal):
    """A truncated normal distribution, with the arguments of `haiku.initializers.TruncatedNormal`."""

    def __call__(self, shape: Sequence[int], dtype: Any) -> Any:
        """A tensor of the next key."""
        return _sample(
            lambda: fastinit.TruncatedNormal(
                float(self.mean), float(self.stddev), float(self.lower), float(self.upper)
            ),
            super().__call__,
            shape,
            dtype,
        )


class RandomUniform(hk.initializers.RandomUniform):
    """A uniform distribution, with the arguments of `haiku.initializers.RandomUniform`."""

    def __call__(self, shape: Sequence[int], dtype: Any) -> Any:
        """A tensor of the next key."""
        return _sample(
            lambda: fastinit.RandomUniform(float(self.minval), float(self.maxval)),
            super().__call__,
            shape,
            dtype,
        )


class VarianceScaling(hk.initializers.VarianceScaling):
    """Variance scaling, with the arguments of `haiku.initializers.VarianceScaling`.

    Fans are those of Haiku: both are the size of a vector, and with `fan_in_axes` all other axes of a tensor
    of three or more dimensions are outputs.
    """

    def __call__(self, shape: Sequence[int], dtype: Any) -> Any:
        """A tensor of the next key."""

        def make() -> fastinit.Initializer:
            axes: dict[str, Any] = {}
            if len(shape) < 2:
                axes = {"in_axis": (), "out_axis": ()}
            elif len(shape) > 2 and self.fan_in_axes is not None:
                rest = [axis for axis in range(len(shape)) if axis not in self.fan_in_axes]
                axes = {"in_axis": tuple(self.fan_in_axes), "out_axis": tuple(rest)}
            name = "untruncated_normal" if self.distribution == "normal" else self.distribution
            return fastinit.VarianceScaling(float(self.scale), self.mode, name, **axes)

        return _sample(make, super().__call__, shape, dtype)


class UniformScaling(hk.initializers.UniformScaling):
    """A uniform distribution of variance `scale**2 / n`, where n is the product of all axes but the last."""

    def __call__(self, shape: Sequence[int], dtype: Any) -> Any:
        """A tensor of the next key."""

        def make() -> fastinit.Initializer:
            if not self.scale > 0.0:
                raise ValueError
            inputs = tuple(range(len(shape) - 1))
            return fastinit.VarianceScaling(
                float(self.scale) ** 2, "fan_in", "uniform", in_axis=inputs, out_axis=len(shape) - 1
            )

        return _sample(make, super().__call__, shape, dtype)


class Orthogonal(hk.initializers.Orthogonal):
    """Orthogonal matrices, with the arguments of `haiku.initializers.Orthogonal`; half precision too."""

    def __call__(self, shape: Sequence[int], dtype: Any) -> Any:
        """A tensor of the next key."""
        return _sample(
            lambda: fastinit.Orthogonal(float(self.scale), column_axis=self.axis),
            super().__call__,
            shape,
            dtype,
        )
