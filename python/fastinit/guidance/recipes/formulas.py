"""Initializers of a few architectures that are a formula of samples of fastinit, computed by NumPy.

An element depends on the seed, the stream and the shape only, as with all initializers, so it is the same in
every framework. But NumPy's functions, such as the logarithm, may differ in the last bit between machines,
and the whole tensor is computed to return a part of it.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastinit._checks import check_choice, check_number
from fastinit._runtime import random_bits
from fastinit.initializers import Initializer, RandomUniform, Zeros
from fastinit.theory.distributions import Distribution, constant, mixture

if TYPE_CHECKING:
    from fastinit._typing import Array, DTypeLike, Index, Seed, Shape, Stream

# A function makes the tensor: from a shape, a function that draws a part of this shape, and the parameters.
_Draw = Callable[..., "Array"]


class Formula(Initializer):
    """An initializer that is a formula of samples, which `fastinit.recipe` uses.

    It is called like the other initializers, and the adapters take it as a rule.

    Args:
        kind: The formula.

            * `"arange"`, with `scale`: `scale` times 0, 1, 2, ... along the last axis: the frequencies of
              S4D-Lin, with `scale` pi.
            * `"log_arange"`: the logarithms of 1, 2, 3, ... along the last axis: `A_log` of Mamba.
            * `"softplus_inverse"`, with `low`, `high` and `floor`: the number whose softplus is a step
              `exp(u)`, at least `floor`, with `u` uniform from `log(low)` to `log(high)`: the bias of the
              steps of Mamba.
            * `"forget_bias"`, with `value`: `value` in the second of four equal parts along the last axis,
              which are the input gate, the forget gate, the cell and the output gate of an LSTM, and 0 in
              the others.
            * `"chrono"`, with `steps`: in the same parts `-b`, `b`, 0 and 0, where `b` is the logarithm of a
              uniform number from 1 to `steps - 1`.
            * `"sincos_2d"`: the positions of a square grid, of shape (..., positions, width): along the last
              axis the sines and cosines of the column, then those of the row.
        parameters: Those of the formula, and `seed`, as in all initializers.

    Raises:
        ValueError: If the formula is unknown, or a parameter is out of range.
        TypeError: If a parameter is unknown, missing, or of the wrong kind.

    Example:
        >>> from fastinit.guidance import Formula
        >>> Formula("log_arange")((1, 3)).round(3)
        array([[0.   , 0.693, 1.099]], dtype=float32)
        >>> bias = Formula("chrono", steps=100)
        >>> bias
        Formula('chrono', steps=100.0)
        >>> values = bias(8, seed=0, stream="lstm.bias")
        >>> bool((values[:2] == -values[2:4]).all()), values[4:].tolist()
        (True, [0.0, 0.0, 0.0, 0.0])

    References:
        Gu, Goel, Gupta and Ré, NeurIPS 2022, arXiv:2206.11893. Gu and Dao, 2023, arXiv:2312.00752. Tallec
        and Ollivier, ICLR 2018, arXiv:1804.11188. Peebles and Xie, ICCV 2023, arXiv:2212.09748.
    """

    kind: str

    def __init__(self, kind: str, *, seed: Seed = None, **parameters: Any) -> None:
        check_choice("the formula", kind, _KINDS)
        known = _KINDS[kind][1]
        if parameters.keys() != set(known):
            raise TypeError(
                f"the formula {kind!r} has the parameters {', '.join(known) or 'none'}; "
                f"got {', '.join(parameters) or 'none'}"
            )
        numbers = {name: check_number(name, parameters[name]) for name in known}
        for name, least in known.items():
            if numbers[name] < least:
                raise ValueError(f"{name} must be at least {least:g}, got {numbers[name]:g}")
        if kind == "softplus_inverse" and not numbers["low"] < numbers["high"]:
            raise ValueError(f"low must be below high, got {numbers['low']:g} and {numbers['high']:g}")
        # The seed is checked by an initializer that has one.
        vars(self).update(kind=kind, **numbers, seed=RandomUniform(seed=seed).seed)

    def __call__(
        self,
        shape: Shape,
        *,
        seed: Seed = None,
        stream: Stream = 0,
        dtype: DTypeLike = "float32",
        out: Array | None = None,
        index: Index = None,
        threads: int | None = None,
    ) -> Array:
        """Makes an array, or fills one: as `Initializer.__call__`."""
        self.validate(shape, dtype)
        seed = self.seed if seed is None else seed
        if seed is None:
            seed = int(random_bits(1, dtype="uint64")[0])
        values = self._values(shape, seed, stream)
        # This makes or checks the array, and checks the index.
        target = Zeros()(shape, dtype=dtype, out=out, index=index, threads=threads)
        part = values if index is None else values[index]
        # The half types are rounded from float32, as everywhere.
        target[...] = part if target.dtype == np.float64 else part.astype(np.float32)
        return target

    def validate(self, shape: Shape, dtype: DTypeLike = "float32") -> None:
        """Raises what a call with these arguments would raise."""
        Zeros().validate(shape, dtype)
        sizes = _sizes(shape)
        if not sizes:
            raise ValueError(f"the formula {self.kind!r} needs a shape of at least 1 dimension, got shape []")
        if self.kind in ("forget_bias", "chrono") and sizes[-1] % 4:
            raise ValueError(f"four gates need a last axis whose size is a multiple of 4, got {sizes[-1]}")
        if self.kind == "sincos_2d" and (
            len(sizes) < 2 or sizes[-1] % 4 or math.isqrt(sizes[-2]) ** 2 != sizes[-2]
        ):
            raise ValueError(
                "the positions of a square grid need a shape (..., positions, width) with a square number of "
                f"positions and a width that is a multiple of 4, got shape {list(sizes)}"
            )

    def check(self, shape: Shape, dtype: DTypeLike = "float32") -> Distribution:
        """Raises what a call with these arguments would raise, and tells the distribution of the elements.

        It is measured on the tensor of seed 0: a formula has no density that is known in general.
        """
        self.validate(shape, dtype)
        return _measured(self.kind, self._values(shape, 0, 0).reshape(-1), self._parameters)

    @property
    def _parameters(self) -> dict[str, float]:
        return {name: vars(self)[name] for name in _KINDS[self.kind][1]}

    def _values(self, shape: Shape, seed: Seed, stream: Stream) -> Array:
        """The whole tensor, in double precision."""
        sizes = _sizes(shape)

        def draw(initializer: Initializer, part: tuple[int, ...]) -> Array:
            return initializer(part, seed=seed, stream=stream, dtype="float64")

        made = _KINDS[self.kind][0](sizes, draw, **self._parameters)
        return np.broadcast_to(made, sizes)

    def spell(self, number: Callable[[Any], str]) -> str:
        """The call that makes this object."""
        given = {**self._parameters, **({} if self.seed is None else {"seed": self.seed})}
        return f"Formula({', '.join([repr(self.kind), *(f'{k}={number(v)}' for k, v in given.items())])})"


def _sizes(shape: Shape) -> tuple[int, ...]:
    return tuple(np.broadcast_shapes(shape))


def _arange(shape: tuple[int, ...], _: _Draw, scale: float) -> Array:
    return scale * np.arange(shape[-1])


def _log_arange(shape: tuple[int, ...], _: _Draw) -> Array:
    return np.log(np.arange(1, shape[-1] + 1))


def _softplus_inverse(shape: tuple[int, ...], draw: _Draw, low: float, high: float, floor: float) -> Array:
    step = np.maximum(np.exp(draw(RandomUniform(math.log(low), math.log(high)), shape)), floor)
    inverse: Array = step + np.log(-np.expm1(-step))
    return inverse


def _forget_bias(shape: tuple[int, ...], _: _Draw, value: float) -> Array:
    return np.repeat([0.0, value, 0.0, 0.0], shape[-1] // 4)


def _chrono(shape: tuple[int, ...], draw: _Draw, steps: float) -> Array:
    gate = (*shape[:-1], shape[-1] // 4)
    # With 2 steps the interval is a point, which a uniform distribution cannot have.
    bias = np.log(draw(RandomUniform(1.0, steps - 1), gate)) if steps > 2 else np.zeros(gate)
    return np.concatenate([-bias, bias, np.zeros((*gate[:-1], 2 * gate[-1]))], axis=-1)


def _sincos_2d(shape: tuple[int, ...], _: _Draw) -> Array:
    side, quarter = math.isqrt(shape[-2]), shape[-1] // 4
    frequencies = 10000.0 ** -(np.arange(quarter) / max(1, quarter))
    angles = np.arange(side)[:, None] * frequencies
    waves = np.concatenate([np.sin(angles), np.cos(angles)], axis=-1)
    return np.concatenate([np.tile(waves, (side, 1)), np.repeat(waves, side, axis=0)], axis=-1)


# The formulas, each with the least values of its parameters.
_KINDS: dict[str, tuple[Callable[..., Array], dict[str, float]]] = {
    "arange": (_arange, {"scale": -math.inf}),
    "log_arange": (_log_arange, {}),
    "softplus_inverse": (_softplus_inverse, {"low": 1e-300, "high": 1e-300, "floor": 0.0}),
    "forget_bias": (_forget_bias, {"value": -math.inf}),
    "chrono": (_chrono, {"steps": 2.0}),
    "sincos_2d": (_sincos_2d, {}),
}


def _measured(name: str, values: Array, parameters: dict[str, float]) -> Distribution:
    """The distribution of given values: atoms if they are few, otherwise a histogram, with repeated atoms."""
    if values.size == 0:
        return replace(constant(0.0), name=name, parameters=parameters)
    different, counts = np.unique(values, return_counts=True)
    repeated = counts > max(1, values.size // 10)
    if different.size <= 256 and different.size < values.size / 2:
        repeated[:] = True
    atoms = [
        (float(count), constant(float(value)))
        for value, count in zip(different[repeated], counts[repeated], strict=True)
    ]
    others = values[~np.isin(values, different[repeated])]
    parts = [*atoms, *([(float(others.size), _histogram(others))] if others.size else [])]
    return replace(mixture(parts, name), parameters=parameters)


def _histogram(values: Array) -> Distribution:
    low, high = float(values.min()), float(values.max())
    if low == high:
        return constant(low)
    heights, edges = np.histogram(values, bins=64, density=True)
    density = functools.partial(_histogram_density, heights, edges)
    return Distribution("histogram", float(values.mean()), float(values.std()), low, high, density)


def _histogram_density(heights: Array, edges: Array, x: Array) -> Array:
    place = np.clip(np.searchsorted(edges, x, side="right") - 1, 0, heights.size - 1)
    return np.where((x >= edges[0]) & (x <= edges[-1]), heights[place], 0.0)
