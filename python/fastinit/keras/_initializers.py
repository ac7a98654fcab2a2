"""The classes: those of Keras, sampled by fastinit, and three that Keras does not have."""

from __future__ import annotations

import inspect
from typing import TYPE_CHECKING, Any, TypeVar

import keras
from keras import initializers

import fastinit

from ._private import RandomInitializer
from ._sample import EXTRAS, PARAMETERS, Sampled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastinit._typing import Blocks

_C = TypeVar("_C", bound=type)


def _register(cls: _C) -> _C:
    # Saved files name the module. They must load wherever in the package the class is defined.
    cls.__module__ = "fastinit.keras"
    if not any(base in PARAMETERS for base in cls.__mro__):
        own = [name for name in inspect.signature(cls).parameters if name != "seed" and name not in EXTRAS]
        PARAMETERS[cls] = tuple(own)
    registered: _C = keras.saving.register_keras_serializable(package="fastinit")(cls)
    return registered


# Constants


class _Fixed(Sampled):
    """An initializer without parameters."""

    def __init__(self, *, blocks: Blocks = 1, block_axis: int | None = None) -> None:
        self._set_blocks(blocks, block_axis)


@_register
class Zeros(_Fixed, initializers.Zeros):
    """All zeros.

    Args:
        blocks, block_axis: As for `RandomNormal`.

    Example:
        >>> import keras, fastinit.keras
        >>> norm = keras.layers.LayerNormalization(beta_initializer=fastinit.keras.Zeros())
    """


@_register
class Ones(_Fixed, initializers.Ones):
    """All ones.

    Args:
        blocks, block_axis: As for `RandomNormal`.

    Example:
        >>> import keras, fastinit.keras
        >>> norm = keras.layers.LayerNormalization(gamma_initializer=fastinit.keras.Ones())
    """


@_register
class Constant(Sampled, initializers.Constant):
    """All elements equal.

    Args:
        value: A number; or an array, which Keras broadcasts to the shape.
        blocks, block_axis: As for `RandomNormal`.

    Example:
        >>> import fastinit.keras
        >>> float(fastinit.keras.Constant(0.5)((2, 2))[1, 1])
        0.5
    """

    def __init__(self, value: Any = 0.0, *, blocks: Blocks = 1, block_axis: int | None = None) -> None:
        super().__init__(value=value)
        self._set_blocks(blocks, block_axis)


@_register
class Identity(Sampled, initializers.Identity):
    """The identity matrix, square or rectangular, times a gain.

    Args:
        gain: The elements of the diagonal.
        blocks, block_axis: As for `RandomNormal`.

    Raises:
        ValueError: When called, if the shape does not have two dimensions.

    Example:
        >>> import keras, fastinit.keras
        >>> recurrent = fastinit.keras.Identity(0.5)
        >>> layer = keras.layers.SimpleRNN(8, activation="relu", recurrent_initializer=recurrent)
    """

    def __init__(self, gain: float = 1.0, *, blocks: Blocks = 1, block_axis: int | None = None) -> None:
        super().__init__(gain=gain)
        self._set_blocks(blocks, block_axis)


@_register
class Dirac(Sampled, initializers.Initializer):
    """The convolution kernel that passes its input through, see `fastinit.dirac`.

    Args:
        groups: The number of groups of the convolution; at least 1.
        blocks, block_axis: As for `RandomNormal`.

    Raises:
        ValueError: If `groups` is less than 1; when called, if the shape does not have three to five
            dimensions, or `groups` does not divide the number of outputs.

    Example:
        >>> import keras, fastinit.keras
        >>> layer = keras.layers.Conv2D(16, 3, kernel_initializer=fastinit.keras.Dirac())
    """

    def __init__(self, groups: int = 1, *, blocks: Blocks = 1, block_axis: int | None = None) -> None:
        self.groups = fastinit.Dirac(groups).groups
        self._set_blocks(blocks, block_axis)


# Distributions


@_register
class RandomNormal(Sampled, initializers.RandomNormal):
    """Normal values.

    Args:
        mean: The mean.
        stddev: The standard deviation.
        seed: An int: every call with the same shape gives the same values. A `keras.random.SeedGenerator`:
            every call gives other values. `None`: an int that is drawn once, when the initializer is made.
        blocks: The number of equal blocks that the tensor consists of, such as the 4 gates of an LSTM; or the
            sizes of the blocks, which add up to the size of `block_axis`. Block `k` has the fans and the
            values of a separate tensor with the stream `fastinit.block_stream(stream, k)`.
        block_axis: The axis along which the blocks lie; `None` for the axis of the outputs where
            `output_axes` is one axis, otherwise the last axis.

    Raises:
        ValueError: If `seed` or `blocks` is invalid; when called, if the shape cannot be divided into the
            blocks.

    Example:
        >>> import keras, fastinit.keras
        >>> layer = keras.layers.Embedding(100, 16, fastinit.keras.RandomNormal(stddev=0.02))
    """

    def __init__(
        self,
        mean: float = 0.0,
        stddev: float = 0.05,
        seed: Any = None,
        *,
        blocks: Blocks = 1,
        block_axis: int | None = None,
    ) -> None:
        super().__init__(mean=mean, stddev=stddev, seed=seed)
        self._set_blocks(blocks, block_axis)


@_register
class RandomUniform(Sampled, initializers.RandomUniform):
    """Uniform values on `[minval, maxval)`.

    Args:
        minval: The lower end, included.
        maxval: The upper end, excluded.
        seed, blocks, block_axis: As for `RandomNormal`.

    Raises:
        ValueError: As for `RandomNormal`.

    Example:
        >>> import keras, fastinit.keras
        >>> layer = keras.layers.Embedding(100, 16, fastinit.keras.RandomUniform(-0.1, 0.1))
    """

    def __init__(
        self,
        minval: float = -0.05,
        maxval: float = 0.05,
        seed: Any = None,
        *,
        blocks: Blocks = 1,
        block_axis: int | None = None,
    ) -> None:
        super().__init__(minval=minval, maxval=maxval, seed=seed)
        self._set_blocks(blocks, block_axis)


@_register
class TruncatedNormal(Sampled, initializers.TruncatedNormal):
    """Normal values between two bounds, by default two standard deviations from the mean, as in Keras.

    Args:
        mean: The mean before truncation.
        stddev: The standard deviation before truncation.
        seed, blocks, block_axis: As for `RandomNormal`.
        lower: The lower bound, in standard deviations from the mean.
        upper: The upper bound, in standard deviations from the mean.

    Raises:
        ValueError: As for `RandomNormal`; or if `lower` is not less than `upper`.

    Example:
        >>> import numpy as np, fastinit.keras
        >>> values = np.asarray(fastinit.keras.TruncatedNormal(stddev=0.02)((64, 64)))
        >>> bool(abs(values).max() <= 0.04)
        True
    """

    def __init__(
        self,
        mean: float = 0.0,
        stddev: float = 0.05,
        seed: Any = None,
        *,
        lower: float = -2.0,
        upper: float = 2.0,
        blocks: Blocks = 1,
        block_axis: int | None = None,
    ) -> None:
        super().__init__(mean=mean, stddev=stddev, seed=seed)
        checked = fastinit.TruncatedNormal(lower=lower, upper=upper)
        self.lower, self.upper = checked.lower, checked.upper
        self._set_blocks(blocks, block_axis)


@_register
class Sparse(Sampled, RandomInitializer):
    """Normal values, with the same number of zeros in each column; see `fastinit.sparse`.

    Args:
        sparsity: The share of zeros in each column; from 0 to 1.
        stddev: The standard deviation of the other elements.
        seed, blocks, block_axis: As for `RandomNormal`.

    Raises:
        ValueError: If an argument is out of range; when called, if the shape does not have two dimensions.

    Example:
        >>> import numpy as np, fastinit.keras
        >>> values = np.asarray(fastinit.keras.Sparse(0.75)((8, 4)))
        >>> int((values == 0).sum())
        24
    """

    def __init__(
        self,
        sparsity: float,
        stddev: float = 0.01,
        seed: Any = None,
        *,
        blocks: Blocks = 1,
        block_axis: int | None = None,
    ) -> None:
        super().__init__(seed=seed)
        checked = fastinit.Sparse(sparsity, stddev)
        self.sparsity, self.stddev = checked.sparsity, checked.stddev
        self._set_blocks(blocks, block_axis)


# Matrices


@_register
class Orthogonal(Sampled, initializers.Orthogonal):
    """A random orthogonal matrix: its rows or its columns, whichever are fewer, are orthonormal.

    A tensor of more than two dimensions is taken as a matrix whose columns lie along the last axis.

    Args:
        gain: The factor that multiplies the matrix.
        seed, blocks, block_axis: As for `RandomNormal`; each block is an orthogonal matrix.

    Raises:
        ValueError: As for `RandomNormal`; when called, if the shape has fewer than two dimensions.

    Example:
        >>> import keras, fastinit.keras
        >>> gates = fastinit.keras.Orthogonal(blocks=4)
        >>> layer = keras.layers.LSTM(128, recurrent_initializer=gates)
    """

    def __init__(
        self, gain: float = 1.0, seed: Any = None, *, blocks: Blocks = 1, block_axis: int | None = None
    ) -> None:
        super().__init__(gain=gain, seed=seed)
        self._set_blocks(blocks, block_axis)


@_register
class DeltaOrthogonal(Sampled, RandomInitializer):
    """The kernel of a convolution that preserves norms, see `fastinit.delta_orthogonal`.

    Args:
        gain: The factor that multiplies its matrix.
        seed, blocks, block_axis: As for `RandomNormal`.

    Raises:
        ValueError: If an argument is out of range; when called, if the shape is not `(*spatial, in, out)`
            with one to three spatial axes, or `in` is greater than `out`.

    Example:
        >>> import keras, fastinit.keras
        >>> layer = keras.layers.Conv2D(64, 3, kernel_initializer=fastinit.keras.DeltaOrthogonal())
    """

    def __init__(
        self, gain: float = 1.0, seed: Any = None, *, blocks: Blocks = 1, block_axis: int | None = None
    ) -> None:
        super().__init__(seed=seed)
        self.gain = fastinit.DeltaOrthogonal(gain).gain
        self._set_blocks(blocks, block_axis)


# Variance scaling


def _given(
    input_axes: Sequence[int] | None, output_axes: Sequence[int] | None
) -> dict[str, Sequence[int] | None]:
    """The axes, if there are any: Keras before 3.15 has no such parameters."""
    if input_axes is None and output_axes is None:
        return {}
    return {"input_axes": input_axes, "output_axes": output_axes}


@_register
class VarianceScaling(Sampled, initializers.VarianceScaling):
    """Values with mean 0 and variance `scale / max(1, fan)`.

    Args:
        scale: The variance times the fan; positive.
        mode: The fan: `"fan_in"`, `"fan_out"` or `"fan_avg"`.
        distribution: `"truncated_normal"` (in Keras also `"normal"`), which is truncated at two standard
            deviations and has this variance after truncation; `"untruncated_normal"`; or `"uniform"`.
        seed: As for `RandomNormal`.
        input_axes: The axes of the inputs; `None` for Keras's rule.
        output_axes: The axes of the outputs; `None` for Keras's rule, also if only the other is given.
        blocks, block_axis: As for `RandomNormal`.

    Raises:
        ValueError: If an argument is out of range; when called, if the shape cannot be divided into the
            blocks.

    Example:
        >>> import fastinit.keras
        >>> fused = fastinit.keras.VarianceScaling(mode="fan_avg", distribution="uniform", blocks=3)
        >>> tuple(fused((64, 3 * 64)).shape)
        (64, 192)
    """

    def __init__(
        self,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        seed: Any = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
        *,
        blocks: Blocks = 1,
        block_axis: int | None = None,
    ) -> None:
        axes = _given(input_axes, output_axes)
        super().__init__(scale=scale, mode=mode, distribution=distribution, seed=seed, **axes)
        self._set_blocks(blocks, block_axis)


class _Preset(Sampled):
    """Variance scaling with scale, mode and distribution fixed, by the class of Keras that comes next."""

    def __init__(
        self,
        seed: Any = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
        *,
        blocks: Blocks = 1,
        block_axis: int | None = None,
    ) -> None:
        super().__init__(seed=seed, **_given(input_axes, output_axes))  # type: ignore[call-arg]
        self._set_blocks(blocks, block_axis)


@_register
class GlorotUniform(_Preset, initializers.GlorotUniform):
    """Uniform values with variance `2 / (fan_in + fan_out)`, also called Xavier initialization.

    Arguments and errors are those of `VarianceScaling`; the source is at `fastinit.glorot_uniform`.

    Example:
        >>> import keras, fastinit.keras
        >>> layer = keras.layers.Dense(64, "tanh", kernel_initializer=fastinit.keras.GlorotUniform())
    """


@_register
class GlorotNormal(_Preset, initializers.GlorotNormal):
    """Truncated normal values with variance `2 / (fan_in + fan_out)`, also called Xavier initialization.

    Arguments and errors are those of `VarianceScaling`; the source is at `fastinit.glorot_normal`.

    Example:
        >>> import keras, fastinit.keras
        >>> layer = keras.layers.Dense(64, "tanh", kernel_initializer=fastinit.keras.GlorotNormal())
    """


@_register
class HeUniform(_Preset, initializers.HeUniform):
    """Uniform values with variance `2 / fan_in`, also called Kaiming initialization.

    Arguments and errors are those of `VarianceScaling`; the source is at `fastinit.he_uniform`.

    Example:
        >>> import keras, fastinit.keras
        >>> layer = keras.layers.Dense(64, "relu", kernel_initializer=fastinit.keras.HeUniform())
    """


@_register
class HeNormal(_Preset, initializers.HeNormal):
    """Truncated normal values with variance `2 / fan_in`, also called Kaiming initialization.

    Arguments and errors are those of `VarianceScaling`; the source is at `fastinit.he_normal`.

    Example:
        >>> import keras, fastinit.keras
        >>> layer = keras.layers.Dense(64, "relu", kernel_initializer=fastinit.keras.HeNormal())
    """


@_register
class LecunUniform(_Preset, initializers.LecunUniform):
    """Uniform values with variance `1 / fan_in`, for SELU for example.

    Arguments and errors are those of `VarianceScaling`; the source is at `fastinit.lecun_uniform`.

    Example:
        >>> import keras, fastinit.keras
        >>> layer = keras.layers.Dense(64, "selu", kernel_initializer=fastinit.keras.LecunUniform())
    """


@_register
class LecunNormal(_Preset, initializers.LecunNormal):
    """Truncated normal values with variance `1 / fan_in`, for SELU for example.

    Arguments and errors are those of `VarianceScaling`; the source is at `fastinit.lecun_normal`.

    Example:
        >>> import keras, fastinit.keras
        >>> layer = keras.layers.Dense(64, "selu", kernel_initializer=fastinit.keras.LecunNormal())
    """
