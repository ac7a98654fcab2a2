"""Training from several initializers: what is measured, on PyTorch and on Keras."""

import importlib
import importlib.util
import json
import math
import sys

import numpy as np
import pytest

import fastinit
from fastinit import compare, show

_compare = importlib.import_module("fastinit.guidance.compare")  # the name is that of the function, too

pytest.importorskip("sklearn")
torch = pytest.importorskip("torch")

SMALL = {"depth": 3, "width": 32, "epochs": 2, "progress": False, "backend": "torch"}


@pytest.fixture(scope="module")
def usual():
    return compare(progress=False, epochs=6)


def test_the_default_tells_good_from_bad(usual):
    he, glorot, small, large, _ = usual.rows
    assert [row.name for row in usual.rows] == [
        "recommended: Orthogonal(gain=1.414)",
        "glorot_uniform",
        "too small: normal, std 0.01",
        "too large: normal, std 1",
        "zeros",
    ]
    assert he.verdict == "learned"
    assert he.validation_accuracy[-1] > 0.9
    assert he.epochs_to(0.9) <= 6
    # Through ten layers of ReLU, Glorot's gradient is smaller by 2 ** -5.
    assert 1 / 100 < glorot.first_gradient_norm[0] / he.first_gradient_norm[0] < 1 / 10
    assert he.train_loss[3] < glorot.train_loss[3]
    assert small.verdict == "did_not_learn"
    assert small.first_gradient_norm[0] < 1e-9
    assert small.train_loss[-1] == pytest.approx(math.log(10), abs=0.01)
    assert large.text == "diverged in epoch 1"
    assert large.diverged == 1
    assert len(large.train_loss) == len(large.gradient_norm) == 1
    assert large.first_gradient_norm[0] > 1e6


def test_zeros_do_not_learn(usual):
    zeros = usual["zeros"]
    assert zeros.verdict == "did_not_learn"
    assert zeros.first_gradient_norm == (0.0,) * 7
    assert zeros.constant_units == (1.0,) * 7
    assert zeros.train_loss[0] == pytest.approx(math.log(10))
    assert zeros.gradient_norm[0] > 0.0  # of the last bias


def test_it_is_repeatable(usual):
    again = compare(progress=False, epochs=6)
    assert again == usual
    assert again.to_dict() | {"rows": ()} == usual.to_dict() | {"rows": ()}
    other = compare("he_normal", seed=1, **SMALL)
    assert other != compare("he_normal", **SMALL)
    # Fewer epochs are the first of more, and runs do not depend on their neighbours.
    alone = compare(fastinit.recommend("relu", depth=10), progress=False, epochs=3).rows[0]
    assert alone.train_loss == usual.rows[0].train_loss[:4]


def test_threads_are_as_before():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        compare("zeros", depth=1, width=2, epochs=1, progress=False, backend="torch")
        assert torch.get_num_threads() == 2
        with pytest.raises(ZeroDivisionError):
            compare("zeros", activation=lambda z: z / (1 // 0), depth=1, width=2, epochs=1, backend="torch")
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_recommendations_bring_their_biases():
    deep = fastinit.recommend("gelu", depth=50)
    found = compare([deep, "he_normal"], activation="gelu", **SMALL)
    row = found.rows[0]
    assert (row.initializer, row.bias) == (deep.weights["kernel"], deep.weights["bias"])
    assert row.bias != fastinit.Zeros() == found["he_normal"].bias
    assert row != compare([deep.weights["kernel"]], activation="gelu", **SMALL).rows[0]
    weights, biases = _compare._parameters(
        fastinit.guidance.choices.parse_choices(deep).popitem()[1], [8, 4, 3], 7
    )
    assert [w.shape for w in weights] == [(8, 4), (4, 3)]
    expected = fastinit.random_normal(4, 0.0, row.bias.stddev, seed=7, stream="layers.0.bias")
    np.testing.assert_array_equal(biases[0], expected)
    np.testing.assert_array_equal(biases[1], np.zeros(3))


def test_losses_and_gradients_against_pytorch():
    """The state before training, and the first step, computed in another way."""
    found = compare("lecun_uniform", activation="tanh", learning_rate=0.1, batch_size=1438, **SMALL)
    data = _compare._data(0)
    assert (len(data.y), len(data.y_validation)) == (1438, 359)
    assert data.x.mean() == pytest.approx(0.0, abs=1e-6)
    assert data.x.std() == pytest.approx(1.0, abs=1e-6)
    sizes = [64, 32, 32, 32, 10]
    model = torch.nn.Sequential()
    for i in range(4):
        model.append(torch.nn.Linear(sizes[i], sizes[i + 1], dtype=torch.float64))
        weight = fastinit.lecun_uniform(sizes[i : i + 2], seed=0, stream=f"layers.{i}.weight")
        with torch.no_grad():
            model[-1].weight.copy_(torch.from_numpy(weight.T))
            model[-1].bias.zero_()
        if i < 3:
            model.append(torch.nn.Tanh())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    x, y = torch.from_numpy(data.x).double(), torch.from_numpy(data.y)
    run = found.rows[0]
    for epoch in range(3):
        loss = torch.nn.functional.cross_entropy(model(x), y)
        assert run.train_loss[epoch] == pytest.approx(loss.item(), rel=1e-5)
        optimizer.zero_grad()
        loss.backward()
        if epoch < 2:  # an epoch has one batch here, of all images
            first = model[0].weight.grad.norm().item()
            total = math.sqrt(sum(p.grad.norm().item() ** 2 for p in model.parameters()))
            assert run.first_gradient_norm[epoch + 1] == pytest.approx(first, rel=1e-4)
            assert run.gradient_norm[epoch + 1] == pytest.approx(total, rel=1e-4)
        with torch.no_grad():
            logits = model(torch.from_numpy(data.x_validation).double()).numpy()
        accuracy = (logits.argmax(axis=1) == data.y_validation).mean()
        assert run.validation_accuracy[epoch] == pytest.approx(accuracy, abs=0.003)
        optimizer.step()
    assert run.first_gradient_norm[0] == pytest.approx(run.first_gradient_norm[1])


def test_divergence():
    found = compare({"huge": fastinit.RandomNormal(stddev=1e20)}, **SMALL)
    (run,) = found.rows
    assert run.diverged == 0
    assert run.text == "not finite from the start"
    assert json.loads(json.dumps(found.to_dict(), allow_nan=False))["rows"][0]["train_loss"] == ["nan"]
    assert "not finite" in str(found)
    assert show(found).axes
    late = compare("he_normal", learning_rate=1e6, **SMALL).rows[0]
    assert late.diverged in (1, 2)
    assert len(late.train_loss) == late.diverged


def test_constant_units():
    # With a bias of -1e3 no unit of ReLU is alive; with an activation that is constant, none either.
    off = compare("he_normal", activation=lambda z: torch.relu(z - 1e3), **SMALL).rows[0]
    assert off.constant_units == (1.0, 1.0, 1.0)
    flat = compare("he_normal", activation=torch.ones_like, **SMALL).rows[0]
    assert flat.constant_units[0] == 1.0
    assert flat.first_gradient_norm[0] == 0.0
    assert compare("he_normal", activation="tanh", **SMALL).rows[0].constant_units[0] == 0.0


@pytest.mark.parametrize(
    "activation",
    [
        "elu",
        "gelu",
        "leaky_relu",
        "linear",
        "mish",
        "relu",
        "selu",
        "sigmoid",
        "silu",
        "softplus",
        "softsign",
        "tanh",
    ],
)
def test_every_activation_trains(activation):
    found = compare("glorot_uniform", activation=activation, learning_rate=0.1, **SMALL)
    assert found.activation == activation
    assert found.rows[0].train_loss[-1] < found.rows[0].train_loss[0]
    assert math.isfinite(found.rows[0].gradient_norm[-1])


def test_names_of_activations_in_any_case():
    swish, silu = (compare("lecun_normal", activation=name, **SMALL) for name in ("Swish", "silu"))
    assert swish.rows == silu.rows


def test_initializers_of_all_kinds():
    found = compare(["HeNormal", fastinit.Orthogonal(gain=1.4)], depth=1, width=8, epochs=1, progress=False)
    assert [row.name for row in found.rows] == ["HeNormal", "Orthogonal(gain=1.4)"]
    assert found["HeNormal"].initializer == fastinit.HeNormal()
    with pytest.raises(KeyError):
        found["he_normal"]
    # A seed of its own comes first.
    own = compare({"a": fastinit.HeNormal(seed=3), "b": fastinit.HeNormal()}, depth=1, width=8, epochs=1)
    assert own["a"].train_loss != own["b"].train_loss


def test_table_and_dict(usual):
    lines = str(usual).splitlines()
    assert lines[0].startswith("10 hidden layers of 64 units, relu; 6 epochs of SGD, batches of 32")
    assert lines[1].split("  ")[0] == "initializer"
    (large,) = (line for line in lines if line.startswith("too large"))
    assert lines[2].endswith("learned")
    assert large.endswith("diverged in epoch 1")
    found = json.loads(json.dumps(usual.to_dict(), allow_nan=False))
    assert found["depth"] == 10
    assert found["rows"][0]["initializer"]["class_name"] == "Orthogonal"
    assert found["rows"][0]["validation_accuracy"] == list(usual.rows[0].validation_accuracy)
    assert found["rows"][4]["verdict"] == "did_not_learn"
    again = fastinit.get(found["rows"][2]["initializer"])
    assert again == fastinit.RandomNormal(stddev=0.01)


def test_progress(capsys):
    calls = []
    compare(["zeros", "huge"][:1], depth=1, width=2, epochs=3, progress=lambda *call: calls.append(call))
    assert calls == [(1, 3, "zeros"), (2, 3, "zeros"), (3, 3, "zeros")]
    compare("zeros", depth=1, width=2, epochs=3, progress=True)
    text = capsys.readouterr().err
    assert text.startswith("\r" + " " * 33 + "0%  loading the images and torch")
    assert text.endswith("100%  zeros, epoch 3 of 3\n")
    # A run that diverges counts as done.
    calls.clear()
    compare({"huge": fastinit.Constant(1e30)}, **SMALL | {"progress": lambda *call: calls.append(call)})
    assert calls[-1] == (2, 2, "huge")


def test_picture(usual, tmp_path):
    pytest.importorskip("matplotlib")
    figure = show(usual, path=tmp_path / "compare.svg")
    loss, accuracy, gradient, constant = figure.axes
    assert [axes.get_xlabel() for axes in figure.axes] == ["epoch"] * 4
    assert accuracy.get_ylabel() == "validation accuracy"
    assert figure.get_suptitle() == "Training 10 hidden layers of 64 units, relu, on handwritten digits"
    np.testing.assert_array_equal(accuracy.lines[0].get_ydata(), usual.rows[0].validation_accuracy)
    np.testing.assert_array_equal(loss.lines[0].get_ydata(), usual.rows[0].train_loss)
    np.testing.assert_array_equal(constant.lines[0].get_ydata(), usual.rows[0].constant_units)
    np.testing.assert_array_equal(gradient.lines[0].get_ydata(), usual.rows[0].first_gradient_norm)
    names = [text.get_text() for text in figure.legends[0].get_texts()]
    assert names[:5] == [row.name for row in usual.rows]
    assert "diverged, and stopped" in names
    assert b"validation accuracy" in (tmp_path / "compare.svg").read_bytes()
    with pytest.raises(ValueError, match="a Comparison is drawn as curves"):
        show(usual, kind="histogram")


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"activation": "rellu"}, ValueError, "got 'rellu', did you mean 'relu'"),
        ({"activation": 3}, TypeError, "activation must be a name or a function, got 3"),
        ({"initializers": "he"}, ValueError, "unknown initializer 'he'"),
        ({"initializers": []}, ValueError, "no initializer"),
        ({"initializers": ["zeros", "zeros"]}, ValueError, "zeros is given twice"),
        ({"initializers": lambda shape: shape}, TypeError, "object of fastinit"),
        ({"initializers": "dirac"}, ValueError, "dimensions"),
        ({"backend": "pytorch"}, ValueError, "did you mean 'torch'"),
        ({"depth": 0}, ValueError, "depth must be at least 1, got 0"),
        ({"width": 2.5}, TypeError, "width must be an int, got 2.5"),
        ({"width": True}, TypeError, "width must be an int, got True"),
        ({"epochs": -1}, ValueError, "epochs must be at least 1, got -1"),
        ({"batch_size": 1439}, ValueError, "batch_size must be from 1 to 1438, got 1439"),
        ({"learning_rate": 0.0}, ValueError, "learning_rate must be positive and finite, got 0.0"),
        ({"learning_rate": math.nan}, ValueError, "learning_rate"),
        ({"learning_rate": True}, TypeError, "learning_rate must be a number, got True"),
        ({"learning_rate": "fast"}, TypeError, "learning_rate must be a number, got 'fast'"),
        ({"seed": -1}, ValueError, "seed must be from 0"),
    ],
)
def test_wrong_arguments(arguments, error, message):
    with pytest.raises(error, match=message):
        compare(**{"initializers": "zeros", **SMALL, **arguments})


PROGRAM = """
import json
from fastinit import compare
settings = dict(depth=3, width=32, epochs=2, learning_rate=0.02, backend="keras", progress=False)
found = compare(["he_normal", "zeros"], **settings)
assert found == compare(["he_normal", "zeros"], **settings)
print(json.dumps(found.to_dict()))
"""


@pytest.mark.timeout(300)
@pytest.mark.parametrize("engine", ["torch", "jax", "tensorflow"])
def test_keras_agrees_with_pytorch(engine, python):
    for name in ("keras", engine):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"needs {name}")
    settings = {"KERAS_BACKEND": engine, "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu"}
    printed = python(PROGRAM, timeout=280, **settings)
    found = json.loads(printed.splitlines()[-1])
    assert found["backend"] == f"keras on {engine}"
    expected = compare(["he_normal", "zeros"], learning_rate=0.02, **SMALL).to_dict()
    for one, other in zip(found["rows"], expected["rows"], strict=True):
        assert one["name"] == other["name"]
        assert one["diverged"] is None
        for measure in ("train_loss", "validation_loss", "gradient_norm", "first_gradient_norm"):
            np.testing.assert_allclose(one[measure], other[measure], rtol=2e-3, err_msg=measure)
        np.testing.assert_allclose(one["validation_accuracy"], other["validation_accuracy"], atol=0.01)
        np.testing.assert_allclose(one["constant_units"], other["constant_units"], atol=0.02)


def test_activations_of_keras_are_those_of_pytorch():
    keras = pytest.importorskip("keras")
    from fastinit.guidance.compare import keras_network, torch_network

    assert keras_network.ACTIVATIONS.keys() == torch_network.ACTIVATIONS.keys()
    z = torch.linspace(-5.0, 5.0, 1001)
    for name, function in torch_network.ACTIVATIONS.items():
        other = keras.ops.convert_to_numpy(keras_network.ACTIVATIONS[name](z.numpy()))
        np.testing.assert_allclose(other, function(z).numpy(), rtol=1e-5, atol=1e-6, err_msg=name)


def test_which_framework_is_chosen(monkeypatch, tmp_path):
    there, loaded = {"torch", "keras", "jax", "tensorflow"}, {}
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: name if name in there else None)
    monkeypatch.setattr(_compare, "sys", type("sys", (), {"modules": loaded}))
    monkeypatch.delenv("KERAS_BACKEND", raising=False)
    monkeypatch.setenv("KERAS_HOME", str(tmp_path))
    assert _compare._chosen(None) == ("torch", "torch")
    assert _compare._chosen("keras") == ("keras", "tensorflow")
    # Never TensorFlow beside PyTorch.
    loaded["tensorflow"] = True
    assert _compare._chosen(None) == ("keras", "tensorflow")
    with pytest.raises(RuntimeError, match="tensorflow is loaded in this process, and loading torch, too,"):
        _compare._chosen("torch")
    loaded.clear()
    loaded["torch"] = True
    with pytest.raises(RuntimeError, match="or set KERAS_BACKEND before it starts"):
        _compare._chosen("keras")
    (tmp_path / "keras.json").write_text('{"backend": "jax"}')
    assert _compare._chosen("keras") == ("keras", "jax")
    monkeypatch.setenv("KERAS_BACKEND", "numpy")
    with pytest.raises(RuntimeError, match="Keras uses the backend numpy, which cannot train"):
        _compare._chosen("keras")
    loaded.clear()
    there -= {"torch"}
    monkeypatch.setenv("KERAS_BACKEND", "torch")
    with pytest.raises(ImportError, match="backend='keras' needs torch: pip install torch"):
        _compare._chosen("keras")
    there.clear()
    with pytest.raises(ImportError, match="backend='torch' needs torch"):
        _compare._chosen("torch")
    with pytest.raises(ImportError, match="neither is installed"):
        _compare._chosen(None)


def test_without_scikit_learn(monkeypatch):
    monkeypatch.setitem(sys.modules, "sklearn.datasets", None)
    with pytest.raises(ImportError, match=r'pip install "fastinit-nn\[compare\]"'):
        compare("zeros")
