"""Test the random words, and the bits of samples of each distribution, with the batteries of TestU01.

TestU01 (L'Ecuyer and Simard, "TestU01: A C library for empirical testing of random number generators", ACM
Transactions on Mathematical Software 33, 2007) is in Debian as `libtestu01-0` (section non-free). Samples are
turned into bits by their distribution function: of a value that is uniform on [0, 1), the first bits are
independent and fair. Of `float32` normal samples only 8 bits are taken, since rounding makes the bits behind
them uneven.

Run as `make randomness`; `ARGS="--battery crush words"` runs a longer battery on one source. The status is 1
if a p-value is below 1e-10 or above 1 - 1e-10.
"""

from __future__ import annotations

import argparse
import ctypes
import itertools
import os
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import numpy as np
from scipy.special import ndtr  # type: ignore[import-untyped]

import fastinit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# The elements of a piece. A piece of several seeds or names is a square of 2**10 by 2**10.
PIECE = 2**20
SIDE = 2**10
# A tensor so large that no source comes to its end.
LONG = 2**50


def packed(values: np.ndarray, bits: int) -> bytes:
    """The lowest bits of integers, the highest of them first."""
    raw = values.astype(">u8").view(np.uint8).reshape(-1, 8)
    return np.packbits(np.unpackbits(raw, axis=1)[:, 64 - bits :]).tobytes()


def leading(uniform: np.ndarray, bits: int) -> bytes:
    """The first bits of numbers in [0, 1]."""
    return packed(np.minimum(uniform * 2.0**bits, 2.0**bits - 1).astype(np.uint64), bits)


def pieces(function: Callable[..., np.ndarray], **options: object) -> Iterator[np.ndarray]:
    """A long tensor, piece by piece."""
    for i in itertools.count():
        yield function(LONG, seed=1, index=slice(i * PIECE, (i + 1) * PIECE), **options)


def interleaved(name: str, value: Callable[[int], object]) -> Iterator[bytes]:
    """The first words of many tensors: word 0 of each of 1024, then word 1 of each, and so on."""
    for first in itertools.count(step=SIDE):
        keys: list[dict[str, Any]] = [{"seed": 1, name: value(first + i)} for i in range(SIDE)]
        words = [fastinit.random_bits(SIDE, **key) for key in keys]
        yield np.stack(words, axis=1).astype(">u4").tobytes()


def words() -> Iterator[bytes]:
    """The words of one tensor."""
    return (piece.astype(">u4").tobytes() for piece in pieces(fastinit.random_bits))


def turned_words() -> Iterator[bytes]:
    """The same, the lowest bit of each first: most tests look at the highest bits only."""
    for piece in pieces(fastinit.random_bits):
        yield np.packbits(np.unpackbits(piece.astype("<u4").view(np.uint8), bitorder="little")).tobytes()


def uniform(dtype: str, bits: int) -> Iterator[bytes]:
    """All bits of samples on [0, 1)."""
    for piece in pieces(fastinit.random_uniform, minval=0.0, maxval=1.0, dtype=dtype):
        yield leading(piece.astype(np.float64), bits)


def normal(dtype: str, bits: int) -> Iterator[bytes]:
    """The first bits of the area below normal samples."""
    for piece in pieces(fastinit.random_normal, mean=0.0, stddev=1.0, dtype=dtype):
        yield leading(ndtr(piece.astype(np.float64)), bits)


def truncated(dtype: str, bits: int, lower: float, upper: float) -> Iterator[bytes]:
    """The first bits of the area below truncated normal samples."""
    below, all_of_it = ndtr(lower), ndtr(upper) - ndtr(lower)
    bounds = {"lower": lower, "upper": upper}
    for piece in pieces(fastinit.truncated_normal, mean=0.0, stddev=1.0, dtype=dtype, **bounds):
        yield leading((ndtr(piece.astype(np.float64)) - below) / all_of_it, bits)


SOURCES: dict[str, Callable[[], Iterator[bytes]]] = {
    "words": words,
    "turned-words": turned_words,
    "seeds": lambda: interleaved("seed", int),
    "streams": lambda: interleaved("stream", int),
    "names": lambda: interleaved("stream", "layers.{}.weight".format),
    "uniform-float32": lambda: uniform("float32", 24),
    "uniform-float64": lambda: uniform("float64", 53),
    "normal-float32": lambda: normal("float32", 8),
    "normal-float64": lambda: normal("float64", 32),
    "truncated-float32": lambda: truncated("float32", 8, -2.0, 2.0),
    "truncated-float64": lambda: truncated("float64", 32, -2.0, 2.0),
    "truncated-wide-float32": lambda: truncated("float32", 8, -1.0, 3.5),
}
BATTERIES = {"small": "SmallCrush", "rabbit": "Rabbit", "crush": "Crush", "big": "BigCrush"}


def run(source: str, battery: str, size: int, library: ctypes.CDLL) -> list[tuple[str, float]]:
    """The tests of a battery and their p-values. TestU01 reads the bytes from a pipe."""
    reading, writing = os.pipe()

    def write() -> None:
        try:
            with os.fdopen(writing, "wb", buffering=0) as pipe:
                for piece in SOURCES[source]():
                    left = memoryview(piece)
                    while left:
                        left = left[pipe.write(left) :]
        except BrokenPipeError:
            pass  # The battery has had enough.

    thread = threading.Thread(target=write)
    thread.start()
    generator = ctypes.c_void_p(library.ufile_CreateReadBin(f"/dev/fd/{reading}".encode(), 2**16))
    os.close(reading)
    arguments = (generator, ctypes.c_double(size)) if battery == "rabbit" else (generator,)
    getattr(library, f"bbattery_{BATTERIES[battery]}")(*arguments)
    library.ufile_DeleteReadBin(generator)
    thread.join()
    number = ctypes.c_int.in_dll(library, "bbattery_NTests").value
    names = (ctypes.c_char_p * number).in_dll(library, "bbattery_TestNames")
    p_values = (ctypes.c_double * number).in_dll(library, "bbattery_pVal")
    # Tests that did not run have a negative number.
    return [(str(name or b"", "ascii"), p) for name, p in zip(names, p_values, strict=True) if p >= 0]


def main() -> int:
    """Runs a battery on each source that is named, or on all."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("sources", nargs="*", metavar="source", help=f"of {', '.join(SOURCES)}; default: all")
    parser.add_argument("--battery", choices=BATTERIES, default="rabbit")
    parser.add_argument(
        "--bits", type=int, default=30, help="of the battery rabbit: 2**BITS (default: %(default)s)"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.sources) - set(SOURCES):
        parser.error(f"unknown source {min(unknown)}")
    try:
        for part in ("mylib", "probdist"):
            ctypes.CDLL(f"libtestu01{part}.so.0", mode=ctypes.RTLD_GLOBAL)
        library = ctypes.CDLL("libtestu01.so.0")
    except OSError as error:
        sys.exit(f"{error}: install TestU01 (in Debian: libtestu01-0)")
    library.ufile_CreateReadBin.restype = ctypes.c_void_p
    ctypes.c_int.in_dll(library, "swrite_Basic").value = 0  # No report of each test.
    failed = False
    for source in arguments.sources or SOURCES:
        start = time.monotonic()
        found = run(source, arguments.battery, 2**arguments.bits, library)
        lowest, highest = min(p for _, p in found), max(p for _, p in found)
        size = f" of 2^{arguments.bits} bits" if arguments.battery == "rabbit" else ""
        print(
            f"{source}: {BATTERIES[arguments.battery]}{size}, {len(found)} p-values, "
            f"{sum(not 1e-3 < p < 1 - 1e-3 for _, p in found)} outside [0.001, 0.999], "
            f"from {lowest:.2g} to 1 - {1 - highest:.2g}, {time.monotonic() - start:.0f} s",
            flush=True,
        )
        for name, p in found:
            if not 1e-10 < p < 1 - 1e-10:
                print(f"  FAILED: {name}: p = {p:.2g} (1 - p = {1 - p:.2g})")
                failed = True
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
