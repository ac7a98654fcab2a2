"""The usual initializer for each kind of layer, from `fastinit.keras`.

Run it with ``python examples/keras3/recipes.py``, on any backend: ``KERAS_BACKEND=jax``, ``torch``,
``tensorflow`` or ``numpy``. The last line of the output is the same on all of them.
"""

import hashlib

import keras
import numpy as np
from keras import layers

import fastinit.keras as init  # was: from keras import initializers as init


def classifier() -> keras.Model:
    """Dense layers: He for ReLU, LeCun for SELU, Glorot for a sigmoid."""
    return keras.Sequential(
        [
            keras.Input((32,)),
            layers.Dense(
                64,
                activation="relu",
                kernel_initializer=init.HeUniform(seed=1),
                bias_initializer=init.Zeros(),
            ),
            layers.Dense(64, activation="selu", kernel_initializer=init.LecunNormal(seed=2)),
            layers.Dense(1, activation="sigmoid", kernel_initializer=init.GlorotUniform(seed=3)),
        ]
    )


def recurrent() -> keras.Model:
    """Recurrent layers: an orthogonal matrix for each gate of an LSTM; the identity, for ReLU."""
    return keras.Sequential(
        [
            keras.Input((10, 32)),
            layers.LSTM(
                64,
                kernel_initializer=init.GlorotUniform(seed=4, blocks=4),
                recurrent_initializer=init.Orthogonal(seed=5, blocks=4),
                return_sequences=True,
            ),
            layers.SimpleRNN(32, activation="relu", recurrent_initializer=init.Identity(0.9), name="irnn"),
        ]
    )


def convolutional() -> keras.Model:
    """Convolutions that keep the norm of their input, for very deep networks."""
    return keras.Sequential(
        [
            keras.Input((16, 16, 8)),
            layers.Conv2D(16, 3, padding="same", kernel_initializer=init.DeltaOrthogonal(seed=6)),
            layers.Conv2D(16, 3, padding="same", kernel_initializer=init.Dirac()),
        ]
    )


def main() -> None:
    """Build the models and call each."""
    keras.utils.set_random_seed(0)  # for the default initializers
    for make in (classifier, recurrent, convolutional):
        model = make()
        data = np.ones((2, *model.input_shape[1:]), np.float32)
        print(f"{make.__name__:14} {model.count_params():6,} parameters, output {tuple(model(data).shape)}")
        for weight in model.weights:
            values = keras.ops.convert_to_numpy(weight)
            print(f"  {weight.path:36} {tuple(weight.shape)!s:14} std {values.std():.4f}")
    kernel = keras.ops.convert_to_numpy(init.HeNormal(seed=7)((512, 512)))
    print("he_normal, seed 7:", hashlib.sha256(kernel.tobytes()).hexdigest()[:16])


if __name__ == "__main__":
    main()
