"""The code of the stream contract, `docs/stream-v2.md`, gives the bits of the package.

The page has everything but the primitives, which are here: exact arithmetic, rounded once.
"""

import hashlib
import math
import re
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from conftest import bits as bits_of_array

import fastinit

ROOT = Path(__file__).parent.parent.parent
SEED, STREAM = 0x243F6A8885A308D3, "a.tensor"
FORMATS = {np.float32: np.uint32, float: np.uint64}


def nearest_f32(exact: Fraction) -> np.float32:
    """Round to nearest even; by way of binary64 alone it would be twice."""
    if abs(exact) >= 2**128:
        return np.float32(math.copysign(math.inf, exact))
    near = np.float32(float(exact))
    candidates = [np.nextafter(near, np.float32(-np.inf)), near, np.nextafter(near, np.float32(np.inf))]
    finite = [x for x in candidates if np.isfinite(x)]
    return min(finite, key=lambda x: (abs(Fraction(float(x)) - exact), int(x.view(np.uint32)) & 1))


def f32(x):
    return np.float32(x) if isinstance(x, float) and not math.isfinite(x) else nearest_f32(Fraction(x))


def fma(a, b, c):
    kind = type(a)
    assert type(b) is type(c) is kind
    wide = float(a) * float(b) + float(c)
    if not math.isfinite(wide):
        return kind(wide)
    if kind is np.float32 and abs(wide) < 2**127:
        # Rounding is monotonic: where the neighbours of the binary64 result agree, so does what is between.
        below, above = (np.float32(math.nextafter(wide, end)) for end in (-math.inf, math.inf))
        if below == above:
            return kind(wide)
    exact = Fraction(float(a)) * Fraction(float(b)) + Fraction(float(c))
    if exact == 0:
        return kind(wide)  # the sign of zero
    return nearest_f32(exact) if kind is np.float32 else float(exact)


def sqrt(x):
    return np.sqrt(x) if isinstance(x, np.float32) else math.sqrt(x)


def bits(x):
    return int(np.array(x).view(FORMATS[type(x)]))


def directed(x, toward):
    """`x` as binary32, on the side of `toward`."""
    near = f32(x)
    beyond = float(near) < x if toward > 0 else float(near) > x
    return np.nextafter(near, np.float32(toward)) if beyond else near


def last_below(high, dtype):
    """The greatest binary32 number that is stored as less than `high` is."""
    high = f32(high)
    if dtype == "float32":
        return np.nextafter(high, np.float32(-np.inf))
    kind = np.dtype(dtype)
    bound = high.astype(kind)

    def number(place):
        """The numbers in their order: the bits as an integer, those of negative numbers reversed."""
        return np.uint32(place if place >= 0 else 0x7FFFFFFF - place).view(np.float32)

    # Rounding is monotonic.
    below, above = -0x7F800000, 0x7F800000
    while below + 1 < above:
        middle = (below + above) // 2
        below, above = (middle, above) if number(middle).astype(kind) < bound else (below, middle)
    return number(below)


def tables():
    """The coefficients in the sources."""
    found = {}
    for file in (ROOT / "src").rglob("*.rs"):
        pattern = r"const (\w+): \[(f32|f64); (\d+)\] =\s*\[(.*?)\];"
        for name, kind, length, body in re.findall(pattern, file.read_text(encoding="utf-8"), re.DOTALL):
            numbers = [number.strip().replace("_", "") for number in body.split(",") if number.strip()]
            assert len(numbers) == int(length), name
            assert name not in found, name
            found[name] = [nearest_f32(Fraction(n)) if kind == "f32" else float(n) for n in numbers]
    return found


@pytest.fixture(scope="module")
def contract():
    """The names that the page defines."""
    text = (ROOT / "docs" / "stream-v2.md").read_text(encoding="utf-8")
    names = {
        "hashlib": hashlib,
        "math": math,
        "f32": f32,
        "fma": fma,
        "sqrt": sqrt,
        "bits": bits,
        "f32_of": lambda n: np.uint32(n).view(np.float32),
        "f64_of": lambda n: float(np.uint64(n).view(np.float64)),
        "signed32": lambda n: n - (n >> 31 << 32),
        "signed64": lambda n: n - (n >> 63 << 64),
        "up32": lambda x: directed(x, math.inf),
        "down32": lambda x: directed(x, -math.inf),
        "next_down": lambda x: math.nextafter(x, -math.inf),
        "M32": 2**32 - 1,
        **tables(),
    }
    for block in re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        exec(compile(block, "stream-v2.md", "exec"), names)
    return names


def expected(contract, distribution, dtype, first, length):
    """Elements `first` to `first + length` of a tensor, by the page alone; `first` is even."""
    name, *parameters = distribution
    stream = contract["stream_of"](STREAM)
    double = dtype == "float64"
    word = contract["word64" if double else "word32"]
    words = [word(SEED, stream, i) for i in range(first, first + length)]
    sample = contract[f"{name}_{'f64' if double else 'f32'}"]
    if name == "normal":
        values = [x for pair in zip(words[::2], words[1::2], strict=True) for x in sample(*pair, *parameters)]
    elif name == "uniform" and not double:
        values = [sample(word, *parameters, last_below(parameters[1], dtype)) for word in words]
    else:
        values = [sample(word, *parameters) for word in words]
    assert all(type(x) is (float if double else np.float32) for x in values)
    return np.array(values, np.float64 if double else np.float32).astype(dtype)


FUNCTIONS = {
    "uniform": fastinit.random_uniform,
    "normal": fastinit.random_normal,
    "truncated_normal": fastinit.truncated_normal,
}
DISTRIBUTIONS = [
    ("uniform", -0.05, 0.05),
    ("uniform", 1.0, 1.01),
    ("uniform", -3.0, 0.0),
    ("normal", 0.0, 1.0),
    ("normal", 0.5, 0.02),
    *(
        ("truncated_normal", 0.0, 0.02, lower, upper)
        for lower, upper in [
            (-2.0, 2.0),
            (-0.01, 0.01),
            (-3.0, 3.0),
            (-math.inf, math.inf),
            (-1.0, 2.0),
            (-2.0, 1e-9),
            (0.3, 1.7),
            (-2.0, 2.5),
            (-2.0, 4.0),
            (1.0, math.inf),
            (-math.inf, -4.0),
            (4.1, math.inf),
            (-1e-22, 1e-21),
            (-2.5, 2.0),
            (0.0, math.inf),
            (-math.inf, 0.0),
            (-math.inf, 1.0),
            (5.0, 6.0),
            (-6.0, -5.0),
            (8.0, math.inf),
            (29.0, 40.0),
            (50.0, math.inf),
            (-300.0, -299.99),
            (0.3, 0.30001),
        ]
    ),
    ("truncated_normal", 1.0, 0.3, -1.0, 3.0),
]


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
@pytest.mark.parametrize("distribution", DISTRIBUTIONS, ids=str)
def test_samples(contract, distribution, dtype):
    pytest.importorskip("ml_dtypes")
    name, *parameters = distribution
    too_narrow = {"float16": (-299.99, 0.30001, 1e-21), "bfloat16": (-299.99, 0.30001)}
    if distribution[-1] in too_narrow.get(dtype, ()):
        with pytest.raises(ValueError, match="two numbers"):
            FUNCTIONS[name](3, *parameters, dtype=dtype)
        return
    for first, length in [(0, 100), (2**40, 20), (2**63 - 22, 20)]:
        part = slice(first, first + length)
        made = FUNCTIONS[name](2**63, *parameters, seed=SEED, stream=STREAM, dtype=dtype, index=part)
        by_page = expected(contract, distribution, dtype, first, length)
        np.testing.assert_array_equal(bits_of_array(made), bits_of_array(by_page))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("bounds", [(0.0, 1.0), (-1.0, 0.0), (0.98, 1.001), (-1.004, -0.98)], ids=str)
def test_uniform_halves_do_not_reach_the_upper_bound(contract, bounds, dtype):
    pytest.importorskip("ml_dtypes")
    distribution = ("uniform", *bounds)
    made = fastinit.random_uniform(1000, *bounds, seed=SEED, stream=STREAM, dtype=dtype)
    by_page = expected(contract, distribution, dtype, 0, 1000)
    np.testing.assert_array_equal(bits_of_array(made), bits_of_array(by_page))
    assert made.astype(np.float64).max() < float(np.float64(bounds[1]).astype(np.float32).astype(dtype))


def test_words(contract):
    stream = contract["stream_of"](STREAM)
    words = [contract["word32"](SEED, stream, i) for i in range(100)]
    assert words == fastinit.random_bits(100, seed=SEED, stream=STREAM).tolist()
    words = [contract["word64"](SEED, stream, i) for i in range(100)]
    assert words == fastinit.random_bits(100, seed=SEED, stream=STREAM, dtype="uint64").tolist()


@pytest.mark.parametrize(("rows", "columns", "sparsity"), [(40, 7, 0.3), (5, 3, 1.0), (9, 300, 0.1)])
def test_sparse(contract, rows, columns, sparsity):
    made = fastinit.sparse((rows, columns), sparsity, 1.0, seed=SEED, stream=STREAM)
    values = expected(contract, ("normal", 0.0, 1.0), "float32", 0, rows * columns + rows * columns % 2)
    by_page = values[: rows * columns].reshape(rows, columns)
    stream = contract["stream_of"](STREAM)
    zeros = min(rows, math.ceil(sparsity * rows))
    for column in range(columns):
        for row in contract["zeros_of_column"](SEED, stream, rows, columns, column, zeros):
            by_page[row, column] = 0.0
    np.testing.assert_array_equal(bits_of_array(made), bits_of_array(by_page))
    assert ((made == 0.0).sum(axis=0) == zeros).all()


@pytest.mark.parametrize("mode", ["fan_in", "fan_out", "fan_avg", "fan_geo_avg"])
def test_scaled(mode):
    shape, scale, groups = (3, 3, 8, 32), 1.7, 2
    fan_in, fan_out = 8.0 * 9.0, 32.0 * 9.0 / groups
    fan = {
        "fan_in": fan_in,
        "fan_out": fan_out,
        "fan_avg": (fan_in + fan_out) / 2.0,
        "fan_geo_avg": math.sqrt(fan_in * fan_out),
    }[mode]
    variance = scale / max(1.0, fan)
    limit, stddev = math.sqrt(3.0 * variance), math.sqrt(variance)
    key = {"seed": SEED, "stream": STREAM, "dtype": "float64"}
    by_page = {
        "uniform": fastinit.random_uniform(shape, -limit, limit, **key),
        "untruncated_normal": fastinit.random_normal(shape, 0.0, stddev, **key),
        "truncated_normal": fastinit.truncated_normal(shape, 0.0, stddev / 0.8796256610342398, **key),
    }
    for distribution, values in by_page.items():
        made = fastinit.variance_scaling(shape, scale, mode, distribution, groups=groups, **key)
        np.testing.assert_array_equal(made, values)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
@pytest.mark.parametrize(("rows", "columns"), [(3, 2), (1, 1), (67, 66)])
def test_orthogonal(contract, rows, columns, dtype):
    """Whole small matrices; of one that has a second panel, a few columns on either side of its edge."""
    stream, real = contract["stream_of"](STREAM), f32 if dtype == "float32" else float
    panels = [contract["panel"](SEED, stream, rows, columns, first, real) for first in range(0, columns, 64)]
    matrix = fastinit.orthogonal((rows, columns), 0.7, seed=SEED, stream=STREAM, dtype=dtype)
    wide = fastinit.orthogonal((columns, rows), 0.7, seed=SEED, stream=STREAM, dtype=dtype)
    if rows > columns:
        np.testing.assert_array_equal(bits_of_array(wide), bits_of_array(matrix.T))
    for column in {0, 1, 63, 64, columns - 1} & set(range(columns)):
        values = contract["orthogonal_column"](panels, rows, column, 0.7, real)
        got = bits_of_array(np.ascontiguousarray(matrix[:, column]))
        np.testing.assert_array_equal(bits_of_array(np.array(values, dtype)), got)
