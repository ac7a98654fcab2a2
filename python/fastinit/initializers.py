"""The initializers.

For each one there is a function, which makes an array, and a class, which is that function with its own
parameters bound.

Each pair stands together below. What the functions have in common, the arguments `seed`, `stream`, `dtype`,
`out`, `index` and `threads`, is described once, at `Initializer.__call__`.
"""

from __future__ import annotations

import difflib
import operator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from . import _core

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ._typing import Array, Axes, DTypeLike, Index, Seed, Shape, Stream

_I = TypeVar("_I", bound="Initializer")


def _preset(scale: float, mode: str, distribution: str) -> Any:
    return lambda *axes: _core.variance_scaling(scale, mode, distribution, *axes)


class _Presets:
    """Discarded with the rewrite of this file."""

    glorot_uniform = staticmethod(_preset(1.0, "fan_avg", "uniform"))
    glorot_normal = staticmethod(_preset(1.0, "fan_avg", "truncated_normal"))
    he_uniform = staticmethod(_preset(2.0, "fan_in", "uniform"))
    he_normal = staticmethod(_preset(2.0, "fan_in", "truncated_normal"))
    lecun_uniform = staticmethod(_preset(1.0, "fan_in", "uniform"))
    lecun_normal = staticmethod(_preset(1.0, "fan_in", "truncated_normal"))


_ZEROS = _core.constant(0.0)
_ONES = _core.constant(1.0)


class Initializer:
    """An initializer with its parameters; the base of the classes in this module.

    Instances cannot be changed. Two are equal, and have the same hash, if they are of the same class and have
    the same parameters; they can be pickled, and rebuilt from `get_config()`.

    Attributes:
        seed: The seed of calls that give none; `None` for fresh entropy each time. Only random initializers
            have another than `None`. With a fixed seed, all calls for the same shape and stream give the same
            values: tell tensors apart by their `stream`.

    Example:
        >>> import fastinit
        >>> kernel = fastinit.HeNormal(seed=7)
        >>> kernel((3, 3, 64, 128), stream="conv1").shape
        (3, 3, 64, 128)
        >>> kernel == fastinit.HeNormal.from_config(kernel.get_config())
        True
    """

    seed: int | None = None
    _initializer: _core.Initializer

    def __init__(self) -> None:
        raise TypeError("Initializer is a base class: make an instance of one of its subclasses")

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
        """Makes an array, or fills one.

        These arguments are those of all functions of this module, too. Initializers that are not random take
        `seed` and `stream` like the others, and do not use them.

        Args:
            shape: The shape of the tensor: an int or a sequence of at most 32 ints. Sizes of 0 are allowed.
                The tensor may be larger than memory, up to 2**63 elements, where `index` picks a part of it.
            seed: An int in [0, 2**64), a `numpy.random.SeedSequence`, or `None` for the `seed` of the
                initializer and, where that is `None` too, for fresh entropy from the operating system.
            stream: Names the tensor among those of the same seed: an int in [0, 2**64), or a str, which
                stands for the int `int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=8).digest(),
                "little")`. Tensors of different streams are independent.
            dtype: `"float32"`, `"float64"`, `"float16"` or `"bfloat16"`, or anything that NumPy takes for one
                of these dtypes; `None` means float32. The half dtypes hold the float32 values, rounded once
                to the nearest. bfloat16 needs the package ml_dtypes.
            out: An array to write to instead of making one: writable, of the shape of the result, of `dtype`,
                not overlapping itself, and with any strides. No other thread may use it meanwhile.
            index: The part of the tensor that is wanted, as in `tensor[index]`: an int, a slice without a
                step, an ellipsis, or a tuple of these. Positions beyond the ends are refused.
            threads: How many threads to use at most; `None` for `get_num_threads()`. Changes no value.

        Returns:
            A fresh, writable, C-contiguous array, aligned to 64 bytes; or `out`. It equals `tensor[index]`
            exactly, and has no dimensions, but is still an array, where `index` picks one element.

        Raises:
            ValueError: Where an argument, or a parameter of the initializer, has a value out of range.
                Nothing has been written then.
            TypeError: Where an argument is of the wrong kind. Nothing has been written then.
            MemoryError: Where there is no room for the result.
            ImportError: Where bfloat16 is asked for and ml_dtypes is not there.

        Example:
            >>> import fastinit, numpy as np
            >>> glorot = fastinit.GlorotUniform()
            >>> tensor = glorot((1000, 64), seed=1, stream="embed", dtype="float16")
            >>> rows = np.empty((10, 64), np.float16)
            >>> last = slice(-10, None)
            >>> rows is glorot((1000, 64), seed=1, stream="embed", dtype="float16", out=rows, index=last)
            True
            >>> bool((rows == tensor[last]).all())
            True
        """
        if seed is None:
            seed = self.seed
        return self._initializer.fill(shape, seed, stream, dtype, out, index, threads)

    def for_shape(self, shape: Shape) -> Initializer:
        """This initializer for one shape: where its parameters follow from that, one that has them plain.

        Args:
            shape: The shape of the tensor.

        Returns:
            For variance scaling, a `RandomUniform`, `RandomNormal` or `TruncatedNormal` that makes the same
            tensor; for all others, one that is equal to this.

        Raises:
            ValueError: If a tensor of this shape has no fans.
            TypeError: If `shape` is of the wrong kind.

        Example:
            >>> import fastinit
            >>> fastinit.VarianceScaling(1.0, distribution="untruncated_normal").for_shape((64, 300))
            RandomNormal(mean=0.0, stddev=0.125, seed=None)
        """
        [(_, name, parameters)] = self._initializer.check(shape)
        if name not in ("uniform", "normal", "truncated_normal"):
            return self
        if name == "uniform":
            parameters = {"minval": parameters["low"], "maxval": parameters["high"]}
        kind: Any = _class_of(name if name == "truncated_normal" else f"random_{name}")
        law: Initializer = kind(**parameters, seed=self.seed)
        return law

    def get_config(self) -> dict[str, Any]:
        """The parameters, by name, as plain Python values: what `from_config` takes.

        Example:
            >>> import fastinit
            >>> fastinit.RandomNormal(stddev=0.02).get_config()
            {'mean': 0.0, 'stddev': 0.02, 'seed': None}
        """
        return {name: value for name, value in vars(self).items() if name != "_initializer"}

    @classmethod
    def from_config(cls: type[_I], config: Mapping[str, Any]) -> _I:
        """An initializer of this class with these parameters.

        Args:
            config: What `get_config` of such an initializer returned, before or after a trip through JSON;
                parameters that are missing take their defaults.

        Raises:
            ValueError: Where a parameter has a value out of range.
            TypeError: Where a parameter is unknown or of the wrong kind.

        Example:
            >>> import fastinit
            >>> fastinit.Constant.from_config({"value": 0.5})
            Constant(value=0.5)
        """
        return cls(**config)

    def _configure(self, initializer: _core.Initializer, **config: Any) -> None:
        """Sets the parameters once and for all; `initializer` has checked them already."""
        vars(self).update(config, _initializer=initializer)

    def __setattr__(self, name: str, value: object) -> NoReturn:
        raise AttributeError(f"cannot set {name!r}: {type(self).__name__} is immutable; make another one")

    def __delattr__(self, name: str) -> NoReturn:
        raise AttributeError(f"cannot delete {name!r}: {type(self).__name__} is immutable")

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return self.get_config() == other.get_config()

    def __hash__(self) -> int:
        return hash((type(self), *self.get_config().values()))

    def __repr__(self) -> str:
        parameters = (f"{name}={value!r}" for name, value in self.get_config().items())
        return f"{type(self).__name__}({', '.join(parameters)})"

    def __reduce__(self) -> tuple[Callable[[Mapping[str, Any]], Initializer], tuple[dict[str, Any]]]:
        return type(self).from_config, (self.get_config(),)


# Constants


def zeros(
    shape: Shape,
    *,
    seed: Seed = None,
    stream: Stream = 0,
    dtype: DTypeLike = "float32",
    out: Array | None = None,
    index: Index = None,
    threads: int | None = None,
) -> Array:
    """All zeros.

    Args:
        shape: The shape of the array.
        seed, stream, dtype, out, index, threads: As for every initializer, see `Initializer.__call__`.

    Returns:
        A fresh array, or `out`.

    Raises:
        ValueError, TypeError, MemoryError: As for every initializer.

    Example:
        >>> import fastinit
        >>> fastinit.zeros(3)
        array([0., 0., 0.], dtype=float32)
    """
    return _ZEROS.fill(shape, seed, stream, dtype, out, index, threads)


class Zeros(Initializer):
    """`zeros` as an object.

    Example:
        >>> import fastinit
        >>> fastinit.Zeros()(2)
        array([0., 0.], dtype=float32)
    """

    def __init__(self) -> None:
        self._configure(_ZEROS)


def ones(
    shape: Shape,
    *,
    seed: Seed = None,
    stream: Stream = 0,
    dtype: DTypeLike = "float32",
    out: Array | None = None,
    index: Index = None,
    threads: int | None = None,
) -> Array:
    """All ones.

    Args:
        shape: The shape of the array.
        seed, stream, dtype, out, index, threads: As for every initializer, see `Initializer.__call__`.

    Returns:
        A fresh array, or `out`.

    Raises:
        ValueError, TypeError, MemoryError: As for every initializer.

    Example:
        >>> import fastinit
        >>> fastinit.ones(3, dtype="float64")
        array([1., 1., 1.])
    """
    return _ONES.fill(shape, seed, stream, dtype, out, index, threads)


class Ones(Initializer):
    """`ones` as an object.

    Example:
        >>> import fastinit
        >>> fastinit.Ones()(2)
        array([1., 1.], dtype=float32)
    """

    def __init__(self) -> None:
        self._configure(_ONES)


def constant(
    shape: Shape,
    value: float,
    *,
    seed: Seed = None,
    stream: Stream = 0,
    dtype: DTypeLike = "float32",
    out: Array | None = None,
    index: Index = None,
    threads: int | None = None,
) -> Array:
    """All elements the same.

    Args:
        shape: The shape of the array.
        value: Any number, infinities and NaN included; rounded to the nearest of the dtype.
        seed, stream, dtype, out, index, threads: As for every initializer, see `Initializer.__call__`.

    Returns:
        A fresh array, or `out`.

    Raises:
        ValueError, TypeError, MemoryError: As for every initializer.

    Example:
        >>> import fastinit
        >>> fastinit.constant((2, 2), 0.5)
        array([[0.5, 0.5],
               [0.5, 0.5]], dtype=float32)
    """
    return _core.constant(value).fill(shape, seed, stream, dtype, out, index, threads)


class Constant(Initializer):
    """`constant` with its value.

    Args:
        value: Any number.

    Example:
        >>> import fastinit
        >>> fastinit.Constant(0.5)(2)
        array([0.5, 0.5], dtype=float32)
    """

    value: float

    def __init__(self, value: float = 0.0) -> None:
        self._configure(_core.constant(value), value=float(value))


def identity(
    shape: Shape,
    gain: float = 1.0,
    *,
    seed: Seed = None,
    stream: Stream = 0,
    dtype: DTypeLike = "float32",
    out: Array | None = None,
    index: Index = None,
    threads: int | None = None,
) -> Array:
    """The identity matrix, square or not.

    Args:
        shape: The shape of the matrix; two dimensions.
        gain: The elements of the diagonal; finite. All others are zero.
        seed, stream, dtype, out, index, threads: As for every initializer, see `Initializer.__call__`.

    Returns:
        A fresh array, or `out`.

    Raises:
        ValueError: If `shape` does not have two dimensions, or `gain` is not finite.
        TypeError, MemoryError: As for every initializer.

    Example:
        >>> import fastinit
        >>> fastinit.identity((2, 3), gain=0.5)
        array([[0.5, 0. , 0. ],
               [0. , 0.5, 0. ]], dtype=float32)

    References:
        Le, Jaitly and Hinton, "A simple way to initialize recurrent networks of rectified linear units",
        2015, arXiv:1504.00941.
    """
    return _core.identity(gain).fill(shape, seed, stream, dtype, out, index, threads)


class Identity(Initializer):
    """`identity` with its gain.

    Args:
        gain: The elements of the diagonal; finite.

    Raises:
        ValueError: If `gain` is not finite.
        TypeError: If `gain` is not a number.

    Example:
        >>> import fastinit
        >>> fastinit.Identity(gain=2.0)((1, 2))
        array([[2., 0.]], dtype=float32)
    """

    gain: float

    def __init__(self, gain: float = 1.0) -> None:
        self._configure(_core.identity(gain), gain=float(gain))


def dirac(
    shape: Shape,
    groups: int = 1,
    *,
    seed: Seed = None,
    stream: Stream = 0,
    dtype: DTypeLike = "float32",
    out: Array | None = None,
    index: Index = None,
    threads: int | None = None,
) -> Array:
    """The convolution kernel that passes its input through.

    In each group, output channel *i* takes input channel *i*, by a one in the tap `size // 2` of every
    spatial axis. Outputs beyond the number of inputs stay zero, inputs beyond the number of outputs are
    dropped.

    Kernels are channels-last, `(*spatial, in / groups, out)`. In the layout of PyTorch, `(out, in / groups,
    *spatial)`, this is what `torch.nn.init.dirac_` makes.

    Args:
        shape: The shape of the kernel; three to five dimensions.
        groups: The number of groups of the convolution; at least 1, and a divisor of `out`.
        seed, stream, dtype, out, index, threads: As for every initializer, see `Initializer.__call__`.

    Returns:
        A fresh array, or `out`.

    Raises:
        ValueError: If `shape` has another number of dimensions, or `groups` does not divide the outputs.
        TypeError, MemoryError: As for every initializer.

    Example:
        >>> import fastinit
        >>> kernel = fastinit.dirac((3, 2, 2))
        >>> kernel[1]
        array([[1., 0.],
               [0., 1.]], dtype=float32)
        >>> float(kernel.sum())
        2.0

    References:
        Zagoruyko and Komodakis, "DiracNets: training very deep neural networks without skip-connections",
        2017, arXiv:1706.00388.
    """
    return _core.dirac(groups).fill(shape, seed, stream, dtype, out, index, threads)


class Dirac(Initializer):
    """`dirac` with its number of groups.

    Args:
        groups: The number of groups of the convolution; at least 1.

    Raises:
        ValueError: If `groups` is less than 1.
        TypeError: If `groups` is not an int.

    Example:
        >>> import fastinit
        >>> fastinit.Dirac()((1, 2, 2))[0]
        array([[1., 0.],
               [0., 1.]], dtype=float32)
    """

    groups: int

    def __init__(self, groups: int = 1) -> None:
        self._configure(_core.dirac(groups), groups=operator.index(groups))


def orthogonal(
    shape: Shape,
    gain: float = 1.0,
    *,
    column_axis: int = -1,
    blocks: int = 1,
    block_axis: int | None = None,
    seed: Seed = None,
    stream: Stream = 0,
    dtype: DTypeLike = "float32",
    out: Array | None = None,
    index: Index = None,
    threads: int | None = None,
) -> Array:
    """A random orthogonal matrix: orthonormal rows or columns, whichever are fewer.

    The matrix is drawn from the Haar measure, the uniform distribution on all such matrices. A tensor of more
    than two dimensions is seen as a matrix, whose columns are along one axis and whose rows along all others:
    `column_axis=-1` is the convention of Keras and JAX, and `column_axis=0` is, but for a transposition, that
    of PyTorch.

    A tensor can be made of several matrices of equal shape, the gates or heads of a fused layer. Block *k* of
    several has the stream `block_stream(stream, k)`, so that it equals a tensor of its own with that stream.

    The half dtypes hold the float32 values, rounded once. A part that `index` picks costs what its columns
    (rows, where these are orthonormal) cost: time and memory shrink with their number, but not with the
    number of elements that are wanted of each.

    Args:
        shape: The shape of the tensor; at least two dimensions.
        gain: What the matrix is multiplied by; finite, also in the dtype (in float32 for the halves).
        column_axis: The axis of the columns.
        blocks: The number of matrices; a divisor of the size of `block_axis`.
        block_axis: The axis along which they lie side by side; `None` for `column_axis`.
        seed, stream, dtype, out, index, threads: As for every initializer, see `Initializer.__call__`.

    Returns:
        A fresh array, or `out`.

    Raises:
        ValueError: If `shape` has fewer than two dimensions, there is no such axis, `blocks` does not divide
            it, or `gain` is not finite in the dtype (in float32 for the halves).
        TypeError, MemoryError: As for every initializer.

    Example:
        >>> import fastinit, numpy as np
        >>> q = fastinit.orthogonal((3, 5), seed=0, dtype="float64")
        >>> bool(np.allclose(q @ q.T, np.eye(3)))
        True
        >>> recurrent = fastinit.orthogonal((128, 4 * 128), seed=0, blocks=4)
        >>> heads = fastinit.orthogonal((8, 64, 64), seed=0, blocks=8, block_axis=0)

    References:
        Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear
        neural networks", ICLR 2014, arXiv:1312.6120. Stewart, "The efficient generation of random orthogonal
        matrices with an application to condition estimators", SIAM Journal on Numerical Analysis 17, 1980.
    """
    return (
        _core.orthogonal(gain, column_axis)
        .in_blocks(blocks, block_axis)
        .fill(shape, seed, stream, dtype, out, index, threads)
    )


class Orthogonal(Initializer):
    """`orthogonal` with its parameters.

    Args:
        gain: What the matrix is multiplied by; finite, also in the dtype (in float32 for the halves).
        seed: The seed of calls that give none.
        column_axis: The axis of the columns.
        blocks: The number of matrices; at least 1.
        block_axis: The axis along which they lie side by side; `None` for `column_axis`.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is of the wrong kind.

    Example:
        >>> import fastinit
        >>> fastinit.Orthogonal(blocks=4)((64, 256), seed=0).shape
        (64, 256)
    """

    gain: float
    column_axis: int
    blocks: int
    block_axis: int | None

    def __init__(
        self,
        gain: float = 1.0,
        seed: Seed = None,
        *,
        column_axis: int = -1,
        blocks: int = 1,
        block_axis: int | None = None,
    ) -> None:
        self._configure(
            _core.orthogonal(gain, column_axis).in_blocks(blocks, block_axis),
            gain=float(gain),
            column_axis=operator.index(column_axis),
            blocks=operator.index(blocks),
            block_axis=None if block_axis is None else operator.index(block_axis),
            seed=_core.as_seed(seed),
        )


def delta_orthogonal(
    shape: Shape,
    gain: float = 1.0,
    *,
    seed: Seed = None,
    stream: Stream = 0,
    dtype: DTypeLike = "float32",
    out: Array | None = None,
    index: Index = None,
    threads: int | None = None,
) -> Array:
    """The kernel of a convolution that keeps norms.

    It is zero but for the tap `(size - 1) // 2` of every spatial axis, which is a matrix of orthonormal rows,
    as from `orthogonal` for the last two axes with the same seed and stream. As in JAX, kernels are
    channels-last.

    Args:
        shape: The shape of the kernel, `(*spatial, in, out)` with one to three spatial axes; `in` is at most
            `out`.
        gain: What the matrix is multiplied by; finite, also in the dtype (in float32 for the halves).
        seed, stream, dtype, out, index, threads: As for every initializer, see `Initializer.__call__`.

    Returns:
        A fresh array, or `out`.

    Raises:
        ValueError: If `shape` has another number of dimensions or more inputs than outputs, or `gain` is not
            finite in the dtype (in float32 for the halves).
        TypeError, MemoryError: As for every initializer.

    Example:
        >>> import fastinit, numpy as np
        >>> kernel = fastinit.delta_orthogonal((3, 3, 16, 32), seed=0)
        >>> bool((kernel[1, 1] == fastinit.orthogonal((16, 32), seed=0)).all())
        True
        >>> int(np.count_nonzero(kernel))
        512

    References:
        Xiao, Bahri, Sohl-Dickstein, Schoenholz and Pennington, "Dynamical isometry and a mean field theory of
        CNNs: how to train 10,000-layer vanilla convolutional neural networks", ICML 2018, arXiv:1806.05393.
    """
    return _core.delta_orthogonal(gain).fill(shape, seed, stream, dtype, out, index, threads)


class DeltaOrthogonal(Initializer):
    """`delta_orthogonal` with its gain.

    Args:
        gain: What the matrix is multiplied by; finite, also in the dtype (in float32 for the halves).
        seed: The seed of calls that give none.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is of the wrong kind.

    Example:
        >>> import fastinit
        >>> fastinit.DeltaOrthogonal()((3, 3, 16, 32), seed=0).shape
        (3, 3, 16, 32)
    """

    gain: float

    def __init__(self, gain: float = 1.0, seed: Seed = None) -> None:
        self._configure(_core.delta_orthogonal(gain), gain=float(gain), seed=_core.as_seed(seed))


# Distributions


def random_uniform(
    shape: Shape,
    minval: float = -0.05,
    maxval: float = 0.05,
    *,
    seed: Seed = None,
    stream: Stream = 0,
    dtype: DTypeLike = "float32",
    out: Array | None = None,
    index: Index = None,
    threads: int | None = None,
) -> Array:
    """Uniform on `[minval, maxval)`.

    Args:
        shape: The shape of the array.
        minval: The least value.
        maxval: The bound above all values, which itself does not occur; greater than `minval`.
        seed, stream, dtype, out, index, threads: As for every initializer, see `Initializer.__call__`.

    Returns:
        A fresh array, or `out`.

    Raises:
        ValueError: If the bounds are not finite and in order, also when rounded to the dtype (to float32 for
            the halves).
        TypeError, MemoryError: As for every initializer.

    Example:
        >>> import fastinit
        >>> w = fastinit.random_uniform(1000, 0.0, 2.0, seed=0)
        >>> bool(w.min() >= 0.0 and w.max() < 2.0)
        True
    """
    return _core.random_uniform(minval, maxval).fill(shape, seed, stream, dtype, out, index, threads)


class RandomUniform(Initializer):
    """`random_uniform` with its bounds.

    Args:
        minval: The least value.
        maxval: The bound above all values; greater than `minval`.
        seed: The seed of calls that give none.

    Raises:
        ValueError: If the bounds are not finite and in order, or `seed` is out of range.
        TypeError: If an argument is of the wrong kind.

    Example:
        >>> import fastinit
        >>> fastinit.RandomUniform(0.0, 1.0)((2, 3), seed=0).shape
        (2, 3)
    """

    minval: float
    maxval: float

    def __init__(self, minval: float = -0.05, maxval: float = 0.05, seed: Seed = None) -> None:
        self._configure(
            _core.random_uniform(minval, maxval),
            minval=float(minval),
            maxval=float(maxval),
            seed=_core.as_seed(seed),
        )


def random_normal(
    shape: Shape,
    mean: float = 0.0,
    stddev: float = 0.05,
    *,
    seed: Seed = None,
    stream: Stream = 0,
    dtype: DTypeLike = "float32",
    out: Array | None = None,
    index: Index = None,
    threads: int | None = None,
) -> Array:
    """Normal values.

    Args:
        shape: The shape of the array.
        mean: The mean; finite.
        stddev: The standard deviation; positive and finite.
        seed, stream, dtype, out, index, threads: As for every initializer, see `Initializer.__call__`.

    Returns:
        A fresh array, or `out`.

    Raises:
        ValueError: If `mean` or `stddev` is out of range, also when rounded to the dtype (to float32 for the
            halves).
        TypeError, MemoryError: As for every initializer.

    Example:
        >>> import fastinit
        >>> w = fastinit.random_normal((100, 100), stddev=0.02, seed=0)
        >>> bool(abs(w.std() - 0.02) < 0.001)
        True
    """
    return _core.random_normal(mean, stddev).fill(shape, seed, stream, dtype, out, index, threads)


class RandomNormal(Initializer):
    """`random_normal` with its mean and standard deviation.

    Args:
        mean: The mean; finite.
        stddev: The standard deviation; positive and finite.
        seed: The seed of calls that give none.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is of the wrong kind.

    Example:
        >>> import fastinit
        >>> fastinit.RandomNormal(stddev=0.02)((2, 3), seed=0).shape
        (2, 3)
    """

    mean: float
    stddev: float

    def __init__(self, mean: float = 0.0, stddev: float = 0.05, seed: Seed = None) -> None:
        self._configure(
            _core.random_normal(mean, stddev),
            mean=float(mean),
            stddev=float(stddev),
            seed=_core.as_seed(seed),
        )


def truncated_normal(
    shape: Shape,
    mean: float = 0.0,
    stddev: float = 0.05,
    lower: float = -2.0,
    upper: float = 2.0,
    *,
    seed: Seed = None,
    stream: Stream = 0,
    dtype: DTypeLike = "float32",
    out: Array | None = None,
    index: Index = None,
    threads: int | None = None,
) -> Array:
    """Normal values, of which those outside of bounds do not occur.

    The samples are those of a normal distribution given that they lie within `mean + stddev * lower` and
    `mean + stddev * upper`; their own standard deviation is smaller than `stddev`. The bounds may be far out,
    close together or on one side only.

    Args:
        shape: The shape of the array.
        mean: The mean before truncation; finite.
        stddev: The standard deviation before truncation; positive and finite.
        lower: The lower bound in standard deviations from the mean; may be `-inf`.
        upper: The upper bound in standard deviations from the mean; may be `inf`, and is greater than
            `lower`.
        seed, stream, dtype, out, index, threads: As for every initializer, see `Initializer.__call__`.

    Returns:
        A fresh array, or `out`.

    Raises:
        ValueError: If `mean` or `stddev` is out of range, also when rounded to the dtype (to float32 for the
            halves), or the bounds are not in order.
        TypeError, MemoryError: As for every initializer.

    Example:
        >>> import fastinit
        >>> w = fastinit.truncated_normal((100, 100), stddev=0.02, seed=0)
        >>> float(abs(w).max()) <= 0.04
        True
    """
    return _core.truncated_normal(mean, stddev, lower, upper).fill(
        shape, seed, stream, dtype, out, index, threads
    )


class TruncatedNormal(Initializer):
    """`truncated_normal` with its parameters.

    Args:
        mean: The mean before truncation; finite.
        stddev: The standard deviation before truncation; positive and finite.
        seed: The seed of calls that give none.
        lower: The lower bound in standard deviations from the mean; may be `-inf`.
        upper: The upper bound in standard deviations from the mean; may be `inf`, and is greater than
            `lower`.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is of the wrong kind.

    Example:
        >>> import fastinit
        >>> w = fastinit.TruncatedNormal(stddev=1.0, lower=0.0, upper=float("inf"))(1000, seed=0)
        >>> bool(w.min() >= 0.0)
        True
    """

    mean: float
    stddev: float
    lower: float
    upper: float

    def __init__(
        self,
        mean: float = 0.0,
        stddev: float = 0.05,
        seed: Seed = None,
        *,
        lower: float = -2.0,
        upper: float = 2.0,
    ) -> None:
        self._configure(
            _core.truncated_normal(mean, stddev, lower, upper),
            mean=float(mean),
            stddev=float(stddev),
            lower=float(lower),
            upper=float(upper),
            seed=_core.as_seed(seed),
        )


def sparse(
    shape: Shape,
    sparsity: float,
    stddev: float = 0.01,
    *,
    seed: Seed = None,
    stream: Stream = 0,
    dtype: DTypeLike = "float32",
    out: Array | None = None,
    index: Index = None,
    threads: int | None = None,
) -> Array:
    """A matrix with the same number of zeros in each column, and normal values elsewhere.

    Each column, that is the weights of each output, has exactly `ceil(sparsity * rows)` zeros, in random
    places.

    Args:
        shape: The shape of the matrix; two dimensions.
        sparsity: The share of zeros in each column; from 0 to 1.
        stddev: The standard deviation of the other elements, whose mean is 0; positive and finite.
        seed, stream, dtype, out, index, threads: As for every initializer, see `Initializer.__call__`.

    Returns:
        A fresh array, or `out`.

    Raises:
        ValueError: If `shape` does not have two dimensions, or `sparsity` or `stddev` is out of range.
        TypeError, MemoryError: As for every initializer.

    Example:
        >>> import fastinit
        >>> w = fastinit.sparse((10, 4), 0.75, seed=0)
        >>> (w == 0.0).sum(axis=0)
        array([8, 8, 8, 8])

    References:
        Martens, "Deep learning via Hessian-free optimization", ICML 2010.
    """
    return _core.sparse(sparsity, stddev).fill(shape, seed, stream, dtype, out, index, threads)


class Sparse(Initializer):
    """`sparse` with its parameters.

    Args:
        sparsity: The share of zeros in each column; from 0 to 1.
        stddev: The standard deviation of the other elements; positive and finite.
        seed: The seed of calls that give none.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is of the wrong kind.

    Example:
        >>> import fastinit
        >>> fastinit.Sparse(1.0)((1, 2), seed=0)
        array([[0., 0.]], dtype=float32)
    """

    sparsity: float
    stddev: float

    def __init__(self, sparsity: float, stddev: float = 0.01, seed: Seed = None) -> None:
        self._configure(
            _core.sparse(sparsity, stddev),
            sparsity=float(sparsity),
            stddev=float(stddev),
            seed=_core.as_seed(seed),
        )


# Variance scaling


def variance_scaling(
    shape: Shape,
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: str = "truncated_normal",
    *,
    seed: Seed = None,
    stream: Stream = 0,
    dtype: DTypeLike = "float32",
    out: Array | None = None,
    index: Index = None,
    threads: int | None = None,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    groups: int = 1,
) -> Array:
    """Values with mean 0 and variance `scale / max(1, fan)`.

    With *in*, *out* and *receptive* the sizes of the input axes, of the output axes and of all axes without a
    role, `fan_in = in * receptive` and `fan_out = out * receptive / groups`: how many inputs feed an output,
    and how many outputs an input feeds. Fans are those of the whole `shape`, also where `index` picks a part.

    Args:
        shape: The shape of the kernel. With the default axes it has at least two dimensions, `(..., in,
            out)`, as kernels have in Keras and JAX.
        scale: The variance times the fan; positive and finite.
        mode: The fan: `"fan_in"`, `"fan_out"`, `"fan_avg"` (the arithmetic mean of both) or `"fan_geo_avg"`
            (the geometric mean).
        distribution: `"truncated_normal"`, cut at two standard deviations of a normal distribution that is
            wider by 1 / 0.87962566103423978, so that the variance is as asked for; `"untruncated_normal"`; or
            `"uniform"`, on `[-limit, limit)` with `limit = sqrt(3 * variance)`.
        seed, stream, dtype, out, index, threads: As for every initializer, see `Initializer.__call__`.
        in_axis: The axis, or the axes, of inputs. Negative axes count from the end.
        out_axis: The axis, or the axes, of outputs.
        batch_axis: The axis, or the axes, that merely count independent kernels.
        groups: The number of groups of a grouped convolution, whose kernel is `(..., in / groups, out)`; at
            least 1, and a divisor of *out*.

    Returns:
        A fresh array, or `out`.

    Raises:
        ValueError: If `scale` is out of range, `mode` or `distribution` unknown, an axis out of range or
            named twice (so if the shape has no fans), or *out* not divisible by `groups`.
        TypeError, MemoryError: As for every initializer.

    Example:
        >>> import fastinit
        >>> w = fastinit.variance_scaling((64, 400), 3.0, "fan_out", "uniform", seed=0)
        >>> round(float(abs(w).max()), 2)  # sqrt(3 * 3 / 400)
        0.15

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
        AISTATS 2010.
    """
    return _core.variance_scaling(scale, mode, distribution, in_axis, out_axis, batch_axis, groups).fill(
        shape, seed, stream, dtype, out, index, threads
    )


class VarianceScaling(Initializer):
    """`variance_scaling` with its parameters.

    Args:
        scale: The variance times the fan; positive and finite.
        mode: `"fan_in"`, `"fan_out"`, `"fan_avg"` or `"fan_geo_avg"`.
        distribution: `"truncated_normal"`, `"untruncated_normal"` or `"uniform"`.
        seed: The seed of calls that give none.
        in_axis, out_axis, batch_axis, groups: What the axes mean, see `variance_scaling`.

    Raises:
        ValueError: If an argument is out of range or unknown.
        TypeError: If an argument is of the wrong kind.

    Example:
        >>> import fastinit
        >>> fastinit.VarianceScaling(2.0, "fan_out")((3, 3, 16, 32), seed=0).shape
        (3, 3, 16, 32)
    """

    scale: float
    mode: str
    distribution: str
    in_axis: int | tuple[int, ...]
    out_axis: int | tuple[int, ...]
    batch_axis: int | tuple[int, ...]
    groups: int

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Seed = None,
        *,
        in_axis: Axes = -2,
        out_axis: Axes = -1,
        batch_axis: Axes = (),
        groups: int = 1,
    ) -> None:
        self._configure(
            _core.variance_scaling(scale, mode, distribution, in_axis, out_axis, batch_axis, groups),
            scale=float(scale),
            mode=str(mode),
            distribution=str(distribution),
            seed=_core.as_seed(seed),
            **_plain_axes(in_axis, out_axis, batch_axis, groups),
        )


class _Preset(Initializer):
    """Variance scaling of which only the axes remain to be chosen."""

    in_axis: int | tuple[int, ...]
    out_axis: int | tuple[int, ...]
    batch_axis: int | tuple[int, ...]
    groups: int

    @staticmethod
    def _make(in_axis: Axes, out_axis: Axes, batch_axis: Axes, groups: int, /) -> _core.Initializer:
        raise NotImplementedError

    def __init__(
        self,
        seed: Seed = None,
        *,
        in_axis: Axes = -2,
        out_axis: Axes = -1,
        batch_axis: Axes = (),
        groups: int = 1,
    ) -> None:
        self._configure(
            self._make(in_axis, out_axis, batch_axis, groups),
            seed=_core.as_seed(seed),
            **_plain_axes(in_axis, out_axis, batch_axis, groups),
        )


def _plain_axes(in_axis: Axes, out_axis: Axes, batch_axis: Axes, groups: int) -> dict[str, Any]:
    """Axes that have been checked, as values that can be compared and hashed."""

    def plain(axes: Axes) -> int | tuple[int, ...]:
        try:
            return operator.index(axes)  # type: ignore[arg-type]
        except TypeError:
            return tuple(map(operator.index, axes))  # type: ignore[arg-type]

    return {
        "in_axis": plain(in_axis),
        "out_axis": plain(out_axis),
        "batch_axis": plain(batch_axis),
        "groups": operator.index(groups),
    }


def glorot_uniform(
    shape: Shape,
    *,
    seed: Seed = None,
    stream: Stream = 0,
    dtype: DTypeLike = "float32",
    out: Array | None = None,
    index: Index = None,
    threads: int | None = None,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    groups: int = 1,
) -> Array:
    """Uniform values with variance `2 / (fan_in + fan_out)`.

    Uniform on `[-limit, limit)` with `limit = sqrt(6 / (fan_in + fan_out))`. Also known as Xavier
    initialization. This is `variance_scaling(shape, 1.0, "fan_avg", "uniform")`: arguments, ranges, result
    and errors are described there.

    Example:
        >>> import fastinit
        >>> fastinit.glorot_uniform((3, 3, 16, 32), seed=0, stream="conv1").shape
        (3, 3, 16, 32)

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
        AISTATS 2010.
    """
    return _Presets.glorot_uniform(in_axis, out_axis, batch_axis, groups).fill(
        shape, seed, stream, dtype, out, index, threads
    )


class GlorotUniform(_Preset):
    """`glorot_uniform` with its axes; the arguments are those of `VarianceScaling`.

    Example:
        >>> import fastinit
        >>> fastinit.GlorotUniform()((64, 32), seed=0).shape
        (64, 32)
    """

    _make = staticmethod(_Presets.glorot_uniform)


def glorot_normal(
    shape: Shape,
    *,
    seed: Seed = None,
    stream: Stream = 0,
    dtype: DTypeLike = "float32",
    out: Array | None = None,
    index: Index = None,
    threads: int | None = None,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    groups: int = 1,
) -> Array:
    """Truncated normal values with variance `2 / (fan_in + fan_out)`.

    Cut at two standard deviations of a wider normal distribution, so that the variance is as said. Also known
    as Xavier initialization. This is `variance_scaling(shape, 1.0, "fan_avg", "truncated_normal")`:
    arguments, ranges, result and errors are described there.

    Example:
        >>> import fastinit
        >>> fastinit.glorot_normal((3, 3, 16, 32), seed=0, stream="conv1").shape
        (3, 3, 16, 32)

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
        AISTATS 2010.
    """
    return _Presets.glorot_normal(in_axis, out_axis, batch_axis, groups).fill(
        shape, seed, stream, dtype, out, index, threads
    )


class GlorotNormal(_Preset):
    """`glorot_normal` with its axes; the arguments are those of `VarianceScaling`.

    Example:
        >>> import fastinit
        >>> fastinit.GlorotNormal()((64, 32), seed=0).shape
        (64, 32)
    """

    _make = staticmethod(_Presets.glorot_normal)


def he_uniform(
    shape: Shape,
    *,
    seed: Seed = None,
    stream: Stream = 0,
    dtype: DTypeLike = "float32",
    out: Array | None = None,
    index: Index = None,
    threads: int | None = None,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    groups: int = 1,
) -> Array:
    """Uniform values with variance `2 / fan_in`.

    Uniform on `[-limit, limit)` with `limit = sqrt(6 / fan_in)`. Also known as Kaiming initialization. This
    is `variance_scaling(shape, 2.0, "fan_in", "uniform")`: arguments, ranges, result and errors are described
    there.

    Example:
        >>> import fastinit
        >>> fastinit.he_uniform((3, 3, 16, 32), seed=0, stream="conv1").shape
        (3, 3, 16, 32)

    References:
        He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level performance on ImageNet
        classification", ICCV 2015, arXiv:1502.01852.
    """
    return _Presets.he_uniform(in_axis, out_axis, batch_axis, groups).fill(
        shape, seed, stream, dtype, out, index, threads
    )


class HeUniform(_Preset):
    """`he_uniform` with its axes; the arguments are those of `VarianceScaling`.

    Example:
        >>> import fastinit
        >>> fastinit.HeUniform()((64, 32), seed=0).shape
        (64, 32)
    """

    _make = staticmethod(_Presets.he_uniform)


def he_normal(
    shape: Shape,
    *,
    seed: Seed = None,
    stream: Stream = 0,
    dtype: DTypeLike = "float32",
    out: Array | None = None,
    index: Index = None,
    threads: int | None = None,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    groups: int = 1,
) -> Array:
    """Truncated normal values with variance `2 / fan_in`.

    Cut at two standard deviations of a wider normal distribution, so that the variance is as said. Also known
    as Kaiming initialization. This is `variance_scaling(shape, 2.0, "fan_in", "truncated_normal")`:
    arguments, ranges, result and errors are described there.

    Example:
        >>> import fastinit
        >>> fastinit.he_normal((3, 3, 16, 32), seed=0, stream="conv1").shape
        (3, 3, 16, 32)

    References:
        He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level performance on ImageNet
        classification", ICCV 2015, arXiv:1502.01852.
    """
    return _Presets.he_normal(in_axis, out_axis, batch_axis, groups).fill(
        shape, seed, stream, dtype, out, index, threads
    )


class HeNormal(_Preset):
    """`he_normal` with its axes; the arguments are those of `VarianceScaling`.

    Example:
        >>> import fastinit
        >>> fastinit.HeNormal()((64, 32), seed=0).shape
        (64, 32)
    """

    _make = staticmethod(_Presets.he_normal)


def lecun_uniform(
    shape: Shape,
    *,
    seed: Seed = None,
    stream: Stream = 0,
    dtype: DTypeLike = "float32",
    out: Array | None = None,
    index: Index = None,
    threads: int | None = None,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    groups: int = 1,
) -> Array:
    """Uniform values with variance `1 / fan_in`.

    Uniform on `[-limit, limit)` with `limit = sqrt(3 / fan_in)`. This is `variance_scaling(shape, 1.0,
    "fan_in", "uniform")`: arguments, ranges, result and errors are described there.

    Example:
        >>> import fastinit
        >>> fastinit.lecun_uniform((3, 3, 16, 32), seed=0, stream="conv1").shape
        (3, 3, 16, 32)

    References:
        LeCun, Bottou, Orr and Mueller, "Efficient BackProp", in Neural Networks: Tricks of the Trade, 1998.
    """
    return _Presets.lecun_uniform(in_axis, out_axis, batch_axis, groups).fill(
        shape, seed, stream, dtype, out, index, threads
    )


class LecunUniform(_Preset):
    """`lecun_uniform` with its axes; the arguments are those of `VarianceScaling`.

    Example:
        >>> import fastinit
        >>> fastinit.LecunUniform()((64, 32), seed=0).shape
        (64, 32)
    """

    _make = staticmethod(_Presets.lecun_uniform)


def lecun_normal(
    shape: Shape,
    *,
    seed: Seed = None,
    stream: Stream = 0,
    dtype: DTypeLike = "float32",
    out: Array | None = None,
    index: Index = None,
    threads: int | None = None,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    groups: int = 1,
) -> Array:
    """Truncated normal values with variance `1 / fan_in`.

    Cut at two standard deviations of a wider normal distribution, so that the variance is as said. This is
    `variance_scaling(shape, 1.0, "fan_in", "truncated_normal")`: arguments, ranges, result and errors are
    described there.

    Example:
        >>> import fastinit
        >>> fastinit.lecun_normal((3, 3, 16, 32), seed=0, stream="conv1").shape
        (3, 3, 16, 32)

    References:
        LeCun, Bottou, Orr and Mueller, "Efficient BackProp", in Neural Networks: Tricks of the Trade, 1998.
    """
    return _Presets.lecun_normal(in_axis, out_axis, batch_axis, groups).fill(
        shape, seed, stream, dtype, out, index, threads
    )


class LecunNormal(_Preset):
    """`lecun_normal` with its axes; the arguments are those of `VarianceScaling`.

    Example:
        >>> import fastinit
        >>> fastinit.LecunNormal()((64, 32), seed=0).shape
        (64, 32)
    """

    _make = staticmethod(_Presets.lecun_normal)


# Identifiers

_CLASSES: dict[str, type[Initializer]] = {
    "constant": Constant,
    "dirac": Dirac,
    "orthogonal": Orthogonal,
    "delta_orthogonal": DeltaOrthogonal,
    "glorot_normal": GlorotNormal,
    "glorot_uniform": GlorotUniform,
    "he_normal": HeNormal,
    "he_uniform": HeUniform,
    "identity": Identity,
    "lecun_normal": LecunNormal,
    "lecun_uniform": LecunUniform,
    "ones": Ones,
    "random_normal": RandomNormal,
    "random_uniform": RandomUniform,
    "sparse": Sparse,
    "truncated_normal": TruncatedNormal,
    "variance_scaling": VarianceScaling,
    "zeros": Zeros,
}

# The other names by which Keras knows some of them.
_ALIASES: dict[str, type[Initializer]] = {
    "IdentityInitializer": Identity,
    "normal": RandomNormal,
    "OrthogonalInitializer": Orthogonal,
    "one": Ones,
    "uniform": RandomUniform,
    "zero": Zeros,
}

_BY_NAME = {**_CLASSES, **{cls.__name__: cls for cls in _CLASSES.values()}, **_ALIASES}


def get(identifier: object) -> Any:
    """The initializer that an identifier of Keras stands for.

    Args:
        identifier: One of

            * a name, as `"he_normal"`, `"HeNormal"`, or one of Keras's aliases, as `"uniform"`;
            * a dictionary of `"class_name"`, such a name, and `"config"`, what `get_config` returns, here or
              in Keras, where the distribution `"normal"` means `"truncated_normal"`;
            * a class, which is called without arguments;
            * anything that can be called, as an initializer, which is returned as it is;
            * `None`, which is returned as it is.

    Returns:
        An `Initializer`, or what was given.

    Raises:
        ValueError: If a name is unknown, or the identifier is of another kind.
        TypeError: If a configuration has parameters that the class does not know.

    Example:
        >>> import fastinit
        >>> fastinit.get("uniform")
        RandomUniform(minval=-0.05, maxval=0.05, seed=None)
        >>> fastinit.get({"class_name": "RandomNormal", "config": {"mean": 0.0, "stddev": 0.02, "seed": 1}})
        RandomNormal(mean=0.0, stddev=0.02, seed=1)
    """
    if isinstance(identifier, str):
        return _class_of(identifier)()
    if isinstance(identifier, dict):
        if not isinstance(identifier.get("class_name"), str):
            raise ValueError(f"an initializer as a dict must have a 'class_name', a str; got {identifier!r}")
        return _class_of(identifier["class_name"]).from_config(_from_keras(identifier.get("config") or {}))
    found = identifier() if isinstance(identifier, type) else identifier
    if found is None or callable(found):
        return found
    raise ValueError(
        f"an initializer must be a name, a dict, a class, a callable or None; got {identifier!r}"
    )


def _class_of(name: str) -> type[Initializer]:
    if name not in _BY_NAME:
        near = difflib.get_close_matches(name, _BY_NAME, 3)
        hint = f" (did you mean {', '.join(near)}?)" if near else ""
        known = ", ".join(sorted({*_CLASSES, *_ALIASES}))
        raise ValueError(f"unknown initializer {name!r}{hint}; it must be one of {known}, or a class name")
    return _BY_NAME[name]


def _from_keras(config: Mapping[str, Any]) -> dict[str, Any]:
    """The configuration in our words, where it is in those of Keras."""
    config = dict(config)
    if config.get("distribution") == "normal":
        config["distribution"] = "truncated_normal"
    # Keras takes its defaults unless both are there.
    in_axis, out_axis = config.pop("input_axes", None), config.pop("output_axes", None)
    if in_axis is not None and out_axis is not None:
        config.update(in_axis=in_axis, out_axis=out_axis)
    return config
