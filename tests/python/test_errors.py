"""Bad input: refused with an error that names the value and the rule, before anything is written."""

import inspect
import itertools
import random

import numpy as np
import pytest

import fastinit
from fastinit._registry import NAMES, PRESETS, class_name

NAN, INF = float("nan"), float("inf")


class NoReprError(Exception):
    pass


class Broken:
    """An object without a usable repr."""

    def __repr__(self):
        raise NoReprError


@pytest.mark.parametrize(
    ("shape", "error", "message"),
    [
        (-1, ValueError, r"shape must be an int or a sequence of ints, each in \[0, 2\*\*64\), got -1"),
        ((2, -3), ValueError, r"shape\[1\] must be an int in \[0, 2\*\*64\), got -3"),
        (2**64, ValueError, r"got 18446744073709551616"),
        ((2, 10**100), ValueError, r"shape\[1\] must be an int in \[0, 2\*\*64\), got 1000"),
        (2.0, TypeError, r"shape must be an int or a sequence of ints, .*got 2.0"),
        ((2, 3.0), TypeError, r"shape\[1\] must be an int .*got 3.0"),
        (np.float32(2), TypeError, r"shape must be .*2.0"),
        (np.array([2.0, 3.0]), TypeError, r"shape\[0\] must be an int"),
        (True, TypeError, r"shape must be .*got True"),
        ((2, False), TypeError, r"shape\[1\] must be an int .*got False"),
        ((2, np.True_), TypeError, r"shape\[1\] must be an int"),
        (None, TypeError, r"shape must be .*got None"),
        ("23", TypeError, r"shape\[0\] must be an int .*got '2'"),
        ((2, "3"), TypeError, r"got '3'"),
        ((2, (3,)), TypeError, r"got \(3,\)"),
        ({2, 3}, TypeError, r"shape must be .*got \{2, 3\}"),
        (iter([2, 3]), TypeError, r"shape must be .*iterator"),
        ((1,) * 33, ValueError, r"shape must have at most 32 dimensions, got 33"),
        ([1] * 10000, ValueError, r"shape must have at most 32 dimensions, got 10000"),
        (range(100), ValueError, r"shape must have at most 32 dimensions, got 100"),
        (
            (2**32, 2**32),
            ValueError,
            r"shape \[4294967296, 4294967296\] has more than 9223372036854775808 elements",
        ),
        (Broken(), TypeError, r"an object of type Broken"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_shapes(shape, error, message):
    for function in (fastinit.random_normal, fastinit.zeros, fastinit.random_bits):
        with pytest.raises(error, match=message):
            function(shape)


@pytest.mark.parametrize("shape", [2**45, 2**61, 2**62, 2**63, (2**31, 2**31), (2**62, 2)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "bfloat16"])
def test_more_memory_than_there_is(shape, dtype):
    with pytest.raises((MemoryError, ValueError), match="bytes"):
        fastinit.random_normal(shape, dtype=dtype)
    with pytest.raises((MemoryError, ValueError), match="bytes"):
        fastinit.identity(
            (shape, 2) if isinstance(shape, int) and shape < 2**62 else (2**31, 2**31), dtype=dtype
        )


def test_empty_shapes_that_numpy_cannot_make():
    for shape in [(0, 2**62, 4), (2**63, 0), (2**63 - 1, 0, 2)]:
        with pytest.raises(ValueError, match=r"the result must be at most 9223372036854775807 bytes"):
            fastinit.zeros(shape)


@pytest.mark.parametrize(
    "dtype",
    ["float", "f4", "int8", "", "Float32", "\ud800", np.int32, np.dtype(">f4"), np.dtype("f4,f4"), bool],
)
def test_dtypes_that_are_not_offered(dtype):
    with pytest.raises(ValueError, match=r"dtype|surrogates"):
        fastinit.random_normal(3, dtype=dtype)


@pytest.mark.parametrize("dtype", [5, object(), 1.5, [1]])
def test_objects_that_are_no_dtype(dtype):
    with pytest.raises(TypeError, match=r"dtype must be 'float32', 'float64', 'float16' or 'bfloat16', got"):
        fastinit.random_normal(3, dtype=dtype)


@pytest.mark.parametrize("dtype", ["float32", "int32", np.int64, np.dtype(">u4")])
def test_dtypes_that_are_not_offered_for_bits(dtype):
    with pytest.raises(ValueError, match="dtype must be 'uint32' or 'uint64'"):
        fastinit.random_bits(3, dtype=dtype)


@pytest.mark.parametrize(
    ("threads", "error"),
    [(0, ValueError), (-1, ValueError), (2**64, ValueError), (True, TypeError), (1.5, TypeError)],
)
def test_threads(threads, error):
    with pytest.raises(error, match="threads must be an int of at least 1, or None, got"):
        fastinit.random_normal(3, threads=threads)
    with pytest.raises(error, match="threads must be an int of at least 1, or None, got"):
        fastinit.set_num_threads(threads)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            "random_uniform(S, 1, 0)",
            ValueError,
            "minval must be less than maxval, got minval=1.0 and maxval=0.0",
        ),
        (
            "random_uniform(S, 1, 1)",
            ValueError,
            "minval must be less than maxval, got minval=1.0 and maxval=1.0",
        ),
        ("random_uniform(S, NAN, 1)", ValueError, "minval must be finite, got NaN"),
        ("random_uniform(S, 0, INF)", ValueError, "maxval must be finite, got inf"),
        ("random_uniform(S, 1, 1 + 1e-9)", ValueError, "maxval - minval must be a normal number of float32"),
        ("random_uniform(S, -3e38, 3e38)", ValueError, "maxval - minval must be a normal number of float32"),
        ("random_uniform(S, -1e308, 1e308, dtype='float64')", ValueError, "a normal number of float64"),
        (
            "random_uniform(S, 1, 1.001, dtype='bfloat16')",
            ValueError,
            "must differ in bfloat16, got minval=1.0 and",
        ),
        ("random_normal(S, NAN)", ValueError, "mean must be finite, got NaN"),
        ("random_normal(S, 1e39)", ValueError, "mean must be finite in float32, got 1e39"),
        ("random_normal(S, 0, 0)", ValueError, "stddev must be positive and finite, got 0.0"),
        ("random_normal(S, 0, -1)", ValueError, "stddev must be positive and finite, got -1.0"),
        ("random_normal(S, 0, NAN)", ValueError, "stddev must be positive and finite, got NaN"),
        ("random_normal(S, 0, INF)", ValueError, "stddev must be positive and finite, got inf"),
        ("random_normal(S, 0, 1e-50)", ValueError, "stddev must be a normal number of float32 .*got 1e-50"),
        ("random_normal(S, 0, 1e50)", ValueError, "stddev must be a normal number of float32 .*got 1e50"),
        (
            "random_normal(S, 0, 3.4e38)",
            ValueError,
            "the largest element must be finite in float32, .*3.4e38",
        ),
        ("random_normal(S, 3.4e38, 1e37)", ValueError, "the largest element must be finite in float32"),
        ("random_normal(S, -3.4e38, 1e37)", ValueError, "the largest element must be finite in float32"),
        ("random_normal(S, 0, 2e307, dtype='float64')", ValueError, "must be finite in float64"),
        ("random_normal(S, 0, 1e4, dtype='float16')", ValueError, "must be finite in float16, .*10000"),
        ("random_normal(S, 0, 1e38, dtype='bfloat16')", ValueError, "must be finite in bfloat16"),
        ("random_uniform(S, 0, 1e5, dtype='float16')", ValueError, "maxval must be finite in float16"),
        ("random_uniform(S, -1e5, 0, dtype='float16')", ValueError, "minval must be finite in float16"),
        ("sparse(S, 0.5, 1e38)", ValueError, "the largest element must be finite in float32"),
        ("identity(S, 1e5, dtype='float16')", ValueError, "gain must be finite in float16, got 100000"),
        ("orthogonal(S, 1e5, dtype='float16')", ValueError, "gain must be finite in float16, got 100000"),
        ("variance_scaling(S, 1e77)", ValueError, "must be finite in float32"),
        ("variance_scaling(S, 1e12, distribution='uniform', dtype='float16')", ValueError, "in float16"),
        (
            "truncated_normal(S, 1, 1, 0, 1e-9)",
            ValueError,
            "the bounds must have two numbers of float32 between them, got lower=0.0 and upper=1e-9",
        ),
        ("truncated_normal(S, 1, 1, 1e-9, 2e-9)", ValueError, "two numbers of float32"),
        ("truncated_normal(S, 1, 1, 1e-17, 2e-17, dtype='float64')", ValueError, "two numbers of float64"),
        ("truncated_normal(S, 1, 1, 0.0, 1e-3, dtype='bfloat16')", ValueError, "two numbers of bfloat16"),
        ("truncated_normal(S, 0, 1, 1e300, INF)", ValueError, "the elements must be finite in float32"),
        ("truncated_normal(S, 0, 1e30, -INF, -1e20)", ValueError, "the elements must be finite in float32"),
        ("truncated_normal(S, 0, 3e38)", ValueError, "the elements must be finite in float32"),
        (
            "truncated_normal(S, 0, 4e4, dtype='float16')",
            ValueError,
            "the elements must be finite in float16",
        ),
        ("random_normal(S, '0')", TypeError, "mean must be a real number, got '0'"),
        ("random_normal(S, 1j)", TypeError, "mean must be a real number, got 1j"),
        ("random_normal(S, None)", TypeError, "mean must be a real number, got None"),
        (
            "random_normal(S, 10**400)",
            ValueError,
            "mean must be a real number within the range of float64, got 1000",
        ),
        (
            "truncated_normal(S, 0, 1, 2, 2)",
            ValueError,
            "lower must be less than upper, got lower=2.0 and upper=2.0",
        ),
        (
            "truncated_normal(S, 0, 1, 2, -2)",
            ValueError,
            "lower must be less than upper, got lower=2.0 and upper=-2.0",
        ),
        ("truncated_normal(S, 0, 1, NAN, 2)", ValueError, "lower must be less than upper, got lower=NaN"),
        ("truncated_normal(S, 0, 1, INF, INF)", ValueError, "lower must be less than upper"),
        ("truncated_normal(S, 0, 0)", ValueError, "stddev must be positive"),
        ("sparse(S, -0.1)", ValueError, r"sparsity must lie in \[0, 1\], got -0.1"),
        ("sparse(S, 1.1)", ValueError, r"sparsity must lie in \[0, 1\], got 1.1"),
        ("sparse(S, NAN)", ValueError, r"sparsity must lie in \[0, 1\], got NaN"),
        ("sparse(S, 0.5, 0)", ValueError, "stddev must be positive"),
        ("sparse((4,), 0.5)", ValueError, r"sparse needs a shape of 2 dimensions, got shape \[4\]"),
        ("identity(S, NAN)", ValueError, "gain must be finite, got NaN"),
        ("identity((2, 3, 4))", ValueError, r"identity needs a shape of 2 dimensions, got shape \[2, 3, 4\]"),
        ("constant(S, 'x')", TypeError, "value must be a real number, got 'x'"),
        ("constant(S, [1.0])", TypeError, r"value must be a real number, got \[1.0\]"),
        ("constant(S, np.array([[1]]))", TypeError, r"value must be a real number, got array\(\[\[1"),
        ("dirac(S)", ValueError, r"dirac needs a shape of 3, 4 or 5 dimensions .*got shape \[4, 6\]"),
        ("dirac((3, 2, 4), 0)", ValueError, "groups must be at least 1, got 0"),
        ("dirac((3, 2, 4), -1)", ValueError, "groups must be an int of at least 1, got -1"),
        (
            "dirac((3, 2, 4), 3)",
            ValueError,
            "the outputs must be divisible by groups; got 4 outputs .*groups=3",
        ),
        ("dirac((3, 2, 4), 2.0)", TypeError, "groups must be an int of at least 1, got 2.0"),
        ("dirac((3, 2, 4), True)", TypeError, "groups must be an int of at least 1, got True"),
        ("variance_scaling(S, 0)", ValueError, "scale must be positive and finite, got 0.0"),
        ("variance_scaling(S, INF)", ValueError, "scale must be positive and finite, got inf"),
        ("variance_scaling(S, 1, 'fan')", ValueError, "mode must be one of 'fan_in', .*; got 'fan'"),
        ("variance_scaling(S, 1, None)", TypeError, "mode must be a str, got None"),
        (
            "variance_scaling(S, 1, 'fan_in', 'gamma')",
            ValueError,
            "distribution must be one of .*; got 'gamma'",
        ),
        (
            "variance_scaling(S, 1, 'fan_in', 'normal')",
            ValueError,
            "Keras means 'truncated_normal' by it, JAX 'untruncated_normal'",
        ),
        ("he_normal(4)", ValueError, r"fans need a shape of at least 2 dimensions .*got shape \[4\]"),
        ("he_normal(())", ValueError, r"fans need a shape of at least 2 dimensions .*got shape \[\]"),
        ("he_normal(S, in_axis=2)", ValueError, r"in_axis must lie in \[-2, 2\) .* got 2"),
        ("he_normal(S, out_axis=-3)", ValueError, r"out_axis must lie in \[-2, 2\) .* got -3"),
        ("he_normal(S, in_axis=10**30)", ValueError, "in_axis must be an int or a sequence of ints"),
        (
            "he_normal(S, in_axis=1)",
            ValueError,
            "must name different axes; out_axis -1 .* is already in in_axis",
        ),
        ("he_normal(S, in_axis=(0, -2))", ValueError, "must name different axes"),
        ("he_normal(S, batch_axis=[0])", ValueError, "must name different axes; batch_axis 0"),
        ("he_normal(S, in_axis=0.0)", TypeError, "in_axis must be an int or a sequence of ints, got 0.0"),
        (
            "he_normal(S, groups=4)",
            ValueError,
            r"the outputs must be divisible by groups; got 6 outputs .*groups=4",
        ),
        ("he_normal(S, groups=0)", ValueError, "groups must be at least 1, got 0"),
    ],
)
def test_parameters(call, error, message):
    names = {**vars(fastinit), "S": (4, 6), "NAN": NAN, "INF": INF, "np": np}
    with pytest.raises(error, match=message):
        eval(call, names)
    # The same, into an array: it stays as it was.
    for shape in [(4, 6), (4,), (2, 3, 4), (3, 2, 4), ()]:
        out = np.full(shape, 7.0, np.float32)
        with pytest.raises((ValueError, TypeError)):
            eval(call[:-1] + ", out=OUT)", {**names, "OUT": out})
        assert (out == 7).all()


def test_what_the_dtype_cannot_hold_float64_can():
    assert fastinit.random_normal(3, 0, 1e-50, dtype="float64", seed=1).all()
    assert fastinit.random_normal(3, 1e300, 1e290, dtype="float64", seed=1).all()
    assert fastinit.random_uniform(3, 1, 1 + 1e-9, dtype="float64", seed=1).all()


def test_unknown_arguments_are_refused():
    with pytest.raises(TypeError, match="unexpected keyword argument 'name'"):
        fastinit.zeros(3, name="x")
    for name in ("self", "cls", "options", "initializer", "parameters", "shape", "config"):
        for one in NAMES:
            kind, needed = class_name(one), {"sparsity": 0.5} if one == "sparse" else {}
            with pytest.raises(TypeError, match=rf"^{kind}\(\) got an unexpected keyword argument '{name}'$"):
                fastinit.get({"class_name": kind, "config": {**needed, name: 3}})
    for one, name in itertools.product(PRESETS, ("scale", "mode", "distribution")):
        with pytest.raises(TypeError, match=f"unexpected keyword argument '{name}'"):
            fastinit.get({"class_name": one, "config": {name: 3}})
    with pytest.raises(TypeError, match="positional"):
        fastinit.he_normal((3, 3), 0)


def test_errors_of_the_arguments_themselves_come_through():
    class Size:
        def __index__(self):
            raise LookupError("from the size")

    class Number:
        def __float__(self):
            raise LookupError("from the number")

    with pytest.raises(LookupError, match="from the size"):
        fastinit.zeros((2, Size()))
    with pytest.raises(LookupError, match="from the number"):
        fastinit.constant(3, Number())


def test_long_values_are_shortened_in_messages():
    with pytest.raises(TypeError) as caught:
        fastinit.constant(3, "x" * 10000)
    assert len(str(caught.value)) < 200


def test_bfloat16_without_its_package(python):
    message = python(
        """
        import sys
        sys.modules["ml_dtypes"] = None
        import fastinit
        try:
            fastinit.zeros(3, dtype="bfloat16")
        except ImportError as error:
            print(error, "|", type(error.__cause__).__name__)
        fastinit.zeros(3, dtype="float16")
        """
    )
    assert message.startswith("dtype 'bfloat16' needs the package ml_dtypes")
    assert 'pip install "fastinit-nn[bf16]"' in message
    assert message.strip().endswith("| ModuleNotFoundError")


class Odd:
    """Counts as an int, a float and a sequence of itself."""

    def __index__(self):
        return -7

    def __float__(self):
        return NAN

    def __len__(self):
        return 3

    def __getitem__(self, position):
        return self

    def __repr__(self):
        return "\ud800" * 200


ODD = [
    *(0, 1, -1, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, -(2**63), 10**50, True, None, ...),
    *(1.5, NAN, -INF, 5e-324, 1j, "", "x", "float32", "uint64", "fan_in", b"x", memoryview(b"\x01\x02")),
    *([], (), [1], (2, 3), (3, 0), (1,) * 32, (1,) * 33, {}, {1: 2}, {1}, range(3), iter([1])),
    *(slice(None), slice(1, 2), slice(-1, None, -1), slice("a"), object(), int, Odd(), Broken()),
    *(np.float32(2), np.int8(3), np.uint64(2**64 - 1), np.True_, np.datetime64("2020"), np.array("a")),
    *(np.array(3), np.array([2, 3]), np.array([[1]]), np.random.SeedSequence(3)),
    *(np.float32, np.dtype(">f4"), np.dtype("V2"), np.ones((2, 3), "f4"), np.ones((3, 2), "f4").T),
]


def test_any_arguments_give_a_result_or_an_ordinary_error():
    rng = random.Random("odd")
    guidance = {"compare", "diagnose", "gain", "recommend", "show", "signal"}  # has tests of its own
    functions = [
        getattr(fastinit, name)
        for name in fastinit.__all__
        if name[0].islower() and name != "set_num_threads" and name not in guidance
    ]
    results = refusals = 0
    for _ in range(20_000):
        function = rng.choice(functions)
        names = list(inspect.signature(function).parameters)
        usual = {"shape": (2, 3), "value": 1.0, "sparsity": 0.5, "identifier": "zeros"}
        arguments = {name: usual[name] for name in names if name in usual}
        for name in rng.sample(names, min(len(names), rng.choice([1, 1, 2, 3]))):
            arguments[name] = rng.choice(ODD)
        # Anything else that is raised, a panic too, fails the test.
        try:
            function(**arguments)
        except NoReprError:
            assert any(isinstance(value, Broken) for value in arguments.values())
        except (ValueError, TypeError, MemoryError):
            refusals += 1
        else:
            results += 1
    assert results > 2000
    assert refusals > 2000


@pytest.mark.parametrize("dtype", ["float32", "float64", "float16", "bfloat16"])
def test_what_is_just_in_range_is_finite(dtype):
    greatest = float(
        {"float16": 65504.0, "bfloat16": 3.3895e38, "float32": 3.4e38, "float64": 1.79e308}[dtype]
    )
    reach = 9.42 if dtype == "float64" else 6.56
    for made in (
        fastinit.random_normal(2**16, 0, greatest / reach, dtype=dtype, seed=0),
        fastinit.random_normal(2**16, greatest / 2, greatest / 2 / reach, dtype=dtype, seed=0),
        fastinit.truncated_normal(2**16, 0, greatest / 2.001, dtype=dtype, seed=0),
        fastinit.truncated_normal(2**16, 0, greatest / 10, -np.inf, np.inf, dtype=dtype, seed=0),
    ):
        assert np.isfinite(made.astype(np.float64)).all()
