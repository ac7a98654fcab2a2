"""Reading `.safetensors` files piece by piece, in little memory.

A file is eight bytes that say how long its header is, little-endian; the header, JSON; and the data. Nothing
in the header is believed: lengths, offsets and shapes are checked against each other and against the size of
the file, and a file that breaks a rule is refused with a `ValueError` that names the file and the rule.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator

# The bytes of an element.
ITEM_SIZES = {
    "BOOL": 1,
    "U8": 1,
    "I8": 1,
    "F8_E4M3": 1,
    "F8_E5M2": 1,
    "F8_E8M0": 1,
    "I16": 2,
    "U16": 2,
    "F16": 2,
    "BF16": 2,
    "I32": 4,
    "U32": 4,
    "F32": 4,
    "I64": 8,
    "U64": 8,
    "F64": 8,
    "C64": 8,
}

# The format's own limit; a longer header is a sign that this is another kind of file.
_LARGEST_HEADER = 100_000_000


@dataclass(frozen=True)
class Entry:
    """A tensor in a file: where it lies, and as what."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    path: Path
    start: int


def entries(path: Path) -> list[Entry]:
    """The tensors of a file, in the order of their data.

    Raises:
        ValueError: If the file is not one of safetensors, or broken.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if size < 8 or length > size - 8:
            raise _broken(path, f"its header should have {length} bytes, and the whole file has {size}")
        if length > _LARGEST_HEADER:
            raise _broken(path, f"its header has {length} bytes, more than {_LARGEST_HEADER}")
        text = file.read(length)
    try:
        header = json.loads(text.decode(), object_pairs_hook=_unique)
    except (ValueError, RecursionError) as error:
        raise _broken(path, f"its header is not JSON: {error}") from None
    if not isinstance(header, dict):
        raise _broken(path, "its header is not a JSON object")
    header.pop("__metadata__", None)
    spans = sorted((_span(path, name, value), name) for name, value in header.items())
    end = 0
    for (start, stop), name in spans:
        if start != end:
            kind = "overlaps what lies before it" if start < end else "leaves a gap before it"
            raise _broken(
                path, f"{name!r} begins at byte {start} of the data and {kind}, which ends at {end}"
            )
        end = stop
    if 8 + length + end != size:
        raise _broken(path, f"its tensors end at byte {8 + length + end}, and the file has {size}")
    return [
        Entry(name, header[name]["dtype"], tuple(header[name]["shape"]), path, 8 + length + start)
        for (start, _), name in spans
    ]


def files(path: Path) -> Iterator[Path]:
    """The `.safetensors` files that an index names.

    Raises:
        ValueError: If the index is not one, or names a file that is not there.
    """
    try:
        found = json.loads(path.read_text("utf-8"))["weight_map"].values()
        names = sorted({str(name) for name in found})
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
        raise _broken(path, "an index must be JSON with an object 'weight_map'") from None
    for name in names:
        # Shards lie beside their index; nothing else is opened, whatever the index says.
        if Path(name).name != name or not (path.parent / name).is_file():
            raise _broken(path, f"it names {name!r}, which is not a file beside it")
        yield path.parent / name


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A JSON object in which no name occurs twice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"{next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return found


def _span(path: Path, name: str, value: Any) -> tuple[int, int]:
    """The offsets of a tensor, if they and its shape and dtype fit together."""
    try:
        dtype, shape, (start, stop) = value["dtype"], value["shape"], value["data_offsets"]
    except (KeyError, TypeError, ValueError):
        raise _broken(path, f"{name!r} needs 'dtype', 'shape' and two 'data_offsets'") from None
    numbers = [start, stop, *shape] if isinstance(shape, list) else [None]
    if not isinstance(dtype, str) or not all(type(number) is int and number >= 0 for number in numbers):
        raise _broken(path, f"{name!r} has a dtype, shape or offset of the wrong kind: {value!r:.200}")
    if stop < start:
        raise _broken(path, f"{name!r} ends at byte {stop} of the data, before it begins, at {start}")
    if dtype in ITEM_SIZES and math.prod(shape) * ITEM_SIZES[dtype] != stop - start:
        needed = f"{dtype} of shape {shape} needs {math.prod(shape) * ITEM_SIZES[dtype]}"
        raise _broken(path, f"{name!r} has {stop - start} bytes, and {needed}")
    return start, stop


def _broken(path: Path, why: str) -> ValueError:
    return ValueError(f"{path} is not a file of safetensors, or is damaged: {why}")
