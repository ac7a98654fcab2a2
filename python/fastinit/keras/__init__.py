"""Keras's initializers, fast and the same on every backend.

Here are all names of `keras.initializers`, with Keras's arguments, defaults and errors, so that another
import is all it takes:

>>> import keras
>>> from fastinit.keras import HeNormal
>>> layer = keras.layers.Dense(64, activation="relu", kernel_initializer=HeNormal(seed=1))

and in `accelerate` unmodified code is sampled by fastinit, strings and defaults included.

What is promised:

* **Laws** are those of Keras, fans included. The classes are subclasses of Keras's own, since layers look at
  that.
* **Seeds** are those of Keras: an int gives the same values at each call, a `keras.random.SeedGenerator` does
  not, and where there is none an int is drawn once, when the initializer is made.
* **Values** depend on seed, shape, dtype and law, and not on the backend. An int is the `seed` of fastinit,
  modulo 2**64, and the stream is 0: `HeNormal(seed=1)((64, 32))` is `fastinit.he_normal((64, 32), seed=1)`. A
  seed generator gives the seed and, as the stream, how often it was asked before.
* **Configurations** are those of Keras, and with `blocks=` those, too. Initializers can be saved, loaded and
  cloned, alone or in models; files name them `fastinit>HeNormal`, say, so this module must be imported where
  they are loaded.
* **Memory** is that of the tensor itself on NumPy, PyTorch and TensorFlow on the CPU, and on JAX; what a
  variable of Keras then does with it is its own. On JAX, of a sharded variable only the shards are made.
* **The rest** is left to Keras itself: integer, boolean and complex dtypes, parameters that are tensors,
  degenerate ones as a standard deviation of 0, and what is traced, by `jax.jit` or `tf.function`, where the
  values are Keras's own.
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

# The other spellings.
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
    "random_normal",
    "random_uniform",
    "serialize",
    "sparse",
    "stft",
    "truncated_normal",
    "variance_scaling",
    "zeros",
]
