"""Checkpoints as one `.npz`: a stream of bytes, which is written, or compared with a file."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from fastinit._files import npy_header
from fastinit._plan import numpy_dtype

from ._layout import Piece
from ._pieces import made_in_blocks

if TYPE_CHECKING:
    from fastinit._plan import Plan
    from fastinit._terminal import Bar

NAME = "model.npz"


# Takes bytes, and the name of the array that they belong to.
_Take = Callable[[Any, str], object]


class _Sink(io.RawIOBase):
    """A file that cannot be sought in, so that `zipfile` writes one byte after the other."""

    def __init__(self, take: _Take) -> None:
        self.take = take
        self.name = ""

    def writable(self) -> bool:
        return True

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        self.take(view, self.name)
        return len(view)


def check_names(names: Iterable[str]) -> None:
    """Raises an error if arrays in an archive cannot have these names.

    Raises:
        ValueError: If `zipfile` would change one, or NumPy would read another array for it.
    """
    known = set(names)
    for name in known:
        if "\0" in name or len(f"{name}.npy".encode()) >= 2**16:
            raise ValueError(f"an array in an .npz cannot have a name with NUL or of 64 KiB: {name!r:.80}")
        if name.endswith(".npy") and name.removesuffix(".npy") in known:
            raise ValueError(f"numpy.load takes {name!r:.80} for {name.removesuffix('.npy')!r:.80}")


def stream(plan: Plan, seed: int, take: _Take, threads: int, bar: Bar) -> None:
    """Makes the bytes of the archive.

    Args:
        plan: What the arrays contain.
        seed: The seed.
        take: Is called with the bytes, from the first to the last one, and the name of an array.
        threads: The largest number of threads to use.
        bar: Is told of each array.
    """
    sink = _Sink(take)
    with zipfile.ZipFile(sink, "w", zipfile.ZIP_STORED) as archive:
        for row in plan.rows:
            sink.name = row.name
            # With the date of 1980, as in NumPy.
            with archive.open(zipfile.ZipInfo(f"{row.name}.npy"), "w", force_zip64=True) as member:
                member.write(npy_header(numpy_dtype(row.dtype), row.shape))
                for _, block in made_in_blocks(Piece(0, 0, row, 0, row.size, 0), seed, threads):
                    member.write(block.data)
            bar.add(row.nbytes, row.name)
        sink.name = ""
