"""`fastinit.torch` against `torch.nn.init` itself: the same but for the values of random elements.

Distributions are tested by Kolmogorov and Smirnov at fixed seeds. There are fewer than 1000 p-values, and a
test fails where one is below 1e-10, so over random seeds right distributions would fail in less than one run
in ten million.
"""

import contextlib
import copy
import functools
import inspect
import itertools
import math
import pickle
import threading
import warnings

import numpy as np
import pytest
from scipy import integrate, special, stats

torch = pytest.importorskip("torch")
ml_dtypes = pytest.importorskip("ml_dtypes")

import fastinit  # noqa: E402
import fastinit.torch as init  # noqa: E402
from fastinit.torch import _fill  # noqa: E402

reference = torch.nn.init
Parameter = torch.nn.Parameter

ALPHA = 1e-10
INF = float("inf")
NAN = float("nan")

NUMPY = {
    torch.float32: "float32",
    torch.float64: "float64",
    torch.float16: "float16",
    torch.bfloat16: "bfloat16",
}
DTYPES = list(NUMPY)
OTHER_DTYPES = [torch.int32, torch.bool, torch.complex64, torch.complex128, torch.float8_e4m3fn]

PRIVATE = [
    "_calculate_correct_fan",
    "_calculate_fan_in_and_fan_out",
    "_no_grad_fill_",
    "_no_grad_normal_",
    "_no_grad_trunc_normal_",
    "_no_grad_uniform_",
    "_no_grad_zero_",
]
OLD_NAMES = [name for name in reference.__all__ if not name.endswith("_") and name != "calculate_gain"]

# One call of each function that draws: its name, and its arguments after the tensor.
RANDOM = [
    ("uniform_", (-1.0, 2.0)),
    ("normal_", (0.5, 2.0)),
    ("trunc_normal_", (0.1, 0.5, -0.7, 0.4)),
    ("trunc_normal_tf_", (0.1, 0.5)),
    ("xavier_uniform_", (1.5,)),
    ("xavier_normal_", (1.5,)),
    ("kaiming_uniform_", (0.2,)),
    ("kaiming_normal_", (0.2, "fan_out")),
    ("variance_scaling_", (2.0, "fan_avg", "truncated_normal")),
    ("lecun_normal_", ()),
    ("orthogonal_", (0.5,)),
    ("sparse_", (0.3, 0.1)),
]
FIXED = [("constant_", (0.3,)), ("ones_", ()), ("zeros_", ()), ("eye_", ())]

# Those that do more to a tensor than fill it with one operation.
COMPUTED = {"trunc_normal_", "trunc_normal_tf_", "variance_scaling_", "lecun_normal_"}
COMPUTED |= {"orthogonal_", "sparse_"}

any_random = pytest.mark.parametrize(("name", "arguments"), RANDOM, ids=[name for name, _ in RANDOM])
any_dtype = pytest.mark.parametrize("dtype", DTYPES, ids=NUMPY.values())


@pytest.fixture(autouse=True)
def _seeded():
    torch.manual_seed(0)


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def seed_of(seed=0):
    """The seed that a fill draws from a generator with this seed."""
    word = torch.empty((), dtype=torch.int64).random_(-(2**63), None, generator=generator(seed))
    return word.item() % 2**64


def array(tensor):
    tensor = tensor.detach()
    if tensor.dtype is torch.bfloat16:
        return tensor.contiguous().view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return tensor.numpy()


def call(module, name, *arguments, **keywords):
    """What a call returns, or the error it raises, and its warnings."""
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        try:
            result = getattr(module, name)(*arguments, **keywords)
        except Exception as error:
            result = error
    return result, [(warning.category, str(warning.message)) for warning in seen]


# Names and signatures


def test_has_every_name():
    assert set(reference.__all__) <= set(init.__all__)
    assert all(callable(getattr(init, name)) for name in [*init.__all__, *PRIVATE])


@pytest.mark.parametrize("name", [*reference.__all__, *PRIVATE])
def test_signatures(name):
    def signature(module):
        parameters = inspect.signature(getattr(module, name)).parameters.values()
        return [(p.name, p.kind, p.default, type(p.default)) for p in parameters]

    assert signature(init) == signature(reference)
    assert getattr(init, name).__name__ == getattr(reference, name).__name__


@pytest.mark.parametrize("name", init.__all__)
def test_docstrings(name):
    assert getattr(init, name).__doc__


@pytest.mark.parametrize("name", [n for n in init.__all__ if n.endswith("_")])
def test_functions_can_be_pickled(name):
    function = getattr(init, name)
    assert pickle.loads(pickle.dumps(function)) is function


@pytest.mark.parametrize("name", OLD_NAMES)
def test_old_names_are_deprecated(name):
    arguments = {"constant": (0.3,), "sparse": (0.3,)}.get(name, ())
    shape = (4, 4, 3) if name == "dirac" else (4, 4)
    with pytest.warns(FutureWarning) as seen:
        old = getattr(init, name)(torch.empty(shape), *arguments)
    assert seen[0].filename == __file__
    assert [(w.category, str(w.message)) for w in seen] == call(
        reference, name, torch.empty(shape), *arguments
    )[1]
    torch.manual_seed(0)
    assert torch.equal(old, getattr(init, f"{name}_")(torch.empty(shape), *arguments))


def test_import_of_fastinit_loads_no_torch(python):
    program = """
        import sys, fastinit
        assert "torch" not in sys.modules
        import fastinit.torch
        assert "torch" in sys.modules
    """
    python(program)


# Values


def expected(name, arguments, shape, dtype="float64", seed=0):
    """What the public functions of fastinit give for a call."""
    key = {"seed": seed_of(seed), "dtype": dtype}
    axes = {"in_axis": 1, "out_axis": 0}
    fan_in, fan_out = math.prod(shape[1:]), shape[0] * math.prod(shape[2:])
    if name == "uniform_":
        return fastinit.random_uniform(shape, *arguments, **key)
    if name == "normal_":
        return fastinit.random_normal(shape, *arguments, **key)
    if name == "trunc_normal_":
        mean, std, a, b = arguments
        return fastinit.truncated_normal(shape, mean, std, (a - mean) / std, (b - mean) / std, **key)
    if name == "trunc_normal_tf_":
        return fastinit.truncated_normal(shape, *arguments, **key)
    if name == "xavier_uniform_":
        bound = math.sqrt(3) * (arguments[0] * math.sqrt(2 / (fan_in + fan_out)))
        return fastinit.random_uniform(shape, -bound, bound, **key)
    if name == "xavier_normal_":
        return fastinit.random_normal(shape, 0, arguments[0] * math.sqrt(2 / (fan_in + fan_out)), **key)
    if name == "kaiming_uniform_":
        bound = math.sqrt(3) * (math.sqrt(2 / (1 + arguments[0] ** 2)) / math.sqrt(fan_in))
        return fastinit.random_uniform(shape, -bound, bound, **key)
    if name == "kaiming_normal_":
        return fastinit.random_normal(
            shape, 0, math.sqrt(2 / (1 + arguments[0] ** 2)) / math.sqrt(fan_out), **key
        )
    if name == "variance_scaling_":
        return fastinit.variance_scaling(shape, *arguments, **axes, **key)
    if name == "lecun_normal_":
        return fastinit.lecun_normal(shape, **axes, **key)
    if name == "orthogonal_":
        return fastinit.orthogonal(shape, *arguments, column_axis=0, **key)
    assert name == "sparse_"
    return fastinit.sparse(shape, *arguments, **key)


@any_dtype
@any_random
def test_values_are_those_of_fastinit(name, arguments, dtype):
    tensor = torch.full((40, 30), NAN, dtype=dtype)
    place = tensor.data_ptr()
    assert getattr(init, name)(tensor, *arguments) is tensor
    assert tensor.data_ptr() == place
    np.testing.assert_array_equal(array(tensor), expected(name, arguments, (40, 30), NUMPY[dtype]))


@any_dtype
@any_random
def test_layout_does_not_matter(name, arguments, dtype):
    function = getattr(init, name)
    plain = function(torch.empty(6, 8, dtype=dtype), *arguments, generator=generator())
    whole = torch.zeros(16, 32, dtype=dtype)
    for target in (
        torch.empty(8, 6, dtype=dtype).T,
        whole[3:9, 1:9],
        whole[2:14:2, 4:28:3],
        whole.view(-1)[1:49].view(6, 8),
        torch.empty(8, 6, 2, dtype=dtype)[..., 1].T,
    ):
        function(target, *arguments, generator=generator())
        assert torch.equal(target, plain)
    whole.fill_(7)
    function(whole[2:14:2, 4:28:3], *arguments, generator=generator())
    whole[2:14:2, 4:28:3] = 7
    assert (whole == 7).all()


@any_dtype
@any_random
def test_channels_last(name, arguments, dtype):
    if name == "sparse_":
        return
    function = getattr(init, name)
    plain = function(torch.empty(4, 6, 3, 5, dtype=dtype), *arguments, generator=generator())
    last = torch.empty(4, 6, 3, 5, dtype=dtype).to(memory_format=torch.channels_last)
    function(last, *arguments, generator=generator())
    assert last.is_contiguous(memory_format=torch.channels_last)
    assert torch.equal(last, plain)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=["float16", "bfloat16"])
@any_random
def test_halves_are_rounded_float32(name, arguments, dtype):
    function = getattr(init, name)
    if name in ("uniform_", "xavier_uniform_", "kaiming_uniform_"):
        pytest.skip("the upper bound does not occur, which wins over rounding")
    single = function(torch.empty(50, 40), *arguments, generator=generator())
    half = function(torch.empty(50, 40, dtype=dtype), *arguments, generator=generator())
    assert torch.equal(half, single.to(dtype))


def test_scalars():
    assert torch.equal(
        init.normal_(torch.empty(()), generator=generator()),
        init.normal_(torch.empty(1), generator=generator())[0],
    )


def test_many_dimensions():
    tensor = torch.zeros([1] * 40 + [5])
    assert init.normal_(tensor).unique().numel() == 5


@any_random
def test_threads_do_not_matter(name, arguments):
    function = getattr(init, name)
    shape = (600, 500) if name == "orthogonal_" else (1500, 1000)
    plain = function(torch.empty(shape), *arguments, generator=generator())
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        assert torch.equal(function(torch.empty(shape), *arguments, generator=generator()), plain)
    finally:
        torch.set_num_threads(before)


def test_number_of_threads_is_the_lesser_one(monkeypatch):
    asked = []
    monkeypatch.setattr(fastinit.RandomNormal, "__call__", lambda *_, threads, **__: asked.append(threads))
    for ours, theirs in [(3, 5), (5, 3)]:
        monkeypatch.setattr(fastinit, "get_num_threads", lambda n=ours: n)
        monkeypatch.setattr(torch, "get_num_threads", lambda n=theirs: n)
        init.normal_(torch.empty(2))
    assert asked == [3, 3]


@pytest.mark.parametrize("dtype", [*DTYPES, *OTHER_DTYPES], ids=str)
@pytest.mark.parametrize(("name", "arguments"), FIXED, ids=[name for name, _ in FIXED])
def test_fixed_values_equal_torch(name, arguments, dtype):
    for shape in [(3, 5), (5, 3), (0, 2), (1, 1)]:
        ours, theirs = (torch.full(shape, 7).to(dtype) for _ in range(2))
        assert getattr(init, name)(ours, *arguments) is ours
        getattr(reference, name)(theirs, *arguments)
        assert torch.equal(ours.to(torch.complex128), theirs.to(torch.complex128))


@pytest.mark.parametrize("dtype", [*DTYPES, *OTHER_DTYPES], ids=str)
@pytest.mark.parametrize("groups", [1, 2, 3])
@pytest.mark.parametrize(
    "shape",
    [(6, 4, 3), (6, 2, 4), (6, 8, 2, 3), (12, 3, 1, 4), (6, 1, 3, 3, 2), (6, 0, 3), (0, 6, 3)],
    ids=str,
)
def test_dirac_equals_torch(shape, groups, dtype):
    theirs = reference.dirac_(torch.ones(shape).to(dtype), groups)
    for ours in (
        torch.ones(shape).to(dtype),
        torch.ones(shape[::-1]).to(dtype).permute(*range(len(shape))[::-1]),
    ):
        assert init.dirac_(ours, groups) is ours
        assert torch.equal(ours.to(torch.complex128), theirs.to(torch.complex128))


# Distributions


def check_distribution(tensor, distribution):
    sample = np.sort(array(tensor).astype(np.float64).ravel())
    p = stats.kstest(sample, distribution.cdf).pvalue
    assert p >= ALPHA, f"p = {p:.2g}"


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64], ids=["float32", "float64"])
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("uniform_", ()),
        ("uniform_", (-3.0, 5.0)),
        ("normal_", ()),
        ("normal_", (-1.0, 0.02)),
        ("trunc_normal_", ()),
        ("trunc_normal_", (0.0, 0.02)),
        ("trunc_normal_", (0.0, 1.0, 2.0, 3.0)),
        ("trunc_normal_", (1.0, 0.5, -INF, 1.2)),
        ("trunc_normal_", (0.0, 1.0, 5.0, INF)),
        ("xavier_uniform_", (2.0,)),
        ("xavier_normal_", (2.0,)),
        ("kaiming_uniform_", (0.1, "fan_out")),
        ("kaiming_uniform_", (0.0, "fan_in", "tanh")),
        ("kaiming_normal_", (math.sqrt(5),)),
        ("kaiming_normal_", (0.0, "FAN_OUT", "selu")),
    ],
    ids=str,
)
@pytest.mark.filterwarnings("ignore:mean is more than 2 std")
def test_distributions_are_those_of_torch(name, arguments, dtype):
    shape = (32, 16, 5, 40)
    ours = getattr(init, name)(torch.empty(shape, dtype=dtype), *arguments)
    fan_in, fan_out = 16 * 5 * 40, 32 * 5 * 40
    if name == "uniform_":
        a, b = arguments or (0.0, 1.0)
        distribution = stats.uniform(a, b - a)
    elif name == "normal_":
        distribution = stats.norm(*arguments)
    elif name == "trunc_normal_":
        mean, std, a, b = (*arguments, *(0.0, 1.0, -2.0, 2.0)[len(arguments) :])
        distribution = stats.truncnorm((a - mean) / std, (b - mean) / std, mean, std)
    else:
        if name.startswith("xavier"):
            std = arguments[0] * math.sqrt(2 / (fan_in + fan_out))
        else:
            slope, mode, nonlinearity = (*arguments, *(0, "fan_in", "leaky_relu")[len(arguments) :])
            gain = reference.calculate_gain(nonlinearity, slope)
            std = gain / math.sqrt(fan_in if mode == "fan_in" else fan_out)
        bound = math.sqrt(3) * std
        distribution = stats.uniform(-bound, 2 * bound) if "uniform" in name else stats.norm(0, std)
    check_distribution(ours, distribution)
    # It is the right one to compare with, since torch's own sample has it, too. torch takes no infinity.
    if arguments[-1:] != (INF,):
        theirs = getattr(reference, name)(torch.empty(shape, dtype=dtype), *arguments)
        check_distribution(theirs, distribution)


@pytest.mark.parametrize(
    ("distribution", "mode"),
    [("normal", "fan_in"), ("truncated_normal", "fan_out"), ("uniform", "fan_avg")],
)
def test_law_of_variance_scaling(distribution, mode):
    w = init.variance_scaling_(torch.empty(200, 100, 3), 2.5, mode, distribution)
    std = math.sqrt(2.5 / {"fan_in": 300, "fan_out": 600, "fan_avg": 450}[mode])
    if distribution == "normal":
        check_distribution(w, stats.norm(0, std))
    elif distribution == "uniform":
        check_distribution(w, stats.uniform(-math.sqrt(3) * std, 2 * math.sqrt(3) * std))
    else:
        check_distribution(w, stats.truncnorm(-2, 2, 0, std / 0.87962566103423978))


@any_dtype
@pytest.mark.parametrize(
    ("mean", "std", "a", "b"),
    [
        (0.1, 0.3, 0.05, 0.1000001),
        (1.0, 1.0, 1e-20, 1.7),
        (1 / 3, 1 / 7, 0.1, 0.7),
        (-5.3, 1.1, -5.2, -5.1),
        (1e3, 0.7, 999.9, 1000.3),
        (0.0, 0.02, -0.06, 0.06),
    ],
)
def test_truncated_normal_keeps_to_its_bounds(mean, std, a, b, dtype):
    w = init.trunc_normal_(torch.empty(100_000, dtype=dtype), mean, std, a, b)
    low, high = torch.tensor([a, b], dtype=dtype)
    if dtype in (torch.float32, torch.float64):  # Others may be rounded onto the rounded bounds.
        assert w.double().min() >= a
        assert w.double().max() <= b
    assert w.min() >= low
    assert w.max() <= high


@pytest.mark.filterwarnings("ignore:mean is more than 2 std")
def test_bounds_of_a_truncated_normal_come_back():
    rng = np.random.default_rng(0)
    for mean, std, a, width in rng.normal(size=(500, 4)) * 10.0 ** rng.integers(-12, 12, (500, 4)):
        std, width = abs(std), abs(width)
        w = init.trunc_normal_(torch.empty(200, dtype=torch.float64), mean, std, a, a + width)
        assert w.min() >= a
        assert w.max() <= a + width


def test_truncated_normal_in_half_precision():
    """No mass on the bounds, and no outliers: what PyTorch was once wrong about."""
    w = init.trunc_normal_(torch.empty(10_000_000 // 4, dtype=torch.bfloat16), std=0.1)
    assert (w.abs() < 0.7).all()
    w = init.trunc_normal_(torch.empty(1_000_000), std=0.001)
    assert (w.abs() < 0.007).all()
    assert init.normal_(torch.empty(4_000_000, dtype=torch.bfloat16)).abs().max() > 4.5


@pytest.mark.parametrize("dtype", DTYPES, ids=NUMPY.values())
@pytest.mark.parametrize("shape", [(30, 20), (20, 30), (24, 24), (8, 3, 5), (40, 2, 3)], ids=str)
def test_orthogonal(shape, dtype):
    w = init.orthogonal_(torch.empty(shape, dtype=dtype), gain=2.0).double().flatten(1) / 2
    product = w @ w.T if w.shape[0] <= w.shape[1] else w.T @ w
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(product, torch.eye(len(product), dtype=torch.float64), atol=20 * eps, rtol=0)


def test_orthogonal_is_haar_as_in_torch():
    """The elements of a Haar matrix of 3 rows: z is uniform on [-1, 1], for both libraries."""
    for module in (init, reference):
        z = torch.stack([module.orthogonal_(torch.empty(3, 3)) for _ in range(2000)])
        for i, j in [(0, 0), (1, 2), (2, 1)]:
            check_distribution(z[:, i, j], stats.uniform(-1, 2))


GAINS = {
    "number in a tensor": lambda: torch.tensor(2.0),
    "one element": lambda: torch.tensor([2.0]),
    "column": lambda: torch.arange(1.0, 31.0)[:, None],
    "row": lambda: torch.arange(1.0, 21.0, dtype=torch.float64),
    "matrix": lambda: torch.full((30, 20), 0.5),
    "parameter": lambda: Parameter(torch.ones(30, 1)),
    "NumPy's number": lambda: np.float32(2.0),
    "too many dimensions": lambda: torch.ones(3, 30, 20),
    "another size": lambda: torch.ones(3),
    "complex": lambda: torch.tensor(1j),
    "array": lambda: np.ones((30, 1)),
}


@pytest.mark.parametrize("accelerated", [False, True], ids=["plain", "accelerate"])
@pytest.mark.parametrize("make", GAINS.values(), ids=GAINS)
def test_gains_of_orthogonal(make, accelerated):
    gain = make()
    theirs, _ = call(reference, "orthogonal_", torch.empty(30, 20), gain)
    plain = init.orthogonal_(torch.empty(30, 20), generator=generator(1))
    with init.accelerate() if accelerated else contextlib.nullcontext():
        module = reference if accelerated else init
        ours, _ = call(module, "orthogonal_", torch.empty(30, 20), gain, generator(1))
    assert type(ours) is type(theirs)
    if isinstance(ours, Exception):
        assert str(ours) == str(theirs)
    else:
        torch.testing.assert_close(ours, (plain * gain).detach().float())


NUMBERS = {
    "0-dimensional": torch.tensor,
    "0-dimensional float64": lambda x: torch.tensor(x, dtype=torch.float64),
    "0-dimensional with gradient": lambda x: torch.tensor(x, requires_grad=True),
    "one element": lambda x: torch.tensor([x]),
    "float32": np.float32,
    "int64": np.int64,
}


@pytest.mark.parametrize("make", NUMBERS.values(), ids=NUMBERS)
@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        case
        for case in RANDOM
        if case[0] in ("uniform_", "normal_", "xavier_uniform_", "xavier_normal_", "sparse_")
    ],
    ids=str,
)
def test_arguments_that_are_not_plain_numbers(name, arguments, make):
    """What PyTorch takes is taken as the number, and what it refuses is refused by it."""
    arguments = [float(x) for x in arguments]
    for i in range(len(arguments)):
        given = [*arguments[:i], make(arguments[i]), *arguments[i + 1 :]]
        theirs, _ = call(reference, name, torch.empty(30, 20), *given)
        ours, _ = call(init, name, torch.empty(30, 20), *given, generator=generator())
        assert type(ours) is type(theirs)
        if isinstance(ours, Exception):
            assert str(ours) == str(theirs)
        else:
            numbers = [*arguments[:i], float(given[i]), *arguments[i + 1 :]]
            expected = getattr(init, name)(torch.empty(30, 20), *numbers, generator=generator())
            torch.testing.assert_close(ours, expected)


@pytest.mark.parametrize("sparsity", [0.0, 0.01, 0.1, 0.25, 1 / 3, 0.7, 0.9, 1.0])
def test_sparse(sparsity):
    for rows in (1, 3, 7, 10, 100):
        w = init.sparse_(torch.empty(rows, 50), sparsity, std=0.5)
        assert ((w == 0).sum(dim=0) == math.ceil(sparsity * rows)).all()
    w = init.sparse_(torch.empty(1000, 100), sparsity, std=0.5)
    if sparsity < 1:
        check_distribution(w[w != 0], stats.norm(0, 0.5))


def test_sparse_takes_its_zeros_from_its_generator():
    one = init.sparse_(torch.empty(100, 20), 0.5, generator=generator(1))
    init.normal_(torch.empty(3))
    assert torch.equal(init.sparse_(torch.empty(100, 20), 0.5, generator=generator(1)), one)


# Gains


@pytest.mark.parametrize(
    ("name", "param"),
    [
        *((name, None) for name in ["linear", "conv1d", "conv2d", "conv3d", "conv_transpose1d", "sigmoid"]),
        *((name, None) for name in ["conv_transpose2d", "conv_transpose3d", "tanh", "relu", "selu"]),
        *(("leaky_relu", slope) for slope in [None, 0, 1, 0.2, -0.5, True, "x", NAN]),
        ("relu", 3),
        ("unknown", None),
        (None, None),
        (3, None),
    ],
)
def test_known_gains_equal_torch(name, param):
    ours, theirs = (call(module, "calculate_gain", name, param)[0] for module in (init, reference))
    assert type(ours) is type(theirs)
    assert str(ours) == str(theirs)


def phi(z):
    return np.exp(-(z**2) / 2) / math.sqrt(2 * math.pi)


def gain_of(f, *kinks):
    edges = [-15.0, *kinks, 15.0]
    square = sum(
        integrate.quad(lambda z: f(z) ** 2 * phi(z), a, b, epsabs=1e-14, epsrel=1e-13, limit=500)[0]
        for a, b in itertools.pairwise(edges)
    )
    return 1 / math.sqrt(square)


def softplus(z):
    return math.log1p(math.exp(-abs(z))) + max(z, 0.0)


@pytest.mark.parametrize(
    ("name", "param", "function"),
    [
        ("gelu", None, lambda z: z * special.ndtr(z)),
        ("silu", None, lambda z: z * special.expit(z)),
        ("swish", None, lambda z: z * special.expit(z)),
        ("mish", None, lambda z: z * math.tanh(softplus(z))),
        ("elu", None, lambda z: z if z > 0 else math.expm1(z)),
        ("elu", 0.3, lambda z: z if z > 0 else 0.3 * math.expm1(z)),
        ("elu", 0, lambda z: max(z, 0.0)),
    ],
)
def test_new_gains(name, param, function):
    assert init.calculate_gain(name, param) == pytest.approx(gain_of(function, 0.0), rel=1e-9)


@pytest.mark.parametrize(
    ("function", "gain"),
    [
        (torch.relu, math.sqrt(2)),
        (torch.nn.ReLU(), math.sqrt(2)),
        (np.abs, 1.0),
        (lambda z: z**3, 1 / math.sqrt(15)),
        (lambda z: 3 * z, 1 / 3),
        (torch.exp, math.exp(-1)),
        (lambda z: torch.exp(3 * z), math.exp(-9)),
        (lambda z: (z > 0.3).float(), 1 / math.sqrt(special.ndtr(-0.3))),
        (lambda z: (z - 1 / 3).clamp(min=0), gain_of(lambda z: max(z - 1 / 3, 0.0), 1 / 3)),
        (lambda z: z.clamp(-1, 1), gain_of(lambda z: min(max(z, -1.0), 1.0), -1.0, 1.0)),
        (torch.nn.functional.hardswish, gain_of(lambda z: z * min(max(z + 3, 0.0), 6.0) / 6, -3.0, 3.0)),
        (torch.ones_like, 1.0),
        (torch.sign, 1.0),
    ],
)
def test_gains_of_functions(function, gain):
    assert init.calculate_gain(function) == pytest.approx(gain, rel=1e-7)


@pytest.mark.parametrize("function", [torch.zeros_like, lambda z: z * INF, lambda z: z * NAN])
def test_no_gain(function):
    with pytest.raises(ValueError, match="the mean square of an activation must be positive and finite"):
        init.calculate_gain(function)


@pytest.mark.parametrize("alpha", [True, "x", [1.0]])
def test_alpha_must_be_a_number(alpha):
    with pytest.raises(ValueError, match="not a valid number"):
        init.calculate_gain("elu", alpha)


@pytest.mark.parametrize("nonlinearity", ["gelu", "elu", torch.nn.functional.softplus])
def test_kaiming_takes_new_gains(nonlinearity):
    w = init.kaiming_normal_(torch.empty(300, 200), nonlinearity=nonlinearity)
    check_distribution(w, stats.norm(0, init.calculate_gain(nonlinearity) / math.sqrt(200)))
    bound = init.calculate_gain(nonlinearity) * math.sqrt(3 / 200)
    w = init.kaiming_uniform_(torch.empty(300, 200), nonlinearity=nonlinearity)
    check_distribution(w, stats.uniform(-bound, 2 * bound))


# Generators


@any_random
def test_manual_seed_reproduces(name, arguments):
    function = getattr(init, name)

    def two():
        return [function(torch.empty(20, 10), *arguments) for _ in range(2)]

    torch.manual_seed(5)
    first, second = two()
    torch.manual_seed(5)
    again, after = two()
    assert torch.equal(first, again)
    assert torch.equal(second, after)
    assert not torch.equal(first, second)
    own = generator(5)
    assert torch.equal(function(torch.empty(20, 10), *arguments, generator=own), first)
    assert torch.equal(function(torch.empty(20, 10), *arguments, generator=own), second)
    assert not torch.equal(function(torch.empty(20, 10), *arguments, generator=generator(6)), first)


@any_random
def test_a_generator_of_its_own_leaves_the_global_one_alone(name, arguments):
    before = torch.get_rng_state()
    getattr(init, name)(torch.empty(20, 10), *arguments, generator=generator())
    assert torch.equal(torch.get_rng_state(), before)


@any_random
def test_every_law_advances_the_generator_alike(name, arguments):
    """So that the weights of one layer do not depend on the shapes and distributions of those before."""
    getattr(init, name)(torch.empty(20, 10), *arguments)
    state = torch.get_rng_state()
    torch.manual_seed(0)
    init.normal_(torch.empty(3))
    assert torch.equal(torch.get_rng_state(), state)


def test_nothing_is_drawn_for_no_elements():
    before = torch.get_rng_state()
    init.normal_(torch.empty(0))
    init.normal_(torch.empty(3, device="meta"))
    init.ones_(torch.empty(3))
    assert torch.equal(torch.get_rng_state(), before)


def test_all_bits_of_the_seed_are_drawn():
    seeds = [_fill.draw_seed(None, torch.empty(1)) for _ in range(200)]
    assert all(0 <= seed < 2**64 for seed in seeds)
    assert np.bitwise_or.reduce(np.array(seeds, np.uint64)) == np.uint64(2**64 - 1)
    assert np.bitwise_and.reduce(np.array(seeds, np.uint64)) == 0


# Errors and warnings

EDGES = [
    ("uniform_", (3,), (2.0, 1.0)),
    ("uniform_", (0,), (2.0, 1.0)),
    ("uniform_", (3,), (1.5, 1.5)),
    ("uniform_", (3,), (NAN, 1.0)),
    ("uniform_", (3,), (-INF, 1.0)),
    ("uniform_", (3,), (-3e38, 3e38)),
    ("uniform_", (3,), (0.0, 1e39)),
    ("uniform_", (3,), ("a",)),
    ("uniform_", (3,), (1j,)),
    ("uniform_", (3,), (0, 1, 3)),
    ("normal_", (3,), (0.0, -1.0)),
    ("normal_", (0,), (0.0, -1.0)),
    ("normal_", (3,), (5.0, 0.0)),
    ("normal_", (3,), (NAN, 1.0)),
    ("normal_", (3,), (1e39, 1.0)),
    ("normal_", (3,), (0.0, NAN)),
    ("normal_", (3,), (0.0, "a")),
    ("normal_", (3,), (0.0, 1.0, 3)),
    ("trunc_normal_", (3,), (0.0, 0.0)),
    ("trunc_normal_", (3,), (0.0, 1.0, 2.0, 1.0)),
    ("trunc_normal_", (3,), (0.0, 1.0, 1.0, 1.0)),
    ("trunc_normal_", (3,), (10.0, 1.0, 0.0, 1.0)),
    ("trunc_normal_", (3,), (-10.0, 1.0, 0.0, 1.0)),
    ("trunc_normal_", (3,), ("a",)),
    ("trunc_normal_", (0,), ()),
    ("constant_", (3,), ("x",)),
    ("constant_", (3,), (1e39,)),
    ("constant_", (3,), (1j,)),
    ("constant_", (3,), (torch.tensor([1.0, 2.0]),)),
    ("constant_", (3,), (torch.tensor(2.0),)),
    ("eye_", (3,), ()),
    ("eye_", (3, 3, 3), ()),
    ("dirac_", (3, 3), ()),
    ("dirac_", (1, 1, 1, 1, 1, 1), ()),
    ("dirac_", (4, 3, 3), (3,)),
    ("dirac_", (4, 3, 3), (0,)),
    ("dirac_", (4, 3, 3), (-2,)),
    ("dirac_", (4, 3, 3), (2.0,)),
    ("dirac_", (4, 3, 3), (True,)),
    ("dirac_", (4, 3, 0), (2,)),
    ("dirac_", (4, 0, 0), (2,)),
    ("xavier_uniform_", (3,), ()),
    ("xavier_uniform_", (), ()),
    ("xavier_uniform_", (0, 0), ()),
    ("xavier_uniform_", (0, 3), ()),
    ("xavier_uniform_", (3, 3), (-1.0,)),
    ("xavier_uniform_", (3, 3), (0.0,)),
    ("xavier_normal_", (3,), ()),
    ("xavier_normal_", (0, 0), ()),
    ("xavier_normal_", (3, 3), (-1.0,)),
    ("xavier_normal_", (3, 3), (0.0,)),
    ("kaiming_uniform_", (3,), ()),
    ("kaiming_uniform_", (0,), ()),
    ("kaiming_uniform_", (0, 3), (0, "nonsense")),
    ("kaiming_uniform_", (3, 3), (0, "nonsense")),
    ("kaiming_uniform_", (3, 3), (0, 3)),
    ("kaiming_uniform_", (3, 3), (0, "fan_in", "nonsense")),
    ("kaiming_uniform_", (3, 3), ("x",)),
    ("kaiming_normal_", (3,), ()),
    ("kaiming_normal_", (3, 0), ()),
    ("kaiming_normal_", (3, 3), (True,)),
    ("kaiming_normal_", (3, 3), (0, "nonsense")),
    ("orthogonal_", (3,), ()),
    ("orthogonal_", (), ()),
    ("orthogonal_", (0, 3), ()),
    ("orthogonal_", (3, 3), ("x",)),
    ("orthogonal_", (3, 3), (NAN,)),
    ("orthogonal_", (3, 3), (0.0,)),
    ("orthogonal_", (3, 3), (1.0, 3)),
    ("sparse_", (3,), (0.5,)),
    ("sparse_", (3, 3, 3), (0.5,)),
    ("sparse_", (3, 3), ()),
    ("sparse_", (3, 3), (1.5,)),
    ("sparse_", (3, 3), (NAN,)),
    ("sparse_", (3, 3), (0.5, -1.0)),
    ("sparse_", (3, 3), (0.5, 0.0)),
    ("sparse_", (0, 3), (0.5,)),
    ("sparse_", (3, 0), (0.5,)),
]


@pytest.mark.parametrize(("name", "shape", "arguments"), EDGES, ids=str)
def test_edges_equal_torch(name, shape, arguments):
    """The same error, or the same values, for these have none to choose; and the same warnings."""
    ours, our_warnings = call(init, name, torch.full(shape, 7.0), *arguments)
    theirs, their_warnings = call(reference, name, torch.full(shape, 7.0), *arguments)
    assert type(ours) is type(theirs)
    assert our_warnings == their_warnings
    if isinstance(ours, Exception):
        ours, theirs = (str(error).replace(f"{name[:-1]}()", "") for error in (ours, theirs))
        assert ours.replace("nn.init.", "") == theirs.replace("nn.init.", "") or "random_" in ours
    elif name != "trunc_normal_" or arguments[2:] == (1.0, 1.0):
        torch.testing.assert_close(ours, theirs, equal_nan=True, rtol=0, atol=0)


def test_negative_sparsity_is_left_to_torch():
    assert init.sparse_(torch.empty(3, 3), -0.5).shape == (3, 3)


@pytest.mark.parametrize("bad", [None, [1.0], np.zeros((2, 2)), 3])
@any_random
def test_not_a_tensor(name, arguments, bad):
    with pytest.raises((AttributeError, TypeError)) as seen:
        getattr(init, name)(bad, *arguments)
    if hasattr(reference, name):
        assert seen.type is type(call(reference, name, bad, *arguments)[0])


def outcomes(name, arguments, make):
    """What fastinit and PyTorch make of equal tensors, or their errors, with equal generators."""
    results = []
    for module in (init, reference):
        torch.manual_seed(0)
        results.append(call(module, name, make(), *arguments))
    return results


@pytest.mark.filterwarnings("ignore:ComplexHalf support is experimental")
@pytest.mark.parametrize("device", ["cpu", "meta"])
@pytest.mark.parametrize("dtype", [*OTHER_DTYPES, torch.uint8, torch.complex32, torch.float8_e5m2], ids=str)
@any_random
def test_other_dtypes_are_left_to_torch(name, arguments, dtype, device):
    if not hasattr(reference, name):
        if not dtype.is_complex and device == "cpu":
            with pytest.raises((NotImplementedError, RuntimeError)):
                getattr(init, name)(torch.ones(4, 4).to(dtype), *arguments)
        return
    (ours, our_warnings), (theirs, their_warnings) = outcomes(
        name, arguments, lambda: torch.ones(4, 4).to(device, dtype)
    )
    assert type(ours) is type(theirs)
    assert our_warnings == their_warnings
    if isinstance(ours, Exception):
        assert str(ours) == str(theirs)
    elif device == "cpu":
        assert dtype.is_complex
        assert torch.equal(ours.to(torch.complex128), theirs.to(torch.complex128))
        assert len(torch.view_as_real(ours.to(torch.complex128)).unique()) > 8


def test_complex_tensors_of_timm():
    w = init.variance_scaling_(torch.zeros(300, 200, dtype=torch.complex64), 2.0)
    assert abs(w.abs().square().mean() * 200 - 2.0) < 0.1


@pytest.mark.parametrize("name", ["kaiming_uniform_", "kaiming_normal_"])
def test_no_elements(name):
    tensor = torch.empty(0, 3)
    with pytest.warns(UserWarning, match="Initializing zero-element tensors is a no-op") as seen:
        assert getattr(init, name)(tensor) is tensor
    assert [w.filename for w in seen] == [__file__]


@pytest.mark.parametrize("function", [init.trunc_normal_, init.trunc_normal_tf_])
def test_mean_far_from_the_bounds(function):
    w = torch.empty(1000)
    with pytest.warns(UserWarning, match=r"mean is more than 2 std from \[a, b\]") as seen:
        function(w, 0.0, 1.0, 3.0, 4.0)
    assert [warning.filename for warning in seen] == [__file__]
    check_distribution(w, stats.truncnorm(3, 4))


def test_nothing_is_written_on_errors():
    tensor = torch.full((3, 3), 7.0)
    for name, arguments in [("uniform_", (2.0, 1.0)), ("normal_", (0.0, -1.0)), ("sparse_", (0.5, -1.0))]:
        with pytest.raises(RuntimeError):
            getattr(init, name)(tensor, *arguments)
    assert (tensor == 7).all()


@pytest.mark.parametrize("scale", [-1.0, None])
def test_bad_variance_scaling(scale):
    with pytest.raises((ValueError, TypeError)):
        init.variance_scaling_(torch.empty(3, 3), scale)
    with pytest.raises(ValueError, match="Mode fan_geo_avg not supported"):
        init.variance_scaling_(torch.empty(3, 3), mode="fan_geo_avg")
    with pytest.raises(ValueError, match="invalid distribution cauchy"):
        init.variance_scaling_(torch.empty(3, 3), distribution="cauchy")
    with pytest.raises(ValueError, match="fewer than 2 dimensions"):
        init.lecun_normal_(torch.empty(3))


def test_trunc_normal_tf_of_no_width():
    assert (init.trunc_normal_tf_(torch.empty(10), 3.0, 0.0) == 3).all()


# Tensors of all kinds


@any_random
def test_overlapping_tensors(name, arguments):
    for target in (torch.zeros(1, 4).expand(4, 4), torch.zeros(1, 1).expand(4, 4)):
        with pytest.raises(RuntimeError, match="more than one element of the written-to tensor"):
            getattr(init, name)(target, *arguments)
        assert (target == 0).all()
    windows = torch.zeros(10).as_strided((4, 3), (2, 1))
    assert getattr(init, name)(windows, *arguments) is windows


@any_random
def test_meta_tensors_are_left_alone(name, arguments):
    tensor = torch.empty(4, 4, device="meta")
    assert getattr(init, name)(tensor, *arguments) is tensor
    assert tensor.is_meta
    with torch.device("meta"):
        plain = torch.zeros(4, 4, device="cpu")
        getattr(init, name)(plain, *arguments)
        assert (plain != 0).any()


@any_random
def test_default_device_does_not_matter(name, arguments):
    plain = getattr(init, name)(torch.empty(4, 4), *arguments, generator=generator())
    with torch.device("cpu"):
        other = getattr(init, name)(torch.empty(4, 4), *arguments, generator=generator())
    assert torch.equal(plain, other)


@any_random
def test_parameters(name, arguments):
    parameter = Parameter(torch.zeros(4, 4))
    assert getattr(init, name)(parameter, *arguments) is parameter
    assert type(parameter) is Parameter
    assert parameter.requires_grad
    assert parameter.is_leaf
    assert parameter.grad_fn is None
    assert torch.is_grad_enabled()
    assert (parameter != 0).any()
    sub = type("Weight", (Parameter,), {})(torch.zeros(4, 4))
    assert getattr(init, name)(sub, *arguments) is sub
    torch.manual_seed(0)
    assert torch.equal(getattr(init, name)(torch.zeros(4, 4), *arguments), parameter)


@any_random
def test_autograd_notices(name, arguments):
    parameter = Parameter(torch.ones(4, 4))
    version = parameter._version
    getattr(init, name)(parameter.T, *arguments)
    assert parameter._version > version
    loss = parameter.square().sum()
    getattr(init, name)(parameter, *arguments)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        loss.backward()


@any_random
def test_inference_mode(name, arguments):
    with torch.inference_mode():
        frozen = torch.zeros(4, 4)
        getattr(init, name)(frozen, *arguments)
    assert (frozen != 0).any()
    before = frozen.clone()
    with pytest.raises(RuntimeError, match="Inplace update to inference tensor outside InferenceMode"):
        getattr(init, name)(frozen, *arguments)
    assert torch.equal(frozen, before)


def test_arguments_are_checked_at_every_call():
    """Also where the same ones were accepted before, for another tensor."""
    tensor = torch.zeros(4, 4)
    for _ in range(3):
        version = tensor._version
        init.normal_(tensor, 0.0, 0.5)
        assert tensor._version > version
        for wrong in (generator, "generator"):
            with pytest.raises(TypeError):
                init.normal_(tensor, 0.0, 0.5, generator=wrong)
        with torch.inference_mode():
            frozen = torch.zeros(4, 4)
        with pytest.raises(RuntimeError, match="Inplace update to inference tensor"):
            init.normal_(frozen, 0.0, 0.5)
        with pytest.raises(RuntimeError, match="std"):
            init.normal_(tensor, 0.0, -0.5)


def test_parameters_that_change():
    mean = torch.tensor(1.0)
    for value in (1.0, 2.0):
        mean.fill_(value)
        assert (init.normal_(torch.empty(3), mean, 1e-6) - value).abs().max() < 1e-4


def test_negative_views():
    pair = torch.zeros(1000, 2)
    negative = torch.view_as_complex(pair).conj().imag
    assert negative.is_neg()
    init.uniform_(negative, 1.0, 2.0)
    assert (pair[:, 1] <= -1).all()
    assert (pair[:, 0] == 0).all()


@any_random
def test_vmap_is_left_to_torch(name, arguments):
    if name in COMPUTED:
        return  # PyTorch's own do not work there
    result = torch.func.vmap(lambda x: getattr(init, name)(x, *arguments), randomness="different")(
        torch.zeros(3, 4, 4)
    )
    assert (result[0] != result[1]).any()


def test_fake_tensors_are_left_to_torch():
    from torch._subclasses import FakeTensor, FakeTensorMode

    with FakeTensorMode():
        tensor = torch.empty(4, 4)
        for name, arguments in RANDOM:
            if name not in ("trunc_normal_", "trunc_normal_tf_", "variance_scaling_", "lecun_normal_"):
                getattr(init, name)(tensor, *arguments)
    assert isinstance(tensor, FakeTensor)


@pytest.mark.filterwarnings("ignore")
def test_compiled_code_is_left_to_torch():
    def function(x):
        return init.normal_(x * 2, 3.0, 0.5)

    compiled = torch.compile(function, backend="eager", fullgraph=True)
    result = compiled(torch.zeros(10_000))
    assert abs(result.mean() - 3) < 0.1


@any_random
def test_uninitialized_parameters(name, arguments):
    if hasattr(reference, name):
        weight = torch.nn.LazyLinear(3).weight
        ours, theirs = (call(module, name, weight, *arguments)[0] for module in (init, reference))
        assert type(ours) is type(theirs)
        assert str(ours) == str(theirs)


def test_subclasses_with_a_function_of_their_own():
    seen = []

    class Tensor(torch.Tensor):
        @classmethod
        def __torch_function__(cls, function, types, arguments=(), keywords=None):
            seen.append(function)
            return super().__torch_function__(function, types, arguments, keywords or {})

    for name in ("uniform_", "normal_", "kaiming_uniform_"):
        seen.clear()
        getattr(init, name)(torch.zeros(4, 4).as_subclass(Tensor))
        assert seen[0] is getattr(reference, name)
    tensor = torch.zeros(4, 4).as_subclass(Tensor)
    for name, arguments in RANDOM:
        getattr(init, name)(tensor, *arguments)


def test_function_modes_see_the_function():
    seen = []

    class Mode(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, arguments=(), keywords=None):
            seen.append(function)
            return function(*arguments, **(keywords or {}))

    for name in ("uniform_", "normal_", "kaiming_uniform_"):
        plain = getattr(init, name)(torch.empty(4, 4), generator=generator())
        target = torch.empty(4, 4)
        own = generator()
        with Mode():
            seen.clear()
            assert getattr(init, name)(target, generator=own) is target
        assert seen[0] is getattr(reference, name)
        assert torch.equal(target, plain)
    for name, arguments in RANDOM:
        plain = getattr(init, name)(torch.empty(4, 4), *arguments, generator=generator())
        own = generator()
        with Mode():
            other = getattr(init, name)(torch.empty(4, 4), *arguments, generator=own)
        assert torch.equal(plain, other)


@any_dtype
def test_storages_can_still_be_resized(dtype):
    tensor = init.normal_(torch.empty(4, 4, dtype=dtype))
    tensor.untyped_storage().resize_(0)
    tensor.untyped_storage().resize_(16 * tensor.itemsize)
    init.normal_(tensor)


@any_dtype
def test_freed_storages(dtype):
    tensor = torch.zeros(4, 4, dtype=dtype)
    part = tensor[1:, ::2]
    tensor.untyped_storage().resize_(14 * tensor.itemsize)
    before = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="has been made smaller"):
        init.normal_(part)
    assert torch.equal(torch.get_rng_state(), before)
    tensor.untyped_storage().resize_(15 * tensor.itemsize)
    init.normal_(part)  # needs elements 4 to 14
    tensor.untyped_storage().resize_(0)
    with pytest.raises(RuntimeError, match="has been made smaller"):
        init.normal_(tensor)


def test_distributed_tensors_are_left_to_torch(python):
    pytest.importorskip("torch.distributed.tensor")
    program = """
        import torch, torch.distributed as dist
        import fastinit.torch as init
        from torch.distributed.tensor import DTensor, Shard, distribute_tensor, init_device_mesh

        dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
        tensor = distribute_tensor(torch.zeros(8, 4), init_device_mesh("cpu", (1,)), [Shard(0)])
        for name in ("uniform_", "normal_", "trunc_normal_", "kaiming_normal_", "orthogonal_"):
            init.zeros_(tensor)
            assert getattr(init, name)(tensor) is tensor
            assert isinstance(tensor, DTensor) and (tensor.to_local() != 0).all(), name
        dist.destroy_process_group()
    """
    python(program)


@pytest.mark.filterwarnings("ignore:torch.quantize_per_tensor", "ignore:Sparse CSR", "ignore:The PyTorch API")
@pytest.mark.parametrize(
    "make",
    [
        lambda: torch.eye(3).to_sparse(),
        lambda: torch.eye(3).to_sparse_csr(),
        lambda: torch.quantize_per_tensor(torch.eye(3), 0.1, 0, torch.qint8),
        lambda: torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)]),
        lambda: torch.eye(3).to_mkldnn(),
    ],
    ids=["sparse_coo", "sparse_csr", "quantized", "nested", "mkldnn"],
)
@any_random
def test_other_layouts_are_left_to_torch(name, arguments, make):
    if not hasattr(reference, name):
        return
    (ours, _), (theirs, _) = outcomes(name, arguments, make)
    assert type(ours) is type(theirs)
    if isinstance(ours, Exception):
        assert str(ours) == str(theirs)
    elif ours.layout is torch.sparse_csr:
        assert torch.equal(ours.values(), theirs.values())


def test_deep_copies_and_modules():
    layer = torch.nn.Linear(8, 4)
    init.xavier_normal_(layer.weight)
    init.zeros_(layer.bias)
    other = copy.deepcopy(layer)
    assert torch.equal(other.weight, layer.weight)
    layer(torch.ones(2, 8)).sum().backward()


def test_without_ml_dtypes(python):
    program = """
        import sys
        sys.modules["ml_dtypes"] = None
        import torch, fastinit.torch as init
        init.normal_(torch.empty(3, dtype=torch.float16))
        tensor = torch.zeros(3, dtype=torch.bfloat16)
        try:
            init.normal_(tensor)
        except ImportError as error:
            assert 'pip install "fastinit-nn[bf16]"' in str(error), error
        else:
            raise AssertionError("bfloat16 needs ml_dtypes")
        assert (tensor == 0).all()
        init.ones_(tensor)
    """
    python(program)


def test_many_threads_at_once():
    plain = [init.normal_(torch.empty(300, 200), generator=generator(i)) for i in range(8)]
    results = [None] * 8

    def work(i):
        for _ in range(20):
            results[i] = init.normal_(torch.empty(200, 300).T, generator=generator(i))

    threads = [threading.Thread(target=work, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(torch.equal(a, b) for a, b in zip(plain, results, strict=True))


# What others put in place of the functions of PyTorch

# A call of each function that fills, with a tensor of four dimensions for `dirac_`.
FILLING = [
    *RANDOM,
    *FIXED,
    ("dirac_", ()),
    ("_no_grad_fill_", (0.3,)),
    ("_no_grad_normal_", (0.5, 2.0)),
    ("_no_grad_trunc_normal_", (0.1, 0.5, -0.7, 0.4)),
    ("_no_grad_uniform_", (-1.0, 2.0)),
    ("_no_grad_zero_", ()),
]
FILLING += [(name[:-1], arguments) for name, arguments in FILLING if name[:-1] in OLD_NAMES]

# What those that PyTorch does not have, or that nobody replaces, are built on.
BUILT_ON = {
    "trunc_normal_tf_": "trunc_normal_",
    "variance_scaling_": "trunc_normal_",
    "lecun_normal_": "trunc_normal_",
    "_no_grad_fill_": "constant_",
    "_no_grad_normal_": "normal_",
    "_no_grad_trunc_normal_": "trunc_normal_",
    "_no_grad_uniform_": "uniform_",
    "_no_grad_zero_": "zeros_",
    **{name: f"{name}_" for name in OLD_NAMES},
}

any_filling = pytest.mark.parametrize(("name", "arguments"), FILLING, ids=[name for name, _ in FILLING])


def target_of(name):
    return torch.full((4, 4, 3) if name.startswith("dirac") else (4, 4), 7.0)


@pytest.mark.filterwarnings("ignore:`nn.init")
@pytest.mark.parametrize("where", ["its name", "what it is built on"])
@any_filling
def test_functions_that_are_replaced(name, arguments, where, monkeypatch):
    """The replacement decides whether a tensor is filled, and fastinit fills it."""
    replaced = name if where == "its name" else BUILT_ON.get(name)
    if replaced is None or not hasattr(reference, replaced):
        return
    expected = getattr(init, name)(target_of(name), *arguments)
    imported, bound = getattr(init, name), functools.partial(getattr(init, name))
    theirs, skipped = getattr(reference, replaced), []

    def guarded(tensor, *args, **kwargs):
        if getattr(tensor, "is_loaded", False):
            skipped.append(tensor)
            return tensor
        return theirs(tensor, *args, **kwargs)

    monkeypatch.setattr(reference, replaced, guarded)
    for function in (imported, bound):
        loaded = target_of(name)
        loaded.is_loaded = True
        assert function(loaded, *arguments) is loaded
        assert (loaded == 7).all()
        torch.manual_seed(0)
        assert torch.equal(function(target_of(name), *arguments), expected)
    assert len(skipped) == 2
    monkeypatch.undo()
    torch.manual_seed(0)
    assert torch.equal(imported(loaded, *arguments), expected)


@pytest.mark.filterwarnings("ignore:`nn.init")
@any_filling
def test_functions_that_replace_those_of_torch(name, arguments, monkeypatch):
    """Those of fastinit itself, or something that calls them, may be in their place."""
    expected = getattr(init, name)(target_of(name), *arguments)
    for wrap in (lambda function: function, lambda function: lambda *a, **k: function(*a, **k)):
        for other, _ in FILLING:
            if hasattr(reference, other):
                monkeypatch.setattr(reference, other, wrap(getattr(init, other)))
        torch.manual_seed(0)
        assert torch.equal(getattr(init, name)(target_of(name), *arguments), expected)
        with init.accelerate():
            torch.manual_seed(0)
            assert torch.equal(getattr(init, name)(target_of(name), *arguments), expected)


def test_replacements_get_what_the_caller_gave(monkeypatch):
    monkeypatch.setattr(reference, "xavier_uniform_", lambda *args, **kwargs: (args, kwargs))
    assert init.xavier_uniform_(3, gain=2.0) == ((3,), {"gain": 2.0})
    monkeypatch.setattr(reference, "uniform_", lambda *_: None)
    assert (init.kaiming_uniform_(torch.full((4, 4), 7.0)) != 7).all()  # It is not built on `uniform_`.
    assert (init.xavier_normal_(torch.full((4, 4), 7.0)) != 7).all()


def test_replacements_that_change_the_arguments(monkeypatch):
    theirs = reference.trunc_normal_
    monkeypatch.setattr(reference, "trunc_normal_", lambda w, *rest: theirs(w, 5.0, 0.1, 4.9, 5.1, rest[-1]))
    w = init.trunc_normal_tf_(torch.empty(100), 0.0, 1.0)
    assert ((w >= 4.9) & (w <= 5.1)).all()


def test_fastinit_may_be_imported_while_functions_are_replaced(python):
    program = """
        import torch
        init = torch.nn.init
        mine = {name: getattr(init, name) for name in init.__all__ if name.endswith("_")}
        for name in mine:
            setattr(init, name, lambda tensor, *args, **kwargs: tensor)
        import fastinit.torch
        target = torch.zeros(4, 4)
        fastinit.torch.normal_(target)
        assert (target == 0).all()
        for name, function in mine.items():
            setattr(init, name, function)
        torch.manual_seed(0)
        value = fastinit.torch.xavier_normal_(target.clone())
        assert (value != 0).all()
        with fastinit.torch.accelerate():
            torch.manual_seed(0)
            assert torch.equal(init.xavier_normal_(target), value)
    """
    python(program)


class Tiny(torch.nn.Module):
    """A layer with parameters that were saved, and others that are new."""

    def __init__(self, new):
        super().__init__()
        self.old = Parameter(torch.empty(4, 4))
        self.old_kernel = Parameter(torch.empty(4, 4, 3))
        if new:
            self.new = Parameter(torch.empty(4, 4))
            self.new_kernel = Parameter(torch.empty(4, 4, 3))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("accelerated", [False, True], ids=["plain", "accelerate"])
@any_filling
def test_transformers_keeps_what_it_has_loaded(name, arguments, accelerated, tmp_path):
    transformers = pytest.importorskip("transformers")

    class Config(transformers.PretrainedConfig):
        model_type = "tiny"
        new = False

    class Model(transformers.PreTrainedModel):
        config_class = Config

        def __init__(self, config):
            super().__init__(config)
            self.layer = Tiny(config.new)
            self.post_init()

        def _init_weights(self, module):
            for parameter in module.parameters(recurse=False):
                if (parameter.dim() == 3) == name.startswith("dirac"):
                    fill(parameter, *arguments)

    fill = getattr(init, name)
    model = Model(Config())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.fill_(5.0)
    model.save_pretrained(tmp_path)
    torch.manual_seed(0)
    with init.accelerate() if accelerated else contextlib.nullcontext():
        layer = Model.from_pretrained(tmp_path, config=Config(new=True)).layer
    assert (layer.old == 5).all()
    assert (layer.old_kernel == 5).all()
    torch.manual_seed(0)
    new = layer.new_kernel if name.startswith("dirac") else layer.new
    assert torch.equal(new, fill(target_of(name), *arguments))
    torch.manual_seed(0)
    fill(layer.old_kernel if name.startswith("dirac") else layer.old, *arguments)  # now on purpose
    assert torch.equal(layer.old_kernel if name.startswith("dirac") else layer.old, new)


def test_modes_that_skip_initialization():
    """As Lightning's for models that are to be loaded, which goes by the module of a function."""

    class Skip(torch.overrides.TorchFunctionMode):
        def __torch_function__(self, function, types, arguments=(), keywords=None):
            keywords = keywords or {}
            if getattr(function, "__module__", None) == "torch.nn.init":
                return keywords["tensor"] if "tensor" in keywords else arguments[0]
            return function(*arguments, **keywords)

    for name, arguments in FILLING:
        ours, theirs = target_of(name), target_of(name)
        with Skip(), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            if hasattr(reference, name):
                getattr(reference, name)(theirs, *arguments)
                getattr(init, name)(ours, *arguments)
                if not name.startswith("_"):  # PyTorch does not pass those to modes.
                    assert bool((ours == 7).all()) == bool((theirs == 7).all()), name
    with Skip():
        assert (init.normal_(torch.full((4, 4), 7.0)) == 7).all()
        assert (init.variance_scaling_(torch.full((4, 4), 7.0)) == 7).all()


# Tensors that the CPU cannot reach


@any_dtype
@any_random
def test_staging(name, arguments, dtype, monkeypatch):
    """As for another device, with a buffer of 100 bytes."""
    function = getattr(init, name)
    plain = function(torch.empty(11, 13, dtype=dtype), *arguments, generator=generator())
    monkeypatch.setattr(_fill, "is_on_cpu", lambda _: False)
    monkeypatch.setattr(_fill, "_STAGE", 100)
    monkeypatch.setattr(_fill, "_local", _fill._Local())
    for target in (torch.empty(11, 13, dtype=dtype), torch.empty(13, 11, dtype=dtype).T):
        version = target._version
        assert function(target, *arguments, generator=generator()) is target
        assert torch.equal(target, plain)
        assert target._version > version
    if name != "orthogonal_":
        assert _fill._local.buffer.nbytes == 100


@pytest.mark.parametrize("most", [1, 2, 3, 5, 7, 12, 100, 1000])
@pytest.mark.parametrize("shape", [(), (1,), (10,), (3, 4), (2, 3, 4), (1, 5, 1, 7), (5, 1, 1)], ids=str)
def test_pieces(shape, most):
    whole = np.zeros(shape, int)
    for number, (index, count) in enumerate(_fill.pieces(shape, most), start=1):
        assert count <= most
        assert whole[index].size == count
        assert not whole[index].any()
        whole[index] = number
    assert whole.all()
    assert (np.diff(whole.ravel()) >= 0).all()


def test_the_buffer_is_kept_and_bounded():
    first = _fill._buffer(100)
    assert _fill._buffer(2**20).data_ptr() == first.data_ptr()
    assert _fill._buffer(2**24 + 1).data_ptr() != first.data_ptr()
    with torch.inference_mode():
        assert not _fill._buffer(10).is_inference()


@pytest.mark.parametrize(
    ("name", "arguments", "dtype"),
    [
        ("normal_", (0.0, 3.4e38), torch.float32),
        ("normal_", (0.0, 1e4), torch.float16),
        ("uniform_", (0.0, 65504.0), torch.float16),
        ("trunc_normal_", (0.0, 1.0, 1.0, 1.0 + 1e-9), torch.float32),
        ("trunc_normal_", (0.0, 3e38, -3e38, 3e38), torch.float32),
        ("xavier_normal_", (1e38,), torch.float32),
        ("kaiming_normal_", (1e-38,), torch.float16),
    ],
    ids=["normal", "normal half", "uniform half", "no two numbers", "wide", "gain", "slope"],
)
def test_what_overflows_is_not_worse_than_in_pytorch(name, arguments, dtype):
    # The core refuses what would be infinite or all one number; PyTorch then does what it does.
    def made(module):
        torch.manual_seed(0)
        tensor = torch.full((64, 64), 7.0, dtype=dtype)
        try:
            return getattr(module, name)(tensor, *arguments)
        except (ValueError, RuntimeError) as error:
            return type(error)

    ours, theirs = made(init), made(torch.nn.init)
    if not isinstance(theirs, torch.Tensor):
        assert ours is theirs
        return
    assert not (ours == 7).any()
    assert ours.isfinite().sum() >= 0.99 * theirs.isfinite().sum()
