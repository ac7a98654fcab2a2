"""The initializers as functions: each returns a new array, or fills the one that it is given.

The arguments that all of them share (`seed`, `stream`, `dtype`, `out`, `index`, `threads`, `blocks` and
`block_axis`) are described once, at `fastinit.Initializer`. Type checkers see them as `**options`; `help` and
`inspect.signature` show each.
"""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any

from . import _core
from ._registry import NAMES, PRESETS
from .initializers import Initializer, VarianceScaling

if TYPE_CHECKING:
    from typing_extensions import Unpack

    from ._typing import Array, Axes, Options, ScalingOptions, Shape


# Constants


def zeros(shape: Shape, **options: Unpack[Options]) -> Array:
    """Fills a tensor with zeros.

    Args:
        shape: The shape of the tensor.
        **options: As for every initializer, see `Initializer`.

    Returns:
        A new array, or `out`.

    Raises:
        ValueError, TypeError, MemoryError: As for every initializer.

    Example:
        >>> import fastinit
        >>> fastinit.zeros(3)
        array([0., 0., 0.], dtype=float32)
    """
    return _ZEROS.fill_with(shape, options)


def ones(shape: Shape, **options: Unpack[Options]) -> Array:
    """Fills a tensor with ones.

    Args:
        shape: The shape of the tensor.
        **options: As for every initializer, see `Initializer`.

    Returns:
        A new array, or `out`.

    Raises:
        ValueError, TypeError, MemoryError: As for every initializer.

    Example:
        >>> import fastinit
        >>> fastinit.ones(3, dtype="float64")
        array([1., 1., 1.])
    """
    return _ONES.fill_with(shape, options)


def constant(shape: Shape, value: float = 0.0, **options: Unpack[Options]) -> Array:
    """Fills a tensor with one number.

    Args:
        shape: The shape of the tensor.
        value: Any number, infinities and NaN included; it is rounded to the nearest of the dtype.
        **options: As for every initializer, see `Initializer`.

    Returns:
        A new array, or `out`.

    Raises:
        ValueError, TypeError, MemoryError: As for every initializer.

    Example:
        >>> import fastinit
        >>> fastinit.constant((2, 2), 0.5)
        array([[0.5, 0.5],
               [0.5, 0.5]], dtype=float32)
    """
    return _core.constant(value).fill_with(shape, options)


def identity(shape: Shape, gain: float = 1.0, **options: Unpack[Options]) -> Array:
    """Makes an identity matrix, square or not, times a gain.

    Args:
        shape: The shape of the matrix; two dimensions.
        gain: The elements of the diagonal; finite. All others are zero.
        **options: As for every initializer, see `Initializer`.

    Returns:
        A new array, or `out`.

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
    return _core.identity(gain).fill_with(shape, options)


def dirac(shape: Shape, groups: int = 1, **options: Unpack[Options]) -> Array:
    """Makes a convolution kernel that passes its input through.

    In each group, output channel *i* takes input channel *i*, by a one in the tap `size // 2` of every
    spatial axis. Outputs beyond the number of inputs stay zero; inputs beyond the number of outputs are
    dropped.

    Kernels are channels-last, `(*spatial, in / groups, out)`. In the layout of PyTorch, `(out, in / groups,
    *spatial)`, the same kernel is what `torch.nn.init.dirac_` makes.

    Args:
        shape: The shape of the kernel; three to five dimensions.
        groups: The number of groups of the convolution; at least 1, and a divisor of `out`.
        **options: As for every initializer, see `Initializer`.

    Returns:
        A new array, or `out`.

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
    return _core.dirac(groups).fill_with(shape, options)


# Orthogonal matrices


def orthogonal(
    shape: Shape, gain: float = 1.0, *, column_axis: int = -1, **options: Unpack[Options]
) -> Array:
    """Samples an orthogonal matrix: orthonormal rows or columns, whichever are fewer.

    The matrix has the Haar measure, the uniform distribution on all such matrices. A tensor of more than two
    dimensions is seen as a matrix, whose columns are along one axis and whose rows along all others:
    `column_axis=-1` is the convention of Keras and JAX; `column_axis=0` is, up to a transposition, that of
    PyTorch.

    The time and the memory for a part that `index` selects grow with the number of its columns (of its
    rows, where these are orthonormal); a few elements of each column take as long as the whole column.

    Args:
        shape: The shape of the tensor; at least two dimensions.
        gain: The factor of the matrix; finite, also in the dtype (in float32 for the half dtypes).
        column_axis: The axis of the columns.
        **options: As for every initializer, see `Initializer`. `block_axis=None` means `column_axis`.

    Returns:
        A new array, or `out`.

    Raises:
        ValueError: If `shape` has fewer than two dimensions, there is no such axis, or `gain` is not finite
            in the dtype (in float32 for the half dtypes).
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
    return _core.orthogonal(gain, column_axis).fill_with(shape, options)


def delta_orthogonal(shape: Shape, gain: float = 1.0, **options: Unpack[Options]) -> Array:
    """Samples the kernel of a convolution that keeps norms.

    It is zero but for the tap `(size - 1) // 2` of every spatial axis, which is a matrix of orthonormal rows:
    the one that `orthogonal` samples for the last two axes with the same seed and stream. As in JAX, kernels
    are channels-last.

    Args:
        shape: The shape of the kernel, `(*spatial, in, out)` with one to three spatial axes; `in` is at most
            `out`.
        gain: The factor of the matrix; finite, also in the dtype (in float32 for the half dtypes).
        **options: As for every initializer, see `Initializer`.

    Returns:
        A new array, or `out`.

    Raises:
        ValueError: If `shape` has another number of dimensions or more inputs than outputs, or `gain` is not
            finite in the dtype (in float32 for the half dtypes).
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
    return _core.delta_orthogonal(gain).fill_with(shape, options)


# Distributions with given parameters


def random_uniform(
    shape: Shape, minval: float = -0.05, maxval: float = 0.05, **options: Unpack[Options]
) -> Array:
    """Samples the uniform distribution on `[minval, maxval)`.

    Args:
        shape: The shape of the tensor.
        minval: The least value.
        maxval: The upper bound, which itself does not occur; greater than `minval`.
        **options: As for every initializer, see `Initializer`.

    Returns:
        A new array, or `out`.

    Raises:
        ValueError: If the bounds are not finite and in order, also when rounded to the dtype (to float32 for
            the half dtypes).
        TypeError, MemoryError: As for every initializer.

    Example:
        >>> import fastinit
        >>> w = fastinit.random_uniform(1000, 0.0, 2.0, seed=0)
        >>> bool(w.min() >= 0.0 and w.max() < 2.0)
        True
    """
    return _core.random_uniform(minval, maxval).fill_with(shape, options)


def random_normal(shape: Shape, mean: float = 0.0, stddev: float = 0.05, **options: Unpack[Options]) -> Array:
    """Samples the normal distribution.

    Args:
        shape: The shape of the tensor.
        mean: The mean; finite.
        stddev: The standard deviation; positive and finite.
        **options: As for every initializer, see `Initializer`.

    Returns:
        A new array, or `out`.

    Raises:
        ValueError: If `mean` or `stddev` is out of range, also when rounded to the dtype (to float32 for the
            half dtypes).
        TypeError, MemoryError: As for every initializer.

    Example:
        >>> import fastinit
        >>> w = fastinit.random_normal((100, 100), stddev=0.02, seed=0)
        >>> bool(abs(w.std() - 0.02) < 0.001)
        True
    """
    return _core.random_normal(mean, stddev).fill_with(shape, options)


def truncated_normal(
    shape: Shape,
    mean: float = 0.0,
    stddev: float = 0.05,
    lower: float = -2.0,
    upper: float = 2.0,
    **options: Unpack[Options],
) -> Array:
    """Samples the normal distribution, conditioned on an interval.

    The interval is from `mean + stddev * lower` to `mean + stddev * upper`; the standard deviation of the
    samples is smaller than `stddev`. The bounds may be far out, close together or on one side only.

    Args:
        shape: The shape of the tensor.
        mean: The mean before truncation; finite.
        stddev: The standard deviation before truncation; positive and finite.
        lower: The lower bound in standard deviations from the mean; may be `-inf`.
        upper: The upper bound in standard deviations from the mean; may be `inf`, and is greater than
            `lower`.
        **options: As for every initializer, see `Initializer`.

    Returns:
        A new array, or `out`.

    Raises:
        ValueError: If `mean` or `stddev` is out of range, also when rounded to the dtype (to float32 for the
            half dtypes), or the bounds are not in order.
        TypeError, MemoryError: As for every initializer.

    Example:
        >>> import fastinit
        >>> w = fastinit.truncated_normal((100, 100), stddev=0.02, seed=0)
        >>> float(abs(w).max()) <= 0.04
        True
    """
    return _core.truncated_normal(mean, stddev, lower, upper).fill_with(shape, options)


def sparse(shape: Shape, sparsity: float, stddev: float = 0.01, **options: Unpack[Options]) -> Array:
    """Samples a matrix with the same number of zeros in each column, and normal elements elsewhere.

    Each column, which holds the weights of one output, has exactly `ceil(sparsity * rows)` zeros, in random
    places.

    Args:
        shape: The shape of the matrix; two dimensions.
        sparsity: The share of zeros in each column; from 0 to 1.
        stddev: The standard deviation of the other elements, whose mean is 0; positive and finite.
        **options: As for every initializer, see `Initializer`.

    Returns:
        A new array, or `out`.

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
    return _core.sparse(sparsity, stddev).fill_with(shape, options)


# Variance scaling


def variance_scaling(
    shape: Shape,
    scale: float = 1.0,
    mode: str = "fan_in",
    distribution: str = "truncated_normal",
    *,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    groups: int = 1,
    **options: Unpack[Options],
) -> Array:
    """Samples a distribution of mean 0 and variance `scale / max(1, fan)`.

    With *in*, *out* and *receptive* the products of the sizes of the input axes, of the output axes and of
    all axes without a role, `fan_in = in * receptive` and `fan_out = out * receptive / groups`: the number of
    inputs of one output, and the number of outputs of one input. Fans are those of the whole `shape`, also
    where `index` selects a part.

    Args:
        shape: The shape of the kernel. With the default axes it has at least two dimensions, `(..., in,
            out)`, as kernels have in Keras and JAX.
        scale: The variance times the fan; positive and finite.
        mode: The fan: `"fan_in"`, `"fan_out"`, `"fan_avg"` (the arithmetic mean of both) or `"fan_geo_avg"`
            (the geometric mean).
        distribution: `"truncated_normal"`, truncated at two standard deviations of a normal distribution that
            is wider by 1 / 0.87962566103423978, so that the variance is as stated; `"untruncated_normal"`; or
            `"uniform"`, on `[-limit, limit)` with `limit = sqrt(3 * variance)`.
        in_axis: The axis, or the axes, of inputs. Negative axes count from the end.
        out_axis: The axis, or the axes, of outputs.
        batch_axis: The axis, or the axes, along which independent kernels are stacked.
        groups: The number of groups of a grouped convolution, whose kernel is `(..., in / groups, out)`; at
            least 1, and a divisor of *out*.
        **options: As for every initializer, see `Initializer`. `block_axis=None` means `out_axis`.

    Returns:
        A new array, or `out`.

    Raises:
        ValueError: If `scale` is out of range, `mode` or `distribution` is unknown, an axis is out of range
            or named twice (so if the shape has no fans), or *out* is not divisible by `groups`.
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
    scaling = _core.variance_scaling(scale, mode, distribution, in_axis, out_axis, batch_axis, groups)
    return scaling.fill_with(shape, options)


def _preset(name: str, shape: Shape, options: Any) -> Array:
    if _AXES.keys().isdisjoint(options):
        return _PRESETS[name].fill_with(shape, options)
    axes = {axis: options.pop(axis, default) for axis, default in _AXES.items()}
    return _core.variance_scaling(*PRESETS[name], **axes).fill_with(shape, options)


def glorot_uniform(shape: Shape, **options: Unpack[ScalingOptions]) -> Array:
    """Samples a uniform distribution of variance `2 / (fan_in + fan_out)`.

    Uniform on `[-limit, limit)` with `limit = sqrt(6 / (fan_in + fan_out))`; also known as Xavier
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
    return _preset("glorot_uniform", shape, options)


def glorot_normal(shape: Shape, **options: Unpack[ScalingOptions]) -> Array:
    """Samples a truncated normal distribution of variance `2 / (fan_in + fan_out)`.

    Also known as Xavier initialization. This is `variance_scaling(shape, 1.0, "fan_avg",
    "truncated_normal")`: arguments, ranges, result and errors are described there.

    Example:
        >>> import fastinit
        >>> fastinit.glorot_normal((3, 3, 16, 32), seed=0, stream="conv1").shape
        (3, 3, 16, 32)

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
        AISTATS 2010.
    """
    return _preset("glorot_normal", shape, options)


def he_uniform(shape: Shape, **options: Unpack[ScalingOptions]) -> Array:
    """Samples a uniform distribution of variance `2 / fan_in`.

    Uniform on `[-limit, limit)` with `limit = sqrt(6 / fan_in)`; also known as Kaiming initialization. This
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
    return _preset("he_uniform", shape, options)


def he_normal(shape: Shape, **options: Unpack[ScalingOptions]) -> Array:
    """Samples a truncated normal distribution of variance `2 / fan_in`.

    Also known as Kaiming initialization. This is `variance_scaling(shape, 2.0, "fan_in",
    "truncated_normal")`: arguments, ranges, result and errors are described there.

    Example:
        >>> import fastinit
        >>> fastinit.he_normal((3, 3, 16, 32), seed=0, stream="conv1").shape
        (3, 3, 16, 32)

    References:
        He, Zhang, Ren and Sun, "Delving deep into rectifiers: surpassing human-level performance on ImageNet
        classification", ICCV 2015, arXiv:1502.01852.
    """
    return _preset("he_normal", shape, options)


def lecun_uniform(shape: Shape, **options: Unpack[ScalingOptions]) -> Array:
    """Samples a uniform distribution of variance `1 / fan_in`.

    Uniform on `[-limit, limit)` with `limit = sqrt(3 / fan_in)`. This is `variance_scaling(shape, 1.0,
    "fan_in", "uniform")`: arguments, ranges, result and errors are described there.

    Example:
        >>> import fastinit
        >>> fastinit.lecun_uniform((3, 3, 16, 32), seed=0, stream="conv1").shape
        (3, 3, 16, 32)

    References:
        LeCun, Bottou, Orr and Mueller, "Efficient BackProp", in Neural Networks: Tricks of the Trade, 1998.
    """
    return _preset("lecun_uniform", shape, options)


def lecun_normal(shape: Shape, **options: Unpack[ScalingOptions]) -> Array:
    """Samples a truncated normal distribution of variance `1 / fan_in`.

    This is `variance_scaling(shape, 1.0, "fan_in", "truncated_normal")`: arguments, ranges, result and errors
    are described there.

    Example:
        >>> import fastinit
        >>> fastinit.lecun_normal((3, 3, 16, 32), seed=0, stream="conv1").shape
        (3, 3, 16, 32)

    References:
        LeCun, Bottou, Orr and Mueller, "Efficient BackProp", in Neural Networks: Tricks of the Trade, 1998.
    """
    return _preset("lecun_normal", shape, options)


def _show_options() -> None:
    """Lets `inspect.signature` show the arguments that are typed as `**options`."""
    _, _, *call = inspect.signature(Initializer.__call__).parameters.values()
    scaling = inspect.signature(VarianceScaling).parameters
    for name in NAMES:
        function = globals()[name]
        signature = inspect.signature(function)
        own = [one for one in signature.parameters.values() if one.kind is not one.VAR_KEYWORD]
        axes = [scaling[axis] for axis in _AXES if name in PRESETS]
        blocks = scaling["blocks"], scaling["block_axis"]
        function.__signature__ = signature.replace(parameters=[*own, *axes, *call, *blocks])


_ZEROS, _ONES = _core.constant(0.0), _core.constant(1.0)
_AXES: dict[str, Any] = VarianceScaling.__init__.__kwdefaults__ or {}
_PRESETS = {name: _core.variance_scaling(*preset, **_AXES) for name, preset in PRESETS.items()}

_show_options()
