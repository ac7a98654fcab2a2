"""Tensors as the matrices whose singular values are meant, and the distribution of those values."""

from __future__ import annotations

import math
import operator
from typing import TYPE_CHECKING

import numpy as np

import fastinit
from fastinit.theory.distributions import Distribution, constant, marchenko_pastur, mixture

if TYPE_CHECKING:
    from fastinit._typing import Array, Shape


def singular_values_of(initializer: fastinit.Initializer, shape: Shape) -> Distribution:
    """The distribution of the singular values of a large matrix.

    A tensor of more dimensions is seen as a matrix, as `matrices` sees it. Exact for what is not random, and
    for orthogonal matrices; otherwise the limit of Marchenko and Pastur, from which matrices of some hundred
    rows and columns differ little.

    Args:
        initializer: The initializer.
        shape: The shape of the tensor.

    Raises:
        ValueError: If the initializer does not take tensors of this shape, or they are not matrices.

    Example:
        >>> import fastinit
        >>> from fastinit.guidance.show.singular import singular_values_of
        >>> found = singular_values_of(fastinit.LecunNormal(), (400, 100))
        >>> round(found.low, 9), round(found.high, 9)
        (0.5, 1.5)
        >>> singular_values_of(fastinit.Orthogonal(2.0), (400, 100)).atoms
        ((2.0, 1.0),)
    """
    elements = initializer.check(shape)
    sizes = sizes_of(shape)
    if len(sizes) < 2 or 0 in sizes:
        raise ValueError(f"singular values need two dimensions or more, none of them 0; the shape is {sizes}")
    rows, columns = _matrix(initializer, sizes)
    few = min(rows, columns)
    match initializer:
        case fastinit.Orthogonal():
            return _some("orthogonal", 1.0, abs(initializer.gain))
        case fastinit.DeltaOrthogonal():
            return _some("orthogonal", sizes[-2] / few, abs(initializer.gain))
        case fastinit.Identity():
            return _some("identity", 1.0, abs(initializer.gain))
        case fastinit.Dirac():
            passed = min(sizes[-2], columns // initializer.groups)
            return _some("identity", passed / few, math.sqrt(initializer.groups))
    return marchenko_pastur(rows, columns, elements.std, elements.mean)


def _some(name: str, share: float, value: float) -> Distribution:
    return mixture([(1 - share, constant(0.0)), (share, constant(value))], name)


def matrices(initializer: fastinit.Initializer | None, tensor: Array) -> Array:
    """A tensor as the matrices whose singular values are meant, in an array of three dimensions.

    The last axis has the columns and all others the rows, except where `Orthogonal` says otherwise; of a tensor
    in blocks, each block is a matrix.
    """
    axis, blocks, block_axis = _layout(initializer)
    parts = np.split(tensor, blocks, axis=block_axis)
    return np.stack([np.moveaxis(part, axis, -1).reshape(-1, part.shape[axis]) for part in parts])


def sizes_of(shape: Shape) -> tuple[int, ...]:
    """The sizes of all dimensions."""
    fastinit.Zeros().check(shape)  # refuses what is not a shape
    try:
        return (operator.index(shape),)  # type: ignore[arg-type]
    except TypeError:
        return tuple(map(operator.index, shape))  # type: ignore[arg-type]


def _layout(initializer: fastinit.Initializer | None) -> tuple[int, int, int]:
    """The axis of the columns of a matrix, the number of matrices, and the axis along which these lie."""
    if not isinstance(initializer, fastinit.Orthogonal):
        return -1, 1, -1
    axis = initializer.column_axis
    assert isinstance(initializer.blocks, int)
    return axis, initializer.blocks, axis if initializer.block_axis is None else initializer.block_axis


def _matrix(initializer: fastinit.Initializer, shape: tuple[int, ...]) -> tuple[int, int]:
    """The numbers of rows and columns of each of the matrices of a tensor."""
    axis, blocks, block_axis = _layout(initializer)
    sizes = list(shape)
    sizes[block_axis] //= blocks
    return math.prod(sizes) // max(1, sizes[axis]), sizes[axis]
