"""Files of NumPy and safetensors, read in pieces, in little memory.

Nothing in a file is trusted: one that breaks its format is refused with a `ValueError` that names the file.
The library safetensors checks its headers. The elements are read here: slices of that library read the whole
tensor (`backend="pread"`) or map it, and mapped pages count as memory; as arrays of NumPy they cannot be
bfloat16 or float8.
"""

from __future__ import annotations

import functools
import io
import math
import re
import zipfile
from typing import IO, TYPE_CHECKING, Any

import numpy as np

from fastinit._files import check_input
from fastinit._registry import install_hint
from fastinit._safetensors import DTYPES, files_of_directory, files_of_index

from ..roles import describe
from . import torch
from .arrays import unreadable
from .elements import bits_of, file_reader, is_readable, read_array, read_exactly, reading
from .gguf import from_gguf
from .hdf5 import from_hdf5
from .onnx import from_onnx

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from ..tensors import Skipped, Tensor


def from_path(path: Path) -> Iterator[Tensor | Skipped]:
    """The tensors of a file, or of the `.safetensors` files of a directory.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it is damaged, of an unknown kind, not a regular file, or a directory without
            `.safetensors` files.
        ImportError: If the library that reads it is not installed.
    """
    suffix = path.suffix.lower()
    if path.is_dir():
        yield from _from_safetensors(files_of_directory(path))
        return
    check_input(path)
    if path.name.endswith(".index.json"):
        yield from _from_safetensors(files_of_index(path))
    elif suffix in _READERS:
        yield from _READERS[suffix](path)
    else:
        known = ", ".join((".safetensors.index.json", *_READERS, *torch.SUFFIXES))
        raise ValueError(f"cannot read {path}: it must be {known} or a directory")


# safetensors


def _from_safetensors(files: list[Path]) -> Iterator[Tensor | Skipped]:
    seen: dict[str, Path] = {}
    for path in files:
        check_input(path)
        for name, kind, shape, offset in _entries(path):
            if name in seen:
                raise ValueError(f"{name!r} is in two files, {seen[name]} and {path}")
            seen[name] = path
            dtype = DTYPES.get(kind, "")
            if "float" not in dtype:
                yield unreadable(name, kind, integer=kind.startswith(("BOOL", "I", "U")))
            else:
                read = file_reader(
                    functools.partial(io.FileIO, path), offset, bits_of(dtype), dtype, str(path)
                )
                yield describe(name, shape, dtype, read, "out_in")


def _entries(path: Path) -> Iterator[tuple[str, str, tuple[int, ...], int]]:
    """The name, dtype, shape and first byte of the tensors of a file, in the order of their data."""
    try:
        from safetensors import SafetensorError, safe_open
    except ImportError as error:
        raise ImportError(f"reading {path.name} needs safetensors: {install_hint('safetensors')}") from error
    with path.open("rb") as file:
        offset = 8 + int.from_bytes(file.read(8), "little")
    try:
        with safe_open(path, "numpy") as found:
            # The format allows no gap between tensors, and the library has checked that there is none.
            for name in found.offset_keys():
                entry = found.get_slice(name)
                kind, shape = entry.get_dtype(), tuple(entry.get_shape())
                yield name, kind, shape, offset
                bits = re.search(r"\d+", kind)
                offset += math.prod(shape) * (int(bits[0]) if bits else 8) // 8
    except SafetensorError as error:
        why = str(error).removeprefix("Error while deserializing header: ")
        raise ValueError(f"{path} is not a safetensors file, or is damaged: {why}") from None


# NumPy


_LONGEST_HEADER = 10_000

# The most bytes that one compressed byte becomes.
_DEFLATE = 1032

# Arrays of so few bytes are read at once with their header.
_SMALL = 2**12


def _from_npz(path: Path) -> Iterator[Tensor | Skipped]:
    with reading(str(path)):
        archive = zipfile.ZipFile(path)  # Closed with the last tensor that is read from it.
    most = _DEFLATE * path.stat().st_size
    seen: set[str] = set()
    for member in archive.infolist():
        name = member.filename.removesuffix(".npy")
        if name == member.filename:
            continue
        if name in seen:
            raise ValueError(f"{path} is damaged: {name!r} is in it twice")
        seen.add(name)
        if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            # Their decompressors cannot be told how much to inflate.
            raise ValueError(
                f"{path} is not an .npz file: {name!r} is compressed in another way than by NumPy"
            )
        # Threads may read one archive at the same time, each through a separate file object.
        opener = functools.partial(archive.open, member)
        yield _array(name, opener, min(member.file_size, most), path, parallel=False)


def _from_npy(path: Path) -> Iterator[Tensor | Skipped]:
    yield _array("array", functools.partial(io.FileIO, path), path.stat().st_size, path)


def _array(
    name: str, open_file: Callable[[], IO[bytes]], size: int, path: Path, *, parallel: bool = True
) -> Tensor | Skipped:
    """An array in NumPy's format."""
    what = f"{path}, {name!r},"
    with reading(what), open_file() as file:
        start, shape, fortran, raw = _header(file)
        # NumPy's format has no name for bfloat16, and keeps it as two raw bytes.
        dtype = "bfloat16" if raw.kind == "V" and raw.itemsize == 2 and raw.names is None else raw.name
        if not is_readable(dtype):
            return unreadable(name, dtype, integer=raw.kind in "biu")
        needed = math.prod(shape) * raw.itemsize
        if min(shape, default=0) < 0 or start + needed > size:
            about = f"of shape {shape!s:.80} and dtype {raw}"
            raise ValueError(f"it ends before its data, {about}")
        bits = bits_of(dtype).newbyteorder(raw.byteorder if raw.kind == "f" else "=")
        longer = tuple(size for size in shape if size != 1)  # NumPy takes at most 64 axes.
        in_order = not fortran or len(longer) < 2 or needed == 0
        if needed <= _SMALL:
            values = np.empty(needed // raw.itemsize, bits)
            read_exactly(file, values.view(np.uint8).data)
            if not in_order:
                values = values.reshape(longer, order="F")
            array = values.astype(bits.newbyteorder("="))
            return describe(name, shape, dtype, functools.partial(read_array, array, dtype), "in_out")
    read = file_reader(open_file, start, bits, dtype, what, None if in_order else longer)
    return describe(name, shape, dtype, read, "in_out", parallel=parallel and in_order)


def _header(file: IO[bytes]) -> tuple[int, tuple[int, ...], bool, np.dtype[Any]]:
    """The length of the header of an array in NumPy's format, and its shape, order and dtype."""
    start = file.read(8)
    np.lib.format.read_magic(io.BytesIO(start))
    digits = file.read(2 if start[6] == 1 else 4)
    length = int.from_bytes(digits, "little")
    if length > _LONGEST_HEADER:  # NumPy would read it first.
        raise ValueError(f"its header has {length:,} bytes")
    header = start + digits + file.read(length)
    return len(header), *_parsed(header)


@functools.lru_cache(maxsize=1024)
def _parsed(header: bytes) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    file = io.BytesIO(header)
    first = np.lib.format.read_magic(file) == (1, 0)
    read = np.lib.format.read_array_header_1_0 if first else np.lib.format.read_array_header_2_0
    shape, fortran, dtype = read(file, max_header_size=_LONGEST_HEADER)
    return tuple(map(int, shape)), fortran, dtype  # NumPy takes True for a size, too.


_READERS: dict[str, Callable[[Path], Iterator[Tensor | Skipped]]] = {
    ".safetensors": lambda path: _from_safetensors([path]),
    ".npz": _from_npz,
    ".npy": _from_npy,
    **dict.fromkeys((".keras", ".h5", ".hdf5"), from_hdf5),
    ".onnx": from_onnx,
    ".gguf": from_gguf,
}
