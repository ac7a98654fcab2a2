"""The same model, built from unmodified code with and without `fastinit.keras.accelerate`.

Run it with ``python examples/keras3/unmodified.py``, on any backend (``KERAS_BACKEND``); ``--layers 24
--width 1024`` is a model of the size of GPT-2 medium.
"""

import argparse
import contextlib
import time

import keras
import numpy as np
from keras import layers

import fastinit.keras


def build(depth: int, width: int) -> keras.Model:
    """A stack of transformer layers, in plain Keras."""
    inputs = keras.Input((None,), dtype="int32")
    x = layers.Embedding(8192, width)(inputs)
    for _ in range(depth):
        attended = layers.MultiHeadAttention(width // 64, 64)(x, x)
        x = layers.LayerNormalization()(x + attended)
        hidden = layers.Dense(4 * width, activation="gelu", kernel_initializer="he_normal")(x)
        x = layers.LayerNormalization()(x + layers.Dense(width)(hidden))
    return keras.Model(inputs, layers.Dense(8192)(x))


def main() -> None:
    """Build the model both ways and compare the times."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--layers", type=int, default=6)
    parser.add_argument("--width", type=int, default=512)
    options = parser.parse_args()

    def seconds(*, fast: bool) -> tuple[float, keras.Model]:
        keras.utils.clear_session()  # restarts the numbers in the names of layers
        keras.utils.set_random_seed(0)
        start = time.perf_counter()
        with fastinit.keras.accelerate(salt=True) if fast else contextlib.nullcontext():
            model = build(options.layers, options.width)
        return time.perf_counter() - start, model

    build(1, 64)  # warms up: imports and compilation
    plain_seconds, _ = seconds(fast=False)
    fast_seconds, model = seconds(fast=True)
    count = model.count_params()
    print(f"{keras.config.backend()}: {count:,} parameters: {plain_seconds:.2f} s plain,", end=" ")
    print(f"{fast_seconds:.2f} s accelerated")

    _, again = seconds(fast=True)
    same = all(
        np.array_equal(keras.ops.convert_to_numpy(a), keras.ops.convert_to_numpy(b))
        for a, b in zip(model.weights, again.weights, strict=True)
    )
    print("repeated by keras.utils.set_random_seed:", same)


if __name__ == "__main__":
    main()
