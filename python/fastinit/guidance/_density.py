"""What initializers are meant to make: the exact law of their elements, and that of their singular values.

Everything follows from the parameters of an initializer and a shape; nothing is sampled, and nothing but
NumPy is needed.
"""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

import fastinit

if TYPE_CHECKING:
    from collections.abc import Callable

    from fastinit._typing import Array, Shape


@dataclass(frozen=True)
class Law:
    """The distribution of a number: a density, and single values that have a probability of their own.

    Attributes:
        name: What it is called.
        mean: Its mean.
        std: Its standard deviation.
        low: The lower end of where its density is positive; may be `-inf`.
        high: The upper end; may be `inf`. Equal to `low` where there is no density.
        atoms: Values that have a probability of their own, and this probability, by value.
        density: The density of the rest at an array of float64. Its integral and the probabilities of `atoms`
            add up to 1.
    """

    name: str
    mean: float
    std: float
    low: float
    high: float
    density: Callable[[Array], Array]
    atoms: tuple[tuple[float, float], ...] = ()


def element_law(initializer: fastinit.Initializer, shape: Shape) -> Law:
    """The law of the elements of a tensor, taken all together.

    Args:
        initializer: The initializer.
        shape: The shape of the tensor.

    Raises:
        ValueError: If the initializer does not take tensors of this shape.
        TypeError: If it is of a class that is unknown here.

    Example:
        >>> import fastinit
        >>> from fastinit.guidance._density import element_law
        >>> law = element_law(fastinit.HeNormal(), (512, 256))
        >>> law.name, round(law.std, 6)  # sqrt(2 / 512)
        ('truncated normal', 0.0625)
        >>> element_law(fastinit.Sparse(0.9), (100, 10)).atoms
        ((0.0, 0.9),)

    References:
        For `Orthogonal`, the marginals of the uniform distribution on a sphere: Fang, Kotz and Ng, "Symmetric
        multivariate and related distributions", 1990.
    """
    sizes = sizes_of(shape)
    # One element is made, so that a shape that does not fit is refused.
    initializer(sizes, seed=0, index=tuple(slice(0, min(1, size)) for size in sizes))
    return law_of_elements(initializer, sizes)


@functools.lru_cache(maxsize=256)
def law_of_elements(initializer: fastinit.Initializer, sizes: tuple[int, ...]) -> Law:
    """The same, of a shape that the initializer takes."""
    match initializer.for_shape(sizes):
        case fastinit.RandomUniform() as law:
            return _uniform(law)
        case fastinit.RandomNormal() as law:
            return normal_law(law.mean, law.stddev)
        case fastinit.TruncatedNormal() as law:
            return _truncated_normal(law)
        case fastinit.Orthogonal() as law:
            return _sphere(max(1, *_matrix(law, sizes)), law.gain)
        case fastinit.DeltaOrthogonal() as law:
            taps = math.prod(sizes[:-2])
            return _mixed("one tap orthogonal", 1 / taps, _sphere(sizes[-1], law.gain))
        case fastinit.Sparse() as law:
            zeros = math.ceil(law.sparsity * sizes[0]) / max(1, sizes[0])
            return _mixed("normal and zeros", 1 - zeros, normal_law(0.0, law.stddev))
        case fastinit.Identity() as law:
            return _mixed("identity", 1 / max(1, *sizes), _constant(law.gain))
        case fastinit.Dirac() as law:
            passed = law.groups * min(sizes[-2], sizes[-1] // law.groups)
            return _mixed("identity in one tap", passed / max(1, math.prod(sizes)), _constant(1.0))
        case fastinit.Constant() as law:
            return _constant(law.value)
        case fastinit.Zeros():
            return _constant(0.0)
        case fastinit.Ones():
            return _constant(1.0)
    raise TypeError(f"the law of {type(initializer).__name__} is not known")


def singular_law(initializer: fastinit.Initializer, shape: Shape) -> Law:
    """The law of the singular values of a large matrix.

    A tensor of more dimensions is seen as a matrix, as `matrices` sees it. Exact for what is not random, and
    for orthogonal matrices; otherwise the limit of Marchenko and Pastur, of which matrices of some hundred
    rows and columns differ little.

    Args:
        initializer: The initializer.
        shape: The shape of the tensor.

    Raises:
        ValueError: If the initializer does not take tensors of this shape, or they are no matrices.
        TypeError: If it is of a class that is unknown here.

    Example:
        >>> import fastinit
        >>> from fastinit.guidance._density import singular_law
        >>> law = singular_law(fastinit.LecunNormal(), (400, 100))
        >>> round(law.low, 9), round(law.high, 9)
        (0.5, 1.5)
        >>> singular_law(fastinit.Orthogonal(2.0), (400, 100)).atoms
        ((2.0, 1.0),)

    References:
        Marchenko and Pastur, "Distribution of eigenvalues for some sets of random matrices", Mathematics of
        the USSR-Sbornik 1, 1967. Benaych-Georges and Nadakuditi, "The singular values and vectors of low rank
        perturbations of large rectangular random matrices", Journal of Multivariate Analysis 111, 2012,
        arXiv:1103.2221.
    """
    elements = element_law(initializer, shape)
    sizes = sizes_of(shape)
    if len(sizes) < 2 or 0 in sizes:
        raise ValueError(f"singular values need two dimensions or more, none of them 0; the shape is {sizes}")
    rows, columns = _matrix(initializer, sizes)
    few = min(rows, columns)
    match initializer:
        case fastinit.Orthogonal():
            return _mixed("orthogonal", 1.0, _constant(abs(initializer.gain)))
        case fastinit.DeltaOrthogonal():
            return _mixed("orthogonal", sizes[-2] / few, _constant(abs(initializer.gain)))
        case fastinit.Identity():
            return _mixed("identity", 1.0, _constant(abs(initializer.gain)))
        case fastinit.Dirac():
            passed = min(sizes[-2], columns // initializer.groups)
            return _mixed("identity", passed / few, _constant(math.sqrt(initializer.groups)))
    return marchenko_pastur(rows, columns, elements.std, elements.mean)


def marchenko_pastur(rows: int, columns: int, std: float, mean: float = 0.0) -> Law:
    """The law of the singular values of a large matrix of independent elements.

    Args:
        rows: The number of rows; at least 1.
        columns: The number of columns; at least 1.
        std: The standard deviation of the elements; finite and at least 0.
        mean: Their mean; finite. One that is large enough lifts one singular value above all others.

    Example:
        >>> from fastinit.guidance._density import marchenko_pastur
        >>> law = marchenko_pastur(100, 100, 0.1)  # a quarter of a circle
        >>> law.low, law.high
        (0.0, 2.0)
    """
    many, few = max(rows, columns), min(rows, columns)
    low, high = std * (math.sqrt(many) - math.sqrt(few)), std * (math.sqrt(many) + math.sqrt(few))
    theta, noise = abs(mean) * math.sqrt(many * few), std**2
    lifted = 1 / few if theta**4 > noise**2 * many * few else 0.0
    atoms: tuple[tuple[float, float], ...] = ()
    if std == 0.0:
        return _mixed("constant", lifted, _constant(theta))
    if lifted:
        atoms = ((math.sqrt((theta**2 + noise * many) * (theta**2 + noise * few)) / theta, lifted),)

    def density(s: Array) -> Array:
        inside = (s > low) & (s <= high)
        x = np.where(inside, s, high)
        root = np.sqrt(np.maximum(0.0, (high - x) * (high + x) * (x - low) * (x + low)))
        return np.where(inside, (1 - lifted) * root / (math.pi * few * noise * x), 0.0)

    # In the angle the density is smooth at both ends.
    nodes, weights = _legendre()
    x = (low + high) / 2 + (high - low) / 2 * np.sin(math.pi / 2 * nodes)
    mean_of_all = float(
        (weights * density(x) * x * np.cos(math.pi / 2 * nodes)).sum() * (high - low) / 2 * math.pi / 2
    )
    mean_of_all += sum(value * share for value, share in atoms)
    square = (1 - lifted) * noise * many + sum(value**2 * share for value, share in atoms)
    std_of_all = math.sqrt(max(0.0, square - mean_of_all**2))
    return Law("Marchenko-Pastur", mean_of_all, std_of_all, low, high, density, atoms)


def matrices(initializer: fastinit.Initializer | None, tensor: Array) -> Array:
    """A tensor as the matrices whose singular values are meant, in an array of three dimensions.

    The last axis has the columns and all others the rows, except where `Orthogonal` says otherwise; of one in
    blocks, each is a matrix.
    """
    axis, blocks, block_axis = _layout(initializer)
    parts = np.split(tensor, blocks, axis=block_axis)
    return np.stack([np.moveaxis(part, axis, -1).reshape(-1, part.shape[axis]) for part in parts])


def sizes_of(shape: Shape) -> tuple[int, ...]:
    """The sizes of all dimensions."""
    fastinit.Zeros().for_shape(shape)  # refuses what is no shape
    try:
        return (operator.index(shape),)  # type: ignore[arg-type]
    except TypeError:
        return tuple(map(operator.index, shape))  # type: ignore[arg-type]


def _layout(initializer: fastinit.Initializer | None) -> tuple[int, int, int]:
    """The axis of the columns of a matrix, the number of matrices, and the axis along which these lie."""
    if not isinstance(initializer, fastinit.Orthogonal):
        return -1, 1, -1
    axis = initializer.column_axis
    return axis, initializer.blocks, axis if initializer.block_axis is None else initializer.block_axis


def _matrix(initializer: fastinit.Initializer, shape: tuple[int, ...]) -> tuple[int, int]:
    """The numbers of rows and columns of each of the matrices of a tensor."""
    axis, blocks, block_axis = _layout(initializer)
    sizes = list(shape)
    sizes[block_axis] //= blocks
    return math.prod(sizes) // max(1, sizes[axis]), sizes[axis]


def _nothing(x: Array) -> Array:
    return np.zeros_like(x)


def _constant(value: float) -> Law:
    return Law("constant", value, 0.0, value, value, _nothing, ((value, 1.0),))


def _mixed(name: str, share: float, law: Law) -> Law:
    """Zero, but for a share of elements that have a law."""
    if share == 0.0:
        return replace(_constant(0.0), name=name)
    mean = share * law.mean
    std = math.sqrt(max(0.0, share * (law.std**2 + law.mean**2) - mean**2))
    mass = {0.0: 1 - share}
    for value, probability in law.atoms:
        mass[value] = mass.get(value, 0.0) + share * probability
    atoms = tuple((value, mass[value]) for value in sorted(mass) if mass[value] > 0.0)
    return replace(law, name=name, mean=mean, std=std, density=lambda x: share * law.density(x), atoms=atoms)


def _uniform(law: fastinit.RandomUniform) -> Law:
    width = law.maxval - law.minval

    def density(x: Array) -> Array:
        return np.where((x >= law.minval) & (x < law.maxval), 1 / width, 0.0)

    mean = law.minval + width / 2
    return Law("uniform", mean, width / math.sqrt(12), law.minval, law.maxval, density)


def normal_law(mean: float, stddev: float) -> Law:
    """The normal law; with no standard deviation, that of a constant."""
    if stddev == 0.0:
        return _constant(mean)

    def density(x: Array) -> Array:
        return np.exp(-(((x - mean) / stddev) ** 2) / 2) / (stddev * math.sqrt(2 * math.pi))

    return Law("normal", mean, stddev, -math.inf, math.inf, density)


def truncated(lower: float, upper: float) -> tuple[float, float, float]:
    """The mean, the standard deviation and the kurtosis of a standard normal number on [lower, upper]."""
    z, share, _, _ = _bulk(lower, upper)
    mean = float(share @ z)
    square = float(share @ (z - mean) ** 2)
    return mean, math.sqrt(square), float(share @ (z - mean) ** 4) / square**2


def _bulk(lower: float, upper: float) -> tuple[Array, Array, float, float]:
    """Nodes between bounds, the probability of each, and what `exp(-(z**2 - top**2) / 2)` has for integral.

    It is 1 at `top`, where it is greatest, so that nothing vanishes, however deep in the tail.
    """
    top = min(max(lower, 0.0), upper)
    # Beyond it the density has fallen by exp(-40).
    reach = min(9.0, 80 / max(1.0, abs(top)))
    start = max(lower, top - reach if top <= 0 else top)
    stop = min(upper, top + reach if top >= 0 else top)
    nodes, weights = _legendre()
    z = (start + stop) / 2 + (stop - start) / 2 * nodes
    share = weights * np.exp(-(z - top) * (z + top) / 2)
    return z, share / share.sum(), top, float(share.sum()) * (stop - start) / 2


def _truncated_normal(law: fastinit.TruncatedNormal) -> Law:
    lower, upper = law.lower, law.upper
    mean, std, _ = truncated(lower, upper)
    _, _, top, area = _bulk(lower, upper)

    def density(x: Array) -> Array:
        z = (x - law.mean) / law.stddev
        inside = (z >= lower) & (z <= upper)
        z = np.where(inside, z, top)
        return np.where(inside, np.exp(-(z - top) * (z + top) / 2) / (area * law.stddev), 0.0)

    return Law(
        "truncated normal",
        law.mean + law.stddev * mean,
        law.stddev * std,
        law.mean + law.stddev * lower,
        law.mean + law.stddev * upper,
        density,
    )


def _sphere(dimension: int, gain: float) -> Law:
    """A coordinate of a uniform point on the sphere of radius `gain`: an element of a Haar matrix."""
    radius = abs(gain)
    if radius == 0.0:
        return _constant(0.0)
    if dimension == 1:
        return Law("orthogonal", 0.0, radius, 0.0, 0.0, _nothing, ((-radius, 0.5), (radius, 0.5)))
    half = dimension / 2
    scale = math.exp(math.lgamma(half) - math.lgamma(half - 0.5)) / (math.sqrt(math.pi) * radius)

    def density(x: Array) -> Array:
        inside = abs(x) < radius
        t = np.where(inside, x / radius, 0.0)
        return np.where(inside, scale * np.exp((half - 1.5) * np.log1p(-t * t)), 0.0)

    return Law("orthogonal", 0.0, radius / math.sqrt(dimension), -radius, radius, density)


@functools.cache
def _legendre() -> tuple[Array, Array]:
    nodes, weights = np.polynomial.legendre.leggauss(200)
    return nodes, weights
