"""The classes: those of Keras, sampled by fastinit, and some that Keras does not have."""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING, Any, TypeVar

import keras
from keras import initializers
from keras.src.initializers.random_initializers import RandomInitializer

import fastinit

from ._sample import sample

if TYPE_CHECKING:
    from collections.abc import Sequence

_C = TypeVar("_C", bound=type)


def _register(cls: _C) -> _C:
    # Files name the module. They shall load, wherever the class may stand in it.
    cls.__module__ = "fastinit.keras"
    registered: _C = keras.saving.register_keras_serializable(package="fastinit")(cls)
    return registered


class _Sampled:
    """An initializer that fastinit samples."""

    def __call__(self, shape: Sequence[int], dtype: Any = None, layout: Any = None) -> Any:
        """Makes a tensor.

        Args:
            shape: The shape of the tensor.
            dtype: Its dtype; `None` for `keras.config.floatx()`.
            layout: With JAX, how the tensor is distributed: a `keras.distribution.TensorLayout` or a
                `jax.sharding.Sharding`. Each process makes its own shards only.

        Returns:
            A tensor of the backend.

        Raises:
            ValueError: As Keras does; or if the tensor does not have so many blocks.
        """
        return sample(self, shape, dtype, layout)


class _InBlocks(_Sampled):
    """One that can make a tensor in blocks."""

    blocks: int
    block_axis: int

    def _set_blocks(self, blocks: int, block_axis: int) -> None:
        self.blocks, self.block_axis = operator.index(blocks), operator.index(block_axis)
        if self.blocks < 1:
            raise ValueError(f"Argument `blocks` must be at least 1. Received: blocks={blocks}")

    def get_config(self) -> dict[str, Any]:
        """The configuration: that of Keras, and where there are blocks, those."""
        config: dict[str, Any] = super().get_config()  # type: ignore[misc]
        if self.blocks != 1:
            config.update(blocks=self.blocks, block_axis=self.block_axis)
        return config


def _given(
    input_axes: Sequence[int] | None, output_axes: Sequence[int] | None
) -> dict[str, Sequence[int] | None]:
    """The axes, if there are any: Keras before 3.15 knows none."""
    if input_axes is None and output_axes is None:
        return {}
    return {"input_axes": input_axes, "output_axes": output_axes}


class _Preset(_InBlocks):
    """A variance scaling of which only the axes are left open."""

    def __init__(
        self,
        seed: Any = None,
        input_axes: Sequence[int] | None = None,
        output_axes: Sequence[int] | None = None,
        *,
        blocks: int = 1,
        block_axis: int = -1,
    ) -> None:
        super().__init__(seed=seed, **_given(input_axes, output_axes))  # type: ignore[call-arg]
        self._set_blocks(blocks, block_axis)


# Constants


@_register
class Zeros(_Sampled, initializers.Zeros):
    """All zeros.

    Example:
        >>> import keras, fastinit.keras
        >>> norm = keras.layers.LayerNormalization(beta_initializer=fastinit.keras.Zeros())
    """


@_register
class Ones(_Sampled, initializers.Ones):
    """All ones.

    Example:
        >>> import keras, fastinit.keras
        >>> norm = keras.layers.LayerNormalization(gamma_initializer=fastinit.keras.Ones())
    """


@_register
class Constant(_Sampled, initializers.Constant):
    """All elements the same.

    Args:
        value: A number.

    Example:
        >>> import fastinit.keras
        >>> float(fastinit.keras.Constant(0.5)((2, 2))[1, 1])
        0.5
    """


@_register
class Identity(_Sampled, initializers.Identity):
    """The identity matrix, square or not.

    Args:
        gain: The elements of the diagonal.

    Raises:
        ValueError: When called, if the shape does not have two dimensions.

    Example:
        >>> import keras, fastinit.keras
        >>> recurrent = fastinit.keras.Identity(0.5)
        >>> layer = keras.layers.SimpleRNN(8, activation="relu", recurrent_initializer=recurrent)
    """


@_register
class Dirac(_Sampled, initializers.Initializer):
    """The convolution kernel that passes its input through, as `fastinit.dirac`.

    Args:
        groups: The number of groups of the convolution.

    Raises:
        ValueError: If `groups` is less than 1; when called, if the shape does not have three to five
            dimensions, or `groups` does not divide the outputs.

    Example:
        >>> import keras, fastinit.keras
        >>> layer = keras.layers.Conv2D(16, 3, kernel_initializer=fastinit.keras.Dirac())
    """

    def __init__(self, groups: int = 1) -> None:
        self.groups = fastinit.Dirac(groups).groups

    def law(self) -> fastinit.Initializer:
        """The initializer of fastinit."""
        return fastinit.Dirac(self.groups)

    def get_config(self) -> dict[str, Any]:
        """The configuration."""
        return {"groups": self.groups}


# Distributions


@_register
class RandomNormal(_InBlocks, initializers.RandomNormal):
    """Normal values.

    Args:
        mean: The mean.
        stddev: The standard deviation.
        seed: An int, which gives the same values at each call; a `keras.random.SeedGenerator`, which does
            not; or `None` for an int that is drawn once, now.
        blocks: The number of blocks that a tensor is made of, as the gates of an LSTM: each has the values
            of a tensor of its own with the stream `fastinit.block_stream(stream, k)`.
        block_axis: The axis along which they lie side by side.

    Raises:
        ValueError: If `seed` is something else, or `blocks` is less than 1; when called, if there are no so
            many blocks.

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
        blocks: int = 1,
        block_axis: int = -1,
    ) -> None:
        super().__init__(mean=mean, stddev=stddev, seed=seed)
        self._set_blocks(blocks, block_axis)


@_register
class RandomUniform(_InBlocks, initializers.RandomUniform):
    """Uniform values on `[minval, maxval)`.

    Args:
        minval: The least value.
        maxval: The bound above all values.
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
        blocks: int = 1,
        block_axis: int = -1,
    ) -> None:
        super().__init__(minval=minval, maxval=maxval, seed=seed)
        self._set_blocks(blocks, block_axis)


@_register
class TruncatedNormal(_InBlocks, initializers.TruncatedNormal):
    """Normal values, of which those beyond two standard deviations do not occur.

    Args:
        mean: The mean.
        stddev: The standard deviation before truncation.
        seed, blocks, block_axis: As for `RandomNormal`.

    Raises:
        ValueError: As for `RandomNormal`.

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
        blocks: int = 1,
        block_axis: int = -1,
    ) -> None:
        super().__init__(mean=mean, stddev=stddev, seed=seed)
        self._set_blocks(blocks, block_axis)


@_register
class Sparse(_Sampled, RandomInitializer):
    """A matrix with the same number of zeros in each column, and normal values elsewhere.

    Args:
        sparsity: The share of zeros in each column; from 0 to 1.
        stddev: The standard deviation of the other elements.
        seed: As for `RandomNormal`.

    Raises:
        ValueError: If an argument is out of range; when called, if the shape does not have two dimensions.

    Example:
        >>> import numpy as np, fastinit.keras
        >>> values = np.asarray(fastinit.keras.Sparse(0.75)((8, 4)))
        >>> int((values == 0).sum())
        24
    """

    def __init__(self, sparsity: float, stddev: float = 0.01, seed: Any = None) -> None:
        checked = fastinit.Sparse(sparsity, stddev)
        self.sparsity, self.stddev = checked.sparsity, checked.stddev
        super().__init__(seed=seed)

    def law(self) -> fastinit.Initializer:
        """The initializer of fastinit."""
        return fastinit.Sparse(self.sparsity, self.stddev)

    def get_config(self) -> dict[str, Any]:
        """The configuration."""
        return {**super().get_config(), "sparsity": self.sparsity, "stddev": self.stddev}


# Matrices


@_register
class Orthogonal(_InBlocks, initializers.Orthogonal):
    """A random orthogonal matrix: orthonormal rows or columns, whichever are fewer.

    A tensor of more than two dimensions is seen as a matrix, whose columns are along the last axis.

    Args:
        gain: What the matrix is multiplied by.
        seed: As for `RandomNormal`.
        blocks: The number of matrices that a tensor is made of, as the gates of an LSTM.
        block_axis: The axis along which they lie side by side.

    Raises:
        ValueError: As for `RandomNormal`; when called, if the shape has fewer than two dimensions.

    Example:
        >>> import keras, fastinit.keras
        >>> gates = fastinit.keras.Orthogonal(blocks=4)
        >>> layer = keras.layers.LSTM(128, recurrent_initializer=gates)
    """

    def __init__(self, gain: float = 1.0, seed: Any = None, *, blocks: int = 1, block_axis: int = -1) -> None:
        super().__init__(gain=gain, seed=seed)
        self._set_blocks(blocks, block_axis)


@_register
class DeltaOrthogonal(_Sampled, RandomInitializer):
    """The kernel of a convolution that keeps norms, as `fastinit.delta_orthogonal`.

    Args:
        gain: What its matrix is multiplied by.
        seed: As for `RandomNormal`.

    Raises:
        ValueError: If an argument is out of range; when called, if the shape is not `(*spatial, in, out)`
            with one to three spatial axes, and `in` at most `out`.

    Example:
        >>> import keras, fastinit.keras
        >>> layer = keras.layers.Conv2D(64, 3, kernel_initializer=fastinit.keras.DeltaOrthogonal())
    """

    def __init__(self, gain: float = 1.0, seed: Any = None) -> None:
        self.gain = fastinit.DeltaOrthogonal(gain).gain
        super().__init__(seed=seed)

    def law(self) -> fastinit.Initializer:
        """The initializer of fastinit."""
        return fastinit.DeltaOrthogonal(self.gain)

    def get_config(self) -> dict[str, Any]:
        """The configuration."""
        return {**super().get_config(), "gain": self.gain}


# Variance scaling


@_register
class VarianceScaling(_InBlocks, initializers.VarianceScaling):
    """Values with mean 0 and variance `scale / max(1, fan)`.

    Args:
        scale: The variance times the fan; positive.
        mode: The fan: `"fan_in"`, `"fan_out"` or `"fan_avg"`.
        distribution: `"truncated_normal"`, also known as `"normal"`, which is cut at two standard deviations
            and has the variance after that; `"untruncated_normal"`; or `"uniform"`.
        seed: As for `RandomNormal`.
        input_axes: The axes of inputs; `None` for Keras's rule.
        output_axes: The axes of outputs.
        blocks: The number of blocks that a tensor is made of, as the gates of an LSTM. Each has its own fans,
            and the values of a tensor of its own with the stream `fastinit.block_stream(stream, k)`.
        block_axis: The axis along which they lie side by side.

    Raises:
        ValueError: If an argument is out of range; when called, if there are no so many blocks.

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
        blocks: int = 1,
        block_axis: int = -1,
    ) -> None:
        super().__init__(
            scale=scale,
            mode=mode,
            distribution=distribution,
            seed=seed,
            **_given(input_axes, output_axes),
        )
        self._set_blocks(blocks, block_axis)


@_register
class GlorotUniform(_Preset, initializers.GlorotUniform):
    """Uniform values with variance `2 / (fan_in + fan_out)`, also known as Xavier initialization.

    Args:
        seed, input_axes, output_axes, blocks, block_axis: As for `VarianceScaling`.

    Raises:
        ValueError: As for `VarianceScaling`.

    Example:
        >>> import keras, fastinit.keras
        >>> layer = keras.layers.Dense(64, "tanh", kernel_initializer=fastinit.keras.GlorotUniform())
    """


@_register
class GlorotNormal(_Preset, initializers.GlorotNormal):
    """Truncated normal values with variance `2 / (fan_in + fan_out)`, also known as Xavier initialization.

    Args:
        seed, input_axes, output_axes, blocks, block_axis: As for `VarianceScaling`.

    Raises:
        ValueError: As for `VarianceScaling`.

    Example:
        >>> import keras, fastinit.keras
        >>> layer = keras.layers.Dense(64, "tanh", kernel_initializer=fastinit.keras.GlorotNormal())
    """


@_register
class HeUniform(_Preset, initializers.HeUniform):
    """Uniform values with variance `2 / fan_in`, also known as Kaiming initialization.

    Args:
        seed, input_axes, output_axes, blocks, block_axis: As for `VarianceScaling`.

    Raises:
        ValueError: As for `VarianceScaling`.

    Example:
        >>> import keras, fastinit.keras
        >>> layer = keras.layers.Dense(64, "relu", kernel_initializer=fastinit.keras.HeUniform())
    """


@_register
class HeNormal(_Preset, initializers.HeNormal):
    """Truncated normal values with variance `2 / fan_in`, also known as Kaiming initialization.

    Args:
        seed, input_axes, output_axes, blocks, block_axis: As for `VarianceScaling`.

    Raises:
        ValueError: As for `VarianceScaling`.

    Example:
        >>> import keras, fastinit.keras
        >>> layer = keras.layers.Dense(64, "relu", kernel_initializer=fastinit.keras.HeNormal())
    """


@_register
class LecunUniform(_Preset, initializers.LecunUniform):
    """Uniform values with variance `1 / fan_in`, for SELU, among others.

    Args:
        seed, input_axes, output_axes, blocks, block_axis: As for `VarianceScaling`.

    Raises:
        ValueError: As for `VarianceScaling`.

    Example:
        >>> import keras, fastinit.keras
        >>> layer = keras.layers.Dense(64, "selu", kernel_initializer=fastinit.keras.LecunUniform())
    """


@_register
class LecunNormal(_Preset, initializers.LecunNormal):
    """Truncated normal values with variance `1 / fan_in`, for SELU, among others.

    Args:
        seed, input_axes, output_axes, blocks, block_axis: As for `VarianceScaling`.

    Raises:
        ValueError: As for `VarianceScaling`.

    Example:
        >>> import keras, fastinit.keras
        >>> layer = keras.layers.Dense(64, "selu", kernel_initializer=fastinit.keras.LecunNormal())
    """
