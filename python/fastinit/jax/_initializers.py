"""The initializers of `jax.nn.initializers`, whose samples come from fastinit.

Whether a call is right, and the shape and dtype of its result, is decided by JAX: its own initializer is
evaluated abstractly, once for each shape and dtype. So errors and warnings are JAX's, of any version. What
fastinit does not make is made by JAX: complex numbers, integers, and parameters without a distribution, such
as a negative standard deviation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jax.nn import initializers as peers

import fastinit
from fastinit._registry import PRESETS

from ._primitive import DTYPES, sample

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from jax.nn.initializers import Initializer

    Axes = int | Sequence[int]

# The dtypes of most calls. What JAX makes of them depends on nothing but `jax_enable_x64`.
_PLAIN = {None, np.float32, np.float16, jnp.float32, jnp.float16, jnp.bfloat16}
_PLAIN |= {np.dtype(jnp.float32), np.dtype(jnp.float16), np.dtype(jnp.bfloat16)}
# The number of words of a key of each implementation of JAX.
_WORDS = {"threefry2x32": (2,), "rbg": (4,), "unsafe_rbg": (4,)}


def uniform(scale: Any = 1e-2, dtype: Any = None) -> Initializer:
    """An initializer with a uniform distribution on [0, scale).

    Args:
        scale: The upper bound.
        dtype: The dtype of calls without one; `None` for JAX's default, float32 or, with `jax_enable_x64`,
            float64.

    Returns:
        A function of a key, a shape, a dtype and an `out_sharding`, as those of `jax.nn.initializers` are.

    Example:
        >>> import jax, fastinit, fastinit.jax
        >>> bias = fastinit.jax.uniform(0.1)(jax.random.key(7), (64,))
        >>> bool((bias == fastinit.random_uniform(64, 0.0, 0.1, seed=7)).all())
        True
    """
    return _scaled(
        peers.uniform(scale, dtype), dtype, scale, lambda scale: fastinit.RandomUniform(0.0, scale)
    )


def normal(stddev: Any = 1e-2, dtype: Any = None) -> Initializer:
    """An initializer with a normal distribution of mean 0.

    Args:
        stddev: The standard deviation.
        dtype: As for `uniform`.

    Returns:
        As for `uniform`.

    Example:
        >>> import jax, fastinit, fastinit.jax
        >>> kernel = fastinit.jax.normal(0.02)(jax.random.key(7), (64, 128))
        >>> bool((kernel == fastinit.random_normal((64, 128), stddev=0.02, seed=7)).all())
        True
    """
    return _scaled(
        peers.normal(stddev, dtype), dtype, stddev, lambda stddev: fastinit.RandomNormal(0.0, stddev)
    )


def truncated_normal(
    stddev: Any = 1e-2, dtype: Any = None, lower: Any = -2.0, upper: Any = 2.0
) -> Initializer:
    """An initializer with a truncated normal distribution.

    Args:
        stddev: The standard deviation before truncation.
        dtype: As for `uniform`.
        lower: The lower bound, in standard deviations. Elements may be equal to a bound where it is a number
            of the dtype.
        upper: The upper bound, in standard deviations.

    Returns:
        As for `uniform`.

    Example:
        >>> import jax, fastinit, fastinit.jax
        >>> kernel = fastinit.jax.truncated_normal(0.02)(jax.random.key(7), (64, 128))
        >>> bool((kernel == fastinit.truncated_normal((64, 128), stddev=0.02, seed=7)).all())
        True
    """

    def make(stddev: float) -> fastinit.Initializer:
        return fastinit.TruncatedNormal(0.0, stddev, float(lower), float(upper))

    return _scaled(peers.truncated_normal(stddev, dtype, lower, upper), dtype, stddev, make)


def variance_scaling(
    scale: Any,
    mode: str,
    distribution: str,
    in_axis: Axes = -2,
    out_axis: Axes = -1,
    batch_axis: Axes = (),
    dtype: Any = None,
) -> Initializer:
    """An initializer with mean 0 and variance `scale / n`, where n depends on the shape.

    Args:
        scale: The factor.
        mode: What n is: `"fan_in"`, `"fan_out"`, `"fan_avg"`, their mean, or `"fan_geo_avg"`, their geometric
            mean.
        distribution: `"truncated_normal"`, at two standard deviations; `"normal"`; or `"uniform"`.
        in_axis: The axis, or axes, of the inputs.
        out_axis: The axis, or axes, of the outputs.
        batch_axis: Axes that count for neither fan. All other axes are those of a convolution, and count for
            both.
        dtype: As for `uniform`.

    Returns:
        As for `uniform`.

    Example:
        >>> import jax, fastinit, fastinit.jax
        >>> initializer = fastinit.jax.variance_scaling(2.0, "fan_in", "truncated_normal")
        >>> kernel = initializer(jax.random.key(7), (3, 3, 64, 128))
        >>> bool((kernel == fastinit.he_normal((3, 3, 64, 128), seed=7)).all())
        True
    """

    def make(scale: float) -> fastinit.Initializer:
        name = {"normal": "untruncated_normal", "untruncated_normal": "none"}.get(distribution, distribution)
        return fastinit.VarianceScaling(
            scale, mode, name, in_axis=in_axis, out_axis=out_axis, batch_axis=batch_axis
        )

    peer = peers.variance_scaling(scale, mode, distribution, in_axis, out_axis, batch_axis, dtype)
    return _scaled(peer, dtype, scale, make, lambda scale, dtype: jnp.sqrt(jnp.asarray(scale, dtype)))


def glorot_uniform(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Variance scaling, uniform, with `mode="fan_avg"` and `scale=1`; also `xavier_uniform`.

    Arguments and result are those of `variance_scaling`.

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
        AISTATS 2010.
    """
    return variance_scaling(*PRESETS["glorot_uniform"], in_axis, out_axis, batch_axis, dtype)


def glorot_normal(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Variance scaling, truncated normal, with `mode="fan_avg"` and `scale=1`; also `xavier_normal`.

    Arguments and result are those of `variance_scaling`.

    References:
        Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural networks",
        AISTATS 2010.
    """
    return variance_scaling(*PRESETS["glorot_normal"], in_axis, out_axis, batch_axis, dtype)


def lecun_uniform(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Variance scaling, uniform, with `mode="fan_in"` and `scale=1`.

    Arguments and result are those of `variance_scaling`.

    References:
        LeCun, Bottou, Orr and Müller, "Efficient BackProp", 1998.
    """
    return variance_scaling(*PRESETS["lecun_uniform"], in_axis, out_axis, batch_axis, dtype)


def lecun_normal(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Variance scaling, truncated normal, with `mode="fan_in"` and `scale=1`.

    Arguments and result are those of `variance_scaling`.

    References:
        LeCun, Bottou, Orr and Müller, "Efficient BackProp", 1998.
    """
    return variance_scaling(*PRESETS["lecun_normal"], in_axis, out_axis, batch_axis, dtype)


def he_uniform(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Variance scaling, uniform, with `mode="fan_in"` and `scale=2`; also `kaiming_uniform`.

    Arguments and result are those of `variance_scaling`.

    References:
        He, Zhang, Ren and Sun, "Delving deep into rectifiers", ICCV 2015.
    """
    return variance_scaling(*PRESETS["he_uniform"], in_axis, out_axis, batch_axis, dtype)


def he_normal(
    in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), dtype: Any = None
) -> Initializer:
    """Variance scaling, truncated normal, with `mode="fan_in"` and `scale=2`; also `kaiming_normal`.

    Arguments and result are those of `variance_scaling`.

    References:
        He, Zhang, Ren and Sun, "Delving deep into rectifiers", ICCV 2015.

    Example:
        >>> import jax, fastinit, fastinit.jax
        >>> kernel = fastinit.jax.he_normal()(jax.random.key(7), (64, 128))
        >>> bool((kernel == fastinit.he_normal((64, 128), seed=7)).all())
        True
    """
    return variance_scaling(*PRESETS["he_normal"], in_axis, out_axis, batch_axis, dtype)


def orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """An initializer of orthogonal matrices, uniformly distributed (Haar measure), times `scale`.

    A tensor is a matrix whose columns lie along `column_axis`; the shorter of rows and columns are
    orthonormal. Unlike JAX's, it also makes half precision, and takes an `out_sharding`.

    Args:
        scale: The factor.
        column_axis: The axis of the columns.
        dtype: As for `uniform`.

    Returns:
        As for `uniform`, for shapes of at least two dimensions.

    References:
        Saxe, McClelland and Ganguli, "Exact solutions to the nonlinear dynamics of learning in deep linear
        neural networks", ICLR 2014.

    Example:
        >>> import jax, fastinit, fastinit.jax
        >>> kernel = fastinit.jax.orthogonal()(jax.random.key(7), (64, 128))
        >>> bool((kernel == fastinit.orthogonal((64, 128), seed=7)).all())
        True
    """

    def make(scale: float) -> fastinit.Initializer:
        return fastinit.Orthogonal(scale, column_axis=column_axis)

    return _scaled(peers.orthogonal(scale, column_axis, dtype), dtype, scale, make, is_matrix=True)


def delta_orthogonal(scale: Any = 1.0, column_axis: int = -1, dtype: Any = None) -> Initializer:
    """An initializer of convolutions that are an orthogonal matrix at the center and zero elsewhere.

    Args:
        scale: The factor.
        column_axis: The axis of the columns; the distribution does not depend on it.
        dtype: As for `uniform`.

    Returns:
        As for `uniform`, for shapes of three to five dimensions whose last is at least as large as the one
        before.

    References:
        Xiao, Bahri, Sohl-Dickstein, Schoenholz and Pennington, "Dynamical isometry and a mean field theory of
        CNNs", ICML 2018.

    Example:
        >>> import jax, fastinit, fastinit.jax
        >>> kernel = fastinit.jax.delta_orthogonal()(jax.random.key(7), (3, 3, 64, 128))
        >>> bool((kernel == fastinit.delta_orthogonal((3, 3, 64, 128), seed=7)).all())
        True
    """
    peer = peers.delta_orthogonal(scale, column_axis, dtype)
    return _scaled(peer, dtype, scale, fastinit.DeltaOrthogonal, is_matrix=True)


def zeros_init() -> Initializer:
    """The initializer `zeros`, as Flax offers it."""
    return peers.zeros


def ones_init() -> Initializer:
    """The initializer `ones`, as Flax offers it."""
    return peers.ones


def _scaled(
    peer: Initializer,
    dtype: Any,
    scale: Any,
    make: Callable[[float], fastinit.Initializer],
    factor: Callable[[Any, Any], Any] = jnp.asarray,
    *,
    is_matrix: bool = False,
) -> Initializer:
    """The initializer that `make` gives for a scale; JAX's own if it gives none.

    Where the scale is not known yet because it is traced, samples of scale 1 are multiplied by `factor` of it
    and the dtype, so they are rounded twice.
    """
    is_traced = isinstance(scale, jax.core.Tracer)
    try:
        initializer = make(1.0 if is_traced else float(scale))
    except (TypeError, ValueError, OverflowError):
        return peer
    plain = _initializer(peer, dtype, initializer, is_matrix=is_matrix)
    if not is_traced:
        return plain

    def init(key: Any, shape: Any, dtype: Any = dtype, out_sharding: Any = None) -> Any:
        result = plain(key, shape, dtype, out_sharding)
        return result * factor(scale, result.dtype)

    return init


def _initializer(
    peer: Initializer, dtype: Any, initializer: fastinit.Initializer, *, is_matrix: bool
) -> Initializer:
    """A function that has the arguments of `peer` and samples by `initializer` where that is possible."""
    known: dict[Any, tuple[tuple[int, ...], np.dtype[Any]] | None] = {}

    def init(key: Any, shape: Any, dtype: Any = dtype, out_sharding: Any = None) -> Any:
        place = None
        if out_sharding is None and _is_plain(key, shape, dtype):
            place = shape, dtype, jax.config.jax_enable_x64
        if place in known:
            wanted = known[place]
        else:
            wanted = _wanted(peer, initializer, key, shape, dtype, out_sharding, is_matrix=is_matrix)
            if place is not None:
                known[place] = wanted
        if wanted is None:
            return peer(key, shape, dtype, out_sharding)
        shape, target = wanted
        if target in DTYPES:
            return sample(initializer, key, shape, target, out_sharding)
        # Formats of eight bits: float32, rounded once.
        return sample(initializer, key, shape, np.dtype(np.float32), out_sharding).astype(target)

    return init


def _is_plain(key: Any, shape: Any, dtype: Any) -> bool:
    """Whether JAX's answer for this shape and dtype holds for each call with them."""
    if not isinstance(key, jax.Array) or type(shape) is not tuple or not all(type(n) is int for n in shape):
        return False
    try:
        if dtype not in _PLAIN:
            return False
    except TypeError:  # not hashable
        return False
    if key.dtype == np.uint32:
        is_allowed = getattr(jax.config, "jax_legacy_prng_key", "allow") == "allow"
        return is_allowed and key.shape == _WORDS.get(jax.config.jax_default_prng_impl)
    return key.shape == () and jax.dtypes.issubdtype(key.dtype, jax.dtypes.prng_key)


def _wanted(
    peer: Initializer,
    initializer: fastinit.Initializer,
    key: Any,
    shape: Any,
    dtype: Any,
    out_sharding: Any,
    *,
    is_matrix: bool,
) -> tuple[tuple[int, ...], np.dtype[Any]] | None:
    """The shape and dtype of the result, or JAX's error; `None` if JAX has to make it."""
    asked = dtype
    if is_matrix:  # JAX factorizes no half precision, and takes no sharding.
        out_sharding = None
        target = np.dtype(jnp.zeros((), dtype).dtype)
        if jnp.issubdtype(target, jnp.floating) and target.itemsize < 4:
            asked = np.float32
    traced = jax.eval_shape(lambda: peer(key, shape, asked, out_sharding))
    if asked is dtype:
        target = np.dtype(traced.dtype)
    if target not in DTYPES and not (jnp.issubdtype(target, jnp.floating) and target.itemsize == 1):
        return None
    try:
        initializer.validate(traced.shape, target if target in DTYPES else np.float32)
    except (TypeError, ValueError):
        return None
    return traced.shape, target
