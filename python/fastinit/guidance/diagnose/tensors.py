"""The description of a tensor: its names, its role, its axes, and how its elements are read."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from fastinit._typing import Array

# Yields the elements from `start` to `stop`, `step` at a time, as one-dimensional float32 or float64 in C
# order. A chunk is valid until the next one is requested. Where reading takes long, chunks may be empty.
Read = Callable[[int, int, int], "Iterator[Array]"]

# The most axes that an initializer takes.
MOST_AXES = 32

# Relative rounding of the dtypes.
_EPS = {"float64": 2.0**-52, "float32": 2.0**-23, "float16": 2.0**-10, "bfloat16": 2.0**-7}


class Skipped(NamedTuple):
    """A tensor that is not read. The reason is empty for integers and booleans, which are not mentioned."""

    name: str
    why: str


class Kind(NamedTuple):
    """What the fans and the schemes of a tensor depend on; a model has few kinds."""

    shape: tuple[int, ...]
    axes: tuple[int, int]
    layout: str
    role: str
    certain: bool
    transposed: bool
    groups: int
    hidden: tuple[int, ...]

    @property
    def is_kernel(self) -> bool:
        """Whether they mix the units of a signal."""
        return self.role in ("kernel", "recurrent")

    @property
    def is_weight(self) -> bool:
        """Whether they are matrices, convolution kernels or embeddings, which are usually drawn at random."""
        return 1 < len(self.shape) <= MOST_AXES and (self.is_kernel or self.role == "embedding")


@dataclass(frozen=True)
class Tensor:
    """A tensor of floating-point numbers.

    Attributes:
        names: Its name; several where it is tied.
        shape: Its shape.
        dtype: The name of its dtype.
        role: Its role, see `roles.role_of`.
        layout: `"out_in"` for PyTorch's order of axes, `"in_out"` for that of Keras and JAX.
        read: Yields its elements.
        certain: Whether the layout is known rather than assumed.
        parallel: Whether parts of it can be read at the same time.
        groups: The groups of a convolution.
        transposed: Whether it belongs to a transposed convolution.
        norm: Whether a scale belongs to a normalization rather than to a branch.
        hidden: The possible sizes of the hidden state, for the kernels and biases of recurrent layers.
        tied: Whether it is an embedding and makes the output, too.
        orthogonal: Whether its layer declares it orthogonal.
        memory: Identifies its memory, by device, address and more; equal for tensors that are the same.
            `None` if it shares none.
    """

    names: tuple[str, ...]
    shape: tuple[int, ...]
    dtype: str
    role: str
    layout: str
    read: Read
    certain: bool = False
    parallel: bool = True
    groups: int = 1
    transposed: bool = False
    norm: bool = False
    hidden: tuple[int, ...] = ()
    tied: bool = False
    orthogonal: bool = False
    memory: object = field(default=None, compare=False)

    def shares(self, other: Tensor) -> bool:
        """Whether it begins where another one does, in the same memory."""
        mine, its = self.memory, other.memory
        return isinstance(mine, tuple) and isinstance(its, tuple) and mine[:2] == its[:2]

    @property
    def name(self) -> str:
        """The first of its names."""
        return self.names[0]

    @property
    def size(self) -> int:
        """The number of its elements."""
        return math.prod(self.shape)

    @property
    def in_axis(self) -> int:
        """The axis of the inputs; there must be two or more axes."""
        return self.kind.axes[0]

    @property
    def out_axis(self) -> int:
        """The axis of the outputs; there must be two or more axes."""
        return self.kind.axes[1]

    @property
    def is_kernel(self) -> bool:
        """Whether it mixes the units of a signal."""
        return self.kind.is_kernel

    @property
    def is_weight(self) -> bool:
        """Whether it is a matrix, a convolution kernel or an embedding, which is usually drawn at random."""
        return self.kind.is_weight

    @functools.cached_property
    def kind(self) -> Kind:
        """What its fans and schemes depend on."""
        n = len(self.shape)
        axes = (0, 0) if n < 2 else (1, 0) if self.layout == "out_in" else (n - 2, n - 1)
        if self.transposed:
            axes = axes[::-1]
        return Kind(
            self.shape, axes, self.layout, self.role, self.certain, self.transposed, self.groups, self.hidden
        )

    @property
    def eps(self) -> float:
        """The relative rounding of the dtype."""
        return _EPS.get(self.dtype, 2.0**-2)

    @property
    def rounding(self) -> float:
        """The largest cosine between orthogonal units that rounding explains."""
        return 100 * _EPS["float32"] + self.eps
