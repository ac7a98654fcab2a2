"""`fastinit.haiku` against `haiku.initializers`: names, arguments, distributions, fans, errors.

Two samples are compared by the Kolmogorov-Smirnov statistic at fixed seeds; a limit of 1e-4 for each of some
50 comparisons would be a false alarm in 0.5 % of choices of seeds.
"""

import inspect

import numpy as np
import pytest

jax = pytest.importorskip("jax")
haiku = pytest.importorskip("haiku")
stats = pytest.importorskip("scipy.stats")

import jax.numpy as jnp  # noqa: E402

import fastinit  # noqa: E402
import fastinit.haiku as ours  # noqa: E402

peers = haiku.initializers
CLASSES = sorted(name for name, value in vars(peers).items() if inspect.isclass(value))
CASES = [
    ("RandomNormal", ()),
    ("RandomNormal", (2.0, 1.0)),
    ("TruncatedNormal", (2.0, 1.0)),
    ("TruncatedNormal", (2.0, 1.0, -1.0, 3.0)),
    ("RandomUniform", (-1.0, 3.0)),
    ("VarianceScaling", ()),
    ("VarianceScaling", (2.0, "fan_out", "normal")),
    ("VarianceScaling", (1.0, "fan_avg", "Uniform")),
    ("VarianceScaling", (1.0, "fan_in", "uniform", (0, 1))),
    ("UniformScaling", (1.5,)),
    ("UniformScaling", (-1.5,)),
    ("Orthogonal", (2.0,)),
    ("Orthogonal", (1.0, 0)),
]


def run(function, seed=7):
    return haiku.transform(function).apply({}, jax.random.key(seed))


def outcome(module, name, arguments, shape, dtype):
    try:
        return np.asarray(run(lambda: getattr(module, name)(*arguments)(shape, dtype)))
    except Exception as error:
        return type(error), str(error)


def test_every_name_is_there():
    assert set(CLASSES) <= set(ours.__all__)
    for name in CLASSES:
        assert issubclass(getattr(ours, name), getattr(peers, name))
        assert inspect.signature(getattr(ours, name)) == inspect.signature(getattr(peers, name))


@pytest.mark.parametrize("shape", [(), (900,), (60, 50), (8, 30, 40)])
@pytest.mark.parametrize(("name", "arguments"), CASES)
def test_distributions_and_errors_are_those_of_haiku(name, arguments, shape):
    found, expected = (outcome(module, name, arguments, shape, jnp.float32) for module in (ours, peers))
    if isinstance(expected, tuple):
        assert found == expected
        return
    assert (found.shape, found.dtype) == (expected.shape, expected.dtype)
    if name == "Orthogonal":
        matrices = [np.moveaxis(one, arguments[1] if arguments[1:] else -1, -1) for one in (found, expected)]
        grams = [one.reshape(-1, one.shape[-1]) for one in matrices]
        grams = [one @ one.T if len(one) < one.shape[1] else one.T @ one for one in grams]
        np.testing.assert_allclose(*grams, atol=1e-4)
    elif found.size > 1:
        assert stats.ks_2samp(np.ravel(found), np.ravel(expected)).pvalue > 1e-4
        assert np.std(found) == pytest.approx(
            np.std(expected), rel=0.15
        )  # six standard errors of 900 elements


def test_values_are_those_of_the_key():
    # The first key that Haiku draws is the second half of the split.
    key = jax.random.split(jax.random.key(7))[1]
    high, low = map(int, jax.random.key_data(key))
    found = run(lambda: ours.RandomNormal(0.02)((8, 6), jnp.bfloat16))
    expected = fastinit.random_normal((8, 6), stddev=0.02, seed=high << 32 | low, dtype="bfloat16")
    assert np.array_equal(found, expected)


@pytest.mark.parametrize(
    ("name", "arguments", "shape", "dtype"),
    [
        ("RandomNormal", (), (3,), jnp.complex64),
        ("TruncatedNormal", (), (3,), jnp.complex64),
        ("RandomNormal", (0.0, 2.0), (3,), jnp.float32),
        ("RandomNormal", (), (3,), jnp.int32),
        ("RandomUniform", (1.0, 1.0), (3,), jnp.float32),
        ("VarianceScaling", (0.0,), (3, 4), jnp.float32),
        ("VarianceScaling", (-1.0,), (3, 4), jnp.float32),
        ("VarianceScaling", (1.0, "bad"), (3, 4), jnp.float32),
        ("VarianceScaling", (1.0, "fan_in", "bad"), (3, 4), jnp.float32),
        ("Identity", (2.0,), (2, 3, 4), jnp.int32),
        ("Identity", (), (3,), jnp.float32),
        ("Constant", (2.0,), (3,), jnp.float32),
        ("RandomNormal", (), (2.5,), jnp.float32),
    ],
)
def test_the_rest_is_haiku_s(name, arguments, shape, dtype):
    found, expected = (outcome(module, name, arguments, shape, dtype) for module in (ours, peers))
    if isinstance(expected, tuple):
        assert found == expected
    else:
        np.testing.assert_array_equal(found, expected)


def test_half_precision_of_orthogonal_matrices():
    found = run(lambda: ours.Orthogonal()((6, 8), jnp.bfloat16))
    assert found.dtype == jnp.bfloat16


def test_a_network_eagerly_and_compiled():
    def network(x):
        return haiku.nets.MLP([16, 4], w_init=ours.VarianceScaling(2.0, "fan_in"))(x)

    init = haiku.transform(network).init
    eager, compiled = (function(jax.random.key(7), jnp.ones((1, 8))) for function in (init, jax.jit(init)))
    assert jax.tree.all(jax.tree.map(np.array_equal, eager, compiled))
