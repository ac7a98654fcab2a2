"""All that is taken from the private parts of Keras (3.15), with the reasons.

* `RandomInitializer` checks, draws and serializes seeds: the base of all random classes, not exported.
* `compute_fans` gives the fans that Keras uses, for any shape and any axes; not exported.
* `is_in_jax_tracing_scope` tells whether JAX is tracing; neither Keras nor JAX has a public test.
* `INITIALIZE` is the method of `keras.Variable` that calls an initializer. Only there both the path of the
  variable and the initializer are known; there is no hook.
* `torch_device` is where Keras places tensors of PyTorch; `keras.device` cannot be read otherwise.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from keras.src.initializers.random_initializers import RandomInitializer, compute_fans
from keras.src.utils.jax_utils import is_in_jax_tracing_scope

if TYPE_CHECKING:
    from collections.abc import Callable

__all__ = ["INITIALIZE", "RandomInitializer", "compute_fans", "is_in_jax_tracing_scope", "torch_device"]

INITIALIZE = "_initialize_with_initializer"


def torch_device() -> str:
    """The device on which Keras makes tensors of PyTorch now."""
    return str(_get_device()())


@functools.cache
def _get_device() -> Callable[[], object]:
    from keras.src.backend.torch.core import get_device  # loads PyTorch

    found: Callable[[], object] = get_device
    return found
