"""`trace` of functions of JAX and modules of Flax, against values and gradients by hand."""

import numpy as np
import pytest

import fastinit

jax = pytest.importorskip("jax")
jnp = jax.numpy


def net(params, x):
    for layer in params["layers"]:
        x = jax.nn.relu(x @ layer["w"] + layer["b"])
    return jnp.tanh(x) @ params["head"]


def params_of(depth, std):
    def normal(shape, stream):
        return jnp.asarray(fastinit.random_normal(shape, 0.0, std, seed=2, stream=stream))

    layers = [{"w": normal((16, 16), f"w{i}"), "b": normal((16,), f"b{i}")} for i in range(depth)]
    return {"layers": layers, "head": normal((16, 4), "head")}


def test_equals_values_and_gradients_by_hand():
    params, x = params_of(2, 0.5), fastinit.random_normal((8, 16), 0.0, 1.0, seed=1)
    target = fastinit.random_normal((8, 4), 0.0, 1.0, seed=4)

    def loss(y, target):
        return jnp.square(y - target).mean()

    found = fastinit.trace(net, x, params=params, loss=loss, target=target, learning_rate=0.1)
    first, second = params["layers"]
    z0 = x @ first["w"] + first["b"]
    z1 = jax.nn.relu(z0) @ second["w"] + second["b"]
    h1 = jax.nn.relu(z1)
    t = jnp.tanh(h1)
    y = t @ params["head"]
    gy = 2 * (y - target) / y.size
    gt = gy @ params["head"].T
    gh1 = gt * (1 - t**2)
    gz1 = gh1 * (z1 > 0)
    gh0 = gz1 @ second["w"].T
    gz0 = gh0 * (z0 > 0)
    expected = {
        "layers/0": (z0, gz0),
        "relu": (jax.nn.relu(z0), gh0),
        "layers/1": (z1, gz1),
        "relu (2)": (h1, gh1),
        "tanh": (t, gt),
        "head": (y, gy),
    }
    assert [row.name for row in found.rows] == list(expected)
    for row in found.rows:
        value, gradient = (np.asarray(one, np.float64) for one in expected[row.name])
        assert row.shape == value.shape
        assert row.std == pytest.approx(value.std(), rel=1e-4)
        assert row.mean == pytest.approx(value.mean(), rel=1e-3, abs=1e-5)
        assert row.gradient_std == pytest.approx(gradient.std(), rel=1e-3)
        assert row.no_gradient == np.mean((gradient == 0).all(axis=0))
        spread = np.sqrt(value.var(axis=0).mean() / np.square(value).mean())
        assert row.sample_distance == pytest.approx(spread, rel=1e-3)
    assert found["tanh"].saturated == pytest.approx(np.mean(np.abs(np.asarray(h1)) > 2.18), abs=0.02)
    gradient = np.asarray(t).T @ np.asarray(gy)
    ratio = 0.1 * np.linalg.norm(gradient) / np.linalg.norm(params["head"])
    assert found["head"].update_ratio == pytest.approx(ratio, rel=1e-3)
    assert found["layers/0"].parameters == 16 * 16 + 16
    assert found["layers/0"].type == "dot_general"
    assert found.loss == pytest.approx(float(loss(y, target)), rel=1e-5)


def test_what_is_wrong_is_found():
    found = fastinit.trace(net, (16, 16), params=params_of(8, 0.01))
    assert "vanishes" in {problem.verdict.value for problem in found.problems}
    with pytest.raises(TypeError, match="JAX"):
        found.fix()
    with pytest.raises(TypeError, match="JAX"):
        fastinit.lsuv(net, (16, 16))
    assert fastinit.trace(net, (16, 16), params=params_of(3, 0.3)).ok
    head = {**params_of(3, 0.3), "head": jnp.zeros((16, 4))}
    assert fastinit.trace(lambda p, x: net(p, x) + 1e-6, (16, 16), params=head).ok  # by design
    again = jax.jit(net)
    assert fastinit.trace(again, (16, 16), params=params_of(3, 0.3)).ok


def test_errors():
    with pytest.raises(TypeError, match="params="):
        fastinit.trace(net, (16, 16))
    with pytest.raises(ValueError, match="cannot be told"):
        fastinit.trace(net, 16, params=params_of(1, 1.0))
    with pytest.raises(ValueError, match="training"):
        fastinit.trace(net, (4, 16), params=params_of(1, 1.0), training=True)
    with pytest.raises(TypeError, match="one element"):
        fastinit.trace(net, (4, 16), params=params_of(1, 1.0), loss=lambda y: y)


def test_modules_of_flax():
    linen = pytest.importorskip("flax.linen")
    nnx = pytest.importorskip("flax.nnx")

    class Model(linen.Module):
        @linen.compact
        def __call__(self, x):
            x = linen.Embed(10, 8)(x)
            x = linen.LayerNorm()(linen.gelu(linen.Dense(8)(x)))
            return linen.Dense(3)(linen.sigmoid(x))

    x = np.arange(20).reshape(4, 5) % 10
    variables = Model().init(jax.random.key(0), x)
    found = fastinit.trace(Model(), x, params=variables)
    assert [row.name for row in found.rows] == ["Embed_0", "Dense_0", "LayerNorm_0", "sigmoid", "Dense_1"]
    output, state = Model().apply(variables, x, capture_intermediates=True)
    for row in found.rows:
        if row.name != "sigmoid":
            (value,) = state["intermediates"][row.name]["__call__"]
            assert row.std == pytest.approx(float(value.std()), rel=1e-3)
            assert row.gradient_std
    assert found.rows[-1].shape == output.shape

    class Other(nnx.Module):
        def __init__(self):
            rngs = nnx.Rngs(0)
            self.a, self.norm = nnx.Linear(6, 8, rngs=rngs), nnx.BatchNorm(8, rngs=rngs)
            self.b = nnx.Linear(8, 2, rngs=rngs)

        def __call__(self, x):
            return self.b(jax.nn.silu(self.norm(self.a(x))))

    model = Other()
    before = jax.tree.map(np.array, nnx.state(model))
    found = fastinit.trace(model, (8, 6))
    assert [row.name for row in found.rows] == ["a", "norm", "silu", "b"]
    after = jax.tree.map(np.array, nnx.state(model))
    assert jax.tree.all(jax.tree.map(np.array_equal, before, after))
