"""What `test_keras.py` runs on each backend of Keras: `trace` and `lsuv`."""

import keras
import numpy as np
import pytest
from keras import layers

import fastinit
import fastinit.keras

BACKEND = keras.config.backend()
TRAINS = BACKEND != "numpy"  # Keras has no gradients on NumPy


@pytest.fixture(scope="module", autouse=True)
def _enabled():
    fastinit.keras.enable()  # With JAX, Keras compiles its own initializers.
    yield
    fastinit.keras.disable()


def array(x):
    return np.array(keras.ops.convert_to_numpy(x))


def functional():
    keras.utils.set_random_seed(1)
    x = keras.Input((8, 8, 3))
    y = layers.Conv2D(6, 3, padding="same", activation="tanh", name="conv")(x)
    y = layers.BatchNormalization(name="norm")(y)
    y = layers.Flatten(name="flat")(y)
    y = layers.Dropout(0.0)(y)
    y = layers.Dense(16, activation="relu", name="hidden")(y)
    return keras.Model(x, layers.Dense(5, name="head")(y))


def plain(depth=12, **options):
    keras.utils.set_random_seed(1)
    hidden = [layers.Dense(32, name=f"layer{i}", **options) for i in range(depth)]
    return keras.Sequential([keras.Input((32,)), *hidden, layers.Dense(10, name="head")])


def batch(*shape):
    return fastinit.random_normal(shape, 0.0, 1.0, seed=3)


def states(model):
    return [array(variable.value) for variable in model.variables]


def assert_unchanged(model, before):
    for variable, value in zip(model.variables, before, strict=True):
        np.testing.assert_array_equal(array(variable.value), value, variable.path)
    for layer in [model, *model.layers]:
        assert "call" not in vars(layer)
        assert "<locals>" not in repr(getattr(layer, "activation", None))


def by_hand(model, x):
    """The outputs of the layers, one after the other, and the gradients of the sum of squares."""
    outputs = []
    for layer in model.layers[1:]:
        x = layer(x, training=True) if "norm" in layer.name else layer(x)
        outputs.append((layer.name, x))
    return outputs


def test_activations_equal_those_by_hand():
    model, x = functional(), batch(16, 8, 8, 3)
    before = states(model)
    found = fastinit.trace(model, x)
    assert_unchanged(model, before)
    assert [row.type for row in found.rows] == ["Conv2D", "BatchNormalization", "Flatten", "Dense", "Dense"]
    with keras.StatelessScope():
        expected = {name: array(y) for name, y in by_hand(model, x)}
    for row in found.rows:
        y = expected[row.name]
        assert row.shape == y.shape
        assert row.std == pytest.approx(y.std(), rel=0.01)
        assert row.mean == pytest.approx(y.mean(), rel=0.01, abs=1e-3 * float(y.std()))
        units = y.reshape(-1, y.shape[-1])
        assert row.constant_units == np.mean(np.ptp(units, axis=0) == 0)
        spread = np.sqrt(np.mean(np.var(y, axis=0)) / np.mean(np.square(y)))
        assert row.sample_distance == pytest.approx(spread, rel=0.01)
    z = array(keras.ops.conv(x, model.layers[1].kernel, padding="same"))
    assert found["conv"].saturated == pytest.approx(np.mean(np.abs(z) > 2.18), abs=0.003)
    assert (found["conv"].activation, found["hidden"].activation) == ("tanh", "relu")
    assert found["conv"].parameters == 3 * 3 * 3 * 6 + 6
    assert found["norm"].parameters == 4 * 6
    assert found["hidden"].weight_norm == pytest.approx(np.linalg.norm(array(model.layers[5].kernel)))


@pytest.mark.skipif(not TRAINS, reason="Keras has no gradients on NumPy")
def test_gradients_equal_differences():
    # The loss is quadratic in what is added to the output of the last layers but one.
    model, x = plain(2), batch(8, 32)

    def loss(y):
        return keras.ops.sum(keras.ops.square(y)) / 8

    found = fastinit.trace(model, x, loss=loss, learning_rate=0.5)
    kernels = [array(layer.kernel).astype(np.float64) for layer in model.layers]
    y0 = x @ kernels[0]
    y1 = y0 @ kernels[1]
    y2 = y1 @ kernels[2]
    g2 = 2 * y2 / 8
    g1 = g2 @ kernels[2].T
    g0 = g1 @ kernels[1].T
    assert found.loss == pytest.approx((y2**2).sum() / 8, rel=1e-4)
    for row, g, y, w in zip(found.rows, (g0, g1, g2), (x, y0, y1), kernels, strict=True):
        assert row.gradient_std == pytest.approx(g.std(), rel=1e-3)
        assert row.no_gradient == 0.0
        gradient = np.hypot(np.linalg.norm(y.T @ g), np.linalg.norm(g.sum(axis=0)))
        assert row.weight_gradient_norm == pytest.approx(gradient, rel=1e-3)
        assert row.update_ratio == pytest.approx(0.5 * gradient / np.linalg.norm(w), rel=1e-3)


def test_nothing_is_left_after_an_error():
    model = functional()
    before = states(model)

    def loss(y):
        raise ZeroDivisionError(y.shape)

    with pytest.raises(ZeroDivisionError):
        fastinit.trace(model, batch(4, 8, 8, 3), loss=loss)
    assert_unchanged(model, before)
    with pytest.raises(ValueError, match=r"shape|incompatible"):
        fastinit.trace(model, batch(4, 5))
    assert_unchanged(model, before)


def test_kinds_of_models():
    keras.utils.set_random_seed(1)
    model = keras.Sequential(
        [
            keras.Input((None,), dtype="int32"),
            layers.Embedding(20, 8),
            layers.LSTM(6),
            layers.Dropout(0.5),
            layers.Dense(3),
        ]
    )
    before = states(model)  # The state of the seed generator of dropout, too.
    found = fastinit.trace(model, 4)
    assert_unchanged(model, before)
    assert [row.type for row in found.rows] == ["Embedding", "LSTM", "Dense"]
    assert found.rows[1].shape == (4, 6)
    assert found.rows[1].activation is None
    assert found.rows[1].parameters == 4 * 6 * (8 + 6 + 1)
    assert all((row.gradient_std is not None) == TRAINS for row in found.rows)
    assert found.to_dict()["framework"] == f"keras on {BACKEND}"

    class Shared(keras.Model):
        def __init__(self):
            super().__init__()
            self.dense = layers.Dense(6, activation="sigmoid")

        def call(self, x):
            return self.dense(self.dense(x))

    shared = Shared()
    with pytest.raises(ValueError, match="built or called"):
        fastinit.trace(shared, (4, 6))
    shared(batch(2, 6))
    found = fastinit.trace(shared, (4, 6), layers="*dense*")
    assert len(found.rows) == 2
    assert found.rows[1].name == f"{found.rows[0].name} (2)"
    with pytest.raises(ValueError, match="cannot be told"):
        fastinit.trace(shared, 4)


def test_lsuv_and_fix():
    model = functional()
    x = batch(32, 8, 8, 3)
    before = states(model)
    rules = fastinit.lsuv(model, x, seed=5)
    assert_unchanged(model, before)
    rules.apply()
    kernel = rules["head/kernel"].initializer
    expected = kernel(tuple(model.layers[-1].kernel.shape), seed=5, stream="head/kernel")
    np.testing.assert_array_equal(array(model.layers[-1].kernel), expected)
    found = fastinit.trace(model, x)
    assert found["head"].std == pytest.approx(1.0, rel=1e-3)

    small = plain(kernel_initializer=keras.initializers.RandomNormal(stddev=0.001), activation="relu")
    found = fastinit.trace(small, 16)
    assert found.verdict == "vanishes"
    before = states(small)
    repair = found.fix()
    assert_unchanged(small, before)
    assert not repair.problems
    repair.apply()
    assert fastinit.trace(small, 16).ok


def test_no_rule_is_for_two_variables():
    class Block(layers.Layer):
        def __init__(self):
            super().__init__(name="block")
            self.norm, self.dense = layers.LayerNormalization(name="norm"), layers.Dense(6, name="dense")

        def build(self, shape):
            self.norm.build(shape)
            self.dense.build(shape)

        def call(self, x):
            return self.dense(self.norm(x))

    class Model(keras.Model):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.head = Block(), Block(), layers.Dense(3, name="head")

        def call(self, x):
            return self.head(self.two(self.one(x)))

    model = Model()
    model(batch(2, 6))
    path = model.one.dense.kernel.path
    assert path == model.two.dense.kernel.path
    for block in (model.one, model.two):
        block.norm.gamma.assign(np.zeros(6))
    rules = fastinit.lsuv(model, batch(16, 6))
    assert list(rules.rules) == [model.head.kernel.path, model.head.bias.path]
    assert rules.skipped == {path: "several variables have this path"}
    found = fastinit.trace(model, batch(16, 6))
    assert not found.ok
    assert set(found.fix().rules) == set(rules.rules)


@pytest.mark.skipif(not TRAINS, reason="Keras does not train on NumPy")
def test_callback():
    model, x = plain(1), batch(24, 32)
    model.compile("sgd", "mse")
    seen = []
    log = fastinit.TraceLog(x, every=2, to=lambda step, found: seen.append((step, found.rows[0])))
    model.fit(x, x[:, :10], batch_size=8, epochs=2, verbose=0, callbacks=[log.keras()])
    assert [step for step, _ in seen] == [0, 2, 4, 6]
    norms = [row.weight_norm for _, row in seen]
    assert len(set(norms)) == 4
    last = np.hypot(*(np.linalg.norm(array(v)) for v in model.layers[0].weights))
    assert norms[-1] == pytest.approx(last)  # those of the last step, with JAX too
