"""A plain network in PyTorch, and its training, for `compare`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch.nn import functional

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from torch import Tensor

    from fastinit._typing import Array

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "elu": functional.elu,
    "gelu": functional.gelu,
    "leaky_relu": functional.leaky_relu,
    "linear": lambda z: z,
    "mish": functional.mish,
    "relu": torch.relu,
    "selu": torch.selu,
    "sigmoid": torch.sigmoid,
    "silu": functional.silu,
    "softplus": functional.softplus,
    "softsign": functional.softsign,
    "tanh": torch.tanh,
}


class Network:
    """A network of dense layers, on the CPU, in float32."""

    def __init__(
        self,
        weights: Sequence[Array],
        biases: Sequence[Array],
        activation: Callable[[Any], Any],
        learning_rate: float,
    ) -> None:
        self._activation = activation
        self._learning_rate = learning_rate
        self._weights, self._biases = (
            [torch.from_numpy(array.copy()).requires_grad_() for array in arrays]
            for arrays in (weights, biases)
        )

    def step(self, x: Array, y: Array) -> tuple[float, float]:
        """Makes a step of training; returns the norms of the gradients of the first weights and of all."""
        parameters = [*self._weights, *self._biases]
        with torch.enable_grad():
            loss = functional.cross_entropy(self._forward(x)[-1], torch.from_numpy(y))
            # The outputs of a constant activation do not depend on the weights.
            grads = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
        with torch.no_grad():
            norms = torch.stack([torch.linalg.vector_norm(grad, dtype=torch.float64) for grad in grads])
            for parameter, grad in zip(parameters, grads, strict=True):
                parameter.sub_(grad, alpha=self._learning_rate)
        return float(norms[0]), float(torch.linalg.vector_norm(norms))

    def outputs(self, x: Array) -> list[Array]:
        """The outputs of each hidden layer, and the logits."""
        with torch.no_grad():
            return [output.numpy() for output in self._forward(x)]

    def _forward(self, x: Array) -> list[Tensor]:
        outputs = [torch.from_numpy(x)]
        for weight, bias in zip(self._weights, self._biases, strict=True):
            z = torch.addmm(bias, outputs[-1], weight)
            outputs.append(self._activation(z) if len(outputs) < len(self._weights) else z)
        return outputs[1:]
