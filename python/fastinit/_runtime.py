"""Raw random words, streams of blocks, the default thread limit, and information about this build."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _core
from ._registry import DISTRIBUTION

if TYPE_CHECKING:
    from ._typing import Array, Axes, BuildInfo, DTypeLike, Index, Seed, Shape, Stream


def random_bits(
    shape: Shape,
    *,
    seed: Seed = None,
    stream: Stream = 0,
    dtype: DTypeLike = "uint32",
    out: Array | None = None,
    index: Index = None,
    threads: int | None = None,
) -> Array:
    """The raw words of the generator, uniform on all values of the dtype.

    Element *i* of `uint32` is word `i % 4` of block `i // 4` of the generator Philox4x32-10 with `seed` as
    its key and `stream` in the upper half of its counter; it is the word from which element *i* of a
    `float32` tensor is made. Element *i* of `uint64` is words `2 * i` and `2 * i + 1` of these, the first of
    them the low half.

    Args:
        shape: The shape of the whole array. It, `seed`, `stream`, `out`, `index` and `threads` are as in
            `Initializer.__call__`.
        seed: The key.
        stream: The upper half of the counter, or a name for it.
        dtype: `"uint32"` or `"uint64"`, or anything that NumPy takes for one of these; `None` means uint32.
        out: The array to fill.
        index: The part to make.
        threads: The largest number of threads to use.

    Returns:
        A new array, or `out`.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is of the wrong kind.
        MemoryError: If there is not enough memory.

    Example:
        >>> import fastinit, numpy as np
        >>> words = fastinit.random_bits(6, seed=1)
        >>> doubled = fastinit.random_bits(3, seed=1, dtype="uint64")
        >>> bool((words[0::2] + words[1::2].astype(np.uint64) * 2**32 == doubled).all())
        True

    References:
        Salmon, Moraes, Dror and Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011.
    """
    return _core.random_bits(shape, seed, stream, dtype, out, index, threads)


def block_stream(stream: Stream, block: int) -> int:
    """The stream of one block of a tensor that is made in blocks.

    It is the stream of the name `f"{number}[{block}]"`, where `number` is the stream of the tensor as an int.
    A separate tensor with this stream has the values of the block, bit by bit.

    Args:
        stream: The stream of the whole tensor, an int or a name.
        block: The number of the block, from 0 on.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is of the wrong kind.

    Example:
        >>> import fastinit
        >>> fused = fastinit.orthogonal((64, 256), seed=0, stream="lstm", blocks=4)
        >>> gate = fastinit.orthogonal((64, 64), seed=0, stream=fastinit.block_stream("lstm", 2))
        >>> bool((fused[:, 128:192] == gate).all())
        True
    """
    return _core.block_stream(stream, block)


def fans(
    shape: Shape, in_axis: Axes = -2, out_axis: Axes = -1, batch_axis: Axes = (), groups: int = 1
) -> tuple[float, float]:
    """The fan_in and fan_out of a kernel, as variance scaling takes them."""
    return _core.fans(shape, in_axis, out_axis, batch_axis, groups)


def crc32(data: Array, before: int = 0) -> int:
    """The CRC-32 of bytes that follow others, as `zlib.crc32` has it, several times as fast.

    Args:
        data: The bytes, as a contiguous array of uint8.
        before: The CRC-32 of the others.
    """
    return _core.crc32(data, before)


def xla_handler() -> int:
    """The address of the handler by which programs of XLA fill tensors."""
    return _core.xla_handler()


def build_info() -> BuildInfo:
    """Tells which package this is, where it is installed, and what it uses on this machine.

    Returns:
        A dictionary of `distribution`, the name on PyPI; `version`; `file`, the compiled module;
        `stream_version`, see `STREAM_VERSION`; `simd`, the level of vector instructions in use, which the
        environment variable `FASTINIT_SIMD` can lower; `simd_available`, all levels that this
        machine can run; and `threads`, see `get_num_threads`.

    Example:
        >>> import fastinit
        >>> info = fastinit.build_info()
        >>> info["simd"] in info["simd_available"]
        True
    """
    return {"distribution": DISTRIBUTION, "file": _core.__file__, **_core.build_info()}


def get_num_threads() -> int:
    """The default thread limit: the largest number of threads that a call without `threads=` uses.

    It is the last argument of `set_num_threads`, else the environment variable `FASTINIT_NUM_THREADS`, else
    the number of processors that this process may use: those to which it is bound, but no more than the CPU
    quota of its container, rounded down.

    Example:
        >>> import fastinit
        >>> fastinit.get_num_threads() >= 1
        True
    """
    return _core.get_num_threads()


def set_num_threads(threads: int | None) -> None:
    """Sets the default thread limit of this process.

    The number of threads changes no value. Small fills run on the calling thread in any case.

    Args:
        threads: At least 1; `None` restores the default.

    Raises:
        ValueError: If `threads` is less than 1.
        TypeError: If `threads` is not an int.

    Example:
        >>> import fastinit
        >>> fastinit.set_num_threads(1)
        >>> fastinit.get_num_threads()
        1
        >>> fastinit.set_num_threads(None)
    """
    _core.set_num_threads(threads)
