"""Times `fastinit.jax` against JAX: one large array, and a whole model, compiling included.

Each measurement runs in a fresh process, which also tells its peak memory: that of the process above its
memory before the measurement. The model is a transformer of Flax linen in bfloat16.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time

PRELUDE = """
import json, resource, sys, time
import jax, jax.numpy as jnp

def measure(function):
    jax.block_until_ready(jnp.zeros(8) + 1)  # The backend is there.
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    start = time.perf_counter()
    result = jax.block_until_ready(function())
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    size = sum(leaf.nbytes for leaf in jax.tree.leaves(result))
    del result
    start = time.perf_counter()
    jax.block_until_ready(function())
    print(json.dumps([seconds, time.perf_counter() - start, peak / 1024, size / 2**20]))
"""

ARRAY = """
import fastinit.jax
shape = ({elements} // 4096, 4096)
normal = {module}.normal(1.0)
call, key = {call}, jax.random.key(0)
measure(lambda: call(key))
"""

MODEL = """
import flax.linen as nn
import fastinit.jax

class Block(nn.Module):
    @nn.compact
    def __call__(self, x):
        half = dict(dtype=jnp.bfloat16, param_dtype=jnp.bfloat16)
        x = x + nn.MultiHeadDotProductAttention(16, **half)(nn.LayerNorm(**half)(x))
        y = nn.Dense({width} * 4, **half)(nn.LayerNorm(**half)(x))
        return x + nn.Dense({width}, **half)(nn.gelu(y))

class Model(nn.Module):
    @nn.compact
    def __call__(self, tokens):
        x = nn.Embed(32000, {width}, param_dtype=jnp.bfloat16)(tokens)
        for _ in range({layers}):
            x = Block()(x)
        return nn.Dense(32000, use_bias=False, param_dtype=jnp.bfloat16)(x)

init, key, tokens = Model().init, jax.random.key(0), jnp.zeros((1, 8), int)
call = {call}
measure(lambda: call(key, tokens))
"""

# What new memory of that size costs, which differs from machine to machine.
FULL = """
import numpy as np
measure(lambda: np.full({bytes} // 4, 1, np.float32))
"""

ARRAYS = {
    "fastinit.jax, eager": ("fastinit.jax", "(lambda key: normal(key, shape))"),
    "fastinit.jax, jitted": ("fastinit.jax", "jax.jit(lambda key: normal(key, shape))"),
    "jax.nn.initializers, eager": ("jax.nn.initializers", "(lambda key: normal(key, shape))"),
    "jax.nn.initializers, jitted": ("jax.nn.initializers", "jax.jit(lambda key: normal(key, shape))"),
}
MODELS = {
    "fastinit.jax.initialize": "(lambda *inputs: fastinit.jax.initialize(init, *inputs, seed=0)[0])",
    "model.init, jitted": "jax.jit(init)",
    "model.init, eager": "init",
}


def run(program: str) -> list[float]:
    """The seconds of both calls, and in MiB the peak memory and the size of the result."""
    command = [sys.executable, "-W", "ignore", "-c", PRELUDE + program]
    env = {**os.environ, "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(command, env=env, check=True, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


def show(title: str, programs: dict[str, str], rounds: int) -> None:
    """Runs programs in turns and prints the best of each, and the ratios to the first program."""
    results: dict[str, list[list[float]]] = {name: [] for name in programs}
    for _ in range(rounds):
        for name, program in programs.items():
            results[name].append(run(program))
    best = {name: [min(column) for column in zip(*found, strict=True)] for name, found in results.items()}
    ours = next(iter(best.values()))
    print(f"\n{title}, {ours[3]:.0f} MiB: first call, second call, peak memory")
    for name, (first, second, peak, _) in best.items():
        ratios = f"{first:9.3f} s {first / ours[0]:6.1f} x {second:9.3f} s {second / ours[1]:6.1f} x"
        print(f"  {name:30} {ratios} {peak:7.0f} MiB")


def main() -> None:
    """Parses the arguments and runs the benches."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--mebibytes", type=int, default=256, help="size of the large array, in float32")
    parser.add_argument("--width", type=int, default=2048)
    parser.add_argument("--layers", type=int, default=18)
    parser.add_argument("--rounds", type=int, default=3, help="of the large array; the model is made once")
    parser.add_argument(
        "--skip-eager", action="store_true", help="leave out the eager init of the model, which takes minutes"
    )
    options = parser.parse_args()
    import jax

    print(f"JAX {jax.__version__}, {os.cpu_count()} CPUs, {time.strftime('%Y-%m-%d')}")
    elements = options.mebibytes * 2**18
    arrays = {
        name: ARRAY.format(elements=elements, module=module, call=call)
        for name, (module, call) in ARRAYS.items()
    }
    arrays["numpy.full"] = FULL.format(bytes=elements * 4)
    show("normal, float32", arrays, options.rounds)
    models = {
        name: MODEL.format(width=options.width, layers=options.layers, call=call)
        for name, call in MODELS.items()
        if not (options.skip_eager and name.endswith("eager"))
    }
    parameters = options.width * (64000 + options.layers * 12 * options.width)
    models["numpy.full"] = FULL.format(bytes=2 * parameters)
    show("transformer, bfloat16", models, 1)


if __name__ == "__main__":
    main()
