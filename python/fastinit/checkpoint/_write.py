"""The writing of a checkpoint, on several threads and by several processes."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import threading
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import fastinit
from fastinit._checks import check_choice, check_int
from fastinit._files import names_to_disk, replacing
from fastinit._plan import Plan
from fastinit._results import Result
from fastinit._terminal import Bar, size_text

from . import _layout, _npz
from ._pieces import digest_of, in_threads, made_in_blocks, read_in_blocks
from ._store import MANIFEST, Store, write_at

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from fastinit._terminal import Progress
    from fastinit._typing import Array

    from ._layout import Piece


@dataclass(frozen=True)
class Written(Result):
    """What `write` did.

    Attributes:
        directory: The directory of the checkpoint.
        files: The names of its files, without the index and the manifest.
        complete: Whether the checkpoint is whole. It is not while other writers have parts to write.
        nbytes: The number of bytes of tensors that this call wrote.
        kept: The number of bytes of tensors that earlier calls had written, in the part of this writer.
        seconds: The time that all of it took.
    """

    _schema = 1

    directory: str
    files: tuple[str, ...]
    complete: bool
    nbytes: int
    kept: int
    seconds: float

    def _parts(self) -> list[str]:
        rate = f", {size_text(self.nbytes / self.seconds)}/s" if self.seconds > 0 else ""
        what = "1 file" if len(self.files) == 1 else f"{len(self.files)} files"
        lines = [f"{self.directory}: {what}, {size_text(self.nbytes)} written in {self.seconds:.1f} s{rate}"]
        if self.kept:
            lines.append(f"{size_text(self.kept)} had been written before")
        if not self.complete:
            lines.append("other writers have parts to write")
        return lines


def write(
    plan: Plan,
    directory: str | os.PathLike[str],
    seed: int,
    *,
    max_shard_size: int | str | None = "5GB",
    format: str = "safetensors",  # noqa: A002 - the word of the field
    metadata: Mapping[str, str] | None = None,
    rank: int = 0,
    world: int = 1,
    threads: int | None = None,
    sync: bool = True,
    progress: Progress = None,
) -> Written:
    """Writes a checkpoint of any size, in little memory, straight to its files.

    The files are those that Hugging Face's libraries write: `model.safetensors`, or
    `model-00001-of-00003.safetensors` and so on with `model.safetensors.index.json`. Each has the bytes that
    `safetensors.numpy.save_file` writes for the same tensors. Beside them is `"fastinit.json"`, the manifest,
    which `verify` reads.

    Memory: 2 MiB for each thread, and for each tensor that cannot be made in parts (`orthogonal`,
    `delta_orthogonal`, `sparse`, `Formula`) that tensor, one at a time.

    **An interrupted call** (Ctrl-C, a full disk, a killed process) leaves files whose names end in
    `.incomplete`. The same call again checks what is there and continues. Another seed or plan in the same
    directory is an error. Nothing that exists is overwritten.

    **Several writers** share a directory, each with its own `rank`. They need no communication and no common
    start: whoever finishes last completes the checkpoint. A call with another `world` continues, too. The
    bytes do not depend on it.

    Args:
        plan: What the tensors contain.
        directory: The directory; it is made if there is none.
        seed: An int in [0, 2**64).
        max_shard_size: The largest size of a file, by the bytes of its tensors: an int, or a text such as
            `"5GB"` (10**9) or `"5GiB"` (2**30); `None` for one file. A larger tensor has a file of its own.
        format: `"safetensors"`; `"npy"`, a file for each tensor; or `"npz"`, one file, by one writer, which
            begins again after an interrupt. bfloat16 and float8 are raw bytes there (dtype `V2` and `V1`), as
            for `numpy.save`.
        metadata: The metadata of the headers of safetensors; `None` for `{"format": "pt"}`.
        rank: Which writer this is, from 0 to `world - 1`.
        world: The number of writers.
        threads: The largest number of threads to use; `None` for `fastinit.get_num_threads()`.
        sync: Whether to wait until the data is on the disk before a file gets its name. Otherwise a power
            failure may leave a wrong file that looks whole.
        progress: Whether to show a progress bar on standard error; `None` for a terminal. Or a function that
            is called with the number of bytes done, the number of all bytes, and the name of a tensor.

    Returns:
        What was done.

    Raises:
        ValueError: If an argument is out of range.
        TypeError: If an argument is of the wrong kind.
        FileExistsError: If the directory contains another checkpoint, or another process has this rank.
        OSError: If a file cannot be written, or there is not enough space.

    Example:
        >>> import tempfile, fastinit, fastinit.checkpoint
        >>> plan = fastinit.checkpoint.plan({"up.weight": ((256, 64), "float32", fastinit.HeNormal())})
        >>> directory = tempfile.mkdtemp()
        >>> written = fastinit.checkpoint.write(plan, directory, seed=1)
        >>> written.files, written.complete, written.nbytes
        (('model.safetensors',), True, 65536)
        >>> from safetensors.numpy import load_file
        >>> array = load_file(f"{directory}/model.safetensors")["up.weight"]
        >>> bool((array == fastinit.he_normal((256, 64), seed=1, stream="up.weight")).all())
        True
    """
    start = time.perf_counter()
    if not isinstance(plan, Plan):
        raise TypeError(f"plan must be a Plan, got {type(plan).__name__}; fastinit.checkpoint.plan makes one")
    seed = check_int("seed", seed, 0, 2**64 - 1)
    world = check_int("world", world, 1)
    rank = check_int("rank", rank, 0, world - 1)
    threads = fastinit.get_num_threads() if threads is None else check_int("threads", threads, 1)
    kind = check_choice("format", format, _layout.FORMATS)
    most = _layout.bytes_of(max_shard_size)
    metadata = _layout.metadata_of(metadata)
    folder = Path(directory)
    if kind == "npz" and world > 1:
        raise ValueError(f"an .npz has one writer, got world={world}")
    description = {
        "schema": "checkpoint/1",
        "seed": seed,
        "format": kind,
        "max_shard_size": most,
        "metadata": metadata,
        "piece": _layout.PIECE,
        "plan": plan.to_dict(),
    }
    if kind == "npz":
        nbytes = _write_npz(plan, folder, seed, threads, description, progress, sync=sync)
        seconds = time.perf_counter() - start
        return Written(str(folder), (_npz.NAME,), complete=True, nbytes=nbytes, kept=0, seconds=seconds)
    store = Store(folder, description, _layout.Layout.of(plan, kind, most, metadata), sync=sync)
    is_whole = store.begin()
    work = _Work(store, rank, world, seed, threads)
    if is_whole:
        complete = True
        work.kept = sum(piece.nbytes for piece in work.pieces)
    else:
        try:
            with store.journal(rank, world) as journal:
                work.run(journal, progress)
            complete = store.finish_all()
        except FileNotFoundError:
            # Another writer with the same part, or with another `world`, has completed the checkpoint.
            if not store.is_complete():
                raise
            complete = True
    names = tuple(file.name for file in store.layout.files)
    seconds = time.perf_counter() - start
    return Written(str(folder), names, complete, work.written, work.kept, seconds)


def _write_npz(
    plan: Plan,
    folder: Path,
    seed: int,
    threads: int,
    description: dict[str, Any],
    progress: Progress,
    *,
    sync: bool,
) -> int:
    """Writes an .npz and its manifest; returns the number of bytes of tensors that were written."""
    _npz.check_names(row.name for row in plan.rows)
    folder.mkdir(parents=True, exist_ok=True)
    for name in (_npz.NAME, MANIFEST):
        if os.path.lexists(folder / name):
            raise FileExistsError(f"{folder / name} exists, and would be overwritten")
    with (
        contextlib.closing(Bar(progress, plan.nbytes, in_bytes=True)) as bar,
        replacing(folder / _npz.NAME, sync=sync) as file,
    ):
        _npz.stream(plan, seed, lambda data, _: file.write(data), threads, bar)
    with replacing(folder / MANIFEST, sync=sync) as file:
        file.write(json.dumps(description, ensure_ascii=False, indent=1).encode())
    if sync:
        names_to_disk(folder)
    return plan.nbytes


def _in_turns(pieces: Sequence[Piece], count: int) -> list[Piece]:
    """The pieces in an order in which `count` threads write to as many files, where there are as many.

    The system lets one thread at a time write to a file.
    """
    files = [list(found) for _, found in itertools.groupby(pieces, key=lambda piece: piece.file)]
    groups = (files[first : first + count] for first in range(0, len(files), count))
    turns = (turn for group in groups for turn in itertools.zip_longest(*group))
    return [piece for turn in turns for piece in turn if piece is not None]


class _Work:
    """The part of one writer."""

    def __init__(self, store: Store, rank: int, world: int, seed: int, threads: int) -> None:
        self.store = store
        self.seed = seed
        self.threads = threads
        self.pieces = store.layout.of_writer(rank, world)
        self.written = self.kept = 0
        self.earlier: dict[int, str] = {}
        self.left: Counter[int] = Counter()  # pieces of each file
        self.lock = threading.Lock()

    def run(self, journal: IO[bytes], progress: Progress) -> None:
        """Writes all pieces."""
        self.earlier = self.store.done()
        whole = {number for number in {piece.file for piece in self.pieces} if self.store.is_whole(number)}
        todo = [piece for piece in self.pieces if piece.file not in whole]
        self.kept = sum(piece.nbytes for piece in self.pieces if piece.file in whole)
        self.left = Counter(piece.file for piece in todo)
        with contextlib.closing(Bar(progress, sum(piece.nbytes for piece in todo), in_bytes=True)) as bar:
            # A tensor that is made as a whole takes its memory, and all threads.
            for piece in todo:
                if not piece.row.is_by_element:
                    self.do(piece, self.threads, journal)
                    bar.add(piece.nbytes, piece.row.name)
            parts = _in_turns([piece for piece in todo if piece.row.is_by_element], self.threads)
            try:
                in_threads(lambda piece: self.do(piece, 1, journal), parts, self.threads, bar)
            finally:
                self.store.flush(journal)

    def do(self, piece: Piece, threads: int, journal: IO[bytes]) -> None:
        """Writes a piece, unless it is there, and finishes its file."""
        before = self.earlier.get(piece.number)
        try:
            with self.store.opened(piece) as file:
                is_there = before is not None and digest_of(read_in_blocks(file, piece)) == before
                digest = before if is_there else self._write(file, piece, threads)
        except FileNotFoundError:
            # Another writer with the same part, or with another `world`, has finished the file.
            if not self.store.is_whole(piece.file):
                raise
            is_there = True
        if not is_there:
            self.store.note(journal, piece, str(digest))
        with self.lock:
            if is_there:
                self.kept += piece.nbytes
            else:
                self.written += piece.nbytes
            self.left[piece.file] -= 1
            is_last = self.left[piece.file] == 0
        if is_last:
            self.store.flush(journal)
            self.store.finish(piece.file)

    def _write(self, file: IO[bytes], piece: Piece, threads: int) -> str:
        def written() -> Iterator[Array]:
            for offset, block in made_in_blocks(piece, self.seed, threads):
                write_at(file, offset, block)
                yield block

        return digest_of(written())
