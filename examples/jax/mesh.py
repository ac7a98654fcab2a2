"""A model on a mesh of four devices, here parts of the CPU: each makes only its part of each array."""

from __future__ import annotations

import os

os.environ["XLA_FLAGS"] = "--xla_force_host_platform_device_count=4"

import jax
import jax.numpy as jnp
from jax.sharding import NamedSharding, PartitionSpec

import fastinit.jax as init


def model(key: jax.Array) -> dict[str, jax.Array]:
    """Two layers, by functions of JAX alone."""
    up, down = jax.random.split(key)
    return {
        "up": jax.nn.initializers.he_normal()(up, (512, 2048)),
        "down": jax.nn.initializers.lecun_normal()(down, (2048, 512)),
        "bias": jnp.zeros(512),
    }


def main() -> None:
    """Makes the model on one device and on the mesh, and compares."""
    mesh = jax.make_mesh((2, 2), ("data", "model"), axis_types=(jax.sharding.AxisType.Auto,) * 2)
    specs = {
        "up": PartitionSpec("data", "model"),
        "down": PartitionSpec("model", "data"),
        "bias": PartitionSpec("model"),
    }
    shardings = {name: NamedSharding(mesh, spec) for name, spec in specs.items()}
    key = jax.random.key(0)
    whole, _ = init.initialize(model, key, seed=1)
    sharded, _ = init.initialize(model, key, seed=1, shardings=shardings)
    for name, array in sharded.items():
        part = array.addressable_shards[0].data.shape
        same = bool((jax.device_get(array) == jax.device_get(whole[name])).all())
        print(f"{name}: each device has {part} of {array.shape}, equal: {same}")

    def kernel(key: jax.Array) -> jax.Array:
        return init.he_normal()(key, (512, 2048))

    compiled = jax.jit(kernel, out_shardings=shardings["up"])(key)
    same = bool((jax.device_get(compiled) == jax.device_get(kernel(key))).all())
    print(f"in a compiled program, equal: {same}")


if __name__ == "__main__":
    main()
