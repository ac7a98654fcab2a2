"""The initializers that are not random, and the shapes and dtypes of all."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal

import fastinit

ml_dtypes = pytest.importorskip("ml_dtypes")
DTYPES = ["float32", "float64", "float16", "bfloat16"]


def test_zeros_and_ones():
    assert_array_equal(fastinit.zeros((2, 3)), np.zeros((2, 3), np.float32), strict=True)
    assert_array_equal(fastinit.ones((2, 3), dtype="float64"), np.ones((2, 3)), strict=True)


@pytest.mark.parametrize(
    "value", [0.1, -2, 1e300, float("inf"), float("-inf"), float("nan"), np.float32(0.5), True]
)
@pytest.mark.parametrize("dtype", DTYPES)
def test_constant_is_the_rounded_value(value, dtype):
    with np.errstate(over="ignore"):
        single = np.float32(value)
        expected = np.float64(value) if dtype == "float64" else single.astype(dtype)
    got = fastinit.constant((3,), value, dtype=dtype)
    assert got.dtype == expected.dtype
    # As float64, the only dtype for which a NaN compares equal to a NaN here.
    assert_array_equal(got.astype(np.float64), np.full(3, expected, np.float64))


@pytest.mark.parametrize("shape", [(3, 3), (2, 5), (5, 2), (1, 1), (0, 3), (3, 0)])
@pytest.mark.parametrize("dtype", DTYPES)
def test_identity(shape, dtype):
    assert_array_equal(
        fastinit.identity(shape, 0.5, dtype=dtype), (0.5 * np.eye(*shape)).astype(dtype), strict=True
    )


@pytest.mark.parametrize("spatial", [(3,), (4,), (3, 4), (1, 2, 5)])
@pytest.mark.parametrize(
    ("inputs", "outputs", "groups"), [(2, 2, 1), (3, 2, 1), (2, 3, 1), (2, 6, 2), (3, 4, 2), (1, 4, 4)]
)
def test_dirac_passes_the_input_of_each_group_through(spatial, inputs, outputs, groups):
    kernel = fastinit.dirac((*spatial, inputs, outputs), groups)
    centre = kernel[tuple(size // 2 for size in spatial)]
    assert kernel.sum() == centre.sum()
    per_group = outputs // groups
    for group in range(groups):
        assert_array_equal(centre[:, group * per_group : (group + 1) * per_group], np.eye(inputs, per_group))


def test_sparse_columns_have_exactly_as_many_zeros_as_asked_for():
    for sparsity, zeros in [(0, 0), (0.1, 1), (0.25, 2), (0.5, 4), (0.9, 8), (1, 8)]:
        matrix = fastinit.sparse((8, 50), sparsity, seed=3)
        assert_array_equal((matrix == 0).sum(axis=0), np.full(50, zeros))


@pytest.mark.parametrize("dtype", DTYPES)
def test_dtype_by_name_type_and_object(dtype):
    expected = fastinit.random_normal(5, seed=1, dtype=dtype)
    scalar = getattr(ml_dtypes if dtype == "bfloat16" else np, dtype)
    assert expected.dtype == np.dtype(scalar)
    for other in (scalar, np.dtype(scalar), np.dtype(scalar).newbyteorder("=")):
        assert_array_equal(fastinit.random_normal(5, seed=1, dtype=other), expected, strict=True)


def test_dtype_defaults_to_float32():
    assert fastinit.random_normal(2).dtype == np.float32
    assert fastinit.random_normal(2, dtype=None).dtype == np.float32
    assert fastinit.random_normal(2, dtype=float).dtype == np.float64


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_halves_are_rounded_from_float32(case, dtype):
    initializer, shape = case
    single = initializer(shape, seed=5)
    assert_array_equal(initializer(shape, seed=5, dtype=dtype), single.astype(dtype), strict=True)


@pytest.mark.parametrize(
    "shape",
    [
        (),
        0,
        7,
        (7,),
        [2, 3],
        np.int64(4),
        (np.uint8(2), 3),
        np.array([2, 3]),
        np.array(5),
        (2, 0, 3),
        (0, 2**40, 2**10),
        (1,) * 32,
    ],
    ids=str,
)
def test_shapes(shape):
    if isinstance(shape, tuple | list) or np.ndim(shape):
        expected = tuple(int(size) for size in shape)
    else:
        expected = (int(shape),)
    for dtype in DTYPES:
        assert fastinit.random_uniform(shape, dtype=dtype).shape == expected
    assert fastinit.random_bits(shape).shape == expected


def test_sizes_may_be_objects_with_an_index():
    class Size:
        def __index__(self):
            return 3

    class Sequence:
        def __len__(self):
            return 2

        def __getitem__(self, position):
            return (4, 5)[position]

    assert fastinit.ones(Size()).shape == (3,)
    assert fastinit.ones((2, Size())).shape == (2, 3)
    assert fastinit.ones(Sequence()).shape == (4, 5)


def test_shapes_without_elements():
    assert fastinit.he_normal((0, 5)).shape == (0, 5)
    assert fastinit.glorot_uniform((3, 3, 0, 0)).shape == (3, 3, 0, 0)
    assert fastinit.dirac((3, 0, 0)).shape == (3, 0, 0)
    assert fastinit.sparse((0, 4), 0.5).shape == (0, 4)


def test_variance_scaling_by_mode_and_distribution():
    # Of a 3x5 kernel from 8 to 32 channels, in the layout (..., in, out).
    shape, fan_in, fan_out = (3, 5, 8, 32), 120, 480
    for mode, fan in [
        ("fan_in", fan_in),
        ("fan_out", fan_out),
        ("fan_avg", (fan_in + fan_out) / 2),
        ("fan_geo_avg", (fan_in * fan_out) ** 0.5),
    ]:
        variance = 1.5 / fan
        uniform = fastinit.variance_scaling(shape, 1.5, mode, "uniform", seed=1, dtype="float64")
        limit = (3 * variance) ** 0.5
        assert_array_equal(uniform, fastinit.random_uniform(shape, -limit, limit, seed=1, dtype="float64"))
        normal = fastinit.variance_scaling(shape, 1.5, mode, "untruncated_normal", seed=1, dtype="float64")
        assert_array_equal(normal, fastinit.random_normal(shape, 0, variance**0.5, seed=1, dtype="float64"))
        truncated = fastinit.variance_scaling(shape, 1.5, mode, "truncated_normal", seed=1, dtype="float64")
        stddev = variance**0.5 / 0.87962566103423978
        assert_array_equal(truncated, fastinit.truncated_normal(shape, 0, stddev, seed=1, dtype="float64"))


@pytest.mark.parametrize(
    ("name", "scale", "mode", "distribution"),
    [
        ("glorot_uniform", 1.0, "fan_avg", "uniform"),
        ("glorot_normal", 1.0, "fan_avg", "truncated_normal"),
        ("he_uniform", 2.0, "fan_in", "uniform"),
        ("he_normal", 2.0, "fan_in", "truncated_normal"),
        ("lecun_uniform", 1.0, "fan_in", "uniform"),
        ("lecun_normal", 1.0, "fan_in", "truncated_normal"),
    ],
)
@pytest.mark.parametrize(
    "axes", [{}, {"in_axis": 1, "out_axis": 0}, {"in_axis": [0, 2], "batch_axis": (1,)}, {"groups": 3}]
)
def test_presets_are_variance_scaling(name, scale, mode, distribution, axes):
    shape = (3, 4, 5, 6)
    expected = fastinit.variance_scaling(shape, scale, mode, distribution, seed=2, **axes)
    assert_array_equal(getattr(fastinit, name)(shape, seed=2, **axes), expected)


def test_axes_choose_the_fans():
    def deviation(shape, **axes):
        return fastinit.lecun_uniform(shape, seed=1, **axes).max()

    base = deviation((10, 20, 30, 40))  # fan_in = 10 * 20 * 30
    assert deviation((10, 20, 30, 40), batch_axis=(0, 1)) == pytest.approx(base * 200**0.5, rel=1e-2)
    assert deviation((10, 20, 30, 40), in_axis=-1, out_axis=-2) == pytest.approx(
        base * (30 / 40) ** 0.5, rel=1e-2
    )
    assert deviation((10, 20, 30, 40), in_axis=(0, 1, 2)) == base
    fan_out = {"scale": 1.0, "mode": "fan_out", "distribution": "uniform", "seed": 1}
    whole = fastinit.variance_scaling((3, 16, 64), **fan_out)
    grouped = fastinit.variance_scaling((3, 16, 64), **fan_out, groups=4)
    np.testing.assert_allclose(grouped, whole * 2, rtol=1e-6)


def test_random_bits():
    words = fastinit.random_bits((4, 6), seed=9, stream="bits")
    assert words.dtype == np.uint32
    doubled = fastinit.random_bits((2, 6), seed=9, stream="bits", dtype="uint64")
    assert doubled.dtype == np.uint64
    low, high = words.ravel()[0::2].astype(np.uint64), words.ravel()[1::2].astype(np.uint64)
    assert_array_equal(doubled.ravel(), low | high << np.uint64(32))
    for dtype in (None, np.uint32, np.dtype("uint32")):
        assert_array_equal(fastinit.random_bits((4, 6), seed=9, stream="bits", dtype=dtype), words)
    out = np.zeros((6, 4), np.uint32).T
    assert fastinit.random_bits((4, 6), seed=9, stream="bits", out=out) is out
    assert_array_equal(out, words)
    assert_array_equal(
        fastinit.random_bits((4, 6), seed=9, stream="bits", index=(slice(1, 3), 2)), words[1:3, 2]
    )


def first_rounded_up(low, high, dtype):
    """The least word, as a signed number, whose float32 sample a half type rounds to the excluded bound."""
    ignored = 0 if low == -high else 8  # bits
    middle, step = 0.5 * (low + high), np.float32((high - low) * 2.0**-32)

    def is_above(k):
        word = float(np.float32(k << ignored))
        sample = np.float32(np.float64(step) * word + np.float64(np.float32(middle)))
        return sample.astype(dtype) >= np.float32(high).astype(dtype)

    below, above = -(2 ** (31 - ignored)), 2 ** (31 - ignored)
    while below + 1 < above:
        k = (below + above) // 2
        below, above = (below, k) if is_above(k) else (k, above)
    return above << ignored


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize(
    ("low", "high", "bits_lost"),
    [
        (0, 1, (12, 9)),
        (1, 2, (11, 8)),
        (-1, 1, (13, 10)),
        (-0.05, 0.05, None),
        (-0.3, 0.1, None),
        (-2, -1, None),
    ],
    ids=["0 to 1", "1 to 2", "-1 to 1", "-0.05 to 0.05", "-0.3 to 0.1", "-2 to -1"],
)
def test_which_halves_of_a_uniform_are_not_rounded_and_how_often(low, high, bits_lost, dtype):
    low, high = float(np.float32(low)), float(np.float32(high))
    n = 2**22
    single = fastinit.random_uniform(n, low, high, seed=3)
    half = fastinit.random_uniform(n, low, high, seed=3, dtype=dtype)
    rounded, bound = single.astype(dtype), np.float32(high).astype(dtype)
    first = first_rounded_up(low, high, dtype)
    differs = fastinit.random_bits(n, seed=3).view(np.int32) >= first
    # Exactly those that would be the bound, and they become the number below it.
    assert_array_equal(rounded == bound, differs)
    assert_array_equal(half[~differs], rounded[~differs])
    with np.errstate(invalid="ignore"):  # Some of all patterns are NaN.
        numbers = np.arange(2**16, dtype=np.uint16).view(half.dtype).astype(np.float64)
    below = numbers[numbers < float(bound)].max()
    assert set(half[differs].astype(np.float64).tolist()) <= {below}
    share = (2**31 - first) / 2**32
    if bits_lost is not None:
        assert share == pytest.approx(2.0 ** -bits_lost[dtype == "bfloat16"], rel=1e-3)
    assert abs(differs.sum() - n * share) <= 6 * (n * share) ** 0.5
