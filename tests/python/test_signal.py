"""`signal` against theory and PyTorch, and the promise of `recommend` for a depth of 50 layers."""

import json
import math
import os
import subprocess
import sys

import numpy as np
import pytest

import fastinit
from fastinit import recommend, signal
from fastinit.theory.activations import names
from fastinit.theory.parse import resolve
from fastinit.theory.variance import after

SMALL = {"width": 256, "samples": 16}
ARRAYS = ["preactivation_std", "activation_std", "gradient_std", "zero_slope", "saturated"]
ARRAYS += ["unit_distance", "sample_distance"]

# In a process with one thread: many small products, on a machine that is busy.
FIFTY = """
import json
from fastinit import recommend, signal
from fastinit.theory.activations import names
from fastinit.theory.parse import resolve
found = {}
for name in names():
    if resolve(name).kind != "joint" and name not in ("geglu", "reglu", "relu_squared", "swiglu"):
        deep, plain = recommend(name, depth=50), recommend(name)
        rows = signal({"deep": deep, "plain": plain}, activation=name, width=256, samples=16).rows
        found[name] = {row.name: (row.verdict, row.gradient_verdict) for row in rows}
        found[name]["warned"] = any("no scale preserves" in text for text in deep.warnings)
print(json.dumps(found))
"""
# Those that `recommend` warns of, and what happens to them in fifty layers.
LOST = {
    "exponential": ["samples_alike", "vanishes"],
    "hard_shrink": ["explodes", "flat"],
    "hard_sigmoid": ["drifts", "flat"],
    "hard_silu": ["drifts", "flat"],
    "log_sigmoid": ["explodes", "flat"],
    "quick_gelu": ["flat", "flat"],
    "sigmoid": ["drifts", "flat"],
    "silu": ["drifts", "flat"],
    "soft_shrink": ["drifts", "flat"],
    "softplus": ["explodes", "flat"],
    "sparse_plus": ["drifts", "flat"],
    "squareplus": ["explodes", "flat"],
    "tanh_shrink": ["explodes", "flat"],
}


@pytest.fixture(scope="module")
def fifty():
    """The verdicts on fifty layers, and whether there was a warning, by the name of the activation."""
    one = {f"{library}_NUM_THREADS": "1" for library in ("OPENBLAS", "OMP", "MKL")}
    done = subprocess.run(
        [sys.executable, "-c", FIFTY], env={**os.environ, **one}, capture_output=True, text=True, timeout=250
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# Those that square their input have no stable variance in a plain network.
SQUARES = {"geglu", "reglu", "relu_squared", "swiglu"}


@pytest.mark.parametrize("name", sorted({x for x in names() if resolve(x).kind != "joint"} - SQUARES))
def test_fifty_layers_pass_signals_and_gradients(fifty, name):
    assert fifty[name]["warned"] == (name in LOST)
    if name in LOST:
        assert fifty[name]["deep"] == LOST[name]
    else:
        assert set(fifty[name]["deep"]) <= {"flat", "drifts"}


def test_the_usual_scale_does_not_always(fifty):
    gone = {"vanishes", "explodes", "samples_alike"}
    lost = {name for name, found in fifty.items() if gone & set(found["plain"])}
    saturating = {"hard_tanh", "softsign", "tanh"}
    assert saturating | {"gelu", "glu", "sigmoid", "softplus"} <= lost
    assert not lost & {"relu", "elu", "linear", "leaky_relu"}


# Against theory


@pytest.mark.parametrize(
    ("activation", "initializer", "scale"),
    [
        ("tanh", "he_normal", 2.0),
        ("selu", "lecun_normal", 1.0),
        ("softplus", "lecun_uniform", 1.0),
        ("relu", "glorot_uniform", 1.0),
        ("sigmoid", fastinit.VarianceScaling(4.0), 4.0),
    ],
)
def test_variances_are_those_of_theory(activation, initializer, scale):
    run = signal(initializer, activation=activation, depth=10, width=1024, samples=8).rows[0]
    variance, gradient = after(resolve(activation), scale, 0.0, 10)
    assert run.preactivation_std[-1] ** 2 == pytest.approx(variance, rel=0.2)
    assert run.gradient_std[0] ** 2 == pytest.approx(gradient, rel=0.3)


@pytest.mark.parametrize("activation", ["tanh", "gelu", "glu", "softmax"])
def test_signals_and_gradients_are_those_of_pytorch(activation):
    torch = pytest.importorskip("torch")
    sizes, samples = (20, 30, 10), 7
    run = signal(
        fastinit.HeNormal(),
        activation=activation,
        widths=sizes,
        bias=fastinit.RandomNormal(),
        samples=samples,
    ).rows[0]
    function = {
        "glu": lambda z: torch.nn.functional.glu(z, -1),
        "softmax": lambda z: torch.softmax(z, -1),
    }.get(activation) or getattr(torch.nn.functional, activation)

    def normal(size, stream):
        return torch.from_numpy(
            fastinit.random_normal((samples, size), 0.0, 1.0, seed=0, stream=stream, dtype="float64")
        )

    twice = 2 if activation == "glu" else 1
    x = normal(sizes[0], "input")
    outputs = []
    for layer in (1, 2):
        shape = sizes[layer - 1], twice * sizes[layer]
        key = {"seed": 0, "dtype": "float64"}
        w = torch.from_numpy(fastinit.he_normal(shape, stream=f"{layer}.kernel", **key))
        b = torch.from_numpy(fastinit.random_normal(shape[1], stream=f"{layer}.bias", **key))
        z = x @ w + b
        assert run.preactivation_std[layer - 1] == pytest.approx(float(z.detach().std(correction=0)))
        x = function(z)
        if layer == 1:
            x = x.detach().requires_grad_()
        outputs.append(x)
        assert run.activation_std[layer - 1] == pytest.approx(float(x.detach().std(correction=0)))
    (outputs[1] * normal(sizes[2], "gradient")).sum().backward()
    assert run.gradient_std[0] == pytest.approx(float(outputs[0].grad.std(correction=0)))
    assert run.gradient_std[1] == pytest.approx(float(normal(sizes[2], "gradient").std(correction=0)))


# Against what is known


def test_verdicts():
    found = signal(
        {
            "right": "he_normal",
            "small": fastinit.RandomNormal(stddev=0.01),
            "large": fastinit.RandomNormal(stddev=1.0),
            "zeros": "zeros",
            "constant": fastinit.Constant(0.01),
        },
        depth=40,
        **SMALL,
    )
    verdicts = {row.name: row.text for row in found.rows}
    assert verdicts["right"] == "flat; gradient flat"
    assert verdicts["small"].startswith("vanishes: below 0.1 from layer 2, ")
    assert "gradient vanishes" in verdicts["small"]
    assert verdicts["large"].startswith("explodes: above 10 from layer 1, ")
    assert "gradient explodes" in verdicts["large"]
    assert verdicts["zeros"].startswith("identical_units from layer 1 on; vanishes")
    assert verdicts["constant"].startswith("identical_units from layer 1 on; explodes")
    for verdict in verdicts.values():
        assert verdict in str(found)
    assert found["zeros"].zero_slope.tolist() == [1.0] * 40
    assert found["right"].unit_distance.min() > 0.1


def test_a_layer_of_one_unit_has_no_identical_units():
    run = signal("he_normal", widths=[16, 16, 1]).rows[0]
    assert run.unit_distance[1] == 1.0
    assert run.text.startswith("flat")
    # All units are equal from the first layer that is so up to the end.
    assert "from layer 2 on" in signal("zeros", widths=[8, 1, 8, 8]).rows[0].text


def test_vanishing_begins_where_it_says():
    run = signal("glorot_uniform", **SMALL).rows[0]
    first = int(run.text.split("from layer ")[1].split(",")[0])
    assert (run.preactivation_std[first - 1 :] < 0.1).all()
    assert run.preactivation_std[first - 2] >= 0.1


@pytest.mark.parametrize("activation", names())
@pytest.mark.parametrize(
    "initializer", [fastinit.Ones(), fastinit.RandomNormal(stddev=1e12), fastinit.Constant(-1e9), "zeros"]
)
def test_nothing_becomes_nan(activation, initializer):
    run = signal(initializer, activation=activation, depth=40, width=8, samples=4).rows[0]
    for name in ARRAYS:
        array = getattr(run, name)
        assert (array.shape, array.dtype) == ((40,), np.float64)
        assert not np.isnan(array).any(), name
        assert (array >= 0).all()
    assert run.verdict
    json.dumps(run.to_dict(), allow_nan=False)


def test_explosion_to_infinity():
    run = signal(fastinit.RandomNormal(stddev=1e12), depth=20, width=8).rows[0]
    assert run.preactivation_std[-1] == math.inf
    assert "explodes" in run.text
    assert "inf" in json.dumps(run.to_dict())


def test_saturated_and_zero_slope():
    run = signal(fastinit.VarianceScaling(100.0), activation="tanh", depth=5, **SMALL).rows[0]
    assert run.saturated[-1] > 0.7
    assert (run.zero_slope == 0).all()
    # Where all biases are far below zero, no unit of ReLU passes a gradient.
    run = signal("he_normal", bias=-100.0, depth=3, **SMALL).rows[0]
    assert run.zero_slope.tolist() == [1.0, 1.0, 1.0]
    assert run.gradient_std.tolist()[:2] == [0.0, 0.0]
    assert (signal("he_normal", depth=3, **SMALL).rows[0].saturated == 0).all()


def test_the_table_fits_80_columns(monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    deep = {"depth": 30, "width": 64}
    texts = {
        "zero slope": str(signal(["he_normal", "glorot_uniform", "zeros"], **deep)),
        "saturated": str(signal(fastinit.RandomNormal(stddev=1.0), activation="tanh", **deep)),
    }
    for share, text in texts.items():
        assert [one for one in texts if one in text] == [share]  # The other one is 0 everywhere.
        assert max(map(len, text.split("\n"))) <= 80
        assert f"\n  {share}" not in text  # No column continues below its row.


def test_sigmoids_forget_what_they_see():
    run = signal(recommend("sigmoid"), activation="sigmoid", **SMALL).rows[0]
    assert run.sample_distance[0] > 0.9
    assert run.sample_distance[-1] < 1e-10
    assert run.unit_distance[-1] > 0.5
    assert run.text.startswith("samples_alike: they differ by less than 1% of the signal from layer ")
    first = int(run.text.split("from layer ")[1].split(",")[0])
    assert run.sample_distance[first - 2] >= 0.01 > run.sample_distance[first - 1]
    assert "; signal flat; gradient vanishes" in run.text


@pytest.mark.parametrize(
    "activation", ["softplus", "exponential", "hard_sigmoid", "squareplus", "log_sigmoid"]
)
def test_networks_that_do_not_see_their_input_are_told(activation):
    found = signal(recommend(activation), activation=activation, depth=25, **SMALL)
    assert found.rows[0].verdict == "samples_alike"
    assert found.to_dict()["rows"][0]["verdict"] == "samples_alike"
    assert f"{found.rows[0].sample_distance[-1]:.2g}" in str(found)
    # Relative to a signal that does not see it either: nothing is told of zeros and of a single sample.
    assert signal("zeros", activation=activation, depth=3, **SMALL).rows[0].verdict != "samples_alike"
    alone = signal(recommend(activation), activation=activation, depth=3, width=64, samples=1).rows[0]
    assert alone.sample_distance.tolist() == [1.0, 1.0, 1.0]
    # Three layers do not do that.
    assert signal(recommend(activation), activation=activation, depth=2, **SMALL).rows[0].verdict == "flat"


def test_recommendations_bring_their_biases():
    deep = recommend("gelu", depth=50)
    run = signal(deep, activation="gelu", depth=3, **SMALL).rows[0]
    assert run.initializer == deep.weights["kernel"]
    assert run.bias == deep.weights["bias"] != fastinit.Zeros()
    assert signal("he_normal", bias=0.5, depth=3, **SMALL).rows[0].bias == fastinit.Constant(0.5)


def test_names_and_repetition():
    found = signal(["he_normal", fastinit.HeNormal()], depth=3, **SMALL)
    assert [row.name for row in found.rows] == ["he_normal", "HeNormal"]
    with pytest.raises(ValueError, match="HeNormal is given twice"):
        signal([fastinit.HeNormal(), fastinit.HeNormal(seed=None)], depth=3, **SMALL)
    np.testing.assert_array_equal(found.rows[0].activation_std, found.rows[1].activation_std)
    other = signal("he_normal", depth=3, seed=1, **SMALL)
    assert (found.rows[0].activation_std != other.rows[0].activation_std).any()
    assert found["he_normal"] is found.rows[0]
    with pytest.raises(KeyError):
        found["unknown"]


def test_the_choice_that_tells_most():
    found = signal(activation="tanh", depth=10, **SMALL)
    assert found.rows[0].name.startswith("recommended: Orthogonal")
    uneven = signal(activation="tanh", widths=[256, 128, 256], samples=4)
    assert uneven.rows[0].name.startswith("recommended: VarianceScaling")
    assert found.rows[0].text.startswith("flat")
    assert [row.name for row in found.rows][1:3] == ["glorot_uniform", "too small: normal, std 0.01"]


def test_widths():
    found = signal("he_normal", widths=[10, 400, 20], samples=8)
    assert (found.widths, found.depth) == ((10, 400, 20), 2)
    assert found.rows[0].activation_std.shape == (2,)
    plain = json.loads(json.dumps(found.to_dict(), allow_nan=False))
    assert plain["widths"] == [10, 400, 20]
    assert fastinit.get(plain["rows"][0]["initializer"]) == fastinit.HeNormal()
    assert "width 10 to 400" in str(found)
    assert "width 8," in str(signal("he_normal", depth=1, width=8))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: signal([]), ValueError, "no initializer given"),
        (lambda: signal("henormal"), ValueError, "unknown initializer 'henormal'"),
        (lambda: signal(abs), TypeError, "an initializer must be a name"),
        (lambda: signal([None]), TypeError, "got None"),
        (lambda: signal("zeros", activation="rleu"), ValueError, "did you mean 'relu'"),
        (lambda: signal("zeros", depth=0), ValueError, "depth must be at least 1, got 0"),
        (lambda: signal("zeros", width=1.5), TypeError, "width must be an int, got 1.5"),
        (lambda: signal("zeros", widths=[3]), ValueError, "sizes of the input and of at least one layer"),
        (lambda: signal("zeros", widths=3), TypeError, "widths must be a sequence of ints, got 3"),
        (lambda: signal("zeros", widths=[3, 0]), ValueError, "widths must be at least 1, got 0"),
        (lambda: signal("zeros", samples=0), ValueError, "samples must be at least 1, got 0"),
        (lambda: signal("zeros", seed="x"), TypeError, "seed must be an int, got 'x'"),
        (lambda: signal("zeros", seed=-1), ValueError, r"seed must be from 0 to 2\*\*64 - 1, got -1"),
        (lambda: signal("zeros", bias=math.inf), ValueError, "bias must be finite, got inf"),
        (lambda: signal(recommend(None, "embedding")), ValueError, "with a weight 'kernel'.*'embedding'"),
        (lambda: signal("identity", depth=2, bias="identity"), ValueError, "identity"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
