"""`recommend`: complete for all activations and layers, and right by the variance that it claims."""

import json
import math

import numpy as np
import pytest

import fastinit
from fastinit import gain, recommend
from fastinit.guidance.recommend import families
from fastinit.theory.activations import names
from fastinit.theory.parse import resolve
from fastinit.theory.variance import after, without_bias

FAMILIES = tuple(families.FAMILIES)
# Of each family: a shape for each weight, in the layout of Keras, and the true fans.
SHAPES = {
    "dense": {"kernel": (300, 200)},
    "bilinear": {"kernel": (30, 20, 40)},
    "conv": {"kernel": (3, 3, 20, 30)},
    "depthwise_conv": {"depthwise_kernel": (5, 5, 64, 1)},
    "separable_conv": {"depthwise_kernel": (5, 5, 64, 1), "pointwise_kernel": (1, 1, 64, 90)},
    "conv_transpose": {"kernel": (3, 3, 20, 60)},
    "embedding": {"embeddings": (500, 64)},
    "simple_rnn": {"kernel": (100, 80), "recurrent_kernel": (80, 80)},
    "lstm": {"kernel": (100, 320), "recurrent_kernel": (80, 320), "forget_bias": (80,)},
    "gru": {"kernel": (100, 240), "recurrent_kernel": (80, 240)},
    "attention": {
        "query_kernel": (128, 4, 16),
        "key_kernel": (128, 4, 16),
        "value_kernel": (128, 4, 16),
        "output_kernel": (4, 16, 128),
    },
    "normalization": dict.fromkeys(("gamma", "beta", "moving_mean", "moving_variance"), (64,)),
    "conv_lstm": {"kernel": (3, 3, 10, 80), "recurrent_kernel": (3, 3, 20, 80), "forget_bias": (20,)},
    "dot_attention": {"scale": ()},
    "additive_attention": {"scale": (64,)},
    "prelu": {"alpha": (64,)},
    "output": {"kernel": (300, 10)},
    "residual": {"kernel": (300, 200), "output_kernel": (200, 300)},
}
TORCH_SHAPES = {
    "dense": {"kernel": (200, 300)},
    "bilinear": {"kernel": (40, 30, 20)},
    "conv": {"kernel": (30, 20, 3, 3)},
    "depthwise_conv": {"depthwise_kernel": (64, 1, 5, 5)},
    "separable_conv": {"depthwise_kernel": (64, 1, 5, 5), "pointwise_kernel": (90, 64, 1, 1)},
    "conv_transpose": {"kernel": (60, 20, 3, 3)},
    "embedding": {"embeddings": (500, 64)},
    "simple_rnn": {"kernel": (80, 100), "recurrent_kernel": (80, 80)},
    "lstm": {"kernel": (320, 100), "recurrent_kernel": (320, 80), "forget_bias": (80,)},
    "gru": {"kernel": (240, 100), "recurrent_kernel": (240, 80)},
    "attention": dict.fromkeys(("query_kernel", "key_kernel", "value_kernel"), (64, 128))
    | {"output_kernel": (128, 64)},
    "normalization": SHAPES["normalization"],
    "conv_lstm": {"kernel": (80, 10, 3, 3), "recurrent_kernel": (80, 20, 3, 3), "forget_bias": (20,)},
    "dot_attention": SHAPES["dot_attention"],
    "additive_attention": SHAPES["additive_attention"],
    "prelu": SHAPES["prelu"],
    "output": {"kernel": (10, 300)},
    "residual": {"kernel": (200, 300), "output_kernel": (300, 200)},
}
# Their variance is about the square of that of their input: random biases do not help.
SQUARES = {"geglu", "reglu", "relu_squared", "swiglu"}
NO_BIAS = ("embedding", "normalization", "prelu", "dot_attention", "additive_attention")
NOT_IN_TORCH = ("conv_lstm", "dot_attention", "additive_attention")
UNSTABLE = SQUARES | {
    "gelu",
    "gelu_tanh",
    "glu",
    "hard_shrink",
    "hard_silu",
    "mish",
    "quick_gelu",
    "silu",
    "soft_shrink",
    "tanh_shrink",
}
VANISHING = {
    "exponential",
    "hard_shrink",
    "hard_sigmoid",
    "log_sigmoid",
    "sigmoid",
    "softplus",
    "sparse_plus",
    "sparse_sigmoid",
    "squareplus",
}


@pytest.mark.parametrize("layer", FAMILIES)
@pytest.mark.parametrize("activation", names())
def test_is_complete(activation, layer):
    for layout, shapes in (("in_out", SHAPES), ("out_in", TORCH_SHAPES)):
        found = recommend(activation, layer, layout=layout)
        assert (found.layer, found.layout) == (layer, layout)
        assert found.activation.startswith(activation)
        expected = set(shapes[layer]) | ({"bias"} if layer not in NO_BIAS else set())
        assert set(found.weights) - ({"alpha"} - expected) == expected
        for name, made in found.weights.items():
            shape = shapes[layer].get(name, (64,))
            assert isinstance(made, fastinit.Initializer)
            assert np.isfinite(made(shape, seed=0)).all()
        assert set(found.keras) == set(found.torch) == set(found.weights)
        assert all(found.keras.values()) == (layer != "bilinear")
        assert all(found.torch.values()) == (layer not in NOT_IN_TORCH)
        assert found.reason
        assert found.alternatives or layer == "dot_attention"
        assert found.sources
        json.dumps(found.to_dict(), allow_nan=False)
        text = str(found)
        assert found.reason.split()[0] in text
        assert max(map(len, text.splitlines())) <= 120
        for line in found.to_dict()["weights"].values():
            assert fastinit.get(line) in found.weights.values()


@pytest.mark.parametrize(
    ("activation", "layer", "options", "expected"),
    [
        ("relu", "dense", {}, fastinit.HeNormal()),
        ("relu", "dense", {"distribution": "uniform"}, fastinit.HeUniform()),
        ("relu", "Conv2D", {}, fastinit.HeNormal()),
        ("relu6", "conv", {}, fastinit.HeNormal()),
        ("relu", "dense", {"layout": "out_in"}, fastinit.HeNormal(in_axis=1, out_axis=0)),
        ("relu", "conv", {"groups": 4}, fastinit.HeNormal(groups=4)),
        ("relu", "dense", {"mode": "fan_out"}, fastinit.VarianceScaling(2.0, "fan_out")),
        ("leaky_relu", "dense", {"param": 0.5}, fastinit.VarianceScaling(1.6)),
        ("selu", "dense", {}, fastinit.LecunNormal()),
        ("selu", "dense", {"depth": 9}, fastinit.LecunNormal()),
        ("relu", "dense", {"depth": 9}, fastinit.HeNormal()),
        ("relu", "dense", {"depth": 50}, fastinit.Orthogonal(math.sqrt(2))),
        ("relu", "dense", {"depth": 50, "mode": "fan_in"}, fastinit.HeNormal()),
        ("relu", "dense", {"depth": 50, "distribution": "uniform"}, fastinit.HeUniform()),
        ("relu", "conv", {"depth": 50}, fastinit.HeNormal()),
        ("relu", "dense", {"depth": 50, "layout": "out_in"}, fastinit.Orthogonal(2**0.5, column_axis=0)),
        ("linear", "dense", {"depth": 50}, fastinit.Orthogonal()),
        ("linear", "dense", {}, fastinit.GlorotUniform()),
        ("linear", "dense", {"distribution": "truncated_normal"}, fastinit.GlorotNormal()),
        ("softmax", "dense", {}, fastinit.GlorotUniform()),
        ("softmax", "output", {}, fastinit.GlorotUniform()),
        ("sigmoid", "output", {}, fastinit.GlorotUniform()),
        ("tanh", "lstm", {}, fastinit.GlorotUniform()),
        ("relu", "simple_rnn", {}, fastinit.HeNormal()),
        ("tanh", "dense", {}, fastinit.VarianceScaling(gain("tanh") ** 2, "fan_avg", "uniform")),
        ("softsign", "conv", {}, fastinit.VarianceScaling(gain("softsign") ** 2, "fan_avg", "uniform")),
        ("elu", "dense", {}, fastinit.VarianceScaling(gain("elu") ** 2)),
        ("gelu", "dense", {}, fastinit.VarianceScaling(gain("gelu") ** 2)),
        (np.abs, "dense", {}, fastinit.LecunNormal()),
        ("relu", "residual", {"depth": 8}, fastinit.HeNormal()),
    ],
)
def test_kernels(activation, layer, options, expected):
    found = recommend(activation, layer, **options).weights["kernel"]
    if isinstance(expected, fastinit.VarianceScaling):
        assert found.scale == pytest.approx(expected.scale, rel=1e-9)
        assert (found.mode, found.distribution) == (expected.mode, expected.distribution)
    else:
        assert found == expected


def test_backward_mode_has_the_backward_gain():
    found = recommend("tanh", mode="fan_out").weights["kernel"]
    assert found.mode == "fan_out"
    assert found.scale == pytest.approx(gain("tanh", direction="backward") ** 2, rel=1e-9)


def test_recurrent_layers():
    lstm = recommend(None, "LSTM").weights
    assert lstm["recurrent_kernel"] == fastinit.Orthogonal(blocks=4)
    assert (lstm["bias"], lstm["forget_bias"]) == (fastinit.Zeros(), fastinit.Ones())
    assert recommend(None, "gru").weights["recurrent_kernel"] == fastinit.Orthogonal(blocks=3)
    assert recommend("relu", "SimpleRNN").weights["recurrent_kernel"] == fastinit.Identity()
    assert recommend("tanh", "SimpleRNN").weights["recurrent_kernel"] == fastinit.Orthogonal()
    # Each gate is orthogonal, in both layouts.
    keras, torch = (
        recommend(None, "lstm", layout=x).weights["recurrent_kernel"] for x in ("in_out", "out_in")
    )
    for gate in np.split(keras((16, 64), seed=0), 4, axis=1) + np.split(torch((64, 16), seed=0), 4):
        np.testing.assert_allclose(gate.T @ gate, np.eye(16), atol=1e-5)


def test_biases():
    assert recommend("relu", bias=0.1).weights["bias"] == fastinit.Constant(0.1)
    assert recommend("relu").weights["bias"] == fastinit.Zeros()
    # An explicit bias stays.
    assert recommend("gelu", depth=50, bias=0.1).weights["bias"] == fastinit.Constant(0.1)


@pytest.mark.parametrize("layer", ["dense", "conv", "depthwise_conv", "conv_transpose", "separable_conv"])
@pytest.mark.parametrize("layout", ["in_out", "out_in"])
def test_fans_are_the_true_ones(layer, layout):
    # Weights of variance 2 / fan_in make of inputs of variance 1 sums of variance 2.
    products = {"dense": 300, "conv": 180, "depthwise_conv": 25, "conv_transpose": 540, "separable_conv": 64}
    name = {"depthwise_conv": "depthwise_kernel", "separable_conv": "pointwise_kernel"}.get(layer, "kernel")
    shape = {"in_out": SHAPES, "out_in": TORCH_SHAPES}[layout][layer][name]
    kernel = recommend("relu", layer, layout=layout).weights[name](shape, seed=0)
    # Some thousand weights: the variance is known within a few percent.
    assert kernel.var() * products[layer] == pytest.approx(2.0, rel=0.1)


def test_attention_kernels_keep_the_variance():
    weights = recommend(None, "MultiHeadAttention").weights
    rng = np.random.default_rng(0)
    x = rng.normal(size=(500, 128))
    query = np.einsum("nd,dhk->nhk", x, weights["query_kernel"]((128, 8, 16), seed=0))
    assert query.var() == pytest.approx(1.0, rel=0.1)
    output = np.einsum("nhk,hkd->nd", query, weights["output_kernel"]((8, 16, 128), seed=1))
    assert output.var() == pytest.approx(1.0, rel=0.1)


def test_residual_branches_add_up_to_the_signal():
    depth, width = 16, 256
    weights = recommend("relu", "residual", depth=depth).weights
    x = np.random.default_rng(0).normal(size=(200, width))
    for layer in range(depth):
        inner = weights["kernel"]((width, width), seed=layer, stream="a")
        last = weights["output_kernel"]((width, width), seed=layer, stream="b")
        normalized = x / x.std()
        x = x + np.maximum(normalized @ inner, 0) @ last
    assert x.var() == pytest.approx(2.0, rel=0.15)  # the input, and the sum of the branches
    assert recommend("relu", "residual").weights["output_kernel"] == fastinit.Zeros()


# What is possible


def test_unstable_activations_are_those_that_are_named():
    kinds = {name: recommend(name) for name in names() if resolve(name).kind != "joint"}
    assert {name for name, found in kinds.items() if found.slope > 1 + 1e-6} == UNSTABLE
    for name, found in kinds.items():
        assert any("multiplies a deviation by" in text for text in found.warnings) == (name in UNSTABLE)
    assert recommend("threshold", param=0.5).slope > 1
    for name in UNSTABLE - {"gelu_tanh"}:
        assert f"`{name}`" in recommend.__doc__


def test_random_biases_only_where_they_are_needed():
    for name in names():
        found = recommend(name, depth=50)
        random = isinstance(found.weights["bias"], fastinit.RandomNormal)
        assert random == (name in UNSTABLE - SQUARES - {"hard_shrink"}), name
        assert (name not in SQUARES) or "no scale preserves signals" in found.warnings[-1]
    assert recommend("gelu", depth=5).weights["bias"] == fastinit.Zeros()  # 1.144**5 is below 4
    assert recommend("gelu").weights["bias"] == fastinit.Zeros()
    assert recommend("gelu", depth=50, bias=0.1).weights["bias"] == fastinit.Constant(0.1)


@pytest.mark.parametrize("activation", ["exponential", lambda z: np.maximum(z, 0) ** 2])
def test_what_nothing_helps(activation):
    found = recommend(activation, depth=50)
    assert "no scale preserves signals" in found.warnings[-1]
    assert recommend(lambda z: np.maximum(z, 0) ** 2).slope == pytest.approx(2.0)  # V(q) is q**2


# Depth


@pytest.mark.parametrize(
    ("activation", "shallow", "deep"),
    [
        ("tanh", 1.5925, (1.0, 1.2)),
        ("softsign", 2.3375, (1.0, 1.5)),
        ("hard_tanh", 1.392, (1.0, 1.1)),
        ("selu", 1.0, (0.8, 0.95)),
        ("elu", 1.2452, (1.1, 1.2)),
        (np.sin, gain(np.sin), (1.0, 1.2)),
        ("sigmoid", 1.8462, (8.0, 12.0)),
        ("softplus", 1.0419, (math.sqrt(2), 1.6)),
        ("relu", 1.4142, (1.4142, 1.4143)),
    ],
)
def test_the_gain_moves_to_the_edge_of_chaos_with_the_depth(activation, shallow, deep):
    assert recommend(activation).gain == pytest.approx(shallow, rel=1e-4)
    assert recommend(activation, depth=1).gain == pytest.approx(shallow, rel=1e-4)
    found = recommend(activation, depth=50)
    assert deep[0] <= found.gain <= deep[1]
    # Nearer to the edge, where each layer multiplies the variance of gradients by 1.
    assert abs(math.log(found.gradient)) <= abs(math.log(recommend(activation).gradient)) + 1e-9
    if activation != "relu":
        assert found.weights["kernel"] == fastinit.Orthogonal(found.gain)
        assert found.weights["bias"] == fastinit.Zeros()
        conv = recommend(activation, "conv", depth=50).weights["kernel"]
        assert conv.scale == pytest.approx(found.gain**2)


@pytest.mark.parametrize("depth", [3, 10, 30, 100])
@pytest.mark.parametrize("activation", ["tanh", "softsign", "selu", "relu", "gelu", "linear", np.arctan])
def test_signals_and_gradients_pass_through_any_depth(activation, depth):
    found = recommend(activation, depth=depth)
    assert 1 / 9 <= found.over_depth["gradient"] <= 9
    assert 1 / 100 <= found.over_depth["signal"] <= 20
    assert found.over_depth["distance"] >= (0.05 if activation in ("relu", "gelu") else 0.5)
    assert found.over_depth["gradient"] == pytest.approx(
        after(resolve(activation), found.gain**2, getattr(found.weights["bias"], "stddev", 0.0), depth)[1],
        rel=0.1,
    )


def test_where_the_depth_does_not_matter():
    for layer in ("output", "lstm", "attention", "embedding"):
        assert recommend("tanh", layer, depth=50).weights == recommend("tanh", layer).weights
    assert recommend("softmax", depth=50).over_depth is None
    # Its kernels halve the inputs of the next layer, so that they are not square.
    assert isinstance(recommend("glu", depth=50).weights["kernel"], fastinit.VarianceScaling)
    assert recommend("tanh").over_depth is None


def test_the_depth_scale_is_that_of_gradients():
    assert recommend("relu").depth_scale == recommend("linear").depth_scale == math.inf
    assert recommend("tanh").depth_scale == pytest.approx(1 / math.log(1.178), rel=0.01)
    assert recommend("sigmoid").depth_scale < 1.0
    assert recommend("tanh", "embedding").depth_scale is None


def test_vanishing_gradients_are_those_that_are_named():
    kinds = {name: recommend(name).gradient for name in names() if resolve(name).kind != "joint"}
    assert {name for name, gradient in kinds.items() if gradient < 0.9} == VANISHING
    for name in VANISHING:
        assert f"`{name}`" in recommend.__doc__.split("gradients vanish in deep plain networks")[1]


def test_edge_of_chaos_is_an_alternative_where_gradients_would_drift():
    for name in ("tanh", "softsign", "selu", "hard_tanh", "elu"):
        found = recommend(name)
        pairs = [other for other in found.alternatives if "bias" in other.weights]
        assert len(pairs) == 1, name
        kernel, bias = pairs[0].weights["kernel"], pairs[0].weights["bias"]
        assert kernel.scale * gain(name, direction="backward") ** -2 == pytest.approx(1.0, rel=1e-9)
        assert kernel.scale * gain(name) ** -2 + bias.stddev**2 == pytest.approx(1.0, rel=1e-9)
    assert not any("bias" in other.weights for other in recommend("relu").alternatives)


# Proposals


def test_proposals():
    glorot = recommend("relu", proposal="glorot_uniform").judgement
    assert glorot.verdict == "poor"
    assert glorot.signal == pytest.approx(2.0**-49)
    assert glorot.gradient == pytest.approx(2.0**-49)
    assert recommend("relu", proposal="glorot_uniform", depth=2).judgement.verdict == "good"
    he = recommend("relu", proposal="he_uniform").judgement
    assert (he.verdict, he.signal, he.gradient) == ("good", pytest.approx(2.0), pytest.approx(1.0))
    assert "it is what is recommended" in recommend("relu", proposal="he_normal").judgement.text
    assert recommend("linear", proposal=fastinit.Orthogonal()).judgement.signal == pytest.approx(1.0)
    assert recommend("tanh", proposal="he_normal", depth=10).judgement.verdict == "good"
    small = recommend("relu", proposal=fastinit.RandomNormal(stddev=0.01)).judgement
    assert small.verdict == "poor"
    right = float(small.text.rsplit(" ", 1)[1])
    assert right == pytest.approx(2 / 0.01**2, rel=0.02)
    assert "proposal: poor" in str(recommend("relu", proposal="glorot_uniform"))
    assert recommend("softmax", proposal="glorot_uniform").judgement.verdict == "good"
    assert (
        recommend("relu", "conv", proposal=fastinit.DeltaOrthogonal(math.sqrt(2))).judgement.verdict == "good"
    )


@pytest.mark.parametrize(
    ("activation", "depth", "proposal", "verdict", "why"),
    [
        # By the gradient, by the distance of inputs, and what trains although it is a little small.
        (
            "sigmoid",
            None,
            fastinit.VarianceScaling(gain("sigmoid") ** 2, "fan_avg", "uniform"),
            "poor",
            "e-40",
        ),
        ("softplus", 20, fastinit.VarianceScaling(gain("softplus") ** 2), "poor", "inputs"),
        ("hard_sigmoid", 20, "lecun_normal", "poor", "inputs"),
        ("tanh", None, fastinit.VarianceScaling(gain("tanh") ** 2), "poor", "gradients by 2"),
        ("tanh", 3, "glorot_uniform", "good", "0.24"),
        ("softsign", 2, "lecun_normal", "good", "signal"),
        ("tanh", 50, "orthogonal", "fair", "0.01"),
        # The variance is preserved by a layer, but not that of inputs that are a little larger or smaller.
        ("gelu", 35, fastinit.VarianceScaling(2.2), "poor", "variance 1/2 to 2"),
        ("silu", 50, fastinit.VarianceScaling(gain("silu") ** 2), "poor", "gradients"),
    ],
)
def test_gradients_and_distances_are_judged(activation, depth, proposal, verdict, why):
    # With the biases of the usual recommendation, none.
    found = recommend(activation, depth=depth, mode="fan_out", proposal=proposal).judgement
    assert (found.verdict, why in found.text) == (verdict, True), found.text


@pytest.mark.parametrize("proposal", ["identity", "zeros", "ones", fastinit.Sparse(0.5, stddev=0.1)])
@pytest.mark.parametrize("activation", ["relu", "tanh", "softplus", "glu"])
def test_structured_proposals_are_what_signal_shows(activation, proposal):
    from fastinit import signal

    options = {"activation": activation, "depth": 20}
    found = recommend(activation, depth=20, bias=0.0, mode="fan_out", proposal=proposal).judgement
    run = signal(proposal, **options, samples=16).rows[0]
    assert found.signal == pytest.approx(run.preactivation_std[-1] ** 2)
    assert found.gradient == pytest.approx(run.gradient_std[0] ** 2)
    assert found.distance == pytest.approx(run.sample_distance[-1])
    assert f"a signal of variance 1 into one of {found.signal:.2g}" in found.text


def test_structured_kernels_of_convolutions():
    # A tap in the middle is a dense layer.
    for activation in ("relu", "tanh"):
        pairs = ("dirac", "identity"), ("delta_orthogonal", "orthogonal")
        for proposal, dense in pairs:
            found = recommend(activation, "conv", proposal=proposal, depth=10).judgement
            other = recommend(activation, proposal=dense, depth=10).judgement
            assert (found.verdict, found.signal) == (other.verdict, pytest.approx(other.signal, rel=1e-6))
    assert recommend("relu", proposal="identity").judgement.verdict == "good"
    assert "of variance 1 into one of 0.3" in recommend("relu", proposal="identity").judgement.text


@pytest.mark.parametrize("proposal", ["zeros", "ones", fastinit.Constant(0.3)])
def test_constants_are_refused(proposal):
    found = recommend("relu", proposal=proposal).judgement
    assert found.verdict == "refused"
    assert "the same weights" in found.text
    json.dumps(recommend("relu", proposal=proposal).to_dict(), allow_nan=False)


@pytest.mark.parametrize(
    ("activation", "layer", "options"),
    [
        ("tanh", "lstm", {}),
        ("relu", "lstm", {}),
        ("sigmoid", "output", {}),
        ("relu", "separable_conv", {}),
        ("gelu", "dense", {"depth": 50}),  # with random biases
    ],
)
def test_what_is_recommended_is_good(activation, layer, options):
    weights = recommend(activation, layer, **options).weights
    kernel = weights["pointwise_kernel" if layer == "separable_conv" else "kernel"]
    found = recommend(activation, layer, proposal=kernel, **options).judgement
    assert found.verdict == "good"
    assert found.text.startswith("it is what is recommended")


def test_only_the_kernel_is_what_is_recommended_for_it():
    bias = recommend("gelu", depth=50).weights["bias"]
    assert "recommended" not in recommend("gelu", depth=50, proposal=bias).judgement.text
    last = recommend("relu", "residual", depth=9).weights["output_kernel"]
    assert "recommended" not in recommend("relu", "residual", depth=9, proposal=last).judgement.text


@pytest.mark.parametrize("activation", ["relu", "tanh", "sigmoid", "glu"])
def test_weights_that_are_not_around_zero_are_poor(activation):
    # Of the mean square that would be right, if the mean were 0.
    flow = without_bias(resolve(activation))
    proposal = fastinit.RandomUniform(0.0, math.sqrt(3 * flow.scale / 512))
    found = recommend(activation, proposal=proposal).judgement
    assert found.verdict == "poor"
    assert "in common" in found.text
    assert "in common" not in recommend(activation, proposal=fastinit.RandomNormal(1e-5, 0.06)).judgement.text


def test_any_depth():
    assert "for 100000 plain layers" in str(recommend("elu", depth=100_000))
    assert "100000 layers by inf" in str(recommend("elu", depth=100_000, mode="fan_avg"))


def test_proposals_are_what_signal_shows():
    from fastinit import signal

    found = recommend("tanh", proposal="glorot_uniform", depth=20).judgement
    run = signal("glorot_uniform", activation="tanh", depth=20, width=512, samples=16).rows[0]
    assert run.preactivation_std[-1] ** 2 == pytest.approx(found.signal, rel=0.2)
    assert run.gradient_std[0] ** 2 == pytest.approx(found.gradient, rel=0.4)


# Names


@pytest.mark.parametrize(
    ("layer", "family"),
    [
        ("Dense", "dense"),
        ("Linear", "dense"),
        ("Conv2D", "conv"),
        ("conv3d", "conv"),
        ("DepthwiseConv2D", "depthwise_conv"),
        ("SeparableConv1D", "separable_conv"),
        ("Conv2DTranspose", "conv_transpose"),
        ("ConvTranspose3d", "conv_transpose"),
        ("Embedding", "embedding"),
        ("SimpleRNN", "simple_rnn"),
        ("RNNCell", "simple_rnn"),
        ("LSTMCell", "lstm"),
        ("GRU", "gru"),
        ("MultiheadAttention", "attention"),
        ("GroupQueryAttention", "attention"),
        ("BatchNorm2d", "normalization"),
        ("LayerNormalization", "normalization"),
        ("RMSNorm", "normalization"),
    ],
)
def test_names_of_layers(layer, family):
    assert recommend(None, layer).layer == family


def test_layers_are_not_activations():
    nn = pytest.importorskip("torch").nn
    lazy = nn.LazyLinear(3)
    for thing in (nn.Linear(3, 4), nn.Conv2d, nn.GRU(3, 4), nn.LayerNorm(3), nn.Embedding(3, 4), lazy):
        with pytest.raises(TypeError, match="is a layer, not an activation: pass it as layer="):
            recommend(thing)
    assert lazy.has_uninitialized_params()
    assert recommend("Linear").activation == recommend(nn.Identity()).activation == "linear"
    assert recommend(nn.PReLU()).activation == "prelu(0.25)"


def test_layers_of_pytorch():
    nn = pytest.importorskip("torch").nn
    found = recommend(nn.ReLU(), nn.Conv2d(8, 16, 3, groups=2))
    assert (found.layer, found.layout) == ("conv", "out_in")
    assert found.weights["kernel"] == fastinit.HeNormal(in_axis=1, out_axis=0, groups=2)
    assert recommend("relu", nn.Conv2d(8, 8, 3, groups=8)).layer == "depthwise_conv"
    assert recommend(None, nn.LSTM).layout == "out_in"
    assert recommend(None, "LSTM").layout == "in_out"


@pytest.mark.parametrize("layer", FAMILIES)
def test_the_axes_of_keras_are_its_own(layer):
    for activation in ("relu", "tanh", "prelu"):
        in_torch = recommend(activation, layer, layout="out_in")
        assert in_torch.keras == recommend(activation, layer).keras
        assert set(in_torch.keras) == set(in_torch.weights)
    # Attention has one argument for kernels with different axes.
    assert recommend("relu", "attention", mode="fan_geo_avg").keras["query_kernel"] == ""


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: recommend("relu", "dens"), ValueError, "unknown layer 'dens', did you mean 'dense'"),
        (lambda: recommend("relu", "zzzzz"), ValueError, "it must be one of dense, bilinear, conv"),
        (lambda: recommend("rleu"), ValueError, "did you mean 'relu'"),
        (lambda: recommend("relu", mode="fan_inn"), ValueError, "got 'fan_inn', did you mean 'fan_in'"),
        (lambda: recommend("relu", distribution="normal"), ValueError, "uniform, truncated.*got 'normal'"),
        (lambda: recommend("relu", bias="x"), TypeError, "bias must be a number, got 'x'"),
        (lambda: recommend("relu", bias=math.nan), ValueError, "bias must be finite, got nan"),
        (lambda: recommend("relu", bias=10**400), ValueError, "bias must be finite, got 10000"),
        (lambda: recommend("relu", depth=0), ValueError, "depth must be at least 1, got 0"),
        (lambda: recommend("relu", depth=10**400), ValueError, "depth must be from 1 to 10"),
        (
            lambda: recommend("conv2d"),
            ValueError,
            "'conv2d' is a layer, not an activation: pass it as layer=",
        ),
        (lambda: recommend("LSTM"), ValueError, "'LSTM' is a layer"),
        (lambda: recommend("he_normal"), ValueError, "'he_normal' is an initializer.* as proposal="),
        (lambda: recommend(fastinit.Zeros()), TypeError, "Zeros is an initializer, not an activation"),
        (lambda: recommend("dense", "tanh"), ValueError, "'tanh' is an activation, not a layer: pass it as"),
        (lambda: recommend(np.ones((40, 3))), TypeError, "got an object of type ndarray$"),
        (lambda: recommend("relu", depth=1.5), TypeError, "depth must be an int, got 1.5"),
        (
            lambda: recommend("relu", layout="tf"),
            ValueError,
            "layout must be one of in_out, out_in, got 'tf'",
        ),
        (lambda: recommend("relu", "conv", groups=0), ValueError, "groups must be at least 1, got 0"),
        (lambda: recommend("relu", "dense", groups=2), ValueError, "groups is for the layers 'conv'"),
        (lambda: recommend("relu", proposal="glorot"), ValueError, "unknown initializer 'glorot'"),
        (lambda: recommend("relu", proposal=abs), TypeError, "proposal must be an initializer of fastinit"),
        (lambda: recommend("relu", "embedding", proposal="zeros"), ValueError, "'embedding' has none"),
        (lambda: recommend(np.zeros_like), ValueError, "zeros_like must be positive and finite"),
        (
            lambda: recommend(lambda z: np.full_like(z, np.inf)),
            ValueError,
            "must be positive and finite, got inf",
        ),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        call()
