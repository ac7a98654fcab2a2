"""How elements are read: as chunks of float32 or float64 in C order, from any dtype, in bounded memory."""

from __future__ import annotations

import contextlib
import errno
import functools
import tokenize
import zipfile
import zlib
from typing import IO, TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from fastinit._typing import Array

    from ..tensors import Read

_FLOATS = ("float16", "float32", "float64", "longdouble", "float128")


def is_readable(dtype: str) -> bool:
    """Whether `decode` knows a dtype, by its name."""
    return dtype in (*_FLOATS, "bfloat16") or dtype.startswith(("float8_e4m3fn", "float8_e5m2"))


def bits_of(dtype: str) -> np.dtype[Any]:
    """The dtype of NumPy by which elements are read, for `decode`."""
    if dtype in ("bfloat16", "float16"):
        return np.dtype(np.uint16)
    return np.dtype(np.uint8 if dtype.startswith("float8") else dtype)


def decode(raw: Array, dtype: str) -> Array:
    """The numbers that bits stand for, as float32 or float64."""
    if dtype in ("float32", "float64"):
        return raw
    if dtype == "bfloat16":  # The upper half of a float32.
        return np.left_shift(raw, 16, dtype=np.uint32).view(np.float32)
    if dtype == "float16":
        return _from_half(raw)
    if dtype in _FLOATS:
        return raw.astype(np.float64)
    return _float8(dtype)[raw]


def _from_half(raw: Array) -> Array:
    """float16 as float32: the bits are shifted, and a product corrects the bias of the exponent."""
    size = raw & np.uint16(0x7FFF)
    if size.size and int(size.max()) >= 0x7C00:  # Infinities and NaN.
        return raw.view(np.float16).astype(np.float32)
    wide: Array = np.left_shift(size, 13, dtype=np.uint32).view(np.float32)
    np.multiply(wide, np.float32(2.0**112), out=wide)
    sign = np.left_shift(raw & np.uint16(0x8000), 16, dtype=np.uint32)
    bits = wide.view(np.uint32)
    np.bitwise_or(bits, sign, out=bits)
    return wide


@functools.cache
def _float8(dtype: str) -> Array:
    """The numbers that the 256 patterns of an 8-bit dtype stand for."""
    exponent_bits = 4 if "e4m3" in dtype else 5
    fraction_bits = 7 - exponent_bits
    code = np.arange(128)
    exponent, fraction = code >> fraction_bits, (code & (2**fraction_bits - 1)) / 2**fraction_bits
    bias = 2 ** (exponent_bits - 1) - 1
    value = np.where(exponent == 0, fraction * 2.0 ** (1 - bias), (1 + fraction) * 2.0 ** (exponent - bias))
    if exponent_bits == 5:
        value[124], value[125:] = np.inf, np.nan
    else:
        value[127] = np.nan
    return np.concatenate([value, -value]).astype(np.float32)


def read_array(array: Array, dtype: str, start: int, stop: int, step: int) -> Iterator[Array]:
    """Reads an array of bits in memory, without a copy if it is contiguous."""
    flat: Any = array.reshape(-1) if array.flags.c_contiguous else array.flat
    for at in range(start, stop, step):
        yield decode(flat[at : min(at + step, stop)], dtype)


@contextlib.contextmanager
def reading(what: str) -> Iterator[None]:
    """Names what is read in the errors of a damaged file, which become `ValueError`s."""
    try:
        yield
    except (
        ValueError,  # Also of NumPy and zipfile, about headers, as the next three.
        SyntaxError,
        TypeError,
        tokenize.TokenError,
        EOFError,
        OverflowError,
        NotImplementedError,
        RuntimeError,
        zipfile.BadZipFile,
        zlib.error,
    ) as error:
        raise ValueError(f"{what} is damaged or of another format: {error}") from None
    except OSError as error:
        if error.errno != errno.EINVAL:  # that of a place before the start of the file
            raise
        raise ValueError(f"{what} is damaged: its parts are not where it says") from None


def read_exactly(file: IO[bytes], target: memoryview) -> None:
    """Fills a buffer from a file.

    Raises:
        EOFError: If the file ends before.
    """
    done = 0
    while done < len(target):
        count = file.readinto(target[done:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError("it ends before its data")
        done += count


def file_reader(
    open_file: Callable[[], IO[bytes]],
    offset: int,
    raw: np.dtype[Any],
    dtype: str,
    what: str,
    fortran: tuple[int, ...] | None = None,
) -> Read:
    """Reads a file from `offset` on through a buffer; mapped pages would count as memory.

    An array in Fortran order, whose shape is `fortran`, is read as a whole first.
    """
    native = raw.newbyteorder("=")

    def pieces(start: int, stop: int, step: int) -> Iterator[Array]:
        buffer = np.empty(min(step, max(stop - start, 1)) * raw.itemsize, np.uint8)
        with reading(what), open_file() as file:
            if start == 0 and isinstance(file, zipfile.ZipExtFile):
                file.read(offset)  # From Python 3.12 on, zipfile checks no sum after a seek.
            else:
                file.seek(offset + start * raw.itemsize)
            for at in range(start, stop, step):
                wanted = buffer[: (min(at + step, stop) - at) * raw.itemsize]
                read_exactly(file, wanted.data)
                yield wanted.view(raw).astype(native, copy=False)

    def read(start: int, stop: int, step: int) -> Iterator[Array]:
        if fortran is None:
            for piece in pieces(start, stop, step):
                yield decode(piece, dtype)
            return
        with reading(what):
            array = np.empty(fortran, native, order="F")
        flat, at = array.reshape(-1, order="F"), 0
        for piece in pieces(0, array.size, step):
            flat[at : at + piece.size] = piece
            at += piece.size
            yield decode(piece[:0], dtype)  # Nothing yet, but whoever reads may stop.
        yield from read_array(array, dtype, start, stop, step)

    return read


@contextlib.contextmanager
def parsing(path: object) -> Iterator[None]:
    """The same for what other libraries read, whose errors may be of any kind."""
    try:
        yield
    except (ImportError, MemoryError):
        raise
    except OSError as error:
        if error.errno is not None and error.errno != errno.EINVAL:
            raise
        raise ValueError(f"{path} is damaged or of another format: {error}") from None
    except Exception as error:
        lines = str(error).strip().splitlines() or [type(error).__name__]
        raise ValueError(f"{path} is damaged or of another format: {lines[0]:.300}") from None
