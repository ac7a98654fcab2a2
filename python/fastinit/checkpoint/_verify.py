"""The comparison of a checkpoint with what its manifest says, without holding a tensor."""

from __future__ import annotations

import json
import random
import time
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

import fastinit
from fastinit._checks import check_choice, check_int
from fastinit._plan import DTYPES, Plan
from fastinit._results import Result
from fastinit._terminal import Bar, Table, size_text

from . import _layout, _npz
from ._layout import FORMATS, Layout, bytes_of, metadata_of, step_of
from ._pieces import BLOCK, digest_of, in_threads, made_in_blocks
from ._store import MANIFEST

if TYPE_CHECKING:
    import os
    from collections.abc import Iterator

    from fastinit._terminal import Progress
    from fastinit._typing import Array

    from ._layout import File, Piece

# As many are reported.
_MOST = 1000


@dataclass(frozen=True)
class Difference(Result):
    """Bytes of a file that are not as they should be.

    Attributes:
        file: The name of the file.
        tensor: The name of the tensor; `None` outside of tensors.
        begin: The offset, in the file, of the first wrong byte.
        end: The offset after the last one, within a block of 2 MiB.
        element: The index of the first wrong element in the tensor, in C order.
        problem: What is wrong.
    """

    file: str
    tensor: str | None
    begin: int
    end: int
    element: int | None
    problem: str


@dataclass(frozen=True)
class Verification(Result):
    """What `verify` found. `print` shows it as a table.

    Attributes:
        directory: The directory of the checkpoint.
        ok: Whether all that was checked is right.
        differences: What is wrong, at most 1000 of them, in the order of files and offsets.
        checked: The number of bytes of tensors that were compared.
        nbytes: The number of bytes of all tensors.
        seconds: The time that all of it took.
    """

    _schema = 1

    directory: str
    ok: bool
    differences: tuple[Difference, ...]
    checked: int
    nbytes: int
    seconds: float

    def _parts(self) -> list[str | Table]:
        what = f"{size_text(self.checked)} of {size_text(self.nbytes)} compared in {self.seconds:.1f} s"
        if self.ok:
            return [f"{self.directory}: right, {what}"]
        cells = [
            (one.file, one.tensor or "", f"{one.begin:,}", f"{one.end:,}", one.problem)
            for one in self.differences
        ]
        return [
            f"{self.directory}: wrong, {what}",
            Table(("file", "tensor", "from byte", "to byte", "problem"), cells, "<<>><", wrap=60),
        ]


def verify(
    directory: str | os.PathLike[str],
    *,
    sample: int | None = None,
    threads: int | None = None,
    progress: Progress = None,
) -> Verification:
    """Makes each value of a checkpoint again, and compares it with the files.

    Headers, indices and sizes are compared, too. No tensor is held in memory, except where `write` needs it.

    Args:
        directory: A directory that `write` has completed.
        sample: Compare only as many pieces, of up to 16 MiB each, chosen at random; `None` for all. Of a
            huge checkpoint this takes seconds, and finds damage of a share *p* of its pieces with a
            probability of 1 - (1 - p)**sample.
        threads: The largest number of threads to use; `None` for `fastinit.get_num_threads()`.
        progress: As for `write`.

    Returns:
        What was found.

    Raises:
        FileNotFoundError: If the directory has no manifest.
        ValueError: If the manifest is damaged, or of another version of the stream.

    Example:
        >>> import tempfile, fastinit, fastinit.checkpoint
        >>> plan = fastinit.checkpoint.plan({"up.weight": ((256, 64), "float32", fastinit.HeNormal())})
        >>> directory = tempfile.mkdtemp()
        >>> _ = fastinit.checkpoint.write(plan, directory, seed=1)
        >>> fastinit.checkpoint.verify(directory).ok
        True
        >>> with open(f"{directory}/model.safetensors", "r+b") as file:
        ...     _ = file.seek(1000) + file.write(b"?")
        >>> found = fastinit.checkpoint.verify(directory).differences[0]
        >>> found.tensor, found.begin
        ('up.weight', 1000)
    """
    start = time.perf_counter()
    folder = Path(directory)
    threads = fastinit.get_num_threads() if threads is None else check_int("threads", threads, 1)
    if sample is not None:
        check_int("sample", sample, 1)
    seed, plan, layout, digests = _manifest(folder)
    check = _Check(folder, seed, threads)
    if layout is None:
        if sample is not None:
            raise ValueError("an .npz has no pieces to choose from: sample must be None")
        checked = check.npz(plan, progress)
    else:
        checked = check.pieces(layout, digests, sample, progress)
    found = sorted(check.found, key=lambda one: (one.file, one.begin))
    seconds = time.perf_counter() - start
    return Verification(str(folder), not found, tuple(found[:_MOST]), checked, plan.nbytes, seconds)


def _manifest(folder: Path) -> tuple[int, Plan, Layout | None, list[str]]:
    """The seed, the plan, the layout (`None` for an .npz), and the digests of its pieces."""
    path = folder / MANIFEST
    try:
        text = path.read_text("utf-8")
    except FileNotFoundError:
        is_begun = any(folder.glob("*.incomplete"))
        what = "is not complete: call write again" if is_begun else f"has no {MANIFEST}"
        raise FileNotFoundError(f"the checkpoint in {folder} {what}") from None
    try:
        values = json.loads(text)
        if values["schema"] != "checkpoint/1":
            raise ValueError(f"its schema is {values['schema']!r:.80}, this fastinit reads checkpoint/1")
        seed = check_int("seed", values["seed"], 0, 2**64 - 1)
        plan = Plan.from_dict(values["plan"])
        kind = check_choice("format", values["format"], FORMATS)
        if kind == "npz":
            _npz.check_names(row.name for row in plan.rows)
            return seed, plan, None, []
        most, metadata = bytes_of(values["max_shard_size"]), metadata_of(values["metadata"])
        if values["piece"] != _layout.PIECE:
            raise ValueError(f"its pieces have {values['piece']!r:.80} bytes and not {_layout.PIECE}")
        layout = Layout.of(plan, kind, most, metadata)
        return seed, plan, layout, _digests(layout, values["plan"]["rows"])
    except KeyError as error:
        raise ValueError(f"{path} is damaged: it has no {error}") from None
    except (AttributeError, OverflowError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path} is damaged: {error}") from None


def _digests(layout: Layout, rows: list[dict[str, Any]]) -> list[str]:
    """The digests of the pieces of a layout, as the manifest has them."""
    by_name = {row["name"]: row for row in rows}
    found: list[str] = []
    for file in layout.files:
        for row, offset in file.tensors:
            of_row = by_name[row.name]
            digests = of_row["digests"]
            if (of_row["file"], of_row["offset"]) != (file.name, offset):
                raise ValueError(f"{row.name!r:.80} is in {file.name} at {offset}, and it says otherwise")
            if not isinstance(digests, list) or len(digests) != -(-row.size // step_of(row)):
                raise ValueError(f"it does not have a digest for each piece of {row.name!r:.80}")
            found += map(str, digests)
    return found


class _Check:
    """The comparison of the files of one checkpoint."""

    def __init__(self, folder: Path, seed: int, threads: int) -> None:
        self.folder = folder
        self.seed = seed
        self.threads = threads
        self.found: list[Difference] = []

    def add(
        self, file: str, tensor: str | None, begin: int, end: int, element: int | None, what: str
    ) -> None:
        if len(self.found) < _MOST:
            self.found.append(Difference(file, tensor, begin, end, element, what))

    # Files of pieces

    def pieces(self, layout: Layout, digests: list[str], sample: int | None, progress: Progress) -> int:
        """Compares all files; returns the number of bytes of tensors that were compared."""
        there = {number for number, file in enumerate(layout.files) if self._head(file)}
        if layout.index is not None:
            self._bytes(*layout.index, "the index differs", is_all=True)
        pieces = [piece for piece in layout.pieces if piece.file in there]
        if sample is not None and sample < len(pieces):
            pieces = sorted(random.SystemRandom().sample(pieces, sample), key=lambda piece: piece.number)

        def compare(piece: Piece) -> None:
            self._piece(layout.files[piece.file], piece, digests[piece.number], 1)

        with closing(Bar(progress, sum(piece.nbytes for piece in pieces), in_bytes=True)) as bar:
            for piece in pieces:
                if not piece.row.is_by_element:
                    self._piece(layout.files[piece.file], piece, digests[piece.number], self.threads)
                    bar.add(piece.nbytes, piece.row.name)
            in_threads(compare, [one for one in pieces if one.row.is_by_element], self.threads, bar)
        return sum(piece.nbytes for piece in pieces)

    def _head(self, file: File) -> bool:
        """Compares what is not part of a tensor; returns whether there is a file."""
        try:
            size = (self.folder / file.name).stat().st_size
        except FileNotFoundError:
            self.add(file.name, None, 0, file.size, None, "there is no such file")
            return False
        if size != file.size:
            begin, end = sorted((size, file.size))
            self.add(file.name, None, begin, end, None, f"it has {size:,} bytes instead of {file.size:,}")
        self._bytes(file.name, file.head, "the header differs")
        return True

    def _bytes(self, name: str, wanted: bytes, what: str, *, is_all: bool = False) -> None:
        """Compares the first bytes of a file, or all of them."""
        try:
            with (self.folder / name).open("rb") as opened:
                found = opened.read() if is_all else opened.read(len(wanted))
        except FileNotFoundError:
            self.add(name, None, 0, len(wanted), None, "there is no such file")
            return
        if found != wanted:
            self.add(name, None, *_differing(found, wanted), None, what)

    def _piece(self, file: File, piece: Piece, digest: str, threads: int) -> None:
        def compared(opened: Any) -> Iterator[Array]:
            is_right = True
            for offset, block in made_in_blocks(piece, self.seed, threads):
                if is_right:
                    opened.seek(offset)
                    found = opened.read(len(block))
                    if not _is_same(found, block):
                        is_right = False
                        begin, end = _differing(found, block)
                        self._differs(file.name, piece, offset + begin, offset + end)
                yield block

        with (self.folder / file.name).open("rb", buffering=0) as opened:
            made = digest_of(compared(opened))
        if made != digest:
            self.add(MANIFEST, piece.row.name, 0, 0, piece.first, f"the digest {digest} should be {made}")

    def _differs(self, name: str, piece: Piece, begin: int, end: int) -> None:
        element = piece.first + (begin - piece.offset) // DTYPES[piece.row.dtype]
        self.add(name, piece.row.name, begin, end, element, f"wrong from element {element:,} on")

    # A stream

    def npz(self, plan: Plan, progress: Progress) -> int:
        """Compares an archive; returns the number of bytes of tensors that were compared."""
        name, position = _npz.NAME, 0

        with (
            (self.folder / name).open("rb") as opened,
            closing(Bar(progress, plan.nbytes, in_bytes=True)) as bar,
        ):

            def compare(wanted: Any, tensor: str) -> None:
                nonlocal position
                for done in range(0, len(wanted), BLOCK):
                    block = wanted[done : done + BLOCK]
                    found = opened.read(len(block))
                    if not self.found and not _is_same(found, block):
                        begin, end = _differing(found, block)
                        self.add(name, tensor or None, position + begin, position + end, None, "it differs")
                    position += len(block)

            _npz.stream(plan, self.seed, compare, self.threads, bar)
            if opened.read(1) and not self.found:
                self.add(name, None, position, position + 1, None, "it is longer than it should be")
        return plan.nbytes


def _is_same(found: bytes, wanted: Any) -> bool:
    # Comparing with a `memoryview` would take ten times as long.
    return np.array_equal(np.frombuffer(found, np.uint8), np.frombuffer(wanted, np.uint8))


def _differing(found: Any, wanted: Any) -> tuple[int, int]:
    """The range in which some bytes differ."""
    most = min(len(found), len(wanted))
    a, b = np.frombuffer(found, np.uint8)[:most], np.frombuffer(wanted, np.uint8)[:most]
    places = np.flatnonzero(a != b)
    begin = int(places[0]) if len(places) else most
    end = max(len(found), len(wanted)) if len(found) != len(wanted) else int(places[-1]) + 1
    return begin, end
