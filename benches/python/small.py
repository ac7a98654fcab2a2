"""Time many small tensors: plain calls, the functions of `fastinit.torch`, whole models, and Keras.

Run it by itself: ``python benches/python/small.py``, ``--only calls torch`` for some parts. ``--against
FOLDER`` also measures the package in another folder, such as the `python` of an older checkout, in turns.
``--backend jax`` runs Keras on another backend.

Each round of each part has a process of its own. Figures are microseconds of CPU time of the calling thread,
for each call or each tensor, the best of all rounds. PyTorch and fastinit use one thread. What PyTorch and
Keras do alone is there for comparison: constructors that only allocate are the lower bound of a construction.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import subprocess
import sys
import time
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

# A model of this many weights of 4 KiB, and one of this many layers of three kinds.
WEIGHTS = 10_000
LAYERS = 2_000


def best(call: Callable[[], Any], calls: int = 1, repeats: int = 3, *, per: int = 1) -> float:
    """The microseconds of a call, in the best of some repeats of many calls, divided by a number."""
    call()
    times = []
    for _ in range(repeats):
        gc.collect()
        start = time.thread_time_ns()
        for _ in range(calls):
            call()
        times.append(time.thread_time_ns() - start)
    return min(times) / calls / per / 1e3


def calls() -> dict[str, float]:
    """The functions of `fastinit`."""
    import fastinit

    small, large = (8, 8), (32, 32)
    memory = fastinit.zeros(large)
    initializer = fastinit.HeNormal()
    return {
        "he_normal, 64 elements": best(lambda: fastinit.he_normal(small), 2000, 15),
        "he_normal, 1,024 elements": best(lambda: fastinit.he_normal(large), 1000, 15),
        "he_normal, 64, seed and stream": best(
            lambda: fastinit.he_normal(small, seed=1, stream="weight"), 2000, 15
        ),
        "HeNormal object, 1,024, out": best(lambda: initializer(large, seed=1, out=memory), 1000, 15),
        "random_normal, 64 elements": best(lambda: fastinit.random_normal(64), 2000, 15),
        "RandomNormal(), made": best(fastinit.RandomNormal, 1000, 15),
    }


def imports() -> dict[str, float]:
    """`import fastinit`, with NumPy there already."""
    import numpy  # noqa: F401

    start = time.thread_time_ns()
    import fastinit  # noqa: F401

    return {"import fastinit": (time.thread_time_ns() - start) / 1e3}


def functions() -> dict[str, float]:
    """The functions of `fastinit.torch` on 64 elements, outside and inside of `accelerate`, and PyTorch's."""
    import torch

    import fastinit.torch

    vector, matrix = torch.empty(64), torch.empty(8, 8)
    stds = iter(range(1, 10**9))
    ours: Any = fastinit.torch

    def of(module: Any) -> dict[str, Callable[[], Any]]:
        return {
            "normal_": lambda: module.normal_(vector),
            "uniform_": lambda: module.uniform_(vector),
            "trunc_normal_": lambda: module.trunc_normal_(vector, std=0.02),
            "trunc_normal_, another std": lambda: module.trunc_normal_(vector, std=next(stds) * 1e-6),
            "kaiming_uniform_": lambda: module.kaiming_uniform_(matrix),
            "xavier_normal_": lambda: module.xavier_normal_(matrix),
            "zeros_": lambda: module.zeros_(vector),
        }

    found = {f"torch.nn.init.{name}": best(call, 200, 7) for name, call in of(torch.nn.init).items()}
    found |= {f"{name}, outside": best(call, 200, 7) for name, call in of(ours).items()}
    with ours.accelerate():
        found |= {f"{name}, inside": best(call, 200, 7) for name, call in of(ours).items()}
        redirected = {**of(torch.nn.init), "Tensor.normal_": vector.normal_}
        found |= {f"torch's {name}, inside": best(call, 200, 7) for name, call in redirected.items()}
        found["torch.randn(64), inside"] = best(lambda: torch.randn(64), 200, 7)
    return found


def weights() -> Any:
    """A model whose layers have one weight of 4 KiB each."""
    import torch

    return torch.nn.ModuleList(torch.nn.Linear(32, 32, bias=False) for _ in range(WEIGHTS))


def mixed() -> Any:
    """A model of linear layers, embeddings and norms in turns."""
    import torch

    kinds = (torch.nn.Linear, torch.nn.Embedding, lambda size, _: torch.nn.LayerNorm(size))
    return torch.nn.ModuleList(kinds[i % 3](32, 32) for i in range(LAYERS))


def models() -> dict[str, float]:
    """Models of PyTorch, for each parameter."""
    import torch

    import fastinit
    import fastinit.torch

    warnings.simplefilter("ignore")
    rules: dict[str, Any] = {
        "without rules": None,
        "a rule": {"*": fastinit.RandomNormal(stddev=0.02)},
    }
    found = {}
    for name, build in {"weights": weights, "mixed": mixed}.items():
        model: Any = build()
        count = len(list(model.parameters()))

        def on_meta(build: Any = build) -> Any:
            with torch.device("meta"):
                return build()

        def accelerated(build: Any = build) -> Any:
            with fastinit.torch.accelerate():
                return build()

        on_meta_only = best(on_meta, per=count)
        found[f"{name}, constructed on meta"] = on_meta_only
        found[f"{name}, constructed plainly"] = best(build, per=count)
        found[f"{name}, constructed inside accelerate"] = best(accelerated, per=count)
        for title, given in rules.items():
            found[f"{name}, initialize, in memory, {title}"] = best(
                lambda model=model, given=given: fastinit.torch.initialize(model, rules=given),  # type: ignore[misc]
                per=count,
            )
            whole = best(
                lambda given=given, make=on_meta: fastinit.torch.initialize(make(), rules=given),  # type: ignore[misc]
                per=count,
            )
            found[f"{name}, initialize, from meta, {title}"] = whole - on_meta_only
    return found


def keras() -> dict[str, float]:
    """Initializers of Keras, for each call, and a model of dense layers, for each variable."""
    import keras

    import fastinit.keras

    shape, layers = (32, 32), 300
    found = {}
    for name in ("HeNormal", "RandomUniform", "Zeros"):
        options = {} if name == "Zeros" else {"seed": 1}
        plain = getattr(keras.initializers, name)(**options)
        ours = getattr(fastinit.keras, name)(**options)
        found[f"Keras's {name}"] = best(lambda one=plain: one(shape), 200, 5)  # type: ignore[misc]
        found[f"fastinit.keras.{name}"] = best(lambda one=ours: one(shape), 200, 5)  # type: ignore[misc]
        with fastinit.keras.accelerate():
            found[f"Keras's {name}, accelerated"] = best(lambda one=plain: one(shape), 200, 5)  # type: ignore[misc]

    def build() -> Any:
        model = keras.Sequential([keras.Input((32,)), *(keras.layers.Dense(32) for _ in range(layers))])
        return len(model.weights)

    def accelerated() -> Any:
        with fastinit.keras.accelerate():
            return build()

    found["Dense layers, plainly"] = best(build, per=2 * layers)
    found["Dense layers, accelerated"] = best(accelerated, per=2 * layers)
    return found


PARTS = {"import": imports, "calls": calls, "torch": functions, "models": models, "keras": keras}


def measured(part: str, folder: Path, backend: str) -> dict[str, float]:
    """The figures of a part in a process of its own, with the package in a folder."""
    environment = {
        **os.environ,
        "PYTHONPATH": str(folder),
        "FASTINIT_NUM_THREADS": "1",
        "OMP_NUM_THREADS": "1",
    }
    environment["KERAS_BACKEND"] = backend
    command = [sys.executable, "-W", "ignore", __file__, "--one", part]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Measure, and print a table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--only", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--against", type=Path, help="a folder with another build of the package")
    parser.add_argument("--backend", default="torch", help="of Keras")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--one", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        print(json.dumps(PARTS[options.one]()))
        return
    here = Path(__file__).parents[2] / "python"
    folders = [folder for folder in (options.against, here) if folder is not None]
    print(f"{'microseconds':48}" + "".join(f"{title:>10}" for title in ("other", "this")[-len(folders) :]))
    for part in options.only:
        rounds = options.rounds * 5 if part == "import" else options.rounds
        figures: list[dict[str, float]] = [{} for _ in folders]
        for _ in range(rounds):
            for of_folder, folder in zip(figures, folders, strict=True):
                for name, value in measured(part, folder, options.backend).items():
                    of_folder[name] = min(value, of_folder.get(name, value))
        for name in figures[-1]:
            values = [of_folder[name] for of_folder in figures]
            ratio = f"{values[0] / values[-1]:9.2f}x" if len(values) > 1 else ""
            print(f"{name:48}" + "".join(f"{value:10.2f}" for value in values) + ratio, flush=True)


if __name__ == "__main__":
    main()
