"""A plain network in Keras, and its training with any backend, for `compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import keras
import numpy as np
from keras import activations, layers, ops

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from fastinit._typing import Array

ACTIVATIONS: dict[str, Callable[[Any], Any]] = {
    "elu": activations.elu,
    "gelu": activations.gelu,
    "leaky_relu": lambda z: activations.leaky_relu(z, negative_slope=0.01),  # PyTorch's slope
    "linear": activations.linear,
    "mish": activations.mish,
    "relu": activations.relu,
    "selu": activations.selu,
    "sigmoid": activations.sigmoid,
    "silu": activations.silu,
    "softplus": activations.softplus,
    "softsign": activations.softsign,
    "tanh": activations.tanh,
}


class _SGD(keras.optimizers.SGD):  # type: ignore[misc]
    """SGD that stores the norms of the last gradients: that of the first variable, and that of all."""

    def build(self, variables: Sequence[Any]) -> None:
        super().build(variables)
        self.norms = self.add_variable((2,), dtype="float32", name="norms")

    def apply(self, grads: Sequence[Any], trainable_variables: Sequence[Any] | None = None) -> None:
        super().apply(grads, trainable_variables)
        norms = ops.stack([_norm(grad) for grad in grads if grad is not None])
        self.assign(self.norms, ops.stack([norms[0], _norm(norms)]))


def _norm(x: Any) -> Any:
    """The Euclidean norm, without overflow or underflow of the squares."""
    greatest = ops.max(ops.abs(x))
    scale = ops.where(greatest > 0, greatest, 1.0)
    return scale * ops.sqrt(ops.sum(ops.square(x / scale)))


class Network:
    """A network of dense layers, in float32."""

    def __init__(
        self,
        weights: Sequence[Array],
        biases: Sequence[Array],
        activation: Callable[[Any], Any],
        learning_rate: float,
    ) -> None:
        inputs = keras.Input((len(weights[0]),), dtype="float32")
        outputs = [inputs]
        for i, (weight, bias) in enumerate(zip(weights, biases, strict=True)):
            last = i == len(weights) - 1
            layer = layers.Dense(weight.shape[1], None if last else activation, dtype="float32")
            outputs.append(layer(outputs[-1]))
            layer.set_weights([weight, bias])
        self._outputs = keras.Model(inputs, outputs[1:])
        self._model = keras.Model(inputs, outputs[-1])
        self._optimizer = _SGD(learning_rate, name="sgd")
        loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True, dtype="float32")
        self._model.compile(self._optimizer, loss, auto_scale_loss=False)

    def step(self, x: Array, y: Array) -> tuple[float, float]:
        """Makes a step of training; returns the norms of the gradients of the first weights and of all."""
        self._model.train_on_batch(x, y)
        first, total = ops.convert_to_numpy(self._optimizer.norms)
        return float(first), float(total)

    def outputs(self, x: Array) -> list[Array]:
        """The outputs of each hidden layer, and the logits."""
        return [np.asarray(output) for output in self._outputs.predict_on_batch(x)]
