"""The order of layers: plain runs of them, each of which takes what the one before it gives.

A source that knows the order of its layers tells it as steps. Where only names and shapes are known, an order
is assumed if all kernels of a model fit together as one stack.
"""

from __future__ import annotations

import itertools
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Sequence

    from fastinit.theory.activations import Activation

    from .tensors import Tensor

# The fewest kernels whose order is assumed from names and shapes.
_STACK = 2


class Layer(NamedTuple):
    """A layer with a kernel, and what follows it.

    Attributes:
        kernel: The name of its kernel.
        bias: The name of its bias, if it has one.
        activation: Its activation; `None` for none.
        normalized: Whether a normalization follows, before the activation or after it.
        fans: Its fan_in and fan_out, where they do not follow from the layout of the kernel.
    """

    kernel: str
    bias: str | None = None
    activation: Activation | None = None
    normalized: bool = False
    fans: tuple[float, float] | None = None


@dataclass(frozen=True)
class Run:
    """Layers in a row, without other paths around them.

    Attributes:
        layers: The layers.
        whole: Whether they are the whole model.
        joins: Whether their output is known to be added to, or joined with, another signal.
        assumed: Whether the order is assumed from names and shapes; the activations are not known then.
    """

    layers: tuple[Layer, ...]
    whole: bool = False
    joins: bool = False
    assumed: bool = False


class Order:
    """Collects the steps of a model into runs.

    Attributes:
        runs: The runs that have ended.
    """

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self._layers: list[Layer] = []
        self._known = True

    def layer(self, kernel: str, bias: str | None) -> None:
        """A layer with a kernel. A softmax before it ends the run."""
        before = self._layers[-1].activation if self._layers else None
        if before is not None and before.kind != "elementwise":
            self.unknown()
        self._layers.append(Layer(kernel, bias))

    def activation(self, found: Activation) -> None:
        """An activation; the second one of a layer ends the run."""
        if found.name == "linear":
            return
        if self._layers and self._layers[-1].activation is not None:
            self.unknown()
        if self._layers:
            self._layers[-1] = self._layers[-1]._replace(activation=found)

    def normalization(self) -> None:
        """A normalization."""
        if self._layers:
            self._layers[-1] = self._layers[-1]._replace(normalized=True)

    def unknown(self) -> None:
        """Something whose inside or whose neighbours are not known; it ends the run."""
        self._known = False
        self.end()

    def end(self, *, joins: bool = False) -> None:
        """The end of a run; of the whole model if nothing came before it and all is known."""
        if self._layers:
            whole = self._known and not self.runs and not joins
            self.runs.append(Run(tuple(self._layers), whole, joins))
        self._layers = []


def assumed(tensors: Sequence[Tensor]) -> list[Run]:
    """The run that all kernels of a model are, as their names and shapes suggest; empty if they do not.

    Each kernel must take what the one before it gives, all but the first and the last must have names that
    differ in numbers only, and there must be nothing else than biases. Residual networks, transformers and
    networks with normalization have other tensors, or several kinds of kernels.
    """
    kernels = [t for t in tensors if t.role == "kernel"]
    others = {t.role for t in tensors} - {"kernel", "bias"}
    if len(kernels) < _STACK or others or any(len(t.shape) != 2 for t in kernels):
        return []
    if any(t.role == "bias" and len(t.shape) != 1 for t in tensors):
        return []
    biases = {_layer_of(t.name): t for t in tensors if t.role == "bias"}
    for ordered in (kernels, sorted(kernels, key=lambda t: _natural(t.name))):
        if len({re.sub(r"\d+", "", t.name) for t in ordered[1:-1]}) > 1:
            continue
        for swap in (False,) if kernels[0].certain else (False, True):
            axes = [(t.out_axis, t.in_axis) if swap else (t.in_axis, t.out_axis) for t in ordered]
            fans = [(t.shape[into], t.shape[out]) for t, (into, out) in zip(ordered, axes, strict=True)]
            if all(one[1] == other[0] for one, other in itertools.pairwise(fans)):
                layers = [_layer(t, *sizes, biases) for t, sizes in zip(ordered, fans, strict=True)]
                return [Run(tuple(layers), whole=True, assumed=True)]
    return []


def _layer(kernel: Tensor, into: int, out: int, biases: dict[str, Tensor]) -> Layer:
    bias = biases.get(_layer_of(kernel.name))
    name = bias.name if bias is not None and bias.size == out else None
    return Layer(kernel.name, name, fans=(float(into), float(out)))


def _layer_of(name: str) -> str:
    return name[: max(name.rfind("."), name.rfind("/")) + 1]


def _natural(name: str) -> list[tuple[int, str]]:
    """A key by which numbers in names are ordered by their values, however long they are."""
    parts = re.split(r"(\d+)", name)
    return [(len(part.lstrip("0")), part.lstrip("0")) if part.isdigit() else (-1, part) for part in parts]
