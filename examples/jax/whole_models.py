"""Models of Flax linen, Flax NNX, Haiku and Equinox, each array by its name.

Libraries that are missing are left out. With --width 8192 --layers 8 the model of linen has some billion
parameters; it is started without being compiled.
"""

from __future__ import annotations

import argparse
import importlib.util

import jax
import jax.numpy as jnp

import fastinit
import fastinit.jax
from fastinit.jax import initialize


def linen(width: int, layers: int) -> None:
    """A transformer whose layers are one array each, made by `nn.scan`."""
    from flax import linen as nn

    half = {"dtype": jnp.bfloat16, "param_dtype": jnp.bfloat16}

    class Block(nn.Module):
        @nn.compact
        def __call__(self, x: jax.Array, _: None) -> tuple[jax.Array, None]:
            x = x + nn.MultiHeadDotProductAttention(4, **half)(nn.LayerNorm(**half)(x))
            return x + nn.Dense(width, **half)(nn.gelu(nn.Dense(4 * width, **half)(x))), None

    class Model(nn.Module):
        @nn.compact
        def __call__(self, tokens: jax.Array) -> jax.Array:
            x = nn.Embed(1000, width, **half)(tokens)
            scan = nn.scan(Block, variable_axes={"params": 0}, split_rngs={"params": True}, length=layers)
            return nn.Dense(1000, **half)(scan(name="layers")(x, None)[0])

    tokens = jax.ShapeDtypeStruct((1, 8), int)
    variables, report = initialize(
        Model().init, jax.random.key(0), tokens, seed=1, rules={"Embed_0.*": "random_normal"}
    )
    print(report)
    kernel = variables["params"]["layers"]["Dense_0"]["kernel"]
    stream = fastinit.block_stream("layers.Dense_0.kernel", layers - 1)
    initializer = report["layers.Dense_0.kernel"].initializer
    assert initializer is not None
    last = initializer(kernel.shape[1:], seed=1, stream=stream, dtype="bfloat16")
    print(f"linen, the last layer alone has the same bits: {bool((kernel[-1] == last).all())}")


def nnx(width: int, layers: int) -> None:
    """A multilayer perceptron with dropout, whose generator keeps its state."""
    from flax import nnx

    class Model(nnx.Module):
        def __init__(self, rngs: nnx.Rngs) -> None:
            self.layers = nnx.List([nnx.Linear(width, width, rngs=rngs) for _ in range(layers)])
            self.dropout = nnx.Dropout(0.1, rngs=rngs)

        def __call__(self, x: jax.Array) -> jax.Array:
            for layer in self.layers:
                x = nnx.relu(layer(self.dropout(x)))
            return x

    model, report = initialize(lambda: Model(nnx.Rngs(0)), seed=1, rules={"*.kernel": "he_normal"})
    print(f"NNX, output: {model(jnp.ones((2, width))).shape}, by the model's own code: {report.computed}")


def haiku(width: int, layers: int) -> None:
    """A multilayer perceptron."""
    import haiku as hk

    network = hk.transform(lambda x: hk.nets.MLP([width] * layers)(x))
    parameters, report = initialize(network.init, jax.random.key(0), jnp.ones((1, width)), seed=1)
    output = network.apply(parameters, None, jnp.ones((2, width)))
    print(f"Haiku, output: {output.shape}, {report.rows[0].name}: {report.rows[1].distribution}")


def equinox(width: int, layers: int) -> None:
    """A multilayer perceptron, whose weights are (out, in)."""
    import equinox as eqx

    rules = {"*.weight": fastinit.HeNormal(in_axis=1, out_axis=0), "*.bias": 0.0}
    model, _ = initialize(
        lambda key: eqx.nn.MLP(width, width, width, layers, key=key), jax.random.key(0), seed=1, rules=rules
    )
    print(f"Equinox, output: {model(jnp.ones(width)).shape}")


def main() -> None:
    """Parses the arguments and makes a model of each library."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--width", type=int, default=512)
    parser.add_argument("--layers", type=int, default=4)
    options = parser.parse_args()
    for make, package in ((linen, "flax"), (nnx, "flax"), (haiku, "haiku"), (equinox, "equinox")):
        if importlib.util.find_spec(package):
            make(options.width, options.layers)


if __name__ == "__main__":
    main()
