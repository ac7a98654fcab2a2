"""Files of llama.cpp (`.gguf`), by the specification of the format; only the places of tensors are looked up.

Source: ggml, "GGUF", docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import functools
import io
import math
import struct
from typing import TYPE_CHECKING, Any

from ..roles import describe
from ..tensors import Skipped
from .arrays import unreadable
from .elements import bits_of, file_reader, parsing, read_exactly

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..tensors import Tensor

_DTYPES = {0: "float32", 1: "float16", 28: "float64", 30: "bfloat16"}
_INTEGERS = range(24, 28)
# The formats of the values of metadata.
_VALUES = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST_AXES = 4
_LONGEST_NAME = 2**16


def from_gguf(path: Path) -> Iterator[Tensor | Skipped]:
    """The tensors of a file; those that are quantized are skipped."""
    size = path.stat().st_size
    with parsing(path), path.open("rb") as file:
        entries, start = _entries(file, size)
    end, before = 0, ""
    for name, shape, kind, offset in sorted(entries, key=lambda entry: entry[-1]):
        dtype = _DTYPES.get(kind)
        if kind in _INTEGERS:
            yield unreadable(name, "int", integer=True)
        elif dtype is None:
            yield Skipped(
                name, f"it is quantized (type {kind} of GGML), and such weights are not initial ones"
            )
        else:
            bits = bits_of(dtype)
            length = math.prod(shape) * bits.itemsize
            if start + offset + length > size:
                raise ValueError(f"{path} is damaged: it ends before the data of {name!r:.200}")
            if offset < end and length:
                raise ValueError(f"{path} is damaged: {before!r:.200} and {name!r:.200} overlap")
            end, before = max(end, offset + length), name
            read = file_reader(functools.partial(io.FileIO, path), start + offset, bits, dtype, str(path))
            known = {"role": "embedding"} if name.startswith("token_embd") else {}
            yield describe(name, shape, dtype, read, "out_in", **known)


def _entries(file: io.BufferedReader, size: int) -> tuple[list[tuple[str, tuple[int, ...], int, int]], int]:
    """The name, shape, type and place of each tensor, and where the data starts."""

    def number(code: str) -> Any:
        (value,) = struct.unpack(f"<{code}", _exactly(file, struct.calcsize(code)))
        return value

    def text(most: int = size) -> str:
        length = number("Q")
        if length > most:
            raise ValueError(f"a string of {length:,} bytes")
        return _exactly(file, length).decode("utf-8", "backslashreplace")

    def value(kind: int) -> Any:
        if kind == _STRING:
            return text()
        if kind != _ARRAY:
            if kind not in _VALUES:
                raise ValueError(f"a value of the unknown type {kind}")
            return number(_VALUES[kind])
        inner, count = number("I"), number("Q")
        if inner in _VALUES:
            file.seek(count * struct.calcsize(_VALUES[inner]), io.SEEK_CUR)
        else:
            for _ in range(count):
                value(inner)
        return None

    if _exactly(file, 4) != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    version, tensors, values = number("I"), number("Q"), number("Q")
    if version not in (2, 3):
        raise ValueError(f"version {version:#x} is not read, only 2 and 3 in little-endian order")
    alignment = 32
    for _ in range(values):
        key = text()
        found = value(number("I"))
        if key == "general.alignment":
            alignment = int(found)
    if alignment < 1:
        raise ValueError(f"an alignment of {alignment}")
    entries, seen = [], set()
    for _ in range(tensors):
        name, axes = text(_LONGEST_NAME), number("I")
        if axes > _MOST_AXES or name in seen:
            raise ValueError(f"{name!r:.200} is in it twice, or has {axes} axes")
        seen.add(name)
        shape = tuple(number("Q") for _ in range(axes))[::-1]  # The first one is the innermost.
        entries.append((name, shape, number("I"), number("Q")))
    return entries, -(-file.tell() // alignment) * alignment


def _exactly(file: io.BufferedReader, length: int) -> bytes:
    data = bytearray(length)
    read_exactly(file, memoryview(data))
    return bytes(data)
