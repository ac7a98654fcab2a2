"""What lies below the initializers: raw random words, the number of threads, and what this build can do."""

from __future__ import annotations

from typing import TYPE_CHECKING

from . import _core

if TYPE_CHECKING:
    from ._typing import Array, BuildInfo, DTypeLike, Index, Seed, Shape, Stream


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
    """The random words themselves, uniform on all values of the dtype.

    Element *i* of `uint32` is word `i % 4` of block `i // 4` of the generator Philox4x32-10 with `seed` as
    its key and `stream` in the upper half of its counter; it is the word from which element *i* of a
    `float32` tensor is made. Element *i* of `uint64` is words `2 * i` and `2 * i + 1` of these, the first of
    them the low half.

    Args:
        shape: The shape of the logical array, as for `Initializer.__call__`; so are `seed`, `stream`, `out`,
            `index` and `threads`.
        seed: The key.
        stream: The upper half of the counter, or a name for it.
        dtype: `"uint32"` or `"uint64"`, or anything that NumPy takes for one of these; `None` means uint32.
        out: An array to fill.
        index: The part that is wanted.
        threads: The number of threads to use at most.

    Returns:
        A fresh array, or `out`.

    Raises:
        ValueError: Where an argument has a value out of range.
        TypeError: Where an argument is of the wrong kind.
        MemoryError: Where there is no room for the result.

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
    A layer of its own with this stream has the weights that the block has, bit by bit.

    Args:
        stream: The stream of the whole tensor, an int or a name.
        block: The number of the block, from 0 on.

    Raises:
        ValueError: Where an argument is out of range.
        TypeError: Where an argument is of the wrong kind.

    Example:
        >>> import fastinit
        >>> fused = fastinit.orthogonal((64, 256), seed=0, stream="lstm", blocks=4)
        >>> gate = fastinit.orthogonal((64, 64), seed=0, stream=fastinit.block_stream("lstm", 2))
        >>> bool((fused[:, 128:192] == gate).all())
        True
    """
    return _core.block_stream(stream, block)


def build_info() -> BuildInfo:
    """What this build of the package is and what it uses on this machine.

    Returns:
        A dictionary of `version`; `stream_version`, see `STREAM_VERSION`; `simd`, the level of vector
        instructions in use, which the environment variable `FASTINIT_SIMD` can lower; `simd_available`, all
        levels that this machine can run; and `threads`, see `get_num_threads`.

    Example:
        >>> import fastinit
        >>> info = fastinit.build_info()
        >>> info["simd"] in info["simd_available"]
        True
    """
    return _core.build_info()


def get_num_threads() -> int:
    """How many threads a call uses at most that does not say `threads=`.

    This is what `set_num_threads` has set, else the environment variable `FASTINIT_NUM_THREADS`, else the
    number of processors that this process may use.

    Example:
        >>> import fastinit
        >>> fastinit.get_num_threads() >= 1
        True
    """
    return _core.get_num_threads()


def set_num_threads(threads: int | None) -> None:
    """Sets how many threads a call uses at most that does not say `threads=`, in the whole process.

    The number of threads changes no result. Small fills run on the calling thread whatever is set.

    Args:
        threads: At least 1; `None` goes back to the default.

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
