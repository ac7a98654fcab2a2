"""Orthogonal matrices: orthonormal, Haar distributed, the same bits in any part, layout, block and thread.

A statistical test fails where a p-value is below 1e-10. There are fewer than 10^4 of them in a run (which is
checked), so over random seeds a correct generator would fail in fewer than one run in a million.
"""

import hashlib
import itertools
import math
import os
import random
import sys

import numpy as np
import pytest
from conftest import bits, interrupt
from distributions import check, check_distribution, check_z
from numpy.testing import assert_array_equal
from scipy import stats
from test_memory import MIB, PROGRAM

import fastinit

SINGLE_AND_DOUBLE = ["float32", "float64"]
HALVES = ["float16", "bfloat16"]
DTYPES = SINGLE_AND_DOUBLE + HALVES

# The largest error allowed in the product of two columns.
TOLERANCE = {"float32": 2e-6, "float64": 1e-14}

# Panels are 64 columns wide.
MATRICES = [
    *((1, 1), (2, 1), (1, 2), (1, 7), (9, 1), (3, 3), (16, 5), (5, 16)),
    *((63, 63), (64, 64), (65, 65), (63, 130), (130, 63), (64, 128), (128, 64), (129, 66), (66, 129)),
    *((127, 127), (128, 128), (129, 129), (1000, 3), (3, 1000), (300, 200), (200, 300)),
]

TENSORS = [(2, 3, 4), (5, 1, 13), (3, 3, 16, 8), (8, 3, 3, 40), (70, 1, 70), (2, 65, 70), (1, 2, 3, 4, 5)]


def as_matrix(tensor, column_axis=-1):
    """A matrix with its columns along one axis and its rows along all others."""
    tensor = np.moveaxis(np.asarray(tensor, np.float64), column_axis, -1)
    return tensor.reshape(-1, tensor.shape[-1])


def error(matrix):
    """How far the rows or the columns, whichever are fewer, are from being orthonormal."""
    matrix = matrix if matrix.shape[0] >= matrix.shape[1] else matrix.T
    return np.abs(matrix.T @ matrix - np.eye(matrix.shape[1])).max()


def stack(count, rows, columns=None, **arguments):
    """A stack of matrices, each a block."""
    shape = (count, rows, columns or rows)
    return fastinit.orthogonal(shape, blocks=count, block_axis=0, **arguments)


# Orthonormal


@pytest.mark.parametrize("shape", MATRICES, ids=str)
@pytest.mark.parametrize("dtype", SINGLE_AND_DOUBLE)
def test_rows_or_columns_are_orthonormal_whichever_are_fewer(shape, dtype):
    for stream in range(3):
        matrix = fastinit.orthogonal(shape, seed=1, stream=stream, dtype=dtype)
        assert matrix.shape == shape
        assert error(as_matrix(matrix)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("shape", TENSORS, ids=str)
@pytest.mark.parametrize("dtype", SINGLE_AND_DOUBLE)
def test_columns_along_any_axis(shape, dtype):
    for axis in range(len(shape)):
        tensor = fastinit.orthogonal(shape, column_axis=axis, seed=1, dtype=dtype)
        assert error(as_matrix(tensor, axis)) <= TOLERANCE[dtype]
        from_the_end = fastinit.orthogonal(shape, column_axis=axis - len(shape), seed=1, dtype=dtype)
        assert_array_equal(from_the_end, tensor)
        # The matrix does not depend on where its columns are, nor on how its rows are folded.
        columns = shape[axis]
        matrix = fastinit.orthogonal((math.prod(shape) // columns, columns), seed=1, dtype=dtype)
        assert_array_equal(as_matrix(tensor, axis), matrix)


@pytest.mark.parametrize("shape", [(7, 4), (70, 66), (40, 130)])
def test_a_wide_matrix_is_the_tall_one_transposed(shape):
    tall = fastinit.orthogonal(shape, seed=1)
    assert_array_equal(fastinit.orthogonal(shape[::-1], seed=1), tall.T)


@pytest.mark.parametrize(("n", "dtype"), [(1024, "float32"), (1024, "float64"), (4096, "float32")])
def test_large_matrices_are_orthonormal(n, dtype):
    matrix = fastinit.orthogonal((n, n), seed=2, dtype=dtype)
    assert error(as_matrix(matrix)) <= TOLERANCE[dtype]


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (70, 66), (66, 130), (3, 4, 40)])
@pytest.mark.parametrize("gain", [1.0, 0.1, -1.7])
@pytest.mark.parametrize("dtype", HALVES)
def test_halves_are_rounded_singles(shape, gain, dtype):
    single = fastinit.orthogonal(shape, gain, seed=3).astype(dtype)
    assert_array_equal(bits(fastinit.orthogonal(shape, gain, seed=3, dtype=dtype)), bits(single))


@pytest.mark.parametrize("gain", [1.0, 2.0, -0.5, 2**0.5, -3.7, 1e-30, 1e30])
@pytest.mark.parametrize("dtype", SINGLE_AND_DOUBLE)
def test_gain_is_a_factor(gain, dtype):
    for shape in [(5, 3), (66, 70)]:
        plain = fastinit.orthogonal(shape, seed=4, dtype=dtype)
        matrix = fastinit.orthogonal(shape, gain, seed=4, dtype=dtype)
        # Rounded once.
        assert_array_equal(matrix, plain * plain.dtype.type(gain))
        assert error(as_matrix(matrix) / gain) <= TOLERANCE[dtype]


@pytest.mark.parametrize("dtype", DTYPES)
def test_a_gain_of_zero_gives_zeros(dtype):
    matrix = fastinit.orthogonal((5, 3), 0.0, seed=4, dtype=dtype)
    assert (matrix.astype(np.float64) == 0).all()


@pytest.mark.parametrize("shape", [(0, 3), (3, 0), (0, 0), (2, 0, 3), (0, 2**40)])
def test_an_empty_matrix_is_one(shape):
    assert fastinit.orthogonal(shape, seed=0).shape == shape
    assert fastinit.orthogonal(shape, column_axis=0, blocks=1, block_axis=1, seed=0).shape == shape


# The Haar measure: matrices in stacks, each of a stream of its own


def element_of_haar(longer):
    """Of an element of a Haar matrix, a coordinate on the sphere: its square is of Beta(1/2, (n - 1) / 2)."""
    half = (longer - 1) / 2
    return stats.beta(half, half, -1, 2)


@pytest.mark.parametrize("n", [2, 3, 4, 7])
@pytest.mark.parametrize("dtype", SINGLE_AND_DOUBLE)
def test_every_element_is_a_coordinate_on_the_sphere(n, dtype):
    q = stack(30_000, n, seed=5, dtype=dtype).astype(np.float64)
    squared = stats.beta(0.5, (n - 1) / 2)
    for i, j in itertools.product(range(n), repeat=2):
        check_distribution(q[:, i, j], element_of_haar(n), f"element {i}, {j}", cells=128)
        check(stats.kstest(q[:, i, j] ** 2, squared.cdf).pvalue, f"element {i}, {j}, squared")


@pytest.mark.parametrize(("rows", "columns"), [(5, 2), (2, 5), (7, 3), (3, 7), (4, 1), (1, 4)])
def test_elements_of_rectangular_matrices_too(rows, columns):
    q = stack(30_000, rows, columns, seed=6).astype(np.float64)
    for i, j in itertools.product(range(rows), range(columns)):
        check_distribution(q[:, i, j], element_of_haar(max(rows, columns)), f"element {i}, {j}", cells=128)


def test_matrices_from_a_loop_over_streams_too():
    q = np.array([fastinit.orthogonal((4, 4), seed=7, stream=i) for i in range(20_000)], np.float64)
    check_distribution(q[:, 0, 0], element_of_haar(4), cells=128)
    check_distribution(q[:, 3, 2], element_of_haar(4), cells=128)
    trace = np.trace(q, axis1=1, axis2=2)
    check_z(trace.mean() * np.sqrt(trace.size), "trace")


def check_mean(sample, mean, what=""):
    check_z((sample.mean() - mean) / sample.std() * np.sqrt(sample.size), what)


@pytest.mark.parametrize("dtype", SINGLE_AND_DOUBLE)
def test_traces_of_powers_have_the_moments_of_haar(dtype):
    # Diaconis and Shahshahani, On the eigenvalues of random matrices, J. Appl. Probab. 31A, 1994.
    q = stack(40_000, 12, seed=8, dtype=dtype).astype(np.float64)
    power = np.eye(12)
    for j in (1, 2, 3):
        power = power @ q
        trace = np.trace(power, axis1=1, axis2=2)
        mean = 1 - j % 2
        check_mean(trace, mean, f"trace of power {j}")
        check_mean((trace - mean) ** 2, j, f"square of the trace of power {j}")
    trace = np.trace(q, axis1=1, axis2=2)
    check_mean(trace**4, 3, "fourth power of the trace")


@pytest.mark.parametrize("n", [2, 3, 5])
def test_products_of_elements_have_the_moments_of_haar(n):
    # Collins and Sniady, Integration with respect to the Haar measure on unitary, orthogonal and symplectic
    # group, Commun. Math. Phys. 264, 2006.
    q = stack(60_000, n, seed=9, dtype="float64")
    whole = n * (n - 1) * (n + 2)
    for i, k in itertools.permutations(range(n), 2):
        for j, m in itertools.permutations(range(n), 2):
            what = f"rows {i}, {k}, columns {j}, {m}"
            check_mean(q[:, i, j] * q[:, k, m], 0, what)
            check_mean(q[:, i, j] ** 2 * q[:, i, m] ** 2, 1 / (n * (n + 2)), what)
            check_mean(q[:, i, j] ** 2 * q[:, k, j] ** 2, 1 / (n * (n + 2)), what)
            check_mean(q[:, i, j] ** 2 * q[:, k, m] ** 2, (n + 1) / whole, what)
            check_mean(q[:, i, j] * q[:, i, m] * q[:, k, j] * q[:, k, m], -1 / whole, what)


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5, 8])
def test_determinants_are_of_either_sign_equally_often(n):
    determinants = np.linalg.det(stack(20_000, n, seed=10, dtype="float64"))
    np.testing.assert_allclose(np.abs(determinants), 1, rtol=1e-12)
    positive = int((determinants > 0).sum())
    check(stats.binomtest(positive, determinants.size).pvalue, f"{positive} of {determinants.size}")


def angles_of(n, *, positive):
    """The distribution of the angles of the eigenvalues besides 1 and -1, given the sign of the determinant.

    They are those of a determinantal process on (0, pi), whose orthogonal functions are cosines or sines of
    multiples of the angle (Katz and Sarnak, Random Matrices, Frobenius Eigenvalues, and Monodromy, 1999).
    Returns how many there are, and the distribution function of one of them.
    """
    if n % 2:
        count, multiples, sign = n // 2, np.arange(n // 2) + 0.5, -1 if positive else 1
    elif positive:
        count, multiples, sign = n // 2, np.arange(1, n // 2), 1
    else:
        count, multiples, sign = n // 2 - 1, np.arange(1, n // 2), -1

    def cdf(angle):
        twice = 2 * np.multiply.outer(multiples, angle)
        terms = (angle + sign * np.sin(twice) / (2 * multiples[:, np.newaxis])) / np.pi
        return (terms.sum(axis=0) + (count - len(multiples)) * angle / np.pi) / count

    return count, cdf


@pytest.mark.parametrize("n", [2, 3, 4, 5, 8, 9])
def test_angles_of_eigenvalues_are_those_of_haar(n):
    q = stack(20_000, n, seed=11, dtype="float64")
    determinants = np.linalg.det(q)
    rng = np.random.default_rng(11)
    for positive in (True, False):
        some = q[(determinants > 0) == positive]
        angles = np.sort(np.abs(np.angle(np.linalg.eigvals(some))), axis=1)
        # Beside pairs there are 1, -1, both or neither.
        ones = (n % 2 == 1) == positive
        angles = angles[:, (1 if ones else 0) :]
        count, cdf = angles_of(n, positive=positive)
        if count == 0:
            continue
        angles = angles[:, 0 : 2 * count : 2]
        # Those of one matrix repel each other, so one of each is looked at.
        one = angles[np.arange(len(angles)), rng.integers(count, size=len(angles))]
        check(stats.kstest(one, cdf).pvalue, f"one of {count}, determinant positive: {positive}")


STATISTICS = {
    "trace": lambda q: np.trace(q, axis1=1, axis2=2),
    "trace of the square": lambda q: np.einsum("kij,kji->k", q, q),
    "largest element": lambda q: np.abs(q).max(axis=(1, 2)),
    "sum of fourth powers": lambda q: (q**4).sum(axis=(1, 2)),
    "leading minor": lambda q: q[:, 0, 0] * q[:, 1, 1] - q[:, 0, 1] * q[:, 1, 0],
    "smallest angle": lambda q: np.abs(np.angle(np.linalg.eigvals(q))).min(axis=1).round(6),
    "any angle": lambda q: np.angle(np.linalg.eigvals(q))[:, 0].round(6),
}


@pytest.fixture(scope="module")
def ours_and_scipys():
    """Some matrices, and as many that scipy draws by a factorization."""
    return stack(20_000, 4, seed=12), stats.ortho_group(4, seed=12).rvs(20_000)


@pytest.mark.parametrize("statistic", STATISTICS.values(), ids=STATISTICS)
def test_statistics_have_the_distribution_of_scipys(ours_and_scipys, statistic):
    ours, scipys = (statistic(q.astype(np.float64)) for q in ours_and_scipys)
    check(stats.ks_2samp(ours, scipys).pvalue)


@pytest.mark.parametrize(("rows", "columns"), [(3, 3), (5, 5), (6, 4), (4, 6)])
def test_rotations_from_left_and_right_do_not_change_the_distribution(rows, columns):
    q = stack(30_000, rows, columns, seed=13, dtype="float64")
    u, v = (stats.ortho_group(n, seed=n).rvs() for n in (rows, columns))
    expected = element_of_haar(max(rows, columns))
    for name, turned in {"left": u @ q, "right": q @ v, "both": u @ q @ v}.items():
        for i, j in [(0, 0), (1, 2), (rows - 1, columns - 1)]:
            check_distribution(turned[:, i, j], expected, f"{name}, element {i}, {j}", cells=128)
    if rows == columns:
        for name, turned in {"left": u @ q, "right": q @ v}.items():
            trace = np.trace(turned, axis1=1, axis2=2)
            scipys = np.trace(stats.ortho_group(rows, seed=1).rvs(30_000), axis1=1, axis2=2)
            check(stats.ks_2samp(trace, scipys).pvalue, f"{name}, trace")


@pytest.mark.parametrize(("rows", "columns"), [(66, 66), (130, 130), (150, 70), (70, 150)])
def test_matrices_of_several_panels_are_of_haar_too(rows, columns):
    q = stack(1000, rows, columns, seed=14, dtype="float64")
    places = [(i, j) for i in (0, 63, 64, 65, rows - 1) for j in (0, 63, 64, columns - 1)]
    for i, j in places:
        check_distribution(q[:, i, j], element_of_haar(max(rows, columns)), f"element {i}, {j}", cells=16)
    if rows == columns:
        # Normal: the distance falls faster than exponentially with n.
        for name, trace in {
            "trace": np.trace(q, axis1=1, axis2=2),
            "trace of a turned one": np.einsum("kij,ij->k", q, stats.ortho_group(rows, seed=1).rvs()),
            "antidiagonal": np.trace(q[:, ::-1], axis1=1, axis2=2),
        }.items():
            check(stats.kstest(trace, stats.norm.cdf).pvalue, name)
        signs = np.linalg.slogdet(q)[0]
        check(stats.binomtest(int((signs > 0).sum()), len(signs)).pvalue, "determinant")


STACKS = {
    "blocks": lambda i: {"seed": 15, "stream": i},
    "seeds": lambda i: {"seed": i},
    "seeds of one bit": lambda i: {"seed": 1 << i},
    "streams of one bit": lambda i: {"seed": 15, "stream": 1 << i},
    "names": lambda i: {"seed": 15, "stream": f"layers.{i}.weight"},
}


@pytest.mark.parametrize("key", STACKS.values(), ids=STACKS)
def test_matrices_of_other_keys_and_blocks_are_independent(key):
    n, count = 4, 2000
    q = np.array([stack(count, n, **key(i)) for i in range(16)], np.float64)
    # For independent A and B, neighbours included, the trace of A^T B is distributed as one trace is.
    for shift in (0, 1, 2):
        pairs = itertools.combinations(range(16), 2)
        traces = np.array([np.einsum("kij,kij->k", q[i, : count - shift], q[j, shift:]) for i, j in pairs])
        root = np.sqrt(count - shift)
        check_z(traces.mean(axis=1) * root, f"shift {shift}")
        squares = traces**2
        check_z((squares.mean(axis=1) - 1) / squares.std(axis=1) * root, f"shift {shift}: squares")
    for lag in (1, 2, 3, 4, 8, 16, 64, 256):
        traces = np.einsum("skij,skij->sk", q[:, lag:], q[:, :-lag]).ravel()
        check_z(traces.mean() * np.sqrt(traces.size), f"lag {lag}")
        check_mean(traces**2, 1, f"lag {lag}: squares")


def test_matrices_of_a_loop_over_keys_are_independent():
    for name, keys in {
        "streams": [{"seed": 16, "stream": i} for i in range(10_000)],
        "seeds": [{"seed": i} for i in range(10_000)],
    }.items():
        q = np.array([fastinit.orthogonal((4, 4), **key) for key in keys], np.float64)
        assert len(np.unique(q.reshape(-1, 16), axis=0)) == len(keys)
        for lag in (1, 2, 3, 4, 16, 256):
            traces = np.einsum("kij,kij->k", q[lag:], q[:-lag])
            check_z(traces.mean() * np.sqrt(traces.size), f"{name}, lag {lag}")
            check_mean(traces**2, 1, f"{name}, lag {lag}: squares")


def test_a_matrix_says_nothing_about_the_normal_elements_of_its_key():
    keys = [{"seed": 17, "stream": i} for i in range(10_000)]
    q = np.array([fastinit.orthogonal((4, 4), **key) for key in keys], np.float64)
    x = np.array([fastinit.random_normal((4, 4), 0.0, 1.0, **key) for key in keys], np.float64)
    # Those that the reflectors would be made of lie across.
    for name, y in {"along": x, "across": x.transpose(0, 2, 1)}.items():
        products = 2 * q * y
        check_z(products.mean(axis=0) * np.sqrt(len(keys)), name)
        check_mean(
            np.abs(q[:, 0, 0]) * np.abs(y[:, 0, 0]), np.abs(q[:, 0, 0]).mean() * (2 / np.pi) ** 0.5, name
        )


# The same bits

# Shapes of one, two and more panels, upright and lying, with their arguments.
CASES = [
    ((3, 3), {}),
    ((130, 70), {}),
    ((70, 130), {}),
    ((300, 260), {"gain": 0.3}),
    ((200, 450), {}),
    ((3, 3, 20, 70), {}),
    ((70, 5, 20), {"column_axis": 0}),
    ((9, 65, 17), {"column_axis": 1}),
    ((70, 280), {"blocks": 4}),
    ((280, 70), {"column_axis": 0, "blocks": 4}),
    ((280, 70), {"blocks": 4, "block_axis": 0}),
    ((12, 40, 30), {"blocks": 6, "block_axis": 0}),
    ((4, 66, 70), {"column_axis": 1, "blocks": 7, "block_axis": 2}),
]


@pytest.fixture(params=CASES, ids=str)
def matrix_case(request):
    return request.param


@pytest.mark.parametrize("dtype", DTYPES)
def test_threads_do_not_change_a_bit(matrix_case, dtype):
    shape, arguments = matrix_case
    expected = fastinit.orthogonal(shape, **arguments, seed=20, dtype=dtype, threads=1)
    for threads in (2, 3, 7, None):
        got = fastinit.orthogonal(shape, **arguments, seed=20, dtype=dtype, threads=threads)
        assert_array_equal(bits(got), bits(expected), err_msg=f"{threads} threads")


def test_a_large_matrix_has_the_same_bits_on_any_number_of_threads():
    expected = fastinit.orthogonal((1111, 1000), seed=20, threads=1)
    for threads in (2, 7, 64):
        assert_array_equal(fastinit.orthogonal((1111, 1000), seed=20, threads=threads), expected)


def test_levels_do_not_change_a_bit(python):
    program = f"""
        import hashlib
        import fastinit

        for dtype in {DTYPES}:
            for shape, arguments in {CASES}:
                array = fastinit.orthogonal(shape, **arguments, seed=20, dtype=dtype)
                print(shape, arguments, dtype, hashlib.sha256(array.tobytes()).hexdigest())
        print(fastinit.build_info()["simd"])
        """
    levels = fastinit.build_info()["simd_available"]
    results = {}
    for level in levels:
        *lines, used = python(program, FASTINIT_SIMD=level).splitlines()
        assert used == level
        results[level] = lines
    for level in levels:
        assert results[level] == results["scalar"], level
    assert len(results["scalar"]) == len(CASES) * len(DTYPES)


@pytest.mark.parametrize("dtype", DTYPES)
def test_the_part_equals_that_of_the_whole(matrix_case, dtype):
    shape, arguments = matrix_case
    rng = random.Random(f"{shape} {dtype}")
    whole = fastinit.orthogonal(shape, **arguments, seed=21, dtype=dtype)

    def pick(size):
        # The edges of panels, and what is beside them.
        places = sorted({0, size, *(p for edge in (64, 128) for p in (edge - 1, edge, edge + 1) if p < size)})
        places += [rng.randint(0, size) for _ in places]
        if rng.random() < 0.2:
            return rng.randint(-size, size - 1)
        return slice(*sorted(rng.choices(places, k=2))) if rng.random() < 0.8 else slice(None)

    edge = [slice(min(60, size - 1), min(68, size)) for size in shape]
    fixed = [
        (slice(None), slice(1, 2)),
        (slice(1, 2),),
        tuple(size - 1 for size in shape),
        (0,) * len(shape),
        (-1,),
        (..., -1),
        (..., slice(0, 0)),
        tuple(edge),
        (slice(None), *edge[1:]),
        (*edge[:-1], slice(None)),
    ]
    for index in [*fixed, *(tuple(map(pick, shape)) for _ in range(15))]:
        for threads in (1, 3):
            part = fastinit.orthogonal(shape, **arguments, seed=21, dtype=dtype, index=index, threads=threads)
            expected = np.asarray(whole[index])
            assert part.shape == expected.shape, index
            assert_array_equal(bits(part), bits(np.ascontiguousarray(expected)), err_msg=f"{index}")


def test_shards_make_up_the_whole():
    shape = (150, 200)
    whole = fastinit.orthogonal(shape, seed=22)
    rebuilt = np.zeros_like(whole)
    for row, column in itertools.product(range(3), range(4)):
        shard = (slice(row * 50, row * 50 + 50), slice(column * 50, column * 50 + 50))
        fastinit.orthogonal(shape, seed=22, index=shard, out=rebuilt[shard])
    assert_array_equal(rebuilt, whole)


LAYOUTS = {
    "contiguous": lambda shape, dtype: np.empty(shape, dtype),
    "columns first": lambda shape, dtype: np.empty(shape, dtype, order="F"),
    "transposed": lambda shape, dtype: np.empty(shape[::-1], dtype).T,
    "steps": lambda shape, dtype: np.empty([3 * size for size in shape], dtype)[
        tuple(slice(1, None, 3) for _ in shape)
    ],
    "turned": lambda shape, dtype: np.empty(shape, dtype)[tuple(slice(None, None, -1) for _ in shape)],
    "turned last": lambda shape, dtype: np.empty(shape, dtype)[..., ::-1],
    "gaps": lambda shape, dtype: np.empty([size + 3 for size in shape], dtype)[
        tuple(slice(2, size + 2) for size in shape)
    ],
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("dtype", DTYPES)
def test_any_layout(matrix_case, layout, dtype):
    shape, arguments = matrix_case
    expected = fastinit.orthogonal(shape, **arguments, seed=23, dtype=dtype)
    out = layout(shape, expected.dtype)
    canvas = out if out.base is None else out.base
    canvas[...] = 7
    assert fastinit.orthogonal(shape, **arguments, seed=23, dtype=dtype, out=out, threads=2) is out
    assert_array_equal(bits(np.ascontiguousarray(out)), bits(expected))
    # Nothing beside it was touched.
    out[...] = 7
    assert (canvas == 7).all()


# Blocks


def hashed(stream, block):
    """The formula of the documentation."""
    if isinstance(stream, str):
        stream = int.from_bytes(hashlib.blake2b(stream.encode(), digest_size=8).digest(), "little")
    name = f"{stream}[{block}]"
    return int.from_bytes(hashlib.blake2b(name.encode(), digest_size=8).digest(), "little")


@pytest.mark.parametrize("stream", [0, 7, 2**64 - 1, np.uint64(2**63), "", "lstm.weight_hh", "größe/重み"])
@pytest.mark.parametrize("block", [0, 1, 10, np.int8(3), 2**64 - 1])
def test_the_stream_of_a_block_is_that_of_its_name(stream, block):
    got = fastinit.block_stream(stream, block)
    assert type(got) is int
    assert got == hashed(stream, block)


@pytest.mark.parametrize("stream", [5, "lstm"])
@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((64, 256), {"blocks": 4}),
        ((256, 64), {"blocks": 4, "column_axis": 0}),
        ((70, 3 * 66), {"blocks": 3}),
        ((3 * 66, 70), {"blocks": 3, "block_axis": 0}),
        ((8, 20, 20), {"blocks": 8, "block_axis": 0}),
        ((8, 20, 30), {"blocks": 2, "block_axis": -3}),
        ((4, 6, 10), {"blocks": 3, "block_axis": 1, "column_axis": 0}),
        ((2, 3), {"blocks": 3}),
        ((500, 7, 5), {"blocks": 500, "block_axis": 0}),
    ],
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_each_block_is_the_matrix_of_its_stream(shape, arguments, stream, dtype):
    axis = arguments.get("block_axis", arguments.get("column_axis", -1))
    plain = {name: value for name, value in arguments.items() if name == "column_axis"}
    for threads in (1, 3):
        options = {"gain": 1.5, "seed": 30, "dtype": dtype, "threads": threads}
        fused = fastinit.orthogonal(shape, **arguments, stream=stream, **options)
        for number, block in enumerate(np.split(fused, arguments["blocks"], axis)):
            alone = fastinit.orthogonal(
                block.shape, **plain, stream=fastinit.block_stream(stream, number), **options
            )
            assert_array_equal(bits(np.ascontiguousarray(block)), bits(alone), err_msg=f"block {number}")


def test_one_block_is_the_plain_matrix():
    plain = fastinit.orthogonal((6, 9), seed=31, stream="w")
    for axis in (None, 0, 1, -1):
        assert_array_equal(fastinit.orthogonal((6, 9), seed=31, stream="w", blocks=1, block_axis=axis), plain)


def test_a_stack_of_matrices_is_the_same_on_any_number_of_threads():
    expected = stack(3000, 10, seed=32, threads=1)
    for threads in (2, 3, 7):
        assert_array_equal(stack(3000, 10, seed=32, threads=threads), expected)
    # A few large ones too, which all threads work on together.
    expected = stack(3, 300, seed=32, threads=1)
    for threads in (2, 3, 7):
        assert_array_equal(stack(3, 300, seed=32, threads=threads), expected)


# Convolutions


@pytest.mark.parametrize("spatial", [(1,), (3,), (4,), (3, 3), (2, 5), (1, 4), (3, 2, 5), (1, 1, 1)])
@pytest.mark.parametrize(("inputs", "outputs"), [(1, 1), (4, 4), (3, 7), (60, 70)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_delta_orthogonal_is_a_matrix_in_the_centre_of_zeros(spatial, inputs, outputs, dtype):
    options = {"gain": -0.5, "seed": 40, "stream": "conv", "dtype": dtype}
    kernel = fastinit.delta_orthogonal((*spatial, inputs, outputs), **options)
    centre = tuple((size - 1) // 2 for size in spatial)
    matrix = fastinit.orthogonal((inputs, outputs), **options)
    assert_array_equal(bits(kernel[centre]), bits(matrix))
    if dtype in TOLERANCE:
        rows = as_matrix(matrix) / -0.5
        np.testing.assert_allclose(rows @ rows.T, np.eye(inputs), rtol=0, atol=TOLERANCE[dtype])
    kernel[centre] = 0
    assert not bits(kernel).any()


@pytest.mark.parametrize("shape", [(3, 2, 4), (4, 5, 3, 6), (3, 3, 2, 66, 70)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_parts_of_delta_orthogonal_with_and_without_the_centre(shape, dtype):
    whole = fastinit.delta_orthogonal(shape, seed=41, dtype=dtype)
    rest = len(shape) - 3
    spatial = [0, 1, 2, -1, slice(0, 1), slice(1, 2), slice(1, 3), slice(2, None), slice(0, 0), slice(None)]
    matrix = [(), (1,), (..., 2), (*[slice(None)] * rest, slice(1, 2), slice(2, 4)), (*[1] * rest, 0, -1)]
    for first, others in itertools.product(spatial, matrix):
        index = (first, *others)
        part = fastinit.delta_orthogonal(shape, seed=41, dtype=dtype, index=index)
        expected = np.asarray(whole[index])
        assert part.shape == expected.shape
        assert_array_equal(bits(part), bits(np.ascontiguousarray(expected)), err_msg=f"{index}")


@pytest.mark.parametrize("spatial", [(3,), (4, 3), (3, 3), (2, 3, 3)])
def test_a_convolution_by_delta_orthogonal_keeps_norms(spatial):
    inputs, outputs = 4, 6
    kernel = fastinit.delta_orthogonal((*spatial, inputs, outputs), seed=42, dtype="float64")
    signal = np.random.default_rng(42).normal(size=(*(size + 4 for size in spatial), inputs))
    axes = tuple(range(len(spatial)))
    result = sum(np.roll(signal, tap, axes) @ kernel[tap] for tap in itertools.product(*map(range, spatial)))
    np.testing.assert_allclose((result**2).sum(), (signal**2).sum(), rtol=1e-13)
    # Not only the sum: each place has the norm of one place.
    centre = [(size - 1) // 2 for size in spatial]
    np.testing.assert_allclose(
        np.linalg.norm(result, axis=-1), np.roll(np.linalg.norm(signal, axis=-1), centre, axes), rtol=1e-13
    )


# Memory

FEW = {
    "columns": "(200_000, 4096), index=(slice(None), slice(0, 64)), threads=2",
    "columns beyond": "(200_000, 4096), index=(slice(None), slice(150, 200)), threads=2",
    "rows": "(4096, 200_000), index=slice(0, 64), threads=2",
    "column": "(200_000, 4096), index=(slice(None), 1), threads=2",
    "element": "(200_000, 4096), index=(7, 1), threads=2",
    "block": "(40, 4096, 4096), blocks=40, block_axis=0, index=(3, ..., slice(64)), threads=2",
}


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("arguments", FEW.values(), ids=FEW)
def test_a_part_of_a_large_matrix_takes_little_memory(python, arguments):
    call = f"fastinit.orthogonal({arguments}, seed=50)"
    grown, _ = map(int, python(PROGRAM.format(prepare="", call=call)).split())
    assert grown < 400 * MIB


def test_a_part_of_a_large_matrix_is_orthonormal():
    for index in [(slice(None), slice(0, 64)), (slice(None), slice(100, 150))]:
        columns = fastinit.orthogonal((200_000, 4096), index=index, seed=50, threads=2)
        assert error(as_matrix(columns)) <= TOLERANCE["float32"]


@pytest.mark.parametrize(
    ("shape", "arguments"),
    [
        ((2**40, 2**20), {}),
        ((2**20, 2**40), {}),
        ((2**54, 100), {}),
        ((100, 2**54), {}),
        ((2**54, 100), {"dtype": "float64", "column_axis": 0}),
        ((2**53, 400), {"blocks": 4}),
        ((2**20, 2**20, 2**20), {"dtype": "bfloat16"}),
        ((2**40, 2**20), {"threads": 2**32}),
    ],
    ids=str,
)
def test_more_memory_than_there_is(python, shape, arguments):
    printed = python(
        f"""
        import fastinit
        for index in [(slice(0, 2), slice(0, 2)), (0, 0), (-1, -1)]:
            index = (*index, *[0] * (len({shape}) - 2))
            try:
                fastinit.orthogonal({shape}, **{arguments}, index=index)
            except (MemoryError, ValueError) as error:
                print(error)
        """
    )
    assert len(printed.splitlines()) == 3
    assert all("bytes" in line for line in printed.splitlines())


def test_more_threads_than_there_can_be(python):
    python(
        """
        import fastinit
        try:
            fastinit.orthogonal((2**40, 2**20), index=(-1, -1), threads=2**60)
        except (MemoryError, ValueError):
            pass
        few = fastinit.orthogonal((300, 300), seed=1, threads=1)
        assert (fastinit.orthogonal((300, 300), seed=1, threads=64) == few).all()
        """
    )


# Bad input

NAN, INF = float("nan"), float("inf")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ("orthogonal(4)", ValueError, r"needs a shape of at least 2 dimensions, got shape \[4\]"),
        ("orthogonal(())", ValueError, r"needs a shape of at least 2 dimensions, got shape \[\]"),
        ("orthogonal((0,))", ValueError, r"needs a shape of at least 2 dimensions, got shape \[0\]"),
        ("orthogonal(S, NAN)", ValueError, "gain must be finite, got NaN"),
        ("orthogonal(S, INF)", ValueError, "gain must be finite, got inf"),
        ("orthogonal(S, -INF)", ValueError, "gain must be finite, got -inf"),
        ("orthogonal(S, 1e39)", ValueError, "gain must be finite in float32, got 1e39"),
        ("orthogonal(S, 1e39, dtype='bfloat16')", ValueError, "gain must be finite in float32, got 1e39"),
        ("orthogonal(S, '1')", TypeError, "gain must be a real number, got '1'"),
        ("orthogonal(S, None)", TypeError, "gain must be a real number, got None"),
        ("orthogonal(S, blocks=0)", ValueError, "blocks must be at least 1, got 0"),
        ("orthogonal(S, blocks=-2)", ValueError, "blocks must be an int of at least 1 .*got -2"),
        ("orthogonal(S, blocks=2**64)", ValueError, "blocks must be an int of at least 1 .*got 1844"),
        ("orthogonal(S, blocks=True)", TypeError, "blocks must be an int of at least 1 .*got True"),
        ("orthogonal(S, blocks=2.0)", TypeError, "blocks must be an int of at least 1 .*got 2.0"),
        ("orthogonal(S, blocks=None)", TypeError, "blocks must be an int of at least 1 .*got None"),
        (
            "orthogonal(S, blocks=4)",
            ValueError,
            r"blocks must divide the size of their axis; got blocks=4 and size 6 of axis 1 in shape \[4, 6\]",
        ),
        (
            "orthogonal(S, blocks=3, column_axis=0)",
            ValueError,
            "blocks must divide .* blocks=3 and size 4 of axis 0",
        ),
        (
            "orthogonal(S, blocks=3, block_axis=-2)",
            ValueError,
            "blocks must divide .* blocks=3 and size 4 of axis 0",
        ),
        ("orthogonal(S, blocks=12)", ValueError, "blocks must divide .* blocks=12 and size 6"),
        ("orthogonal(S, column_axis=2)", ValueError, r"column_axis must lie in \[-2, 2\) .* got 2"),
        ("orthogonal(S, column_axis=-3)", ValueError, r"column_axis must lie in \[-2, 2\) .* got -3"),
        ("orthogonal(S, column_axis=10**30)", ValueError, "column_axis must be an int.* got 1000"),
        ("orthogonal(S, column_axis=-2**63)", ValueError, r"column_axis must lie in \[-2, 2\)"),
        ("orthogonal(S, column_axis=None)", TypeError, "column_axis must be an int, got None"),
        ("orthogonal(S, column_axis=0.0)", TypeError, "column_axis must be an int, got 0.0"),
        ("orthogonal(S, column_axis=False)", TypeError, "column_axis must be an int, got False"),
        ("orthogonal(S, column_axis=(0,))", TypeError, r"column_axis must be an int, got \(0,\)"),
        ("orthogonal(S, block_axis=2)", ValueError, r"block_axis must lie in \[-2, 2\) .* got 2"),
        ("orthogonal(S, blocks=2, block_axis=-3)", ValueError, r"block_axis must lie in \[-2, 2\) .* got -3"),
        ("orthogonal(S, block_axis='0')", TypeError, "block_axis must be an int or None, got '0'"),
        ("orthogonal(S, block_axis=True)", TypeError, "block_axis must be an int or None, got True"),
        (
            "delta_orthogonal(S)",
            ValueError,
            r"delta_orthogonal needs a shape of 3, 4 or 5 dimensions .*got shape \[4, 6\]",
        ),
        (
            "delta_orthogonal((1, 1, 1, 1, 2, 2))",
            ValueError,
            r"needs a shape of 3, 4 or 5 dimensions .*got shape \[1, 1, 1, 1, 2, 2\]",
        ),
        (
            "delta_orthogonal((3, 4, 2))",
            ValueError,
            r"no more inputs than outputs, got 4 inputs and 2 outputs in shape \[3, 4, 2\]",
        ),
        ("delta_orthogonal((3, 2, 4), NAN)", ValueError, "gain must be finite, got NaN"),
        ("delta_orthogonal((3, 2, 4), 1e39, dtype='float16')", ValueError, "gain must be finite in float32"),
        ("delta_orthogonal((3, 2, 4), 'x')", TypeError, "gain must be a real number, got 'x'"),
    ],
)
def test_parameters(call, error, message):
    names = {**vars(fastinit), "S": (4, 6), "NAN": NAN, "INF": INF}
    with pytest.raises(error, match=message):
        eval(call, names)
    # The same, into an array: it stays as it was.
    dtype = next((dtype for dtype in DTYPES if dtype in call), "float32")
    for shape in [(4, 6), (4,), (), (0,), (3, 2, 4), (3, 4, 2), (1, 1, 1, 1, 2, 2)]:
        out = np.full(shape, NAN, fastinit.zeros(0, dtype=dtype).dtype)
        before = out.tobytes()
        with pytest.raises((ValueError, TypeError)):
            eval(call[:-1] + ", out=OUT)", {**names, "OUT": out})
        assert out.tobytes() == before


def test_the_classes_refuse_the_same():
    for arguments, message in [
        ({"gain": NAN}, "gain must be finite"),
        ({"blocks": 0}, "blocks must be at least 1"),
    ]:
        with pytest.raises(ValueError, match=message):
            fastinit.Orthogonal(**arguments)
    with pytest.raises(TypeError, match="column_axis must be an int"):
        fastinit.Orthogonal(column_axis=None)
    with pytest.raises(ValueError, match="gain must be finite"):
        fastinit.DeltaOrthogonal(INF)


@pytest.mark.parametrize(
    ("stream", "block", "error", "message"),
    [
        (0, -1, ValueError, r"block must be an int in \[0, 2\*\*64\), got -1"),
        (0, 2**64, ValueError, r"block must be an int in \[0, 2\*\*64\), got 1844"),
        (0, 1.0, TypeError, "block must be an int"),
        (0, True, TypeError, "block must be an int"),
        (0, "1", TypeError, "block must be an int"),
        (-1, 0, ValueError, "stream must be"),
        (1.5, 0, TypeError, "stream must be"),
        (None, 0, TypeError, "stream must be"),
    ],
)
def test_streams_of_blocks(stream, block, error, message):
    with pytest.raises(error, match=message):
        fastinit.block_stream(stream, block)


def test_an_index_out_of_range_is_refused():
    out = np.full((4, 6), NAN, np.float32)
    with pytest.raises(ValueError, match="index of axis 1 must be an int in range"):
        fastinit.orthogonal((4, 6), index=(0, 6))
    with pytest.raises(ValueError, match="shape"):
        fastinit.orthogonal((6, 4), out=out)
    assert np.isnan(out).all()


# Ctrl-C

LONG = {
    "square": ((8192, 8192), {}),
    "wide": ((5000, 15_000), {}),
    "few columns": ((8192, 8192), {"index": (slice(None), slice(8000, None))}),
    "large blocks": ((4, 6144, 6144), {"blocks": 4, "block_axis": 0}),
    "small blocks": ((20_000, 64, 64), {"blocks": 20_000, "block_axis": 0}),
}


@pytest.mark.skipif(os.name != "posix", reason="needs a POSIX system")
@pytest.mark.timeout(90)
@pytest.mark.parametrize(("shape", "arguments"), LONG.values(), ids=LONG)
@pytest.mark.parametrize("threads", [1, 2])
def test_ctrl_c_stops_a_long_one(shape, arguments, threads):
    # Into memory that has its pages already, which the system may take long to provide.
    program = f"""
import numpy as np
import fastinit

arguments = {arguments}
out = np.ones(np.broadcast_to(np.float32(0), {shape})[arguments.get("index", ...)].shape, np.float32)
print("ready", flush=True)
try:
    fastinit.orthogonal({shape}, **arguments, threads={threads}, seed=0, out=out)
except KeyboardInterrupt:
    print("interrupted", flush=True)
# And all is well afterwards.
assert fastinit.orthogonal((300, 300), seed=0, threads={threads}).std() > 0
"""
    # At the slowest level, where one such matrix takes minutes.
    interrupt(program, FASTINIT_SIMD="scalar")
