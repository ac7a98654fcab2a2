"""Where each tensor of a plan is: files, their headers, and pieces that are written as units."""

from __future__ import annotations

import functools
import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple
from urllib.parse import quote

from fastinit._checks import check_choice, check_int
from fastinit._files import npy_header
from fastinit._plan import DTYPES, numpy_dtype, share
from fastinit._results import Result, Rows
from fastinit._safetensors import CODES, ORDER, Entry, header
from fastinit._terminal import Table, size_text

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fastinit._plan import Plan, PlanRow

FORMATS = ("safetensors", "npy", "npz")
# A piece is at most so many bytes, except where a tensor cannot be made in parts.
PIECE = 2**24
# Of a file, in bytes, in most file systems.
_LONGEST_NAME = 255
_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12}


class Tensor(NamedTuple):
    """A tensor in a file, and the offset of its first byte."""

    row: PlanRow
    offset: int


class File(NamedTuple):
    """A file: its name, its first bytes, the tensors after them, and its size in bytes."""

    name: str
    head: bytes
    tensors: tuple[Tensor, ...]
    size: int


@dataclass(frozen=True)
class Piece:
    """Consecutive elements of a tensor, which are written and checked as a unit.

    Attributes:
        number: Its number among all pieces of the checkpoint.
        file: The number of its file.
        row: The tensor.
        first: The number of its first element, in C order.
        count: How many they are.
        offset: Where they are in the file.
    """

    number: int
    file: int
    row: PlanRow
    first: int
    count: int
    offset: int

    @property
    def nbytes(self) -> int:
        """The number of bytes."""
        return self.count * DTYPES[self.row.dtype]


@dataclass(frozen=True)
class Layout:
    """Where everything is.

    Attributes:
        files: The files.
        index: The name and the contents of the index of the files, if there is one.
    """

    files: list[File]
    index: tuple[str, bytes] | None

    @functools.cached_property
    def pieces(self) -> list[Piece]:
        """The pieces of all files, in their order."""
        return list(_pieces(self.files))

    @classmethod
    def of(
        cls, plan: Plan, kind: str, max_shard_size: int | None, metadata: Mapping[str, str] | None
    ) -> Layout:
        """The layout of a plan: nothing else decides it.

        Raises:
            ValueError: If the names of two files are the same, or one or a header is too long.
        """
        if kind == "npy":
            files = _files_of_npy(plan.rows)
        else:
            shards = _shards(plan.rows, max_shard_size)
            names = [f"model-{at:05d}-of-{len(shards):05d}.safetensors" for at in range(1, len(shards) + 1)]
            names = names if len(shards) > 1 else ["model.safetensors"]
            files = [_safetensors(name, rows, metadata) for name, rows in zip(names, shards, strict=True)]
        index = _index(files) if kind == "safetensors" and len(files) > 1 else None
        return cls(files, index)

    def of_writer(self, rank: int, world: int) -> list[Piece]:
        """The pieces of one of several writers."""
        return [self.pieces[place] for place in share([one.nbytes for one in self.pieces], rank, world)]


def _shards(rows: Sequence[PlanRow], most: int | None) -> list[list[PlanRow]]:
    """The tensors of each file, in the order of the plan, as Hugging Face's libraries split them."""
    shards: list[list[PlanRow]] = []
    current: list[PlanRow] = []
    size = 0
    for row in rows:
        if most is not None and row.nbytes > most:
            shards.append([row])
            continue
        if most is not None and size + row.nbytes > most:
            shards.append(current)
            current, size = [], 0
        current.append(row)
        size += row.nbytes
    if current or not shards:
        shards.append(current)
    return shards


def _safetensors(name: str, rows: Sequence[PlanRow], metadata: Mapping[str, str] | None) -> File:
    entries, begin = [], 0
    ordered = sorted(rows, key=lambda row: (ORDER[row.dtype], row.name))
    for row in ordered:
        end = begin + row.nbytes
        entries.append(Entry(row.name, CODES[row.dtype], row.shape, begin, end))
        begin = end
    head = header(entries, metadata)
    tensors = tuple(Tensor(row, len(head) + one.begin) for row, one in zip(ordered, entries, strict=True))
    return File(name, head, tensors, len(head) + begin)


def _files_of_npy(rows: Sequence[PlanRow]) -> list[File]:
    files = []
    seen: dict[str, str] = {}
    for row in rows:
        head = npy_header(numpy_dtype(row.dtype), row.shape)
        # Everything but these may mean something else to a file system.
        name = f"{quote(row.name, safe=' +,@[]()')}.npy"
        if len(f"{name}.incomplete") > _LONGEST_NAME:
            raise ValueError(
                f"the name of the file of {row.name!r:.80} would be too long: {len(name)} letters"
            )
        other = seen.setdefault(name.casefold(), row.name)
        if other != row.name:
            raise ValueError(f"the files of {other!r} and {row.name!r} are the same on some systems")
        files.append(File(name, head, (Tensor(row, len(head)),), len(head) + row.nbytes))
    return files


def _index(files: Sequence[File]) -> tuple[str, bytes]:
    """The index of several files of safetensors, as Hugging Face's libraries write it."""
    weight_map = {one.row.name: file.name for file in files for one in file.tensors}
    total = sum(one.row.nbytes for file in files for one in file.tensors)
    values = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
    return "model.safetensors.index.json", (json.dumps(values, indent=2, ensure_ascii=False) + "\n").encode()


def step_of(row: PlanRow) -> int:
    """The number of elements of a piece of a tensor, except for the last one."""
    return PIECE // DTYPES[row.dtype] if row.is_by_element else max(1, row.size)


def _pieces(files: Sequence[File]) -> Iterator[Piece]:
    number = 0
    for file, one in enumerate(files):
        for row, offset in one.tensors:
            itemsize, step = DTYPES[row.dtype], step_of(row)
            for first in range(0, row.size, step):
                count = min(step, row.size - first)
                yield Piece(number, file, row, first, count, offset + first * itemsize)
                number += 1


@dataclass(frozen=True)
class FileRow(Result):
    """A file that `write` makes.

    Attributes:
        name: Its name.
        tensors: The number of tensors in it.
        nbytes: Its size in bytes.
    """

    name: str
    tensors: int
    nbytes: int


@dataclass(frozen=True)
class Files(Rows[FileRow]):
    """The files that `write` makes, without the index and the manifest. `print` shows them as a table.

    Attributes:
        rows: The files; `files[name]` is that of a name.
    """

    rows: tuple[FileRow, ...]

    def _parts(self) -> list[str | Table]:
        cells = [(row.name, str(row.tensors), f"{row.nbytes:,}") for row in self.rows]
        total = sum(row.nbytes for row in self.rows)
        count = "1 file" if len(self.rows) == 1 else f"{len(self.rows)} files"
        return [Table(("file", "tensors", "bytes"), cells, "<>>"), f"{count}, {size_text(total)}"]


def files(
    plan: Plan,
    *,
    max_shard_size: int | str | None = "5GB",
    format: str = "safetensors",  # noqa: A002 - the word of the field
    metadata: Mapping[str, str] | None = None,
) -> Files:
    """The files that `write` makes with the same arguments, and their sizes; nothing is written.

    Args:
        plan: What the tensors contain.
        max_shard_size: As in `write`.
        format: As in `write`, but not `"npz"`.
        metadata: As in `write`.

    Returns:
        The files. Print them for a table.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is of the wrong kind.

    Example:
        >>> import fastinit.checkpoint
        >>> plan = fastinit.checkpoint.plan({"up.weight": ((256, 64), "float32", "he_normal")})
        >>> print(fastinit.checkpoint.files(plan))
        file               tensors   bytes
        model.safetensors        1  65,648
        1 file, 65.6 kB
    """
    kind = check_choice("format", format, FORMATS[:-1])
    layout = Layout.of(plan, kind, bytes_of(max_shard_size), metadata_of(metadata))
    return Files(tuple(FileRow(one.name, len(one.tensors), one.size) for one in layout.files))


def metadata_of(metadata: Mapping[str, str] | None) -> dict[str, str]:
    """The metadata of the headers.

    Raises:
        TypeError: If it is not a mapping from texts to texts.
    """
    if metadata is None:
        return {"format": "pt"}  # Libraries of Hugging Face refuse files without it.
    found = dict(metadata)
    if not all(isinstance(text, str) for pair in found.items() for text in pair):
        raise TypeError(f"metadata must be a mapping from str to str, got {metadata!r:.80}")
    return found


def bytes_of(size: int | str | None) -> int | None:
    """The number of bytes that `"5GB"`, `"64MiB"` or an int means; `None` for no limit.

    Raises:
        ValueError: If it is something else, or not positive.
        TypeError: If it is of another kind.
    """
    if size is None:
        return None
    if not isinstance(size, str):
        return check_int("max_shard_size", size, 1)
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B", size.strip(), re.IGNORECASE)
    if found is None:
        raise ValueError(f'max_shard_size must be written like "5GB" or "512MiB", got {size!r:.80}')
    number, unit, binary = found.groups()
    factor = _UNITS[unit.upper()]
    if binary:
        factor = 1024 ** list(_UNITS.values()).index(factor)
    return check_int("max_shard_size", int(float(number) * factor), 1)
