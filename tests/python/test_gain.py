"""Activations against Keras and PyTorch, and gains against mpmath."""

import importlib.util
import math
import os
import subprocess
import sys

import numpy as np
import pytest
from scipy import special

import fastinit
from fastinit import gain
from fastinit.theory.activations import names, normal_cdf, saturation
from fastinit.theory.gains import moments
from fastinit.theory.parse import resolve
from fastinit.theory.quadrature import normal_mean_square
from fastinit.theory.variance import after, with_bias, without_bias

mpmath = pytest.importorskip("mpmath")

ELEMENTWISE = [name for name in names() if resolve(name).kind == "elementwise"]
JOINT = ["log_softmax", "softmax", "sparsemax"]

# The activations again, for mpmath, with the places of their kinks.
_m = mpmath.mpf
_SELU = [_m("1.0507009873554804934193349852946"), _m("1.6732632423543772848170429916717")]
HIGH = {
    "relu": (lambda z: max(z, 0), lambda z: z > 0, [0]),
    "leaky_relu": (lambda z: z if z > 0 else z * _m(0.01), lambda z: 1 if z > 0 else _m(0.01), [0]),
    "linear": (lambda z: z, lambda _: 1, []),
    "elu": (
        lambda z: z if z > 0 else mpmath.expm1(z),
        lambda z: 1 if z > 0 else mpmath.exp(z),
        [0],
    ),
    "selu": (
        lambda z: _SELU[0] * (z if z > 0 else _SELU[1] * mpmath.expm1(z)),
        lambda z: _SELU[0] * (1 if z > 0 else _SELU[1] * mpmath.exp(z)),
        [0],
    ),
    "gelu": (lambda z: z * mpmath.ncdf(z), lambda z: mpmath.ncdf(z) + z * mpmath.npdf(z), [0]),
    "silu": (
        lambda z: z / (1 + mpmath.exp(-z)),
        lambda z: (1 + mpmath.exp(-z) * (1 + z)) / (1 + mpmath.exp(-z)) ** 2,
        [0],
    ),
    "mish": (
        lambda z: z * mpmath.tanh(mpmath.log1p(mpmath.exp(z))),
        lambda z: (
            mpmath.tanh(mpmath.log1p(mpmath.exp(z)))
            + z * mpmath.sech(mpmath.log1p(mpmath.exp(z))) ** 2 / (1 + mpmath.exp(-z))
        ),
        [0],
    ),
    "softplus": (lambda z: mpmath.log1p(mpmath.exp(z)), lambda z: 1 / (1 + mpmath.exp(-z)), [0]),
    "quick_gelu": (
        lambda z: z / (1 + mpmath.exp(-_m("1.702") * z)),
        lambda z: (
            (1 + mpmath.exp(-_m("1.702") * z) * (1 + _m("1.702") * z))
            / (1 + mpmath.exp(-_m("1.702") * z)) ** 2
        ),
        [0],
    ),
    "relu_squared": (lambda z: max(z, 0) ** 2, lambda z: 2 * max(z, 0), [0]),
    "sin": (mpmath.sin, mpmath.cos, [0, -2, 2]),
    "sigmoid": (
        lambda z: 1 / (1 + mpmath.exp(-z)),
        lambda z: mpmath.exp(-z) / (1 + mpmath.exp(-z)) ** 2,
        [0],
    ),
    "tanh": (mpmath.tanh, lambda z: mpmath.sech(z) ** 2, [0]),
    "exponential": (mpmath.exp, mpmath.exp, [0, 2, 4]),
    "hard_tanh": (lambda z: min(max(z, -1), 1), lambda z: abs(z) < 1, [-1, 1]),
    "relu6": (lambda z: min(max(z, 0), 6), lambda z: 0 < z < 6, [0, 6]),
    "soft_shrink": (
        lambda z: mpmath.sign(z) * max(abs(z) - 0.5, 0),
        lambda z: abs(z) > 0.5,
        [-0.5, 0.5],
    ),
}


def high_gain(function, kinks):
    """1 / sqrt(E f(z)**2), with 30 digits."""
    with mpmath.workdps(30):
        edges = sorted({-16, -4, *kinks, 4, 16})
        return float(1 / mpmath.sqrt(mpmath.quad(lambda z: _m(function(z)) ** 2 * mpmath.npdf(z), edges)))


@pytest.mark.parametrize("name", HIGH)
def test_gains_equal_mpmath(name):
    function, slope, kinks = HIGH[name]
    assert gain(name) == pytest.approx(high_gain(function, kinks), rel=1e-12)
    assert gain(name, direction="backward") == pytest.approx(high_gain(slope, kinks), rel=1e-12)


@pytest.mark.parametrize("name", [name for name in names() if name not in JOINT])
def test_closed_forms_equal_the_quadrature(name):
    square, _, slope = moments(resolve(name), 1.0)
    assert gain(name) == pytest.approx(1 / math.sqrt(square), rel=1e-11)
    assert gain(name, direction="backward") == pytest.approx(1 / math.sqrt(slope), rel=1e-11)


@pytest.mark.parametrize(
    ("name", "param", "expected"),
    [
        ("leaky_relu", 0.2, math.sqrt(2 / 1.04)),
        ("PReLU", None, math.sqrt(2 / (1 + 0.25**2))),
        ("elu", 0.0, math.sqrt(2)),
        ("threshold", None, math.sqrt(2)),
        ("glu", None, gain("sigmoid")),
        ("reglu", None, gain("relu")),
    ],
)
def test_parameters(name, param, expected):
    assert gain(name, param) == pytest.approx(expected, rel=1e-12)


def test_the_gain_of_what_is_the_same_is_the_same():
    assert gain("swish") == gain("SiLU") == gain("silu")
    assert gain("hard-swish") == gain("hard_silu")
    assert gain("relu2") == gain("squared_relu") == gain("ReLU-squared") == gain("relu_squared")
    assert gain("gelu_new") == gain("gelu_pytorch_tanh") == gain("gelu_fast") == gain("gelu_tanh")
    assert gain("gated-gelu") == gain("geglu")
    assert gain("sine") == gain("sin")
    assert gain(None) == gain("linear") == 1.0
    assert gain("selu") == pytest.approx(1.0, rel=1e-15)
    assert gain(np.tanh) == pytest.approx(gain("tanh"), rel=1e-12)
    # By numerical derivatives.
    assert gain(np.tanh, direction="backward") == pytest.approx(gain("tanh", direction="backward"), rel=1e-9)


def test_convention_of_pytorch():
    reference = pytest.importorskip("torch").nn.init
    for name in ("linear", "conv2d", "conv_transpose3d", "sigmoid", "tanh", "relu", "selu"):
        assert gain(name, convention="pytorch") == reference.calculate_gain(name)
    assert gain("leaky_relu", 0.3, convention="pytorch") == reference.calculate_gain("leaky_relu", 0.3)
    with pytest.raises(ValueError, match=r"PyTorch's table has .* not 'gelu'"):
        gain("gelu", convention="pytorch")


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: gain("rleu"), ValueError, "unknown activation 'rleu', did you mean 'relu'"),
        (lambda: gain("zzz"), ValueError, "it must be one of celu"),
        (lambda: gain(3), TypeError, "got 3$"),
        (lambda: gain("tanh", 0.1), ValueError, "tanh takes no param, got 0.1"),
        (
            lambda: gain("leaky_relu", "x"),
            TypeError,
            "negative_slope of leaky_relu, must be a number, got 'x'",
        ),
        (lambda: gain("leaky_relu", math.inf), ValueError, "must be finite, got inf"),
        (lambda: gain("celu", 0), ValueError, "alpha of celu, must be positive, got 0"),
        (lambda: gain("soft_shrink", -1), ValueError, "must be at least 0, got -1"),
        (lambda: gain(np.tanh, 0.1), ValueError, "param is for activations given by name, got 0.1"),
        (lambda: gain("softmax"), ValueError, "softmax couples the units"),
        (lambda: gain("relu", direction="up"), ValueError, "forward, backward, got 'up'"),
        (lambda: gain("relu", convention="jax"), ValueError, "got 'jax'"),
        (lambda: gain(np.zeros_like), ValueError, r"zeros_like must be positive and finite, got 0\.0"),
        (lambda: gain(lambda z: z.sum()), ValueError, "of the shape of its input"),
        (lambda: gain(lambda z: z.nothing), ValueError, "does not work on an array: .*nothing"),
        (
            lambda: gain("hard_shrink", 50),
            ValueError,
            r"hard_shrink\(50\) must be positive and finite, got 0",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()


# Activations


def test_normal_cdf():
    z = np.linspace(-10, 10, 20011)
    np.testing.assert_allclose(normal_cdf(z), special.ndtr(z), rtol=1e-13)
    assert normal_cdf(np.array([-1e150, -40.0, 0.0, 40.0, 1e150])).tolist() == [0.0, 0.0, 0.5, 1.0, 1.0]


@pytest.mark.parametrize("name", ELEMENTWISE)
def test_derivatives_are_those_of_the_function(name):
    activation = resolve(name)
    z = np.linspace(-7.013, 7.017, 500)  # no kink within a step
    h = 1e-6
    numerical = (activation(z + h) - activation(z - h)) / (2 * h)
    np.testing.assert_allclose(activation.derivative(z), numerical, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("name", names())
def test_huge_inputs_give_no_nan(name):
    z = np.array([[-1e150, -1e10, -800.0, 0.0, 1.0, 800.0, 1e10, 1e150]])
    activation = resolve(name)
    with np.errstate(over="ignore"):
        assert not np.isnan(activation(z)).any()
        assert not np.isnan(activation.derivative(z)).any()


# Keras with its backend of PyTorch, in a process of its own, since other tests load other backends.
KERAS = """
import functools, sys
import keras, numpy as np, torch
from fastinit.theory.activations import names
from fastinit.theory.parse import resolve

activations = keras.activations
theirs = {
    "gelu_tanh": functools.partial(activations.gelu, approximate=True),
    "leaky_relu": functools.partial(activations.leaky_relu, negative_slope=0.01),
    "prelu": functools.partial(activations.leaky_relu, negative_slope=0.25),
    "threshold": functools.partial(activations.threshold, threshold=0.0, default_value=0.0),
    # Not in Keras: of PyTorch.
    "quick_gelu": lambda z: z * torch.sigmoid(1.702 * z),
    "relu_squared": lambda z: torch.relu(z).square(),
    "sin": torch.sin,
}
for name, gate in {"geglu": "gelu", "reglu": "relu", "swiglu": "silu"}.items():
    gate = getattr(torch.nn.functional, gate)
    theirs[name] = lambda z, gate=gate: z.chunk(2, -1)[0] * gate(z.chunk(2, -1)[1])
rng = np.random.default_rng(0)
found = {}
for name in names():
    z = rng.normal(size=(16, 30)) * 4
    tensor = torch.tensor(z, requires_grad=True)
    y = (theirs.get(name) or getattr(activations, name))(tensor)
    gradient = rng.normal(size=y.shape)
    (y * torch.tensor(gradient)).sum().backward()
    arrays = z, y.detach().numpy(), gradient, tensor.grad.numpy()
    found |= {f"{name}.{i}": array for i, array in enumerate(arrays)}
np.savez(sys.argv[1], **found)

for name in set(dir(activations)) - {"serialize", "deserialize", "get"}:
    if not name.startswith("_"):
        assert resolve(name).known, name
        if name != "threshold":  # It takes its threshold with each call.
            assert resolve(getattr(activations, name)).name == resolve(name).name, name
for layer, expected in [
    (keras.layers.ReLU(), "relu"),
    (keras.layers.ReLU(6.0), "relu6"),
    (keras.layers.ReLU(negative_slope=0.1), "leaky_relu(0.1)"),
    (keras.layers.LeakyReLU(0.2), "leaky_relu(0.2)"),
    (keras.layers.LeakyReLU, "leaky_relu(0.3)"),
    (keras.layers.ELU(0.5), "elu(0.5)"),
    (keras.layers.PReLU(), "prelu(0)"),
    (keras.layers.Softmax(), "softmax"),
    (keras.layers.Activation("gelu"), "gelu"),
]:
    assert str(resolve(layer)) == expected, layer
assert not resolve(keras.layers.ReLU(3.0)).known
assert resolve(keras.layers.ReLU(3.0))(np.array([-1.0, 2.0, 5.0])).tolist() == [0.0, 2.0, 3.0]
"""


@pytest.fixture(scope="module")
def keras(tmp_path_factory):
    """Inputs, outputs, and gradients of the activations of Keras."""
    for module in ("keras", "torch"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not there")
    file = tmp_path_factory.mktemp("keras") / "activations.npz"
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", KERAS, file],
        env={**os.environ, "KERAS_BACKEND": "torch"},
        capture_output=True,
        text=True,
        timeout=100,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return np.load(file)


@pytest.mark.parametrize("name", [name for name in names() if name != "sparsemax"])
def test_values_and_gradients_are_those_of_keras(keras, name):
    z, theirs, gradient, pulled = (keras[f"{name}.{i}"] for i in range(4))
    ours = resolve(name)
    np.testing.assert_allclose(ours(z), theirs, rtol=1e-12, atol=1e-13)
    # Keras has 1 / 6 in float32.
    np.testing.assert_allclose(ours.backward(z, gradient), pulled, rtol=1e-6, atol=1e-12)


def test_sparsemax_is_the_nearest_point_of_the_simplex():
    # Keras's own does not sum to 1 on all backends.
    z = np.random.default_rng(1).normal(size=(20, 6)) * 2
    p = resolve("sparsemax")(z)
    np.testing.assert_allclose(p.sum(axis=-1), 1.0, rtol=1e-14)
    assert (p >= 0).all()
    # It is nearest where no step to a corner comes nearer: (z - p) . (corner - p) <= 0.
    assert ((z - p) - ((z - p) * p).sum(axis=-1, keepdims=True) <= 1e-12).all()


def test_functions_of_transformers_are_known(python):
    """By the names and the modules of its configurations."""
    for module in ("transformers", "torch"):
        if importlib.util.find_spec(module) is None:
            pytest.skip(f"{module} is not there")
    assert "done" in python("""
        import numpy as np, torch
        from transformers.activations import ACT2FN
        from fastinit.theory.parse import resolve
        z = np.linspace(-6, 6, 241)
        names = (
            "gelu gelu_fast gelu_new gelu_python gelu_pytorch_tanh gelu_accurate hardswish leaky_relu linear "
            "mish quick_gelu relu relu2 relu6 sigmoid silu swish tanh"
        )
        for name in names.split():
            module = ACT2FN[name]
            expected = module(torch.from_numpy(z)).numpy()
            np.testing.assert_allclose(resolve(name)(z), expected, rtol=1e-6, atol=1e-9, err_msg=name)
            found = resolve(module)
            assert (found.known, found.name) == (True, resolve(name).name), name
        print("done")
    """)


@pytest.mark.parametrize("name", ["geglu", "glu", "swiglu"])
def test_gains_of_gated_activations(name):
    # By a product of Gauss-Hermite rules, over both halves of the input.
    nodes, weights = np.polynomial.hermite_e.hermegauss(120)
    z = np.stack(np.meshgrid(nodes, nodes, indexing="ij"), axis=-1).reshape(-1, 2)
    weights = np.outer(weights, weights).ravel() / weights.sum() ** 2
    activation = resolve(name)
    assert gain(name) == pytest.approx((weights @ activation(z)[:, 0] ** 2) ** -0.5, rel=1e-9)
    slopes = (activation.backward(z, np.ones((len(z), 1))) ** 2).sum(axis=1)
    assert gain(name, direction="backward") == pytest.approx((weights @ slopes) ** -0.5, rel=1e-9)


@pytest.mark.parametrize("name", ["sparsemax", "softmax", "log_softmax", "glu", "geglu", "swiglu"])
def test_gradients_of_what_couples_units(name):
    rng = np.random.default_rng(2)
    z = rng.normal(size=(1, 6))
    activation = resolve(name)
    gradient = rng.normal(size=activation(z).shape)
    h = 1e-6
    numerical = [
        ((activation(z + h * e) - activation(z - h * e)) * gradient).sum() / (2 * h) for e in np.eye(6)
    ]
    np.testing.assert_allclose(activation.backward(z, gradient)[0], numerical, rtol=1e-6, atol=1e-9)


def test_modules_of_pytorch_are_known():
    nn = pytest.importorskip("torch").nn
    cases = {
        "relu": nn.ReLU(),
        "leaky_relu(0.3)": nn.LeakyReLU(0.3),
        "gelu": nn.GELU(),
        "gelu_tanh": nn.GELU("tanh"),
        "softplus": nn.Softplus(),
        "hard_tanh": nn.Hardtanh(),
        "prelu(0.25)": nn.PReLU(),
        "soft_shrink(0.3)": nn.Softshrink(0.3),
        "threshold(0.1)": nn.Threshold(0.1, 0.0),
        "softmax": nn.Softmax(-1),
        "linear": nn.Identity(),
        "elu(0.5)": nn.ELU(0.5),
        "hard_silu": nn.Hardswish(),
        "log_sigmoid": nn.LogSigmoid(),
        "tanh_shrink": nn.Tanhshrink(),
        "relu6": nn.ReLU6(),
        "log_softmax": nn.LogSoftmax(dim=1),
    }
    assert {str(resolve(module)): module for module in cases.values()} == cases
    assert all(resolve(module).known for module in cases.values())
    assert str(resolve(nn.LeakyReLU)) == "leaky_relu(0.01)"
    with pytest.raises(ValueError, match="the activation Threshold does not work on an array"):
        resolve(nn.Threshold)


def test_modules_with_other_parameters_are_functions():
    torch = pytest.importorskip("torch")
    nn = torch.nn
    for module in (
        nn.Softplus(2.0),
        nn.Softplus(threshold=1.0),
        nn.Hardtanh(-2, 2),
        nn.Threshold(0.1, 20.0),
    ):
        found = resolve(module)
        z = np.linspace(-3, 3, 7)
        assert not found.known
        np.testing.assert_array_equal(found(z), module(torch.from_numpy(z)).numpy())


def test_functions_of_tensors():
    torch = pytest.importorskip("torch")
    assert gain(lambda z: z.clamp(min=0)) == pytest.approx(math.sqrt(2), rel=1e-9)
    assert gain(torch.tanh) == gain("tanh")
    assert gain(torch.nn.functional.leaky_relu) == gain("leaky_relu", 0.01)
    assert gain(torch.nn.Sequential(torch.nn.Tanh(), torch.nn.ReLU())) == pytest.approx(
        gain("tanh") * math.sqrt(2), rel=1e-9
    )


@pytest.mark.parametrize(
    "function",
    [
        lambda z: np.exp(z) / np.exp(z).sum(axis=-1, keepdims=True),
        lambda z: z - z.mean(),
        lambda z: z - z.mean(axis=0),
        lambda z: z * np.random.default_rng().random(z.shape),
    ],
)
def test_functions_that_are_not_element_by_element(function):
    with pytest.raises(ValueError, match="must be elementwise"):
        gain(function)


def test_what_is_no_activation_in_pytorch():
    nn = pytest.importorskip("torch").nn
    assert gain(nn.Identity()) == 1.0
    for thing in (nn.Linear(3, 3), nn.functional.linear, nn.functional.threshold, nn.LayerNorm(3)):
        with pytest.raises(ValueError, match="does not work on an array"):
            gain(thing)


def test_modules_stay_as_they_are():
    nn = pytest.importorskip("torch").nn
    norm, lazy = nn.BatchNorm1d(3).double(), nn.LazyLinear(3, dtype=None)
    for module in (norm, lazy):
        with pytest.raises(ValueError, match="does not work on an array"):
            gain(module)
    assert norm.num_batches_tracked == 0
    assert lazy.has_uninitialized_params()


def test_functions_may_work_in_place():
    z = np.array([-1.0, 2.0])
    assert resolve(lambda z: np.tanh(z, out=z))(z).tolist() == np.tanh(z).tolist()
    assert z.tolist() == [-1.0, 2.0]


def test_functions_of_jax():
    if importlib.util.find_spec("jax") is None:
        pytest.skip("jax is not there")
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", JAX], capture_output=True, text=True, timeout=100, check=False
    )
    assert done.returncode == 0, done.stderr


JAX = """
import jax, jax.numpy as jnp
from fastinit.theory.parse import resolve
from fastinit import gain
assert resolve(jax.nn.relu).name == "relu"
assert resolve(jax.nn.gelu).name == "gelu_tanh"
assert resolve(jax.nn.leaky_relu).param == 0.01
assert abs(gain(lambda z: jnp.tanh(z)) / gain("tanh") - 1) < 1e-6
assert abs(gain(lambda z: jnp.tanh(z), direction="backward") / gain("tanh", direction="backward") - 1) < 1e-4
"""


def test_importing_loads_no_framework(python):
    python("""
        import sys
        import fastinit.guidance
        fastinit.recommend("gelu", "LSTM")
        assert not {"torch", "keras", "jax", "scipy", "matplotlib"} & set(sys.modules)
    """)


@pytest.mark.parametrize(
    ("name", "low", "high"),
    [
        ("relu", -math.inf, math.inf),
        ("gelu", -math.inf, math.inf),
        ("leaky_relu", -math.inf, math.inf),
        ("relu6", -math.inf, 6.0),
        ("hard_tanh", -1.0, 1.0),
        ("tanh", -2.17, 2.17),  # where 1 - tanh**2 is 0.05
        ("elu", math.log(0.05), math.inf),
    ],
)
def test_saturation(name, low, high):
    assert saturation(resolve(name)) == pytest.approx((low, high), abs=0.03)


# Mean squares that diverge, and those that only look like it

DIVERGENT = {
    "exp(z^2/3)": lambda z: np.exp(z**2 / 3),
    "exp(z^2/4)": lambda z: np.exp(z**2 / 4),
    "exp(z^2/4) / sqrt(1 + |z|)": lambda z: np.exp(z**2 / 4) / np.sqrt(1 + np.abs(z)),
    "exp(z^2/3), on one side": lambda z: np.where(z < 0, np.exp(z**2 / 3), 0.0),
    "1 + 1e-60 exp(z^2/3)": lambda z: 1 + 1e-60 * np.exp(z**2 / 3),
    "exp(|z|^3/100)": lambda z: np.exp(np.abs(z) ** 3 / 100),
    "exp(z^4)": lambda z: np.exp(z**4),
    "cosh(z^2)": lambda z: np.cosh(z**2),
    "sin(z) exp(z^2/3)": lambda z: np.sin(z) * np.exp(z**2 / 3),
    "1/z": lambda z: 1 / z,
    "1/z^2": lambda z: 1 / z**2,
    "1/(z - 0.3)": lambda z: 1 / (z - 0.3),
    "1/relu(z - 1)": lambda z: np.where(z > 1, 1 / np.where(z > 1, z - 1, 1), 0.0),
    "|z|^-1/2": lambda z: np.abs(z) ** -0.5,
    "|z - 2.71|^-1/2": lambda z: np.abs(z - 2.71) ** -0.5,
    "|z|^-0.51": lambda z: np.abs(z) ** -0.51,
    "exp(1/z)": lambda z: np.exp(1 / z),
    "tan": np.tan,
    "math.exp": np.vectorize(lambda z: math.exp(z * z / 3)),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", DIVERGENT)
def test_mean_squares_that_diverge(name):
    with pytest.raises(ValueError, match="must be positive and finite, got inf"):
        gain(DIVERGENT[name])


def _power(p):
    """E |z|**(-2 p)"""
    return 2**-p * special.gamma(0.5 - p) / math.sqrt(math.pi)


# Functions with their mean squares.
CONVERGENT = {
    "exp(z^2/5)": (lambda z: np.exp(z**2 / 5), 0.2**-0.5),
    "exp(0.24 z^2)": (lambda z: np.exp(0.24 * z**2), 0.04**-0.5),
    "math.exp, which overflows": (np.vectorize(lambda z: math.exp(z * z / 5)), 0.2**-0.5),
    "exp(15 z)": (lambda z: np.exp(15 * z), math.exp(450)),
    "sinh(5 z)": (lambda z: np.sinh(5 * z), (math.exp(50) - 1) / 2),
    "1e150 z": (lambda z: 1e150 * z, 1e300),
    "1e-150 z": (lambda z: 1e-150 * z, 1e-300),
    "z^9": (lambda z: z**9, math.factorial(18) / (math.factorial(9) * 2**9)),
    "|z|^-0.1": (lambda z: np.abs(z) ** -0.1, _power(0.1)),
    "|z|^-0.4": (lambda z: np.abs(z) ** -0.4, _power(0.4)),
    "|z|^-0.49": (lambda z: np.abs(z) ** -0.49, _power(0.49)),
    "log|z|": (lambda z: np.log(np.abs(z)), ((np.euler_gamma + math.log(2)) / 2) ** 2 + math.pi**2 / 8),
    "sign": (np.sign, 1.0),
    "floor": (np.floor, 2 * sum(k * special.ndtr(-k) * 2 for k in range(1, 40)) + 0.5),
    "a step at 0.3": (lambda z: z > 0.3, special.ndtr(-0.3)),
    "|z|": (np.abs, 1.0),
    "sqrt|z|": (lambda z: np.sqrt(np.abs(z)), math.sqrt(2 / math.pi)),
    "1/(|z| + 1e-6)": (lambda z: 1 / (np.abs(z) + 1e-6), None),
    "a window": (lambda z: np.abs(z) < 1, special.ndtr(1) - special.ndtr(-1)),
    "a table up to 20": (lambda z: np.where(np.abs(z) < 20, z, np.nan), 1.0),
}


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("name", CONVERGENT)
def test_mean_squares_that_converge(name):
    function, expected = CONVERGENT[name]
    if expected is None:
        with mpmath.workdps(30):
            parts = [0, *(_m(10) ** k for k in range(-9, 1)), 4, 16]
            expected = 2 * mpmath.quad(lambda z: mpmath.npdf(z) / (z + _m(1e-6)) ** 2, parts)
    assert gain(function) == pytest.approx(float(expected) ** -0.5, rel=1e-9)


@pytest.mark.parametrize(
    "function",
    [
        np.floor,
        np.sign,
        lambda z: z + (z > 0.3),
        lambda z: np.sqrt(np.abs(z)),
        lambda z: np.exp(z**2 / 3),
        lambda z: np.log(np.abs(z)),
    ],
)
def test_derivatives_whose_mean_square_diverges(function):
    with pytest.raises(ValueError, match=r"the derivative of .* must be positive and finite, got inf"):
        gain(function, direction="backward")


def test_derivatives_whose_mean_square_does_not_diverge():
    assert gain(np.abs, direction="backward") == pytest.approx(1.0, rel=1e-3)
    assert gain(lambda z: z.clip(0) ** 2, direction="backward") == pytest.approx(2**-0.5, rel=1e-6)
    expected = 0.75 * math.sqrt(_power(0.25))
    assert gain(lambda z: np.abs(z) ** 0.75, direction="backward") == pytest.approx(1 / expected, rel=0.05)
    assert gain(lambda z: np.exp(z**2 / 5), direction="backward") == pytest.approx(
        (0.16 * 0.2**-1.5) ** -0.5, rel=1e-6
    )


def test_recommend_refuses_what_diverges():
    with pytest.raises(ValueError, match="must be positive and finite, got inf"):
        fastinit.recommend(lambda z: np.exp(z**2 / 3))
    # At larger variances this one diverges, too.
    assert 0.5 < fastinit.recommend(lambda z: np.exp(z**2 / 5), depth=20).gain < 0.7


# Variance


@pytest.mark.parametrize(
    "name", ["tanh", "gelu", "hard_shrink", "glu", "swiglu", "relu_squared", "sin", "exponential"]
)
def test_slope_of_the_map_of_variances(name):
    activation = resolve(name)
    for q in (0.3, 1.0, 2.0):
        ahead, behind = (moments(activation, q + h)[0] for h in (1e-4, -1e-4))
        assert moments(activation, q)[1] == pytest.approx((ahead - behind) / 2e-4, rel=1e-5)


def test_mean_square_of_a_step_anywhere():
    for step in (0.3, 0.0, 0.5, 0.5 - 1e-5, 1.0 + 1e-7):
        assert normal_mean_square(lambda z, at=step: z > at) == pytest.approx(special.ndtr(-step), rel=1e-12)
    assert normal_mean_square(lambda z: z, power=2) == pytest.approx(3.0, rel=1e-12)  # E z**4


@pytest.mark.parametrize("name", [name for name in names() if name not in JOINT])
def test_flows_keep_their_variance(name):
    activation = resolve(name)
    for flow in (without_bias(activation), with_bias(activation)):
        if flow is not None:
            square, change, steep = moments(activation, flow.variance)
            assert flow.scale * square + flow.bias_std**2 == pytest.approx(flow.variance, rel=1e-9)
            assert flow.scale * change == pytest.approx(flow.slope, rel=1e-9)
            assert flow.scale * steep == pytest.approx(flow.gradient, rel=1e-9)
    if flow is not None:
        assert flow.is_stable
        assert flow.gradient <= 1 + 1e-9


def test_after():
    relu = resolve("relu")
    assert after(relu, 2.0, 0.0, 50) == pytest.approx((2.0, 1.0))
    assert after(relu, 1.0, 0.0, 11) == pytest.approx((2.0**-10, 2.0**-10))
    assert after(relu, 2e30, 0.0, 50)[0] == math.inf
    assert after(relu, 2e-30, 0.0, 50) == (0.0, 0.0)
    assert after(resolve("exponential"), 2.0, 0.0, 50)[0] == math.inf
