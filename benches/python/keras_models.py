"""Compare `fastinit.keras` with Keras's own initializers on each backend.

Run it by itself: ``python benches/python/keras_models.py``, ``--quick`` for smaller sizes, ``--backends jax
torch`` for some. Each backend has a process of its own, in which the ways alternate; medians are reported.
Before each sample more memory than it needs is touched and freed, since a virtual machine may have to get
memory that was free for some seconds from its host.

* `HeNormal` and `GlorotUniform`, one tensor of float32, with a seed. The result is complete. For comparison
  `fill alone`, in existing memory, and `numpy.full`, which only stores to a fresh array.
* A model of dense layers with the default initializers, built plain, inside `accelerate`, and with zeros that
  are never written to, which leaves the backend's own bookkeeping.
* The copy: an existing array, converted to a tensor as Keras does it.
"""

from __future__ import annotations

import argparse
import contextlib
import gc
import importlib.util
import json
import os
import statistics
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import numpy

if TYPE_CHECKING:
    from collections.abc import Callable

BACKENDS = ["numpy", "jax", "torch", "tensorflow"]

# At least this much memory is touched: freed memory is not always reused.
TOUCHED = 4 * 2**30


def seconds(call: Callable[[], Any], need: int) -> float:
    """The seconds until the result of a call is ready, with this many bytes of memory at hand."""
    gc.collect()
    numpy.ones(max(need, TOUCHED), numpy.uint8)
    start = time.perf_counter()
    result = call()
    if hasattr(result, "block_until_ready"):
        result.block_until_ready()
    return time.perf_counter() - start


def medians(ways: dict[str, Callable[[], Any]], rounds: int, need: int) -> dict[str, float]:
    """Lets the ways alternate, after one round that is not counted."""
    times: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(rounds + 1):
        for name, way in ways.items():
            taken = seconds(way, need)
            if turn:
                times[name].append(taken)
    return {name: statistics.median(found) for name, found in times.items()}


def work(*, size: int, layers: int, rounds: int) -> dict[str, dict[str, float]]:
    """All measurements on the backend of this process."""
    import keras

    import fastinit
    import fastinit.keras

    shape = (size, size)
    found = {}
    for name in ("HeNormal", "GlorotUniform"):
        plain = getattr(keras.initializers, name)(seed=1)
        ours = getattr(fastinit.keras, name)(seed=1)
        memory = fastinit.zeros(shape)
        array = getattr(fastinit, name)()
        found[name] = medians(
            {
                "plain": lambda plain=plain: plain(shape),  # type: ignore[misc]
                "fastinit": lambda ours=ours: ours(shape),  # type: ignore[misc]
                "fill alone": lambda: array(shape, seed=1, out=memory),  # noqa: B023 - called at once
                "numpy.full": lambda: numpy.full(shape, 1.0, numpy.float32),
                "copy": lambda: keras.ops.convert_to_tensor(memory),  # noqa: B023
            },
            rounds,
            2 * memory.nbytes,
        )

    def build(initializer: Any) -> Any:
        model = keras.Sequential([keras.Input((size,))])
        for _ in range(layers):
            model.add(keras.layers.Dense(size, kernel_initializer=initializer))
        values = [weight.value for weight in model.weights]
        for value in values:
            if hasattr(value, "block_until_ready"):
                value.block_until_ready()
        return model

    def accelerated() -> Any:
        with fastinit.keras.accelerate():
            return build("glorot_uniform")

    empty = numpy.zeros(shape, numpy.float32)
    tensor = keras.ops.convert_to_tensor(empty)

    def ready(*_: Any, **__: Any) -> Any:
        return tensor

    found["model"] = medians(
        {
            "plain": lambda: build("glorot_uniform"),
            "fastinit": accelerated,
            "bookkeeping": lambda: build(ready),
        },
        max(1, rounds // 3),
        (layers + 1) * empty.nbytes,
    )
    return found


def main() -> None:
    """Measure each backend in turn, and print a table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--backends", nargs="+", choices=BACKENDS, default=BACKENDS)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    size, layers = (2048, 8) if options.quick else (8192, 8)
    if options.worker:
        with contextlib.redirect_stdout(sys.stderr):
            found = work(size=size, layers=layers, rounds=options.rounds)
        print(json.dumps(found))
        return

    print(f"({size}, {size}) float32; a model of {layers * size * (size + 1):,} parameters. Seconds.")
    for backend in options.backends:
        if importlib.util.find_spec(backend) is None:
            print(f"{backend}: not installed")
            continue
        command = [sys.executable, __file__, "--worker", "--rounds", str(options.rounds)]
        command += ["--quick"] if options.quick else []
        env = {**os.environ, "KERAS_BACKEND": backend, "TF_CPP_MIN_LOG_LEVEL": "3"}
        done = subprocess.run(command, env=env, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        if done.returncode:
            print(f"{backend}: failed with status {done.returncode}")
            continue
        for what, times in json.loads(done.stdout.splitlines()[-1]).items():
            ratio = times["plain"] / times["fastinit"]
            figures = "  ".join(f"{name} {value:.3f}" for name, value in times.items())
            print(f"{backend:10}  {what:13}  {figures}  plain / fastinit {ratio:.1f}", flush=True)


if __name__ == "__main__":
    main()
