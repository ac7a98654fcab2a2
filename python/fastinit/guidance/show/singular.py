"""The singular values of tensors, which are reshaped to matrices, and the distribution of these values."""

from __future__ import annotations

import math
import operator
from collections import Counter
from typing import TYPE_CHECKING

import numpy as np

from fastinit.initializers import DeltaOrthogonal, Dirac, Identity, Initializer, Orthogonal, Zeros
from fastinit.theory.distributions import constant, marchenko_pastur, mixture, with_zeros

if TYPE_CHECKING:
    from fastinit._typing import Array, Shape
    from fastinit.theory.distributions import Distribution


def singular_values_of(initializer: Initializer, shape: Shape) -> Distribution:
    """The distribution of the singular values of large matrices.

    Tensors of more dimensions are reshaped as by `matrices`. The distribution is exact for initializers that
    are not random and for orthogonal matrices. For others it is the limit of Marchenko and Pastur, which is
    close for matrices of some hundred rows and columns.

    Args:
        initializer: The initializer.
        shape: The shape of the tensor, with at least two dimensions; no size is 0.

    Raises:
        ValueError: If the initializer does not take this shape, or it has fewer dimensions or a size of 0.

    Example:
        >>> import fastinit
        >>> from fastinit.guidance.show.singular import singular_values_of
        >>> found = singular_values_of(fastinit.LecunNormal(), (400, 100))
        >>> round(found.low, 9), round(found.high, 9)
        (0.5, 1.5)
        >>> singular_values_of(fastinit.Orthogonal(2.0), (400, 100)).atoms
        ((2.0, 1.0),)
    """
    initializer.check(shape)
    sizes = sizes_of(shape)
    if len(sizes) < 2 or 0 in sizes:
        raise ValueError(
            f"singular values need two dimensions or more, none of them 0, got the shape {sizes}"
        )
    config = {name: value for name, value in initializer.get_config().items() if not name.startswith("block")}
    single = type(initializer).from_config(config)
    axis, blocks = _blocks(initializer, sizes)
    parts = []
    for size, count in Counter(blocks).items():
        block = list(sizes)
        block[axis] = size
        columns = block[_column_axis(initializer)]
        rows = math.prod(block) // max(1, columns)
        parts.append((count * min(rows, columns), _of_block(single, tuple(block), rows, columns)))
    return parts[0][1] if len(parts) == 1 else mixture(parts)


def _of_block(initializer: Initializer, sizes: tuple[int, ...], rows: int, columns: int) -> Distribution:
    few = max(1, min(rows, columns))
    match initializer:
        case Orthogonal():
            return with_zeros(1.0, constant(abs(initializer.gain)), "orthogonal")
        case DeltaOrthogonal():
            return with_zeros(sizes[-2] / few, constant(abs(initializer.gain)), "orthogonal")
        case Identity():
            return with_zeros(1.0, constant(abs(initializer.gain)), "identity")
        case Dirac():
            ones = min(sizes[-2], columns // initializer.groups)
            return with_zeros(ones / few, constant(math.sqrt(initializer.groups)), "identity")
    elements = initializer.check(sizes)
    return marchenko_pastur(rows, columns, elements.std, elements.mean)


def matrices(initializer: Initializer | None, tensor: Array) -> list[Array]:
    """A tensor as matrices, one for each of its blocks.

    The last axis has the columns, the others the rows; for `Orthogonal`, its `column_axis` has the columns.

    Args:
        initializer: The initializer that made the tensor; `None` for any other tensor.
        tensor: The tensor, with at least two dimensions.
    """
    parts, columns = [tensor], -1
    if initializer is not None:
        axis, blocks = _blocks(initializer, tensor.shape)
        parts, columns = np.split(tensor, np.cumsum(blocks)[:-1], axis), _column_axis(initializer)
    return [np.moveaxis(part, columns, -1).reshape(-1, part.shape[columns]) for part in parts]


def sizes_of(shape: Shape) -> tuple[int, ...]:
    """The sizes of all dimensions, checked."""
    Zeros().check(shape)
    try:
        return (operator.index(shape),)  # type: ignore[arg-type]
    except TypeError:
        return tuple(map(operator.index, shape))  # type: ignore[arg-type]


def _column_axis(initializer: Initializer) -> int:
    return initializer.column_axis if isinstance(initializer, Orthogonal) else -1


def _blocks(initializer: Initializer, sizes: tuple[int, ...]) -> tuple[int, list[int]]:
    """The axis of the blocks, and their sizes along it."""
    axis, blocks = initializer.block_axis, initializer.blocks
    if axis is None:
        default = getattr(initializer, "out_axis", _column_axis(initializer))
        axis = default if isinstance(default, int) else -1
    return axis, [sizes[axis] // blocks] * blocks if isinstance(blocks, int) else list(blocks)
