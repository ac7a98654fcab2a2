"""Initializers of a few architectures that are a formula of samples of fastinit, computed by NumPy.

An element depends on the seed, the stream and the shape only, as with all initializers, so it is the same in
every framework. But NumPy's functions, such as the logarithm, may differ in the last bit between machines,
and the whole tensor is computed to return a part of it.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from fastinit._checks import check_choice, check_int, check_number
from fastinit._runtime import block_stream, random_bits
from fastinit.initializers import Initializer, RandomNormal, RandomUniform, Zeros
from fastinit.theory.distributions import Distribution, constant, mixture

if TYPE_CHECKING:
    from fastinit._typing import Array, DTypeLike, Index, Seed, Shape, Stream

# A function makes the tensor from its shape, a function that draws samples, and the parameters. Samples are
# drawn from an initializer, for a shape, and of a matrix for the number of a block of its layer.
_Draw = Callable[..., "Array"]


class _Kind(NamedTuple):
    make: Callable[..., Array]
    least: dict[str, float]  # the least value of each parameter
    is_matrix: bool = False  # whether it depends on which axis is which


class Formula(Initializer):
    """An initializer that is a formula of samples, which `fastinit.recipe` uses.

    It is called like the other initializers, and the adapters take it as a rule. `Formula.from_config` makes
    it again from its configuration; `fastinit.get` does not know it.

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
            * `"mimetic_qkv"`, with `heads`, `alpha` and `beta`: queries, keys and values of attention in one
              matrix (width, 3 width). For each head the product of queries and transposed keys is the best
              approximation of its rank to `alpha Z + beta I`, where the elements of `Z` have the variance 1 /
              width.
            * `"mimetic_proj"`: the output projection of that attention: the product of values and outputs is
              `0.4 Z - 0.4 I`. Both have the same `Z`, if their streams are `X.qkv.weight` and
              `X.proj.weight` for some `X`, with any last part, or equal.
        parameters: Those of the formula; `in_axis` and `out_axis` of matrices, as in `variance_scaling`; and
            `seed`, as in all initializers.

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
        and Ollivier, ICLR 2018, arXiv:1804.11188. Peebles and Xie, ICCV 2023, arXiv:2212.09748. Trockman and
        Kolter, ICML 2023, arXiv:2305.09828.
    """

    kind: str

    def __init__(self, kind: str, *, seed: Seed = None, **parameters: Any) -> None:
        check_choice("the formula", kind, _KINDS)
        known = _KINDS[kind].least
        axes = {"in_axis": -2, "out_axis": -1} if _KINDS[kind].is_matrix else {}
        axes = {name: check_int(name, parameters.pop(name, axis), -2, 1) for name, axis in axes.items()}
        if axes and axes["in_axis"] % 2 == axes["out_axis"] % 2:
            raise ValueError(f"in_axis and out_axis must be different axes, got {axes['in_axis']} for both")
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
        vars(self).update(kind=kind, **numbers, **axes, seed=RandomUniform(seed=seed).seed)

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
        if _KINDS[self.kind].is_matrix:
            width, outputs = self._turned(sizes) if len(sizes) == 2 else (0, 1)
            wanted = width * (3 if self.kind == "mimetic_qkv" else 1)
            if outputs != wanted or width % self._parameters.get("heads", 1):
                form = "(width, 3 width)" if self.kind == "mimetic_qkv" else "(width, width)"
                raise ValueError(
                    f"the formula {self.kind!r} needs a matrix {form}, where heads divide width; got "
                    f"shape {list(sizes)}"
                )

    def check(self, shape: Shape, dtype: DTypeLike = "float32") -> Distribution:
        """Raises what a call with these arguments would raise, and tells the distribution of the elements.

        It is measured on the tensor of seed 0: a formula has no density that is known in general.
        """
        self.validate(shape, dtype)
        return _measured(self.kind, self._values(shape, 0, 0).reshape(-1), self._parameters)

    @property
    def _parameters(self) -> dict[str, float]:
        return {name: vars(self)[name] for name in _KINDS[self.kind].least}

    def _turned(self, sizes: tuple[int, ...]) -> tuple[int, ...]:
        """A shape in the order (in, out)."""
        return sizes[::-1] if vars(self)["out_axis"] % 2 == 0 else sizes

    def _values(self, shape: Shape, seed: Seed, stream: Stream) -> Array:
        """The whole tensor, in double precision."""
        sizes, kind = _sizes(shape), _KINDS[self.kind]

        def draw(initializer: Initializer, part: tuple[int, ...], block: int | None = None) -> Array:
            name = stream if block is None else block_stream(_layer_of(stream), block)
            return initializer(part, seed=seed, stream=name, dtype="float64")

        if kind.is_matrix:
            made = kind.make(self._turned(sizes), draw, **self._parameters)
            return made if vars(self)["out_axis"] % 2 else made.T
        return np.broadcast_to(kind.make(sizes, draw, **self._parameters), sizes)

    def spell(self, number: Callable[[Any], str]) -> str:
        """The call that makes this object."""
        given: dict[str, Any] = dict(self._parameters)
        if _KINDS[self.kind].is_matrix and vars(self)["out_axis"] % 2 == 0:
            given.update(in_axis=vars(self)["in_axis"], out_axis=vars(self)["out_axis"])
        if self.seed is not None:
            given["seed"] = self.seed
        return f"Formula({', '.join([repr(self.kind), *(f'{k}={number(v)}' for k, v in given.items())])})"


def _sizes(shape: Shape) -> tuple[int, ...]:
    return tuple(np.broadcast_shapes(shape))


def _layer_of(stream: Stream) -> Stream:
    """The name of attention, from that of one of its matrices."""
    return re.sub(r"[./](qkv|proj)[./][^./]+$", "", stream) if isinstance(stream, str) else stream


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


def _factors(width: int, draw: _Draw, alpha: float, beta: float, block: int) -> tuple[Array, Array]:
    """Two matrices whose product is `alpha Z + beta I`, each with the root of its singular values."""
    noise = draw(RandomNormal(stddev=1 / math.sqrt(width)), (width, width), block)
    left, values, right = np.linalg.svd(alpha * noise + beta * np.eye(width))
    # A pair of singular vectors is determined up to the sign of both.
    signs = np.sign(left[np.abs(left).argmax(axis=0), np.arange(width)])
    return left * signs * np.sqrt(values), (right.T * signs * np.sqrt(values)).T


def _mimetic_qkv(shape: tuple[int, ...], draw: _Draw, heads: float, alpha: float, beta: float) -> Array:
    width, count = shape[0], int(heads)
    rank = width // count
    pairs = [_factors(width, draw, alpha, beta, 1 + head) for head in range(count)]
    queries = [left[:, :rank] for left, _ in pairs]
    keys = [right.T[:, :rank] for _, right in pairs]
    values, _ = _factors(width, draw, 0.4, -0.4, 0)
    return np.concatenate([*queries, *keys, values], axis=1)


def _mimetic_proj(shape: tuple[int, ...], draw: _Draw) -> Array:
    return _factors(shape[0], draw, 0.4, -0.4, 0)[1]


_KINDS = {
    "arange": _Kind(_arange, {"scale": -math.inf}),
    "log_arange": _Kind(_log_arange, {}),
    "softplus_inverse": _Kind(_softplus_inverse, {"low": 1e-300, "high": 1e-300, "floor": 0.0}),
    "forget_bias": _Kind(_forget_bias, {"value": -math.inf}),
    "chrono": _Kind(_chrono, {"steps": 2.0}),
    "sincos_2d": _Kind(_sincos_2d, {}),
    "mimetic_qkv": _Kind(_mimetic_qkv, {"heads": 1.0, "alpha": 0.0, "beta": -math.inf}, is_matrix=True),
    "mimetic_proj": _Kind(_mimetic_proj, {}, is_matrix=True),
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
