"""The exact distributions of the elements that initializers make, and the limit of their singular values.

Everything follows from the kind and parameters of a distribution; nothing is sampled. Densities are functions
of this module with their parameters bound, so that distributions can be pickled.
"""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from fastinit._results import Result, plain

from .quadrature import legendre

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from fastinit._typing import Array

# The standard deviation of a standard normal distribution truncated at two standard deviations, as Keras, JAX
# and the core have it.
TRUNCATED_STDDEV = 0.87962566103423978


@dataclass(frozen=True)
class Distribution(Result):
    """A distribution on the real line: a density, and atoms, which are values of positive probability.

    Attributes:
        name: The kind of distribution, such as `"uniform"` or `"truncated_normal"`.
        parameters: Its parameters by name; those of `Initializer.check`.
        mean: The mean.
        std: The standard deviation.
        low: The lower end of the interval where the density is positive; may be `-inf`.
        high: The upper end; may be `inf`. It equals `low` if there is no density.
        atoms: The atoms, as pairs of value and probability, sorted by value.
        density: The density of the continuous part, a function of a float64 array of any shape. Its integral
            and the probabilities of the atoms add up to 1.
        kurtosis: The fourth standardized moment; `None` where it is not computed.

    Example:
        >>> import fastinit
        >>> found = fastinit.RandomUniform(0.0, 4.0).check(10)
        >>> found.mean, round(found.std, 6), found.density(1.0)
        (2.0, 1.154701, array(0.25))
        >>> fastinit.Sparse(0.75).check((100, 10)).atoms
        ((0.0, 0.75),)
    """

    name: str
    mean: float
    std: float
    low: float
    high: float
    density: Callable[[Array], Array] = field(repr=False, compare=False)
    atoms: tuple[tuple[float, float], ...] = ()
    kurtosis: float | None = None
    parameters: Mapping[str, float] = field(default_factory=dict, hash=False)

    @property
    def title(self) -> str:
        """The name in words."""
        return self.name.replace("_", " ")

    def to_dict(self) -> dict[str, Any]:
        """All attributes by name, as values that `json` takes, except for the density."""
        return {name: plain(value) for name, value in vars(self).items() if name != "density"}


def of_parts(parts: Iterable[tuple[int, str, Mapping[str, float]]]) -> Distribution:
    """The distribution of all elements of a tensor that consists of parts.

    Args:
        parts: For each part the number of its elements, the kind of its distribution (a key of `KINDS`) and
            the parameters of that kind, as the compiled `Initializer.check` returns them. At least one part.
    """
    counts: dict[tuple[str, tuple[tuple[str, float], ...]], int] = {}
    for count, kind, parameters in parts:
        key = kind, tuple(parameters.items())
        counts[key] = counts.get(key, 0) + count
    found = [(count, of_kind(*key)) for key, count in counts.items()]
    return found[0][1] if len(found) == 1 else mixture(found)


@functools.lru_cache(maxsize=256)
def of_kind(kind: str, parameters: tuple[tuple[str, float], ...]) -> Distribution:
    """The distribution of a kind, a key of `KINDS`, with these parameters."""
    given = dict(parameters)
    return replace(KINDS[kind](**given), name=kind, parameters=given)


def constant(value: float) -> Distribution:
    """A single value."""
    return Distribution("constant", value, 0.0, value, value, np.zeros_like, ((value, 1.0),))


def uniform(low: float, high: float) -> Distribution:
    """Uniform on `[low, high)`."""
    width = high - low
    density = functools.partial(_uniform_density, low, high)
    return Distribution("uniform", low + width / 2, width / math.sqrt(12), low, high, density, (), 9 / 5)


def _uniform_density(low: float, high: float, x: Array) -> Array:
    return np.where((x >= low) & (x < high), 1 / (high - low), 0.0)


def normal(mean: float, stddev: float) -> Distribution:
    """Normal; a constant if the standard deviation is 0."""
    if stddev == 0.0:
        return constant(mean)
    density = functools.partial(_normal_density, mean, stddev)
    return Distribution("normal", mean, stddev, -math.inf, math.inf, density, (), 3.0)


def _normal_density(mean: float, stddev: float, x: Array) -> Array:
    return np.exp(-(((x - mean) / stddev) ** 2) / 2) / (stddev * math.sqrt(2 * math.pi))


def truncated_normal(mean: float, stddev: float, lower: float, upper: float) -> Distribution:
    """Normal, conditioned on `mean + stddev * [lower, upper]`; a constant if the standard deviation is 0."""
    if stddev == 0.0:
        return constant(mean)
    z_mean, z_std, kurtosis = truncated_moments(lower, upper)
    low, high = mean + stddev * lower, mean + stddev * upper
    density = functools.partial(_truncated_density, mean, stddev, lower, upper)
    return Distribution(
        "truncated_normal", mean + stddev * z_mean, stddev * z_std, low, high, density, (), kurtosis
    )


def _truncated_density(mean: float, stddev: float, lower: float, upper: float, x: Array) -> Array:
    _, _, top, area = _truncated(lower, upper)
    z = (x - mean) / stddev
    inside = (z >= lower) & (z <= upper)
    z = np.where(inside, z, top)
    return np.where(inside, np.exp(-(z - top) * (z + top) / 2) / (area * stddev), 0.0)


def truncated_moments(lower: float, upper: float) -> tuple[float, float, float]:
    """The mean, standard deviation and kurtosis of a standard normal number conditioned on [lower, upper]."""
    z, share, _, _ = _truncated(lower, upper)
    mean = 0.0 if lower == -upper else float(share @ z)
    square, fourth = (float(share @ (z - mean) ** power) for power in (2, 4))
    # An interval may be as narrow as a rounding error; the density in a narrow one is nearly flat.
    return mean, math.sqrt(square), fourth / square**2 if square**2 > 0.0 else 9 / 5


@functools.lru_cache(maxsize=256)
def _truncated(lower: float, upper: float) -> tuple[Array, Array, float, float]:
    """Quadrature nodes within the bounds, their probabilities, `top`, and the integral of the integrand.

    The integrand is `exp(-(z**2 - top**2) / 2)`, which has its maximum, 1, at `top`: it does not underflow,
    however deep in the tail the bounds are.
    """
    top = min(max(lower, 0.0), upper)
    # Beyond this distance from the maximum the density is smaller by exp(-40).
    reach = min(9.0, 80 / max(1.0, abs(top)))
    start = max(lower, top - reach if top <= 0 else top)
    stop = min(upper, top + reach if top >= 0 else top)
    nodes, weights = legendre(200)
    z = (start + stop) / 2 + (stop - start) / 2 * nodes
    share = weights * np.exp(-(z - top) * (z + top) / 2)
    return z, share / share.sum(), top, float(share.sum()) * (stop - start) / 2


def sphere(dimension: float, radius: float) -> Distribution:
    """A coordinate of a uniform random point on a sphere: an element of a random orthogonal matrix.

    References:
        Fang, Kotz and Ng, "Symmetric multivariate and related distributions", 1990.
    """
    radius = abs(radius)
    if radius == 0.0:
        return constant(0.0)
    if dimension == 1:
        atoms = ((-radius, 0.5), (radius, 0.5))
        return Distribution("orthogonal", 0.0, radius, 0.0, 0.0, np.zeros_like, atoms, 1.0)
    std, kurtosis = radius / math.sqrt(dimension), 3 * dimension / (dimension + 2)
    density = functools.partial(_sphere_density, dimension / 2, radius)
    return Distribution("orthogonal", 0.0, std, -radius, radius, density, (), kurtosis)


def _sphere_density(half: float, radius: float, x: Array) -> Array:
    scale = math.exp(math.lgamma(half) - math.lgamma(half - 0.5)) / (math.sqrt(math.pi) * radius)
    inside = abs(x) < radius
    t = np.where(inside, x / radius, 0.0)
    return np.where(inside, scale * np.exp((half - 1.5) * np.log1p(-t * t)), 0.0)


def mixture(parts: Iterable[tuple[float, Distribution]], name: str = "mixture") -> Distribution:
    """A mixture of distributions.

    Args:
        parts: The weight of each distribution, at least 0, and the distribution. If all weights are 0, the
            first distribution has all of the probability.
        name: The name of the mixture.
    """
    parts = list(parts)
    total = sum(weight for weight, _ in parts)
    shares = [(weight / total, part) for weight, part in parts if weight] if total else [(1.0, parts[0][1])]
    mean = sum(share * part.mean for share, part in shares)
    square = sum(share * (part.std**2 + part.mean**2) for share, part in shares)
    variance = max(0.0, square - mean**2)
    kurtosis = None
    # With other means the skewness of the parts would be needed.
    if variance and all(part.std == 0.0 or (part.mean == mean and part.kurtosis) for _, part in shares):
        fourth = sum(
            s * ((part.kurtosis or 0.0) * part.std**4 + (part.mean - mean) ** 4) for s, part in shares
        )
        kurtosis = fourth / variance**2
    mass: dict[float, float] = {}
    for share, part in shares:
        for value, probability in part.atoms:
            mass[value] = mass.get(value, 0.0) + share * probability
    spread = [part for _, part in shares if part.low < part.high] or [shares[0][1]]
    return Distribution(
        name,
        mean,
        math.sqrt(variance),
        min(part.low for part in spread),
        max(part.high for part in spread),
        functools.partial(_mixture_density, tuple((share, part.density) for share, part in shares)),
        tuple(sorted(mass.items())),
        kurtosis,
    )


def _mixture_density(shares: tuple[tuple[float, Callable[[Array], Array]], ...], x: Array) -> Array:
    return sum((share * density(x) for share, density in shares), np.zeros_like(x))


def with_zeros(share: float, distribution: Distribution, name: str = "mixture") -> Distribution:
    """Zero, except for a share of the elements that has another distribution."""
    return mixture([(1.0 - share, constant(0.0)), (share, distribution)], name)


# The kinds of `Initializer.check`, as functions of their parameters.
KINDS: dict[str, Callable[..., Distribution]] = {
    "constant": constant,
    "uniform": uniform,
    "normal": normal,
    "truncated_normal": truncated_normal,
    "orthogonal": lambda gain, rows, columns: sphere(max(1, rows, columns), gain),
    "delta_orthogonal": lambda gain, outputs, taps, **_: with_zeros(
        1 / max(1, taps), sphere(max(1, outputs), gain)
    ),
    "sparse": lambda zeros, rows, stddev: with_zeros(1 - zeros / max(1, rows), normal(0.0, stddev)),
    "identity": lambda gain, rows, columns: with_zeros(1 / max(1, rows, columns), constant(gain)),
    "dirac": lambda ones, size: with_zeros(ones / max(1, size), constant(1.0)),
}


def marchenko_pastur(rows: int, columns: int, std: float, mean: float = 0.0) -> Distribution:
    """The limiting distribution of the singular values of a large matrix of independent elements.

    Args:
        rows: The number of rows; at least 1.
        columns: The number of columns; at least 1.
        std: The standard deviation of the elements; finite and at least 0.
        mean: Their mean; finite. If it is large enough, one singular value is an outlier above the others.

    Example:
        >>> from fastinit.theory.distributions import marchenko_pastur
        >>> found = marchenko_pastur(100, 100, 0.1)  # the quarter-circle distribution
        >>> found.low, found.high
        (0.0, 2.0)

    References:
        Marchenko and Pastur, "Distribution of eigenvalues for some sets of random matrices", Mathematics of
        the USSR-Sbornik 1, 1967. Benaych-Georges and Nadakuditi, "The singular values and vectors of low rank
        perturbations of large rectangular random matrices", Journal of Multivariate Analysis 111, 2012,
        arXiv:1103.2221.
    """
    many, few = max(rows, columns), min(rows, columns)
    low, high = std * (math.sqrt(many) - math.sqrt(few)), std * (math.sqrt(many) + math.sqrt(few))
    theta, noise = abs(mean) * math.sqrt(many * few), std**2
    outlier = 1 / few if theta**4 > noise**2 * many * few else 0.0
    if std == 0.0:
        return with_zeros(outlier, constant(theta), "constant")
    atoms: tuple[tuple[float, float], ...] = ()
    if outlier:
        atoms = ((math.sqrt((theta**2 + noise * many) * (theta**2 + noise * few)) / theta, outlier),)

    density = functools.partial(_singular_density, low, high, (1 - outlier) / (math.pi * few * noise))
    # As a function of the angle the density is smooth at both ends.
    nodes, weights = legendre(200)
    x = (low + high) / 2 + (high - low) / 2 * np.sin(math.pi / 2 * nodes)
    average = float(
        (weights * density(x) * x * np.cos(math.pi / 2 * nodes)).sum() * (high - low) * math.pi / 4
    )
    average += sum(value * share for value, share in atoms)
    square = (1 - outlier) * noise * many + sum(value**2 * share for value, share in atoms)
    return Distribution(
        "Marchenko-Pastur", average, math.sqrt(max(0.0, square - average**2)), low, high, density, atoms
    )


def _singular_density(low: float, high: float, factor: float, s: Array) -> Array:
    inside = (s > low) & (s <= high)
    x = np.where(inside, s, high)
    root = np.sqrt(np.maximum(0.0, (high - x) * (high + x) * (x - low) * (x + low)))
    return np.where(inside, factor * root / x, 0.0)
