"""What the statistical tests share: p-values, and the laws of what is stored in each dtype."""

import itertools

import ml_dtypes
import numpy as np
from scipy import special, stats

# A test fails where a p-value is below ALPHA. There are fewer than MOST p-values in a run, so over random
# seeds the tests would fail a right generator less often than once in a million runs. (The seeds are fixed: a
# test passes always or never.)
ALPHA = 1e-10
MOST = 10_000

_number = itertools.count(1)


def check(p, what=""):
    """Fails where `p`, the probability of a result as extreme as what was seen, is too small to be chance."""
    assert next(_number) <= MOST, "more p-values than the false-alarm rate allows for"
    assert p >= ALPHA, f"p = {p:.2g} {what}"


def two_sided(law, value):
    """The p-value of a value that may be too small or too large."""
    return min(1.0, 2 * min(law.cdf(value), law.sf(value)))


def check_z(z, what=""):
    """Of standard normal statistics, one or many: the p-value of the one that is furthest out."""
    z = np.abs(z)
    check(min(1.0, 2 * special.ndtr(-z.max()) * z.size), f"{what}, z = {z.max():.2f}")


def check_count(count, expected, what=""):
    """Of a number of rare events, of which so many are expected."""
    law = stats.poisson(expected)
    check(min(1.0, 2 * min(law.cdf(count), law.sf(count - 1))), f"{what}: {count} and not {expected:.1f}")


def check_cells(counts, probabilities, what=""):
    """Of the numbers of elements in cells with these probabilities: chi-square, the smallest joined."""
    counts, expected = np.asarray(counts, float), np.asarray(probabilities) * np.sum(counts)
    assert abs(expected.sum() / counts.sum() - 1) < 1e-6, "the probabilities do not add up to one"
    assert not counts[expected == 0].any(), f"{what}: an element in a cell where none can be"
    starts = joined(expected, 50)
    counts, expected = np.add.reduceat(counts, starts), np.add.reduceat(expected, starts)
    assert len(starts) > 3
    statistic = ((counts - expected) ** 2 / expected).sum()
    check(
        two_sided(stats.chi2(len(starts) - 1), statistic),
        f"{what}: chi-square {statistic:.0f}, {len(starts)} cells",
    )


def joined(expected, least):
    """Where the groups of neighbouring cells begin, each of which expects at least so many elements."""
    starts, held = [0], 0.0
    for i, number in enumerate(expected):
        if held >= least:
            starts.append(i)
            held = 0.0
        held += number
    if held < least and len(starts) > 1:
        starts.pop()
    return starts


def check_law(sample, law, what="", cells=4096):
    """Of elements of a continuous law, rounded to their dtype: the shape by Kolmogorov and Smirnov, and the
    numbers in as many cells of nearly equal probability by chi-square."""
    sample = np.sort(sample.ravel())
    if sample.dtype == np.float64:
        edges = law.ppf(np.arange(1, cells) / cells)
    else:
        # Half-way between two numbers of the dtype, so that nothing is rounded across an edge.
        edges = law.ppf(np.arange(1, cells) / cells).astype(sample.dtype)
        above = np.nextafter(edges, np.array(np.inf, sample.dtype))
        edges = np.unique((edges.astype(np.float64) + above.astype(np.float64)) / 2)
    places = np.searchsorted(sample, edges)
    edges = np.concatenate([[-np.inf], edges, [np.inf]])
    check_cells(np.diff(places, prepend=0, append=sample.size), probability(law, edges), what)
    distance = np.abs(places / sample.size - law.cdf(edges[1:-1])).max()
    check(stats.kstwo(sample.size).sf(distance), f"{what}: Kolmogorov-Smirnov {distance:.2g}")


def check_moments(sample, law, what=""):
    """Of the means of the first four powers of the standardized elements, nearly normal in a large sample."""
    mean, stddev = law.mean(), law.std()
    z = (sample.astype(np.float64).ravel() - mean) / stddev
    of_law = np.array(
        [1.0, 0.0, 1.0, *(law.expect(lambda x, k=k: ((x - mean) / stddev) ** k) for k in range(3, 9))]
    )
    power = np.ones_like(z)
    for k in range(1, 5):
        power *= z
        error = np.sqrt((of_law[2 * k] - of_law[k] ** 2) / z.size)
        check_z((power.mean() - of_law[k]) / error, f"{what}: moment {k}")


def probability(law, edges):
    """The probabilities between neighbouring edges, precise in both tails."""
    below, above = law.cdf(edges), law.sf(edges)
    return np.where(edges[1:] <= law.median(), np.diff(below), -np.diff(above))


def finite(dtype):
    """All finite numbers of a half dtype, in order, as float64; one zero."""
    with np.errstate(invalid="ignore"):
        numbers = np.arange(2**16, dtype=np.uint16).view(dtype).astype(np.float64)
    return np.unique(numbers[np.isfinite(numbers)])


def check_half_law(sample, law, what="", never=None, step=0.0):
    """Of elements of a half dtype: each number has the probability of what is rounded to it.

    But `never` has none, for what would be rounded to it becomes the number below. `step` is the
    probability of one number of the float32 law, which the cells at the ends may have more or less.
    """
    numbers = finite(sample.dtype)
    edges = np.concatenate([[-np.inf], (numbers[1:] + numbers[:-1]) / 2, [np.inf]])
    probabilities = probability(law, edges)
    if never is not None:
        place = np.searchsorted(numbers, never)
        probabilities[place - 1] += probabilities[place]
        probabilities[place] = 0.0
    # Adding zero makes the negative zero a positive one.
    places = np.searchsorted(numbers, sample.astype(np.float64).ravel() + 0.0)
    counts = np.bincount(places, minlength=len(numbers))
    check_cells(counts, probabilities, what)
    # The cells at both ends by themselves, for there elements could pile up.
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
