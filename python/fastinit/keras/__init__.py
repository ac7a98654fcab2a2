"""Keras's initializers, fast and the same on every backend.

It has all names of `keras.initializers`, with Keras's arguments, defaults and errors; only the import
changes:

>>> import keras
>>> from fastinit.keras import HeNormal
>>> layer = keras.layers.Dense(64, activation="relu", kernel_initializer=HeNormal(seed=1))

In `accelerate`, fastinit also samples the initializers of unmodified code, strings and defaults included.

Guarantees:

* **Distributions** are those of Keras, fans included. The classes are subclasses of Keras's, because layers
  check for them.
* **Seeds** work as in Keras: with an int every call gives the same values, with a
  `keras.random.SeedGenerator` other values; without a seed, an int is drawn once, at construction.
* **Values** depend on the seed, the shape, the dtype and the distribution, not on the backend. An int is the
  `seed` of fastinit, modulo 2**64, with stream 0: `HeNormal(seed=1)((64, 32))` is
  `fastinit.he_normal((64, 32), seed=1)`. A seed generator gives the seed; the stream is the number of its
  draws before.
* **Configurations** are those of Keras, plus the parameters that only fastinit has (such as `blocks`) where
  they are not the default. Initializers can be saved, loaded and cloned, alone or in models. Files refer to
  classes as `fastinit>HeNormal`, so this module must be imported before they are loaded.
* **Memory**: the tensor is not copied on NumPy, on JAX, and on the CPU with PyTorch and TensorFlow. What a
  variable of Keras does with it is up to Keras. On JAX, only the shards of a sharded variable are made.
* **Keras's own code** makes the rest: integer, boolean and complex dtypes, parameters that are tensors or
  degenerate (a standard deviation of 0), and calls traced by `jax.jit` or `tf.function`, with Keras's values.
  Blocks, and the classes that Keras does not have, are traced as callbacks, with the values of fastinit.
"""

from keras.initializers import STFT, Initializer, STFTInitializer, serialize, stft

from ._accelerate import accelerate, disable, enable
from ._get import deserialize, get
from ._initializers import (
    Constant,
    DeltaOrthogonal,
    Dirac,
    GlorotNormal,
    GlorotUniform,
    HeNormal,
    HeUniform,
    Identity,
    LecunNormal,
    LecunUniform,
    Ones,
    Orthogonal,
    RandomNormal,
    RandomUniform,
    Sparse,
    TruncatedNormal,
    VarianceScaling,
    Zeros,
)
from ._plan import plan

# The names in lower case, and Keras's aliases.
constant = Constant
delta_orthogonal = DeltaOrthogonal
dirac = Dirac
glorot_normal = GlorotNormal
glorot_uniform = GlorotUniform
he_normal = HeNormal
he_uniform = HeUniform
identity = Identity
lecun_normal = LecunNormal
lecun_uniform = LecunUniform
ones = Ones
orthogonal = Orthogonal
random_normal = RandomNormal
random_uniform = RandomUniform
sparse = Sparse
truncated_normal = TruncatedNormal
variance_scaling = VarianceScaling
zeros = Zeros
IdentityInitializer = Identity
OrthogonalInitializer = Orthogonal

__all__ = [
    "STFT",
    "Constant",
    "DeltaOrthogonal",
    "Dirac",
    "GlorotNormal",
    "GlorotUniform",
    "HeNormal",
    "HeUniform",
    "Identity",
    "IdentityInitializer",
    "Initializer",
    "LecunNormal",
    "LecunUniform",
    "Ones",
    "Orthogonal",
    "OrthogonalInitializer",
    "RandomNormal",
    "RandomUniform",
    "STFTInitializer",
    "Sparse",
    "TruncatedNormal",
    "VarianceScaling",
    "Zeros",
    "accelerate",
    "constant",
    "delta_orthogonal",
    "deserialize",
    "dirac",
    "disable",
    "enable",
    "get",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "identity",
    "lecun_normal",
    "lecun_uniform",
    "ones",
    "orthogonal",
    "plan",
    "random_normal",
    "random_uniform",
    "serialize",
    "sparse",
    "stft",
    "truncated_normal",
    "variance_scaling",
    "zeros",
]
