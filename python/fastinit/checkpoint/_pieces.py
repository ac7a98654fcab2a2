"""Pieces of a checkpoint: made or read block by block, on several threads."""

from __future__ import annotations

import threading
from typing import IO, TYPE_CHECKING

import numpy as np

from fastinit._fill import fill
from fastinit._plan import numpy_dtype
from fastinit._runtime import crc32

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Sequence

    from fastinit._terminal import Bar
    from fastinit._typing import Array

    from ._layout import Piece

# What a thread makes or reads at a time: it stays in the cache of the processor.
BLOCK = 2**21


def made_in_blocks(piece: Piece, seed: int, threads: int) -> Iterator[tuple[int, Array]]:
    """The bytes of a piece, in blocks that share memory, with their offsets in the file."""
    dtype = numpy_dtype(piece.row.dtype)
    most = BLOCK // dtype.itemsize if piece.row.is_by_element else piece.count
    buffer = np.empty(min(most, piece.count), dtype)
    for done in range(0, piece.count, most):
        block = buffer[: min(most, piece.count - done)]
        fill(piece.row, piece.first + done, block, seed, threads)
        yield piece.offset + done * dtype.itemsize, block.view(np.uint8)


def read_in_blocks(file: IO[bytes], piece: Piece) -> Iterator[Array]:
    """The bytes of a piece in a file, in blocks that share memory; fewer if it ends before."""
    file.seek(piece.offset)
    buffer = np.empty(min(BLOCK, piece.nbytes), np.uint8)
    for done in range(0, piece.nbytes, BLOCK):
        block = buffer[: min(BLOCK, piece.nbytes - done)]
        yield block[: file.readinto(block.data)]  # type: ignore[attr-defined]


def digest_of(blocks: Iterable[Array]) -> str:
    """The digest of a piece: the CRC-32 of its bytes, as eight hexadecimal digits."""
    digest = 0
    for block in blocks:
        digest = crc32(block, digest)
    return f"{digest:08x}"


def in_threads(do: Callable[[Piece], object], pieces: Sequence[Piece], threads: int, bar: Bar) -> None:
    """Calls a function with each piece, on several threads; the bar is told on this one.

    Raises:
        Exception: The first error of the function; pieces that have begun are ended, no other one begins.
    """
    todo = iter(pieces)
    lock = threading.Lock()
    ended = threading.Condition(lock)
    done: list[Piece] = []
    errors: list[BaseException] = []
    stop = False
    running = 0

    def work() -> None:
        nonlocal running
        try:
            while True:
                with lock:
                    piece = None if stop or errors else next(todo, None)
                if piece is None:
                    return
                do(piece)
                with lock:
                    done.append(piece)
                    ended.notify()
        except BaseException as error:
            errors.append(error)
        finally:
            with lock:
                running -= 1
                ended.notify()

    workers = [threading.Thread(target=work, daemon=True) for _ in range(min(threads, len(pieces)))]
    running = len(workers)
    try:
        for worker in workers:
            worker.start()
        while True:
            with lock:
                if running and not done:
                    ended.wait(0.1)
                some, left = done[:], running
                done.clear()
            for piece in some:
                bar.add(piece.nbytes, piece.row.name)
            if not left and not some:
                break
    finally:
        stop = True
        for worker in workers:
            if worker.ident is not None:
                worker.join()
    if errors:
        raise errors[0]
