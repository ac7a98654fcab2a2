"""Temporary: the compiled module's new interface over the old one. It goes away with the merge of the crate."""

import math
import operator

import numpy as np

from . import _core as old
from ._core import *  # noqa

_I = {}


class Initializer:
    def __init__(self, make, args, blocks=1, axis=None):
        self.make, self.args, self.blocks, self.axis = make, args, blocks, axis
        self.core = getattr(old, make)(*(args if make != "orthogonal" else (*args, 1, None)))

    def in_blocks(self, blocks, axis):
        return Initializer(self.make, self.args, blocks, axis)

    def _sizes(self, shape):
        axis = self.axis
        if axis is None:
            axis = (
                self.args[1]
                if self.make == "orthogonal"
                else self.args[4]
                if self.make == "variance_scaling"
                else -1
            )
        b = self.blocks
        if isinstance(b, (list, tuple)):
            if sum(b) != shape[axis]:
                raise ValueError("blocks must add up to the size of the axis")
            return axis % len(shape), list(b)
        if b < 1:
            raise ValueError(f"blocks must be at least 1, got {b}")
        if shape[axis] % b:
            raise ValueError(
                f"blocks must divide the axis that is cut; got blocks={b} and size {shape[axis]} of axis {axis} in shape {list(shape)}"
            )
        return axis % len(shape), [shape[axis] // b] * b

    def fill(self, shape, seed=None, stream=0, dtype="float32", out=None, index=None, threads=None):
        if self.blocks == 1:
            return self.core.fill(shape, seed, stream, dtype, out, index, threads)
        shape = tuple(map(operator.index, shape))
        axis, sizes = self._sizes(shape)
        if seed is None:
            seed = old.as_seed(np.random.SeedSequence())
        full = np.empty(shape, old.constant(0.0).fill(0, None, 0, dtype, None, None, None).dtype)
        start = 0
        for k, size in enumerate(sizes):
            part = (*shape[:axis], size, *shape[axis + 1 :])
            here = (*[slice(None)] * axis, slice(start, start + size))
            self.core.fill(part, seed, old.block_stream(stream, k), dtype, full[here], None, threads)
            start += size
        full = full if index is None else full[index]
        if out is None:
            return np.ascontiguousarray(full).reshape(np.shape(full))
        out[...] = full
        return out

    def check(self, shape, dtype="float32"):
        s = old.constant(0.0)
        s.distribution(shape)
        try:
            shape = (operator.index(shape),)
        except TypeError:
            shape = tuple(map(operator.index, shape))
        if self.blocks != 1:
            axis, sizes = self._sizes(shape)
            return [
                (
                    math.prod((*shape[:axis], n, *shape[axis + 1 :])),
                    *Initializer(self.make, self.args).check((*shape[:axis], n, *shape[axis + 1 :]), dtype)[
                        0
                    ][1:],
                )
                for n in dict.fromkeys(sizes)
            ]
        self.core.fill(shape, 0, 0, dtype, None, tuple(slice(0, 0) for _ in shape), 1)
        n = math.prod(shape)
        a = self.args
        found = self.core.distribution(shape)
        if found:
            name, p = found
            if name == "random_uniform":
                return [(n, "uniform", {"low": p["minval"], "high": p["maxval"]})]
            if name == "random_normal":
                return [(n, "normal", p)]
            return [(n, "truncated_normal", {k: p[k] for k in ("mean", "stddev", "lower", "upper")})]
        if self.make == "constant":
            return [(n, "constant", {"value": float(a[0])})]
        if self.make == "identity":
            return [(n, "identity", {"gain": float(a[0]), "rows": shape[0], "columns": shape[1]})]
        if self.make == "dirac":
            return [(n, "dirac", {"ones": a[0] * min(shape[-2], shape[-1] // a[0]) if n else 0, "size": n})]
        if self.make == "orthogonal":
            return [
                (
                    n,
                    "orthogonal",
                    {"gain": float(a[0]), "rows": n // max(1, shape[a[1]]), "columns": shape[a[1]]},
                )
            ]
        if self.make == "delta_orthogonal":
            return [
                (
                    n,
                    "delta_orthogonal",
                    {
                        "gain": float(a[0]),
                        "inputs": shape[-2],
                        "outputs": shape[-1],
                        "taps": math.prod(shape[:-2]),
                    },
                )
            ]
        return [(n, "sparse", {"zeros": math.ceil(a[0] * shape[0]), "rows": shape[0], "stddev": float(a[1])})]


def _maker(name):
    def make(*args):
        return Initializer(name, args)

    return make


for _n in (
    "constant",
    "identity",
    "random_uniform",
    "random_normal",
    "truncated_normal",
    "variance_scaling",
    "dirac",
    "delta_orthogonal",
    "sparse",
):
    globals()[_n] = _maker(_n)


def variance_scaling(scale, mode, distribution, in_axis, out_axis, batch_axis, groups):
    return Initializer("variance_scaling", (scale, mode, distribution, in_axis, out_axis, batch_axis, groups))


def orthogonal(gain, column_axis):
    return Initializer("orthogonal", (gain, column_axis))


def fans(shape, in_axis, out_axis, batch_axis, groups):
    def of(mode):
        p = old.variance_scaling(
            1.0, mode, "untruncated_normal", in_axis, out_axis, batch_axis, groups
        ).distribution(shape)[1]
        return round(1 / p["stddev"] ** 2)

    return float(of("fan_in")), float(of("fan_out"))
