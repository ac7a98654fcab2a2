"""What the statistical tests share: p-values, and the distribution of what is stored in each dtype."""

import itertools

import ml_dtypes
import numpy as np
from scipy import special, stats

# A test fails where a p-value is below ALPHA. There are fewer than MOST p-values in a run, so over random
# seeds a correct generator would fail in fewer than one run in a million. (The seeds are fixed: a test passes
# always or never.)
ALPHA = 1e-10
MOST = 10_000

_number = itertools.count(1)


def check(p, what=""):
    """Fails where `p`, the probability of a result as extreme as the one seen, is too small to be chance."""
    assert next(_number) <= MOST, "more p-values than the false-alarm rate allows for"
    assert p >= ALPHA, f"p = {p:.2g} {what}"


def two_sided(distribution, value):
    """The p-value of a value that may be too small or too large."""
    return min(1.0, 2 * min(distribution.cdf(value), distribution.sf(value)))


def check_z(z, what=""):
    """The p-value of the most extreme of one or many standard normal statistics."""
    z = np.abs(z)
    check(min(1.0, 2 * special.ndtr(-z.max()) * z.size), f"{what}, z = {z.max():.2f}")


def check_count(count, expected, what=""):
    """The p-value of a number of rare events, given the number expected."""
    poisson = stats.poisson(expected)
    check(
        min(1.0, 2 * min(poisson.cdf(count), poisson.sf(count - 1))),
        f"{what}: {count} and not {expected:.1f}",
    )


def check_cells(counts, probabilities, what=""):
    """Chi-square of the numbers of elements in cells of these probabilities; small neighbours are joined."""
    counts, expected = np.asarray(counts, float), np.asarray(probabilities) * np.sum(counts)
    assert abs(expected.sum() / counts.sum() - 1) < 1e-6, "the probabilities do not add up to one"
    assert not counts[expected == 0].any(), f"{what}: an element in a cell of probability 0"
    starts = joined(expected, 50)
    counts, expected = np.add.reduceat(counts, starts), np.add.reduceat(expected, starts)
    assert len(starts) > 3
    statistic = ((counts - expected) ** 2 / expected).sum()
    check(
        two_sided(stats.chi2(len(starts) - 1), statistic),
        f"{what}: chi-square {statistic:.0f}, {len(starts)} cells",
    )


def joined(expected, least):
    """The first cells of groups of neighbouring cells, each group expecting at least this many elements."""
    starts, held = [0], 0.0
    for i, number in enumerate(expected):
        if held >= least:
            starts.append(i)
            held = 0.0
        held += number
    if held < least and len(starts) > 1:
        starts.pop()
    return starts


def check_distribution(sample, distribution, what="", cells=4096):
    """Elements of a continuous distribution, rounded to their dtype: Kolmogorov-Smirnov, and chi-square of
    their numbers in this many cells of nearly equal probability."""
    sample = np.sort(sample.ravel())
    if sample.dtype == np.float64:
        edges = distribution.ppf(np.arange(1, cells) / cells)
    else:
        # Halfway between two numbers of the dtype, so that no element is rounded across an edge.
        edges = distribution.ppf(np.arange(1, cells) / cells).astype(sample.dtype)
        above = np.nextafter(edges, np.array(np.inf, sample.dtype))
        edges = np.unique((edges.astype(np.float64) + above.astype(np.float64)) / 2)
    places = np.searchsorted(sample, edges)
    edges = np.concatenate([[-np.inf], edges, [np.inf]])
    check_cells(np.diff(places, prepend=0, append=sample.size), probability(distribution, edges), what)
    distance = np.abs(places / sample.size - distribution.cdf(edges[1:-1])).max()
    check(stats.kstwo(sample.size).sf(distance), f"{what}: Kolmogorov-Smirnov {distance:.2g}")


def check_moments(sample, distribution, what=""):
    """The means of the first four powers of the standardized elements, nearly normal in a large sample."""
    mean, stddev = distribution.mean(), distribution.std()
    z = (sample.astype(np.float64).ravel() - mean) / stddev
    powers = (distribution.expect(lambda x, k=k: ((x - mean) / stddev) ** k) for k in range(3, 9))
    moments = np.array([1.0, 0.0, 1.0, *powers])
    power = np.ones_like(z)
    for k in range(1, 5):
        power *= z
        error = np.sqrt((moments[2 * k] - moments[k] ** 2) / z.size)
        check_z((power.mean() - moments[k]) / error, f"{what}: moment {k}")


def probability(distribution, edges):
    """The probabilities between neighbouring edges, precise in both tails."""
    below, above = distribution.cdf(edges), distribution.sf(edges)
    return np.where(edges[1:] <= distribution.median(), np.diff(below), -np.diff(above))


def finite(dtype):
    """All finite numbers of a half dtype, in order, as float64; one zero."""
    with np.errstate(invalid="ignore"):
        numbers = np.arange(2**16, dtype=np.uint16).view(dtype).astype(np.float64)
    return np.unique(numbers[np.isfinite(numbers)])


def check_half(sample, distribution, what="", never=None, step=0.0):
    """Elements of a half dtype: each number has the probability of what is rounded to it.

    `never` has probability 0: what would be rounded to it becomes the number below. `step` is the probability
    of one float32 number, by which the cells at the ends may differ.
    """
    numbers = finite(sample.dtype)
    edges = np.concatenate([[-np.inf], (numbers[1:] + numbers[:-1]) / 2, [np.inf]])
    probabilities = probability(distribution, edges)
    if never is not None:
        place = np.searchsorted(numbers, never)
        probabilities[place - 1] += probabilities[place]
        probabilities[place] = 0.0
    # Adding zero makes the negative zero a positive one.
    places = np.searchsorted(numbers, sample.astype(np.float64).ravel() + 0.0)
    counts = np.bincount(places, minlength=len(numbers))
    check_cells(counts, probabilities, what)
    # The cells at both ends by themselves: that is where elements could pile up.
    for end in np.flatnonzero(probabilities > 0)[[0, -1]]:
        ideal = probabilities[end]
        nearest = np.clip(counts[end] / sample.size, max(ideal - step, 0.0), ideal + step)
        check_count(counts[end], nearest * sample.size, f"{what}: number {numbers[end]}")


def round_to(x, dtype):
    """A number rounded to a dtype, by way of float32 for the halves, as float64."""
    if dtype == "float64":
        return np.float64(x)
    half = {"float32": np.float32, "float16": np.float16, "bfloat16": ml_dtypes.bfloat16}[dtype]
    return np.float64(np.float32(x).astype(half))
