"""The initializers as objects: each class is the function of the same name with its own parameters bound."""

from __future__ import annotations

import inspect
import operator
from typing import TYPE_CHECKING, Any, NoReturn, TypeVar

from . import _core
from ._registry import PRESETS, class_name, parse_name

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from typing_extensions import Unpack

    from ._typing import (
        Array,
        Axes,
        Blocks,
        DTypeLike,
        InBlocks,
        Index,
        Sampled,
        Scaled,
        Seed,
        Shape,
        Stream,
    )
    from .theory.distributions import Distribution

_I = TypeVar("_I", bound="Initializer")


def _shared(*, seed: Seed = None, blocks: Blocks = 1, block_axis: int | None = None) -> None: ...


class _Signature:
    """The signature of a class, with the parameters that are typed as `**options`; computed on demand."""

    def __get__(self, instance: Initializer | None, cls: type[Initializer]) -> inspect.Signature:
        cls = next(base for base in cls.__mro__ if base.__module__ == __name__)
        if instance is not None or cls is Initializer:
            raise AttributeError("__signature__")
        init = VarianceScaling.__init__ if issubclass(cls, _Preset) else cls.__init__
        _, *parameters, _ = inspect.signature(init).parameters.values()
        own = [one for one in parameters if one.name not in vars(cls)]
        shared = inspect.signature(_shared).parameters.values()
        return inspect.Signature([*own, *(one for one in shared if cls._is_random or one.name != "seed")])


class Initializer:
    """An initializer with its parameters; the base of the classes in this module.

    Parameters have the names, the order and the defaults that they have in the function of the same name;
    `seed`, `blocks` and `block_axis` are parameters of every initializer, and keywords. Instances
    are immutable. Two are equal, and have the same hash, if they are of the same class and have the same
    parameters; they can be pickled, and rebuilt from `get_config()`.

    A tensor that is several layers in one, the gates of an LSTM or the projections of attention, is made in
    blocks: each has the fans, the stream (see `block_stream`) and the values of a tensor of its own.

    Attributes:
        seed: The seed of calls without one; `None` for fresh entropy at each call. Only random initializers
            have it. With a fixed seed, all calls with the same shape and stream give the same values: tell
            tensors apart by their `stream`.
        blocks: The number of equal blocks, or the sizes of the blocks, which add up to the size of
            `block_axis`; 1 for a tensor that is one block.
        block_axis: The axis along which the blocks lie; `None` for the axis of the outputs (`out_axis` of
            variance scaling, `column_axis` of orthogonal matrices, otherwise the last axis).

    Example:
        >>> import fastinit
        >>> kernel = fastinit.HeNormal(seed=7)
        >>> kernel((3, 3, 64, 128), stream="conv1").shape
        (3, 3, 64, 128)
        >>> kernel == fastinit.HeNormal.from_config(kernel.get_config())
        True
        >>> fused = fastinit.GlorotUniform(blocks=4)((64, 256), seed=0, stream="lstm")
        >>> gate = fastinit.glorot_uniform((64, 64), seed=0, stream=fastinit.block_stream("lstm", 2))
        >>> bool((fused[:, 128:192] == gate).all())
        True
    """

    seed: int | None = None
    blocks: int | tuple[int, ...] = 1
    block_axis: int | None = None
    __signature__ = _Signature()
    _is_random = True
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

        All functions take these arguments, too. Initializers that are not random accept `seed` and `stream`
        and ignore them.

        Args:
            shape: The shape of the tensor: an int or a sequence of at most 32 ints. Sizes of 0 are allowed.
                The tensor may be larger than memory, up to 2**63 elements, if `index` selects a part of it.
            seed: An int in [0, 2**64), a `numpy.random.SeedSequence`, or `None` for the `seed` of the
                initializer and, where that is `None` too, for fresh entropy from the operating system.
            stream: The name of the tensor among those of the same seed: an int in [0, 2**64), or a str, which
                stands for the int `int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=8).digest(),
                "little")`. Tensors of different streams are independent.
            dtype: `"float32"`, `"float64"`, `"float16"` or `"bfloat16"`, or anything that NumPy takes for one
                of these dtypes; `None` means float32. The half dtypes hold the float32 values, rounded once
                to the nearest. bfloat16 needs the package ml_dtypes.
            out: The array to fill instead of making one: writable, of the shape of the result, of `dtype`,
                not overlapping itself, and with any strides. No other thread may use it meanwhile.
            index: The part of the tensor to make, as in `tensor[index]`: an int, a slice without a
                step, an ellipsis, or a tuple of these. Positions beyond the ends are refused.
            threads: The largest number of threads to use; `None` for `get_num_threads()`. It changes no
                value.

        Returns:
            A new, writable, C-contiguous array, aligned to 64 bytes; or `out`. It equals `tensor[index]`
            exactly; where `index` selects one element it is an array without dimensions.

        Raises:
            ValueError: If an argument, or a parameter of the initializer, is out of range. Nothing has been
                written then.
            TypeError: If an argument is of the wrong kind. Nothing has been written then.
            MemoryError: If there is not enough memory. Nothing has been written then.
            ImportError: If `dtype` is bfloat16 and ml_dtypes is not installed.

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

    def _fill_at(
        self, address: int, shape: Shape, seed: int, stream: Stream, dtype: str, threads: int
    ) -> None:
        """Makes all of a tensor in the memory from an address on, in C order, which must be there."""
        self._initializer.fill_at(address, shape, seed, stream, dtype, threads)

    def _encode(self, shape: Shape) -> list[int]:
        """What XLA's call of the handler needs to fill a tensor of this shape."""
        return self._initializer.encode(shape)

    def validate(self, shape: Shape, dtype: DTypeLike = "float32") -> None:
        """Raises what a call with these arguments would raise; `check` also tells what they make.

        Args:
            shape: The shape of the tensor.
            dtype: Its dtype.

        Raises:
            ValueError: If `shape` or a parameter is out of range, also when rounded to the dtype.
            TypeError: If `shape` or `dtype` is of the wrong kind.

        Example:
            >>> import fastinit
            >>> fastinit.Identity().validate(600)
            Traceback (most recent call last):
            ...
            ValueError: identity needs a shape of 2 dimensions, got shape [600]
        """
        self._initializer.check(shape, dtype)

    def check(self, shape: Shape, dtype: DTypeLike = "float32") -> Distribution:
        """Raises what a call with these arguments would raise, and tells the distribution of the elements.

        Args:
            shape: The shape of the tensor.
            dtype: Its dtype.

        Returns:
            The distribution of the elements of the tensor, taken together: its name and parameters, mean,
            standard deviation, bounds and density.

        Raises:
            ValueError: If `shape` or a parameter is out of range, also when rounded to the dtype.
            TypeError: If `shape` or `dtype` is of the wrong kind.

        Example:
            >>> import fastinit
            >>> found = fastinit.HeUniform().check((600, 100))
            >>> found.name, found.parameters
            ('uniform', {'low': -0.1, 'high': 0.1})
            >>> fastinit.Identity().check(600)
            Traceback (most recent call last):
            ...
            ValueError: identity needs a shape of 2 dimensions, got shape [600]
        """
        from .theory.distributions import of_parts

        return of_parts(self._initializer.check(shape, dtype))

    def get_config(self) -> dict[str, Any]:
        """The parameters, by name, as plain Python values: what `from_config` takes.

        `blocks` and `block_axis` are there where the tensor is not one block.

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
            config: What `get_config` of such an initializer returned, before or after a conversion to JSON;
                parameters that are missing take their defaults.

        Raises:
            ValueError: If a parameter is out of range.
            TypeError: If a parameter is unknown or of the wrong kind.

        Example:
            >>> import fastinit
            >>> fastinit.Constant.from_config({"value": 0.5})
            Constant(value=0.5)
        """
        return cls(**config)

    def _configure(self, initializer: _core.Initializer, options: Any, **parameters: Any) -> None:
        """Sets the parameters once and for all; `initializer` has checked its own already."""
        if self._is_random:
            parameters["seed"] = _core.as_seed(options.pop("seed", None))
        blocks, axis = options.pop("blocks", 1), options.pop("block_axis", None)
        for name in options:
            raise TypeError(f"{type(self).__name__}() got an unexpected keyword argument {name!r}")
        vars(self).update(parameters, _initializer=initializer.in_blocks(blocks, axis))
        if _plain(blocks) != 1:
            axis = None if axis is None else operator.index(axis)
            vars(self).update(blocks=_plain(blocks), block_axis=axis)

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
        return self.spell(repr)

    def spell(self, number: Callable[[Any], str]) -> str:
        """The call that makes this object, without parameters that have their defaults.

        Args:
            number: Formats the value of a parameter.

        Example:
            >>> import fastinit
            >>> fastinit.RandomNormal(stddev=2**0.5).spell("{:.3g}".format)
            'RandomNormal(stddev=1.41)'
        """
        defaults = {name: one.default for name, one in inspect.signature(type(self)).parameters.items()}
        given = {name: value for name, value in self.get_config().items() if value != defaults[name]}
        return (
            f"{type(self).__name__}({', '.join(f'{name}={number(value)}' for name, value in given.items())})"
        )

    def __reduce__(self) -> tuple[Callable[[Mapping[str, Any]], Initializer], tuple[dict[str, Any]]]:
        return type(self).from_config, (self.get_config(),)


def _plain(numbers: Axes) -> int | tuple[int, ...]:
    """Axes or sizes as values that can be compared and hashed."""
    try:
        return operator.index(numbers)  # type: ignore[arg-type]
    except TypeError:
        return tuple(map(operator.index, numbers))  # type: ignore[arg-type]


class Zeros(Initializer):
    """`zeros` as an object.

    Example:
        >>> import fastinit
        >>> fastinit.Zeros()(2)
        array([0., 0.], dtype=float32)
    """

    _is_random = False

    def __init__(self, /, **options: Unpack[InBlocks]) -> None:
        self._configure(_core.constant(0.0), options)


class Ones(Initializer):
    """`ones` as an object.

    Example:
        >>> import fastinit
        >>> fastinit.Ones()(2)
        array([1., 1.], dtype=float32)
    """

    _is_random = False

    def __init__(self, /, **options: Unpack[InBlocks]) -> None:
        self._configure(_core.constant(1.0), options)


class Constant(Initializer):
    """`constant` as an object.

    Example:
        >>> import fastinit
        >>> fastinit.Constant(0.5)(2)
        array([0.5, 0.5], dtype=float32)
    """

    _is_random = False
    value: float

    def __init__(self, /, value: float = 0.0, **options: Unpack[InBlocks]) -> None:
        self._configure(_core.constant(value), options, value=float(value))


class Identity(Initializer):
    """`identity` as an object.

    Example:
        >>> import fastinit
        >>> fastinit.Identity(gain=2.0)((1, 2))
        array([[2., 0.]], dtype=float32)
    """

    _is_random = False
    gain: float

    def __init__(self, /, gain: float = 1.0, **options: Unpack[InBlocks]) -> None:
        self._configure(_core.identity(gain), options, gain=float(gain))


class Dirac(Initializer):
    """`dirac` as an object.

    Example:
        >>> import fastinit
        >>> fastinit.Dirac()((1, 2, 2))[0]
        array([[1., 0.],
               [0., 1.]], dtype=float32)
    """

    _is_random = False
    groups: int

    def __init__(self, /, groups: int = 1, **options: Unpack[InBlocks]) -> None:
        self._configure(_core.dirac(groups), options, groups=operator.index(groups))


class Orthogonal(Initializer):
    """`orthogonal` as an object.

    Example:
        >>> import fastinit
        >>> fastinit.Orthogonal(blocks=4)((64, 256), seed=0).shape
        (64, 256)
    """

    gain: float
    column_axis: int

    def __init__(self, /, gain: float = 1.0, *, column_axis: int = -1, **options: Unpack[Sampled]) -> None:
        core = _core.orthogonal(gain, column_axis)
        self._configure(core, options, gain=float(gain), column_axis=operator.index(column_axis))


class DeltaOrthogonal(Initializer):
    """`delta_orthogonal` as an object.

    Example:
        >>> import fastinit
        >>> fastinit.DeltaOrthogonal()((3, 3, 16, 32), seed=0).shape
        (3, 3, 16, 32)
    """

    gain: float

    def __init__(self, /, gain: float = 1.0, **options: Unpack[Sampled]) -> None:
        self._configure(_core.delta_orthogonal(gain), options, gain=float(gain))


class RandomUniform(Initializer):
    """`random_uniform` as an object.

    Example:
        >>> import fastinit
        >>> fastinit.RandomUniform(0.0, 1.0)((2, 3), seed=0).shape
        (2, 3)
    """

    minval: float
    maxval: float

    def __init__(self, /, minval: float = -0.05, maxval: float = 0.05, **options: Unpack[Sampled]) -> None:
        self._configure(
            _core.random_uniform(minval, maxval), options, minval=float(minval), maxval=float(maxval)
        )


class RandomNormal(Initializer):
    """`random_normal` as an object.

    Example:
        >>> import fastinit
        >>> fastinit.RandomNormal(stddev=0.02)((2, 3), seed=0).shape
        (2, 3)
    """

    mean: float
    stddev: float

    def __init__(self, /, mean: float = 0.0, stddev: float = 0.05, **options: Unpack[Sampled]) -> None:
        self._configure(_core.random_normal(mean, stddev), options, mean=float(mean), stddev=float(stddev))


class TruncatedNormal(Initializer):
    """`truncated_normal` as an object.

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
        /,
        mean: float = 0.0,
        stddev: float = 0.05,
        lower: float = -2.0,
        upper: float = 2.0,
        **options: Unpack[Sampled],
    ) -> None:
        self._configure(
            _core.truncated_normal(mean, stddev, lower, upper),
            options,
            mean=float(mean),
            stddev=float(stddev),
            lower=float(lower),
            upper=float(upper),
        )


class Sparse(Initializer):
    """`sparse` as an object.

    Example:
        >>> import fastinit
        >>> fastinit.Sparse(1.0)((1, 2), seed=0)
        array([[0., 0.]], dtype=float32)
    """

    sparsity: float
    stddev: float

    def __init__(self, /, sparsity: float, stddev: float = 0.01, **options: Unpack[Sampled]) -> None:
        self._configure(
            _core.sparse(sparsity, stddev), options, sparsity=float(sparsity), stddev=float(stddev)
        )


class VarianceScaling(Initializer):
    """`variance_scaling` as an object; the base of its presets, which fix `scale`, `mode` and `distribution`.

    Example:
        >>> import fastinit
        >>> fastinit.VarianceScaling(2.0, "fan_out")((3, 3, 16, 32), seed=0).shape
        (3, 3, 16, 32)
        >>> fastinit.LecunUniform().scale, fastinit.LecunUniform().mode
        (1.0, 'fan_in')
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
        /,
        scale: float = 1.0,
        mode: str = "fan_in",
        distribution: str = "truncated_normal",
        *,
        in_axis: Axes = -2,
        out_axis: Axes = -1,
        batch_axis: Axes = (),
        groups: int = 1,
        **options: Unpack[Sampled],
    ) -> None:
        self._configure(
            _core.variance_scaling(scale, mode, distribution, in_axis, out_axis, batch_axis, groups),
            options,
            scale=float(scale),
            mode=str(mode),
            distribution=str(distribution),
            in_axis=_plain(in_axis),
            out_axis=_plain(out_axis),
            batch_axis=_plain(batch_axis),
            groups=operator.index(groups),
        )

    def fans(self, shape: Shape) -> tuple[float, float]:
        """`fan_in` and `fan_out` of a kernel of this shape: the inputs of each output, and the reverse.

        Args:
            shape: The shape of the kernel; of one block, where there are several.

        Raises:
            ValueError: If the axes do not fit the shape.

        Example:
            >>> import fastinit
            >>> fastinit.HeNormal().fans((3, 3, 16, 32))
            (144.0, 288.0)
        """
        return _core.fans(shape, self.in_axis, self.out_axis, self.batch_axis, self.groups)


class _Preset(VarianceScaling):
    """Variance scaling whose scale, mode and distribution are those of its class."""

    def __init_subclass__(cls) -> None:
        if cls.__module__ == __name__:
            cls.scale, cls.mode, cls.distribution = PRESETS[parse_name(cls.__name__)]

    def __init__(self, /, **options: Unpack[Scaled]) -> None:
        fixed = ("scale", "mode", "distribution")
        for name in fixed:
            if name in options:
                raise TypeError(f"{type(self).__name__}() got an unexpected keyword argument {name!r}")
        super().__init__(self.scale, self.mode, self.distribution, **options)
        for name in fixed:
            del vars(self)[name]


class GlorotUniform(_Preset):
    """`glorot_uniform` as an object.

    Example:
        >>> import fastinit
        >>> fastinit.GlorotUniform()((64, 32), seed=0).shape
        (64, 32)
    """


class GlorotNormal(_Preset):
    """`glorot_normal` as an object.

    Example:
        >>> import fastinit
        >>> fastinit.GlorotNormal()((64, 32), seed=0).shape
        (64, 32)
    """


class HeUniform(_Preset):
    """`he_uniform` as an object.

    Example:
        >>> import fastinit
        >>> fastinit.HeUniform()((64, 32), seed=0).shape
        (64, 32)
    """


class HeNormal(_Preset):
    """`he_normal` as an object.

    Example:
        >>> import fastinit
        >>> fastinit.HeNormal()((64, 32), seed=0).shape
        (64, 32)
    """


class LecunUniform(_Preset):
    """`lecun_uniform` as an object.

    Example:
        >>> import fastinit
        >>> fastinit.LecunUniform()((64, 32), seed=0).shape
        (64, 32)
    """


class LecunNormal(_Preset):
    """`lecun_normal` as an object.

    Example:
        >>> import fastinit
        >>> fastinit.LecunNormal()((64, 32), seed=0).shape
        (64, 32)
    """


def get(identifier: object) -> Any:
    """The initializer that an identifier of Keras stands for.

    Args:
        identifier: One of

            * a name, such as `"he_normal"`, `"HeNormal"`, or one of Keras's aliases, such as `"uniform"`;
            * a dictionary of `"class_name"`, such a name, and `"config"`, what `get_config` returns, here or
              in Keras, where the distribution `"normal"` means `"truncated_normal"`;
            * a class, which is called without arguments;
            * any callable, such as an initializer, which is returned as it is;
            * `None`, which is returned as it is.

    Returns:
        An `Initializer`, or the callable or `None` that was given.

    Raises:
        ValueError: If a name is unknown, or the identifier is of another kind.
        TypeError: If a configuration has parameters that the class does not know.

    Example:
        >>> import fastinit
        >>> fastinit.get("uniform")
        RandomUniform()
        >>> fastinit.get({"class_name": "RandomNormal", "config": {"mean": 0.0, "stddev": 0.02, "seed": 1}})
        RandomNormal(stddev=0.02, seed=1)
    """
    if isinstance(identifier, str):
        return _class_of(identifier)()
    if isinstance(identifier, dict):
        if not isinstance(identifier.get("class_name"), str):
            raise ValueError(f"an initializer as a dict must have a 'class_name', a str; got {identifier!r}")
        config = identifier.get("config") or {}
        if not isinstance(config, dict):
            raise ValueError(f"the 'config' of an initializer must be a dict, got {config!r}")
        return _class_of(identifier["class_name"]).from_config(_from_keras(config))
    found = identifier() if isinstance(identifier, type) else identifier
    if found is None or callable(found):
        return found
    raise ValueError(
        f"an initializer must be a name, a dict, a class, a callable or None; got {identifier!r}"
    )


def _class_of(name: str) -> type[Initializer]:
    cls: type[Initializer] = globals()[class_name(parse_name(name))]
    return cls


def _from_keras(config: Mapping[str, Any]) -> dict[str, Any]:
    """A configuration with our names, where it has Keras's."""
    config = dict(config)
    if config.get("distribution") == "normal":
        config["distribution"] = "truncated_normal"
    # Keras takes its defaults unless both are there.
    in_axis, out_axis = config.pop("input_axes", None), config.pop("output_axes", None)
    if in_axis is not None and out_axis is not None:
        config.update(in_axis=in_axis, out_axis=out_axis)
    return config
