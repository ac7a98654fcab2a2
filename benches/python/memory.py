"""New memory and a busy core: what neither the generator nor the stores explain.

    python benches/python/memory.py [--quick] [--threads N]

The first table has the milliseconds of a new array of normal `float32` values, and in parentheses their
ratio to `numpy.full` of the same size in the same rounds. `kept` arrays are all held, so that each needs
memory of its own; `freed` ones are freed one by one, so that the allocator may use memory again; `resident`
is one array, filled again and again. Freeing is not timed.

The second has the milliseconds of filling a resident array on all threads while a process that only spins is
bound to one core. Ideally this takes no longer than on the other cores alone, and less where the system gives
the fill a part of the busy core.

For a comparison of two builds, run it with each on `PYTHONPATH`.
"""

from __future__ import annotations

import argparse
import gc
import os
import subprocess
import sys
import time
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

import fastinit

if TYPE_CHECKING:
    from collections.abc import Callable

MIB = 2**20
SIZES = [1, 2, 4, 16, 64, 256, 1024]  # MiB
KEPT = 256 * MIB  # the bytes of arrays that are held at a time
SPIN = "import os\nos.sched_setaffinity(0, {%d})\nprint(flush=True)\nwhile True: pass"


def milliseconds(call: Callable[[], Any]) -> tuple[float, Any]:
    """Return how long a call takes, and its result."""
    start = time.perf_counter()
    result = call()
    return (time.perf_counter() - start) * 1000, result


def new_arrays(threads: int, seconds: float) -> None:
    """Print the table of new arrays."""
    names = ["numpy.full kept", "kept", "numpy.full freed", "freed", "resident"]
    print(f"{'MiB':>5}" + "".join(f"{name:>18}" for name in names))
    for size in SIZES:
        length = size * MIB // 4
        full = partial(np.full, length, 1, np.float32)
        normal = partial(fastinit.random_normal, length, seed=1, threads=threads)
        resident = partial(normal, out=np.ones(length, np.float32))
        best = dict.fromkeys(names, float("inf"))
        end = time.perf_counter() + seconds
        while True:
            for name, make in [("numpy.full kept", full), ("kept", normal)]:
                # Some of the first ones may be where freed ones were, so the median counts.
                calls = [milliseconds(make) for _ in range(max(1, KEPT // (length * 4)))]
                best[name] = min(best[name], float(np.median([taken for taken, _ in calls])))
                del calls
            for name, make in [("numpy.full freed", full), ("freed", normal), ("resident", resident)]:
                for _ in range(3):
                    taken, array = milliseconds(make)
                    del array
                    best[name] = min(best[name], taken)
            if time.perf_counter() > end:
                break
        bases = [best["numpy.full kept"]] * 2 + [best["numpy.full freed"]] * 3
        cells = [
            f"{best[name]:.3f} ({best[name] / base:.2f})" for name, base in zip(names, bases, strict=True)
        ]
        print(f"{size:>5}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


def busy_core(threads: int, seconds: float) -> None:
    """Print the table of fills beside a busy core."""
    core = max(os.sched_getaffinity(0))
    print(f"{'MiB':>5}{'undisturbed':>18}{'one core less':>18}{'one core busy':>18}{'busy / less':>18}")
    for size in [16, 256]:
        out = np.ones(size * MIB // 4, np.float32)

        def median(count: int, out: Any = out) -> float:
            fill = partial(fastinit.random_normal, out.size, seed=1, threads=count, out=out)
            end = time.perf_counter() + seconds / 3
            taken: list[float] = []
            while time.perf_counter() < end or len(taken) < 5:
                taken.append(milliseconds(fill)[0])
            return float(np.median(taken))

        undisturbed, less = median(threads), median(max(1, threads - 1))
        with subprocess.Popen([sys.executable, "-c", SPIN % core], stdout=subprocess.PIPE) as spinning:
            assert spinning.stdout is not None
            spinning.stdout.readline()
            busy = median(threads)
            spinning.kill()
        cells = [*(f"{value:.3f}" for value in (undisturbed, less, busy)), f"{busy / less:.2f}"]
        print(f"{size:>5}" + "".join(f"{cell:>18}" for cell in cells), flush=True)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n", 1)[0])
    parser.add_argument("--quick", action="store_true", help="a few seconds in all")
    parser.add_argument("--threads", type=int, default=fastinit.get_num_threads())
    given = parser.parse_args()
    gc.disable()
    seconds = 0.2 if given.quick else 3.0
    print(
        f"{fastinit.build_info()['simd']}, {given.threads} threads; best of many, ms (against numpy.full)\n"
    )
    new_arrays(given.threads, seconds)
    if hasattr(os, "sched_setaffinity"):
        print("\na busy core: medians\n")
        busy_core(given.threads, seconds)


if __name__ == "__main__":
    main()
