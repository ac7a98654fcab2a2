"""What `test_keras.py` runs on each backend of Keras: `diagnose`."""

import keras
import numpy as np
import pytest
from keras import layers

from fastinit import diagnose


def loud(found):
    return sorted((f.code, f.tensor) for f in found.findings if f.severity != "info")


@pytest.fixture
def model():
    keras.utils.clear_session()  # for names without numbers
    keras.utils.set_random_seed(0)
    inputs = keras.Input((12, 12, 3))
    x = layers.Conv2D(32, 3)(inputs)
    x = layers.BatchNormalization()(x)
    x = layers.SeparableConv2D(48, 3)(x)
    x = layers.DepthwiseConv2D(3)(x)
    x = layers.Conv2D(64, 3, groups=4, kernel_initializer="he_normal")(x)
    x = layers.Conv2DTranspose(32, 4, name="up")(x)
    x = layers.Reshape((-1, 32))(x)
    x = layers.MultiHeadAttention(2, 16)(x, x)
    x = layers.EinsumDense("abc,cd->abd", output_shape=(None, 24), bias_axes="d")(x)
    x = layers.LSTM(32, return_sequences=True, name="lstm")(x)
    x = layers.Bidirectional(layers.GRU(24, return_sequences=True))(x)
    x = layers.SimpleRNN(20)(x)
    x = layers.Dense(64, "relu", name="hidden")(x)
    words = keras.Input((5,))
    e = layers.GlobalAveragePooling1D()(layers.Embedding(200, 16, mask_zero=True)(words))
    return keras.Model([inputs, words], layers.Dense(10)(layers.Concatenate()([x, e])))


def test_a_correct_model_and_planted_faults(model):
    found = diagnose(model)
    assert loud(found) == [], found
    assert len(found.rows) == sum("seed" not in v.path for v in model.weights)

    layer = model.get_layer("hidden")
    kernel = np.array(keras.ops.convert_to_numpy(layer.kernel))
    for code, spoiled in {
        "all_zero": kernel * 0,
        "too_large": kernel * 100,
        "too_small": kernel * 1e-4,
        "constant": kernel * 0 + 1,
    }.items():
        layer.kernel.assign(spoiled)
        assert loud(diagnose(model)) == [(code, "hidden/kernel")], code
    layer.kernel.assign(kernel)

    # The layer says orthogonal, and it is not.
    cell = model.get_layer("lstm").cell
    cell.recurrent_kernel.assign(keras.initializers.GlorotUniform(seed=5)((32, 128)))
    assert loud(diagnose(model)) == [("not_orthogonal", "lstm/lstm_cell/recurrent_kernel")]


def test_so_few_units_tell_nothing():
    assert loud(diagnose(keras.Sequential([keras.Input((5, 3)), layers.SimpleRNN(4)]))) == []


def test_a_model_that_is_not_built():
    with pytest.raises(ValueError, match="built"):
        diagnose(keras.Sequential([layers.Dense(3)]))
