"""Checkpoints: the rate of `fastinit.checkpoint.write`, and its memory.

    python benches/python/checkpoints.py [--size MIB] [--directory DIR] [--threads N] [--rounds N] [--peak GB]

The first table has the rates of bfloat16 normal samples into new files on a file system in memory (`DIR`,
by default /dev/shm), in rounds, so that noise affects all alike. `write()` stores ready buffers of 2 MiB, on
one thread and on all; `fill` makes the samples in such buffers and stores nothing; `checkpoint.write` does
both, and takes digests. `torch` fills tensors by `normal_` and calls `safetensors.torch.save_file`. `verify`
reads and makes everything again. What a thread does in turn takes the sum of the times, so the rate of
`checkpoint.write` cannot be above 1 / (1 / fill + 1 / write) of all threads.

The second table has the peak memory of processes that write and verify one file of `--peak` GB to the
temporary directory, with 1 and 8 threads, above that of a process that has only imported fastinit.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

import fastinit
from fastinit import checkpoint

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 2**20
BLOCK = 2 * MIB
NORMAL = fastinit.RandomNormal(stddev=0.02)

PEAK = """
import sys, fastinit
from fastinit import checkpoint
what, folder, size, threads = sys.argv[1], sys.argv[2], int(float(sys.argv[3]) * 1e9), int(sys.argv[4])
plan = checkpoint.plan({"weight": ((size // 2**14, 2**13), "bfloat16", fastinit.RandomNormal(stddev=0.02))})
if what == "write":
    checkpoint.write(plan, folder, 0, max_shard_size=None, threads=threads)
elif what == "verify":
    assert checkpoint.verify(folder, threads=threads).ok
with open("/proc/self/status") as status:  # `ru_maxrss` would begin with that of the parent process.
    print(next(int(line.split()[1]) for line in status if line.startswith("VmHWM:")) / 1024)
"""


def in_threads(threads: int, blocks: int, work: Callable[[int], object]) -> None:
    """Call a function with the number of each block, on several threads."""
    todo = iter(range(blocks))

    def run() -> None:
        for block in todo:  # `next` of an iterator of a range is one step for the interpreter
            work(block)

    workers = [threading.Thread(target=run) for _ in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()


def stored(path: Path, size: int, threads: int) -> None:
    """Store ready buffers."""
    buffer = np.full(BLOCK, 7, np.uint8)
    with path.open("wb") as file:
        file.truncate(size)
        descriptor = file.fileno()
        in_threads(threads, size // BLOCK, lambda block: os.pwrite(descriptor, buffer.data, block * BLOCK))


def filled(size: int, threads: int) -> None:
    """Make samples in buffers, and store nothing."""
    buffers = threading.local()

    def fill(block: int) -> None:
        if not hasattr(buffers, "own"):
            buffers.own = fastinit.zeros(BLOCK // 2, dtype="bfloat16")
        index = slice(block * BLOCK // 2, (block + 1) * BLOCK // 2)
        NORMAL(size // 2, seed=0, stream="w", dtype="bfloat16", out=buffers.own, index=index, threads=1)

    in_threads(threads, size // BLOCK, fill)


def saved_by_torch(path: Path, size: int, threads: int) -> None:
    """Fill by PyTorch, and save."""
    import torch
    from safetensors.torch import save_file

    torch.set_num_threads(threads)
    shape = (size // 2**14, 2**13)
    save_file({"weight": torch.empty(shape, dtype=torch.bfloat16).normal_(std=0.02)}, path)


def rates(size: int, folder: Path, threads: int, rounds: int) -> dict[str, float]:
    """Return the rates in bytes per second, medians."""
    plan = checkpoint.plan({"weight": ((size // 2**14, 2**13), "bfloat16", NORMAL)})
    out, file = folder / "out", folder / "file"

    def write() -> None:
        checkpoint.write(plan, out, 0, max_shard_size=None, threads=threads, sync=False)

    ways: dict[str, Callable[[], object]] = {
        "write(), 1 thread": lambda: stored(file, size, 1),
        f"write(), {threads} threads": lambda: stored(file, size, threads),
        f"fill, {threads} threads": lambda: filled(size, threads),
        "checkpoint.write": write,
        "checkpoint.verify": lambda: checkpoint.verify(out, threads=threads),
    }
    try:
        import torch  # noqa: F401
        from safetensors.torch import save_file  # noqa: F401
    except ImportError:
        print("PyTorch or safetensors is not installed")
    else:
        ways["torch, save_file"] = lambda: saved_by_torch(file, size, threads)
    found: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            file.unlink(missing_ok=True)
            if name == "checkpoint.write":
                shutil.rmtree(out, ignore_errors=True)
            start = time.perf_counter()
            way()
            if turn:  # The first turn warms up.
                found[name].append(size / (time.perf_counter() - start))
    return {name: statistics.median(one) for name, one in found.items()}


def peak(what: str, folder: str, size: float, threads: int) -> float:
    """Return the peak memory of a process, in MiB."""
    command = [sys.executable, "-c", PEAK, what, folder, str(size), str(threads)]
    return float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def main() -> None:
    """Measure, and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--size", type=int, default=1024, help="the size of the file, in MiB")
    parser.add_argument("--directory", default="/dev/shm", help="a file system in memory")
    parser.add_argument("--threads", type=int, default=fastinit.get_num_threads())
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--peak", type=float, default=8.0, help="the size of a large file, in GB; 0 for none")
    options = parser.parse_args()
    level = fastinit.build_info()["simd"]
    print(f"{options.size} MiB of bfloat16 normal samples, {level}, {options.threads} threads, medians")
    with tempfile.TemporaryDirectory(dir=options.directory) as folder:
        found = rates(options.size * MIB, Path(folder), options.threads, options.rounds)
    ours = found["checkpoint.write"]
    print(f"{'':24}{'GB/s':>8}{'checkpoint.write is':>22}")
    for name, rate in found.items():
        print(f"{name:24}{rate / 1e9:8.2f}{ours / rate:20.2f} x")
    if options.peak:
        print(f"\npeak memory for a file of {options.peak:g} GB, in MiB")
        for threads in (1, 8):
            with tempfile.TemporaryDirectory() as folder:
                base = peak("import", folder, options.peak, threads)
                made = peak("write", folder, options.peak, threads)
                again = peak("verify", folder, options.peak, threads)
            print(f"{threads} threads: import {base:.0f}, write {made:.0f}, verify {again:.0f}")


if __name__ == "__main__":
    main()
