"""The format of safetensors: names of dtypes, headers, and indices of files.

The library checks headers of whole files and reads small ones. What is here serves files that are larger than
memory, or of which only the header is there.
"""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from ._files import check_input

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

# The names of dtypes, in the order in which the library writes tensors: those of many bytes first, so that
# all are aligned.
DTYPES = {
    "U64": "uint64",
    "I64": "int64",
    "F64": "float64",
    "F32": "float32",
    "U32": "uint32",
    "I32": "int32",
    "BF16": "bfloat16",
    "F16": "float16",
    "U16": "uint16",
    "I16": "int16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
CODES = {name: code for code, name in DTYPES.items()}
ORDER = {name: place for place, name in enumerate(CODES)}

# As the library has it.
_LONGEST_HEADER = 100_000_000


class Entry(NamedTuple):
    """A tensor of a file.

    Attributes:
        name: Its name.
        dtype: Its dtype, as the format names it.
        shape: Its shape.
        begin: Where its data begins, counted from the end of the header.
        end: Where it ends.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    begin: int
    end: int


def header(
    entries: Iterable[Entry], metadata: Mapping[str, str] | None = None, *, alignment: int = 8
) -> bytes:
    """What a file begins with, byte by byte as the library writes it.

    Args:
        entries: The tensors, in the order of their data.
        metadata: Texts by name.
        alignment: The data begins at a multiple of this number of bytes; the library has 8.

    Raises:
        ValueError: If it is longer than the format allows, or a tensor has a name that it does not allow.
    """
    values: dict[str, object] = {"__metadata__": dict(metadata)} if metadata else {}
    for one in entries:
        if one.name == "__metadata__":
            raise ValueError("a tensor in .safetensors cannot be called '__metadata__'")
        values[one.name] = {"dtype": one.dtype, "shape": one.shape, "data_offsets": (one.begin, one.end)}
    text = json.dumps(values, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-(8 + len(text)) % alignment)
    if len(text) > _LONGEST_HEADER:
        raise ValueError(
            f"the header of a safetensors file may have {_LONGEST_HEADER:,} bytes, got {len(text):,}"
        )
    return len(text).to_bytes(8, "little") + text


def read_header(path: Path) -> list[Entry]:
    """The tensors of a file, in the order of their data, of which nothing need be there.

    Raises:
        FileNotFoundError: If there is no such file.
        ValueError: If it does not begin with a header, or the header breaks the format.
    """
    check_input(path)
    with path.open("rb") as file:
        size = int.from_bytes(file.read(8), "little")
        text = file.read(size) if 2 <= size <= _LONGEST_HEADER else b""
    try:
        if len(text) < size or not text:
            raise ValueError("it ends before its header")
        values = json.loads(text)
        values.pop("__metadata__", None)
        entries = [
            Entry(name, str(one["dtype"]), tuple(map(int, one["shape"])), *map(int, one["data_offsets"]))
            for name, one in values.items()
        ]
        entries.sort(key=lambda one: (one.begin, one.end))
        position = 0
        for one in entries:
            bits = re.search(r"\d+", one.dtype)
            wanted = math.prod(one.shape) * (int(bits[0]) if bits else 8) // 8
            if one.begin != position or min(one.shape, default=0) < 0 or one.end - one.begin != wanted:
                raise ValueError(f"the data of {one.name!r:.80} is not where the format wants it")
            position = one.end
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        why = str(error) if type(error) is ValueError else "its header is not as the format wants it"
        raise ValueError(f"{path} is not a safetensors file, or is damaged: {why}") from None
    return entries


def files_of_index(index: Path) -> list[Path]:
    """The files that an index names.

    Raises:
        FileNotFoundError: If there is no index.
        ValueError: If it is no index, or names something else than a file beside it.
    """
    check_input(index)
    try:
        names = sorted(set(map(str, json.loads(index.read_text("utf-8"))["weight_map"].values())))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise ValueError(f"{index} is not a safetensors index: it has no object 'weight_map'") from None
    for name in names:
        # Shards lie beside their index; nothing else is opened, whatever the index says.
        if Path(name).name != name or not (index.parent / name).is_file():
            raise ValueError(f"{index} names {name!r}, which is not a file beside it")
    return [index.parent / name for name in names]


def files_of_directory(directory: Path) -> list[Path]:
    """The files of a directory: those of its index, if it has one, or all.

    Raises:
        ValueError: If it has none, or its index is damaged.
    """
    indices = sorted(directory.glob("*.safetensors.index.json"))
    files = files_of_index(indices[0]) if len(indices) == 1 else sorted(directory.glob("*.safetensors"))
    if not files:
        raise ValueError(f"the directory {directory} has no .safetensors files")
    return files
