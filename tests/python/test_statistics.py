"""Elements follow their distributions, as scipy has them, and are independent; at fixed seeds.

Every test turns what it sees into p-values and fails where one is below 1e-10. There are fewer than 10^4 of
them (which is checked), so over random seeds a correct generator would fail in fewer than one run in a
million.
"""

import itertools

import numpy as np
import pytest
from distributions import (
    check,
    check_cells,
    check_count,
    check_distribution,
    check_half,
    check_moments,
    check_z,
    probability,
    round_to,
    two_sided,
)
from numpy.testing import assert_array_equal
from scipy import special, stats

import fastinit

INF = float("inf")
SINGLE_AND_DOUBLE = ["float32", "float64"]
HALVES = ["float16", "bfloat16"]
DTYPES = SINGLE_AND_DOUBLE + HALVES

# Elements in a sample, where nothing else is said.
N = 2**22

UNIFORM_BOUNDS = [(0.0, 1.0), (-0.05, 0.05), (1.0, 1.5), (-1.0, 0.0), (-3.0, -1.0), (-1e-3, 2.0)]

TRUNCATED_BOUNDS = [
    (-2.0, 2.0),
    (-3.0, 3.0),
    (-INF, INF),
    (0.0, INF),
    (-INF, 0.5),
    (5.0, 6.0),
    (-0.01, 0.01),
    (8.0, INF),
    (-1.0, 2.0),
    (1.0, INF),
    (-1.0, 3.0),
    (-3.0, 0.5),
    (40.0, 41.0),
]


# The distributions


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("low", "high"), UNIFORM_BOUNDS)
def test_uniform(low, high, dtype):
    array = fastinit.random_uniform(N, low, high, seed=1, dtype=dtype)
    expected = stats.uniform(low, high - low)
    assert (array >= round_to(low, dtype)).all()
    assert (array < round_to(high, dtype)).all()
    if dtype in HALVES:
        check_half(array, expected, never=round_to(high, dtype), step=2.0**-24)
    else:
        check_distribution(array, expected)
        check_moments(array, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("mean", "stddev"), [(0.0, 1.0), (0.0, 0.02), (-1.5, 0.3)])
def test_normal(mean, stddev, dtype):
    array = fastinit.random_normal(N, mean, stddev, seed=2, dtype=dtype)
    expected = stats.norm(mean, stddev)
    if dtype in HALVES:
        check_half(array, expected)
    else:
        check_distribution(array, expected)
        check_moments(array, expected)


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(("lower", "upper"), TRUNCATED_BOUNDS)
@pytest.mark.parametrize(("mean", "stddev"), [(0.0, 1.0), (0.5, 0.02)])
def test_truncated_normal(mean, stddev, lower, upper, dtype):
    n = 2**20
    low, high = mean + stddev * lower, mean + stddev * upper
    if round_to(low, dtype) == round_to(high, dtype):
        with pytest.raises(ValueError, match=f"two numbers of {dtype}"):
            fastinit.truncated_normal(n, mean, stddev, lower, upper, dtype=dtype)
        return
    array = fastinit.truncated_normal(n, mean, stddev, lower, upper, seed=3, dtype=dtype)
    expected = Truncated(mean, stddev, lower, upper)
    double = array.astype(np.float64)
    if dtype in HALVES:
        assert (double >= round_to(low, dtype)).all()
        assert (double <= round_to(high, dtype)).all()
        if len(np.unique(double)) > 4:
            check_half(array, expected)
        return
    assert (double >= low).all()
    assert (double <= high).all()
    # Away from zero few numbers lie between the bounds, and their second rounding shows.
    check_distribution(array, expected, cells=1024 if mean == 0 or dtype == "float64" else 32)
    # Nothing gathers on a bound: it gets what lies nearer to it than to the next number.
    for bound, inside in [(low, INF), (high, -INF)]:
        if np.isfinite(bound) and bound == round_to(bound, dtype):
            neighbour = float(np.nextafter(array.dtype.type(bound), array.dtype.type(inside)))
            share = probability(expected, np.sort([bound, (bound + neighbour) / 2]))[0]
            check_count((double == bound).sum(), share * n, f"on the bound {bound}")


class Truncated:
    """The truncated normal by scipy's logarithms of areas; `stats.truncnorm` takes minutes."""

    def __init__(self, mean, stddev, lower, upper):
        self.mean, self.stddev, self.bounds = mean, stddev, (lower, upper)

    def _part(self, x, *, above):
        """The part of the area between the bounds that lies below or above."""
        z = np.clip((np.asarray(x, np.float64) - self.mean) / self.stddev, *self.bounds)
        lower, upper = self.bounds
        if above:
            lower, upper, z = -upper, -lower, -z
        if lower > 0:
            # Both areas are taken from above, in units of the largest.
            whole = special.log_ndtr(-lower)
            return np.expm1(special.log_ndtr(-z) - whole) / np.expm1(special.log_ndtr(-upper) - whole)
        whole = special.log_ndtr(upper)
        return (np.exp(special.log_ndtr(z) - whole) - np.exp(special.log_ndtr(lower) - whole)) / -np.expm1(
            special.log_ndtr(lower) - whole
        )

    def cdf(self, x):
        return self._part(x, above=False)

    def sf(self, x):
        return self._part(x, above=True)

    def ppf(self, part):
        return stats.truncnorm(*self.bounds, self.mean, self.stddev).ppf(part)

    def median(self):
        return self.ppf(0.5)


@pytest.mark.parametrize(("lower", "upper"), TRUNCATED_BOUNDS)
def test_the_truncated_reference_is_that_of_scipy(lower, upper):
    ours, scipys = Truncated(0.5, 0.02, lower, upper), stats.truncnorm(lower, upper, 0.5, 0.02)
    x = scipys.ppf(np.linspace(0.001, 0.999, 50))
    np.testing.assert_allclose(ours.cdf(x), scipys.cdf(x), rtol=1e-9)
    np.testing.assert_allclose(ours.sf(x), scipys.sf(x), rtol=1e-9)


def tails(array, distribution, thresholds):
    """The numbers of elements beyond each threshold on either side, against those expected."""
    for t in thresholds:
        check_count(int((array > t).sum()), distribution.sf(t) * array.size, f"above {t}")
        check_count(int((array < -t).sum()), distribution.sf(t) * array.size, f"below -{t}")


@pytest.mark.parametrize(("dtype", "n"), [("float32", 2**26), ("float64", 2**25), ("bfloat16", 2**26)])
def test_tails_of_the_normal(dtype, n):
    array = fastinit.random_normal(n, 0.0, 1.0, seed=4, dtype=dtype)
    # Between two numbers of each dtype, so that no element is rounded across.
    thresholds = np.array([2.0, 3.0, 3.5, 4.0, 4.5, 5.0])
    if dtype == "bfloat16":
        thresholds += np.array([2.0, 2.0, 2.0, 4.0, 4.0, 4.0]) * 2**-8
        array = array.astype(np.float32)
    tails(array, stats.norm, thresholds)


def test_tails_of_the_truncated_normal():
    array = fastinit.truncated_normal(2**25, 0.0, 1.0, -INF, INF, seed=4)
    tails(array, stats.norm, [2.0, 3.0, 4.0, 5.0])


def test_the_lowest_bits_of_doubles_are_random():
    # Of standard elements: scaling would change the lowest bit.
    for array in (
        fastinit.random_normal(N, 0.0, 1.0, seed=5, dtype="float64"),
        fastinit.random_uniform(N, -1.0, 1.0, seed=5, dtype="float64"),
        fastinit.truncated_normal(N, 0.0, 1.0, seed=5, dtype="float64"),
    ):
        lowest = array.view(np.uint64) >> np.uint64(2) & np.uint64(0xFF)
        check_cells(np.bincount(lowest.astype(np.intp), minlength=256), np.full(256, 1 / 256))


# The halves are the singles, rounded


@pytest.mark.parametrize("dtype", HALVES)
def test_halves_are_rounded_singles(dtype):
    n = 2**20
    for draw in (
        lambda dtype: fastinit.random_normal(n, 0.1, 0.3, seed=6, dtype=dtype),
        lambda dtype: fastinit.random_normal(n, 0.0, 1e-6, seed=6, dtype=dtype),
        lambda dtype: fastinit.random_normal(n, 0.0, 9e3, seed=6, dtype=dtype),  # nearly up to the largest
        lambda dtype: fastinit.truncated_normal(n, 0.1, 0.3, seed=6, dtype=dtype),
        lambda dtype: fastinit.truncated_normal(n, 0.0, 0.3, -INF, INF, seed=6, dtype=dtype),
        lambda dtype: fastinit.truncated_normal(n, 0.0, 0.3, 5.0, INF, seed=6, dtype=dtype),
        lambda dtype: fastinit.sparse((1024, 1024), 0.3, seed=6, dtype=dtype),
        lambda dtype: fastinit.he_normal((1024, 1024), seed=6, dtype=dtype),
    ):
        expected = draw("float32").astype(dtype)
        assert_array_equal(draw(dtype).view(np.uint16), expected.view(np.uint16))


@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize(("low", "high"), UNIFORM_BOUNDS)
def test_halves_of_a_uniform_are_too_but_for_the_upper_bound(low, high, dtype):
    single = fastinit.random_uniform(N, low, high, seed=6)
    half = fastinit.random_uniform(N, low, high, seed=6, dtype=dtype)
    bound = np.float32(high).astype(dtype)
    rounded = single.astype(dtype)
    up = rounded == bound
    assert up.any() or high == 0, "no element was rounded to the bound: the test sees nothing"
    below = np.nextafter(bound, np.array(low, bound.dtype))
    assert_array_equal(half[up], np.full(up.sum(), below))
    assert_array_equal(half[~up].view(np.uint16), rounded[~up].view(np.uint16))


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_uniform_never_returns_its_upper_bound(dtype):
    # Few numbers between the bounds, so that what is rounded up would be seen.
    eps = {"float32": 2**-23, "float64": 2**-52, "float16": 2**-10, "bfloat16": 2**-7}[dtype]
    for low, high in [
        (1.0, 1 + eps),
        (1.0, 1 + 3 * eps),
        (-1 - eps, -1.0),
        (-eps, eps),
        (1 - eps, 1.0),
        (-1.0, 0.0),
    ]:
        array = fastinit.random_uniform(2**18, low, high, seed=7, dtype=dtype).astype(np.float64)
        assert low <= array.min(), (low, high)
        assert array.max() < high, (low, high)
    # Every number between two close bounds comes, the lower bound included.
    array = fastinit.random_uniform(2**18, 1.0, 1 + 4 * eps, seed=7, dtype=dtype).astype(np.float64)
    assert np.unique(array).tolist() == [1.0, 1 + eps, 1 + 2 * eps, 1 + 3 * eps]


# Independence

# Standardized elements, as the tests of independence look at them.
SOURCES = {
    "normal": lambda n, **key: fastinit.random_normal(n, 0.0, 1.0, **key, dtype="float64"),
    "normal float32": lambda n, **key: fastinit.random_normal(n, 0.0, 1.0, **key),
    "uniform": lambda n, **key: fastinit.random_uniform(n, -(3**0.5), 3**0.5, **key),
    "truncated": lambda n, **key: fastinit.truncated_normal(n, 0.0, 1.0, -INF, INF, **key),
    "words": lambda n, **key: fastinit.random_bits(n, **key).view(np.int32) * (3**0.5 / 2**31),
}


@pytest.fixture(params=SOURCES.values(), ids=SOURCES)
def source(request):
    return request.param


def test_neighbours_are_independent(source):
    x = source(N, seed=8).astype(np.float64)
    fourth = (x**4).mean()
    # The elements, their squares (which Box and Muller's pairs share a radius of), and their signs.
    for name, y in [("values", x), ("squares", (x**2 - 1) / np.sqrt(fourth - 1)), ("signs", np.sign(x))]:
        for lag in [*range(1, 9), 16, 32, 64, 4096]:
            # As elements that are so far apart anywhere, and by their place in a block.
            product = y[:-lag] * y[lag:]
            check_z(product.mean() * np.sqrt(product.size), f"{name}, lag {lag}")
            for place in range(4):
                some = product[place::4]
                check_z(some.mean() * np.sqrt(some.size), f"{name}, lag {lag}, place {place}")


def test_pairs_fill_the_square(source):
    # Chi-square of pairs in 64 x 64 cells of equal probability; (0, 1) are a pair of Box and Muller's.
    x = source(N, seed=9).astype(np.float64).reshape(-1, 8)
    uniform = source in (SOURCES["uniform"], SOURCES["words"])
    parts = (x / 12**0.5 + 0.5) if uniform else special.ndtr(x)
    cells = np.minimum((parts * 64).astype(np.int64), 63)
    for i, j in [(0, 1), (1, 2), (0, 2), (0, 3), (0, 4), (3, 4), (0, 7)]:
        counts = np.bincount(cells[:, i] * 64 + cells[:, j], minlength=4096)
        check_cells(counts, np.full(4096, 1 / 4096), f"places {i} and {j}")


def test_triples_fill_the_cube(source):
    x = source(3 * N // 4, seed=10).astype(np.float64)
    uniform = source in (SOURCES["uniform"], SOURCES["words"])
    parts = (x / 12**0.5 + 0.5) if uniform else special.ndtr(x)
    cells = np.minimum((parts * 16).astype(np.int64), 15).reshape(-1, 3)
    counts = np.bincount(cells @ [256, 16, 1], minlength=4096)
    check_cells(counts, np.full(4096, 1 / 4096))


@pytest.mark.parametrize("dtype", SINGLE_AND_DOUBLE)
def test_pairs_of_normals_have_every_angle_and_their_radius(dtype):
    x, y = fastinit.random_normal((N, 2), 0.0, 1.0, seed=11, dtype=dtype).astype(np.float64).T
    turns = np.arctan2(y, x) / (2 * np.pi) + 0.5
    check_cells(np.bincount((turns * 4096).astype(np.int64) % 4096, minlength=4096), np.full(4096, 1 / 4096))
    check_distribution(x**2 + y**2, stats.chi2(2), "radius")
    # The angle says nothing about the radius.
    cells = (turns * 64).astype(np.int64) % 64 * 64 + np.minimum(
        (stats.chi2(2).cdf(x**2 + y**2) * 64).astype(int), 63
    )
    check_cells(np.bincount(cells, minlength=4096), np.full(4096, 1 / 4096), "angle and radius")


KEYS = {
    "seeds in a row": [{"seed": i} for i in range(64)],
    "seeds of one bit": [{"seed": 1 << i} for i in range(64)],
    "streams in a row": [{"seed": 1, "stream": i} for i in range(64)],
    "streams of one bit": [{"seed": 1, "stream": 1 << i} for i in range(64)],
    "names": [{"seed": 1, "stream": f"layers.{i}.weight"} for i in range(64)],
    "seeds and streams": [{"seed": i, "stream": 63 - i} for i in range(64)],
}


@pytest.mark.parametrize("keys", KEYS.values(), ids=KEYS)
def test_keys_are_independent(source, keys):
    n = 2**13
    x = np.array([source(n, **key) for key in keys], np.float64)
    for name, y in [("values", x), ("squares", (x**2 - 1) / np.sqrt((x**4).mean() - 1))]:
        for shift in (0, 1, 2, 3, 4):
            z = np.einsum("ik,jk->ij", y[:, : n - shift], y[:, shift:]) / np.sqrt(n - shift)
            z = z[np.triu_indices(len(keys), 1)]
            # Each correlation by itself, and all of them together.
            check_z(z, f"{name}, shift {shift}")
            check(two_sided(stats.chi2(z.size), (z**2).sum()), f"{name}, shift {shift}: sum of squares")
    # The same element of all tensors takes different values.
    assert len(np.unique(x[:, :4].round(12))) == 4 * len(keys)


def test_keys_share_no_block_heads():
    # Of 2^21 blocks of 64 streams and 64 seeds no two begin with the same 64 bits, except with
    # probability 1e-7.
    heads = [
        fastinit.random_bits(1024, seed=seed, stream=stream, dtype="uint64")[::2]
        for seed, stream in itertools.product(range(64), range(64))
    ]
    assert len(np.unique(np.concatenate(heads))) == 64 * 64 * 512


# The initializers


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"])
@pytest.mark.parametrize("distribution", ["truncated_normal", "untruncated_normal", "uniform"])
@pytest.mark.parametrize("dtype", DTYPES)
def test_variance_scaling_has_its_variance(mode, distribution, dtype):
    shape, fan_in, fan_out, scale = (3, 3, 64, 512), 9 * 64, 9 * 512, 2.5
    fans = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}
    variance = scale / fans.get(mode, (fan_in * fan_out) ** 0.5)
    array = fastinit.variance_scaling(shape, scale, mode, distribution, seed=12, dtype=dtype)
    z = array.astype(np.float64).ravel() / variance**0.5
    check_z(z.mean() * np.sqrt(z.size), "mean")
    standard = {
        "truncated_normal": stats.truncnorm(-2, 2, 0, 1 / 0.8796256610342398),
        "untruncated_normal": stats.norm,
        "uniform": stats.uniform(-(3**0.5), 2 * 3**0.5),
    }[distribution]
    assert standard.var() == pytest.approx(1, rel=1e-12)
    fourth = standard.expect(lambda x: x**4)
    # Rounding to a half dtype adds variance: the square of the unit over 12, less than 1e-5 of the total.
    excess = (z**2).mean() - 1
    check_z(excess / np.sqrt((fourth - 1) / z.size + 1e-10), "variance")


@pytest.mark.parametrize(
    ("name", "variance"),
    [
        ("glorot_uniform", 2 / (300 + 500)),
        ("glorot_normal", 2 / (300 + 500)),
        ("he_uniform", 2 / 300),
        ("he_normal", 2 / 300),
        ("lecun_uniform", 1 / 300),
        ("lecun_normal", 1 / 300),
    ],
)
def test_presets_have_their_distribution(name, variance):
    array = getattr(fastinit, name)((300, 500), seed=13)
    if name.endswith("uniform"):
        limit = (3 * variance) ** 0.5
        check_distribution(array, stats.uniform(-limit, 2 * limit), cells=512)
    else:
        check_distribution(array, stats.truncnorm(-2, 2, 0, variance**0.5 / 0.8796256610342398), cells=512)


@pytest.mark.parametrize(("rows", "sparsity"), [(40, 0.1), (40, 0.5), (1000, 0.9), (7, 0.3)])
def test_zeros_of_sparse_matrices_are_equally_likely_anywhere(rows, sparsity):
    columns = 2**20 // rows
    zero = fastinit.sparse((rows, columns), sparsity, seed=14) == 0
    k = int(np.ceil(sparsity * rows))
    assert_array_equal(zero.sum(axis=0), np.full(columns, k))
    # Of each column k of the rows: their counts vary less than independent ones, by (rows - 1) / rows.
    share = k / rows
    statistic = ((zero.sum(axis=1) - columns * share) ** 2).sum() / (columns * share * (1 - share))
    check(two_sided(stats.chi2(rows - 1), statistic * (rows - 1) / rows), "rows")
    # A row says nothing about the next column, and little about the next row.
    z = (zero - share) / np.sqrt(share * (1 - share))
    for lag in (1, 2, 3, 4, 256):
        check_z((z[:, :-lag] * z[:, lag:]).mean() * np.sqrt(z[:, lag:].size), f"columns, lag {lag}")
    for lag in (1, 2, 3):
        products = (z[:-lag] * z[lag:]).mean(axis=0)
        check_z((products.mean() + 1 / (rows - 1)) / products.std() * np.sqrt(columns), f"rows, lag {lag}")


def test_all_choices_of_zeros_are_equally_likely():
    # 2 zeros in 6 rows: 15 choices.
    zero = fastinit.sparse((6, 150_000), 1 / 3, seed=15) == 0
    counts = np.bincount(2 ** np.arange(6) @ zero, minlength=64)
    choices = [2**i + 2**j for i, j in itertools.combinations(range(6), 2)]
    assert counts.sum() == counts[choices].sum()
    check_cells(counts[choices], np.full(15, 1 / 15))


@pytest.mark.parametrize("dtype", SINGLE_AND_DOUBLE)
def test_the_rest_of_sparse_matrices_is_normal(dtype):
    matrix = fastinit.sparse((1000, 1000), 0.5, 0.25, seed=16, dtype=dtype)
    values = matrix[matrix != 0]
    check_distribution(values, stats.norm(0, 0.25), cells=1024)
    # Which elements are zero says nothing about what the others are, and they are those of the normal matrix.
    normal = fastinit.random_normal((1000, 1000), 0.0, 0.25, seed=16, dtype=dtype)
    assert_array_equal(values, normal[matrix != 0])
    check_distribution(normal[matrix == 0], stats.norm(0, 0.25), cells=1024)
