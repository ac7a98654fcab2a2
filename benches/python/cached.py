"""One thread, output in the second-level cache: what the kernels cost, without memory and threads.

    python benches/python/cached.py [--elements N] [--repeats N]

CPU nanoseconds an element, the least of all repeats, beside PyTorch where it is installed. For a comparison
of two builds, run it with each on `PYTHONPATH`; `FASTINIT_SIMD` lowers the level.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import ml_dtypes
import numpy as np

import fastinit

DTYPES = ("float32", "bfloat16", "float16", "float64")
Fill = Callable[[], object]


def fills(elements: int) -> dict[str, tuple[Fill, str]]:
    """Each fill of fastinit, and the name of PyTorch's."""

    def fill(function: Callable[..., object], dtype: str, **given: Any) -> Fill:
        out = np.empty(elements, ml_dtypes.bfloat16 if dtype == "bfloat16" else dtype)
        return lambda: function((elements,), **given, dtype=dtype, out=out, threads=1)

    found = {"ones float32": (fill(fastinit.ones, "float32"), "ones")}
    found["words uint32"] = (fill(fastinit.random_bits, "uint32", seed=1), "")
    for dtype in DTYPES:
        uniform = fill(fastinit.random_uniform, dtype, minval=-0.05, maxval=0.05, seed=1)
        found[f"uniform {dtype}"] = (uniform, "uniform")
        found[f"normal {dtype}"] = (fill(fastinit.random_normal, dtype, stddev=0.02, seed=1), "normal")
        for lower, upper in ((-2.0, 2.0), (-3.0, 3.0), (-1.0, 2.0)):
            bounds = {"lower": lower, "upper": upper}
            truncated = fill(fastinit.truncated_normal, dtype, stddev=0.02, seed=1, **bounds)
            found[f"truncated ({lower:g}, {upper:g}) {dtype}"] = (truncated, "truncated")
    return found


def peers(elements: int) -> dict[str, Fill]:
    """The fills of PyTorch, if it is installed."""
    try:
        import torch
    except ImportError:
        return {}
    torch.set_num_threads(1)
    found: dict[str, Fill] = {}
    for dtype in DTYPES:
        out = torch.empty(elements, dtype=getattr(torch, dtype))
        found |= {
            f"ones {dtype}": partial(out.fill_, 1.0),
            f"uniform {dtype}": partial(out.uniform_, -0.05, 0.05),
            f"normal {dtype}": partial(out.normal_, 0.0, 0.02),
            f"truncated {dtype}": partial(torch.nn.init.trunc_normal_, out, 0.0, 0.02, -0.04, 0.04),
        }
    return found


def least(fill: Fill, elements: int, repeats: int, calls: int) -> float:
    """CPU nanoseconds an element."""
    fill()
    best = float("inf")
    for _ in range(repeats):
        start = time.thread_time_ns()
        for _ in range(calls):
            fill()
        best = min(best, (time.thread_time_ns() - start) / (calls * elements))
    return best


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--elements", type=int, default=1 << 16)
    parser.add_argument("--repeats", type=int, default=30)
    given = parser.parse_args()
    torch = peers(given.elements)
    print(f"level {fastinit.build_info()['simd']}, {given.elements} elements, CPU ns an element\n")
    print("| | fastinit | PyTorch | ratio |\n|---|---|---|---|")
    for name, (fill, kind) in fills(given.elements).items():
        own = least(fill, given.elements, given.repeats, 8)
        row = f"| {name} | {own:.3f} |"
        peer = torch.get(f"{kind} {name.split()[-1]}")
        if peer is None:
            print(row, "- | - |")
            continue
        other = least(peer, given.elements, max(given.repeats // 5, 3), 2)
        print(row, f"{other:.2f} | {other / own:.1f} |", flush=True)


if __name__ == "__main__":
    main()
