"""What `test_keras_plan.py` runs on NumPy, and partly `test_keras.py` on each backend."""

import json
import random

import keras
import ml_dtypes
import numpy as np
import pytest
from keras import layers
from plans import sampled

import fastinit
import fastinit.checkpoint
import fastinit.keras as fk

SEED = 5


def same(variable, row):
    values = keras.ops.convert_to_numpy(variable.value)
    return values.shape == row.shape and values.tobytes() == sampled(row, SEED).tobytes()


@pytest.fixture
def same_seeds(monkeypatch):
    """All initializers without a seed have the same one."""
    monkeypatch.setattr("keras.src.backend.random.make_default_seed", lambda: SEED)


class Scaled(layers.Layer):
    """A layer that names its initializers nowhere but in `build`, and has a layer without a name in it."""

    def build(self, shape):
        self.inner = layers.Dense(shape[-1])
        self.inner.build(shape)
        self.scale = self.add_weight(shape=(shape[-1], 3), initializer="he_normal", name="scale")
        self.count = self.add_weight(shape=(), initializer="ones", dtype="int32", trainable=False)

    def call(self, x):
        return self.inner(x) @ self.scale


class Group(layers.Layer):
    """Layers that are built, but not called, which takes seconds on some backends."""

    def __init__(self):
        super().__init__(name="group")
        constant = keras.initializers.Constant(0.25)
        self.parts = [
            (layers.LSTM(4, bias_initializer="random_normal"), (1, 5, 3)),
            (layers.Bidirectional(layers.GRU(3, return_sequences=True)), (1, 5, 3)),
            (layers.ConvLSTM1D(2, 3, bias_initializer="random_uniform"), (1, 5, 6, 3)),
            (layers.MultiHeadAttention(2, 4, dropout=0.1), ((1, 5, 6), (1, 5, 6))),
            (layers.BatchNormalization(), (1, 5, 6)),
            (layers.Conv1D(5, 3, dtype="mixed_float16"), (1, 8, 6)),
            (layers.SeparableConv1D(4, 3, depthwise_initializer="he_uniform"), (1, 8, 6)),
            (layers.Conv1DTranspose(3, 2, use_bias=False, dtype="bfloat16"), (1, 8, 6)),
            (layers.DepthwiseConv2D(3, depth_multiplier=2), (1, 8, 8, 3)),
            (layers.PReLU(alpha_initializer=constant), (1, 8, 6)),
            (layers.SpectralNormalization(layers.Dense(3)), (1, 6)),
            (layers.TimeDistributed(layers.Dense(2)), (1, 4, 6)),
            (layers.Dense(6, kernel_initializer=fk.Orthogonal(blocks=2)), (1, 8)),
            (layers.EinsumDense("abc,cde->abde", (9, 2, 3), bias_axes="e"), (1, 9, 4)),
            (layers.Dense(4, kernel_initializer="lecun_normal", bias_initializer="normal"), (1, 5)),
            (layers.Embedding(9, 4), (1, 5)),
            (layers.Dropout(0.5), (1, 5)),
            (Scaled(), (1, 5)),
        ]
        self.all = [layer for layer, _ in self.parts]

    def build(self, _):
        for layer, shape in self.parts:
            layer.build(*(shape if isinstance(shape[0], tuple) else [shape]))


def group():
    layer = Group()
    layer.build(None)
    return layer


class Subclass(keras.Model):
    def __init__(self):
        super().__init__()
        self.embed = layers.Embedding(20, 6)
        self.norm = layers.LayerNormalization()
        self.out = layers.Dense(
            3, trainable=False, kernel_initializer=keras.initializers.VarianceScaling(distribution="normal")
        )

    def call(self, x):
        return self.out(self.norm(self.embed(x)))


def subclass():
    model = Subclass()
    model(np.zeros((1, 4), int))
    return model


MODELS = {
    "group": group,
    "sequential": lambda: keras.Sequential([keras.Input((8,)), layers.Dense(4), layers.Dropout(0.5)]),
    "subclass": subclass,
}


@pytest.mark.usefixtures("same_seeds")
@pytest.mark.parametrize("name", MODELS)
def test_contents_are_those_of_accelerate_with_a_salt(name):
    with fk.accelerate(salt=True):
        model = MODELS[name]()
    if keras.config.backend() != "numpy" and isinstance(model, keras.Model):
        model.compile("adam", "mse", metrics=["mae"])
    plan = fk.plan(model)
    assert [row.name for row in plan.rows] == [one.path for one in model.weights]
    for variable, row in zip(model.weights, plan.rows, strict=True):
        assert same(variable, row), row
    assert fastinit.checkpoint.Plan.from_dict(json.loads(json.dumps(plan.to_dict()))) == plan
    assert fastinit.checkpoint.plan(model) == plan
    # Values do not matter, nor seeds.
    model.set_weights([np.zeros(one.shape, one.dtype) for one in model.weights])
    assert fk.plan(model) == plan


@pytest.mark.parametrize(
    "layer",
    [
        layers.DepthwiseConv2D(3, depth_multiplier=4),
        layers.Conv2DTranspose(40, 3, kernel_initializer="he_normal"),
        layers.EinsumDense("abcd,def->abcef", (None, None, 6, 20), kernel_initializer="lecun_uniform"),
        layers.SeparableConv2D(40, 3, pointwise_initializer="he_uniform"),
        layers.Embedding(100, 50, embeddings_initializer="glorot_normal"),
        layers.Dense(90, bias_initializer="glorot_uniform"),
    ],
    ids=lambda layer: type(layer).__name__,
)
def test_distributions_are_those_of_keras(layer):
    """The bound of the standard deviation is beyond 5 of its own standard errors."""
    layer.build((2, 10, 10, 30))
    plan = fk.plan(layer)
    for variable, row in zip(layer.weights, plan.rows, strict=True):
        values = keras.ops.convert_to_numpy(variable.value).astype(float)
        found = row.initializer.check(row.parts[0].shape)
        assert abs(values.mean() - found.mean) <= 6 * found.std / np.sqrt(values.size)
        assert values.std() == pytest.approx(found.std, rel=6 / np.sqrt(2 * values.size))


def test_presets_are_named():
    plan = fk.plan(keras.Sequential([keras.Input((8,)), layers.Dense(4)], name="model"))
    assert plan.rows[0].initializer == fastinit.GlorotUniform()
    assert plan.rows[0].rule == "Dense"


def test_values_that_are_computed_are_given():
    table = np.arange(8.0).reshape(2, 4)
    layer = layers.Dense(4, kernel_initializer=keras.initializers.Constant(table), dtype="bfloat16")
    layer.build((1, 2))
    row = fk.plan(layer).rows[0]
    assert row.initializer is None
    assert (sampled(row, SEED) == table.astype(ml_dtypes.bfloat16)).all()
    layer = layers.STFTSpectrogram(frame_length=16, frame_step=8)
    layer.build((1, 64, 1))
    assert all(same(one, row) for one, row in zip(layer.weights, fk.plan(layer).rows, strict=True))


class Own(keras.initializers.RandomNormal):
    def __call__(self, shape, dtype=None):
        return super().__call__(shape, dtype) + 1


def own(shape, dtype=None):
    return keras.ops.ones(shape, dtype)


def test_unknown_initializers_need_a_rule():
    model = keras.Sequential(
        [
            keras.Input((8,)),
            layers.Dense(4, kernel_initializer=Own(), name="one"),
            layers.Dense(4, kernel_initializer=own, name="two"),
            layers.BatchNormalization(renorm=True, name="three"),
        ],
        name="model",
    )
    with pytest.raises(ValueError, match="variables need a rule") as caught:
        fk.plan(model)
    paths = ["one/kernel", "two/kernel", "three/moving_stddev", "three/renorm_stddev"]
    assert all(f"model/{path}" in str(caught.value) for path in paths)
    rules = {
        "*/one/kernel": keras.initializers.HeNormal(seed=1),
        "model/two/*": fastinit.HeNormal(seed=2),
        "*/three/*_stddev": 1,
        "*/kernel": 0,
        "*/none": 0,
    }
    rules["*/bias"] = None
    with pytest.raises(ValueError, match="model/two/bias, rule 'model/two/\\*'"):
        fk.plan(model, rules)
    rules = {"*/two/bias": 0.5, **rules}
    plan = fk.plan(model, rules)
    assert plan["model/one/kernel"].initializer == plan["model/two/kernel"].initializer == fastinit.HeNormal()
    assert plan["model/one/kernel"].rule == "*/one/kernel"
    assert plan["model/one/bias"].initializer == fastinit.Zeros()
    assert plan["model/two/bias"].initializer == fastinit.Constant(0.5)
    assert plan["model/three/moving_stddev"].initializer == fastinit.Constant(1)
    assert plan.unused_rules == ("*/none",)
    with pytest.raises(ValueError, match="has no initializer like"):
        fk.plan(model, {"*": Own()})
    with pytest.raises(TypeError, match="a rule must be an initializer"):
        fk.plan(model, {"*": own})


def test_a_quantized_layer_needs_rules():
    layer = layers.Dense(4, name="layer")
    layer.build((1, 6))
    layer.quantize("int8")
    with pytest.raises(ValueError, match="3 variables need a rule"):
        fk.plan(layer)
    plan = fk.plan(layer, {"*/kernel": 3, "*": 0.5})
    assert (plan["layer/kernel"].dtype, sampled(plan["layer/kernel"], SEED).max()) == ("int8", 3)


def test_errors():
    with pytest.raises(ValueError, match="the model 'empty' has no weights yet"):
        fk.plan(keras.Sequential([layers.Dense(3)], name="empty"))
    with pytest.raises(TypeError, match="a plan needs a model of Keras, got 'model'"):
        fk.plan("model")
    with pytest.raises(TypeError, match="rules must be a mapping, got list"):
        fk.plan(MODELS["sequential"](), [])

    class Twice(layers.Layer):
        def build(self, shape):
            self.one = self.add_weight(shape=shape[1:], name="weight")
            self.two = self.add_weight(shape=shape[1:], name="weight")

    layer = Twice(name="layer")
    layer.build((1, 3))
    with pytest.raises(ValueError, match="several variables have the same path: layer/weight"):
        fk.plan(layer)


def test_nothing_of_keras_changes():
    with fk.accelerate():
        model = MODELS["group"]()
    number = int(layers.Dense(1).name.rpartition("_")[2])
    before = random.getstate()
    fk.plan(model)
    assert random.getstate() == before
    assert layers.Dense(1).name == f"dense_{number + 1}"
    with keras.StatelessScope():  # At its end, Keras gives values to the variables that have none.
        pass


def test_a_model_larger_than_memory():
    with keras.StatelessScope(initialize_variables=False):
        large = [layers.Dense(2**20, name="one"), layers.Dense(2**20, name="two")]
        model = keras.Sequential([keras.Input((2**20,)), *large], name="model")
    plan = fk.plan(model)
    assert plan.nbytes == 4 * (2**41 + 2**21)
    assert plan["model/two/kernel"].initializer == fastinit.GlorotUniform()
    keras.utils.clear_session()
