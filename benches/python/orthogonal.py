"""Time orthogonal matrices: fastinit, PyTorch, JAX and SciPy, in turns in one process.

Run it by itself, for example ``python benches/python/orthogonal.py 64x64 1000x64x64 --threads 1``. A shape of
three sizes is a stack of matrices: one call of fastinit and SciPy, a loop over functions of PyTorch, a mapped
function of JAX. A library that is not installed is left out. The least time of all rounds is reported, in
milliseconds, and its ratio to that of fastinit.
"""

from __future__ import annotations

import argparse
import functools
import importlib
import os
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

SHAPES = ["16x16", "64x64", "1000x64x64", "256x256", "1024x1024", "4096x1024"]


def fastinit_way(shape: tuple[int, ...], dtype: str) -> Callable[[], Any]:
    """One call for all matrices."""
    fastinit: Any = importlib.import_module("fastinit")
    stack = {"blocks": shape[0], "block_axis": 0} if len(shape) == 3 else {}
    fill = functools.partial(fastinit.orthogonal, shape, seed=0, dtype=dtype, **stack)
    return functools.partial(fill, out=fill())


def torch_way(shape: tuple[int, ...], dtype: str) -> Callable[[], Any]:
    """`torch.nn.init.orthogonal_`, matrix by matrix."""
    torch: Any = importlib.import_module("torch")
    matrices = torch.empty(shape, dtype=getattr(torch, dtype)).reshape(-1, *shape[-2:]).unbind()
    return lambda: [torch.nn.init.orthogonal_(matrix) for matrix in matrices]


def geqrf_way(shape: tuple[int, ...], dtype: str) -> Callable[[], Any]:
    """What it consists of in LAPACK: a factorization, and the accumulation of its reflectors."""
    torch: Any = importlib.import_module("torch")
    matrices = torch.empty(shape, dtype=getattr(torch, dtype)).reshape(-1, *shape[-2:]).normal_()
    matrices = matrices if shape[-2] >= shape[-1] else matrices.mT.contiguous()
    return lambda: [torch.orgqr(*torch.geqrf(matrix)) for matrix in matrices]


def jax_way(shape: tuple[int, ...], dtype: str) -> Callable[[], Any]:
    """`jax.nn.initializers.orthogonal`, compiled, over all keys at once."""
    jax: Any = importlib.import_module("jax")
    jax.config.update("jax_enable_x64", dtype == "float64")
    one = functools.partial(jax.nn.initializers.orthogonal(dtype=dtype), shape=shape[-2:])
    compiled = jax.jit(jax.vmap(one) if len(shape) == 3 else one)
    keys = jax.random.split(jax.random.key(0), shape[0]) if len(shape) == 3 else jax.random.key(0)
    return lambda: compiled(keys).block_until_ready()


def scipy_way(shape: tuple[int, ...], dtype: str) -> Callable[[], Any] | None:
    """`scipy.stats.ortho_group`, which makes square matrices of float64."""
    if dtype != "float64" or shape[-1] != shape[-2] or shape[-1] > 1024:
        return None
    stats: Any = importlib.import_module("scipy.stats")
    return lambda: stats.ortho_group.rvs(shape[-1], size=shape[0] if len(shape) == 3 else 1)


WAYS = {
    "fastinit": fastinit_way,
    "torch.nn.init.orthogonal_": torch_way,
    "torch.geqrf, orgqr": geqrf_way,
    "jax": jax_way,
    "scipy": scipy_way,
}


def best(ways: dict[str, Callable[[], Any]], seconds: float) -> dict[str, float]:
    """Return the least time of each, in seconds, after one call that is not counted."""
    times = {name: float("inf") for name in ways}
    for make in ways.values():
        make()
    end = time.perf_counter() + seconds
    while time.perf_counter() < end or float("inf") in times.values():
        for name, make in ways.items():
            begin = time.perf_counter()
            make()
            times[name] = min(times[name], time.perf_counter() - begin)
    return times


def main() -> None:
    """Measure what the command line says."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "shapes", nargs="*", default=SHAPES, metavar="SHAPE", help="such as 64x64 or 1000x64x64"
    )
    parser.add_argument("--dtype", default="float32", choices=["float32", "float64"])
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--seconds", type=float, default=3.0, help="for each shape")
    options = parser.parse_args()
    # Each library reads its variable when it is imported. JAX has threads besides those of Eigen.
    os.environ["FASTINIT_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(options.threads)
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["MKL_NUM_THREADS"] = str(options.threads)
    os.environ["XLA_FLAGS"] = f"--xla_cpu_multi_thread_eigen={str(options.threads > 1).lower()}"
    print(f"{options.dtype}, {options.threads} threads, milliseconds")
    for text in options.shapes:
        shape = tuple(int(size) for size in text.split("x"))
        ways = {}
        for name, way in WAYS.items():
            try:
                make = way(shape, options.dtype)
            except ModuleNotFoundError:
                continue
            if make is not None:
                ways[name] = make
        times = best(ways, options.seconds)
        row = [f"{name} {1e3 * t:.4g} ({t / times['fastinit']:.1f})" for name, t in times.items()]
        print(f"{text}: {', '.join(row)}", flush=True)


if __name__ == "__main__":
    main()
