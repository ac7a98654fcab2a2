"""JAX's initializers, fast and the same however they are traced, batched and sharded.

It has all names of `jax.nn.initializers`, and `zeros_init` and `ones_init` of Flax, with JAX's arguments,
defaults and errors; only the import changes:

>>> import jax
>>> import fastinit.jax as init  # was: from jax.nn import initializers as init
>>> kernel = init.he_normal()(jax.random.key(7), (64, 128))

Guarantees:

* **Distributions** are those of JAX, fans included. Half precision is float32, rounded once: a normal in
  bfloat16 has tails and thousands of values, not 128.
* **Keys** of every kind work. The two words of a key are the seed of fastinit, so the kernel above is
  `fastinit.he_normal((64, 128), seed=7)`.
* **Values** depend on the key, the shape, the dtype and the distribution: not on `jit`, `vmap` or `scan`, nor
  on the number of devices or processes.
* **Programs** contain one call for each tensor, no constants, and compile quickly. On a mesh each device
  makes its own part, without communication.
* **Memory**: a tensor takes its own size. Arrays on the CPU share the memory that fastinit has filled.
* **JAX's own code** makes the rest: `zeros`, `ones`, `constant`, complex numbers, integers, and parameters
  without a distribution.

Importing it starts no backend of JAX.
"""

from jax.nn.initializers import Initializer, constant, ones, zeros

from fastinit._report import Report, ReportRow

from ._initialize import initialize
from ._initializers import (
    delta_orthogonal,
    glorot_normal,
    glorot_uniform,
    he_normal,
    he_uniform,
    lecun_normal,
    lecun_uniform,
    normal,
    ones_init,
    orthogonal,
    truncated_normal,
    uniform,
    variance_scaling,
    zeros_init,
)
from ._orbax import write_orbax
from ._plan import plan
from ._primitive import sample

kaiming_normal = he_normal
kaiming_uniform = he_uniform
xavier_normal = glorot_normal
xavier_uniform = glorot_uniform

__all__ = [
    "Initializer",
    "Report",
    "ReportRow",
    "constant",
    "delta_orthogonal",
    "glorot_normal",
    "glorot_uniform",
    "he_normal",
    "he_uniform",
    "initialize",
    "kaiming_normal",
    "kaiming_uniform",
    "lecun_normal",
    "lecun_uniform",
    "normal",
    "ones",
    "ones_init",
    "orthogonal",
    "plan",
    "sample",
    "truncated_normal",
    "uniform",
    "variance_scaling",
    "write_orbax",
    "xavier_normal",
    "xavier_uniform",
    "zeros",
    "zeros_init",
]
