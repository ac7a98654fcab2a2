"""All that is taken from the private parts of Keras (3.15), with the reasons.

* `RandomInitializer` checks, draws and serializes seeds: the base of all random classes, not exported.
* `compute_fans` gives the fans that Keras uses, for any shape and any axes; not exported.
* `is_in_jax_tracing_scope` tells whether JAX is tracing; neither Keras nor JAX has a public test.
* `INITIALIZE` is the method of `keras.Variable` that calls an initializer. Only there both the path of the
  variable and the initializer are known; there is no hook.
* `layers_in`, `own_variables`, `owners_of` and `initializer_of` read attributes of `keras.Layer` and
  `keras.Variable` that have no public names.
* `rebuilding` lets layers be built again without values: variables that are made in a stateless scope keep
  their initializers, but Keras would make their values at the end of some later scope. It also keeps the
  names that Keras gives to the next layers.
* `torch_device` is where Keras places tensors of PyTorch; `keras.device` cannot be read otherwise.
"""

from __future__ import annotations

import contextlib
import copy
import functools
import random
from typing import TYPE_CHECKING, Any

import keras
from keras.src.backend.common import global_state
from keras.src.initializers.random_initializers import RandomInitializer, compute_fans
from keras.src.utils.jax_utils import is_in_jax_tracing_scope

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

__all__ = [
    "INITIALIZE",
    "RandomInitializer",
    "compute_fans",
    "initializer_of",
    "is_in_jax_tracing_scope",
    "layers_in",
    "own_variables",
    "owners_of",
    "rebuilding",
    "torch_device",
]

INITIALIZE = "_initialize_with_initializer"


@contextlib.contextmanager
def rebuilding() -> Iterator[None]:
    """A context in which layers are built without values, and which leaves the state of Keras as it was."""
    names = ("object_name_uids", "uninitialized_variables")
    before = [(name, copy.copy(global_state.get_global_attribute(name))) for name in names]
    state = random.getstate()  # Initializers without a seed draw one.
    try:
        with keras.StatelessScope(initialize_variables=False):
            yield
    finally:
        random.setstate(state)
        for name, value in before:
            global_state.set_global_attribute(name, value)


def initializer_of(variable: Any) -> Any:
    """The initializer of a variable that has no value yet; otherwise `None`."""
    return variable._initializer


def layers_in(layer: Any) -> list[Any]:
    """The layers that a layer has, without those that these have."""
    return list(layer._flatten_layers(include_self=False, recursive=False))


def own_variables(layer: Any) -> list[Any]:
    """The variables that a layer has besides those of the layers in it, in the order of their making."""
    return [*layer._trainable_variables, *layer._non_trainable_variables]


def owners_of(model: Any) -> dict[int, Any]:
    """The layer that has each variable of a model, by the `id` of the variable."""
    return {id(one): layer for layer in model._flatten_layers() for one in own_variables(layer)}


def torch_device() -> str:
    """The device on which Keras makes tensors of PyTorch now."""
    return str(_get_device()())


@functools.cache
def _get_device() -> Callable[[], object]:
    from keras.src.backend.torch.core import get_device  # loads PyTorch

    found: Callable[[], object] = get_device
    return found
